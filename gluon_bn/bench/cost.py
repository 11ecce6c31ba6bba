"""A model of the time of a step by several workers, beside the measured times.

    step = compute + 2 * exchange, for each layer + round trip + gradients * workers + waiting
    exchange = round trip + a + b * workers + d * bytes

The bytes are those that the server receives: each worker sends an array with a row for each worker, of 16 bytes per
value. a, b, d, the time of the gradients and the time to compute are measured on loopback, each by itself. Waiting is
the rest of a measured step on loopback, where the processes wait for a core; it is 0 if each has its own core. Steps
measured at other round-trip times do not enter the model: they test its predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Tuple

import numpy
from matplotlib.axes import Axes

from ..drawing import COLORS, LABELS
from .results import WorkersResult

BYTES = 16  # of a float64 value in an exchange: four words, each sent as a float32
DRAWN = [8 << i for i in range(8)]
NORMS, WHAT = ('sync', 'fused'), ('predicted', 'measured', 'error')


@dataclass(frozen=True)
class Model:
    """The constants, in seconds; a, b and d as above."""

    result: WorkersResult
    a: float
    b: float
    d: float
    gradients: float

    @staticmethod
    def fit(result: WorkersResult) -> Model:
        """Fit a, b and d to the exchanges on loopback, by the least squares of the relative errors."""
        rows, seconds = [], []
        for times in result.times:
            if not times.nominal:
                for size, (measured, _) in zip(result.sizes, times.exchanges):
                    rows.append([1, times.workers, bytes_of(times.workers, size)])
                    seconds.append(measured - times.round_trip)
        scaled, ones = numpy.array(rows) / numpy.array(seconds)[:, None], numpy.ones(len(rows))
        a, b, d = numpy.linalg.lstsq(scaled, ones, rcond=None)[0].tolist()
        if d < 0:  # the time of the bytes is lost in the noise
            (a, b), d = numpy.linalg.lstsq(scaled[:, :2], ones, rcond=None)[0].tolist(), 0.0
        gradients = [(t.gradients - t.round_trip) / t.workers for t in result.times if t.gradients and not t.nominal]
        return Model(result, a, b, d, sum(gradients) / len(gradients))

    def predicted(self, norm: str, workers: int, round_trip: float) -> float:
        """Return the seconds of a step on this machine; on loopback, without waiting."""
        loopback = next(times for times in self.result.times if times.workers == workers and not times.nominal)
        parts = self.step(norm, workers, loopback.round_trip, loopback.compute)
        if round_trip == loopback.round_trip:
            return parts
        waiting: float = getattr(loopback, norm) - parts
        return self.step(norm, workers, round_trip, loopback.compute) + waiting

    def exchange(self, workers: int, round_trip: float, size: int) -> float:
        return round_trip + self.a + self.b * workers + self.d * bytes_of(workers, size)

    def step(self, norm: str, workers: int, round_trip: float, compute: Mapping[str, float]) -> float:
        """Return the seconds of a step without waiting. compute: {norm: seconds that one worker computes}."""
        channels = self.result.channels if norm == 'sync' else []
        exchanges = sum(2 * self.exchange(workers, round_trip, 1 + 2 * c) for c in channels)
        return compute[norm] + exchanges + round_trip + self.gradients * workers


def bytes_of(workers: int, size: int) -> int:
    """Return how many bytes the server receives, which is how many it sends."""
    return BYTES * workers * workers * size


def table(result: WorkersResult) -> Tuple[List[str], List[List[str]]]:
    """Return the headers and rows of predicted beside measured milliseconds."""
    model, rows = Model.fit(result), []
    for times in result.times:
        row = [str(times.workers), f'{times.nominal * 1e3:g}' if times.nominal else 'loopback']
        for norm in NORMS:
            measured = getattr(times, norm)
            if times.workers == 1:
                row += ['-', f'{measured * 1e3:.1f}', '-']
                continue
            predicted = model.predicted(norm, times.workers, times.round_trip)
            row += [f'{predicted * 1e3:.1f}', f'{measured * 1e3:.1f}', f'{predicted / measured - 1:+.0%}']
        rows.append(row)
    return ['workers', 'round trip, ms', *(f'{norm}: {what}' for norm in NORMS for what in WHAT)], rows


def note(result: WorkersResult, cores: int) -> str:
    """Say what the table shows, and what an exchange costs."""
    model = Model.fit(result)
    sent = ''
    for times in result.times:
        if times.workers == 2 and times.nominal:  # on loopback, the bytes of all processes would count
            sizes = [f'{c} channels: {times.exchanges[i][1]:,.0f}' for i, c in enumerate(result.channels)]
            sent = f'With two workers, each sends and receives these bytes per exchange: {"; ".join(sizes)}. '
    return (
        f'Milliseconds per step of LeNet on {result.examples} images (the lower quartile of 30 steps): predicted, '
        'measured, and the error of the prediction. sync: shared statistics; fused: each worker uses the statistics of '
        f'its own share. All processes run on the {cores} cores of this machine; with a round-trip time, each worker '
        'has its own network namespace. On loopback, the prediction is the sum of the parts, without the time that '
        'processes wait for a core; with a round-trip time, it is the measured step on loopback plus the round trips. '
        f'With N workers, an exchange takes a round trip and {model.a * 1e3:.2f} + {model.b * 1e3:.2f} N ms, plus '
        f'{model.d * 1e9:.2f} ns per byte that the server receives; each layer takes two. The exchange of the '
        f'gradients takes a round trip and {model.gradients * 1e3:.2f} N ms. {sent}Two threads in one process, with '
        f'shared statistics, take {result.threads * 1e3:.1f} ms per step.'
    )


def draw_measured(ax: Axes, result: WorkersResult, cores: int) -> None:
    """Draw predicted lines and measured points over the round-trip time."""
    if not any(times.nominal for times in result.times):
        ax.set_axis_off()
        ax.set_title('no network namespaces: only loopback was measured')
        return
    model = Model.fit(result)
    for workers, marker in ((2, 'o'), (4, 's')):
        found = [times for times in result.times if times.workers == workers and times.nominal]
        round_trips = [times.round_trip for times in found]
        x = [each * 1e3 for each in round_trips]
        for norm in NORMS if found else ():
            y = [model.predicted(norm, workers, each) * 1e3 for each in round_trips]
            ax.plot(x, y, '-' if workers == 2 else '--', color=COLORS[norm], label=f'{LABELS[norm]}, {workers} workers')
            ax.plot(x, [getattr(times, norm) * 1e3 for times in found], marker, color=COLORS[norm], markersize=4)
    ax.set(xscale='log', ylim=(0, None), xlabel='round-trip time, ms', ylabel='ms a step')
    ax.xaxis.set_major_formatter('{x:g}')
    ax.set_title(f'predicted (lines) and measured, on {cores} cores')
    ax.legend(frameon=False, fontsize=8)


def draw_predicted(ax: Axes, result: WorkersResult) -> None:
    """Draw the predicted steps of many machines, each with a core and 32 examples."""
    model = Model.fit(result)
    for round_trip, style in ((1e-4, '-'), (1e-3, '--'), (1e-2, ':')):
        for norm in NORMS:
            y = [model.step(norm, workers, round_trip, result.compute) * 1e3 for workers in DRAWN]
            ax.plot(DRAWN, y, style, color=COLORS[norm], label=f'{LABELS[norm]}, {round_trip * 1e3:g} ms')
    ax.set(xscale='log', yscale='log', xlabel='workers', ylabel='ms a step')
    ax.set_xticks(DRAWN, [f'{workers:,}' for workers in DRAWN])
    ax.yaxis.set_major_formatter('{x:,.0f}')
    ax.set_title(f'predicted, {result.share} examples and a core for each worker')
    ax.legend(frameon=False, fontsize=8)
