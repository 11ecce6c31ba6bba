"""What must hold of every batch normalization, for arrays of any shape, size and precision; hypothesis draws them.

Each property is a function (fn, case) that asserts. How far a result may be from float64 is derived for each channel:

    u   what one rounding costs: eps of the type in which fn computes (float32 for float16)
    s   sqrt(var + eps), by which the channel is divided
    k   u * max|X| / s: what rounding the channel's mean moves X_hat by
    e   the error of X_hat: u * (1 + max|X_hat|); k times as much again where the mean is used as it was rounded
"""

from typing import NamedTuple, Tuple

import numpy
import oracle
from hypothesis import strategies as st
from mxnet import MXNetError, autograd, nd

from gluon_bn import fused_batch_norm
from gluon_bn.norm import batch_norm_portable

ROUNDINGS = 4  # a result goes through several: sums, mean, root, quotient, product, sum
LARGEST = {"float16": 1e4, "float32": 1e6, "float64": 1e6}  # offset or scale: float16 ends at 65504
RESULTS = ("Y", "moving_mean", "moving_var", "dX", "dgamma", "dbeta")


class Case(NamedTuple):
    """A minibatch and all that goes with it. A channel's kind is its offset, its scale and its gamma."""

    shape: Tuple[int, ...]
    kinds: Tuple[Tuple[float, float, float], ...]  # for one channel after another, again and again
    dtype: str = "float32"
    eps: float = 1e-5
    momentum: float = 0.9
    train_mode: bool = True
    seed: int = 0

    def arrays(self):
        """X, gamma, beta, moving_mean, moving_var and dY in float64, all of them numbers that dtype can hold."""
        X, gamma, *others = oracle.draw(self.shape, seed=self.seed)
        offset, scale, gamma[:] = (numpy.resize(part, self.shape[1]).reshape(gamma.shape) for part in zip(*self.kinds))
        largest = LARGEST[self.dtype]
        X = numpy.clip(offset, -largest, largest) + numpy.clip(scale, 0, largest) * X
        return [array.astype(self.dtype).astype("float64") for array in (X, gamma, *others)]

    def run(self, fn, arrays, dY):
        return oracle.run(fn, nd, arrays, dY, self.eps, self.momentum, self.dtype, self.train_mode)


SHAPES = st.one_of(
    st.tuples(st.integers(2, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)).filter(
        lambda shape: shape[0] * shape[2] * shape[3] > 1
    ),
    st.sampled_from([(4999, 1), (2, 1), (7, 1, 1, 1), (1, 1, 61, 67), (3, 70, 1, 1), (2, 33, 31, 1), (257, 33)]),
)
KINDS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, -1e2, 1e4, -1e6, 1e6]),
        st.sampled_from([1.0, 0.0, 1e-6, 1e-3, 1e3, 1e6]),  # 0: a constant channel
        st.sampled_from([1.0, 0.0, -0.7, 30.0]),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
CASES = st.builds(
    Case,
    shape=SHAPES,
    kinds=KINDS,
    dtype=st.sampled_from(sorted(LARGEST)),
    eps=st.sampled_from([1e-5, 1e-3, 1e-8]),
    momentum=st.sampled_from([0.9, 0.5, 0.0, 1.0]),
    train_mode=st.booleans(),
    seed=st.integers(0, 999),
)


def agrees_with_float64(fn, case):
    """Y, the statistics and the gradients are those of NumPy in float64, as near as rounding lets them be."""
    *arrays, dY = case.arrays()
    largest = float(numpy.finfo(case.dtype).max)  # what a type cannot hold is infinite in it, and rightly so
    for name, actual, expected, tolerance in zip(
        RESULTS, case.run(fn, arrays, dY), expected_of(case), tolerances(fn, case)
    ):
        assert actual.shape == expected.shape, name
        error = numpy.abs(numpy.clip(actual, -largest, largest) - numpy.clip(expected, -largest, largest))
        worst = (error / tolerance).max()
        assert worst <= 1, f"{name} is off by {worst:.3g} times what rounding explains"


def expected_of(case):
    """The RESULTS by NumPy in float64."""
    X, gamma, beta, moving_mean, moving_var, dY = case.arrays()
    if not case.train_mode:
        return oracle.predict(X, gamma, beta, moving_mean, moving_var, case.eps, dY)
    Y, mean, var = oracle.forward(X, gamma, beta, case.eps)
    return (
        Y,
        case.momentum * moving_mean + (1 - case.momentum) * mean,
        case.momentum * moving_var + (1 - case.momentum) * var,
        *oracle.backward(X, gamma, case.eps, dY),
    )


def tolerances(fn, case):
    """How far each of the RESULTS may be off, by value or by channel."""
    X, gamma, beta, moving_mean, moving_var, dY = (numpy.abs(array) for array in case.arrays())
    axes = oracle.axes_of(X)
    u, s, _, X_hat, e = conditioning(fn, case)
    D = oracle.centred(case.arrays()[0])[0]
    derived = (
        gamma * e + u * beta,
        u * (moving_mean + X.max(axes, keepdims=True)),
        # the square of what rounding moves the mean by is added to the variance; native counts from the channel's first
        # value, whose distance from the mean squared may be a good many variances
        u * (moving_var + D**2).max(axes, keepdims=True) + (u * X.max(axes, keepdims=True)) ** 2,
        gamma / s * dY.max(axes, keepdims=True) * (1 + X_hat) * e,
        dY.sum(axes, keepdims=True) * e,
        dY.sum(axes, keepdims=True) * u,
    )
    own = numpy.finfo(case.dtype)  # in which each result ends, the smallest ones as multiples of tiny * eps
    return [
        ROUNDINGS * tolerance + own.eps * numpy.abs(expected) + own.tiny * own.eps
        for tolerance, expected in zip(derived, expected_of(case))
    ]


def conditioning(fn, case):
    """u, s, k, max|X_hat| and e, as the head of this file has them."""
    X, _, _, moving_mean, moving_var, _ = case.arrays()
    axes = oracle.axes_of(X)
    D, _, var = oracle.centred(X) if case.train_mode else (X - moving_mean, moving_mean, moving_var)
    u = numpy.finfo("float32" if case.dtype == "float16" else case.dtype).eps
    # native sums in float64, whatever the type: for float64 itself the roundings of one sum after another add up
    in_float64 = fn is fused_batch_norm and case.dtype == "float64"
    if in_float64:
        u *= numpy.sqrt(X.size / X.shape[1])
    s = numpy.sqrt(var + case.eps)
    k = u * numpy.abs(X).max(axes, keepdims=True) / s
    X_hat = numpy.abs(D).max(axes, keepdims=True) / s + k
    # the fused paths take out what rounding left of the mean, native by means of float64's finer digits
    rounded = fn not in (batch_norm_portable, fused_batch_norm) or in_float64
    return u, s, k, X_hat, (u + k * (rounded and case.train_mode)) * (1 + X_hat)


def the_gradient_is_the_slope(fn, case):
    """Each gradient, along a random direction, is the slope of fn's own results there; in float64."""
    case = case._replace(dtype="float64")
    *arrays, dY = case.arrays()
    axes, random = oracle.axes_of(dY), numpy.random.RandomState(case.seed + 1)

    def value(*arrays):
        """sum(Y * dY) of each channel."""
        with autograd.train_mode() if case.train_mode else autograd.predict_mode():
            Y = fn(*(nd.array(array, dtype="float64") for array in arrays), case.eps, case.momentum)[0]
        return (Y.asnumpy() * dY).sum(axes, keepdims=True)

    u, s, k, X_hat, e = conditioning(fn, case)
    step = 1e-4  # in units of s: of the curve step squared is left, of each rounding, X's among them, 1 / step
    gamma, beta = (numpy.abs(array) for array in arrays[1:3])
    curve = 10 * gamma * (1 + X_hat) * step**2  # the third derivative of 1 / sqrt(1 + t^2) and t / sqrt(1 + t^2)
    rounding = ROUNDINGS * ((gamma + step) * (e + k) + u * beta) / step
    tolerance = numpy.abs(dY).sum(axes, keepdims=True) * (curve + rounding)
    gradients = case.run(fn, arrays, dY)[3:]
    for i, unit in enumerate((s, 1.0, 1.0)):
        direction = random.randn(*arrays[i].shape) * unit
        ahead, behind = ([*arrays[:i], arrays[i] + way * direction, *arrays[i + 1 :]] for way in (step, -step))
        slope = (value(*ahead) - value(*behind)) / (2 * step)
        expected = (gradients[i] * direction).sum(axes, keepdims=True)
        worst = (numpy.abs(slope - expected) / tolerance).max()
        assert worst <= 1, f"{RESULTS[3 + i]} is off by {worst:.3g} times what rounding and the curve explain"


def a_poisoned_channel_stays_alone(fn, case):
    """NaN or infinity in one channel leaves the others bit for bit what they are without it."""
    *arrays, dY = case.arrays()
    channels, random = arrays[0].shape[1], numpy.random.RandomState(case.seed + 2)
    channel, which = random.randint(channels), random.randint(len(arrays))
    clean = case.run(fn, arrays, dY)
    place = random.randint(arrays[which].shape)
    place[1] = channel
    arrays[which][tuple(place)] = random.choice([numpy.nan, numpy.inf, -numpy.inf])
    others = numpy.arange(channels) != channel
    for name, before, after in zip(RESULTS, clean, case.run(fn, arrays, dY)):
        assert numpy.array_equal(before[:, others], after[:, others]), f"{name} of another channel has changed"


def the_books_are_kept(fn, case):
    """Nothing that fn was given is changed, and the new statistics hang on no graph, even where the old ones do."""
    arrays = [nd.array(array, dtype=case.dtype) for array in case.arrays()[:5]]
    before = [array.asnumpy() for array in arrays]
    for array in arrays[:3]:
        array.attach_grad()
    with autograd.record(train_mode=case.train_mode):
        fn(*arrays, case.eps, case.momentum)
    for array, old in zip(arrays, before):
        assert numpy.array_equal(array.asnumpy(), old), "an argument has changed"
    with autograd.record():
        of_a_graph = [array + 0 * arrays[1] for array in arrays[3:]]
        _, *statistics = fn(*arrays[:3], *of_a_graph, case.eps, case.momentum)
    for statistic in statistics:
        try:
            statistic.backward()
        except MXNetError:
            continue
        raise AssertionError("a statistic hangs on the graph")


PROPERTIES = (agrees_with_float64, the_gradient_is_the_slope, a_poisoned_channel_stays_alone, the_books_are_kept)
