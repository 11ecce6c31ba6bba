"""A model of the time of a step by several workers, beside the measured times.

    step = compute + 2 * exchange, for each layer + round trip + gradients * workers + waiting
    exchange = round trip + a + b * workers + d * bytes

The bytes are those that the server receives: each worker sends an array with a row for each worker, of 16 bytes per
value. a, b and d are fitted to single exchanges over a network while nobody computes; the time of the gradients is
measured on loopback. If each process has its own core, compute is what one worker needs alone, and waiting is 0. On a
machine with fewer cores, processes also wait for a core. That is measured without a step, for each number of workers:

- compute: all workers compute a step without exchanges at once, from the start until the last one has ended.
- waiting: all workers make the exchanges of a step. Before each, a worker spins: it uses the processor as long as
  computing a step does, divided by the number of exchanges in a step (9 for LeNet with sync, 1 with fused). The time
  of the spins alone and of the exchanges without them is subtracted.

Steps are measured only to test the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Sequence, Tuple

import numpy
from matplotlib.axes import Axes

from ..drawing import COLORS, LABELS
from .results import CALLS, NORMS, TURNS, WorkersResult, WorkersTimes

BYTES = 16  # of a float64 value in an exchange: four words, each sent as a float32
DRAWN = [8 << i for i in range(8)]
WHAT = ('predicted', 'measured', 'error')


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
        """Fit a, b and d to the exchanges, by the least squares of the relative errors."""
        exchanges = _exchanges(result)
        terms = numpy.array(
            [numpy.array([1, workers, bytes_of(workers, size)]) / seconds for workers, _, size, seconds in exchanges]
        )
        shares = numpy.array([1 - round_trip / seconds for _, round_trip, _, seconds in exchanges])
        a, b, d = numpy.linalg.lstsq(terms, shares, rcond=None)[0].tolist()
        if d < 0:  # the time of the bytes is lost in the noise
            (a, b), d = numpy.linalg.lstsq(terms[:, :2], shares, rcond=None)[0].tolist(), 0.0
        gradients = [(t.gradients - t.round_trip) / t.workers for t in result.times if t.gradients and not t.nominal]
        return Model(result, a, b, d, sum(gradients) / len(gradients))

    def predicted(self, norm: str, workers: int, round_trip: float) -> float:
        """Return the seconds of a step on this machine: computing, exchanges on loopback, and longer round trips."""
        loopback = next(times for times in self.result.times if times.workers == workers and not times.nominal)
        exchanges = 1 + 2 * len(self._channels(norm))
        return loopback.compute[norm] + loopback.between[norm] + exchanges * (round_trip - loopback.round_trip)

    def waiting(self, norm: str, loopback: WorkersTimes) -> float:
        """Return the seconds of a step by which exchanges take longer if the workers compute between them."""
        idle = self.step(norm, loopback.workers, loopback.round_trip, dict.fromkeys(NORMS, 0.0))
        return loopback.between[norm] - idle

    def exchange(self, workers: int, round_trip: float, size: int) -> float:
        return round_trip + self.a + self.b * workers + self.d * bytes_of(workers, size)

    def step(self, norm: str, workers: int, round_trip: float, compute: Mapping[str, float]) -> float:
        """Return the seconds of a step without waiting. compute: {norm: seconds of computing}."""
        exchanges = sum(2 * self.exchange(workers, round_trip, 1 + 2 * c) for c in self._channels(norm))
        return compute[norm] + exchanges + round_trip + self.gradients * workers

    def misses(self) -> List[float]:
        """Return by which factor, less 1, the formula misses each exchange that it was fitted to."""
        return [
            self.exchange(workers, round_trip, size) / seconds - 1
            for workers, round_trip, size, seconds in _exchanges(self.result)
        ]

    def _channels(self, norm: str) -> Sequence[int]:
        """Return the channels of each layer that exchanges statistics."""
        return self.result.channels if norm == 'sync' else ()


def _exchanges(result: WorkersResult) -> List[Tuple[int, float, int, float]]:
    """Return (workers, round trip, size, seconds) of single exchanges: over a network, if there is one, else all."""
    return [
        (times.workers, times.round_trip, size, seconds)
        for times in [times for times in result.times if times.nominal] or result.times
        for size, (seconds, _) in zip(result.sizes, times.exchanges)
    ]


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
    misses, sign = model.misses(), '-' if model.a < 0 else '+'
    sent = waiting = ''
    for times in result.times:
        if times.between:
            sums = [f'{max(0.0, model.waiting(norm, times)) * 1e3:.1f} ({norm})' for norm in NORMS]
            waiting += f'In a step of {times.workers} workers, processes wait {" or ".join(sums)} ms for a core. '
        if times.workers == 2 and times.nominal:  # on loopback, the bytes of all processes would count
            sizes = [f'{c} channels: {times.exchanges[i][1]:,.0f}' for i, c in enumerate(result.channels)]
            sent = f'With two workers, each sends and receives these bytes per exchange: {"; ".join(sizes)}. '
    return (
        f'Milliseconds per step of LeNet on {result.examples} images: predicted, measured, and the error of the '
        f'prediction. Each time is the median of {TURNS} turns of {CALLS} calls, until the slowest worker has ended. '
        'sync: shared statistics; fused: each worker uses the statistics of its own share. All processes run on the '
        f'{cores} cores of this machine; with a round-trip time, each worker has its own network namespace. A '
        'prediction adds up parts that were measured on loopback, none of them in a step: computing by all workers at '
        'once, and the exchanges of a step between spins as long as that computing. A longer round trip then counts '
        'once for each exchange. '
        f'With N workers, an exchange takes a round trip and {model.b * 1e3:.2f} N {sign} '
        f'{abs(model.a) * 1e3:.2f} ms, plus '
        f'{model.d * 1e9:.2f} ns per byte that the server receives; this misses the exchanges that were measured by '
        f'{min(misses):+.0%} to {max(misses):+.0%}. Each layer takes two. The exchange of the gradients takes a round '
        f'trip and {model.gradients * 1e3:.2f} N ms. {waiting}{sent}Two threads in one '
        f'process, with shared statistics, take {result.threads * 1e3:.1f} ms per step.'
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
