"""The messages between `compare` and the processes of its runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Optional, Union, get_args

from ..system.processes import Content, Crashed
from ..training import Checkpoint, Epoch
from ..workers.parameter_server import Role
from .configuration import Configuration
from .summary import SideBySide


@dataclasses.dataclass(frozen=True)
class Task:
    """A net to train with one norm from one seed; without a norm, the chapter's maths beside the fused one.

    folder: the comparison's; root: the data's; environment: the variables that the comparison sets for its runs.
    role: of the process, if several train together.
    """

    configuration: Configuration
    norm: Optional[str]
    seed: int
    folder: str
    root: Optional[str]
    environment: Dict[str, str]
    role: Optional[Role] = None

    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the run, in the folder of its comparison."""
        configuration = {'norm': self.norm, 'seed': self.seed, **dataclasses.asdict(self.configuration)}
        del configuration['norms'], configuration['seeds']
        # These change the order of additions, and so the rounding.
        names = ['OMP_NUM_THREADS', *(('GLUON_BN_FUSED', 'GLUON_BN_ISA') if self.norm == 'fused' else ())]
        configuration.update({name: self.environment[name] for name in names if name in self.environment})
        return Checkpoint(Path(self.folder, 'nets', f'{self.norm}-{self.seed}.checkpoint'), configuration)

    @property
    def net_file(self) -> Path:
        """The file of the trained net, beside the checkpoint."""
        return Path(self.folder, 'nets', f'{self.norm}-{self.seed}.params')

    @property
    def log(self) -> Path:
        """The file for the traceback of a failed run; created only if needed."""
        return Path(self.folder, f'{self.norm}-{self.seed}.log' if self.norm else 'beside.log')


@dataclasses.dataclass(frozen=True)
class Started:
    """The training starts; `initial` of its `total` minibatches were trained before."""

    total: int
    initial: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """The number of minibatches since the last message; shown: what a progress bar shows after them."""

    minibatches: int
    shown: Dict[str, str]


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run has finished, and its net is written. test_acc_estimated: None without batch normalization."""

    test_acc_estimated: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Joined:
    """A worker has joined the others; MXNet gave its process this number."""

    number: int


@dataclasses.dataclass(frozen=True)
class Silent:
    """The process to which MXNet gave this number is stopped, or cannot be reached."""

    number: int


@dataclasses.dataclass(frozen=True)
class Failed:
    """The run ended without a result."""

    reason: str
    diverged: bool = False


Message = Union[Started, Trained, Epoch, Finished, SideBySide, Joined, Silent, Failed]
TYPES: Dict[str, Any] = {kind.__name__: kind for kind in get_args(Message)}


def task_from(content: Content) -> Task:
    """Rebuild a `Task` from the JSON of its `dataclasses.asdict`."""
    role = content['role'] and Role(**content['role'])
    return Task(**{**content, 'configuration': Configuration(**content['configuration']), 'role': role})


def content_of(message: Message) -> Content:
    return {type(message).__name__: dataclasses.asdict(message)}


def message_from(content: Union[Content, Crashed]) -> Message:
    if isinstance(content, Crashed):
        return Failed(content.reason)
    ((kind, fields),) = content.items()
    message: Message = TYPES[kind](**fields)
    return message
