"""The thread policy: how many OpenMP threads a process uses, and how long they spin while they wait.

libgomp reads both from the environment when it loads, so they must be set before MXNet is imported:

- A single run uses a thread per available core. On two cores, LeNet then trains about 1.5 times as fast.
- Each of several runs uses one thread. Threads wait for one another at barriers; runs do not.
- The workers of one run divide the cores of their machine. With `sync_batch_norm`, each worker uses one thread, even a
  single worker: the number of threads changes the order in which a convolution adds up its gradient, and so the
  rounding. So trainings with different numbers of workers differ only in how they split the minibatches.
- Waiting threads spin 500 times, then sleep. By default they spin for milliseconds: if another program keeps one of two
  cores busy, training takes up to 28 times as long, because threads spin while they wait for one that is not running.
  With 500, it takes 1.2 to 2 times as long. If threads slept at once, training would be slower than with one thread.

Variables that the reader has set hold for each process, and take precedence. `make bench ARGS="--parts epochs"`
also measures an epoch beside a busy core.

Imports only the standard library, because the doctor reports the policy even where nothing else works.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Dict, Iterator, Mapping

THREADS, SPINS = "OMP_NUM_THREADS", "GOMP_SPINCOUNT"
SPIN_COUNT = "500"
SETTLED = "GLUON_BN_SETTLED"  # what `settle` has set; it does not count as set by the reader, even in child processes
_settled = False


def given() -> Dict[str, str]:
    """Return the OpenMP variables that the reader has set."""
    found = {name: os.environ.get(name, "") for name in (THREADS, SPINS, "OMP_WAIT_POLICY")}
    ours = os.environ.get(SETTLED, "").split()
    return {name: value for name, value in found.items() if value and f"{name}={value}" not in ours}


def policy(alone: bool = True, recorded: Mapping[str, str] = {}, beside: int = 1) -> Dict[str, str]:
    """Return the OpenMP settings of a single run, or of one of several.

    recorded: the settings of a run to resume, which keeps its number of threads.
    beside: how many workers of the run share this machine.
    """
    kept = {name: recorded[name] for name in (THREADS, SPINS) if name in recorded}
    chosen = {THREADS: str(max(1, cores() // beside) if alone else 1), **kept, **given()}
    if chosen[THREADS] != "1" and "OMP_WAIT_POLICY" not in chosen:
        chosen.setdefault(SPINS, SPIN_COUNT)
    return chosen


def settle() -> None:
    """Set the policy of a single run for this process, before MXNet loads libgomp.

    If libgomp is already loaded, it has read its settings, so nothing is set.
    """
    global _settled
    if not is_loaded():
        _settled = True
        theirs = given()
        ours = {name: value for name, value in policy().items() if name not in theirs}
        os.environ.update(ours, **{SETTLED: " ".join(f"{name}={value}" for name, value in ours.items())})


def is_left_alone() -> bool:
    """Return whether libgomp read its settings before `settle` could set them."""
    return is_loaded() and not _settled


def is_loaded() -> bool:
    """Return whether this process has loaded libgomp. A copy under another name, as in some wheels, does not count."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    return any(os.path.basename(line).startswith("libgomp.so") for line in lines)


def cores() -> int:
    """Return how many cores this process may keep busy, by its affinity and the limits of its control groups."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([available, *map(int, quotas())]))


def quotas(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[float]:
    """Yield the limits, in cores, of this process's control group and its parents, in versions 1 and 2."""
    with contextlib.suppress(OSError):  # not Linux
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            group = Path(path.lstrip("/"))
            for folder in (group, *group.parents):  # a container may see its group as the root
                with contextlib.suppress(OSError, ValueError):  # no such group, or no limit
                    if controllers:
                        place = root / controllers / folder
                        quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                    else:
                        quota, period = (root / folder / "cpu.max").read_text().split()
                    if float(quota) > 0:
                        yield float(quota) / float(period)


if __name__ == "__main__":  # for the Makefile
    print(*(f"{name}={value}" for name, value in policy().items()))
