"""Which notebook belongs to which student, in folders made by teachers and learning platforms."""

import io
import json
import os
import zipfile
from pathlib import Path

import nbformat
import pytest
from handing_in import edit, save

from gluon_bn.classroom.grading.submissions import collect
from gluon_bn.errors import InputError


@pytest.fixture
def put(released, tmp_path):
    """put(path, ...) writes notebooks into the folder `in`, each another; returns the folder."""

    def write(*paths):
        for number, path in enumerate(paths):
            save(edit(released, "setup", "import numpy", f"import numpy  # {number}"), tmp_path / "in" / path)
        return tmp_path / "in"

    return write


def found(folder, released):
    return {one.student: (one.file, one.reason) for one in collect(folder, released)[0]}


def test_files_folders_and_archives_are_taken(put, released):
    folder = put("ada.ipynb", "ben/batch_norm.ipynb", "cem/batch_norm/batch_norm.ipynb", "dan/mine.ipynb", "Eve.IPYNB")
    with zipfile.ZipFile(folder / "fay.zip", "w") as archive:
        archive.write(folder / "ada.ipynb", "work/batch_norm.ipynb")
        archive.writestr("__MACOSX/work/._batch_norm.ipynb", b"\x00")
    inner = zipped(("batch_norm.ipynb", (folder / "ben" / "batch_norm.ipynb").read_bytes()))
    (folder / "gil.zip").write_bytes(zipped(("course/week1/task/more.zip", inner)))
    assert found(folder, released) == {
        "ada": ("ada.ipynb", ""),
        "ben": ("ben/batch_norm.ipynb", ""),
        "cem": ("cem/batch_norm/batch_norm.ipynb", ""),
        "dan": ("dan/mine.ipynb", ""),
        "Eve": ("Eve.IPYNB", ""),
        "fay": ("fay.zip/work/batch_norm.ipynb", ""),
        "gil": ("gil.zip/course/week1/task/more.zip/batch_norm.ipynb", ""),
    }


MOODLE = [
    "Ada Lovelace_12345_assignsubmission_file_/batch_norm.ipynb",
    "李 明_12346_assignsubmission_file/batch_norm.ipynb",
    "Jürgen Groß_12347_assignsubmission_file_batch_norm.ipynb",
    "Ada Lovelace_99_assignsubmission_file/x.ipynb",
]
CANVAS = ["lovelaceada_late_123_456_batch_norm.ipynb", "limyng_124_457_batch_norm-1.ipynb"]
BLACKBOARD = ["Batch norm_ada77_attempt_2026-11-20-10-11-12_batch_norm.ipynb"]


@pytest.mark.fault("a folder as a learning platform makes it")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "paths, students",
    [
        (MOODLE, ["Ada Lovelace (12345)", "Ada Lovelace (99)", "Jürgen Groß", "李 明"]),
        (CANVAS, ["limyng", "lovelaceada"]),
        (BLACKBOARD, ["ada77"]),
    ],
    ids=["moodle", "canvas", "blackboard"],
)
def test_the_names_of_learning_platforms_are_taken_apart(paths, students, packed, put, released, tmp_path):
    folder = put(*paths)
    (folder / "Batch norm_ada77_attempt_2026-11-20-10-11-12.txt").write_text("Name: Ada")
    if "ada77" not in students:
        (folder / "Batch norm_ada77_attempt_2026-11-20-10-11-12.txt").unlink()
    if packed:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in sorted(folder.rglob("*.*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder))
        folder = tmp_path / "all.zip"
    assert {name: reason for name, (_, reason) in found(folder, released).items()} == dict.fromkeys(students, "")


@pytest.mark.fault("files that systems and programs leave", tries=9)
def test_what_is_no_hand_in_is_passed_over_with_a_line(put, released):
    junk = [
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX/._ada.ipynb",
        ".ipynb_checkpoints/ada-checkpoint.ipynb",
        "ben/.ipynb_checkpoints/batch_norm-checkpoint.ipynb",
        "ben/.DS_Store",
        "~$ada.docx",
        ".git/config",
    ]
    folder = put("ada.ipynb", "ben/batch_norm.ipynb")
    for name in junk:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\x00")
    submissions, passed_over = collect(folder, released)
    assert [one.student for one in submissions] == ["ada", "ben"] and not any(one.reason for one in submissions)
    assert passed_over == [
        ".DS_Store (2 times)",
        ".git",
        ".ipynb_checkpoints (2 times)",
        "Thumbs.db",
        "__MACOSX",
        "desktop.ini",
        "~$ada.docx",
    ]


@pytest.mark.fault("two notebooks of one student")
@pytest.mark.parametrize(
    "paths",
    [
        ("ada/batch_norm.ipynb", "ada/batch_norm (1).ipynb"),
        ("ada.ipynb", "ada (1).ipynb"),
        ("ada.ipynb", "ada-Copy1.ipynb"),
        ("ada.ipynb", "ada/batch_norm.ipynb"),
        ("ada_1_2_x.ipynb", "ada_1_3_x-1.ipynb"),
    ],
)
def test_of_two_notebooks_the_teacher_chooses(paths, put, released):
    ((student, (_, reason)),) = found(put(*paths), released).items()
    assert student == "ada" and reason.startswith("2 notebooks: ") and "remove the others" in reason
    for path in paths:
        assert f'"{path}"' in reason


def test_the_same_notebook_twice_is_one(put, released):
    folder = put("ada/batch_norm.ipynb", "ben.ipynb")
    (folder / "ada" / "batch_norm (1).ipynb").write_bytes((folder / "ada" / "batch_norm.ipynb").read_bytes())
    assert found(folder, released)["ada"] == ("ada/batch_norm (1).ipynb", "")


def test_another_notebook_beside_it_is_passed_over(put, released):
    folder = put("ada/batch_norm.ipynb")
    save(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), folder / "ada" / "scratch.ipynb")
    (one,), _ = collect(folder, released)
    assert (one.file, one.reason, one.notes) == ("ada/batch_norm.ipynb", "", ("ignored: scratch.ipynb",))


@pytest.mark.fault("names in other scripts, or that are no names of files", tries=9)
def test_each_student_has_the_own_name_and_a_file_of_a_safe_one(put, released):
    names = ["李明", "王芳", "Jürgen", "Jörgen", "=1+1", "--student=x", "a b;rm *", "nul", "x" * 200]
    submissions, _ = collect(put(*(f"{name}.ipynb" for name in names)), released)
    assert sorted(one.student for one in submissions) == sorted(names)
    safe = [one.safe for one in submissions]
    assert len({name.lower() for name in safe}) == len(names)
    for name in safe:
        assert name.isascii() and name[0].isalnum() and set("/\\ *;=+'\"").isdisjoint(name) and len(name) < 80


@pytest.mark.fault("a name that is not UTF-8")
def test_a_name_that_is_not_utf8_is_readable(put, released):
    folder = put("ada.ipynb")
    os.rename(folder / "ada.ipynb", os.path.join(os.fsencode(folder), b"J\xfcrgen.ipynb"))
    assert list(found(folder, released)) == [r"J\xfcrgen"]


@pytest.mark.fault("names that differ only in what cannot be printed")
@pytest.mark.parametrize("names", [(b"J\xfcrgen", b"J\xf6rgen"), (b"a\nb", b"a\tb")])
def test_no_student_is_lost_for_a_name_like_anothers(names, put, released):
    folder = put("0.ipynb", "1.ipynb")
    for number, name in enumerate(names):
        os.rename(folder / f"{number}.ipynb", os.path.join(os.fsencode(folder), name + b".ipynb"))
    assert [reason for _, reason in found(folder, released).values()] == ["", ""]


@pytest.mark.fault("a hand-in that is no submission", tries=7)
def test_what_is_no_submission_is_reported(put, released):
    folder = put("two/a.ipynb")
    (folder / "empty").mkdir()
    (folder / "essay.pdf").write_bytes(b"%PDF")
    (folder / "garbled.ipynb").write_bytes(b"\x00\xff{")
    save(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), folder / "other.ipynb")
    (folder / "linked.ipynb").symlink_to("/etc/passwd")
    (folder / "broken.zip").write_bytes(b"PK\x03\x04")
    os.mkfifo(folder / "pipe.ipynb")
    reasons = {student: reason for student, (_, reason) in found(folder, released).items()}
    assert reasons.pop("garbled").startswith("not a notebook")
    assert reasons.pop("broken").startswith("a zip archive that cannot be read")
    assert reasons == {
        "empty": "no notebook handed in",
        "essay": "no notebook handed in, but essay.pdf",
        "two": "",
        "other": "a notebook, but not of this assignment, or its grade ids are lost; copy the answers "
        "into a new copy of the assignment",
        "linked": "a link, not a file",
        "pipe": "a pipe or a device, not a file",
    }


@pytest.mark.fault("a zip archive that harms", tries=3)
def test_archives_are_read_with_bounds(put, released):
    folder = put("ada.ipynb")
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a.ipynb", "b.ipynb"):
            archive.writestr(name, bytes(2**27))
    with zipfile.ZipFile(folder / "climbs.zip", "w") as archive:
        archive.writestr("../../ada.ipynb", (folder / "ada.ipynb").read_bytes())
    inner = (folder / "ada.ipynb").read_bytes()
    for _ in range(9):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("more.zip", inner)
        inner = packed.getvalue()
    (folder / "nested.zip").write_bytes(inner)
    got = found(folder, released)
    assert got["bomb"][1].startswith("a zip archive of more than 200 MB")
    assert got["climbs"] == ("climbs.zip/ada.ipynb", "")
    assert got["nested"][1].startswith("no notebook handed in")


def zipped(*entries, method=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


def spoiled(archive, how):
    spoilt = bytearray(archive)
    if how == "data":
        spoilt[60:200] = bytes(byte ^ 0x5A for byte in spoilt[60:200])
    else:  # a field of the directory: the version that can read it, or how it is packed
        spoilt[spoilt.rfind(b"PK\1\2") + {"version": 6, "method": 10}[how]] = 99
    return bytes(spoilt)


@pytest.mark.fault("a damaged archive among the hand-ins")
@pytest.mark.parametrize("layers", ["it", "the inner one", "the outer one"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("how", ["data", "version", "method"])
def test_a_damaged_archive_costs_no_other_its_grade(how, method, layers, put, released):
    folder = put("ada.ipynb", "notebook.ipynb")
    packed = zipped(("batch_norm.ipynb", (folder / "notebook.ipynb").read_bytes()), method=method)
    (folder / "notebook.ipynb").unlink()
    if layers == "the outer one":
        packed = zipped(("inner.zip", packed), method=method)
    packed = spoiled(packed, how)
    if layers == "the inner one":
        packed = zipped(("inner.zip", packed))
    (folder / "ben.zip").write_bytes(packed)
    reasons = {student: reason for student, (_, reason) in found(folder, released).items()}
    assert reasons["ada"] == "" and "cannot be read: " in reasons["ben"]


@pytest.mark.fault("an archive with an entry that has no name, or without any")
@pytest.mark.parametrize("entries", [[], [("..", b"x")], [("./.", b"x"), ("__MACOSX/._a", b"")]])
def test_an_archive_of_nothing_is_reported(entries, put, released):
    folder = put("ada.ipynb")
    (folder / "ben.zip").write_bytes(zipped(*entries))
    assert found(folder, released) == {"ada": ("ada.ipynb", ""), "ben": ("ben.zip", "no notebook handed in")}


@pytest.mark.fault("archives in archives that come to terabytes")
def test_nested_archives_share_one_bound(put, released):
    folder, packed = put("ada.ipynb"), zipped(("x.bin", bytes(2**26)))
    for _ in range(3):
        packed = zipped(*((f"{number}.zip", packed) for number in range(50)))
    (folder / "bomb.zip").write_bytes(packed)
    assert found(folder, released)["bomb"][1].startswith("a zip archive of more than 200 MB")


@pytest.mark.fault("a file or folder that may not be read")
def test_what_may_not_be_read_is_reported(put, released, monkeypatch):
    folder = put("ada.ipynb", "ben/x.ipynb")
    listed = Path.iterdir

    def refuse(path):
        if path.name == "ben":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert found(folder, released) == {"ada": ("ada.ipynb", ""), "ben": ("ben", "it cannot be read: Permission denied")}


@pytest.mark.fault("archives and a folder as Canvas makes them")
@pytest.mark.parametrize("path, packed", [("ada_1_2_work.zip", True), ("submissions/ada_1_2_x.ipynb", False)])
def test_canvas_names_are_taken_of_archives_and_in_a_folder(path, packed, put, released):
    folder = put("own.ipynb")
    content = (folder / "own.ipynb").read_bytes()
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(zipped(("batch_norm.ipynb", content)) if packed else content)
    (folder / "own.ipynb").unlink()
    assert [(name, reason) for name, (_, reason) in found(folder, released).items()] == [("ada", "")]


@pytest.mark.fault("SUBMISSIONS that is neither a folder nor an archive")
@pytest.mark.parametrize("name, said", [("a.ipynb", "another file"), ("a.zip", "a zip archive that cannot be read")])
def test_a_file_of_another_kind_is_refused(name, said, tmp_path, released):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(InputError, match=f"^SUBMISSIONS must be a folder or a zip archive .*, which is {said}"):
        collect(tmp_path / name, released)


@pytest.mark.fault("a folder without a hand-in", tries=2)
def test_a_folder_without_a_hand_in_is_refused(tmp_path, released):
    for names in ([], [".DS_Store"]):
        for name in names:
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match="^SUBMISSIONS must hold submissions, got .*one NAME.ipynb"):
            collect(tmp_path, released)


def test_a_change_shows_in_the_digest(put, released):
    folder = put("ada.ipynb")
    (before,), _ = collect(folder, released)
    notebook = json.loads((folder / "ada.ipynb").read_text())
    notebook["cells"].pop()
    (folder / "ada.ipynb").write_text(json.dumps(notebook))
    (after,), _ = collect(folder, released)
    assert before.digest != after.digest
