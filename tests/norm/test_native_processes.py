"""The native path in several processes: engines, forks, failing compilers, unwritable caches."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import oracle
import pytest
from commands import python, script
from mxnet import nd

from gluon_bn.errors import InputError
from gluon_bn.norm import batch_norm, fused, native

TESTS = Path(__file__).resolve().parents[1]


def check(shape=(64, 16, 24, 24)):
    *arrays, dY = oracle.draw(shape)
    fast, reference = (oracle.run(fn, nd, arrays, dY) for fn in (fused.fused_batch_norm, batch_norm))
    assert all(oracle.relative_error(a, e) < 1e-6 for a, e in zip(fast, reference))


HEAD = f"""
import os
import mxnet as mx
from mxnet import autograd, nd
import numpy, oracle
from gluon_bn.norm import batch_norm, fused

{inspect.getsource(check)}

def choose(path):
    os.environ["GLUON_BN_FUSED"] = path
    fused.choose.cache_clear()

"""
NEEDS_A_COMPILER = pytest.mark.skipif(fused.choose()[0] != "native", reason=fused.status())
PATHS = ("portable", "native") if fused.choose()[0] == "native" else ("portable",)


def start(code, **environment):
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        env=variables,
        universal_newlines=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process, seconds=120):
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # a forked child, too
        out, err = process.communicate()
        pytest.fail(f"hung for {seconds} s\n{out}\n{err}")
    assert process.returncode == 0, err
    return out, err


def run(code, seconds=120, **environment):
    return finish(start(code, **environment), seconds)


@pytest.mark.parametrize("engine", ["NaiveEngine", "ThreadedEngine", "ThreadedEnginePerDevice"])
def test_every_engine_computes_the_same(engine):
    run(
        f"""
for path in {PATHS}:
    choose(path)
    # Large products hang where this engine runs two at once: see portable.py.
    check((64, 16, 9, 9) if path == "portable" and {engine == "ThreadedEngine"} else (64, 16, 24, 24))
    check((256, 120))
""",
        MXNET_ENGINE_TYPE=engine,
    )


@NEEDS_A_COMPILER
@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_every_number_of_threads_computes_the_same(threads):
    run("check(); check((2000, 120))", OMP_NUM_THREADS=threads, GLUON_BN_FUSED="native")


@pytest.mark.slow
@NEEDS_A_COMPILER
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("isa", [name for name in native.INSTRUCTION_SETS if name != "native"])
def test_every_instruction_set_passes_the_tests_of_the_operator(isa, threads, monkeypatch):
    """Tests the instruction sets of this processor whose build differs from the native one."""
    monkeypatch.setenv("GLUON_BN_ISA", isa)
    try:
        native.instruction_set()
    except InputError as error:
        pytest.skip(str(error))
    out, _ = run(
        """
import pytest
assert " for " in fused.choose()[1]
core = "native and (float64 or rounding or large or outlier or constant or nan)"
for name, tests in (("test_fused", core), ("test_fused_layer", "sigmoid")):
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", f"tests/norm/{name}.py", "-k", tests])
    assert code == 0, code
""",
        OMP_NUM_THREADS=threads,
        GLUON_BN_FUSED="native",
        seconds=600,
    )
    assert " passed" in out


@pytest.mark.slow
@NEEDS_A_COMPILER
@pytest.mark.skipif(not native.cpu_info("flags"), reason="avx2 and avx512 are of x86")
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_every_instruction_set_compiles_without_a_warning(isa, tmp_path):
    """Even one that the processor lacks, because the library is not loaded."""
    option, _ = native.INSTRUCTION_SETS[isa]
    include = Path(native.mxnet.__file__).parent / "include"
    warnings = ["-Wall", "-Wextra", "-Werror", f"-isystem{include}"]
    made = ["-c", str(native.SOURCE), "-o", str(tmp_path / "native.o")]
    native.compile_source([*native.find_compiler(), *native.FLAGS, option, *warnings, *made])


@pytest.mark.fault("an instruction set that the processor lacks")
def test_an_instruction_set_that_the_processor_lacks_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(native, "cpu_info", lambda *names: ["flags\t\t: fpu avx2 fma bmi2"])
    for isa, refusal in (
        ("avx512", "GLUON_BN_ISA must be an instruction set of this processor, got avx512, but it lacks avx512bw"),
        ("sse9", "GLUON_BN_ISA must be native, avx2 or avx512, got 'sse9'"),
    ):
        monkeypatch.setenv("GLUON_BN_ISA", isa)
        with pytest.raises(InputError, match=refusal):
            native.fingerprint(native.find_compiler())
    names = set()
    for isa in ("avx2", "native", ""):
        monkeypatch.setenv("GLUON_BN_ISA", isa)
        names.add(native.fingerprint(native.find_compiler()))
    assert len(names) == 2  # each build has its own place in the cache


STINGY = r'''
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
int refuses = 0, refused = 0;
extern "C" int pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (!refuses) return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(t, a, f, x);
  ++refused;
  return EAGAIN;
}
extern "C" { void refuse_threads() { refuses = 1; } int refused_threads() { return refused; } }
'''


@NEEDS_A_COMPILER
@pytest.mark.parametrize("channels", [6, 16])
@pytest.mark.fault("a system that gives no more threads")
def test_the_operator_starts_no_threads_besides_those_of_mxnet(tmp_path, channels):
    source, library = tmp_path / "stingy.cc", tmp_path / "stingy.so"
    source.write_text(STINGY)
    subprocess.run([*native.find_compiler(), "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    run(
        f"""
import ctypes
fused.choose()  # asks the compiler its version, and MXNet starts its threads anew after a fork
*arrays, dY = oracle.draw((256, {channels}, 24, 24))
exact = oracle.run(batch_norm, nd, arrays, dY)  # so that MXNet has started its threads
nd.waitall()
system = ctypes.CDLL({str(library)!r})
system.refuse_threads()
for _ in range(3):
    fast = oracle.run(fused.fused_batch_norm, nd, arrays, dY)
    assert all(oracle.relative_error(a, e) < 1e-6 for a, e in zip(fast, exact))
    oracle.run(batch_norm, nd, arrays, dY)  # the threads are still there
nd.waitall()
assert system.refused_threads() == 0, system.refused_threads()
""",
        LD_PRELOAD=str(library),
        OMP_NUM_THREADS="4",
        GLUON_BN_FUSED="native",
    )


@pytest.mark.parametrize("path", [pytest.param("native", marks=NEEDS_A_COMPILER), "portable"])
@pytest.mark.parametrize("engine", ["NaiveEngine", "ThreadedEnginePerDevice"])
@pytest.mark.fault("a fork after MXNet has started its threads")
def test_a_forked_child_does_not_hang(engine, path):
    """The child has only one thread: the OpenMP threads of its parent do not exist there."""
    run(
        """
check()  # so that the parent has its threads
nd.waitall()
child = os.fork()
if child == 0:
    check()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
check()
""",
        MXNET_ENGINE_TYPE=engine,
        GLUON_BN_FUSED=path,
        OMP_NUM_THREADS="2" if path == "native" else None,
    )


def test_workers_of_a_DataLoader_may_use_it():
    out, _ = run(
        f"""
import multiprocessing

def standardized(batch):
    X = nd.stack(*[nd.array(image) for image in batch])
    ones, zeros = nd.ones((1, 16, 1, 1)), nd.zeros((1, 16, 1, 1))
    with autograd.train_mode():
        return fused.fused_batch_norm(X, ones, zeros, zeros, ones, 1e-5, 0.9)[0]

multiprocessing.set_start_method("fork")  # not the default from Python 3.14 on
images = numpy.random.RandomState(0).randn(128, 16, 24, 24).astype('float32')
for path in {PATHS}:
    choose(path)
    check()
    for batch in mx.gluon.data.DataLoader(images, batch_size=64, num_workers=2, batchify_fn=standardized):
        assert abs(batch.asnumpy().mean()) < 1e-6 and abs(batch.asnumpy().std() - 1) < 1e-4
        print(batch.shape)
"""
    )
    assert out.splitlines() == ["(64, 16, 24, 24)"] * 2 * len(PATHS)


def copying_compiler(folder, seconds=0):
    """A "compiler" that copies the existing library, after this many seconds."""
    copy = f'while [ "$1" != -o ]; do shift || exit 0; done; sleep {seconds}; cp "{native.build()}" "$2"'
    return str(script(folder / "c++", copy))


@pytest.mark.slow
@NEEDS_A_COMPILER
def test_it_is_compiled_once_and_says_so(tmp_path):
    cache, compiler = tmp_path / "cache", copying_compiler(tmp_path)
    for sentences in (1, 0):
        _, err = run("check()", CXX=compiler, GLUON_BN_CACHE=str(cache), GLUON_BN_FUSED="native")
        assert err.count("gluon_bn: compiling native.cc") == sentences
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("variable, folder", [("GLUON_BN_CACHE", "cache"), ("XDG_CACHE_HOME", "cache/gluon_bn")])
def test_the_cache_may_be_named_by_a_relative_path(tmp_path, monkeypatch, variable, folder):
    """From which MXNet would load nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLUON_BN_CACHE", raising=False)
    monkeypatch.setenv(variable, "cache")
    assert native.cache_folder() == tmp_path / folder


@pytest.mark.slow
@NEEDS_A_COMPILER
@pytest.mark.fault("two processes that compile at once")
def test_two_processes_may_compile_at_once(tmp_path):
    cache, compiler = tmp_path / "cache", copying_compiler(tmp_path, seconds=3)
    code = "check(); print(fused.choose()[0])"
    processes = [start(code, CXX=compiler, GLUON_BN_CACHE=str(cache)) for _ in range(2)]
    for process in processes:
        out, err = finish(process)
        assert out.strip() == "native" and "compiling native.cc" in err
    assert len(list(cache.iterdir())) == 1


@pytest.fixture
def falls_back(undecided, capsys):
    def falls_back(says, **environment):
        undecided(**environment)
        check()
        check()
        warnings = [line for line in capsys.readouterr().err.splitlines() if "takes its slower, portable path" in line]
        assert len(warnings) == 1 and says in warnings[0]
        assert fused.status().startswith("portable: ") and says in fused.status()

    return falls_back


@pytest.mark.fault("a C++ compiler that fails")
def test_a_compiler_that_fails_is_quoted_and_leaves_the_portable_path(falls_back, tmp_path):
    lines = 'echo "In file included from a.h"; echo "x.cc:1:1: fatal error: no such luck" >&2; exit 1'
    falls_back("fatal error: no such luck", CXX=str(script(tmp_path / "c++", lines)))


@pytest.mark.fault("no C++ compiler")
def test_a_missing_compiler_leaves_the_portable_path(falls_back, tmp_path):
    falls_back("no C++ compiler", PATH=str(tmp_path), CXX=None)


@pytest.mark.fault("no C++ compiler")
def test_a_compiler_that_does_not_exist_leaves_the_portable_path(falls_back):
    falls_back("/nowhere/c++ cannot be run", CXX="/nowhere/c++")


@pytest.mark.slow
@NEEDS_A_COMPILER
def test_a_compiler_may_be_a_command_of_several_words(tmp_path):
    out, err = run("check(); print(fused.status())", CXX="env 'g++' -g0", GLUON_BN_CACHE=str(tmp_path))
    assert "compiling native.cc with env g++ -g0" in err and out.startswith("native: compiled by env g++ -g0")


@pytest.mark.fault("a C++ compiler that fails")
def test_a_compiler_that_is_not_a_command_leaves_the_portable_path(falls_back):
    falls_back("CXX must be a command", CXX="'g++")


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "zeroed": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "changed": lambda content: content[:-9] + b"?" + content[-8:],
}


@NEEDS_A_COMPILER
@pytest.mark.fault("a damaged library in the compiler cache")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_compiled_anew(tmp_path, undecided, capsys, damage):
    """Where to load it could end the process by SIGBUS."""
    cache = tmp_path / "cache"
    undecided(CXX=copying_compiler(tmp_path), GLUON_BN_CACHE=str(cache))
    library = native.build()
    content = library.read_bytes()
    library.write_bytes(DAMAGES[damage](content))
    capsys.readouterr()
    assert native.build() == library and "compiling native.cc" in capsys.readouterr().err
    assert list(cache.iterdir()) == [library] and library.read_bytes() == content


@pytest.mark.fault("a library that MXNet does not load")
def test_a_library_that_MXNet_does_not_load_leaves_the_portable_path(falls_back, tmp_path):
    compiler = script(tmp_path / "c++", 'while [ "$1" != -o ]; do shift || exit 0; done; echo rubbish > "$2"')
    falls_back("file too short; set CXX to another compiler", CXX=str(compiler))


@NEEDS_A_COMPILER
@pytest.mark.fault("a compiler cache that cannot be written")
@pytest.mark.parametrize("name", ["file/folder", "x" * 300])
def test_a_cache_that_cannot_be_written_leaves_the_portable_path(falls_back, tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    falls_back("set GLUON_BN_CACHE", GLUON_BN_CACHE=str(tmp_path / name))


@NEEDS_A_COMPILER
def test_a_compiler_may_say_its_version_in_any_encoding(falls_back, tmp_path):
    """With an é of Latin-1, which is no UTF-8."""
    compiler = script(tmp_path / "c++", r"""printf 'lib\351r\351\n'; exit 1""")
    falls_back(" failed: lib", CXX=str(compiler))


@pytest.mark.fault("no C++ compiler")
def test_native_asked_for_and_impossible_is_an_error(undecided, tmp_path):
    undecided(PATH=str(tmp_path), CXX=None, GLUON_BN_FUSED="native")
    with pytest.raises(fused.NativeError, match=r"^GLUON_BN_FUSED=native, but no C\+\+ compiler"):
        check()
    assert fused.status().startswith("none: ")


def test_portable_asked_for_compiles_nothing(undecided, tmp_path, capsys):
    undecided(GLUON_BN_FUSED="portable")
    check()
    assert fused.status() == "portable: GLUON_BN_FUSED=portable asks for it"
    assert "compiling" not in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_unknown_wish_is_refused(undecided):
    undecided(GLUON_BN_FUSED="fast")
    with pytest.raises(ValueError, match="must be native, portable or auto, got 'fast'"):
        check()


@NEEDS_A_COMPILER
@pytest.mark.fault("a library compiled for another processor, as in an image")
def test_a_library_compiled_for_another_processor_is_not_loaded(tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    processor = Path("/proc/cpuinfo").read_text()
    here.write_text(processor)
    other.write_text(processor.replace("flags\t\t:", "flags\t\t: another"))
    mount = 'mount --bind "$0" /proc/cpuinfo && exec "$@"'
    rights = () if os.geteuid() == 0 else ("--map-root-user",)
    namespace = ("unshare", "--mount", *rights, "sh", "-c", mount, here)
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    fingerprints = f"""
import shutil
from gluon_bn.norm import native
print(native.fingerprint(native.find_compiler()))
shutil.copyfile({str(other)!r}, "/proc/cpuinfo")
print(native.fingerprint(native.find_compiler()))
"""
    ours, another = python("-c", fingerprints, inside=namespace).stdout.split()
    assert ours == native.fingerprint(native.find_compiler()) != another
