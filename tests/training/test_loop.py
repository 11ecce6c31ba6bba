"""Training: it learns, it counts correctly, and our layer trains as Gluon's does."""

import mxnet as mx
import numpy
import pytest
from mxnet import gluon, nd
from mxnet.gluon import nn

from gluon_bn import evaluate_accuracy, lenet, load_data_fashion_mnist, train
from gluon_bn.training import seed_everything


def small():
    return load_data_fashion_mnist(128, num_train=2048, num_test=500)


def test_history_has_a_line_an_epoch():
    seen = []
    history = train(lenet("fused"), *small(), num_epochs=2, lr=1.0, progress=False, on_epoch=seen.append)
    assert history == seen and [epoch.epoch for epoch in history] == [1, 2]
    assert history[1].loss < history[0].loss < 2.4
    assert 0.3 < history[1].train_acc < 1 and 0 < history[1].test_acc < 1
    assert history[1].examples_per_sec == pytest.approx(2048 / history[1].seconds)


def test_loss_and_accuracy_are_means_over_all_examples():
    # a rate too small to move a weight: the means are then those of the fixed net, the last small batch included
    train_iter, test_iter = load_data_fashion_mnist(200, num_train=500, num_test=300)
    net = lenet("none")
    history = train(net, train_iter, test_iter, num_epochs=1, lr=1e-12, progress=False)
    logits = net(train_iter.X)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()(logits, train_iter.y).mean().asscalar()
    assert history[0].loss == pytest.approx(loss, rel=1e-5)
    assert history[0].train_acc == (logits.asnumpy().argmax(1) == train_iter.y.asnumpy()).mean()
    assert history[0].test_acc == (net(test_iter.X).asnumpy().argmax(1) == test_iter.y.asnumpy()).mean()


def test_evaluation_is_in_prediction_mode_whatever_surrounds_it():
    net = nn.Sequential()
    net.add(nn.Dropout(0.9), nn.Dense(10))
    net.initialize()
    _, test_iter = small()
    with mx.autograd.record():
        accuracies = {evaluate_accuracy(net, test_iter) for _ in range(3)}
    assert len(accuracies) == 1


def test_both_fronts_train_alike():
    random = numpy.random.RandomState(0)
    losses = []
    for set_np in (False, True):
        with mx.util.np_shape(set_np), mx.util.np_array(set_np):
            net = lenet("scratch")
            net.initialize()
            train_iter, test_iter = load_data_fashion_mnist(64, num_train=256, num_test=64)
            for X, _ in train_iter:
                net(X)  # Gluon now knows the sizes
            random.seed(0)
            for parameter in net.collect_params(".*weight").values():
                parameter.set_data((mx.np if set_np else nd).array(random.randn(*parameter.shape) / 10))
            seed_everything(0)
            (epoch,) = train(net, train_iter, test_iter, num_epochs=1, lr=0.5, initialize=False, progress=False)
            losses.append(epoch.loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_two_devices_share_each_minibatch():
    net = lenet("fused")
    devices = [mx.cpu(0), mx.cpu(1)]
    history = train(net, *small(), num_epochs=2, lr=1.0, device=devices, progress=False)
    assert history[1].loss < history[0].loss
    weights = net[0].weight.list_data()
    assert [weight.context for weight in weights] == devices
    numpy.testing.assert_array_equal(weights[0].asnumpy(), weights[1].asnumpy())
    statistics = [mean.asnumpy() for mean in net[1].moving_mean.list_data()]
    assert abs(statistics[0] - statistics[1]).max() > 0  # each of its own share


def test_training_goes_on_from_the_present_weights_when_told_to():
    net, data = lenet("fused"), small()
    first = train(net, *data, num_epochs=2, lr=1.0, progress=False)
    second = train(net, *data, num_epochs=1, lr=1.0, progress=False, initialize=False)
    assert second[0].loss < first[-1].loss


@pytest.mark.fault("labels that the net has no output for", tries=8)
def test_labels_of_no_class_are_refused_by_name(front):
    for label in (10, -1, 255, float("nan")):
        X, y = front.zeros((2, 1, 28, 28)), front.array([9, label])
        message = "y must be labels from 0 to 9, as the net has 10 outputs, got 1 others among 2; number the classes"
        net = lenet("none")
        with pytest.raises(ValueError, match=message):
            train(net, [(X, y)], [(X, y)], num_epochs=1, lr=0.1, progress=False)
        with pytest.raises(ValueError, match=message):
            evaluate_accuracy(net, [(X, y)])


def test_minibatches_that_are_none_or_come_only_once_are_refused_by_name():
    train_iter, test_iter = small()
    for data, message in (
        (([], test_iter), "train_iter must give at least one minibatch"),
        ((train_iter, []), "test_iter must give at least one minibatch"),
        ((iter(train_iter), test_iter), "train_iter must be minibatches .* got generator"),
    ):
        with pytest.raises(ValueError, match=message):
            train(lenet("none"), *data, num_epochs=1, lr=1.0)
    with pytest.raises(ValueError, match="data_iter must give minibatches .* got none"):
        evaluate_accuracy(lenet("none"), iter([]))
    with pytest.raises(ValueError, match="train_iter must give minibatches .* got none"):
        train(lenet("none"), UsedUp(), test_iter, num_epochs=1, lr=1.0, progress=False)


class UsedUp:
    """Promises a minibatch and gives none."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(())


def test_minibatches_of_numpy_train_too():
    train_iter, test_iter = small()
    arrays = [[(X.asnumpy(), y.asnumpy()) for X, y in data] for data in (list(train_iter), test_iter)]
    first, second = train(lenet("fused"), *arrays, num_epochs=2, lr=1.0, progress=False)
    assert second.loss < first.loss


def test_a_layer_that_is_not_used_is_named():
    class Forgetful(nn.Sequential):
        def forward(self, X):
            return self[0](X)

    net = Forgetful()
    net.add(nn.Dense(10), nn.Dense(7))
    with pytest.raises(ValueError, match="net must use each of its layers, .* the sizes of 1.weight are unknown"):
        train(net, *small(), num_epochs=1, lr=0.1, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("num_train, most", [(12_800, 1.2), pytest.param(None, 0.75, marks=pytest.mark.long)])
def test_lenet_with_ours_and_with_gluons_learn_alike_over_the_first_epoch(num_train, most):
    """At a rate of 1 the last digits of Gluon's sums grow into differences of single minibatches, not of the epoch."""
    losses = {}
    for norm in ("scratch", "fused", "gluon"):
        seed_everything(0)
        train_iter, test_iter = load_data_fashion_mnist(256, num_train=num_train, num_test=256)
        losses[norm] = train(lenet(norm), train_iter, test_iter, num_epochs=1, lr=1.0, progress=False)[0].loss
    assert losses["gluon"] < most
    for norm in ("scratch", "fused"):
        assert losses[norm] == pytest.approx(losses["gluon"], abs=0.01), losses
