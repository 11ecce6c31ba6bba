"""`sync_batch_norm`, with threads as workers: any split of a minibatch gives the results of the whole."""

import warnings

import mxnet as mx
import numpy
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd, nd

from gluon_bn import BatchNorm, batch_norm, fused_batch_norm, sync_batch_norm
from gluon_bn.errors import InputError
from gluon_bn.norm.sync import merge_statistics
from gluon_bn.workers import Alone, Threads, joined


def shares_of(X, bounds):
    return [X[i:j] for i, j in zip([0, *bounds], [*bounds, len(X)])]


def run_shares(arrays, dY, bounds, front=nd, **options):
    """Run sync_batch_norm on the shares: (Y, moving_mean, moving_var, dX, dgamma, dbeta) of the whole minibatch."""
    X, *others = arrays
    shares = list(zip(shares_of(X, bounds), shares_of(dY, bounds)))

    def work(member):
        X, dY = shares[member.rank]
        return oracle.run(sync_batch_norm, front, [X, *others], dY, **options)

    Y, moving_mean, moving_var, dX, dgamma, dbeta = zip(*Threads.run(len(shares), work))
    for statistics in (moving_mean, moving_var):  # every worker has the same bits
        assert all((each == statistics[0]).all() for each in statistics)
    return numpy.concatenate(Y), moving_mean[0], moving_var[0], numpy.concatenate(dX), sum(dgamma), sum(dbeta)


SPLITS = st.lists(st.integers(1, 9), min_size=1, max_size=8)  # the sizes of the shares


@given(SPLITS, st.sampled_from([0.0, 1e4, -1e8]), st.integers(0, 99))
def test_any_split_merges_into_the_statistics_of_the_whole(sizes, offset, seed):
    X = numpy.random.RandomState(seed).randn(sum(sizes), 3) + offset
    shares = numpy.array([[len(x), *x.mean(0), *x.var(0)] for x in shares_of(X, numpy.cumsum(sizes)[:-1])])
    n, mean, var = merge_statistics(shares)
    X = X.astype("longdouble")
    assert n == len(X)
    scale = 1 + abs(offset)  # the rounding error of a mean grows with it, and that of the variance with its square
    assert numpy.abs(mean - X.mean(0)).max() <= 1e-12 * scale
    assert numpy.abs(var - X.var(0)).max() <= 1e-12 * max(1, X.var(0).max()) + (1e-15 * scale) ** 2 + 4e-16 * scale


def test_two_shares_by_hand():
    # (1, 3) and (8): means 2 and 8, variances 1 and 0; the whole: mean 4, variance (9 + 1 + 16) / 3
    assert merge_statistics(numpy.array([[2, 2, 1], [1, 8, 0.0]])) == (3, 4, pytest.approx(26 / 3, rel=1e-15))


@pytest.mark.parametrize("shape", [(12, 5), (6, 3, 4, 5)])
@pytest.mark.parametrize("bounds", [(3,), (1, 2, 5)])  # unequal shares, and shares of one example
@pytest.mark.parametrize(
    "dtype, offset, tolerance", [("float64", 0, 1e-12), ("float32", 0, 2e-6), ("float32", 1e4, 1e-6)]
)
def test_shares_give_the_results_of_the_whole_minibatch(shape, bounds, dtype, offset, tolerance):
    *arrays, dY = oracle.rounded(oracle.draw(shape, offset), dtype)
    actual = run_shares(arrays, dY, bounds, dtype=dtype)
    expected = oracle.run(batch_norm, nd, arrays, dY, dtype="float64")
    for name, a, b in zip(oracle.RESULTS, actual, expected):
        if dtype == "float32" and offset and name in ("Y", "dX", "dgamma"):
            continue  # X is rounded to 1e-3 there, so only the statistics can be this exact
        assert oracle.relative_error(a, b) <= tolerance, name


def test_nd_np_and_float16_agree(front):
    *arrays, dY = oracle.draw((8, 3))
    expected = oracle.run(batch_norm, nd, arrays, dY, dtype="float64")
    for dtype, tolerance in (("float32", 2e-6), ("float16", 4e-3)):
        for a, b in zip(run_shares(arrays, dY, (3, 5), front, dtype=dtype), expected):
            assert oracle.relative_error(a, b) <= tolerance


def test_the_same_bits_each_time():
    *arrays, dY = oracle.draw((40, 6))
    first = run_shares(arrays, dY, (7, 20, 21))
    for _ in range(5):
        assert all((a == b).all() for a, b in zip(first, run_shares(arrays, dY, (7, 20, 21))))


def test_alone_it_is_fused_batch_norm():
    *arrays, dY = oracle.draw((32, 6, 4, 4))
    with joined(Alone()):
        found = oracle.run(sync_batch_norm, nd, arrays, dY)
    assert all((a == b).all() for a, b in zip(found, oracle.run(fused_batch_norm, nd, arrays, dY)))


def test_prediction_needs_no_group():
    *arrays, dY = oracle.draw((4, 3))
    found = oracle.run(sync_batch_norm, nd, arrays, dY, train_mode=False)
    expected = oracle.run(batch_norm, nd, arrays, dY, train_mode=False)
    assert all(oracle.relative_error(a, b) < 1e-6 for a, b in zip(found, expected))


def test_training_without_workers_is_refused():
    layer = BatchNorm(3, num_dims=2, fn=sync_batch_norm)
    layer.initialize()
    with pytest.raises(InputError, match="sync_batch_norm needs workers .* got none; train with"):
        with autograd.record():
            layer(nd.ones((4, 3)))


def test_an_empty_share_is_refused_by_name():
    def work(member):
        with mx.util.np_shape(True), autograd.train_mode():  # otherwise, MXNet has no empty arrays
            sync_batch_norm(nd.ones((4 - 4 * member.rank, 3)), *(nd.ones((1, 3)) for _ in range(4)), 1e-5, 0.9)

    with pytest.raises(InputError, match="X must hold at least one example .* the share of worker 1 of 2"):
        Threads.run(2, work)


def test_unequal_shapes_are_refused():
    with pytest.raises(InputError, match=r"values must have the same shape on every worker, got \(1,\), \(2,\)"):
        Threads.run(2, lambda member: member.gather(numpy.zeros(1 + member.rank)))


def test_a_minibatch_of_one_value_is_refused_by_all():
    with pytest.raises(InputError, match="more than one value per channel over all workers"):
        with joined(_Two()), autograd.record():
            sync_batch_norm(nd.ones((1, 3)), *(nd.ones((1, 3)) for _ in range(4)), 1e-5, 0.9)


class _Two(Alone):
    size = 2  # the other worker has sent nothing


def test_processes_of_threads_count_as_one_group():
    def process(outer):
        return Threads.run(
            3, lambda member: (member.rank, member.size, member.gather(numpy.array([member.rank]))), outer
        )

    found = [result for results in Threads.run(2, process) for result in results]
    assert [(rank, size) for rank, size, _ in found] == [(rank, 6) for rank in range(6)]
    assert all(gathered.ravel().tolist() == [0, 1, 2, 3, 4, 5] for _, _, gathered in found)


def test_a_hybridized_net_runs_the_layer_eagerly():
    net = mx.gluon.nn.Sequential()
    net.add(mx.gluon.nn.Dense(3, in_units=2), BatchNorm(3, num_dims=2, fn=sync_batch_norm))
    net.initialize()
    X = nd.random.normal(shape=(8, 2))
    with joined(Alone()), autograd.train_mode():
        eager = net(X)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Gluon recommends a HybridSequential, which could not run this layer
            net.hybridize()
        assert (net(X) == eager).min() == 1


@pytest.mark.parametrize("threads", [0, 1.5, "2"])
@pytest.mark.fault("a group of no threads, or of a part of one", tries=1)
def test_a_wrong_number_of_threads_is_refused(threads):
    with pytest.raises(InputError, match="threads must be a whole number of at least 1, got"):
        Threads.run(threads, lambda member: None)
