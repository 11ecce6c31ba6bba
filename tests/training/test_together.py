"""Training by several workers, here threads: the losses are those of one worker, whatever the shares."""

import mxnet as mx
import numpy
import pytest
from mxnet import init, nd

from gluon_bn import BatchNorm, lenet, train
from gluon_bn.errors import InputError
from gluon_bn.training import inputs
from gluon_bn.workers import Threads


def minibatches(*sizes):
    random = numpy.random.RandomState(1)
    return [
        (nd.array(random.randn(size, 1, 28, 28)), nd.array(random.randint(0, 10, size), dtype="int32"))
        for size in sizes
    ]


def trained(workers, norm="sync", sizes=(32, 32, 17), epochs=2, device=None, **options):
    """Return the (history, parameters) of each worker."""
    data = minibatches(*sizes)
    nets = [lenet(norm) for _ in range(workers)]
    for net in nets:  # they start differently: all must take over the first one's state
        net.initialize(init.Xavier(), ctx=device)
        net(data[0][0][:1].as_in_context(device[0] if device else mx.cpu()))

    def work(member):
        net = nets[member.rank]
        history = train(net, data, data, epochs, 0.5, initialize=False, progress=False, device=device, **options)
        values = [parameter.data(parameter.list_ctx()[0]).asnumpy() for parameter in net.collect_params().values()]
        return [epoch.loss for epoch in history], values, [epoch.test_acc for epoch in history]

    return Threads.run(workers, work)


@pytest.fixture(scope="module")
def alone():
    mx.random.seed(5)
    ((losses, values, test_accs),) = trained(1)
    return losses, values, test_accs


def test_workers_train_as_one_does(alone):
    mx.random.seed(5)
    losses, values, test_accs = alone
    found = trained(3)
    for each in found:
        assert each[0] == pytest.approx(losses, rel=1e-5)
        assert each[2] == test_accs
        assert all((a == b).all() for a, b in zip(each[1], found[0][1])), "every worker has the same bits"
    assert all(numpy.allclose(a, b, atol=1e-4) for a, b in zip(values, found[0][1]))


def test_workers_with_local_statistics_train_differently(alone):
    mx.random.seed(5)
    (losses, *_), *_ = trained(2, "fused")
    assert abs(losses[0] - alone[0][0]) > 1e-3


def test_devices_of_one_process_are_workers_too(alone):
    mx.random.seed(5)
    ((losses, _, _),) = trained(1, device=[mx.cpu(0), mx.cpu(1)])
    assert losses == pytest.approx(alone[0], rel=1e-5)


def test_shares_of_one_example():
    mx.random.seed(5)
    (losses, *_), *_ = trained(4, sizes=(4, 4, 5), epochs=1)
    mx.random.seed(5)
    ((expected, *_),) = trained(1, sizes=(4, 4, 5), epochs=1)
    assert losses == pytest.approx(expected, rel=1e-4)


def test_a_share_without_an_example_is_refused():
    with pytest.raises(InputError, match="each device an example, got a minibatch of 2 for .* each of 3 workers"):
        trained(3, sizes=(6, 2))


def test_a_share_of_one_example_is_refused_for_local_statistics():
    with pytest.raises(InputError, match="more than one example, because layer .* learns nothing from one"):
        trained(3, "fused", sizes=(5,))


def test_a_share_of_one_example_is_refused_for_a_net_that_is_a_single_norm():
    net = BatchNorm(6, 2, activation="relu")
    net.initialize()
    with pytest.raises(InputError, match="more than one example, because layer .*BatchNorm.* learns nothing from one"):
        inputs.check_share(net, nd.ones((4, 6)), 4, [mx.cpu(i) for i in range(4)], 1)
