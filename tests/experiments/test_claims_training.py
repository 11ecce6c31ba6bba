"""The claims about training: LeNet on Fashion-MNIST, at a small size, from three seeds."""

import numpy
import pytest
from mxnet import autograd, init, nd
from mxnet.gluon import nn

from gluon_bn import BatchNorm, batch_norm, evaluate_accuracy, fused_batch_norm, lenet, load_data_fashion_mnist
from gluon_bn.data import Minibatches
from gluon_bn.errors import InputError
from gluon_bn.experiments import activations, modes, rates, training_figures
from gluon_bn.training import seed_everything

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def data():
    return load_data_fashion_mnist(64, num_train=2048, num_test=1000)  # 32 updates an epoch


@pytest.fixture(scope="module")
def nets(data, training_seeds):
    return [modes.trained(seed, data, num_epochs=2) for seed in training_seeds]


def relu(norm):
    return rates.with_activation(lenet(norm), "relu")


# C10: one example alone


@pytest.mark.claim("C10")
def test_an_example_gets_the_same_answer_in_any_minibatch_in_prediction_but_not_in_training(data, nets):
    test = data[1]
    companions = [test.X[1:50], test.X[50:150], test.X[150:160]]
    for net in nets:
        logits = modes.in_company(net, test.X[:1], companions)
        # float32 carries 1e-7; MXNet may sum in another order for another batch size
        numpy.testing.assert_allclose(logits["prediction"] - net(test.X[:1]).asnumpy(), 0, atol=1e-4)
        assert numpy.ptp(logits["training"], axis=0).max() > 0.1


@pytest.mark.claim("C10")
def test_an_example_alone_is_refused_in_training(data, nets):
    with autograd.train_mode(), pytest.raises(ValueError, match="more than one value per channel"):
        nets[0](data[1].X[:1])


@pytest.mark.claim("C10")
def test_sorted_images_ruin_the_accuracy_in_training_mode_alone(data, nets):
    for net in nets:
        accuracies = modes.accuracies_in_company(net, data[1])
        assert abs(accuracies["mixed"]["prediction"] - accuracies["one class"]["prediction"]) <= 0.001
        assert accuracies["one class"]["training"] < accuracies["mixed"]["training"] - 0.2


def test_looking_leaves_the_moving_statistics_alone(data, nets):
    net, test = nets[0], data[1]
    before = evaluate_accuracy(net, test)
    modes.accuracy(net, test, train_mode=True)
    activations.inspect_minibatch(net, test.X[:64], test.y[:64])
    modes.in_company(net, test.X[:1], [test.X[1:50]])
    assert evaluate_accuracy(net, test) == before


# C25: moving averages, or statistics estimated once


@pytest.mark.slow
@pytest.mark.claim("C25")
def test_statistics_estimated_once_are_better_and_steadier_than_moving_averages(data):
    """True at a learning rate of 1, where the weights move far while an average is collected."""
    runs = [modes.accuracies_over_epochs(seed, 1.0, data, num_epochs=4) for seed in SEEDS]
    for run in runs:
        assert run.estimated.mean() > run.moving.mean()
        assert run.estimated.min() > run.moving.min()
        assert abs(run.estimated.mean() - run.batch.mean()) < 0.03  # nothing is lost against the batches' own
    moving, estimated = (numpy.array([getattr(run, key) for run in runs]) for key in ("moving", "estimated"))
    assert numpy.ptp(estimated, axis=0).mean() < numpy.ptp(moving, axis=0).mean()


# C26: autograd tells the mode

EXPECTED = {  # recording, training; then uses_batch, statistics_move and the gradient
    "plain": (False, False, False, False, "none"),
    "predict_mode()": (False, False, False, False, "none"),
    "train_mode()": (False, True, True, True, "none"),
    "record(train_mode=False)": (True, False, False, False, "past the statistics"),
    "record()": (True, True, True, True, "through the statistics"),
}


def after_thirty_batches(layer):
    X = nd.array(numpy.random.RandomState(0).normal(2, 3, size=(16, 4)))
    layer.initialize()
    for _ in range(30):
        with autograd.record():
            Y = layer(X)
        Y.backward()
    return layer, X


@pytest.mark.claim("C26")
@pytest.mark.parametrize("fn", [batch_norm, fused_batch_norm])
def test_training_not_recording_makes_the_layer_use_the_batch(fn):
    ways = modes.ways(*after_thirty_batches(BatchNorm(4, num_dims=2, fn=fn)))
    assert ways == {name: modes.CallMode(*expected) for name, expected in EXPECTED.items()}


@pytest.mark.claim("C26")
def test_gluon_agrees_but_moves_its_averages_in_the_backward_pass_only():
    ways = modes.ways(*after_thirty_batches(nn.BatchNorm(in_channels=4)))
    expected = {name: modes.CallMode(*values) for name, values in EXPECTED.items()}
    expected["train_mode()"].statistics_move = False  # there is no backward pass
    assert ways == expected


# C20: before and after the activation


def test_the_moments_of_known_shapes():
    random = numpy.random.RandomState(0)
    gaussian, exponential = random.randn(200_000, 2), random.exponential(size=(200_000, 2))
    # the errors of estimates from n values are sqrt(6 / n) and sqrt(24 / n) for a Gaussian, larger for the other
    for values, expected, atol in ((gaussian, (0, 0), 0.05), (exponential, (2, 6), 0.5)):
        for moment, value in zip(activations.shape_of(values), expected):
            numpy.testing.assert_allclose(moment, value, atol=atol)
    assert [len(moment) for moment in activations.shape_of(numpy.ones((10, 3)))] == [0, 0]


@pytest.mark.slow
@pytest.mark.claim("C20")
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_the_input_of_a_layer_is_further_from_a_gaussian_than_its_affine_map(data, training_seeds, activation):
    """With ReLUs both moments say so, in each layer; with LeNet's sigmoids the kurtosis alone, over all layers."""
    train_iter = Minibatches(data[0].X[:1280], data[0].y[:1280], 64, shuffle=True)
    lr = {"relu": 0.1, "sigmoid": 1.0}[activation]
    for seed in training_seeds:
        net = rates.with_activation(lenet("fused"), activation)
        watched = activations.watch(net, seed, lr, (train_iter, data[1]), num_epochs=2)
        for layers in (watched.before, watched.after):
            shapes = activations.typical_shapes(layers)
            X, H = (numpy.array([shapes[place][name] for place in ("conv 2", "dense 1", "dense 2")]) for name in "XH")
            assert X[:, 1].mean() > H[:, 1].mean()
            if activation == "relu":
                assert (X[:, 0] > H[:, 0]).all() and X[:, 0].mean() > 1.5 * H[:, 0].mean()


def test_the_picture_of_the_moments_holds_every_dot():
    random = numpy.random.RandomState(0)
    shapes = {
        net: {
            (moment, when, name): random.uniform(0, scale, (3, 3))
            for moment in ("skewness", "kurtosis")
            for when in ("before", "after")
            for name in "XH"
        }
        for net, scale in (("sigmoid", 1), ("relu", 3))
    }
    figure = training_figures.moments(shapes)
    assert [ax.get_title() for ax in figure.axes] == [
        "skewness, sigmoid",
        "skewness, relu",
        "kurtosis, sigmoid",
        "kurtosis, relu",
    ]
    for ax in figure.axes:
        dots = [y for line in ax.lines if len(line.get_ydata()) == 9 for y in line.get_ydata()]
        assert len(dots) == 4 * 9 and min(dots) > ax.get_ylim()[0] and max(dots) < ax.get_ylim()[1]


@pytest.mark.slow
def test_without_a_norm_the_gradient_of_a_sigmoid_lenet_dies_on_its_way_down(data, training_seeds):
    train_iter = Minibatches(data[0].X[:1280], data[0].y[:1280], 64, shuffle=True)
    for seed in training_seeds:
        ratio = {}
        for norm in ("none", "fused"):
            watched = activations.watch(lenet(norm), seed, 1.0, (train_iter, data[1]), num_epochs=2)
            ratio[norm] = watched.after["dense 2"].dA.std() / watched.after["conv 1"].dA.std()
            assert watched.saturation.max() < 0.1
            assert watched.steps.shape == (3, 5) and (watched.steps > 0).all()
        assert ratio["none"] > 100 and ratio["fused"] < 20


def test_the_gradients_that_look_reports_are_those_of_finite_differences(data):
    seed_everything(0)
    X, y = data[1].X[:8], data[1].y[:8]
    net = rates.initialize(lenet("none"), X)
    layers, steps = activations.inspect_minibatch(net, X, y)
    top, A = net[-1], layers["dense 2"].A.astype("float64")
    W, b = (parameter.data().asnumpy().astype("float64") for parameter in (top.weight, top.bias))

    def loss(A):
        logits = A @ W.T + b
        return (numpy.log(numpy.exp(logits).sum(1)) - logits[numpy.arange(8), y.asnumpy()]).mean()

    direction = numpy.random.RandomState(0).randn(*A.shape)
    slope = (loss(A + 1e-5 * direction) - loss(A - 1e-5 * direction)) / 2e-5
    assert (layers["dense 2"].dA * direction).sum() == pytest.approx(slope, rel=1e-4)  # dA is float32
    assert steps["output"] == pytest.approx(top.weight.grad().asnumpy().std() / W.std(), rel=1e-5)


# C29: learning rates


@pytest.mark.slow
@pytest.mark.claim("C29")
def test_batch_normalization_learns_at_rates_at_which_the_net_without_it_does_not(data, training_seeds):
    """Shown with ReLUs, where 96 updates are enough without a norm at a good rate. It has an end: 10 is too much."""
    data = load_data_fashion_mnist(64, num_train=3072, num_test=1000)
    nets = {"none": lambda: relu("none"), "fused": lambda: relu("fused")}
    runs = rates.over_rates(nets, (0.1, 1.0, 3.0), training_seeds, data, 2)
    assert rates.rates_that_learn(runs["fused"], 0.6) == [0.1, 1.0, 3.0]
    assert rates.rates_that_learn(runs["none"], 0.5) == [0.1]
    assert max(run.test_acc for lr in (1.0, 3.0) for run in runs["none"][lr]) < 0.2
    for with_bn, without in zip(runs["fused"][0.1], runs["none"][0.1]):  # and at the rate that suits both, it is ahead
        assert with_bn.test_acc > without.test_acc


@pytest.mark.slow
@pytest.mark.claim("C29")
def test_with_sigmoids_lenet_learns_in_few_updates_with_batch_normalization_only(data, training_seeds):
    """With sigmoids the claim is not about the rate: without the norm, 64 updates teach nothing at any of them."""
    nets = {"none": lambda: lenet("none"), "fused": lambda: lenet("fused")}
    runs = rates.over_rates(nets, (0.3, 3.0), training_seeds, data, 2)
    assert max(run.test_acc for of_seeds in runs["none"].values() for run in of_seeds) < 0.25
    assert rates.rates_that_learn(runs["fused"], 0.5) == [0.3, 3.0]


# C15: the lower layers


@pytest.mark.slow
@pytest.mark.claim("C15")
def test_lower_layers_that_learn_are_useful(data, training_seeds):
    """Three frozen layers of four cost with every seed; the two convolutions alone, in a short training, hardly."""
    nets = {level: lambda level=level: rates.freeze_lower(lenet("fused"), level) for level in (0, 3, 4)}
    runs = rates.over_seeds(nets, 1.0, training_seeds, data, 3)
    for i in range(len(training_seeds)):
        assert runs[0][i].loss < runs[3][i].loss < runs[4][i].loss
    assert min(run.test_acc for run in runs[0]) > max(run.test_acc for run in runs[4])


def test_frozen_layers_stay_as_they_are_and_the_others_learn(data):
    seed_everything(0)
    net = rates.initialize(rates.freeze_lower(lenet("fused"), 2), data[1].X[:1])
    learned = [parameter.name for parameter in net.collect_params().values() if parameter.grad_req != "null"]
    affine = [block for block in net if isinstance(block, (nn.Conv2D, nn.Dense))]
    assert [block.weight.grad_req for block in affine] == ["null", "null", "write", "write", "write"]
    assert len(learned) == 3 * 2 + 2 * 2  # weights and biases of three dense layers, gamma and beta of two norms


# C27: other functions in the same layer


@pytest.mark.slow
@pytest.mark.claim("C27")
def test_mean_and_variance_alone_do_less_than_both(data, training_seeds):
    functions = {"mean": rates.mean_only, "variance": rates.variance_only, "both": fused_batch_norm}
    runs = rates.over_seeds(
        {name: lambda fn=fn: lenet(rates.norm_by(fn)) for name, fn in functions.items()}, 1.0, training_seeds, data, 1
    )
    for half in ("mean", "variance"):
        assert max(run.loss for run in runs["both"]) < min(run.loss for run in runs[half])


@pytest.mark.claim("C27")
@pytest.mark.parametrize("shape", [(32, 3), (8, 3, 4, 4)])
def test_the_layer_takes_functions_that_normalize_by_half(shape):
    X = nd.random.normal(2, 3, shape=shape)
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    for fn in (rates.mean_only, rates.variance_only):
        layer = BatchNorm(3, num_dims=len(shape), fn=fn, momentum=0.0)  # the averages are the last minibatch's
        layer.initialize()
        with autograd.record():
            Y = layer(X)
        centred = fn is rates.mean_only
        mean, std = Y.asnumpy().mean(axes), Y.asnumpy().std(axes)
        x_mean, x_std = X.asnumpy().mean(axes), X.asnumpy().std(axes)
        numpy.testing.assert_allclose(mean, 0 if centred else x_mean / x_std, atol=1e-4)
        numpy.testing.assert_allclose(std, x_std if centred else 1, rtol=1e-4)
        numpy.testing.assert_allclose(layer(X).asnumpy(), Y.asnumpy(), atol=1e-4)


# the ablations without a claim of their own


def test_norms_stand_at_the_chosen_places_alone():
    for places in ((), ("conv 2",), ("dense 1", "dense 2"), tuple(rates.PLACES)):
        sizes = [block.num_features for block in lenet(rates.norm_by(places=places)) if isinstance(block, BatchNorm)]
        assert sizes == [rates.PLACES[place] for place in places]
    with pytest.raises(ValueError, match="places must be of conv 1, .* got conv 3"):
        rates.norm_by(places=("conv 3",))


def test_one_seed_gives_all_nets_the_same_weights(data):
    weights = []
    halves = lenet(rates.norm_by(rates.mean_only))
    for net in (lenet("none"), lenet("fused"), rates.with_dropout(relu("none")), halves):
        seed_everything(0)
        rates.initialize(net, data[1].X[:1])
        weights.append([block.weight.data().asnumpy() for block in net if isinstance(block, (nn.Conv2D, nn.Dense))])
    for others in weights[1:]:
        for one, other in zip(weights[0], others):
            numpy.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_estimation_also_works_for_a_readers_own_layer(data):
    class OwnLayer(nn.Block):  # as notebook 01 builds it
        def __init__(self, num_features, num_dims):
            super().__init__()
            shape = (1, num_features) + (1,) * (num_dims - 2)
            self.gamma = self.params.get("gamma", shape=shape, init=init.One())
            self.beta = self.params.get("beta", shape=shape, init=init.Zero())
            self.moving_mean = self.params.get("moving_mean", shape=shape, init=init.Zero(), grad_req="null")
            self.moving_var = self.params.get("moving_var", shape=shape, init=init.Zero(), grad_req="null")

        def forward(self, X):
            Y, *new = batch_norm(
                X, self.gamma.data(), self.beta.data(), self.moving_mean.data(), self.moving_var.data(), 1e-5, 0.9
            )
            with autograd.pause():
                self.moving_mean.set_data(new[0])
                self.moving_var.set_data(new[1])
            return Y

    nets = {"own": lambda: lenet(OwnLayer), "ours": lambda: lenet("scratch")}
    own, ours = (runs[0] for runs in rates.over_seeds(nets, 1.0, (0,), data, 1).values())
    assert own.loss == pytest.approx(ours.loss, abs=1e-4) and own.test_acc == pytest.approx(ours.test_acc, abs=0.01)
    layer = OwnLayer(4, 2)
    layer.initialize()
    found = modes.ways(layer, nd.random.normal(shape=(8, 4)))
    assert found["train_mode()"].statistics_move and not found["predict_mode()"].statistics_move


def test_frozen_gamma_and_beta_stay_at_1_and_0(data):
    net = lenet(rates.norm_by(frozen=("gamma", "beta")))
    few = Minibatches(data[0].X[:256], data[0].y[:256], 64, shuffle=True)
    rates.train_once(net, 1.0, 0, (few, Minibatches(data[1].X[:100], data[1].y[:100], 100, shuffle=False)), 1)
    for block in net:
        if isinstance(block, BatchNorm):
            assert (block.gamma.data() == 1).min() == 1 and (block.beta.data() == 0).min() == 1


def test_a_net_whose_norms_apply_the_sigmoid_is_refused():
    for change in (lambda net: rates.with_activation(net, "relu"), rates.with_dropout):
        with pytest.raises(
            InputError, match="net must apply its activations in separate blocks, got BatchNorm.*activation='sigmoid'"
        ):
            change(lenet("fused", fuse_sigmoid=True))


def test_the_training_accuracy_to_be_compared_with_the_tests_is_measured_without_dropout(data):
    """While training, dropout turns units off, and the gap to the test accuracy would come out too small."""
    few = Minibatches(data[0].X[:256], data[0].y[:256], 64, shuffle=True)
    net = rates.with_dropout(relu("fused"))
    run = rates.train_once(net, 0.1, 0, (few, Minibatches(data[1].X[:100], data[1].y[:100], 100, shuffle=False)), 3)
    assert run.train_acc_predicted == evaluate_accuracy(net, few) > run.train_acc


def test_a_training_that_diverges_is_a_result(data):
    few = Minibatches(data[0].X[:256], data[0].y[:256], 64, shuffle=True)
    test = Minibatches(data[1].X[:100], data[1].y[:100], 100, shuffle=False)
    run = rates.train_once(relu("none"), 1e6, 0, (few, test), 2)
    assert run.loss == float("inf") and run.losses == []  # in its first epoch
    assert run.train_acc < 0.3 and run.test_acc < 0.3
