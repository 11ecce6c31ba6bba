"""The sums behind loss and accuracy."""

import mxnet as mx
import numpy
import pytest
from mxnet import nd

from gluon_bn.errors import InputError
from gluon_bn.training.totals import Totals


def means(*minibatches):
    """(loss, accuracy) of minibatches (output, loss, y)."""
    totals = Totals()
    for minibatch in minibatches:
        totals.add(*minibatch)
    return totals.means()


def test_two_examples_by_hand(front):
    output, loss = front.array([[0.0, 1.0], [3.0, 2.0]]), front.array([0.5, 0.75])
    assert means((output, loss, front.array([1, 1], dtype="int32"))) == (0.625, 0.5)


def test_counts_are_exact_for_millions_of_examples():
    """From 2**24 on float32 cannot count by ones."""
    y = nd.zeros(2**23)
    right = nd.stack(nd.ones(2**23), y, axis=1)
    wrong = nd.array([[0, 1]])
    _, accuracy = means(*[(right, None, y)] * 3, *[(right[:1], None, y[:1]), (wrong, None, y[:1])])
    assert accuracy == (3 * 2**23 + 1) / (3 * 2**23 + 2)


def test_a_sum_of_losses_keeps_the_digits_of_float32_for_millions_of_examples():
    """A running sum in float32 is off by 1e-4 here."""
    loss = nd.full(1000, 0.1)
    totals = Totals()
    output, y = nd.ones((1000, 2)), nd.zeros(1000)
    for _ in range(3000):
        totals.add(output, loss, y)
    assert totals.means()[0] == pytest.approx(float(numpy.float32(0.1)), rel=1e-12)


def test_a_net_in_float16_overflows_no_sum_and_tells_all_classes_apart(front):
    loss = front.array(numpy.full(64, 2000), dtype="float16")  # the sum, 128,000, is infinite in float16
    scores = numpy.zeros((64, 4096), "float16")
    scores[:, 2049] = 1  # an index that float16 rounds to 2048
    output, y = front.array(scores, dtype="float16"), front.array(numpy.full(64, 2049), dtype="int32")
    assert means((output, loss, y)) == (2000, 1)


@pytest.mark.parametrize("label", [-1, 3, 0.5, 1.999, 1e10, float("nan"), float("inf"), float("-inf")])
def test_a_label_of_no_class_is_counted(front, label):
    with pytest.raises(InputError, match="y must be labels from 0 to 2, .* got 1 others among 2; .* whole numbers"):
        means((front.zeros((2, 3)), front.zeros(2), front.array([2, label])))


def test_a_snapshot_stays_when_more_is_added():
    totals = Totals()
    output, y = nd.array([[1, 0]]), nd.zeros(1)
    totals.add(output, nd.ones(1), y)
    snapshot = totals.snapshot()
    totals.add(output, nd.full(1, 5), y + 1)
    assert snapshot.means() == (1, 1) and totals.means() == (3, 0.5)


def test_devices_are_summed_apart_and_read_together():
    assert means(
        *[(nd.array([[1, 0]], ctx=mx.cpu(i)), nd.full(1, i, ctx=mx.cpu(i)), nd.zeros(1, ctx=mx.cpu(i))) for i in (1, 2)]
    ) == (1.5, 1)
