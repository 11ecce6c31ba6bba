"""Today's textbook: its Trainer and its loop train our layer on our data."""

import d2l.mxnet as d2l
import mxnet as mx
import numpy
import pytest
from mxnet import init, np, npx

from gluon_bn import evaluate_accuracy, lenet, load_data_fashion_mnist
from gluon_bn.data import TEXT_LABELS
from gluon_bn.data.textbook import FashionMNIST


@pytest.fixture(autouse=True)
def np_front():
    npx.set_np()
    yield
    npx.reset_np()


class Classifier(d2l.Classifier):
    def __init__(self, net, lr=0.1):
        super().__init__()
        self.save_hyperparameters(ignore=["net"])
        self.net = net
        self.net.initialize(init.Xavier())
        self.board.display = False


def fit(norm, num_train, lr=0.5):
    mx.random.seed(0)
    numpy.random.seed(0)
    model, data = Classifier(lenet(norm, pool="avg"), lr), FashionMNIST(128, num_train=num_train, num_val=500)
    d2l.Trainer(max_epochs=1).fit(model, data)
    return model, data


def test_it_is_a_data_module_that_shuffles_only_what_is_trained_on():
    data = FashionMNIST(batch_size=100, num_train=1000, num_val=500)
    assert isinstance(data, d2l.DataModule) and data.batch_size == 100
    assert len(data.train_dataloader()) == 10 and len(data.val_dataloader()) == 5
    for loader, same in ((data.val_dataloader(), True), (data.train_dataloader(), False)):
        (X, y), (X_again, _) = next(iter(loader)), next(iter(loader))
        assert isinstance(X, np.ndarray) and X.shape == (100, 1, 28, 28) and y.shape == (100,)
        assert (X == X_again).all() == same


def test_images_and_labels_are_those_of_the_iterators():
    ((X, y),) = FashionMNIST(batch_size=50, num_train=1, num_val=50).val_dataloader()
    _, test_iter = load_data_fashion_mnist(50, num_train=1, num_test=50)
    ((X_expected, y_expected),) = test_iter
    assert (X == X_expected).all() and (y == y_expected).all()


def test_labels_have_names():
    data = FashionMNIST(1, num_train=1, num_val=1)
    assert data.text_labels(np.array([0, 9, 3])) == ["t-shirt", "ankle boot", "dress"]
    assert len(TEXT_LABELS) == 10


def test_visualize_draws_the_images_under_their_names():
    data = FashionMNIST(batch_size=4, num_train=4, num_val=4)
    batch = next(iter(data.val_dataloader()))
    data.visualize(batch, ncols=4)
    axes = d2l.plt.gcf().axes
    assert [ax.get_title() for ax in axes] == data.text_labels(batch[1])
    numpy.testing.assert_array_equal(axes[0].images[0].get_array(), batch[0][0, 0].asnumpy())
    d2l.plt.close("all")


def test_the_trainer_fits_our_layer_to_our_data():
    model, data = fit("fused", num_train=6400)
    board = model.board.data
    assert list(board) == ["train_loss", "val_loss", "val_acc"]
    assert board["train_loss"][-1].y < board["train_loss"][0].y < 2.4
    accuracy = evaluate_accuracy(model, data.val_dataloader())
    # the board averages the batches' accuracies, the last of which has 116 examples instead of 128
    assert board["val_acc"][-1].y == pytest.approx(accuracy, abs=0.02) and accuracy > 0.4


@pytest.mark.claim("C30")
def test_in_the_trainer_ours_and_gluons_take_the_same_path():
    losses = {norm: fit(norm, num_train=1280)[0].board.data["train_loss"] for norm in ("scratch", "fused", "gluon")}
    for norm in ("scratch", "fused"):
        for ours, theirs in zip(losses[norm], losses["gluon"]):
            # Gluon's sums carry fewer digits, and ten steps of training make more of the difference
            assert ours.y == pytest.approx(theirs.y, abs=2e-3)


def test_train_ch6_trains_our_layer(capsys):
    train_iter, test_iter = load_data_fashion_mnist(64, num_train=640, num_test=500)
    net = lenet("fused")
    d2l.train_ch6(net, train_iter, test_iter, 2, 1.0, d2l.cpu())
    d2l.plt.close("all")
    assert "examples/sec" in capsys.readouterr().out
    assert evaluate_accuracy(net, test_iter) > 0.2
