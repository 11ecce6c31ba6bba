"""The native path: native.cc, compiled on first use and loaded into MXNet as operators."""

from __future__ import annotations

import errno
import functools
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
from typing import Any, List, Sequence, Tuple

import mxnet
from mxnet import autograd, nd, np, sym
from mxnet.ndarray import NDArray

from ..errors import GluonBnError
from ..system.environment import cpu_info
from ..system.settings import folder_from, home
from ..system.store import DISK_FULL, store

SOURCE = Path(__file__).with_name('native.cc')
# No -ffast-math: it assumes that there is no NaN. Without errno and traps, sqrt and the loops vectorize.
FLAGS = ('-std=c++17', '-O3', '-march=native', '-fno-math-errno', '-fno-trapping-math', '-fopenmp', '-fPIC', '-shared')
SECONDS_TO_COMPILE = 600  # of 10 as a rule; but an emulated or overloaded processor is slow
_loading = threading.Lock()


class NativeError(GluonBnError, RuntimeError):
    """The native path is unavailable; the message says why in one line."""


def batch_norm_native(
    X: NDArray, gamma: NDArray, beta: NDArray, moving_mean: NDArray, moving_var: NDArray, eps: float, momentum: float
) -> Tuple[NDArray, NDArray, NDArray]:
    """`batch_norm` by the compiled operators, which must be loaded; X must be on the CPU, in float32 or float64.

    Source: the formulas at the top of native.cc.
    """
    is_np = isinstance(X, np.ndarray)
    if is_np:
        X, gamma, beta, moving_mean, moving_var = (a.as_nd_ndarray() for a in (X, gamma, beta, moving_mean, moving_var))
    # MXNet does not tell an extension's operator whether to write a gradient or to add to it (grad_req='add').
    # So a variable never feeds one directly: one of MXNet's own operators, which knows, stands in between.
    if X.grad is not None and autograd.is_recording():
        X = X.reshape(X.shape)
    training = autograd.is_training()
    graph = _graph(training, float(eps), float(momentum), X.shape, threading.get_ident())
    # Detached: otherwise the caller could not write to its moving statistics after a recorded call.
    outputs = graph(X, gamma, beta, moving_mean.detach(), moving_var.detach())
    Y, mean, var = outputs if training else (outputs, moving_mean, moving_var)
    mean, var = mean.detach(), var.detach()
    return (Y.as_np_ndarray(), mean.as_np_ndarray(), var.as_np_ndarray()) if is_np else (Y, mean, var)


@functools.lru_cache(maxsize=256)
def _graph(training: bool, eps: float, momentum: float, shape: Tuple[int, ...], thread: int) -> Any:
    """Compile the operators of one call into one graph, so that Python launches once.

    One graph per shape, because a change of shape replans its memory; one per thread,
    because a compiled graph is not reentrant.
    """
    X, gamma, beta, *moving = (sym.var(name) for name in ('X', 'gamma', 'beta', 'moving_mean', 'moving_var'))
    params = sym.concat(gamma, beta, dim=0)  # (2, d) or (2, c, 1, 1)
    if training:
        Y, moving_mean, moving_var, _ = sym.gluon_bn_train(X, params, *moving, eps=eps, momentum=momentum)
        graph = sym.Group([Y, moving_mean, moving_var])
    else:
        graph = sym.gluon_bn_predict(X, params, *moving, eps=eps)
    return nd.CachedOp(graph, [('static_alloc', True)])


def load() -> None:
    """Compile native.cc unless an earlier run has, and load it. Raises: NativeError if that fails."""
    with _loading:
        if hasattr(nd, 'gluon_bn_train'):
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
            compile_source(
                [
                    *compiler,
                    *FLAGS,
                    f'-I{package / "include"}',
                    str(SOURCE),
                    str(package / 'src' / 'lib_api.cc'),
                    '-o',
                    str(made),
                ]
            )
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
        remedy = (
            f'; free some space in the cache and in {tempfile.gettempdir()}, or set GLUON_BN_CACHE and TMPDIR to other '
            'folders'
            if full
            else ''
        )
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
    parts = (SOURCE.read_text(), mxnet.__version__, *FLAGS, *compiler, version, platform.machine(), processor)
    return digest('\n'.join(parts).encode())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
