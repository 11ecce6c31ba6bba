"""The data is right or absent, never wrong: real files, a real HTTP server on loopback, real Debian packages."""

import functools
import gzip
import hashlib
import io
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import commands
import pytest
from faults import repeated
from rights import without
from small_disk import small_disk

from gluon_bn import cli, data
from gluon_bn.data import download, fashion_mnist
from gluon_bn.data.fashion_mnist import FASHION_MNIST, DataUnavailable, find_files, lacking
from gluon_bn.data.verify import File
from gluon_bn.system.store import store


def idx(*shape):
    n = math.prod(shape)
    values = random.Random(n).getrandbits(8 * n).to_bytes(n, 'big')
    return bytes((0, 0, 8, len(shape))) + struct.pack(f'>{len(shape)}I', *shape) + values


# small files of the real format, under the real names
CONTENT = {
    'train-images-idx3-ubyte': idx(60, 28, 28),
    'train-labels-idx1-ubyte': idx(60),
    't10k-images-idx3-ubyte': idx(10, 28, 28),
    't10k-labels-idx1-ubyte': idx(10),
}
PACKED = {f'{name}.gz': gzip.compress(content) for name, content in CONTENT.items()}
FIRST = 'train-images-idx3-ubyte'
BOMB = gzip.compress(bytes(50_000_000))
HTML = b'<!DOCTYPE html><html><body>Please log in to the Wi-Fi.</body></html>'


class Handler(BaseHTTPRequestHandler):
    """GET /<mirror>/<name>.gz, where the mirror's name says how it behaves: a method of this class."""

    def do_GET(self):
        mirror, name = self.path.strip('/').split('/')
        self.server.requests.append((mirror, name))
        try:
            getattr(self, mirror)(PACKED[name])
        except OSError:
            pass  # the client has hung up

    def log_message(self, *arguments):
        pass

    def reply(self, body, length=None, status=200):
        self.send_response(status)
        if length != 'none':
            self.send_header('Content-Length', str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def good(self, body):
        self.reply(body)

    def good_without_length(self, body):
        self.reply(body, 'none')

    def unpacked(self, body):
        self.reply(gzip.decompress(body))

    def slow(self, body):
        time.sleep(0.05)
        self.reply(b'', len(body))
        for start in range(0, len(body), 8192):
            self.wfile.write(body[start : start + 8192])
            time.sleep(0.02)

    def redirect_to(self, url):
        self.send_response(302)
        self.send_header('Location', url)
        self.end_headers()

    def redirect(self, body):
        self.redirect_to(self.path.replace('redirect', 'good'))

    def truncated(self, body):
        self.reply(body[: len(body) // 2], len(body))

    def truncated_without_length(self, body):
        self.reply(body[: len(body) // 2], 'none')

    def corrupted(self, body):
        middle = len(body) // 2
        self.reply(body[:middle] + bytes((body[middle] ^ 1,)) + body[middle + 1 :])

    def same_size_other_content(self, body):
        content = gzip.decompress(body)
        self.reply(gzip.compress(content[:-1] + bytes((content[-1] ^ 1,))))

    def swapped(self, body):
        self.reply(next(other for other in PACKED.values() if other != body))

    def html(self, body):
        self.reply(HTML)

    def empty(self, body):
        self.reply(b'')

    def not_found(self, body):
        self.reply(HTML, status=404)

    def server_error(self, body):
        self.reply(HTML, status=500)

    def redirect_in_circles(self, body):
        self.redirect_to(self.path)

    def redirect_to_a_file(self, body):
        self.redirect_to('file:///etc/passwd')

    def redirect_to_ftp(self, body):
        self.redirect_to(f'ftp://127.0.0.1:{self.server.server_port}/x')

    def redirect_with_a_long_body(self, body):
        self.redirect_to(self.path.replace('redirect_with_a_long_body', 'not_found'))
        for _ in range(800):
            self.wfile.write(bytes(1 << 16))

    def stalled(self, body):
        self.reply(body[:100], len(body))
        self.server.over.wait(20)

    def silent(self, body):
        self.server.over.wait(20)

    def drip(self, body, size=1):
        for start in range(0, len(body), size):
            self.wfile.write(body[start : start + size])
            if self.server.over.wait(0.05):
                return

    def dripping(self, body):
        self.reply(b'', len(body))
        self.drip(body)

    def dripping_headers(self, body):
        self.drip(b'HTTP/1.1 200 OK\r\nX-Long: ' + b'x' * 1000)

    def endless_continue(self, body):
        line = b'HTTP/1.1 100 Continue\r\n\r\n'
        self.drip(line * 1000, len(line))

    def endless(self, body):
        self.reply(b'', 'none')
        while not self.server.over.is_set():
            self.wfile.write(bytes(1 << 16))

    def announcing_a_terabyte(self, body):
        self.reply(body, 10**12)

    def bomb(self, body):
        self.reply(BOMB)

    def dies_half_way(self, body):
        served = [name for mirror, name in self.server.requests if mirror == 'dies_half_way']
        if len(served) <= 2:
            self.reply(body)  # the third request gets no answer


@pytest.fixture
def server():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    server.requests, server.over = [], threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """MXNet's cache in a fresh folder, not made yet, and nothing else of this machine in sight."""
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / 'mxnet'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.delenv('GLUON_BN_DATA', raising=False)
    return tmp_path / 'mxnet' / 'datasets' / 'fashion-mnist'


@pytest.fixture
def dataset(server, tmp_path):
    """The small files' table; `dataset('good', ...)` has those mirrors."""

    def make(*mirrors, content=CONTENT, package=''):
        return fashion_mnist.DataSet(
            {name: File(len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()},
            tuple(f'http://127.0.0.1:{server.server_port}/{mirror}' for mirror in mirrors),
            package,
            tmp_path / 'system',
            tmp_path / 'environment',
        )

    return make


def fill(folder, files=PACKED, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, **changes}.items():
        (folder / name).write_bytes(content)
    return folder


def contents(found):
    return {name: file.content for name, file in found.items()}


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def each(kinds, where):
    """The kinds of a fault, as parameters of a test that puts each of them there."""
    return [pytest.param(kind, marks=pytest.mark.fault(f'{where}: {kind.replace("_", " ")}')) for kind in kinds]


# The search


def test_each_place_is_used_before_the_next_one(cache, dataset, tmp_path, monkeypatch):
    table = dataset('good')
    monkeypatch.setenv('GLUON_BN_DATA', str(tmp_path / 'variable'))
    expected = [
        ('root', tmp_path / 'root'),
        ('$GLUON_BN_DATA', tmp_path / 'variable'),
        ("MXNet's cache", cache),
        ('the environment', tmp_path / 'environment'),
        ('the system', tmp_path / 'system'),
    ]
    for _, folder in expected:
        fill(folder)
    for source, folder in expected:
        found = find_files(tmp_path / 'root', dataset=table)
        assert contents(found) == CONTENT
        assert {(file.source, file.path.parent) for file in found.values()} == {(source, folder)}
        shutil.rmtree(folder)
    found = find_files(tmp_path / 'root', dataset=table)
    assert {file.source for file in found.values()} == {f'{table.mirrors[0]}/{name}' for name in PACKED}


def test_without_mxnet_home_the_cache_is_in_the_home_folder(cache, dataset, tmp_path, monkeypatch):
    monkeypatch.delenv('MXNET_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    fill(tmp_path / '.mxnet' / 'datasets' / 'fashion-mnist')
    assert contents(find_files(dataset=dataset())) == CONTENT


def test_unpacked_files_serve_as_well_as_packed_ones(cache, dataset, tmp_path):
    fill(tmp_path / 'root', {FIRST: CONTENT[FIRST], **{f: b for f, b in PACKED.items() if FIRST not in f}})
    assert contents(find_files(tmp_path / 'root', dataset=dataset())) == CONTENT


def test_only_what_is_missing_is_fetched(cache, dataset, server):
    fill(cache, {name: body for name, body in PACKED.items() if FIRST not in name})
    assert contents(find_files(dataset=dataset('good'))) == CONTENT
    assert server.requests == [('good', f'{FIRST}.gz')]


@pytest.mark.parametrize('named', ['root', 'variable', 'neither'])
def test_downloads_go_to_the_named_folder_or_to_the_cache(named, cache, dataset, server, tmp_path, monkeypatch):
    target = cache if named == 'neither' else tmp_path / 'a' / 'new folder'
    if named == 'variable':
        monkeypatch.setenv('GLUON_BN_DATA', str(target))
    root = target if named == 'root' else None
    assert contents(find_files(root, dataset=dataset('good'))) == CONTENT
    assert names(target) == sorted(PACKED)
    assert contents(find_files(root, dataset=dataset('good'))) == CONTENT
    assert len(server.requests) == 4  # none for the second search


def test_nothing_is_fetched_when_download_is_off(cache, dataset, server):
    with pytest.raises(DataUnavailable, match='download: not allowed'):
        find_files(download=False, dataset=dataset('good'))
    assert server.requests == [] and not cache.exists()


def test_files_kept_here_can_be_read_by_others(cache, dataset):
    old = os.umask(0o022)
    try:
        find_files(dataset=dataset('good'))
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o644}


# Wrong files on this machine

SIZE = len(CONTENT[FIRST])
WRONG = {
    'truncated': (PACKED[f'{FIRST}.gz'][:-2000], 'truncated or corrupted'),
    'corrupted': (PACKED[f'{FIRST}.gz'][:3000] + b'\0\0\0\0' + PACKED[f'{FIRST}.gz'][3004:], 'corrupted|SHA-256'),
    'swapped': (PACKED['t10k-images-idx3-ubyte.gz'], f'unpacks to 7,856 bytes, expected {SIZE:,}'),
    'html': (HTML, "not gzip .it starts with b'<!DOCTYPE html>'"),
    'empty': (b'', 'holds 0 bytes'),
    'wrong magic': (gzip.compress(b'\0\0\x0d\3' + CONTENT[FIRST][4:]), 'SHA-256'),
    'absurd sizes': (gzip.compress(CONTENT[FIRST][:4] + b'\xff' * 12 + CONTENT[FIRST][16:]), 'SHA-256'),
    'too little data': (gzip.compress(CONTENT[FIRST][:-1]), f'unpacks to {SIZE - 1:,} bytes'),
    'too much data': (gzip.compress(CONTENT[FIRST] + b'\0'), 'unpacks to more, expected'),
    'a gzip bomb': (BOMB, 'unpacks to more, expected'),
    'rubbish after it': (PACKED[f'{FIRST}.gz'] + b'rubbish', 'corrupted'),
}


@pytest.mark.parametrize('kind', each(WRONG, 'a file on this machine'))
def test_a_wrong_file_in_a_named_folder_is_refused_by_name(kind, cache, dataset, server, tmp_path, monkeypatch):
    content, reason = WRONG[kind]
    fill(cache)  # a good copy elsewhere does not take its place without a word
    root = fill(tmp_path / 'root', **{f'{FIRST}.gz': content})
    with pytest.raises(DataUnavailable, match=reason) as error:
        find_files(root, dataset=dataset('good'))
    assert str(root / f'{FIRST}.gz') in str(error.value) and 'Remove it' in str(error.value)
    monkeypatch.setenv('GLUON_BN_DATA', str(root))
    with pytest.raises(DataUnavailable, match=reason):
        find_files(dataset=dataset('good'))
    assert (root / f'{FIRST}.gz').read_bytes() == content and server.requests == []


@pytest.mark.parametrize('kind', each(WRONG, 'a file on this machine'))
def test_a_wrong_file_in_the_cache_is_replaced_with_a_warning(kind, cache, dataset):
    content, reason = WRONG[kind]
    fill(cache, **{f'{FIRST}.gz': content})
    with pytest.warns(UserWarning, match=reason):
        assert contents(find_files(dataset=dataset('good'))) == CONTENT
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert contents(find_files(dataset=dataset())) == CONTENT


@pytest.mark.fault('a file on this machine: a gzip bomb')
def test_a_wrong_file_takes_no_more_memory_than_the_right_one(cache, dataset, tmp_path):
    root = fill(tmp_path / 'root', **{f'{FIRST}.gz': WRONG['a gzip bomb'][0]})
    tracemalloc.start()
    with pytest.raises(DataUnavailable):
        find_files(root, dataset=dataset())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # the bomb is 50 MB; the buffers of gzip and of the file take some 200 kB


@pytest.mark.fault('a file on this machine: a folder in its place')
def test_a_folder_in_the_place_of_a_file_is_refused_by_name(cache, dataset, tmp_path):
    (tmp_path / 'root' / f'{FIRST}.gz').mkdir(parents=True)
    with pytest.raises(DataUnavailable, match='not a regular file'):
        find_files(tmp_path / 'root', dataset=dataset('good'))


@pytest.mark.fault('a file on this machine: a pipe in its place')
def test_a_pipe_in_the_place_of_a_file_is_refused_by_name(cache, dataset, tmp_path, monkeypatch):
    pipe = fill(tmp_path / 'root', {}) / FIRST
    os.mkfifo(pipe)
    monkeypatch.setenv('GLUON_BN_DATA', str(pipe.parent))
    _, errors = search(dataset('good')).communicate(timeout=60)
    assert f'$GLUON_BN_DATA holds a wrong file. {pipe}: it is not a regular file. Remove it' in errors


# Mirrors

FAULTS = {
    'truncated': r'ended after [\d,]+ of [\d,]+ bytes',
    'truncated_without_length': 'truncated or corrupted',
    'corrupted': 'corrupted|SHA-256',
    'same_size_other_content': 'SHA-256',
    'swapped': 'expected 47,056 bytes',
    'html': 'not gzip',
    'empty': 'holds 0 bytes',
    'not_found': '404',
    'server_error': '500',
    'redirect_in_circles': '302',
    'redirect_to_a_file': '302',
    'redirect_to_ftp': '302.*redirects to an address that is not HTTP',
    'redirect_with_a_long_body': '404',
    'stalled': 'timed out',
    'silent': 'timed out',
    'dripping': r'only [\d,]+ bytes after 1 seconds',
    'dripping_headers': r'only \d+ bytes after 1 seconds',
    'endless_continue': r'only \d+ bytes after 1 seconds',
    'endless': 'sends more than',
    'announcing_a_terabyte': 'announces 1,000,000,000,000 bytes',
    'bomb': 'more than|unpacks to more',
    'dies_half_way': 'closed connection without response',
}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.5)
    monkeypatch.setattr(download, 'DEADLINE', 1)


@pytest.mark.parametrize('mirror', ['good', 'good_without_length', 'redirect', 'unpacked'])
def test_a_mirror_is_enough(mirror, cache, dataset):
    assert contents(find_files(dataset=dataset(mirror))) == CONTENT
    assert contents(find_files(dataset=dataset())) == CONTENT


@pytest.mark.parametrize('fault', each(FAULTS, 'a mirror'))
def test_the_next_mirror_takes_over(fault, cache, dataset, server, impatient):
    assert contents(find_files(dataset=dataset(fault, 'good'))) == CONTENT
    assert names(cache) == sorted(PACKED)
    assert contents(find_files(dataset=dataset())) == CONTENT
    failed = [request for request in server.requests if request == (fault, f'{FIRST}.gz')]
    assert fault in ('dies_half_way', 'redirect_in_circles') or len(failed) == 1  # one try, then the next mirror


@pytest.mark.parametrize('fault', each(FAULTS, 'a mirror'))
def test_a_fault_is_named_with_its_source_and_leaves_nothing_wrong(fault, cache, dataset, impatient):
    table = dataset(fault)
    with pytest.raises(DataUnavailable, match=FAULTS[fault]) as error:
        find_files(dataset=table)
    message = str(error.value)
    assert table.mirrors[0] in message and FIRST in message or fault == 'dies_half_way'
    assert 'GLUON_BN_DATA' in message and 'apt-get install' in message
    for name in names(cache):
        assert (cache / name).read_bytes() == PACKED[name]
    assert len(names(cache)) == (2 if fault == 'dies_half_way' else 0)


@pytest.mark.fault('a mirror: redirect with a long body')
def test_what_comes_with_a_redirect_takes_no_memory(cache, dataset, impatient):
    tracemalloc.start()
    with pytest.raises(DataUnavailable):
        find_files(dataset=dataset('redirect_with_a_long_body'))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # the body is 52 MB


@pytest.mark.fault('every source fails')
def test_the_error_lists_each_thing_tried(cache, dataset, tmp_path, impatient):
    fill(tmp_path / 'system', {f'{FIRST}.gz': PACKED[f'{FIRST}.gz']})
    with pytest.raises(DataUnavailable) as error:
        find_files(tmp_path / 'root', dataset=dataset('not_found', 'html'))
    lines = str(error.value).splitlines()
    assert [line.split(':')[0] for line in lines if line.startswith('  - ')][:5] == [
        f'  - root, {tmp_path}/root',
        f"  - MXNet's cache, {cache}",
        f'  - the system, {tmp_path}/system',
        '  - http',
        '  - http',
    ]
    assert lines[0].startswith(
        'Fashion-MNIST is incomplete: could not find train-labels-idx1-ubyte, t10k-images-idx3-ubyte'
    )


# The cache


@pytest.mark.parametrize('place', ['root', 'cache'])
@pytest.mark.fault('a cache that cannot be made')
def test_a_folder_that_cannot_be_made_is_named_before_anything_is_fetched(place, cache, dataset, server, tmp_path):
    blocked = tmp_path / 'a file'
    blocked.write_text('')
    if place == 'cache':
        (tmp_path / 'mxnet').write_text('')
    with pytest.raises(DataUnavailable, match='cannot be stored in .* Set GLUON_BN_DATA'):
        find_files(blocked / 'below' if place == 'root' else None, dataset=dataset('good'))
    assert server.requests == []


SEARCH = '''
import hashlib, json, sys
from pathlib import Path
from gluon_bn.data.fashion_mnist import DataSet, find_files
from gluon_bn.data.verify import File
files, mirrors, system = json.loads(sys.argv[1])
exec(sys.argv[2])
files = {name: File(*file) for name, file in files.items()}
found = find_files(dataset=DataSet(files, mirrors, '', Path(system)))
print(*(hashlib.sha256(file.content).hexdigest() for file in found.values()))
'''


def search(table, before='', inside=()):
    """Start a Python of its own that searches, inside another command; the environment says where its cache is."""
    arguments = json.dumps([table.files, table.mirrors, str(table.system)])
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*inside, sys.executable, '-c', SEARCH, arguments, before],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hashes(table):
    return ' '.join(file.sha256 for file in table.files.values()) + '\n'


@pytest.mark.parametrize(
    'home, reason',
    [('loop', 'Too many levels of symbolic links'), ('x' * 300, 'File name too long')],
    ids=['loop', 'long'],
)
@pytest.mark.fault('a cache that cannot be entered')
def test_a_folder_that_cannot_be_entered_is_named_with_the_reason(
    home, reason, dataset, server, tmp_path, cache, monkeypatch
):
    (tmp_path / 'loop').symlink_to('loop')
    monkeypatch.setenv('MXNET_HOME', str(tmp_path / home))
    closed = tmp_path / home / 'datasets' / 'fashion-mnist'
    with pytest.warns(UserWarning, match=f"MXNet's cache, {closed}, cannot be read: {reason}. Looking elsewhere"):
        with pytest.raises(DataUnavailable, match=f"MXNet's cache, {closed}: {reason}\n(?s:.*)What to do"):
            find_files(dataset=dataset())
        with pytest.raises(DataUnavailable, match=f'cannot be stored in {closed}: {reason}. Set GLUON_BN_DATA'):
            find_files(dataset=dataset('good'))
    monkeypatch.setenv('GLUON_BN_DATA', str(closed))
    with pytest.raises(DataUnavailable, match=f'GLUON_BN_DATA, {closed}, cannot be read: {reason}. Name a folder'):
        find_files(dataset=dataset('good'))
    root = fill(tmp_path / 'root')
    found = find_files(root, dataset=dataset())
    assert lacking(found, root) == [f'$GLUON_BN_DATA, {closed}: {reason}; taken from {root}']
    assert server.requests == []


@pytest.mark.fault('a cache that cannot be entered')
def test_a_cache_of_another_user_is_passed_over_with_a_warning(cache, dataset, tmp_path):
    fill(cache).parent.parent.chmod(0)
    fill(tmp_path / 'system')
    process = search(dataset(), inside=without('dac_override', 'dac_read_search'))
    output, errors = process.communicate(timeout=60)
    assert output == hashes(dataset()), errors
    assert f"DataWarning: MXNet's cache, {cache}, cannot be read: Permission denied. Looking elsewhere." in errors


def test_nothing_is_fetched_into_the_environment_that_all_users_share(dataset, server, tmp_path, monkeypatch):
    monkeypatch.delenv('MXNET_HOME', raising=False)
    monkeypatch.delenv('GLUON_BN_DATA', raising=False)
    monkeypatch.setenv('HOME', '')
    (tmp_path / 'environment').mkdir()
    with pytest.raises(DataUnavailable, match='this user has no home folder'):
        find_files(dataset=dataset('good'))
    assert server.requests == [] and names(tmp_path / 'environment') == []


@pytest.mark.fault('a read-only cache')
def test_a_read_only_folder_is_named_before_anything_is_fetched(cache, dataset, server):
    cache.mkdir(parents=True)
    cache.chmod(0o555)
    process = search(dataset('good'), inside=without('dac_override'))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and f'cannot be stored in {cache}: Permission denied. Set GLUON_BN_DATA' in errors
    assert server.requests == [] and names(cache) == []


@pytest.mark.fault('a full disk under the cache')
def test_a_full_disk_is_named_and_leaves_nothing(cache, dataset):
    cache.mkdir(parents=True)
    show = f'import atexit, os; atexit.register(lambda: print(os.listdir({str(cache)!r})))'
    process = search(dataset('good'), show, inside=small_disk(cache, 32))
    left, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'DataUnavailable: Fashion-MNIST cannot be stored in {cache}: No space left on device. Set GLUON' in errors
    assert left == '[]\n'


@pytest.mark.fault('a file larger than the system lets it write')
def test_a_limit_on_the_size_of_files_is_named_and_leaves_nothing(cache, dataset):
    process = search(dataset('good'), 'import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))')
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f'DataUnavailable: Fashion-MNIST cannot be stored in {cache}: File too large. Set GLUON_BN_DATA' in errors
    assert names(cache) == []


@pytest.mark.fault('kill -9 in the middle of a write')
def test_a_process_killed_in_the_middle_of_a_write_leaves_no_wrong_file(cache, dataset):
    # the kernel kills it when its file reaches 20,000 bytes, and it cannot react: a kill -9 at the worst moment
    process = search(
        dataset('good'),
        'import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); '
        'resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); '
        'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))',
    )
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGXFSZ
    [part] = names(cache)
    assert part.endswith('.part') and (cache / part).stat().st_size == 20_000
    assert contents(find_files(dataset=dataset('good'))) == CONTENT


@pytest.mark.fault('eight threads that write one file', tries=100)
def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path, content = tmp_path / 'file', bytes(1_000_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store(content, path), range(100)))  # list() raises what a writer raised
    assert names(tmp_path) == ['file'] and path.read_bytes() == content


@pytest.mark.fault('four processes that fetch at once')
def test_processes_that_fetch_at_once_do_not_disturb_each_other(cache, dataset):
    table = dataset('slow')
    processes = [search(table) for _ in range(4)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [output for output, _ in outputs] == [hashes(table)] * 4, outputs
    assert names(cache) == sorted(PACKED)
    assert {name: (cache / name).read_bytes() for name in PACKED} == PACKED


@pytest.mark.parametrize('times', repeated('kill -9 at a random moment of a fetch', 5, 40))
def test_kill_9_in_the_middle_of_a_fetch_leaves_right_files_or_none(times, cache, dataset):
    table = dataset('slow')
    start = time.monotonic()
    assert search(table).communicate(timeout=60)[0] == hashes(table)
    duration = time.monotonic() - start
    moments = random.Random(0)
    left = set()
    for _ in range(times):
        shutil.rmtree(cache)
        process = search(table)
        time.sleep(duration * moments.uniform(0.1, 1))
        process.kill()
        process.communicate(timeout=60)
        kept = [name for name in names(cache) if not name.endswith('.part')]
        assert all((cache / name).read_bytes() == PACKED[name] for name in kept)
        left.add(len(kept))
        output, errors = search(table).communicate(timeout=60)
        assert output == hashes(table), errors
    assert times == 5 or len(left) > 2  # the moments did fall before, between and after the files


@pytest.mark.fault('a half-written file of a killed process')
def test_what_a_killed_process_left_is_removed_after_an_hour(cache, dataset):
    fill(cache, {})
    old, young = cache / f'.{FIRST}.gz.1-0.part', cache / f'.{FIRST}.gz.2-0.part'
    for part in (old, young):
        part.write_bytes(b'half')
    os.utime(old, (time.time() - 4000,) * 2)
    find_files(dataset=dataset('good'))
    assert names(cache) == sorted([young.name, *PACKED])


# Debian's package

needs_dpkg = pytest.mark.skipif(not shutil.which('dpkg-deb'), reason='no dpkg-deb on this machine')
needs_apt = pytest.mark.skipif(not shutil.which('apt-get'), reason='no apt-get on this machine')


def tar_xz(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w:xz') as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):  # a link to there
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def write_deb(path, members):
    """A .deb is an `ar` archive of three files: the format's version, the control data, the data."""
    control = b'Package: small-fashion\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n'
    parts = {
        'debian-binary': b'2.0\n',
        'control.tar.xz': tar_xz([('./control', control)]),
        'data.tar.xz': tar_xz(members),
    }
    with open(path, 'wb') as deb:
        deb.write(b'!<arch>\n')
        for name, content in parts.items():
            deb.write(f'{name:16}{0:<12}{0:<6}{0:<6}{"100644":8}{len(content):<10}`\n'.encode() + content)
            deb.write(b'\n' * (len(content) % 2))
    return control


@needs_dpkg
@pytest.mark.fault('a .deb with paths that climb out', tries=6)
def test_a_path_that_climbs_out_of_a_deb_writes_nothing(tmp_path, monkeypatch):
    outside = tmp_path / 'outside'
    work = tmp_path / 'a' / 'b'
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr('tempfile.tempdir', str(work))
    evil = b'evil'
    write_deb(
        tmp_path / 'x.deb',
        [
            (f'../../outside/{FIRST}.gz', evil),
            (f'{outside}/{FIRST}.gz', evil),
            (f'./../../{FIRST}.gz', evil),
            (f'usr/share/../../../../outside/{FIRST}.gz', evil),
            ('./usr/link', str(outside)),
            (f'./usr/link/{FIRST}.gz', evil),
            (f'./usr/share/{FIRST}.gz', b'right'),
            ('./usr/share/a-link.gz', '/etc/passwd'),
            ('./usr/share/large.gz', bytes(1001)),
        ],
    )
    before = sorted(tmp_path.rglob('*'))
    wanted = [f'usr/share/{FIRST}.gz', 'usr/share/a-link.gz', 'usr/share/large.gz', 'usr/share/absent.gz']
    assert download.read_deb(tmp_path / 'x.deb', wanted, 1000) == {f'usr/share/{FIRST}.gz': b'right'}
    assert sorted(tmp_path.rglob('*')) == before


@needs_dpkg
@pytest.mark.parametrize('content', [b'', HTML, b'!<arch>\n' + HTML])
@pytest.mark.fault('a file that is no .deb')
def test_what_is_no_deb_is_a_failure_of_its_source(content, tmp_path):
    (tmp_path / 'x.deb').write_bytes(content)
    with pytest.raises(download.FAILURES):
        download.read_deb(tmp_path / 'x.deb', ['a'], 1000)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An apt archive of our own, in a folder, with one package: `archive(members)` fills it."""

    def publish(members):
        repository, state = tmp_path / 'repository', tmp_path / 'apt'
        for folder in (repository, state / 'lists' / 'partial', state / 'cache' / 'archives' / 'partial'):
            folder.mkdir(parents=True)
        deb = repository / 'small-fashion_1_all.deb'
        control = write_deb(deb, members).decode()
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        (repository / 'Packages').write_text(
            f'{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256}\n'
        )
        (state / 'sources.list').write_text(f'deb [trusted=yes] copy:{repository} ./\n')
        (state / 'status').write_text('')
        (state / 'apt.conf').write_text(
            f'Dir::State "{state}"; Dir::State::lists "{state}/lists"; Dir::State::status "{state}/status";\n'
            f'Dir::Cache "{state}/cache"; Dir::Etc::sourcelist "{state}/sources.list";\n'
            'Dir::Etc::sourceparts "/dev/null"; APT::Sandbox::User "";\n'
        )
        monkeypatch.setenv('APT_CONFIG', str(state / 'apt.conf'))
        subprocess.run(['apt-get', 'update'], check=True, capture_output=True)

    return publish


@needs_apt
def test_debians_package_serves_when_no_mirror_does(archive, cache, dataset, tmp_path, impatient, monkeypatch):
    archive([(f'.{tmp_path}/system/{name}', content) for name, content in PACKED.items()])
    monkeypatch.setattr(download, 'DEADLINE', 60)
    found = find_files(dataset=dataset('not_found', package='small-fashion'))
    assert contents(found) == CONTENT
    assert {(file.source, file.path.parent) for file in found.values()} == {("Debian's package small-fashion", cache)}
    assert names(cache) == sorted(PACKED)


@needs_apt
@pytest.mark.fault("wrong files in Debian's package")
def test_wrong_files_in_a_package_are_named_and_not_kept(archive, cache, dataset, tmp_path):
    members = {**PACKED, f'{FIRST}.gz': HTML}
    del members['t10k-labels-idx1-ubyte.gz']
    archive([(f'.{tmp_path}/system/{name}', content) for name, content in members.items()])
    with pytest.raises(DataUnavailable, match='small-fashion, .*not gzip') as error:
        find_files(dataset=dataset(package='small-fashion'))
    assert 't10k-labels-idx1-ubyte.gz: not in it' in str(error.value)
    assert names(cache) == ['t10k-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz']


@needs_apt
@pytest.mark.fault('a package that apt does not know')
def test_a_package_that_apt_does_not_know_is_named_with_the_remedy(archive, cache, dataset):
    archive([])
    with pytest.raises(DataUnavailable, match='Unable to locate package no-such; `apt-get update`, as root'):
        find_files(dataset=dataset(package='no-such'))


@pytest.mark.fault('a machine without apt')
def test_a_machine_without_apt_is_told_so(cache, dataset, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(DataUnavailable, match="Debian's package x: there is no apt-get"):
        find_files(dataset=dataset(package='x'))


SILENT_APT = """
echo $$ > "$TMPDIR/../apt.part" && mv "$TMPDIR/../apt.part" "$TMPDIR/../apt"
exec sleep 60
"""
FETCH_FROM_APT = """
import sys
from gluon_bn import cli, data
from gluon_bn.data import download
data.find_files = lambda root: download.fetch_debian('x', [], 1)
sys.exit(cli.main(['data']))
"""


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault('a fetch is stopped while apt-get is at work')
def test_a_fetch_that_is_stopped_leaves_no_apt_and_no_folder_behind(signum, tmp_path):
    programs, temporary = tmp_path / 'bin', tmp_path / 'tmp'
    programs.mkdir()
    temporary.mkdir()
    for name, text in (('apt-get', SILENT_APT), ('dpkg-deb', '')):
        commands.script(programs / name, text)
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(sys.path),
        'TMPDIR': str(temporary),
        'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
    }
    process = subprocess.Popen(
        [sys.executable, '-c', FETCH_FROM_APT], env=environment, text=True, stderr=subprocess.PIPE
    )
    commands.wait_for((tmp_path / 'apt').exists, 60)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, 'gluon_bn: stopped\n')
    assert names(temporary) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / 'apt').read_text()), 0)


# The real data


def test_the_real_files_are_found_or_fetched_and_said_where(capsys):
    found = find_files()
    for name, file in found.items():
        assert hashlib.sha256(file.content).hexdigest() == FASHION_MNIST.files[name].sha256
    assert cli.main(['data']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == list(FASHION_MNIST.files)
    assert all(str(file.path) in line for file, line in zip(found.values(), lines))


def test_what_a_named_folder_lacks_is_said(tmp_path, monkeypatch, capsys):
    there = find_files()[FIRST].path
    (tmp_path / there.name).symlink_to(there)
    monkeypatch.setenv('GLUON_BN_DATA', str(tmp_path / 'nowhere'))
    assert cli.main(['data', '--data', str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f'--data, {tmp_path}: no train-labels-idx1-ubyte, no t10k-images-idx3-ubyte, '
        f'no t10k-labels-idx1-ubyte; taken from {there.parent}'
    )
    assert lines[1] == (
        f'$GLUON_BN_DATA, {tmp_path / "nowhere"}: no such folder; '
        f'taken from {", ".join(sorted([str(there.parent), str(tmp_path)]))}'
    )
    assert lines[2].endswith('; from --data)') and len(lines) == 6


def test_what_fails_is_said_with_the_name_on_the_command_line(cache, dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, 'find_files', functools.partial(find_files, dataset=dataset()))
    fill(tmp_path / 'wrong', {f'{FIRST}.gz': HTML})
    assert cli.main(['data', '--data', str(tmp_path / 'wrong')]) == 2
    assert capsys.readouterr().err.startswith('gluon_bn: --data holds a wrong file')
    assert cli.main(['data', '--data', str(tmp_path / 'nowhere')]) == 2
    assert f'\n  - --data, {tmp_path / "nowhere"}: no such folder\n' in capsys.readouterr().err


# Python runs this at each start; it moves the place of Debian's package, which only root could fill.
MOVED = """
from pathlib import Path
from gluon_bn.data import fashion_mnist
table = fashion_mnist.FASHION_MNIST._replace(system=Path({system!r}))
fashion_mnist.find_files.__defaults__ = (None, True, table)
"""


def test_a_command_says_once_in_a_line_each_what_it_warns_of_and_what_a_named_folder_lacks(tmp_path):
    system, cache = tmp_path / 'system', tmp_path / 'datasets' / 'fashion-mnist'
    system.mkdir()
    for name, file in find_files().items():
        (system / name).write_bytes(file.content)
    wrong = fill(cache, {FIRST: b'damaged'}) / FIRST
    (tmp_path / 'sitecustomize.py').write_text(MOVED.format(system=str(system)))
    environment = {'PYTHONPATH': os.pathsep.join([str(tmp_path), *sys.path]), 'MXNET_HOME': str(tmp_path)}
    words = 'train --norm none --epochs 1 --examples 512'.split()
    done = commands.command(*words, cwd=tmp_path, GLUON_BN_DATA=str(tmp_path), **environment)
    said = [line for line in done.stderr.splitlines() if line.startswith('gluon_bn: ')]
    assert done.returncode == 0 and 'UserWarning' not in done.stderr, done.stderr
    assert said[0].startswith(f'gluon_bn: {wrong}: ') and said[0].endswith(f'. Looking elsewhere for {FIRST}.')
    assert said[1:] == [f'gluon_bn: $GLUON_BN_DATA, {tmp_path}: none of the files; taken from {system}']


def test_the_search_needs_no_mxnet():
    code = "import sys; sys.modules['mxnet'] = sys.modules['numpy'] = None; import gluon_bn.data.fashion_mnist"
    done = commands.python('-c', code, PYTHONPATH=os.pathsep.join(sys.path))
    assert done.returncode == 0, done.stderr
