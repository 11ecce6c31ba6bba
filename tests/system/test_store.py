"""Files are written completely or not at all, whatever exists at their path."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest
from commands import python
from rights import without

from gluon_bn.system.store import check_writable, store


def test_a_file_keeps_its_mode(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o640)
    store(b"new", file)
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o640)


@pytest.mark.parametrize("target", ["there", "not there", "in/no folder/yet"])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path, target):
    link, file = tmp_path / "link", tmp_path / "elsewhere" / target
    file.parent.mkdir(parents=True) if "/" not in target else None
    if target == "there":
        file.write_bytes(b"old")
    link.symlink_to(file)
    check_writable(link)
    store(b"new", link)
    assert link.is_symlink() and file.read_bytes() == b"new"
    assert [path.name for path in file.parent.iterdir()] == [file.name] and list(tmp_path.glob(".*")) == []


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    check_writable(pipe)
    store(b"content", pipe)
    reader.join(timeout=60)
    assert received == [b"content"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_stays_a_device():
    for name in ("/dev/null", "/dev/full"):
        assert stat.S_ISCHR(os.stat(name).st_mode)
    check_writable(Path("/dev/null"))
    store(b"content", Path("/dev/null"))
    with pytest.raises(OSError) as error:
        store(b"content", Path("/dev/full"))
    assert error.value.errno == errno.ENOSPC
    for name in ("/dev/null", "/dev/full"):
        assert stat.S_ISCHR(os.stat(name).st_mode)


def test_a_folder_or_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, number in ((tmp_path, errno.EISDIR), (tmp_path / "loop", errno.ELOOP)):
        for function in (check_writable, lambda path: store(b"content", path)):
            with pytest.raises(OSError) as error:
                function(path)
            assert error.value.errno == number
    assert list(tmp_path.iterdir()) == [tmp_path / "loop"]


@pytest.mark.parametrize("name", ["x" * 255, "\u4f60" * 85, "[ab]*", os.fsdecode(b"not utf-8 \xff")])
def test_every_name_that_a_file_can_have_is_good(tmp_path, name):
    for content in (b"one", b"two"):
        check_writable(tmp_path / name)
        store(content, tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"two" and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("write", ["store(b'new', path)", "check_writable(path)"])
def test_what_may_not_be_written_is_refused_with_the_reason(tmp_path, write):
    (tmp_path / "protected").write_bytes(b"old")
    (tmp_path / "protected").chmod(0o444)
    (tmp_path / "folder").mkdir(mode=0o555)
    for path in (tmp_path / "protected", tmp_path / "folder" / "file"):
        code = f"from pathlib import Path; from gluon_bn.system.store import *; path = Path({str(path)!r}); {write}"
        done = python("-c", code, inside=without("dac_override"))
        assert done.returncode == 1 and "PermissionError: [Errno 13] Permission denied" in done.stderr, done.stderr
    assert (tmp_path / "protected").read_bytes() == b"old" and os.listdir(tmp_path / "folder") == []
