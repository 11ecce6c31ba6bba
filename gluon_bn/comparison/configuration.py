"""What a comparison trains."""
from __future__ import annotations

import dataclasses
import numbers
from typing import Collection, Optional, Sequence

from ..arguments import check_count, look_up
from ..model import NORMS, POOLS
from ..training import check_schedule


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a comparison trains: every norm from every seed, all else the same.

    num_train: only the first so many training examples, for a quick run.
    """

    norms: Sequence[str] = ('none', 'fused', 'gluon')
    num_epochs: int = 10
    lr: float = 1.0
    batch_size: int = 256
    seeds: Sequence[int] = (0, 1, 2)
    pool: str = 'max'
    num_train: Optional[int] = None

    def __post_init__(self) -> None:
        for name in ('norms', 'seeds'):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Collection):
                raise ValueError(f'{name} must be a tuple, got {values!r}; write ({values!r},) for one')
            if len(values) == 0 or len(set(values)) != len(values):
                raise ValueError(f'{name} must be one or more different ones, got {list(values)}')
        check_schedule(self.num_epochs, self.lr)
        check_count('batch_size', self.batch_size)
        if self.num_train is not None:
            check_count('num_train', self.num_train, 60_000)
        for norm in self.norms:
            look_up('norm', norm, NORMS)
        look_up('pool', self.pool, POOLS)
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2 ** 31:
                raise ValueError(f'seeds must be whole numbers from 0 to 2**31 - 1, got {seed!r}')
        if any(NORMS[norm] for norm in self.norms):
            self._check_smallest_minibatch()
        # Of one type each, whatever they came as, so that equal configurations are equal and can be written as JSON.
        plain = {'norms': tuple(self.norms), 'seeds': tuple(map(int, self.seeds)), 'lr': float(self.lr),
                 'num_epochs': int(self.num_epochs), 'batch_size': int(self.batch_size),
                 'num_train': None if self.num_train is None else int(self.num_train)}
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def _check_smallest_minibatch(self) -> None:
        num_train = self.num_train or 60_000
        smallest = num_train % self.batch_size or self.batch_size
        if smallest == 1:
            raise ValueError(f'batch_size must leave no minibatch of a single example, from which batch normalization '
                             f'learns nothing, got {self.batch_size} for {num_train:,} examples; take another')
