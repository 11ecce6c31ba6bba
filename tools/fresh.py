"""Try the README's commands on bare Debian systems:  python tools/fresh.py [SYSTEM ...] [OPTIONS]

SYSTEM is 12, 13 or forky. For each, debootstrap makes a minimal system in build/fresh, and apt-get installs what the
README says. An unprivileged user clones this clone's last commit, and runs a small main job and `make doctor`; with
--tests, also `make test` (with --first-cases, on one case of each test, which is not recorded); with --notebooks, also
all notebooks, on copies. --record adds the outcomes to docs/reach.jsonl, and updates the table in docs/reach.md.

The systems use this machine's apt mirror, apt options and pip settings. This needs root, because it mounts file
systems; all mounts are in separate namespaces, which end with the command.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import reach
from host import apt_options, mirror, pip_settings
from tabulate import tabulate

from gluon_bn.system.terminal import terminated_as_interrupted

TOP = Path(__file__).resolve().parent.parent
SYSTEMS = {"12": "bookworm", "13": "trixie", "forky": "forky"}
MAIN_JOB = "--epochs 1 --seeds 0 --examples 12800"
LOSSES = {"none": 2.362, "fused": 1.080, "gluon": 1.084}  # of the main job, on any machine
TOLERANCE = 0.005
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DAYS_TO_KEEP = 7  # for a bare system, so that the next run need not make it again
# Nothing is mounted outside the namespaces; if the parent is killed, all processes end.
NAMESPACE = "setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child".split()
# $1: the system; $2: this machine's files that are visible in it, read-only; then the arguments of chroot
ENTER = """set -e
root=$1 visible=$2
shift 2
mount -t proc proc "$root/proc"
mkdir -p "$root/dev/shm"
mount -t tmpfs tmpfs "$root/dev/shm"
for path in $visible; do
    if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root$(dirname "$path")"; touch "$root$path"; fi
    mount --bind "$path" "$root$path"
    mount -o remount,bind,ro "$root$path"
done
exec chroot "$@"
"""


class Failed(Exception):
    """A step failed; the message says which one, and where its output is."""


@dataclass(frozen=True)
class Outcome:
    system: str
    python: str = "-"
    setup_seconds: float | None = None
    main_job: str = "-"
    doctor: str = "-"
    tests: str = "-"
    notebooks: str = "-"
    failure: str = ""


class System:
    """A bare system in a folder, with a log of its commands."""

    def __init__(self, suite, architecture=""):
        self.suite, self.architecture = suite, architecture  # Debian's name; "": this machine's
        self.name = "-".join(filter(None, (suite, architecture)))
        self.root = TOP / "build" / "fresh" / self.name
        self.log = self.root.with_name(f"{self.name}.log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def run(self, what, command, inside=False):
        """Run a command with its output in the log, and return the seconds. Raises: Failed."""
        print(f"{self.suite}: {what}", file=sys.stderr, flush=True)
        with open(self.log, "a") as log:
            print(f"\n== {what}: {' '.join(map(str, command if not inside else command[-1:]))}", file=log, flush=True)
            start = time.monotonic()
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode:
            last = (self.log.read_text(errors="replace").strip().splitlines() or [""])[-1]
            raise Failed(f"{what} failed ({last.strip()}); see {self.log}")
        return time.monotonic() - start

    def inside(self, what, command, user="reader"):
        """Run a shell command in the system, in the user's clone or as root in /. Raises: Failed."""
        if user == "root":
            ids, home, where, settings, visible = "0:0", "/root", "/", {}, []
        else:
            home = f"/home/{user}"
            ids, where, (settings, visible) = "1000:1000", f"{home}/gluon_bn", pip_settings()
        environment = {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **settings}
        enter = [*NAMESPACE, "sh", "-c", ENTER, "sh", self.root, " ".join(visible), f"--userspec={ids}", self.root]
        enter += ["env", "-i", *map("=".join, environment.items()), "sh", "-c", f"cd {where} && {command}"]
        return self.run(what, enter, inside=True)

    def make(self):
        """Unpack the bare system; debootstrap makes it first, if none is recent."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gluon_bn" / "fresh"
        packed = cache / f"{self.name}.tar"
        self.remove()
        if packed.exists() and time.time() - packed.stat().st_mtime < DAYS_TO_KEEP * 86400:
            self.root.mkdir()
            self.run("unpack the bare system", ["tar", "-xf", packed, "-C", self.root])
        else:
            # every later suite is made like sid, which an older debootstrap knows
            script = "/usr/share/debootstrap/scripts/sid"
            kind = ["--variant=minbase", *([f"--arch={self.architecture}"] if self.architecture else [])]
            bootstrap = ["debootstrap", *kind, self.suite, self.root, mirror(), script]
            self.run("debootstrap", [*NAMESPACE, *bootstrap])
            cache.mkdir(parents=True, exist_ok=True)
            part = packed.with_suffix(f".{os.getpid()}.part")
            try:
                self.run("pack the bare system", ["tar", "-cf", part, "-C", self.root, "."])
                part.rename(packed)
            finally:
                part.unlink(missing_ok=True)
        (self.root / "etc/apt/apt.conf.d/90host").write_text(apt_options())

    def remove(self):
        """Delete the system. Raises: Failed if it cannot, or anything is mounted in it, which would be deleted too."""
        mounted = str(self.root).replace(" ", r"\040")  # as mountinfo writes it
        if f" {mounted}/" in Path("/proc/self/mountinfo").read_text():
            raise Failed(f"something is mounted below {self.root}: unmount it")
        for _ in range(100):
            shutil.rmtree(self.root, ignore_errors=True)  # an interrupted process may still be writing as it ends
            if not self.root.exists():
                return
            time.sleep(0.1)
        raise Failed(f"{self.root} cannot be deleted")


def try_out(name, tests, first_cases, notebooks, record):
    """Try a system, and return its Outcome."""
    system, outcome = System(SYSTEMS[name]), Outcome(f"Debian {name}")
    clone = system.root / "home/reader/gluon_bn"
    commit = reach.described_commit().replace("-dirty", "")  # which is cloned

    def step(column, command, proof="", result=lambda: "ok"):
        """Run a command in the clone, fill a column with its result, and record what it proved."""
        nonlocal outcome
        outcome = replace(outcome, **{column: "FAILED"})
        system.inside(command, command)
        outcome = replace(outcome, **{column: result()})
        if record and proof:
            facts = f"--print --setting fresh --commit '{commit}' --proved '{proof}'"
            system.inside("the facts of the system", f".venv/bin/python tools/reach.py {facts}")
            found = reach.Record(**json.loads(system.log.read_text().splitlines()[-1]))
            reach.add(reach.RECORDS, replace(found, setup_seconds=round(outcome.setup_seconds)))

    try:
        system.make()
        system.inside("apt-get update", "apt-get update -q", "root")
        system.inside("what the README installs", f"{installation()} -y -q", "root")
        system.inside("a user", "useradd --create-home --uid 1000 --shell /bin/sh reader", "root")
        system.run("clone", ["git", "clone", "-q", "--depth=1", f"file://{TOP}", clone])
        system.run("clone, as the user's own", ["chown", "-R", "1000:1000", clone])

        outcome = replace(outcome, setup_seconds=system.inside("set-up", "make .venv/ready"))
        outcome = replace(outcome, python=(clone / ".venv/ready").read_text().strip())
        step("main_job", f'make compare ARGS="{MAIN_JOB}"', "main job", lambda: check_losses(clone))
        step("doctor", "make doctor")
        if tests:
            fewer, proof = (" ARGS=--first-cases", "") if first_cases else ("", "fast tests")
            step("tests", f"make test JOBS={tests}{fewer}", proof, lambda: passed(system.log))
        if notebooks:
            step("notebooks", "make notebooks ARGS='--check --budget 1200'", "notebooks")  # a system may be slow
    except Failed as failure:
        outcome = replace(outcome, failure=str(failure))
    finally:
        try:
            system.remove()
        except Failed as failure:
            outcome = replace(outcome, failure=outcome.failure or str(failure))
    return outcome


def check_losses(clone):
    """Return "ok". Raises: Failed unless the clone's only run has the LOSSES, and used the native path."""
    (file,) = clone.glob("runs/*/summary.json")
    summary = json.loads(file.read_text())
    if summary["machine"]["GLUON_BN_FUSED"] != "native":
        raise Failed("fused_batch_norm took its portable path, though there is a compiler")
    got = {row["norm"]: row["loss"]["median"] for row in summary["results"]}
    wrong = [norm for norm, loss in LOSSES.items() if not abs(got.get(norm, float("inf")) - loss) <= TOLERANCE]
    if wrong:
        raise Failed(f"the losses must be {LOSSES} within {TOLERANCE}, got {got}")
    return "ok"


def passed(log):
    """Return the last summary line of pytest in a log."""
    return re.findall(r"^=+ (.*\d passed.*) in .*=$", log.read_text(errors="replace"), re.MULTILINE)[-1]


def installation():
    """Return the README's command to install what Debian lacks."""
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    commands = {" ".join(found.split()) for found in re.findall(r"`(?:sudo )?(apt-get install [^`]+)`", readme)}
    if len(commands) != 1:
        raise Failed(f"README.md must say once what to install by apt-get, got {sorted(commands)}")
    return commands.pop()


def missing():
    """Return in one line what this machine lacks; "" if nothing."""
    programs = [name for name in ("debootstrap", "unshare", "setpriv", "git", "tar") if not shutil.which(name)]
    lacks = (["root"] if os.geteuid() else []) + programs
    return f"fresh systems need {', '.join(lacks)}; on Debian: apt-get install debootstrap, as root" if lacks else ""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--tests", action="store_true", help="also run the fast tests")
    parser.add_argument("--first-cases", action="store_true", help="with --tests: only the first case of each test")
    parser.add_argument("--jobs", default="auto", help="the number of tests at a time (default: one per core)")
    parser.add_argument("--notebooks", action="store_true", help="also run the notebooks, on copies")
    parser.add_argument("--record", action="store_true", help="add the outcomes to docs/reach.jsonl")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.systems if name not in SYSTEMS]
    if unknown:
        parser.error(f"unknown system {unknown[0]}: expected one of {', '.join(SYSTEMS)}")
    if missing():
        print(missing(), file=sys.stderr)
        return 1
    try:
        with terminated_as_interrupted():
            jobs = arguments.jobs if arguments.tests else ""
            options = jobs, arguments.first_cases, arguments.notebooks, arguments.record
            outcomes = [try_out(name, *options) for name in arguments.systems or SYSTEMS]
    except KeyboardInterrupt:
        print("Interrupted. The system is deleted.", file=sys.stderr)
        return 130
    if arguments.record:
        reach.main([])
    rows = [list(asdict(done).values())[:-1] for done in outcomes]
    headers = ("system", "Python", "set-up, s", "main job", "doctor", "tests", "notebooks")
    print(tabulate(rows, headers, floatfmt=".0f", missingval="FAILED"))
    failures = [f"{done.system}: {done.failure}" for done in outcomes if done.failure]
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
