"""Saved parameters load with another function, into Gluon's layer and back, and on the other front."""

import os
import pickle
import struct
from pathlib import Path

import mxnet as mx
import numpy
import pytest
import students
from mxnet import autograd, gluon, init, npx
from mxnet.gluon import nn

from gluon_bn import BatchNorm, lenet, load_parameters
from gluon_bn.errors import InputError
from gluon_bn.training.params_file import LIST, read

IMAGES = numpy.random.RandomState(0).rand(32, 1, 28, 28).astype("float32")
NORMS = ["scratch", "fused", "gluon"]


def images():
    return (mx.np if npx.is_np_array() else mx.nd).array(IMAGES)


def trained(norm):
    """A LeNet after some steps, so that nothing in it is as it started."""
    net = lenet(norm)
    net.initialize(init.Xavier())
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})
    for _ in range(3):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images()), images()[:, 0, 0, 0] * 10)
        loss.backward()
        trainer.step(len(IMAGES))
    return net


def same_predictions(net, other):
    # Gluon's layer divides by the root where ours multiplies by its inverse: a few roundings a layer
    numpy.testing.assert_allclose(other(images()).asnumpy(), net(images()).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lenet.params")


@pytest.mark.parametrize("into", NORMS)
@pytest.mark.parametrize("saved", NORMS)
def test_a_net_predicts_the_same_with_any_norm(front, path, saved, into):
    net, other = trained(saved), lenet(into)
    net.save_parameters(path)
    load_parameters(other, path)
    same_predictions(net, other)


@pytest.mark.parametrize("into", NORMS)
@pytest.mark.parametrize("np_first", [True, False])
def test_each_front_reads_what_the_other_saved(path, into, np_first):
    results = []
    for np in (np_first, not np_first):
        with mx.util.np_shape(np), mx.util.np_array(np):
            if not results:
                net = trained("fused")
                net.save_parameters(path)
            else:
                net = lenet(into)
                load_parameters(net, path)
            results.append(net(images()).asnumpy())
    numpy.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


def test_there_and_back_every_bit_is_the_same(path):
    first, there, back = trained("scratch"), lenet("gluon"), lenet("fused")
    for net, target in ((first, there), (there, back)):
        net.save_parameters(path)
        load_parameters(target, path)
    for one, other in zip(first.collect_params().values(), back.collect_params().values()):
        numpy.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())


@pytest.mark.parametrize("norm", NORMS)
def test_an_initialized_net_stays_on_its_devices_and_trains_on(path, norm):
    devices = [mx.cpu(0), mx.cpu(1)]
    net, other = trained("fused"), lenet(norm)
    net.save_parameters(path)
    other.initialize(ctx=devices)  # of Gluon's layer not all shapes are known yet
    load_parameters(other, path)
    for device in devices:
        Y = other(images().as_in_context(device))
        numpy.testing.assert_allclose(Y.asnumpy(), net(images()).asnumpy(), rtol=1e-4, atol=1e-5)
    before = other[0].weight.data(devices[1]).asnumpy()
    with autograd.record():
        losses = [(other(shard) ** 2).sum() for shard in gluon.utils.split_and_load(images(), devices)]
    autograd.backward(losses)
    gluon.Trainer(other.collect_params(), "sgd", {"learning_rate": 0.1}).step(len(IMAGES))
    assert abs(other[0].weight.data(devices[1]).asnumpy() - before).max() > 0


@pytest.mark.filterwarnings("ignore:All children of this Sequential")
@pytest.mark.parametrize("norm", NORMS)
def test_a_hybridized_net_that_has_run_is_loaded_whole(front, path, norm):
    """oneDNN keeps its weights in a layout of its own by then."""
    net, other = trained("fused"), lenet(norm)
    net.save_parameters(path)
    other.hybridize()
    other.initialize()
    other(images()).wait_to_read()
    load_parameters(other, path)
    same_predictions(net, other)


@pytest.mark.parametrize("into", NORMS)
@pytest.mark.parametrize("saved", NORMS)
def test_parameters_saved_under_gluons_own_names_are_loaded(path, saved, into):
    net = trained(saved)
    for prefix in ("", net.prefix):
        net.collect_params().save(path, strip_prefix=prefix)
        other = lenet(into)
        load_parameters(other, path)
        same_predictions(net, other)


def small(container, norm):
    """Layers whose shapes are equal, so that only their names tell them apart; made outside a name scope."""
    net = container()
    net.add(
        nn.Conv2D(6, 5),
        norm(6, 4),
        nn.Activation("sigmoid"),
        nn.Conv2D(6, 5),
        norm(6, 4),
        *(nn.Dense(6) for _ in range(12)),
        norm(6, 2),
        nn.Dense(3),
    )
    net.initialize(init.Normal(0.5))
    net(images())
    return net


def test_an_exported_net_is_loaded(tmp_path):
    net = small(nn.HybridSequential, lambda *sizes: nn.BatchNorm())
    net.hybridize()
    with autograd.record():
        Y = net(images())
    Y.backward()
    net(images())
    net.export(str(tmp_path / "net"))
    for norm in (BatchNorm, lambda *sizes: nn.BatchNorm()):
        other = small(nn.Sequential, norm)
        load_parameters(other, tmp_path / "net-0000.params")
        same_predictions(net, other)


class Shared(nn.Sequential):
    def __init__(self):
        super().__init__()
        first = nn.Dense(5, in_units=5)
        self.add(nn.Dense(5), first, nn.Dense(5, in_units=5, params=first.params), BatchNorm(5, 2))
        self.initialize(init.Normal(0.5))
        self(images())


@pytest.mark.parametrize("deduplicate", [True, False, None])
def test_parameters_that_layers_share_are_loaded_however_they_were_saved(path, deduplicate):
    net, other = Shared(), Shared()
    if deduplicate is None:
        net.collect_params().save(path)
    else:
        net.save_parameters(path, deduplicate=deduplicate)
    load_parameters(other, path)
    same_predictions(net, other)


def test_gluons_own_names_of_another_net_are_refused_with_the_way_out(path):
    trained("fused").collect_params().save(path)
    with pytest.raises(
        ValueError,
        match="lacks 0.weight, .* has (hybrid)?sequential.*_conv0_weight, .*: it was saved from "
        "another net; .* or save it with save_parameters: .* by type and number",
    ):
        load_parameters(lenet("none"), path)


@pytest.mark.fault("a path or a device that is none", tries=7)
def test_a_path_or_a_device_that_is_none_is_refused_by_name(path, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for bad, why in (
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe", "not a regular file"),
        ("/dev/zero", "not a regular"),
        (tmp_path / "gone", "No such file"),
        (5, "int"),
        (None, "NoneType"),
    ):
        with pytest.raises(InputError, match=f"path must be a file of saved parameters, got .*{why}") as caught:
            load_parameters(lenet("fused"), bad)
        assert caught.value.argument == "path"
    trained("fused").save_parameters(path)
    with pytest.raises(InputError, match="device must be a context, .* got 'cpu'"):
        load_parameters(lenet("fused"), path, "cpu")
    with pytest.raises(InputError, match="net must be a Gluon block"):
        load_parameters(lenet, path)


def test_a_file_that_is_larger_than_memory_is_refused_at_once(path):
    with open(path, "wb") as file:
        file.write(struct.pack("<QQQ", LIST, 0, 1))
        file.truncate(2**40)  # a hole, which takes no room
    with pytest.raises(ValueError, match="lenet.params must be a file of parameters"):
        load_parameters(lenet("fused"), path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_file_is_read_as_mxnet_reads_it(path, dtype):
    net = trained("scratch")
    net.cast(dtype)
    net.save_parameters(path)
    expected = mx.nd.load(path)
    found = read(path)
    assert list(found) == list(expected)
    for name, array in found.items():
        assert array.dtype == dtype
        numpy.testing.assert_array_equal(array, expected[name].asnumpy())


def test_a_wider_type_is_no_loss_and_a_narrower_one_is_refused(path):
    net, wide = trained("fused"), lenet("fused")
    net.save_parameters(path)
    wide.cast("float64")
    load_parameters(wide, path)
    numpy.testing.assert_array_equal(wide[1].moving_var.data().asnumpy(), net[1].moving_var.data().asnumpy())
    wide.save_parameters(path)
    with pytest.raises(ValueError, match=r"0.weight in .* must be float32.*got float64.*net.cast\('float64'\)"):
        load_parameters(net, path)


def chapters_lenet():
    """One that keeps its statistics in plain arrays, which save_parameters leaves out."""
    return lenet(students.ChapterLayer)


def other_sizes():
    return lenet("gluon", num_classes=7)


def without_norms():
    return lenet("none")


def one_layer():
    net = nn.Sequential()
    net.add(BatchNorm(6, 4))
    return net


REFUSED = {
    chapters_lenet: r"must hold the moving statistics, but 1.moving_mean, 1.moving_var, 5.moving_mean and 5 more are",
    other_sizes: r"14.weight in .* must be \(10, 84\), as the net has it, got \(7, 84\): .* net of other sizes",
    without_norms: r"must hold the parameters of this net, but it lacks 1.gamma, .* and 19 more and has 3.weight",
    one_layer: r"lacks 0.weight.* and has 0.gamma, 0.beta, 0.moving_mean and 1 more: it was saved from another net",
}


@pytest.mark.fault("parameters of another net, or without statistics")
@pytest.mark.parametrize("other", REFUSED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("norm", ["fused", "gluon"])
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_loaded(path, other, norm):
    net, other_net = trained(norm), other()
    other_net.initialize()
    if other is not one_layer:
        other_net(images())
    other_net.save_parameters(path)
    before = net(images()).asnumpy()
    with pytest.raises(ValueError, match=REFUSED[other]):
        load_parameters(net, path)
    numpy.testing.assert_array_equal(net(images()).asnumpy(), before)


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


FOREIGN = {
    "empty": b"",
    "html": b"<html>404</html>" * 50,
    "zip": b"PK\x03\x04" + bytes(100),
    "npy": b"\x93NUMPY" + bytes(100),
    "pickle": pickle.dumps(Bomb()),
}


@pytest.mark.fault("a foreign file in the place of parameters")
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_by_name_and_never_run(path, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(path).write_bytes(FOREIGN[kind])
    with pytest.raises(ValueError, match=r"lenet.params must be a file written by MXNet.s save_parameters"):
        load_parameters(lenet("fused"), path)
    assert os.listdir(tmp_path) == ["lenet.params"]


@pytest.mark.fault("a truncated file of parameters", tries=300)
def test_a_truncated_file_is_refused_by_name(path):
    trained("fused").save_parameters(path)
    content = Path(path).read_bytes()
    ends = numpy.random.RandomState(0).randint(len(content), size=100).tolist()
    for end in [*range(16, 116), *ends, *range(len(content) - 100, len(content))]:
        Path(path).write_bytes(content[:end])
        with pytest.raises(ValueError, match="lenet.params must .*(truncated|garbled)"):
            read(path)


@pytest.mark.fault("sizes in a file of parameters that no array can have", tries=3)
def test_sizes_that_no_array_can_have_are_refused_by_name(path):
    mx.nd.save(path, {"0.weight": mx.nd.ones((3, 2))})
    content = Path(path).read_bytes()
    ones, sizes = numpy.ones(6, "float32").tobytes(), numpy.array([3, 2]).tobytes()
    assert content.count(ones) == content.count(sizes) == 1
    for values, wrong in ((ones, (2**62, 2**62)), (ones, (-3, -2)), (b"", (0, 2**62))):
        Path(path).write_bytes(content.replace(ones, values).replace(sizes, numpy.array(wrong).tobytes()))
        with pytest.raises(ValueError, match="lenet.params must .*(garbled|has shape)"):
            read(path)


@pytest.mark.fault("a garbled byte in a file of parameters", tries=1000)
def test_a_garbled_file_is_refused_by_name_or_holds_what_it_says(path):
    """Where MXNet's own reader believes a size and allocates until memory ends."""
    net = nn.Sequential()
    net.add(BatchNorm(3, 2), nn.Dense(2, in_units=3))
    net.initialize()
    net.save_parameters(path)
    content = Path(path).read_bytes()
    random = numpy.random.RandomState(0)
    for _ in range(1000):
        garbled = bytearray(content)
        garbled[random.randint(len(content))] = random.randint(256)
        Path(path).write_bytes(garbled)
        try:
            assert sum(array.size for array in read(path).values()) <= len(content)
        except ValueError as error:
            assert "lenet.params must" in str(error)
