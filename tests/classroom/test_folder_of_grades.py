"""The folder of the grades: which ones are refused before anything runs."""

import json

import pytest

from gluon_bn.classroom import grade
from gluon_bn.classroom.grading.course import Course
from gluon_bn.errors import InputError


@pytest.mark.fault("--out where nothing can be written")
@pytest.mark.parametrize("out", ["file", "file/below", "read only"])
def test_an_out_that_cannot_be_written_is_refused_by_name(out, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "read only").mkdir()
    monkeypatch.setattr(grade.sandbox, "why_unavailable", lambda: None)
    monkeypatch.setattr(grade, "find_files", dict)
    monkeypatch.setattr(grade.os, "access", lambda *arguments: False)
    with pytest.raises(SystemExit):
        grade.main([str(tmp_path), "--out", str(tmp_path / out)])
    assert f"--out must be a writable folder, got {tmp_path / out} (" in capsys.readouterr().err


@pytest.mark.fault("a wrong SUBMISSIONS, of which nobody was graded")
def test_a_folder_without_grades_takes_other_submissions(tmp_path):
    course = Course(tmp_path / "out")
    course.results.mkdir(parents=True)
    begun = course.out / "grading.json"
    begun.write_text(json.dumps({"submissions": str(tmp_path / "wrong")}))
    course.begin(tmp_path / "right")
    assert json.loads(begun.read_text()) == {"submissions": str((tmp_path / "right").resolve())}
    (course.results / "ada.json").write_text("{}")
    with pytest.raises(InputError, match="^--out must be a new folder, or that of these submissions"):
        course.begin(tmp_path / "another")


@pytest.mark.fault("submissions that are not named, or not there")
@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "SUBMISSIONS is missing; name the folder or zip archive: make grade SUBMISSIONS=folder"),
        (["nowhere"], "SUBMISSIONS must be an existing folder or zip archive, got nowhere"),
    ],
)
def test_submissions_that_are_not_there_are_named(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        grade.main(arguments)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_a_folder_that_holds_no_release_is_refused(tmp_path, capsys):
    (tmp_path / "course").mkdir()
    with pytest.raises(SystemExit) as stopped:
        grade.main([str(tmp_path), "--release", str(tmp_path)])
    said = f"--release must be a folder that `make assignment` wrote, got {tmp_path}"
    assert stopped.value.code == 2 and said in capsys.readouterr().err
