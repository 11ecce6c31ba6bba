"""Fetches bytes, over HTTP or from a Debian package.

Nothing here trusts what it receives: sizes and waits are bounded, and no path from outside is written to.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Collection, Dict

TIMEOUT = 15  # seconds without a byte
DEADLINE = 900  # seconds for one file: 26 MB at 30 kB/s
# Errors of a source: the caller notes the reason and tries the next one. ValueError comes from urllib for an invalid
# address (a proxy's included), and from this file for an impossible size.
FAILURES = (OSError, ValueError, EOFError, http.client.HTTPException, tarfile.TarError, zlib.error)


def fetch(url: str, limit: int) -> bytes:
    """Return the bytes at a URL, at most `limit` of them, with a progress bar.

    Raises: one of FAILURES: refused, not found, silent for TIMEOUT seconds, not done after DEADLINE seconds, cut off,
    or longer than `limit` bytes.
    """
    from tqdm.auto import tqdm  # imported here because finding existing files does not need tqdm

    try:
        response = urllib.request.build_opener(_Bounded()).open(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    with response:
        length = response.headers.get('Content-Length', '')
        total = int(length) if length.isdigit() else None
        if total is not None and total > limit:
            raise ValueError(f'announces {total:,} bytes, more than the {limit:,} that the file can have')
        content = bytearray()
        # disable=None: show the bar on a terminal only
        with tqdm(desc=url.rsplit('/', 1)[-1], total=total, disable=None, unit='B', unit_scale=True) as bar:
            while total is None or len(content) < total:
                chunk = response.read1(1 << 16)  # read() would wait for all 64 KiB before the bar moves
                if not chunk:
                    break
                content += chunk
                bar.update(len(chunk))
                if len(content) > limit:
                    raise ValueError(f'sends more than the {limit:,} bytes that the file can have')
    if total is not None and len(content) < total:
        raise ConnectionError(f'the connection ended after {len(content):,} of {total:,} bytes')
    return bytes(content)


class _Bounded(urllib.request.HTTPHandler, urllib.request.HTTPSHandler, urllib.request.HTTPRedirectHandler):
    """urllib's HTTP with a deadline, after which reading headers, redirects or body raises TimeoutError.

    Connecting and the TLS handshake are bounded by the timeout alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.response = functools.partial(_Response, end=time.monotonic() + DEADLINE)

    def do_open(self, http_class: Callable[..., Any], req: Any, **http_conn_args: Any) -> http.client.HTTPResponse:
        def connect_bounded(*where: Any, **how: Any) -> Any:
            connection = http_class(*where, **how)
            connection.response_class = self.response
            return connection

        return super().do_open(connect_bounded, req, **http_conn_args)

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        fp.close()  # urllib would read its body, whatever its length
        if not newurl.startswith(('http:', 'https:')):
            raise urllib.error.HTTPError(newurl, code, f'{msg}: redirects to an address that is not HTTP', headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, end: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.fp: Any = io.BufferedReader(_Received(self.fp.detach(), end))


class _Received(io.RawIOBase):
    """Reads from a socket and checks the deadline at each read."""

    def __init__(self, socket: Any, end: float) -> None:
        self.socket, self.end, self.size = socket, end, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if time.monotonic() > self.end:
            raise TimeoutError(f'only {self.size:,} bytes after {DEADLINE} seconds')
        size: int = self.socket.readinto(buffer)
        self.size += size
        return size

    def close(self) -> None:
        self.socket.close()
        super().close()


def fetch_debian(package: str, members: Collection[str], limit: int) -> Dict[str, bytes]:
    """Fetch a Debian package by `apt-get download`, without root, and return {member: bytes}.

    Raises: one of FAILURES: no apt-get, no such package, no network, or not a .deb.
    """
    for program in ('apt-get', 'dpkg-deb'):
        if not shutil.which(program):
            raise OSError(f'there is no {program} on this machine')
    with tempfile.TemporaryDirectory(prefix='gluon_bn-') as folder:
        settings = ('Retries=1', f'http::Timeout={TIMEOUT}', f'https::Timeout={TIMEOUT}')
        with subprocess.Popen(
            ['apt-get', 'download', package, *(f'-oAcquire::{setting}' for setting in settings)],
            cwd=folder,
            env={**os.environ, 'LC_ALL': 'C'},
            stdin=subprocess.DEVNULL,
            stdout=2 if os.isatty(2) else subprocess.DEVNULL,  # apt-get shows its progress on a terminal
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                _, said = process.communicate(timeout=DEADLINE)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f'apt-get has not finished after {DEADLINE} seconds') from None
            finally:
                process.kill()
                process.wait()
        if process.returncode:
            errors = [line[2:].strip() for line in said.splitlines() if line.startswith('E:')]
            reason = '; '.join(errors) or f'exit code {process.returncode}'
            raise OSError(f'apt-get: {reason}; `apt-get update`, as root, renews its lists')
        [deb] = Path(folder).glob('*.deb')
        return read_deb(deb, members, limit)


def read_deb(deb: Path, members: Collection[str], limit: int) -> Dict[str, bytes]:
    """Return {member: bytes} for those of `members` that a .deb holds as regular files of at most `limit` bytes.

    The archive is read as a stream and never extracted, so nothing is written, whatever paths it holds.
    """
    contents = {}
    # dpkg-deb unpacks the outer layers: Ubuntu uses zstd, which Python 3.8 to 3.11 cannot read
    command = ['dpkg-deb', '--fsys-tarfile', os.fspath(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        with tarfile.open(fileobj=process.stdout, mode='r|') as archive:
            for member in archive:
                name = str(PurePosixPath(member.name))  # './usr/x' is 'usr/x'; '..' and a leading '/' stay
                wanted = name in members and member.isfile() and member.size <= limit
                file = archive.extractfile(member) if wanted else None
                if file:
                    contents[name] = file.read()
    return contents
