"""The benchmark as one run: it starts the sides, measures the parts, and writes what came of it."""
from __future__ import annotations

import contextlib
import json as json_format
import os
import time
from pathlib import Path

from ..drawing import pictures
from ..errors import InputError, OutputError
from ..system.environment import cores, machine, versions
from ..system.settings import check_path
from ..system.store import check_writable, store
from . import epochs, layers, profile
from .figure import draw
from .goals import check
from .method import method
from .side import Side
from .tables import HEADERS, markdown, sections

PARTS = ('layers', 'sizes', 'accuracy', 'epochs', 'profile')


def main(json=None, readme=None, figure=None, parts=PARTS, quick=False, root=None):
    """Run the parts, print their tables, and write JSON, a page and a figure; returns 0.

    json, readme: files to write; without json, bench.json in a new folder below runs/. figure: where
    to draw, without suffix; beside the JSON by default. quick: few rounds and sizes, for a test.
    root: folder of the Fashion-MNIST files.

    Raises: InputError for an unknown part, or a file that cannot be written, before anything is measured.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise InputError(f"must be some of {', '.join(PARTS)}, got {', '.join(unknown) or 'none'}", 'parts')
    json = (Path('runs') / time.strftime('bench-%Y%m%d-%H%M%S') / 'bench.json' if json is None else
            check_path('json', json, 'a file'))
    figure = json.with_suffix('') if figure is None else check_path('figure', figure, 'a file')
    readme = None if readme is None else check_path('readme', readme, 'a file')
    files = {'json': json, 'figure': Path(f'{figure}.svg'), **({'readme': readme} if readme else {})}
    for name, path in files.items():
        try:
            check_writable(path)
        except OSError as error:
            raise InputError(f'must be a file that can be written, got {path}: {error.strerror or error}; name another',
                             name) from error
    result = measure(tuple(parts), quick, root)
    for title, note, table in sections(result):
        print(f'\n{title}\n{note}\n\n{table}')
    drawing = draw(result)
    contents = {json: (json_format.dumps(result, indent=1) + '\n').encode()}
    if drawing:
        contents.update((Path(f'{figure}.{extension}'), content) for extension, content in pictures(drawing).items())
    if readme:
        picture = os.path.relpath(f'{figure}.svg', readme.parent) if drawing else None
        contents[readme] = markdown(result, picture).encode()
    for path, content in contents.items():
        try:
            store(content, path)
        except OSError as error:
            raise OutputError(f'{path} cannot be written: {error.strerror or error}; the tables above are the '
                              'result') from error
    written = map(str, contents)
    print(f"\nIt took {result['seconds'] / 60:.1f} minutes, and wrote {', '.join(written)}")
    return 0


def measure(parts=PARTS, quick=False, root=None, say=lambda text: print(f'bench: {text}', flush=True)):
    """Measure the parts; returns the content of the JSON file."""
    start, threads, load = time.perf_counter(), cores(), os.getloadavg()[0]
    if load > 0.5:
        say(f'other programs are running (load average {load:.1f}); what uses all cores suffers most from them, '
            'so run this on a quiet machine')
    result = {'date': time.strftime('%Y-%m-%d'), 'command': command(parts, quick), 'machine': machine(),
              'versions': versions(), 'load': load, 'method': method(threads)}
    with contextlib.ExitStack() as stack:
        def start_side(module, keep_memory=True):
            return stack.enter_context(Side(module, keep_memory))

        sides, missing = {'copy': start_side('copy_side')}, {}
        for module in ('mxnet_side', 'torch_side'):
            side = start_side(module)
            try:
                about = side.call('describe')
            except ImportError as error:  # PyTorch is optional
                if module == 'mxnet_side':
                    raise
                about = {'columns': [], 'versions': {}, 'missing': {
                    'torch': f'{error}; pip install -r requirements/torch.txt brings it'}}
            sides.update(dict.fromkeys(about['columns'], side))
            missing.update(about['missing'])
            result['versions'].update(about['versions'])
        for name, reason in missing.items():
            say(f'no column {HEADERS[name]}: {reason}')
        columns = [name for name in HEADERS if name in sides]
        result.update(columns=columns, missing=missing)

        rounds = 2 if quick else 21
        if 'layers' in parts:
            shapes = layers.SHAPES[:3:2] if quick else layers.SHAPES
            result['layers'] = layers.measure_shapes(sides, threads, columns, rounds, shapes, say)
        if 'sizes' in parts:
            batches = layers.BATCHES[2:4] if quick else layers.BATCHES
            result['sizes'] = layers.measure_sizes(sides, threads, columns, min(rounds, 9), batches, say)
        if 'accuracy' in parts:
            shapes = layers.SHAPES[:1] if quick else layers.SHAPES[:4]
            result['accuracy'] = layers.measure_accuracy(sides, threads, columns, shapes, say=say)
        if 'epochs' in parts:
            book = start_side('d2l_side', keep_memory=False)
            trained = {'none': sides['gluon'], **{name: sides[name] for name in columns},
                       'd2l gluon': book, 'd2l scratch': book}
            result['epochs'] = epochs.measure_epochs(trained, threads, list(trained), 1 if quick else 5,
                                                     0.05 if quick else 1, root, say)
        if 'profile' in parts:
            result['profile'] = profile.measure_profile(
                sides['gluon'], ['none', *(name for name in ('native', 'gluon') if name in columns)], root, quick, say)
    result['goals'] = check(result)
    result['seconds'] = time.perf_counter() - start
    return result


def command(parts, quick):
    """The command that makes such a result."""
    return ' '.join(['python -m gluon_bn bench', *(['--quick'] if quick else []),
                     *([f"--parts {' '.join(parts)}"] if parts != PARTS else [])])
