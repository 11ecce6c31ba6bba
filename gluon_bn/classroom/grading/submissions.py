"""Collects the submissions: for each student one notebook, or the reason why there is none.

Files and folders may be named by a teacher or by a learning platform (Moodle, Canvas, Blackboard), or be zipped.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from nbformat import NotebookNode

from ...errors import InputError
from .hand_in import Cell, of_this_assignment, read_cells

LARGEST = 200 * 2**20  # maximum bytes of a notebook, and of the contents of an archive
NOTHING = "no notebook handed in"
DEEPEST = 4  # maximum depth of an archive inside an archive
JUNK = re.compile(r"\..*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini|Icon\r|~\$.*|.*-checkpoint\.ipynb", re.IGNORECASE)
PLATFORMS = (
    re.compile(r"(?P<student>.+?)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)(?:_.*)?"),  # Moodle
    re.compile(r".+_(?P<student>[^_]+)_attempt_\d{4}(?:-\d\d){5}(?:_.+|\.\w+)?"),  # Blackboard
)
CANVAS = re.compile(r"(?P<student>[^_]+)_(?:late_)?(?P<number>\d+)_\d+_.+\.\w+", re.IGNORECASE)
COPY = re.compile(r"(.+?)(?: \(\d+\)|-Copy\d*| - Copy| copy(?: \d+)?)", re.IGNORECASE)  # added by browsers and systems


@dataclass(frozen=True)
class Submission:
    """A student's notebook, or the reason why it cannot be graded."""

    student: str  # the name of the file or folder
    file: str  # its path below the folder of submissions
    cells: Sequence[Cell] = ()
    reason: str = ""
    digest: str = ""  # of the notebook, to detect changes
    notes: Tuple[str, ...] = ()

    @property
    def safe(self) -> str:
        """The student's name as a file name: plain letters, and a hash if the name had to be changed."""
        plain = re.sub(r"[^A-Za-z0-9_.@-]+", "_", self.student).strip("._-")[:60]
        if plain == self.student and not re.fullmatch(r"(?i)con|prn|aux|nul|(com|lpt)\d", plain.split(".")[0]):
            return plain
        return f"{plain or 'student'}-{hashlib.sha256(self.student.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class _File:
    path: Tuple[str, ...]
    read: Callable[[], bytes]
    refused: str = ""  # why it is not read


def collect(folder: Path, released: NotebookNode) -> Tuple[List[Submission], List[str]]:
    """Return the submissions in a folder or zip archive, sorted by name, and a line for each kind of ignored file.

    Raises: InputError if there is no submission.
    """
    passed_over: Counter[str] = Counter()
    students: Dict[Tuple[str, str], List[_File]] = {}  # their files, by name and number
    for file in _walk(folder, (), passed_over):
        if not file.path:
            raise InputError(
                f"must be a folder or a zip archive of submissions, got {folder}, "
                f"which is {file.refused or 'another file'}",
                "SUBMISSIONS",
            )
        students.setdefault(_owner(file.path), []).append(file)
    for name, number in list(students):  # "ada (1)" is a copy of "ada", if that exists
        original = COPY.fullmatch(name)
        if original and (original[1], number) in students:
            students[original[1], number] += students.pop((name, number))
    if not students:
        raise InputError(
            f"must hold submissions, got {folder}, which holds none; put one NAME.ipynb, one folder NAME "
            "or one NAME.zip per student into it",
            "SUBMISSIONS",
        )
    same_name = Counter(name for name, _ in students)
    found = [
        _submission(f"{name} ({number})" if same_name[name] > 1 else name, files, released)
        for (name, number), files in students.items()
    ]
    found.sort(key=lambda submission: submission.student)
    return found, [f"{name} ({count} times)" if count > 1 else name for name, count in sorted(passed_over.items())]


def _submission(name: str, files: Sequence[_File], released: NotebookNode) -> Submission:
    where = "/".join(os.path.commonprefix([file.path for file in files]))
    refused = [file for file in files if file.refused]
    notebooks = [file for file in files if not file.refused and file.path[-1].lower().endswith(".ipynb")]
    if not notebooks and refused:
        return Submission(name, where, reason=refused[0].refused)
    if not notebooks:
        others = sorted(file.path[-1] for file in files)
        return Submission(name, where, reason=f"no notebook handed in, but {', '.join(others[:3])}")
    taken: Dict[str, Tuple[_File, List[Cell]]] = {}
    reasons = []
    for file in notebooks:
        try:
            content = file.read()
            cells = read_cells(content)
        except InputError as error:
            reasons.append(str(error))
            continue
        except Exception as error:  # a damaged archive: zipfile, zlib, lzma and bz2 can raise anything
            reasons.append(f"the notebook cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        if of_this_assignment(cells, released):
            taken.setdefault(hashlib.sha256(content).hexdigest(), (file, cells))  # identical copies count once
        else:
            reasons.append(
                "a notebook, but not of this assignment, or its grade ids are lost; "
                "copy the answers into a new copy of the assignment"
            )
    if not taken:
        said = reasons[0] if len(reasons) == 1 else f"{len(reasons)} notebooks, none of this assignment"
        return Submission(name, where, reason=said)
    if len(taken) > 1:
        paths = " and ".join(f'"{"/".join(file.path)}"' for file, _ in taken.values())
        said = (
            f"{len(taken)} notebooks: {paths}; keep the one that counts, remove the others, and grade again with the "
            "same command. If they are from several students, put each into a separate file or folder"
        )
        return Submission(name, where, reason=said)
    ((digest, (file, cells)),) = taken.items()
    notes = tuple(f"ignored: {other.path[-1]}" for other in notebooks if other is not file)
    return Submission(name, "/".join(file.path), cells, digest=digest, notes=notes)


def _owner(path: Tuple[str, ...]) -> Tuple[str, str]:
    """Return the owner of a file: the student's name, and the platform's number or ""."""
    for part in path:
        for platform in PLATFORMS:
            match = platform.fullmatch(part)
            if match:
                return match["student"].strip(), match.groupdict().get("number") or ""
    for part in path[:2]:  # the file, or the archive that contains it
        match = CANVAS.fullmatch(part)
        if match:
            return match["student"], match["number"]
    a_file = len(path) == 1 or _zipped(path[0])
    return os.path.splitext(path[0])[0] if a_file else path[0], ""


def _walk(place: Path, at: Tuple[str, ...], passed_over: Counter[str]) -> Iterator[_File]:
    """Yield a file, or the files below a folder or in an archive. Links are not followed."""
    try:
        if at and place.is_symlink():
            yield _File(at, bytes, "a link, not a file")
        elif place.is_dir():
            found = [(_readable(path.name), path) for path in sorted(place.iterdir())]
            kept = [(name, path) for name, path in found if not JUNK.fullmatch(name)]
            passed_over.update(name for name, _ in found if JUNK.fullmatch(name))
            for name, path in kept:
                yield from _walk(path, (*at, name), passed_over)
            if at and not kept:
                yield _File((*at, ""), bytes, NOTHING)
        elif not place.is_file():
            yield _File(at, bytes, "a pipe or a device, not a file")
        elif place.stat().st_size > LARGEST:
            megabytes = place.stat().st_size >> 20
            yield _File(at, bytes, f"a file of {megabytes} MB; clear the outputs, and hand it in again")
        elif _zipped(place.name):
            yield from _unpacked(place, at, passed_over, [LARGEST])
        else:
            yield _File(at, place.read_bytes)
    except OSError as error:
        yield _File(at, bytes, f"it cannot be read: {error.strerror or error}")


def _unpacked(
    packed: Union[Path, io.BytesIO], at: Tuple[str, ...], passed_over: Counter[str], room: List[int]
) -> Iterator[_File]:
    """Yield the files in a zip archive and in the archives inside it, at most `room` bytes in total."""
    try:
        archive = zipfile.ZipFile(packed)
    except Exception as error:  # damaged: zipfile can raise anything
        yield _File(at, bytes, f"a zip archive that cannot be read: {error}")
        return
    room[0] -= sum(info.file_size for info in archive.infolist())
    if room[0] < 0:
        yield _File(at, bytes, f"a zip archive of more than {LARGEST >> 20} MB; hand in the notebook alone")
        return
    empty = True
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if not info.flag_bits & 0x800:  # the encoding is not declared: try UTF-8
            with contextlib.suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        parts = tuple(_readable(part) for part in name.split("/") if part not in ("", ".", ".."))
        junk = [part for part in parts if JUNK.fullmatch(part)]
        if junk:
            passed_over[junk[0]] += 1
        elif parts and not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            empty = False
            yield from _member(archive, info, (*at, *parts), passed_over, room)
    if at and empty:
        yield _File(at, bytes, NOTHING)


def _member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, at: Tuple[str, ...], passed_over: Counter[str], room: List[int]
) -> Iterator[_File]:
    """Yield a file in an archive; if it is an archive itself, the files in it."""
    if info.flag_bits & 1:
        yield _File(at, bytes, "a zip archive with a password; hand in the notebook alone")
    elif not _zipped(at[-1]) or sum(map(_zipped, at)) > DEEPEST:
        yield _File(at, functools.partial(archive.read, info))
    else:
        try:
            content: Optional[bytes] = archive.read(info)
        except Exception as error:  # damaged: zipfile, zlib, lzma and bz2 can raise anything
            content = None
            yield _File(at, bytes, f"a zip archive that cannot be read: {error}")
        if content is not None:
            yield from _unpacked(io.BytesIO(content), at, passed_over, room)


def _zipped(name: str) -> bool:
    return name.lower().endswith(".zip")


def _readable(name: str) -> str:
    """Return a file's name as text that can be printed and encoded as UTF-8."""
    name = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
