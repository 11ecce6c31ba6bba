"""The bare systems of `make test-fresh`: what goes in, what stays out, and what is left behind."""

import json
import os
import re
import shutil
from pathlib import Path

import fresh  # tools/fresh.py
import pytest

TOP = Path(__file__).resolve().parents[2]


def test_it_installs_what_the_readme_says(tmp_path, monkeypatch):
    assert fresh.installation() + "`" in " ".join((TOP / "README.md").read_text().split())
    monkeypatch.setattr(fresh, "TOP", tmp_path)
    (tmp_path / "README.md").write_text("`sudo apt-get install make`, or `apt-get install gcc`")
    with pytest.raises(fresh.Failed, match="must say once what to install"):
        fresh.installation()


@pytest.mark.parametrize("wrong", [{"fused": 1.2}, {"none": float("nan")}, {"gluon": None}])
def test_wrong_losses_of_the_main_job_are_refused(tmp_path, wrong):
    def check(losses, path="native"):
        rows = [{"norm": norm, "loss": {"median": loss}} for norm, loss in losses.items() if loss is not None]
        summary.write_text(json.dumps({"results": rows, "machine": {"GLUON_BN_FUSED": path}}))
        fresh.check_losses(tmp_path)

    summary = tmp_path / "runs" / "a run" / "summary.json"
    summary.parent.mkdir(parents=True)
    check(fresh.LOSSES)
    with pytest.raises(fresh.Failed, match="portable path"):
        check(fresh.LOSSES, "portable")
    with pytest.raises(fresh.Failed, match="the losses must be"):
        check({**fresh.LOSSES, **wrong})


def test_missing_requirements_are_reported_in_one_line_and_nothing_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fresh, "TOP", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert fresh.main([]) == 1 and list(tmp_path.iterdir()) == []
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "need root, debootstrap" in said and "apt-get install debootstrap" in said


def test_an_unknown_system_is_refused(capsys):
    with pytest.raises(SystemExit):
        fresh.main(["11"])
    assert "unknown system 11: expected one of 12, 13, forky" in capsys.readouterr().err


def test_a_system_gets_pip_settings_and_the_files_that_they_name(tmp_path, monkeypatch):
    index = tmp_path / "index" / "simple"
    index.mkdir(parents=True)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{index} file:///nowhere")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    settings, visible = fresh.pip_settings()
    assert settings["PIP_EXTRA_INDEX_URL"] == f"file://{index} file:///nowhere"
    assert settings["https_proxy"] == "http://proxy:3128"
    assert str(index.parent) in visible and "/nowhere" not in visible


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system with this machine's programs, in which one file of this machine is visible."""
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs root, unshare and setpriv")
    monkeypatch.setattr(fresh, "TOP", tmp_path)
    seen = tmp_path / "seen"
    seen.write_text("of this machine")
    programs = [path for path in ("/usr", "/bin", "/lib", "/lib64") if Path(path).exists()]
    monkeypatch.setattr(fresh, "pip_settings", lambda: ({"PIP_X": "1"}, [*programs, str(seen)]))
    system = fresh.System("bare")
    for folder in ("proc", "dev", "home/reader/gluon_bn"):
        (system.root / folder).mkdir(parents=True)
    try:
        system.inside("a try", "true")
    except fresh.Failed as failure:
        if "mount" in str(failure) or "unshare" in str(failure):
            pytest.skip(f"no namespaces here: {failure}")
        raise
    return system


@pytest.mark.fault("a fresh system that ends or fails", tries=2)
def test_nothing_stays_mounted_and_visible_files_survive(system, tmp_path):
    seen = tmp_path / "seen"
    system.inside("look", f'test "$(cat {seen})" = "of this machine" && test "$PIP_X" = 1 && test -d /proc/self')
    with pytest.raises(fresh.Failed, match=r"try to change it failed .*[Rr]ead-only"):
        system.inside("try to change it", f"echo changed > {seen}")
    assert re.search(r"^1000 1000 /home/reader/gluon_bn$", told(system, 'echo "$(id -u) $(id -g) $PWD"'), re.MULTILINE)
    assert str(system.root) not in Path("/proc/self/mountinfo").read_text()
    system.remove()
    assert not system.root.exists() and seen.read_text() == "of this machine" and Path("/usr/bin/env").exists()


def told(system, command):
    system.inside("ask", command)
    return system.log.read_text()


@pytest.mark.fault("a mount in a fresh system that is about to be deleted")
def test_a_system_with_a_mount_inside_is_not_deleted(system, monkeypatch, tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 / {system.root}/usr rw - ext4 /dev/x rw\n")
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: read_text(table if "mountinfo" in path.name else path))
    with pytest.raises(fresh.Failed, match="something is mounted"):
        system.remove()
    assert system.root.exists()
