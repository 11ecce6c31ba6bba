"""Put everything that set-up needs in one folder, for machines without a network:

    make wheelhouse ARGS="--python 3.11 3.13 --platform linux-x86_64 darwin-x86_64 --out folder"

It holds the wheels, Fashion-MNIST, a list of wheels for each Python and platform, and SHA256SUMS, which `sha256sum -c`
can read too. `make WHEELHOUSE=folder compare` sets up from it: tools/make_venv.sh first runs `--check`, which needs
Python 3.8 or later, but no packages.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SUMS, DATA = "SHA256SUMS", "fashion-mnist"
PYTHONS = [f"3.{minor}" for minor in range(8, 15)]
# pip's names for the platforms. A wheel for an older glibc or macOS runs on a newer one.
GLIBC = range(28, 16, -1)
PLATFORMS = {
    "linux-x86_64": [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
    + ["manylinux2014_x86_64", "manylinux_2_12_x86_64", "manylinux_2_5_x86_64", "linux_x86_64"],
    "linux-aarch64": [f"manylinux_2_{minor}_aarch64" for minor in GLIBC] + ["manylinux2014_aarch64", "linux_aarch64"],
    "darwin-x86_64": ["macosx_14_0_x86_64"],
}
HERE = f"{platform.system().lower()}-{platform.machine()}"
THIS = "{}.{}".format(*sys.version_info[:2])


class Refused(Exception):
    """The wheelhouse cannot be made or used; the message says why and what to do."""


def lock_of(python):
    return TOP / "requirements" / ("constraints.txt" if int(python.split(".")[1]) < 12 else "locked-3.12.txt")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stamp(python):
    return f"# from {lock_of(python).name}, SHA-256 {digest(lock_of(python))}"


def wheels_for(version, target):
    """Return the lines of the lock that apply to this version of Python and platform, without their markers."""
    from packaging.requirements import Requirement

    system, machine = target.split("-")
    environment = {
        "python_version": ".".join(version.split(".")[:2]),
        "python_full_version": version,
        "sys_platform": system,
        "platform_system": system.title(),
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    lines = lock_of(version).read_text().splitlines()
    locked = [Requirement(line) for line in lines if line and line.lstrip()[0] != "#"]
    return [f"{r.name}{r.specifier}" for r in locked if r.marker is None or r.marker.evaluate(environment)]


def fill(folder, pythons, targets):
    """Download the wheels for each Python and platform, add the data, and list the digests of all files."""
    from gluon_bn.data import find_files
    from gluon_bn.errors import GluonBnError

    try:
        files = find_files().values()
    except GluonBnError as error:
        raise Refused(f"cannot be made: {error}") from error
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    (folder / SUMS).unlink(missing_ok=True)  # written last: an interrupted download is not a wheelhouse
    for file in files:
        shutil.copyfile(file.path, folder / DATA / file.path.name)
    for python in pythons:
        for target in targets:
            wanted = list_of(folder, python, target)
            # usually one list for all 3.11.x, but soupsieve's lock changes at 3.11.5
            lists = {tuple(wheels_for(version, target)): version for version in (f"{python}.99", f"{python}.0")}
            for lines, version in lists.items():
                wanted.write_text("\n".join([stamp(python), *lines]) + "\n")
                download(wanted, folder, version, target)
            names = sorted(set().union(*lists))
            wanted.write_text("\n".join([stamp(python), *names]) + "\n")
            print(f"Python {python} on {target}: {len(names)} wheels", flush=True)
    files = list_files(folder)
    print(f"{folder}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.0f} MB")


def list_files(folder):
    """Write SHA256SUMS, and return the files that it lists."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files))
    return files


def download(wanted, folder, version, target):
    tags = [word for tag in PLATFORMS[target] for word in ("--platform", tag)]
    only = ["--no-deps", "--only-binary", ":all:", "--python-version", version, *tags]
    command = [sys.executable, "-m", "pip", "download", "-q", *only, "-r", str(wanted), "-d", str(folder)]
    if subprocess.run(command).returncode:
        wheels = f"the wheels for Python {version} on {target}"
        raise Refused(f"is incomplete: pip could not download {wheels}; see its message above")


def list_of(folder, python=THIS, target=HERE):
    """Return the file that lists the wheels for a Python and platform; it exists if the wheelhouse supports them."""
    return folder / f"{python}-{target}.txt"


def check(folder):
    """Return the folder as a URI for pip. Raises: Refused if it is damaged or does not fit this Python and platform."""
    if not (folder / SUMS).is_file():
        raise Refused(f"has no {SUMS}; name a folder that `make wheelhouse` wrote")
    lines = (folder / SUMS).read_text(errors="replace").splitlines()
    entries = [re.fullmatch("([0-9a-f]{64}) [ *](.+)", line) for line in lines]
    listed = {entry[2]: entry[1] for entry in entries if entry}
    wrong = [] if listed and all(entries) else [SUMS]
    wrong += [name for name in listed if not (folder / name).is_file() or digest(folder / name) != listed[name]]
    wrong += sorted({wheel.name for wheel in folder.glob("*.whl")} - set(listed))  # pip would take it
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Refused(f"is damaged: {', '.join(wrong[:3])}{more}: missing, changed or not in {SUMS}; copy it again")
    wanted = list_of(folder)
    if not wanted.is_file():
        made_for = ", ".join(sorted(path.stem.replace("-", " on ", 1) for path in folder.glob("*.txt")))
        raise Refused(
            f"is for Python {made_for}, not for {THIS} on {HERE};\nchoose one of these with PYTHON=, "
            "or make a wheelhouse for this one"
        )
    if wanted.read_text().split("\n")[0] != stamp(THIS):
        raise Refused("was made from other requirements than this clone's; run `make wheelhouse` in this clone")
    return folder.resolve().as_uri()


def main():
    purpose = "Download everything that set-up needs into a folder."
    parser = argparse.ArgumentParser(prog="make wheelhouse", description=purpose)
    pythons, platforms = "versions of Python (default: this one)", f"any of {', '.join(PLATFORMS)} (default: this one)"
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=[THIS], metavar="3.x", help=pythons)
    parser.add_argument(
        "--platform", nargs="+", choices=list(PLATFORMS), default=[HERE], metavar="SYSTEM-MACHINE", help=platforms
    )
    out = "where to put it (default: build/wheelhouse)"
    parser.add_argument("--out", type=Path, default=TOP / "build" / "wheelhouse", metavar="FOLDER", help=out)
    this = "for this Python and platform"
    parser.add_argument("--check", type=Path, metavar="FOLDER", help=f"only check that a folder is complete and {this}")
    parser.add_argument("--has", type=Path, metavar="FOLDER", help=f"exit with 0 if a folder is {this}, else 1")
    options = parser.parse_args()
    if options.has:
        sys.exit(0 if list_of(options.has).is_file() else 1)
    try:
        if options.check:
            print(check(options.check))
        else:
            fill(options.out, options.python, options.platform)
    except (Refused, OSError) as error:
        sys.exit(f"The wheelhouse {options.check or options.out} {error}")


if __name__ == "__main__":
    main()
