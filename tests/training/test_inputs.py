"""What training, evaluation and the estimate refuse: by name, before the first step."""

import mxnet as mx
import numpy
import pytest
from mxnet import gluon, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm, estimate_statistics, evaluate_accuracy, lenet, load_data_fashion_mnist, train
from gluon_bn.errors import InputError
from gluon_bn.training import seed_everything


def images(b=4, shape=(1, 28, 28)):
    return nd.array(numpy.random.rand(b, *shape))


def pair(b=4):
    return images(b), nd.array(numpy.arange(b) % 10)


DATA = [pair(), pair()]


class Lazy:
    """Minibatches that show themselves only when they are asked for."""

    def __init__(self, minibatches):
        self.minibatches = minibatches

    def __len__(self):
        return len(self.minibatches)

    def __iter__(self):
        return iter(self.minibatches)


def trained(train_iter=DATA, test_iter=DATA, net=None, num_epochs=1, lr=0.1, **kwargs):
    return train(net or lenet("fused"), train_iter, test_iter, num_epochs, lr, progress=False, plot=False, **kwargs)


def refused(argument, match, net=None, **kwargs):
    """What train is given is refused by this argument's name, and no layer has seen a minibatch to train on."""
    net = net or lenet("fused")
    with pytest.raises(InputError, match=f"^{argument} {match}") as caught:
        trained(net=net, **kwargs)
    assert caught.value.argument == argument
    for name, parameter in net._collect_params_with_prefix().items() if isinstance(net, gluon.Block) else ():
        if name.endswith("moving_mean") and parameter._data is not None:
            assert not parameter.data(parameter.list_ctx()[0]).asnumpy().any()


LABELS = {
    "of shape (b, 1)": (nd.zeros((4, 1)), r"must be labels of shape \(4,\) .*got shape \(4, 1\).*y.reshape\(\(-1,\)\)"),
    "one-hot": (nd.zeros((4, 10)), r"must be labels of shape \(4,\) .*got shape \(4, 10\).*y.argmax\(axis=1\)"),
    "of shape (b, 1, 1)": (nd.zeros((4, 1, 1)), r"must be labels of shape \(4,\) .*got shape \(4, 1, 1\)"),
    "too few": (nd.zeros(3), r"must be labels of shape \(4,\) .*got shape \(3,\)"),
    "one for all": (nd.zeros(1), r"must be labels of shape \(4,\) .*got shape \(1,\)"),
    "halves": (nd.array([0, 0.5, 1, 2]), "must be labels from 0 to 9, .* got 1 others among 4"),
    "NaN": (nd.array([0, numpy.nan, 1, 2]), "must be labels from 0 to 9, .* got 1 others among 4"),
    "10": (nd.array([0, 10, 1, 2]), "must be labels from 0 to 9, .* got 1 others among 4"),
    "huge": (numpy.array([0, 2**40, 1, 2]), "must be labels from 0 to 9, .* got 1 others among 4"),
    "text": (numpy.array(list("abcd")), "must be an array of numbers, .* got an array of <U1"),
    "a list": ([0, 1, 2, 3], "must be an array of numbers, .* got list"),
    "none": (None, "must be an array of numbers, .* got NoneType"),
}


@pytest.mark.fault("labels that are no numbers of classes", tries=3)
@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_are_no_numbers_of_classes_are_refused(kind):
    y, match = LABELS[kind]
    for where in ("train_iter", "test_iter"):
        refused("y", match, **{where: [(images(), y)]})
    net = lenet("fused")
    net.initialize()
    with pytest.raises(InputError, match=f"^y {match}"):
        evaluate_accuracy(net, [(images(), y)])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("as_numpy", [False, True])
def test_labels_of_any_type_are_counted_right(front, dtype, as_numpy):
    net = nn.Dense(2, in_units=1, use_bias=False)
    net.initialize()
    net.weight.set_data(front.array([[0], [1]]))
    X, y = numpy.array([[1.0], [1.0], [-1.0], [-1.0]]), numpy.array([1, 0, 0, 0], dtype)
    minibatch = (X, y) if as_numpy else (front.array(X, dtype="float32"), front.array(y, dtype=dtype))
    (epoch,) = trained([minibatch], [minibatch], net=net, initialize=False, lr=1e-12)
    wrong, right = numpy.log(1 + numpy.exp(1)), numpy.log(1 + numpy.exp(-1))  # each example's score is 1 or -1
    assert epoch.train_acc == epoch.test_acc == 0.75
    assert epoch.loss == pytest.approx((wrong + 3 * right) / 4, rel=1e-5)  # float32


IMAGES = {
    "without a batch axis": (
        images(shape=(28, 28)),
        r"must fit net, got shape \(b, 28, 28\): layer 0, Conv2D.* takes "
        r"\(b, (channels|1), h, w\) with h >= 5 and w >= 5",
    ),
    "flat": (images(shape=(784,)), r"must fit net, got shape \(b, 784\): layer 0, Conv2D"),
    "channels last": (images(shape=(28, 28, 1)), r"must fit net, got shape \(b, 28, 28, 1\): layer 0, Conv2D"),
    "too small": (images(shape=(1, 8, 8)), r"must fit net, got shape \(b, 1, 8, 8\): layer 4, Conv2D.* gets \(b, 6, 2"),
    "float64": (
        images().astype("float64"),
        r"must be float32, as the weights of net are, got float64; convert it by "
        r"X.astype\('float32'\), or net by net.cast\('float64'\)",
    ),
    "uint8": (images().astype("uint8"), r"must be float32, .* got uint8; convert it by X.astype\('float32'\)$"),
    "objects": (numpy.zeros((4, 1, 28, 28), object), "must be an array of numbers, .* got an array of object"),
    "empty": (numpy.zeros((0, 1, 28, 28)), r"must hold examples, got shape \(0, 1, 28, 28\)"),
    "a list": ([1, 2, 3, 4], "must be an array of numbers, .* got list"),
}


@pytest.mark.fault("images that do not fit the net", tries=3)
@pytest.mark.parametrize("kind", IMAGES)
def test_images_that_do_not_fit_are_refused_with_what_the_net_takes(kind):
    X, match = IMAGES[kind]
    y = numpy.zeros(len(X))
    for where in ("train_iter", "test_iter"):
        refused("X", match, **{where: [(X, y)]})
    with pytest.raises(InputError, match="^X " + match):
        net = lenet("scratch")
        net.initialize()
        estimate_statistics(net, [(X, y)])


def test_a_net_that_knows_its_sizes_names_them():
    net = lenet("fused")
    trained(net=net)
    with pytest.raises(InputError, match=r"got shape \(b, 3, 28, 28\): layer 0, .*, which takes \(b, 1, h, w\)"):
        evaluate_accuracy(net, [(images(shape=(3, 28, 28)), nd.zeros(4))])
    with pytest.raises(InputError, match=r"layer 8, Dense.* gets \(b, 16, 5, 5\), which takes 256 values per example"):
        evaluate_accuracy(net, [(images(shape=(1, 32, 32)), nd.zeros(4))])


def test_minibatches_of_numpy_and_of_the_other_front_are_taken(front):
    other = mx.nd if front is mx.np else mx.np
    for array in (numpy.asarray, lambda values: other.array(values, dtype="float32")):
        X, y = (array(values.asnumpy()) for values in pair())
        assert len(trained([(X, y)], [(X, y)])) == 1


def test_minibatches_of_numpy_take_the_type_of_the_net():
    net = lenet("fused")
    net.cast("float64")
    X, y = (values.asnumpy() for values in pair())
    assert len(trained([(X, y)], [(X, y)], net=net)) == 1


STRUCTURES = {
    "triples": ([(1, 2, 3)], r"must give pairs of arrays \(X, y\), got 3 of them as minibatch 1"),
    "X alone": ([images()], r"must give pairs of arrays \(X, y\), got NDArray as minibatch 1"),
    "one pair": (pair(), r"must give pairs of arrays \(X, y\), got NDArray as minibatch 1"),
    "dicts": ([{"X": 1, "y": 2}], r"must give pairs of arrays \(X, y\), got dict as minibatch 1"),
    "text": ("ab", r"must give pairs of arrays \(X, y\), got str as minibatch 1"),
    "no minibatch": ([], r"must give (at least one minibatch|minibatches) \(X, y\), got none"),
    "a number": (5, r"must (be|give) minibatches \(X, y\).* got int"),
    "none": (None, r"must (be|give) minibatches \(X, y\).* got NoneType"),
}


@pytest.mark.fault("minibatches that are no pairs of arrays", tries=4)
@pytest.mark.parametrize("kind", STRUCTURES)
def test_minibatches_that_are_no_pairs_of_arrays_are_refused(kind):
    minibatches, match = STRUCTURES[kind]
    for where in ("train_iter", "test_iter"):
        refused(where, match, **{where: minibatches})
    net = lenet("fused")
    net.initialize()
    for function in (evaluate_accuracy, estimate_statistics):
        with pytest.raises(InputError, match="^data_iter " + match):
            function(net, minibatches)


def test_a_wrong_minibatch_later_on_is_refused_before_its_step():
    for bad, argument in (((images(), nd.zeros((4, 1))), "y"), ((1, 2, 3), "train_iter")):
        with pytest.raises(InputError, match="minibatch 2") as caught:
            trained(Lazy([pair(), bad]))
        assert caught.value.argument == argument


RATE, WHOLE = "must be a finite number > 0, got ", "must be a whole number of at least 1, got "
CONTEXT = "must be a context, .* got "
ARGUMENTS = (
    [("lr", value, RATE + repr(value)) for value in (float("nan"), 0, -1, None, True, 10**400, float("inf"), "0.1")]
    + [("num_epochs", value, WHOLE + repr(value)) for value in (0, 1.0, True, None, "1")]
    + [("device", [], CONTEXT + r"\[\]"), ("device", "cpu", CONTEXT + "'cpu'")]
    + [("device", value, "must ") for value in ([mx.cpu(), mx.cpu()], mx.gpu(99), [mx.cpu(), "cpu"])]
    + [("on_epoch", 5, "must "), ("checkpoint", "run.checkpoint", "must "), ("checkpoint", {}, "must ")]
    + [("net", lenet, "must "), ("net", nn.Flatten(), "must ")]
)


@pytest.mark.fault("bad arguments of train")
# a function by its name: its address differs between the workers of pytest-xdist
@pytest.mark.parametrize("argument, value, match", ARGUMENTS, ids=lambda value: getattr(value, "__name__", repr(value)))
def test_bad_arguments_are_refused_before_the_first_step(argument, value, match):
    refused(argument, match, **{argument: value})


@pytest.mark.parametrize("lr", [numpy.float32(0.1), numpy.float64(0.1), 1])
def test_a_rate_of_any_real_type_is_taken(lr):
    assert len(trained(lr=lr, num_epochs=numpy.int64(1))) == 1


def test_a_net_that_is_not_ready_is_refused():
    refused("net", "must be initialized, but .*weight is not; call net.initialize", initialize=False)
    for function in (evaluate_accuracy, estimate_statistics):
        with pytest.raises(InputError, match="^net must be initialized"):
            function(lenet("fused"), DATA)
    elsewhere = lenet("fused")
    elsewhere.initialize(ctx=mx.cpu(1))
    refused(
        "device",
        r"must be among \[cpu\(1\)\], where net has its parameters, got \[cpu\(0\)\]",
        net=elsewhere,
        initialize=False,
    )
    with pytest.raises(InputError, match=r"^device must be among \[cpu\(1\)\]"):
        evaluate_accuracy(elsewhere, DATA)
    assert 0 <= evaluate_accuracy(elsewhere, DATA, mx.cpu(1)) <= 1
    both = lenet("fused")
    both.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    refused("device", r"must name all of \[cpu\(0\), cpu\(1\)\]", net=both, initialize=False)
    assert 0 <= evaluate_accuracy(both, DATA) <= 1


class Ends(nn.Sequential):
    """A net whose output goes through a function at the end."""

    def __init__(self, end):
        super().__init__()
        self.end = end
        self.add(nn.Dense(10))

    def forward(self, X):
        return self.end(self[0](X))


@pytest.mark.fault("outputs that are no rows of scores", tries=2)
@pytest.mark.parametrize(
    "end, came",
    [
        (lambda Y: (Y, Y), "tuple"),
        (lambda Y: Y.reshape((-1, 10, 1)), r"shape \(2, 10, 1\)"),
        (lambda Y: Y.reshape((-1,)), r"shape \(20,\)"),
        (lambda Y: Y.mean(axis=0, keepdims=True), r"shape \(1, 10\)"),
    ],
)
def test_outputs_that_are_no_rows_of_scores_are_refused(end, came):
    match = rf"must return an array \(b, classes\), one row for each of 2 examples, got {came}"
    refused("net", match, net=Ends(end))
    net = Ends(end)
    net.initialize()
    with pytest.raises(InputError, match="^net " + match):
        evaluate_accuracy(net, DATA)


@pytest.mark.fault("outputs that are no rows of scores", tries=2)
def test_a_net_of_one_output_is_refused():
    """Softmax of one score is 1: every loss would be 0."""
    match = r"must return scores \(b, classes\) for at least two classes, got a single one.*nn.Dense\(2\) for two"
    one = [(images(), nd.zeros(4))]
    refused("net", match, net=nn.Dense(1), train_iter=one, test_iter=one)
    net = nn.Dense(1)
    net.initialize()
    with pytest.raises(InputError, match="^net " + match):
        evaluate_accuracy(net, one)


SINGLE = (
    "must give each device more than one example, because layer .*BatchNorm.* learns nothing .* got a minibatch of "
)
TWO = [mx.cpu(0), mx.cpu(1)]


@pytest.mark.fault("a minibatch of one example", tries=8)
@pytest.mark.parametrize("norm", ["scratch", "fused", "gluon"])
def test_a_last_minibatch_of_one_example_is_refused_before_the_first_step(norm):
    train_iter, _ = load_data_fashion_mnist(256, num_train=257, num_test=1)
    refused("train_iter", SINGLE + "1; take another batch size", net=lenet(norm), train_iter=train_iter)


def loader(n, last_batch):
    return gluon.data.DataLoader(gluon.data.ArrayDataset(images(n), nd.zeros(n)), 4, last_batch=last_batch)


def test_a_last_minibatch_of_one_example_is_seen_in_lists_and_loaders_too():
    refused("train_iter", SINGLE + "1;", train_iter=[pair(4), pair(1)])
    refused("train_iter", SINGLE + "1;", train_iter=loader(9, "keep"))
    assert len(trained(loader(9, "discard"))) == len(trained(loader(10, "keep"))) == 1
    with pytest.raises(InputError, match=SINGLE + "1;"):  # when it comes, before its step
        trained(Lazy([pair(4), pair(1)]))


def test_a_share_of_one_example_is_refused_too():
    refused("train_iter", SINGLE + "3 for 2 devices", train_iter=[pair(4), pair(3)], device=TWO)
    refused(
        "train_iter",
        "must give each device an example, got a minibatch of 1 for 2 devices",
        net=lenet("none"),
        train_iter=[pair(4), pair(1)],
        device=TWO,
    )
    assert len(trained([pair(4)], [pair(4), pair(1)], device=TWO)) == 1  # prediction needs no second example


def test_one_example_is_enough_where_no_layer_needs_more():
    assert len(trained([pair(1)], net=lenet("none"))) == 1
    convolutions = lenet(lambda num_features, num_dims: BatchNorm(num_features, 4) if num_dims == 4 else nn.Flatten())
    assert len(trained([pair(1)], net=convolutions)) == 1
    frozen = lenet(lambda num_features, num_dims: nn.BatchNorm(use_global_stats=True))
    assert len(trained([pair(1)], net=frozen)) == 1


def test_the_first_look_changes_no_number():
    """A shuffled test set leaves the order of the training set as it is, and no statistic moves."""
    losses = []
    for shuffled in (False, True):
        train_iter, test_iter = load_data_fashion_mnist(32, num_train=128, num_test=64)
        test_iter.shuffle = shuffled
        seed_everything(0)
        losses.append(trained(train_iter, test_iter)[0].loss)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, True, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match=r"^seed must be a whole number from 0 to 2\*\*31 - 1, got"):
        seed_everything(seed)
