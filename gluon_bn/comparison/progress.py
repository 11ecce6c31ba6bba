"""The progress of a comparison: bars on a terminal and in a notebook, otherwise a line per epoch."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Dict, Optional

from tqdm.auto import tqdm

from ..system.interpreter import in_notebook
from ..training import Epoch
from .report import minutes, three_digits
from .task import Failed, Finished, Message, Started, Trained


class Progress:
    """Shows the progress of runs that train at the same time, each under its name."""

    def __init__(self, show: bool, num_epochs: int) -> None:
        self.show, self.num_epochs = show, num_epochs
        self.left: Optional[float] = None  # seconds until the last run has finished
        self.bars: Optional[Dict[str, Any]] = {} if show and (sys.stderr.isatty() or in_notebook()) else None

    def update(self, name: str, message: Message) -> None:
        """Show a message of the run with this name."""
        if isinstance(message, (Finished, Failed)):
            self._remove(name)
            if isinstance(message, Failed):
                self.say(f'{name}: {message.reason}')
        elif self.bars is None:
            if isinstance(message, Epoch):
                left = f'; {minutes(self.left)} left' if self.left else ''
                self.say(
                    f'{name}: epoch {message.epoch}/{self.num_epochs}, loss {three_digits(message.loss)}, train acc '
                    f'{message.train_acc:.3f}, test acc {message.test_acc:.3f}, {message.seconds:.1f} s{left}'
                )
        elif isinstance(message, Started):
            total, initial = message.total, message.initial
            self.bars[name] = tqdm(desc=name, total=total, initial=initial, unit='batch', leave=False)
        elif isinstance(message, Trained):
            shown = {**message.shown, 'all_runs_left': minutes(self.left) if self.left else '?'}
            self.bars[name].set_postfix(shown, refresh=False)
            self.bars[name].update(message.minibatches)

    def say(self, text: str) -> None:
        if self.show:
            with contextlib.suppress(BrokenPipeError):  # the reader is gone, but the training continues
                tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Remove the remaining bars."""
        for name in list(self.bars or ()):
            self._remove(name)

    def _remove(self, name: str) -> None:
        if self.bars and name in self.bars:
            self.bars.pop(name).close()
