"""Environment variables: an invalid value gives a message, and never aborts the process."""

import os
import sys

import pytest
from commands import python, script
from rights import without

from gluon_bn import doctor
from gluon_bn.errors import InputError
from gluon_bn.norm import native
from gluon_bn.system.settings import check_before_mxnet, check_path, folder_from, home

WRONG = [("OMP_NUM_THREADS", value) for value in ("abc", "0", "-1", "2,2", "1.5", "2x", "99999", "99999999999")] + [
    ("MXNET_CPU_WORKER_NTHREADS", "abc"),
    ("MXNET_CPU_WORKER_NTHREADS", "0"),
    ("MXNET_OMP_MAX_THREADS", "-3"),
    ("MXNET_CPU_TEMP_COPY", "few"),
    ("MXNET_EXEC_BULK_EXEC_TRAIN", "maybe"),
    ("MXNET_PROFILER_AUTOSTART", "yes"),
    ("MXNET_DISABLE_MKLDNN_CONV_OPT", "true"),
    ("MXNET_DISABLE_MKLDNN_QEM_FUSE_ALL", "2"),
    ("MXNET_ENGINE_TYPE", "FastEngine"),
]


@pytest.mark.parametrize("name, value", WRONG)
@pytest.mark.fault("a setting at which MXNet would abort", tries=1)
def test_a_setting_at_which_mxnet_would_abort_is_named(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name} must be .*, got '{value}'; .*unset it$"):
        check_before_mxnet()
    result = doctor.machine.check_settings()
    assert not result.ok and result.text.startswith(f"{name} must be ") and result.remedy.endswith("unset it")


@pytest.mark.parametrize(
    "name, value",
    [
        ("OMP_NUM_THREADS", ""),
        ("OMP_NUM_THREADS", " 2 "),
        ("MXNET_CPU_WORKER_NTHREADS", "2"),
        ("MXNET_MY_OWN", "abc"),
        ("MXNET_MP_WORKER_NTHREADS", "0"),
        ("MXNET_EXEC_BULK_EXEC_TRAIN", "False"),
        ("MXNET_ENGINE_TYPE", "NaiveEngine"),
        ("MXNET_SUBGRAPH_BACKEND", "MKLDNN"),
        ("MXNET_HOME", "/some/where"),
    ],
)
def test_a_setting_that_mxnet_takes_is_left_alone(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    check_before_mxnet()
    assert doctor.machine.check_settings().ok


@pytest.mark.parametrize("value", ["abc", "2,2"])
@pytest.mark.parametrize(
    "words",
    [
        ("-m", "gluon_bn", "train", "--examples", "512"),
        ("-m", "gluon_bn", "compare"),
        ("-m", "gluon_bn", "bench", "--quick"),
        ("-m", "gluon_bn", "data"),
    ],
)
def test_a_command_refuses_it_in_one_line(words, value):
    done = python("-W", "ignore", *words, OMP_NUM_THREADS=value)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("gluon_bn: OMP_NUM_THREADS must be a whole number from 1 to 1024, got ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "code",
    [
        "gluon_bn.train",
        "from gluon_bn.norm import batch_norm",
        "import gluon_bn.check",
        "from gluon_bn.data import load_data_fashion_mnist",
        "import gluon_bn.model",
        "import gluon_bn.experiments.chain",
        "import gluon_bn.comparison.run",
    ],
)
def test_an_import_refuses_it_by_an_error(code):
    done = python("-W", "ignore", "-c", f"import gluon_bn\n{code}", OMP_NUM_THREADS="abc")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("gluon_bn.errors.InputError: OMP_NUM_THREADS must be a whole number")


@pytest.mark.parametrize("variable", ["GLUON_BN_DATA", "GLUON_BN_CACHE", "XDG_CACHE_HOME", "MXNET_HOME"])
def test_a_folder_of_an_unknown_user_is_named(variable, monkeypatch):
    monkeypatch.setenv(variable, "~no such user/x")
    with pytest.raises(
        InputError,
        match=rf"^{variable} must be a folder, got ~no such user/x, but there is no user no "
        "such user here; write the whole path$",
    ):
        folder_from(variable)
    assert not doctor.machine.check_settings().ok
    monkeypatch.setenv(variable, "")
    assert folder_from(variable) is None


def test_a_path_that_can_be_none_is_named():
    for value in ("", None, 5, "a\0b", b""):
        with pytest.raises(InputError, match="^out must be a folder, got .*; leave it out$"):
            check_path("out", value, "a folder", "leave it out")
    assert check_path("out", "~") == home()


NO_HOME = """
import os, pwd
os.environ.pop("HOME", None)
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
"""


@pytest.mark.fault("a user without a home folder", tries=1)
def test_a_user_without_a_home_folder_finds_data_and_is_told_where_else_to_put_the_rest(tmp_path):
    environment = {"GLUON_BN_CACHE": "", "XDG_CACHE_HOME": "", "MXNET_HOME": "", "GLUON_BN_DATA": ""}
    done = python("-W", "ignore", "-c", NO_HOME + "from gluon_bn.norm import status; print(status())", **environment)
    assert done.stdout == (
        "portable: there is no cache folder: this user has no home folder, and HOME is not "
        "set; set GLUON_BN_CACHE to a folder that can be written\n"
    ), done.stderr
    done = python(
        "-W",
        "ignore",
        "-c",
        NO_HOME
        + f"""
from gluon_bn.data import fashion_mnist
dataset = fashion_mnist.FASHION_MNIST._replace(system=fashion_mnist.Path({str(tmp_path)!r}))
try:
    fashion_mnist.find_files(dataset=dataset)
except fashion_mnist.DataUnavailable as error:
    print(error)
""",
        **environment,
    )
    assert done.stdout == (
        "Fashion-MNIST cannot be stored: this user has no home folder, and HOME is not set. Set "
        "GLUON_BN_DATA to a writable folder with 31 MB free.\n"
    ), done.stderr


@pytest.mark.fault("a user without a home folder")
@pytest.mark.parametrize(
    "code",
    [
        "import gluon_bn; gluon_bn.compare",
        "import sys; from gluon_bn import cli; sys.exit(cli.main(['train', '--norm', 'none', '--examples', '256']))",
    ],
)
def test_a_user_without_a_home_folder_is_told_what_matplotlib_needs(tmp_path, code):
    done = python("-W", "ignore", "-c", NO_HOME + code, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert (
        "HOME must be set if the user has no entry in passwd, because matplotlib needs a home folder, got nothing; "
        "set it to a folder that you can write to\n"
    ) in done.stderr
    assert list(tmp_path.iterdir()) == []


def compiler(path, lines):
    """A compiler that does as these lines say, once it has said its version."""
    return str(script(path, f'[ "$1" = --version ] && exit\nfor out; do :; done\n{lines}'))


@pytest.mark.parametrize(
    "lines, reason",
    [
        ("", "reports success but has written no library; set CXX to a C.. compiler"),
        (
            "echo '/usr/bin/ld: final link failed: No space left on device'; "
            "echo 'collect2: error: ld returned 1'; exit 1",
            "failed: /usr/bin/ld: final link failed: No space left on device; free some space in the cache .* TMPDIR",
        ),
        ("echo 'native.cc:1:1: error: no such thing'; exit 1", "failed: native.cc:1:1: error: no such thing$"),
    ],
)
@pytest.mark.fault("a compiler that writes nothing, or has no room", tries=1)
def test_a_compiler_that_fails_is_blamed_itself(tmp_path, monkeypatch, lines, reason):
    monkeypatch.setenv("CXX", compiler(tmp_path / "compiler", lines))
    monkeypatch.setenv("GLUON_BN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(native.NativeError, match=reason) as caught:
        native.build()
    assert "cache" not in str(caught.value).split("; ")[0].replace(str(tmp_path), "")


@pytest.mark.fault("a cache from which nothing may be loaded", tries=1)
def test_a_cache_from_which_nothing_may_be_loaded_is_blamed_itself(tmp_path, monkeypatch):
    def refuse(path, verbose):
        raise OSError(f"{path}: failed to map segment from shared object: Operation not permitted")

    monkeypatch.setenv("CXX", compiler(tmp_path / "compiler", 'echo library > "$out"'))
    monkeypatch.setenv("GLUON_BN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native.mxnet.library, "load", refuse)
    monkeypatch.delattr(native.nd, "gluon_bn", raising=False)
    with pytest.raises(native.NativeError, match="mounted noexec: set GLUON_BN_CACHE to a folder that is not$"):
        native.load()


@pytest.mark.fault("a clone that cannot be written")
def test_new_runs_go_below_home_only_if_the_working_folder_is_not_writable(tmp_path):
    code = "from gluon_bn.system.settings import new_folder; print(new_folder('train').parent)"
    clone = tmp_path / "clone"
    clone.mkdir()

    def runs():
        environment = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return python("-c", code, inside=without("dac_override"), cwd=clone, **environment).stdout.strip()

    assert runs() == "runs"
    clone.chmod(0o555)
    assert runs() == str(tmp_path / "gluon_bn" / "runs")
    clone.chmod(0o755)
    (clone / "runs").mkdir(mode=0o555)
    assert runs() == str(tmp_path / "gluon_bn" / "runs")
