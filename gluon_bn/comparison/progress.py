"""The progress of a comparison: bars on a terminal and in a notebook, otherwise a line per epoch."""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Dict, Optional

from tqdm.auto import tqdm

from ..system.interpreter import in_notebook
from ..training import Epoch
from .report import three_digits
from .task import Started, Trained


class Progress:
    """Shows the progress of runs that train at the same time, each under its name."""

    def __init__(self, show: bool) -> None:
        self.show, self.bars = show, show and (sys.stderr.isatty() or in_notebook())
        self.open: Dict[str, Any] = {}

    def started(self, name: str, message: Started) -> None:
        if self.bars:
            self.open[name] = tqdm(desc=name, total=message.total, initial=message.initial, unit='batch', leave=False)

    def trained(self, name: str, message: Trained) -> None:
        if self.bars:
            self.open[name].set_postfix(message.shown, refresh=False)
            self.open[name].update(message.minibatches)

    def epoch(self, name: str, num_epochs: int, epoch: Epoch) -> None:
        if not self.bars:
            self.say(
                f'{name}: epoch {epoch.epoch}/{num_epochs}, loss {three_digits(epoch.loss)}, train acc '
                f'{epoch.train_acc:.3f}, test acc {epoch.test_acc:.3f}, {epoch.seconds:.1f} s'
            )

    def ended(self, name: str, reason: Optional[str] = None) -> None:
        """Remove the bar of a run, and say the reason if it failed."""
        if name in self.open:
            self.open.pop(name).close()
        if reason:
            self.say(f'{name}: {reason}')

    def say(self, text: str) -> None:
        if self.show:
            with contextlib.suppress(BrokenPipeError):  # the reader is gone, but the training continues
                tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Remove the remaining bars."""
        for name in list(self.open):
            self.ended(name)
