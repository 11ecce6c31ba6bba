"""The workbench of the exercises: it trains nets in comparable ways, and checks tables of their results.

`fit` records a `Run` of each training. `check_experiment` finds the run behind each number of a student's table, and
checks that the right nets were trained with each seed, and that only one thing differs between them.
"""

from __future__ import annotations

import functools
import hashlib
import numbers
import time
from dataclasses import dataclass, fields, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
from mxnet import autograd, init
from mxnet.gluon import Block, nn

from ..check.result import Finding, Result, Row
from ..data import Minibatches, load_data_fashion_mnist
from ..errors import InputError
from ..training import Diverged, evaluate_accuracy, seed_everything, train
from ..training.blocks import blocks_of

RUNS: List[Run] = []  # of this kernel
ROUNDED = 6e-4  # so that three decimals of an accuracy are enough


@dataclass(frozen=True)
class Setting:
    """The settings of a training. net: its blocks, as `described` names them. In a case, None allows any value."""

    net: Tuple[str, ...]
    lr: Optional[float] = None
    num_epochs: Optional[int] = 4
    num_train: Optional[int] = 3000


@dataclass(frozen=True)
class Run(Setting):
    """One training and its accuracies, from 0 to 1.

    start: a digest of the first weights and of the order of the minibatches.
    loss, train_acc: means over the last epoch, in training mode; the loss is nan if the training diverged.
    test_acc: after the last epoch, in prediction mode. gap: train minus test accuracy, both in prediction mode.
    """

    seed: int = 0
    start: str = ''
    loss: float = numpy.nan
    train_acc: float = 0.0
    test_acc: float = 0.0
    gap: float = 0.0
    seconds: float = 0.0

    def __repr__(self) -> str:
        return f'loss {self.loss:.3f}, train_acc {self.train_acc:.3f}, test_acc {self.test_acc:.3f}, gap {self.gap:.3f}'


def fit(net: Block, lr: float, num_epochs: int = 4, num_train: int = 3000, seed: int = 0) -> Run:
    """Train a net from new weights on num_train images, in minibatches of 100, and test it on 2,000 others.

    With the same seed, all nets see the same minibatches and start from the same weights in the layers that they share.
    All weights are drawn before the first step, because dropout draws from the same generator.

    Raises: InputError if `net` is not a net.
    """
    if not isinstance(net, Block):
        raise InputError(f'must be a net, got {net!r}; does your function return the net?', 'net')
    start, (train_iter, test_iter) = time.perf_counter(), _data(num_train)
    seed_everything(seed)
    net.initialize(init.Xavier(), force_reinit=True)
    with autograd.predict_mode():
        net(train_iter.X[:2])
    digest = hashlib.sha256(numpy.random.get_state(legacy=False)['state']['key'].tobytes())
    for block in blocks_of(net):
        if hasattr(block, 'weight'):
            digest.update(block.weight.data().asnumpy().tobytes())
    few = Minibatches(
        test_iter.X[:100], test_iter.y[:100], 100, shuffle=False
    )  # testing on all images after each epoch takes too long
    loss, train_acc = numpy.nan, None
    try:
        last = train(net, train_iter, few, num_epochs, lr, initialize=False, plot=False, progress=False)[-1]
        loss, train_acc = last.loss, last.train_acc
    except Diverged:
        pass
    predicted = evaluate_accuracy(net, Minibatches(train_iter.X, train_iter.y, 500, shuffle=False))
    test_acc = evaluate_accuracy(net, test_iter)
    run = Run(
        described(net),
        lr,
        num_epochs,
        num_train,
        seed,
        digest.hexdigest(),
        loss,
        predicted if train_acc is None else train_acc,
        test_acc,
        predicted - test_acc,
        time.perf_counter() - start,
    )
    RUNS.append(run)
    return run


@functools.lru_cache(maxsize=None)
def _data(num_train: int) -> Tuple[Minibatches, Minibatches]:
    train_iter, test_iter = load_data_fashion_mnist(100, num_train=num_train, num_test=2000)
    return train_iter, Minibatches(test_iter.X, test_iter.y, 500, shuffle=False)  # larger minibatches predict faster


def described(net: Block) -> Tuple[str, ...]:
    """Return a name for each block of a sequential net, with the settings that differ from Gluon's defaults."""
    names: List[str] = []
    for block in net._children.values():
        name = type(block).__name__
        if isinstance(block, (nn.Sequential, nn.HybridSequential)):
            names += described(block)
        elif isinstance(block, (nn.Dense, nn.Conv2D)):
            names.append(f'{name} {block.weight.shape[0]}')
        elif isinstance(block, nn.Activation):
            names.append(f'{name} {block._act_type}')
        elif isinstance(block, nn.Dropout):
            names.append(f'{name} {block._rate:g}')
        elif isinstance(block, nn.BatchNorm):
            default = nn.BatchNorm()._kwargs
            differ = [key for key, value in block._kwargs.items() if value != default[key] and key != 'fix_gamma']
            changed = [f'{key}={block._kwargs[key]}' for key in differ]
            changed += [f'{name}=fixed' for name in ('gamma', 'beta') if getattr(block, name).grad_req == 'null']
            names.append(' '.join([name, *changed]))
        else:
            names.append(name)
    return tuple(names)


def check_experiment(
    title: str, table: Mapping[Any, Any], cases: Mapping[Any, Setting], seeds: Sequence[int], measure: str
) -> Result:
    """Check a student's table {name: [a number from each seed]} against the runs of `fit`.

    cases: the setting for each name. measure: the field of `Run` that the numbers should come from.
    """
    found: Dict[str, List[Finding]] = {words: [] for words in ROWS}
    if not isinstance(table, Mapping):
        found[FILLED].append(Finding('WrongReturn', f'{title or "the table"} should be a dict, got {table!r}'))
        table, cases = {}, {}
    starts: Dict[int, Tuple[str, Run]] = {}
    chosen: Dict[str, Any] = {}  # the first run's settings, where the cases leave a choice
    for name, case in cases.items():
        values = table.get(name)
        if values is None:
            found[FILLED].append(Finding('NotWritten', f'{name!r} has no numbers yet'))
            continue
        given = listed(values)
        if len(given) != len(seeds):
            found[FILLED].append(Finding('OneSeed', f'{name!r} has {len(given)} numbers, expected {len(seeds)}'))
        for seed, number in zip(seeds, given):
            of = f'{name!r}, seed {seed}'
            if not isinstance(number, numbers.Real):
                found[FILLED].append(Finding('WrongReturn', f'for {of}, expected a number, got {number!r}'))
                continue
            runs = [run for run in RUNS if abs(getattr(run, measure) - number) < ROUNDED]
            if not runs:
                found[MEASURED].append(Finding('NotMeasured', f'for {of}, no training here had {measure} {number:.4g}'))
                continue
            wanted = replace(case, **{key: value for key, value in chosen.items() if getattr(case, key) is None})
            run = min(runs, key=lambda run: len(_differences(run, wanted, seed)))
            chosen = {**{field.name: getattr(run, field.name) for field in fields(Setting)}, **chosen}
            differences = _differences(run, wanted, seed)
            for key, (got, expected) in differences.items():
                row, mistake = (NETS, 'OtherNet') if key == 'net' else (ALONE, 'OtherSetting')
                found[row].append(Finding(mistake, f'for {of}, {key} should be {expected}, yours is {got}'))
            first, other = (of, run) if differences else starts.setdefault(seed, (of, run))
            if run.start != other.start:
                found[ALONE].append(
                    Finding('OtherStart', f'{of} and {first} start from different weights or see different minibatches')
                )
    begun = any(table.get(name) is not None for name in cases)
    return Result(
        title,
        [
            Row(words, tuple(findings), '' if begun or findings else 'no numbers to judge')
            for words, findings in found.items()
        ],
    )


def listed(values: Any) -> List[Any]:
    """Return the numbers, or the single number, as a list; [] for None."""
    if values is None:
        return []
    return list(values) if isinstance(values, (list, tuple)) or getattr(values, 'ndim', 0) > 0 else [values]


FILLED = 'each net has a number for each seed'
MEASURED = 'each number comes from a training'
NETS = 'the nets are the right ones'
ALONE = 'nothing else differs: seed, rate, epochs, images, weights, minibatches'
ROWS = (FILLED, MEASURED, NETS, ALONE)


def _differences(run: Run, case: Setting, seed: int) -> Dict[str, Tuple[Any, Any]]:
    """Return {what differs: (its value in the run, the expected one)}."""
    expected = {field.name: getattr(case, field.name) for field in fields(Setting)}
    expected['seed'] = seed
    pairs = {key: (getattr(run, key), value) for key, value in expected.items() if value is not None}
    pairs = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    if 'net' in pairs:  # only the first difference
        got, wanted = (list(blocks) + ['nothing'] for blocks in pairs['net'])
        place = next(i for i, (a, b) in enumerate(zip(got, wanted)) if a != b)
        pairs['net'] = f'{got[place]} as block {place}', wanted[place]
    return pairs
