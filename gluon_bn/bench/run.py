"""Runs the benchmark: starts the workers, measures the parts, and writes the results."""

from __future__ import annotations

import contextlib
import json as json_format
import os
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Dict, List, Sequence, Union

from ..drawing import pictures
from ..errors import GluonBnError, InputError, OutputError, explained
from ..system.environment import cpu_info, machine, versions
from ..system.settings import check_path, new_folder
from ..system.store import check_writable, store
from ..system.threads import THREADS, given, policy
from .parts import PARTS, Setup, say
from .report import HEADERS, draw, gaps, markdown, method, sections
from .results import Result, check, content
from .rounds import MOST_LOAD, Description, Worker

VECTORS = {'avx2': 'AVX2', 'avx512f': 'AVX-512', 'asimd': 'NEON'}
File = Union[None, str, Path]


def main(
    json: File = None,
    readme: File = None,
    figure: File = None,
    parts: Sequence[str] = tuple(PARTS),
    quick: bool = False,
    root: File = None,
) -> int:
    """Run the parts, print their tables, write JSON, a page and a figure; return 0, or 1 if a part failed.

    json, readme: files to write; json defaults to bench.json in a new folder below runs/. figure: the figure's
    path without suffix; defaults to one beside the JSON. quick: few rounds and sizes, for a test.
    root: folder of the Fashion-MNIST files.

    Raises: InputError for an unknown part or a file that cannot be written, before anything is measured.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise InputError(f"must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}", 'parts')
    json = new_folder('bench') / 'bench.json' if json is None else check_path('json', json, 'a file')
    figure = json.with_suffix('') if figure is None else check_path('figure', figure, 'a file')
    readme = None if readme is None else check_path('readme', readme, 'a file')
    files = ('json', json), ('figure', Path(f'{figure}.svg')), ('readme', readme)
    expected = 'must be a file that can be written, got'
    with explained(lambda why: InputError(f'{expected} {path}: {why}; name another', name)):
        for name, path in files:  # noqa: B007  the error names it
            if path:
                check_writable(path)
    result = measure(parts, quick, root)
    for title, note, table in sections(result):
        print(f'\n{title}\n{note}\n\n{table}')
    drawing = draw(result)
    contents = {json: (json_format.dumps(content(result), indent=1) + '\n').encode()}
    if drawing:
        contents.update((Path(f'{figure}.{extension}'), image) for extension, image in pictures(drawing).items())
    if readme:
        picture = os.path.relpath(f'{figure}.svg', readme.parent) if drawing else None
        contents[readme] = markdown(result, picture).encode()
    with explained(lambda why: OutputError(f'{path} cannot be written: {why}; the tables above are the result')):
        for path, data in contents.items():
            store(data, path)
    written = map(str, contents)
    print(f"\nIt took {result.seconds / 60:.1f} minutes, and wrote {', '.join(written)}")
    for gap in gaps({}, result.failed):
        print(f'gluon_bn: {gap}', file=sys.stderr)
    return 1 if result.failed else 0


def measure(parts: Sequence[str], quick: bool, root: File) -> Result:
    """Measure the parts with one thread and with one thread per core, or with OMP_NUM_THREADS threads.

    Every framework gets the same number of threads and the spin count of the thread policy.
    """
    start, load = time.perf_counter(), os.getloadavg()[0]
    chosen = policy().get(THREADS, '1')
    counts = [int(chosen)] if THREADS in given() else sorted({1, int(chosen)})
    if load > 0.5:
        say(
            f'other programs are running (load average {load:.1f}): rounds will be repeated, or inaccurate; '
            'run this on a quiet machine'
        )
    result = Result(time.strftime('%Y-%m-%d'), command(parts, quick), machine(), versions(), load, method(), counts)
    result.machine.update(instruction_sets=instruction_sets(), GLUON_BN_ISA=os.environ.get('GLUON_BN_ISA') or 'native')
    with contextlib.ExitStack() as stack:
        workers: Dict[int, Dict[str, Worker]] = {}
        copy = stack.enter_context(Worker('copy_worker'))
        for threads in counts:
            workers[threads] = {'copy': copy}
            environment = policy(recorded={THREADS: str(threads)})
            for module in ('mxnet_worker', 'torch_worker'):
                worker = stack.enter_context(Worker(module, environment))
                try:
                    about: Description = worker.call('describe')
                except ImportError as error:  # PyTorch is optional
                    if module == 'mxnet_worker':
                        raise
                    about = Description([], {}, {'torch': f'{error}; pip install -r requirements/torch.txt'})
                workers[threads].update(dict.fromkeys(about.columns, worker))
                result.missing.update(about.missing)
                result.versions.update(about.versions)
        if set(parts) == {'workers'}:
            result.missing.clear()  # its tables have no column per framework
        for gap in gaps(result.missing, {}):
            say(gap)
        result.columns = [name for name in HEADERS if name in workers[counts[0]]]
        setup = Setup(workers, result.columns, quick, root)
        for part, measure_part in PARTS.items():
            if part in parts:
                try:
                    vars(result).update(measure_part(setup))
                except GluonBnError as error:
                    result.failed[part] = error.message({'root': '--data'})
                except BrokenExecutor as error:
                    result.failed[part] = str(error)
    loads = setup.watch.loads
    result.rounds, result.discarded = len(loads), setup.watch.discarded
    result.loaded = sum(load > MOST_LOAD for load in loads)
    result.goals = check(result)
    result.seconds = time.perf_counter() - start
    return result


def instruction_sets() -> List[str]:
    """Return the vector instruction sets of this processor, as Linux lists them."""
    flags = {word for line in cpu_info('flags', 'Features') for word in line.split()}
    return [name for flag, name in VECTORS.items() if flag in flags]


def default_parts(quick: bool) -> List[str]:
    return [part for part in PARTS if not quick or part != 'workers']


def command(parts: Sequence[str], quick: bool) -> str:
    """Return the command that makes such a result."""
    some = '' if set(parts) == set(default_parts(quick)) else f" --parts {' '.join(parts)}"
    return f"python -m gluon_bn bench{' --quick' if quick else ''}{some}"
