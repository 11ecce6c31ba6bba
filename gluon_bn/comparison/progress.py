"""What a comparison says while it trains: bars on a terminal and in a notebook, else a line an epoch."""
from __future__ import annotations

import contextlib
import sys

from tqdm.auto import tqdm

from ..system.interpreter import in_notebook
from .report import three_digits


class Progress:
    """Shows the messages of runs that train at the same time, each under its name."""

    def __init__(self, show):
        self.show = show
        self.bars = {} if sys.stderr.isatty() or in_notebook() else None

    def started(self, name, total, initial):
        """A run begins, with `initial` of its `total` minibatches behind it."""
        if self.show and self.bars is not None:
            self.bars[name] = tqdm(desc=name, total=total, initial=initial, unit='batch', leave=False)

    def update(self, name, minibatches, shown):
        if self.show and self.bars is not None:
            self.bars[name].set_postfix(shown, refresh=False)
            self.bars[name].update(minibatches)

    def epoch(self, name, num_epochs, epoch):
        """A run has measured an epoch, a dict as `training.Epoch` has."""
        if self.show and self.bars is None:
            self.say(f"{name}: epoch {epoch['epoch']}/{num_epochs}, loss {three_digits(epoch['loss'])}, train acc "
                     f"{epoch['train_acc']:.3f}, test acc {epoch['test_acc']:.3f}, {epoch['seconds']:.1f} s")

    def ended(self, name, how=None):
        """A run is over; `how` is said if something is to be said."""
        if self.bars and name in self.bars:
            self.bars.pop(name).close()
        if how:
            self.say(f'{name}: {how}')

    def say(self, text):
        if self.show:
            with contextlib.suppress(BrokenPipeError):  # whoever read it is gone: no reason to stop
                tqdm.write(text, file=sys.stderr)

    def close(self):
        """Take away the bars that are left."""
        for name in list(self.bars or ()):
            self.ended(name)
