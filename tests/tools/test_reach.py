"""The table of where the project was tested, which is generated from records."""

import json
import platform
import sys
from dataclasses import replace

import reach  # tools/reach.py

DEBIAN = reach.Record("Debian 13", "fresh", "3.13.5", "x86_64", False, "main job", "2030-01-02", "abc", 61.4)


def test_a_record_holds_the_facts_of_this_python_and_system():
    record = reach.here("fast tests")
    assert (record.python, record.architecture) == (platform.python_version(), platform.machine())
    assert record.system and record.date >= "2026-11-28" and not record.emulated


def test_a_later_record_replaces_only_that_of_the_same_place_and_proof(tmp_path):
    file = tmp_path / "records"
    later = replace(DEBIAN, python="3.13.6", date="2030-02-03")
    others = [replace(DEBIAN, proof="fast tests"), replace(DEBIAN, emulated=True), replace(DEBIAN, python="3.12.5")]
    reach.add(file, DEBIAN, *others)
    reach.add(file, later)
    assert sorted(reach.load(file), key=str) == sorted([later, *others], key=str)


def test_each_place_has_a_row_with_the_date_of_each_proof():
    records = [
        DEBIAN,
        replace(DEBIAN, proof="fast tests", date="2030-02-03", setup_seconds=None),
        replace(DEBIAN, system="Debian 12", setting="", python="3.8.20", proof="all tests", setup_seconds=None),
        replace(DEBIAN, architecture="aarch64", emulated=True, proof="ten steps of training", setup_seconds=None),
    ]
    assert (
        reach.table(records)
        == """\
| system | Python | processor | set-up | main job | fast tests | all tests | ten steps of training |
|---|---|---|---|---|---|---|---|
| Debian 12 | 3.8.20 | x86_64 |  |  |  | 2030-01-02 |  |
| Debian 13, fresh | 3.13.5 | aarch64, emulated |  |  |  |  | 2030-01-02 |
| Debian 13, fresh | 3.13.5 | x86_64 | 61 s | 2030-01-02 | 2030-02-03 |  |  |
"""
    )


def test_only_a_success_is_recorded_and_updates_the_page(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "reach.md"
    page.write_text("above\n<!-- reach -->\nold\n<!-- /reach -->\nbelow\n")
    monkeypatch.setattr(reach, "TOP", tmp_path)
    monkeypatch.setattr(reach, "RECORDS", tmp_path / "docs" / "reach.jsonl")
    assert reach.main(["--check"]) == 1 and "python tools/reach.py" in capsys.readouterr().err
    assert reach.main(["--proved", "main job", "--", "false"]) == 1 and not reach.RECORDS.exists()
    assert "not recorded, because false failed" in capsys.readouterr().err
    assert reach.main(["--proved", "main job", "--setting", "container", "--commit", "abc", "--", "true"]) == 0
    python = "{}.{}.{}".format(*sys.version_info[:3])
    assert f", container | {python} | " in page.read_text() and page.read_text().startswith("above\n")
    assert reach.main(["--check"]) == 0
    reach.main(["--proved", "main job", "--print"])
    assert json.loads(capsys.readouterr().out)["proof"] == "main job"
    assert len(reach.load(reach.RECORDS)) == 1


def test_the_page_agrees_with_the_records(capsys):
    assert reach.main(["--check"]) == 0, capsys.readouterr().err
