"""What one layer costs: forward, and forward + backward, by shape and by size, beside a copy of its array."""
from __future__ import annotations

import math

from .copy_side import PASSES, PASSES_OF_A_COPY
from .rounds import interleave, ratio, summary

SHAPES = ((256, 6, 24, 24), (256, 16, 8, 8), (256, 120), (256, 84), (64, 64, 56, 56), (32, 256, 14, 14))
MODES = ('forward', 'both')

PLANE = (32, 28, 28)  # an example of 0.1 MB; the batch makes the size
BATCHES = (1, 3, 10, 30, 100, 300, 1000, 2000)
SLOW_UP_TO = 100  # examples of a batch for batch_norm, which takes a second for each 30 MB

BYTES = 4
BUDGET = 20  # seconds for one shape


def measure(sides, threads, shape, rounds, columns, modes=MODES):
    """{mode: {column: summary}} for one shape; sides: {column: Side}; 'copy' is the copy of one array."""
    for side in {id(side): side for side in sides.values()}.values():
        side.call('prepare', shape, threads)
    calls = {(name, mode): turn(sides[name], name, mode) for name in columns for mode in modes}
    calls['copy', 'copy'] = turn(sides['copy'], 'copy', 'copy')
    times = interleave(calls, rounds, BUDGET)
    copy = times['copy', 'copy']
    result = {}
    for mode in modes:
        result[mode] = {name: summary(times[name, mode]) for name in columns}
        floor = summary([seconds * PASSES[mode] / PASSES_OF_A_COPY for seconds in copy])
        for measured in result[mode].values():
            measured['floors'] = ratio(measured, floor)
        result[mode]['floor'] = floor
    return result


def turn(side, column, mode):
    return lambda repeat: side.call('time_layer', column, mode, repeat)


def measure_shapes(sides, threads, columns, rounds, shapes=SHAPES, say=print):
    """(a) and (e): one entry for each shape."""
    entries = []
    for shape in shapes:
        say(f'layer {shape}')
        entries.append({'shape': list(shape), **measure(sides, threads, shape, rounds, columns)})
    return entries


def measure_sizes(sides, threads, columns, rounds, batches=BATCHES, say=print):
    """(d): forward + backward, one entry for each size."""
    entries = []
    for batch in batches:
        shape = (batch, *PLANE)
        size = math.prod(shape) * BYTES / 1e6
        say(f'size {size:.1f} MB')
        fast = [name for name in columns if name != 'scratch' or batch <= SLOW_UP_TO]
        entries.append({'shape': list(shape), 'megabytes': size,
                        **measure(sides, threads, shape, rounds, fast, ('both',))})
    return entries


def measure_accuracy(sides, threads, columns, shapes=SHAPES[:4], means=(0, 1e2, 1e4), say=print):
    """(c): the relative errors of each result against float64, for X of each mean."""
    entries = []
    for shape in shapes:
        say(f'accuracy {shape}')
        for mean in means:
            for side in {id(sides[name]): sides[name] for name in columns}.values():
                side.call('prepare', shape, threads, mean)
            entries.append({'shape': list(shape), 'mean': mean,
                            'errors': {name: sides[name].call('measure_errors', name) for name in columns}})
    return entries
