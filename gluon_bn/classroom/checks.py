"""The checks of exercises 7 to 14: they judge the student's experiments and functions."""

from __future__ import annotations

import functools
import numbers
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import numpy

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
from mxnet import autograd, init, nd
from mxnet.gluon import Block, nn
from mxnet.ndarray import NDArray

from ..check.result import Finding, Result, Row, difference, same
from ..check.running.rows import Reporter
from ..check.running.student_code import TimeLimitedRunner
from .workbench import Setting, check_experiment, described, listed

SECONDS = 10
CONV = 'BatchNorm', 'Activation sigmoid', 'MaxPool2D'
LENET = ('Conv2D 6', *CONV, 'Conv2D 16', *CONV, 'Dense 120', *CONV[:2], 'Dense 84', *CONV[:2], 'Dense 10')
Table = Mapping[Any, Any]


def lenet(bn_lenet: Callable[[], Block], accuracies: Any, seeds: Sequence[int], learned: float) -> Result:
    """Exercise 7: the net, and its train accuracies with the same rate and epochs, one per seed."""
    net = _function(bn_lenet, {'the blocks of LeNet': lambda: _blocks(bn_lenet(), LENET, (2, 1, 28, 28))})
    case = Setting(LENET, num_epochs=None)
    given = listed(accuracies)
    trained = check_experiment('accuracies', {'bn': given or None}, {'bn': case}, seeds, 'train_acc')
    low = [value for value in given if isinstance(value, numbers.Real) and not float(value) > learned]
    found = [Finding('TooLow', f'one train accuracy is {min(low):.3f}, expected more than {learned:g}')] if low else []
    learned_row = Row('LeNet has learned', tuple(found), '' if given else 'no numbers to judge')
    return Result('LeNet', [*net.rows, *trained.rows, learned_row], net.printed)


def bias(bias_effect: Callable[..., Any], seeds: Sequence[int]) -> Result:
    """Exercise 8: the effect of a bias on the output, in training mode."""

    def effect(norms: Sequence[Block], expected: float) -> List[Finding]:
        found = []
        for seed in seeds:
            X, net = nd.array(numpy.random.RandomState(seed).randn(50, 7)), nn.Sequential()
            net.add(nn.Dense(5), *norms)
            net.initialize(init.Xavier(), force_reinit=True)
            net(X)
            net[0].bias.set_data(nd.arange(5))
            found += _equal('a shift of 2.5', 'bias_effect', expected, bias_effect(net, X, 2.5), 1e-3)
            if (net[0].bias.data() - nd.arange(5)).abs().max().asscalar():
                found.append(Finding('MutatesInput', 'the call should leave the bias of net unchanged'))
        return found

    judges = {'a dense layer alone': lambda: effect([], 2.5), 'a norm after it': lambda: effect([nn.BatchNorm()], 0)}
    return _function(bias_effect, judges)


def rates(accuracies: Table, seeds: Sequence[int]) -> Result:
    """Exercise 9: {('none' or 'bn', lr): train accuracies}."""
    chosen: Dict[str, List[float]] = {'none': [], 'bn': []}
    for key in accuracies if isinstance(accuracies, Mapping) else ():
        if not (isinstance(key, tuple) and len(key) == 2 and key[0] in chosen and isinstance(key[1], (int, float))):
            wrong = Finding('WrongReturn', f"a key should be like ('bn', 0.3), got {key!r}")
            return Result('rates', [Row('the keys of accuracies', (wrong,))])
        chosen[key[0]] = sorted([*chosen[key[0]], key[1]])
    nets = {'none': _mlp([None] * 3), 'bn': _mlp(['BatchNorm'] * 3)}
    cases = {(norm, lr): Setting(nets[norm], lr) for norm, lrs in chosen.items() for lr in lrs}
    result = check_experiment('accuracies', accuracies, cases, seeds, 'train_acc')
    found = []
    if not accuracies:
        found.append(Finding('NotWritten', 'accuracies is empty'))
    elif chosen['none'] != chosen['bn'] or len(cases) < 10 or chosen['bn'][0] > 0.03 or chosen['bn'][-1] < 10:
        found.append(Finding('OtherSetting', f'the rates are {chosen["none"]} without a norm, {chosen["bn"]} with one'))
    same_rates = Row('the same five or more rates for both nets, from 0.03 to 10', tuple(found))
    return Result('rates', [same_rates, *result.rows])


def places(mlp_with: Callable[[Any], Block], accuracies: Table, seeds: Sequence[int]) -> Result:
    """Exercise 10: {places: train accuracies}, for five choices of places."""
    nets = {chosen: _mlp(['BatchNorm' if i in chosen else None for i in (1, 2, 3)]) for chosen in PLACES}
    judges = {
        f'the blocks of mlp_with({chosen})': lambda chosen=chosen, net=net: _blocks(mlp_with(chosen), net, (2, 9))
        for chosen, net in nets.items()
    }
    cases = {chosen: Setting(net, 0.3) for chosen, net in nets.items()}
    return _both(_function(mlp_with, judges), check_experiment('', accuracies, cases, seeds, 'train_acc'))


PLACES: Tuple[Tuple[int, ...], ...] = ((), (1,), (2,), (3,), (1, 2, 3))


def dropout(gaps: Table, seeds: Sequence[int], tests: Table) -> Result:
    """Exercise 11: {net: train minus test accuracy} and {net: test accuracy}, for four nets."""
    kinds = {'neither': (None, False), 'dropout': (None, True), 'bn': ('BatchNorm', False), 'both': ('BatchNorm', True)}
    cases = {name: Setting(_mlp([norm] * 3, drops), 0.1, 30, 500) for name, (norm, drops) in kinds.items()}
    of_gaps = check_experiment('gaps', gaps, cases, seeds, 'gap')
    of_tests = check_experiment('tests', tests, cases, seeds, 'test_acc')
    rows = [row._replace(words=f'{of.title}: {row.words}') for of in (of_gaps, of_tests) for row in of.rows]
    return Result('gaps and tests', rows)


def fixed(mlp_fixed: Callable[[], Block], accuracies: Table, seeds: Sequence[int]) -> Result:
    """Exercise 12: {'learned' or 'fixed': train accuracies}."""
    nets = {'learned': _mlp(['BatchNorm'] * 3), 'fixed': _mlp(['BatchNorm gamma=fixed beta=fixed'] * 3)}
    judges = {'the blocks of mlp_fixed()': lambda: _blocks(mlp_fixed(), nets['fixed'], (2, 9))}
    cases = {name: Setting(net, 0.3) for name, net in nets.items()}
    return _both(_function(mlp_fixed, judges), check_experiment('', accuracies, cases, seeds, 'train_acc'))


def options(gluon_norm: Callable[[str], Block], accuracies: Table, seeds: Sequence[int]) -> Result:
    """Exercise 13: three of Gluon's layers, and {'default' or 'slow': test accuracies}."""
    images, rows = (nd.array(numpy.random.RandomState(0).randn(*shape) * 2 + 3) for shape in ((6, 4, 5, 7), (200, 5)))
    channel_means = images.mean(axis=(0, 1, 2)).asnumpy()

    def train_on(kind: str, X: NDArray) -> Tuple[Any, Any]:
        norm = gluon_norm(kind)
        norm.initialize()
        X.attach_grad()
        with autograd.record():
            Y = norm(X)
        Y.backward(nd.array(numpy.random.RandomState(1).randn(*X.shape)))  # Gluon moves its averages here
        return Y, norm.running_mean.data().asnumpy()

    def last() -> List[Finding]:
        return _equal('one training step', 'running_mean', 0.1 * channel_means, train_on('channels last', images)[1])

    def frozen() -> List[Finding]:
        Y, mean = train_on('frozen', rows)
        return [*_equal('one training step', 'running_mean', numpy.zeros(5), mean), *_equal('X', 'Y', rows, Y)]

    def slow() -> List[Finding]:
        return _equal('one training step', 'running_mean', 0.01 * rows.mean(axis=0), train_on('slow', rows)[1])

    slow_net = ['BatchNorm momentum=0.99'] * 3
    cases = {'default': Setting(_mlp(['BatchNorm'] * 3), 0.3), 'slow': Setting(_mlp(slow_net), 0.3)}
    layers = _function(gluon_norm, {'channels last': last, 'frozen': frozen, 'slow': slow})
    return _both(layers, check_experiment('', accuracies, cases, seeds, 'test_acc'))


def correlated(m: int, seed: int) -> NDArray:
    """A minibatch (m, 16) whose units are correlated, for exercise 14."""
    random = numpy.random.RandomState(seed)
    return nd.array(random.randn(m, 16) @ (random.randn(16, 16) + 2 * numpy.eye(16)) + 5)


def layer_norm(fn: Callable[..., Any]) -> Result:
    """Exercise 14: each example is normalized by itself."""
    X = correlated(4, 0)
    D = X.asnumpy() - X.asnumpy().mean(1, keepdims=True)
    expected = D / numpy.sqrt((D**2).mean(1, keepdims=True) + 0.1)
    return _function(fn, {'layer_norm': lambda: _equal('four examples, eps 0.1', 'Y', expected, fn(X, 0.1), 1e-4)})


def whitening(whiten: Callable[..., Any], directions: Table, seeds: Sequence[int]) -> Result:
    """Exercise 14: whitening, and {m: how many directions of its output have a variance above 0.5}."""
    X = correlated(500, 0)

    def moments() -> List[Finding]:
        Y = _array(whiten(X, 1e-6))
        found = _equal('500 examples', 'the mean of Y', numpy.zeros(16), Y.mean(0), 1e-3)
        return found or _equal('500 examples', 'the covariance of Y', numpy.eye(16), Y.T @ Y / 500, 1e-2)

    def counts(m: int) -> List[Finding]:
        if directions.get(m) is None:
            return [Finding('NotWritten', f'directions[{m}] has no numbers yet')]
        covariances = [numpy.cov(_array(whiten(correlated(m, seed), 1e-5)).T, bias=True) for seed in seeds]
        counted = [int((numpy.linalg.eigvalsh(covariance) > 0.5).sum()) for covariance in covariances]
        return _equal(f'{m} examples, by seed', 'directions', numpy.array(counted), numpy.array(directions[m]))

    judges: Dict[str, Judge] = {'whiten: mean 0, covariance 1': moments}
    for m in (100, 8):
        judges[f'directions left of 16, with {m} examples'] = functools.partial(counts, m)
    return _function(whiten, judges)


Judge = Callable[[], List[Finding]]


def _function(fn: Callable[..., Any], judges: Mapping[str, Judge]) -> Result:
    """Run each judge of a student's function, one row each."""
    runner, reporter = TimeLimitedRunner(fn, SECONDS), Reporter()
    rows = [reporter.row(words, functools.partial(runner.run, judge)) for words, judge in judges.items()]
    return Result(getattr(fn, '__name__', repr(fn)), rows, runner.printed)


def _both(function: Result, experiment: Result) -> Result:
    return Result(function.title, [*function.rows, *experiment.rows], function.printed)


def _mlp(norms: Sequence[Any], drops: bool = False) -> Tuple[str, ...]:
    """The blocks of the workbench's net, with these norms and perhaps dropout."""
    blocks: List[str] = []
    for norm in norms:
        blocks += ['Dense 64', *([norm] if norm else []), 'Activation relu', *['Dropout 0.5'] * drops]
    return (*blocks, 'Dense 10')


def _blocks(net: Any, expected: Sequence[str], shape: Tuple[int, ...]) -> List[Finding]:
    if not isinstance(net, Block):
        return [Finding('ReturnsNone' if net is None else 'WrongReturn', f'expected a net, got {net!r}')]
    net.initialize(init.Xavier(), force_reinit=True)
    if described(net):
        net(nd.zeros(shape))
    got, wanted = [*described(net), 'nothing'], [*expected, 'nothing']
    place = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), None)
    if place is None:
        return []
    return [Finding('OtherNet', f'block {place} should be {wanted[place]}, yours is {got[place]}')]


def _equal(description: str, quantity: str, expected: Any, actual: Any, tolerance: float = 1e-2) -> List[Finding]:
    right, yours = _array(expected), _array(actual)
    if same(yours, right, rtol=tolerance, atol=tolerance):
        return []
    return [Finding('WrongOutput', difference(description, quantity, right, yours))]


def _array(values: Any) -> Any:
    return numpy.atleast_1d(values.asnumpy() if isinstance(values, NDArray) else numpy.asarray(values, 'float64'))
