"""What a comparison trains."""

from __future__ import annotations

import dataclasses
from typing import Collection, Optional, Sequence

from ..errors import InputError
from ..model import NORMS, POOLS
from ..system.arguments import check_count, is_whole, look_up
from ..training import check_schedule


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a comparison trains: every norm from every seed, all else equal.

    num_train: use only the first so many training examples, for a quick run.
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
                raise InputError(f'must be a tuple, got {values!r}; write ({values!r},) for a single value', name)
            values = list(values)
            if not values or any(value in values[:i] for i, value in enumerate(values)):
                raise InputError(f'must be non-empty, without duplicates, got {values}; name each once', name)
        num_epochs, lr = check_schedule(self.num_epochs, self.lr)
        batch_size = check_count('batch_size', self.batch_size)
        num_train = None if self.num_train is None else check_count('num_train', self.num_train, 60_000)
        for norm in self.norms:
            look_up('norms', norm, NORMS)
        look_up('pool', self.pool, POOLS)
        for seed in self.seeds:
            if not is_whole(seed, 0, 2**31 - 1):
                raise InputError(f'must be whole numbers from 0 to 2**31 - 1, got {seed!r}; for example 0', 'seeds')
        examples = num_train or 60_000
        if batch_size > examples:
            raise InputError(
                f'must be at most the number of training examples, {examples:,}, got {batch_size:,}; '
                'use smaller minibatches, or more examples',
                'batch_size',
            )
        if (examples % batch_size or batch_size) == 1 and any(NORMS[norm] for norm in self.norms):
            raise InputError(
                'must not leave a minibatch of a single example, from which batch normalization learns '
                f'nothing, got {batch_size} for {examples:,} examples; use another size',
                'batch_size',
            )
        # plain types, so that equal configurations compare equal and can be written as JSON
        self.__dict__.update(norms=tuple(self.norms), seeds=tuple(map(int, self.seeds)), num_epochs=num_epochs, lr=lr)
        self.__dict__.update(batch_size=batch_size, num_train=num_train)
