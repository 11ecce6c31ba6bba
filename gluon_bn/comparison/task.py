"""What `compare` and the processes of its runs send each other."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Optional, Union, get_args

from ..norm import choose
from ..system.processes import Content, Crashed
from ..training import Checkpoint, Epoch
from .configuration import Configuration
from .summary import SideBySide


@dataclasses.dataclass(frozen=True)
class Task:
    """A net to train by one norm from one seed, or, without a norm, the chapter's maths beside the fused one.

    folder: that of the comparison; root: that of the data.
    """

    configuration: Configuration
    norm: Optional[str]
    seed: int
    folder: str
    root: Optional[str]

    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the run, in the folder of its comparison."""
        shared = {
            name: value
            for name, value in dataclasses.asdict(self.configuration).items()
            if name not in ('norms', 'seeds')
        }
        configuration = {'norm': self.norm, 'seed': self.seed, **shared}
        if self.norm == 'fused':
            configuration['GLUON_BN_FUSED'] = choose()[0]  # the two paths round differently
        configuration['OMP_NUM_THREADS'] = threads()  # which split a sum, and so round differently too
        return Checkpoint(Path(self.folder, 'nets', f'{self.norm}-{self.seed}.checkpoint'), configuration)

    @property
    def net_file(self) -> Path:
        """The file of the trained net, beside the checkpoint."""
        return Path(self.folder, 'nets', f'{self.norm}-{self.seed}.params')

    @property
    def log(self) -> Path:
        """The file for the traceback of a run that fails; it is made only then."""
        return Path(self.folder, f'{self.norm}-{self.seed}.log' if self.norm else 'beside.log')


def threads() -> str:
    """How many threads a run has, as OMP_NUM_THREADS says it: one, unless that is set."""
    return os.environ.get('OMP_NUM_THREADS') or '1'


@dataclasses.dataclass(frozen=True)
class Started:
    """The training begins, with `initial` of its `total` minibatches behind it."""

    total: int
    initial: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """So many more minibatches; shown: what a progress bar shows after them."""

    minibatches: int
    shown: Dict[str, str]


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is over, and its net is written. test_acc_estimated: None without batch normalization."""

    test_acc_estimated: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Failed:
    """The run is over, without a result."""

    reason: str
    diverged: bool = False


Message = Union[Started, Trained, Epoch, Finished, SideBySide, Failed]
TYPES: Dict[str, Any] = {kind.__name__: kind for kind in get_args(Message)}


def task_from(content: Content) -> Task:
    """The `Task` whose `dataclasses.asdict` came as JSON."""
    return Task(**{**content, 'configuration': Configuration(**content['configuration'])})


def content_of(message: Message) -> Content:
    return {type(message).__name__: dataclasses.asdict(message)}


def message_from(content: Union[Content, Crashed]) -> Message:
    if isinstance(content, Crashed):
        return Failed(content.reason)
    ((kind, fields),) = content.items()
    message: Message = TYPES[kind](**fields)
    return message
