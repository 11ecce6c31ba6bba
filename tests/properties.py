"""Properties of every batch normalization, for arrays of any shape, size and precision; hypothesis draws them.

Each property is a function (fn, case) that asserts. How far a result may be from float64 is derived for each channel:

    u   the error of one rounding: eps of the type in which fn computes (float32 for float16)
    s   sqrt(var + eps), by which the channel is divided
    k   u * max|X| / s: how far rounding the channel's mean moves X_hat
    e   the error of X_hat: u * (1 + max|X_hat|), or (u + k) * (1 + max|X_hat|) if the rounded mean is used
"""

from typing import NamedTuple, Tuple

import numpy
import oracle
from hypothesis import strategies as st
from mxnet import MXNetError, autograd, nd

from gluon_bn import fused_batch_norm
from gluon_bn.norm import batch_norm_portable

ROUNDINGS = 4  # a result is rounded several times: sums, mean, root, quotient, product, sum
LARGEST = {"float16": 1e4, "float32": 1e6, "float64": 1e6}  # offset or scale: float16 ends at 65504


class Case(NamedTuple):
    """A minibatch with its parameters and options. A channel's kind is its offset, scale and gamma."""

    shape: Tuple[int, ...]
    kinds: Tuple[Tuple[float, float, float], ...]  # one per channel, repeated cyclically
    dtype: str = "float32"
    eps: float = 1e-5
    momentum: float = 0.9
    train_mode: bool = True
    seed: int = 0

    def arrays(self):
        """Return X, gamma, beta, moving_mean, moving_var and dY in float64, with values that dtype can represent."""
        X, gamma, *others = oracle.draw(self.shape, seed=self.seed)
        offset, scale, gamma[:] = (numpy.resize(part, self.shape[1]).reshape(gamma.shape) for part in zip(*self.kinds))
        largest = LARGEST[self.dtype]
        X = numpy.clip(offset, -largest, largest) + numpy.clip(scale, 0, largest) * X
        return oracle.rounded((X, gamma, *others), self.dtype)

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
    """Y, the statistics and the gradients equal those of NumPy in float64, up to rounding."""
    *arrays, dY = case.arrays()
    largest = float(numpy.finfo(case.dtype).max)  # larger values correctly become infinite
    for name, actual, expected, tolerance in zip(
        oracle.RESULTS, case.run(fn, arrays, dY), expected_of(case), tolerances(fn, case)
    ):
        assert actual.shape == expected.shape, name
        error = numpy.abs(numpy.clip(actual, -largest, largest) - numpy.clip(expected, -largest, largest))
        worst = (error / tolerance).max()
        assert worst <= 1, f"{name} is off by {worst:.3g} times what rounding explains"


def expected_of(case):
    """Return the RESULTS from NumPy in float64."""
    return (oracle.train if case.train_mode else oracle.predict)(*case.arrays(), case.eps, case.momentum)


def tolerances(fn, case):
    """Return the tolerance for each of the RESULTS, per value or per channel."""
    X, gamma, beta, moving_mean, moving_var, dY = (numpy.abs(array) for array in case.arrays())
    axes = oracle.axes_of(X)
    u, s, _, X_hat, e = conditioning(fn, case)
    D = oracle.centred(case.arrays()[0])[0]
    derived = (
        gamma * e + u * beta,
        u * (moving_mean + X.max(axes, keepdims=True)),
        # the squared rounding error of the mean adds to the variance; native takes differences from the channel's first
        # value, whose squared distance from the mean may be many variances
        u * (moving_var + D**2).max(axes, keepdims=True) + (u * X.max(axes, keepdims=True)) ** 2,
        gamma / s * dY.max(axes, keepdims=True) * (1 + X_hat) * e,
        dY.sum(axes, keepdims=True) * e,
        dY.sum(axes, keepdims=True) * u,
    )
    own = numpy.finfo(case.dtype)  # the type of the results, the smallest of which are multiples of tiny * eps
    return [
        ROUNDINGS * tolerance + own.eps * numpy.abs(expected) + own.tiny * own.eps
        for tolerance, expected in zip(derived, expected_of(case))
    ]


def conditioning(fn, case):
    """Return u, s, k, max|X_hat| and e, defined at the top of this file."""
    X, _, _, moving_mean, moving_var, _ = case.arrays()
    axes = oracle.axes_of(X)
    D, _, var = oracle.centred(X) if case.train_mode else (X - moving_mean, moving_mean, moving_var)
    u = numpy.finfo("float32" if case.dtype == "float16" else case.dtype).eps
    # native always sums in float64: for float64 input, the roundings of successive sums accumulate
    in_float64 = fn is fused_batch_norm and case.dtype == "float64"
    if in_float64:
        u *= numpy.sqrt(X.size / X.shape[1])
    s = numpy.sqrt(var + case.eps)
    k = u * numpy.abs(X).max(axes, keepdims=True) / s
    X_hat = numpy.abs(D).max(axes, keepdims=True) / s + k
    # the fused paths remove the rounding error of the mean, native with float64's extra digits
    rounded = fn not in (batch_norm_portable, fused_batch_norm) or in_float64
    return u, s, k, X_hat, (u + k * (rounded and case.train_mode)) * (1 + X_hat)


def the_gradient_is_the_slope(fn, case):
    """Each gradient along a random direction equals the slope of fn's own results, in float64."""
    case = case._replace(dtype="float64")
    *arrays, dY = case.arrays()
    axes, random = oracle.axes_of(dY), numpy.random.RandomState(case.seed + 1)

    def value(*arrays):
        """Return sum(Y * dY) per channel."""
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
        assert worst <= 1, f"{oracle.RESULTS[3 + i]} is off by {worst:.3g} times what rounding and the curve explain"


def a_poisoned_channel_stays_alone(fn, case):
    """NaN or infinity in one channel does not change a bit of the others."""
    *arrays, dY = case.arrays()
    channels, random = arrays[0].shape[1], numpy.random.RandomState(case.seed + 2)
    channel, which = random.randint(channels), random.randint(len(arrays))
    clean = case.run(fn, arrays, dY)
    place = random.randint(arrays[which].shape)
    place[1] = channel
    arrays[which][tuple(place)] = random.choice([numpy.nan, numpy.inf, -numpy.inf])
    others = numpy.arange(channels) != channel
    for name, before, after in zip(oracle.RESULTS, clean, case.run(fn, arrays, dY)):
        assert numpy.array_equal(before[:, others], after[:, others]), f"{name} of another channel has changed"


def the_books_are_kept(fn, case):
    """fn changes none of its arguments, and the new statistics are detached, even if the old ones are not."""
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
