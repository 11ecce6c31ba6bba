"""Interleaved measurement: in each round every column has its turn, so that a slow minute slows all of them.

A measurement is the list of a column's times, one a round, None where it had no turn. Medians and quartiles are
taken over the rounds, ratios within each round.
"""
from __future__ import annotations

import statistics
import time

TURN = 0.04  # seconds that a turn should take
SLOW = 0.3   # a column whose single call takes longer has only few turns
FEW = 3
FEWEST = 5   # rounds
PAUSE = 0.02  # libgomp's threads spin for some milliseconds after their last loop: let them fall asleep


def interleave(columns, rounds, budget):
    """Measure {name: call}, where call(repeat) makes that many runs and returns the seconds of one.

    After `budget` seconds no further round begins, but there are at least five.

    Returns: {name: [seconds, ...]}, one for each round.
    """
    start = time.perf_counter()
    repeats, turns = {}, {}
    for name, call in columns.items():
        call(1)  # warms up
        seconds = call(1)
        repeats[name] = min(200, max(1, round(TURN / seconds)))
        turns[name] = min(rounds, FEW) if seconds > SLOW else rounds
    times = {name: [] for name in columns}
    names = list(columns)
    for i in range(rounds):
        if i >= FEWEST and time.perf_counter() - start > budget:
            break
        for name in names[i % len(names):] + names[:i % len(names)]:  # nobody always follows the same neighbour
            if i < turns[name]:
                time.sleep(PAUSE)
                times[name].append(columns[name](repeats[name]))
            else:
                times[name].append(None)
    return times


def summary(times):
    """Median and quartiles of a measurement, with its rounds; in the unit of its times."""
    values = sorted(taken(times))
    quartiles = statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else values * 3
    return {'median': statistics.median(values), 'q1': quartiles[0], 'q3': quartiles[2], 'rounds': times}


def ratio(a, b):
    """The median of a / b within the rounds in which both had their turn."""
    return statistics.median(x / y for x, y in zip(a['rounds'], b['rounds']) if x is not None and y is not None)


def taken(times):
    return [value for value in times if value is not None]
