"""The batches by numbers that the code under test is tried on."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]
else:  # Python 3.8 cannot subscript it
    Array = numpy.ndarray

RANKS = {2: 'dense', 4: 'convolution'}
ROWS = numpy.array([[1, 2], [3, 2], [5, 6], [7, 6]], dtype='float64')  # means 4 and 4, variances 5 and 4
UPSTREAM = numpy.array([[1, -2], [0, 1], [3, 2], [-1, 4]], dtype='float64')  # never all ones: dX would be 0


class Trial(NamedTuple):
    """A minibatch with everything that goes in, in float64, and how a sentence names X."""

    words: str
    X: Array
    gamma: Array
    beta: Array
    moving_mean: Array
    moving_var: Array
    dY: Array
    eps: float
    momentum: float

    @property
    def arrays(self) -> Tuple[Array, ...]:
        return self.X, self.gamma, self.beta, self.moving_mean, self.moving_var

    def told(self, *names: str) -> str:
        """'X = ..., gamma = (2, 3), eps = 4': the trial as a sentence names it; random numbers are not told."""
        if 'random' in self.words:
            return self.words
        parts = [self.words]
        for name in names:
            values = [f'{value:g}' for value in numpy.ravel(getattr(self, name))]
            parts.append(f'{name} = ' + (values[0] if len(set(values)) == 1 else f'({", ".join(values)})'))
        return ', '.join(parts)


def images(rows: Array) -> Array:
    """The same numbers as two images of two channels, each one pixel high and two wide."""
    return rows.reshape(2, 2, 2).transpose(0, 2, 1).reshape(2, 2, 1, 2)


def trials(rank: int, eps: Optional[float] = None, momentum: Optional[float] = None) -> List[Trial]:
    """The trials for dense (2) or convolutional (4) input; a layer fixes eps and momentum, a function takes any."""
    column = (1, 2) if rank == 2 else (1, 2, 1, 1)
    X, dY = (ROWS, UPSTREAM) if rank == 2 else (images(ROWS), images(UPSTREAM))
    words = ('X = [[1, 2], [3, 2], [5, 6], [7, 6]]' if rank == 2 else
             'X of shape (2, 2, 1, 2), channel 0 holding 1, 3 and 5, 7, channel 1 holding 2, 2 and 6, 6')

    def by_hand(X: Array, gamma: Sequence[float], beta: Sequence[float], mean: Sequence[float], var: Sequence[float],
                trial_eps: float, trial_momentum: float, divided: str = '') -> Trial:
        rows = [numpy.array(value, dtype='float64').reshape(column) for value in (gamma, beta, mean, var)]
        return Trial(words + divided, X, rows[0], rows[1], rows[2], rows[3], dY, trial_eps if eps is None else eps,
                     trial_momentum if momentum is None else momentum)

    random = numpy.random.RandomState(rank)
    shape = (6, 3) if rank == 2 else (3, 2, 2, 3)
    one = (1, shape[1]) + (1,) * (rank - 2)
    return [
        by_hand(X, (1, 1), (0, 0), (0, 0), (0, 0), 1e-5, 0.9),
        by_hand(X, (2, 3), (1, 10), (1, 2), (5, 12), 4.0, 0.75),
        # so small that eps counts
        by_hand(X / 1000, (2, 3), (1, 10), (0, 1e-3), (5e-6, 1e-5), 1e-5, 0.9, divided=', all divided by 1000'),
        Trial(f'a random X of shape {shape}', random.randn(*shape) * 2 + 1, random.uniform(0.5, 2, one),
              random.randn(*one), random.randn(*one), random.uniform(1, 2, one), random.randn(*shape),
              0.7 if eps is None else eps, 0.6 if momentum is None else momentum)]


def offset_trial(rank: int, eps: Optional[float] = None, momentum: Optional[float] = None) -> Trial:
    """The worked example far from 0, where float32 holds X and X - mean exactly, but not X * X."""
    trial = trials(rank, eps, momentum)[0]
    return trial._replace(X=trial.X + 30000, words=trial.words + ', all plus 30000')


def upstream(trial: Trial) -> str:
    """The gradient that comes from above, as the sentence goes on with it."""
    return '' if 'random' in trial.words else f' and dY = {trial.dY.astype(int).tolist()}'
