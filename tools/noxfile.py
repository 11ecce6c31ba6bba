"""The fast tests on the Pythons that MXNet runs on, each with its locked versions:  make test-pythons"""

import os
import shutil
import subprocess
from pathlib import Path

import nox

if shutil.which("pyenv"):  # its python3.8 runs only if version 3.8 is active, so activate all installed versions
    versions = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True)
    os.environ["PYENV_VERSION"] = ":".join(versions.stdout.split())

TOP = Path(__file__).resolve().parents[1]
nox.options.envdir = str(TOP / ".nox")
nox.options.error_on_missing_interpreters = True
nox.options.default_venv_backend = "venv"


@nox.session(python=["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def tests(session):
    session.chdir(TOP)  # nox starts in the folder of this file
    # as in tools/make_venv.sh, which gives the reasons
    new = int(session.python.split(".")[1]) >= 12
    if new:
        session.install("-q", "--no-deps", "-r", "requirements/locked-3.12.txt")
        shutil.copy("tools/mxnet.pth", next(Path(session.virtualenv.location).glob("lib/python*/site-packages")))
    else:
        session.install("-q", "-r", "requirements.txt", "-r", "requirements/test.txt")
    session.install("-q", "--no-deps", "--no-build-isolation", "-e", ".")
    if not new:
        session.run("python", "-m", "pip", "check")
    session.run("python", "-m", "pytest", "-m", "not slow", "-n", "auto", "--dist", "loadfile", *session.posargs)
    if "RECORD" in os.environ:  # in docs/reach.md
        session.run("python", "tools/reach.py", "--proved", "fast tests")
