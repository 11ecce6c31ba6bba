"""The native path: native.cc, compiled on first use and loaded into MXNet as an operator."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

import mxnet
from mxnet import nd

from ..errors import GluonBnError, InputError
from ..system.environment import cpu_info
from ..system.settings import folder_from, home
from ..system.store import DISK_FULL, store

SOURCE = Path(__file__).with_name('native.cc')
# No -ffast-math: it assumes that there is no NaN. Without errno and traps, sqrt and the loops vectorize.
FLAGS = ('-std=c++17', '-O3', '-fno-math-errno', '-fno-trapping-math', '-fopenmp-simd', '-fPIC', '-shared', '-pthread')
LIBRARY = '-lgomp'  # after the source, because linkers drop a library that nothing before it uses
# GLUON_BN_ISA -> the compiler's option, and what /proc/cpuinfo must list
INSTRUCTION_SETS: Dict[str, Tuple[str, Set[str]]] = {
    'native': ('-march=native', set()),
    'avx2': ('-march=haswell', {'avx2', 'fma', 'bmi2'}),
    'avx512': ('-march=skylake-avx512', {'avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl'}),
}
SECONDS_TO_COMPILE = 600  # usually 10, but an emulated or overloaded processor is slow
_loading = threading.Lock()


class NativeError(GluonBnError, RuntimeError):
    """The native path is unavailable; the message says why in one line."""


def load() -> None:
    """Compile native.cc unless an earlier run has, and load it. Raises: NativeError if that fails."""
    with _loading:
        if hasattr(nd, 'gluon_bn'):
            return
        library = build()
        try:
            mxnet.library.load(str(library), verbose=False)
        except Exception as error:  # MXNetError in most cases, but others for a file that is not an MXNet library
            said = (str(error).strip().splitlines() or ['no reason given'])[-1]
            remedy = (
                'its folder is probably mounted noexec: set GLUON_BN_CACHE to a folder that is not'
                if 'map segment' in said or 'not permitted' in said
                else 'set CXX to another compiler'
            )
            raise NativeError(
                f'MXNet cannot load {library}, compiled by {shlex.join(find_compiler())}: {said}; {remedy}'
            ) from error


def build() -> Path:
    """Return the path of the compiled library, from the cache or newly compiled.

    Its name ends in a digest of its content: loading a damaged file could crash the process, so it is recompiled.
    """
    compiler = find_compiler()
    cache, name = cache_folder(), f'native-{fingerprint(compiler)}'
    package = Path(mxnet.__file__).parent
    try:
        for library in cache.glob(f'{name}-*.so'):
            if library.name == f'{name}-{digest(library.read_bytes())}.so':
                return library
        print(
            f'gluon_bn: compiling native.cc with {shlex.join(compiler)}, once for this machine, into {cache}',
            file=sys.stderr,
        )
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / 'native.so'
            flags = [*FLAGS, instruction_set()[1], f'-I{package / "include"}']
            compile_source([*compiler, *flags, str(SOURCE), LIBRARY, '-o', str(made)])
            if not made.is_file():
                raise NativeError(
                    f'{shlex.join(compiler)} reports success but has written no library; set CXX to a C++ compiler'
                )
            content = made.read_bytes()
        library = cache / f'{name}-{digest(content)}.so'
        store(content, library)
    except OSError as error:  # from the cache: those from the compiler are NativeErrors already
        remedy = 'free some space there, or set' if error.errno in DISK_FULL else 'set'
        raise NativeError(
            f'the cache {cache} cannot be used: {error.strerror or error}; '
            f'{remedy} GLUON_BN_CACHE to a folder that can be written'
        ) from error
    return library


def instruction_set() -> Tuple[str, str]:
    """Return $GLUON_BN_ISA (default native) and the compiler's option for it.

    Raises: InputError if it is unknown, or this processor lacks it.
    """
    name = os.environ.get('GLUON_BN_ISA') or 'native'
    if name not in INSTRUCTION_SETS:
        raise InputError(f'must be native, avx2 or avx512, got {name!r}; unset it for native', 'GLUON_BN_ISA')
    option, needed = INSTRUCTION_SETS[name]
    missing = sorted(needed.difference(*(line.split() for line in cpu_info('flags'))))
    if missing:
        raise InputError(
            f'must be an instruction set of this processor, got {name}, but it lacks {", ".join(missing)}; '
            'unset it for native',
            'GLUON_BN_ISA',
        )
    return name, option


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the compiler. Raises: NativeError if it cannot be run, or times out."""
    try:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            timeout=SECONDS_TO_COMPILE,
        )
    except subprocess.TimeoutExpired:
        raise NativeError(
            f'{command[0]} took more than {SECONDS_TO_COMPILE} seconds; set CXX to another C++ compiler, or unset it'
        ) from None
    except OSError as error:
        raise NativeError(
            f'{command[0]} cannot be run: {error.strerror}; set CXX to a C++ compiler, or unset it'
        ) from error


def compile_source(command: Sequence[str]) -> None:
    """Run the compiler. Raises: NativeError with the line of its output that says why it failed."""
    done = run(command)
    if done.returncode:
        said = done.stdout.splitlines()
        # ld reports a full disk on a line of its own, before g++ reports that ld failed
        full = [line for line in said if os.strerror(errno.ENOSPC) in line or os.strerror(errno.EDQUOT) in line]
        lines = full or [line for line in said if 'error' in line] or said or ['no output']
        where = f'the cache and in {tempfile.gettempdir()}'
        remedy = f'; free some space in {where}, or set GLUON_BN_CACHE and TMPDIR to other folders' if full else ''
        raise NativeError(f'{command[0]} failed: {lines[0]}{remedy}')


def find_compiler() -> List[str]:
    """Return the compiler's command, split into words: $CXX (such as 'ccache g++'), else g++, else clang++."""
    try:
        words = shlex.split(os.environ.get('CXX', ''))
    except ValueError as error:  # from shlex: an unclosed quotation mark
        raise NativeError(f"CXX must be a command, got {os.environ['CXX']!r}: {error}") from None
    if words:
        return words
    for name in ('g++', 'clang++'):
        if shutil.which(name):
            return [name]
    raise NativeError('no C++ compiler: neither g++ nor clang++ is on the PATH, and CXX is not set; install g++')


def cache_folder() -> Path:
    """Return $GLUON_BN_CACHE, or gluon_bn in the user's cache folder. Raises: NativeError if there is neither."""
    configured = folder_from('GLUON_BN_CACHE')
    if configured:
        return configured.absolute()  # MXNet loads only from absolute paths
    user_cache, home_folder = folder_from('XDG_CACHE_HOME'), home()
    if home_folder and not user_cache:
        user_cache = home_folder / '.cache'
    if not user_cache:
        raise NativeError(
            'there is no cache folder: this user has no home folder, and HOME is not set; '
            'set GLUON_BN_CACHE to a folder that can be written'
        )
    return user_cache.absolute() / 'gluon_bn'


def fingerprint(compiler: Sequence[str]) -> str:
    """Return a digest of all that the machine code depends on: the source, MXNet, the compiler and the processor."""
    version = run([*compiler, '--version']).stdout
    # with the instruction sets, because -march=native compiles for exactly these
    processor = '\n'.join(sorted(cpu_info('model name', 'flags', 'Features'))) or platform.processor()
    sources = [source.read_text() for source in (SOURCE, *sorted(SOURCE.parent.glob('kernels/*.h')))]
    command = [*FLAGS, LIBRARY, instruction_set()[1], *compiler]
    parts = [*sources, mxnet.__version__, *command, version, platform.machine(), processor]
    return digest('\n'.join(parts).encode())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
