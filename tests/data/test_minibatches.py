"""Fashion-MNIST's minibatches: their content and order, front and device."""

import re
import struct

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon.data.vision import transforms

from gluon_bn.data import TEXT_LABELS, Minibatches, load_data_fashion_mnist, read_idx
from gluon_bn.errors import InputError


@pytest.fixture(scope='module')
def iterators():
    return load_data_fashion_mnist(256)


def labels(data_iter):
    return np.concatenate([y.asnumpy() for _, y in data_iter])


def test_the_whole_set_is_served(iterators):
    train_iter, test_iter = iterators
    assert (len(train_iter), len(test_iter)) == (235, 40)
    for data_iter, n in ((train_iter, 60_000), (test_iter, 10_000)):
        sizes = [len(X) for X, y in data_iter]
        assert sizes == [256] * (n // 256) + [n % 256]  # the last minibatch is what is left
        assert len(sizes) == len(data_iter)
        assert np.bincount(labels(data_iter)).tolist() == [n // 10] * 10


def test_pixels_and_labels_are_those_of_the_published_set(iterators):
    X, y = next(iter(iterators[1]))
    # the first ten of the test set: an ankle boot, a pullover, two pairs of trousers, ...
    shown = ', '.join(TEXT_LABELS[i] for i in y[:10].asnumpy())
    assert shown == 'ankle boot, pullover, trouser, trouser, shirt, trouser, coat, shirt, sandal, sneaker'
    assert X.min().asscalar() == 0 and X.max().asscalar() == 1
    # the data set's published mean and standard deviation, 0.2860 and 0.3530, are the training set's
    train = iterators[0].X
    assert abs(train.mean().asscalar() - 0.2860) < 5e-5
    assert abs(np.std(train.asnumpy(), dtype='float64') - 0.3530) < 5e-5


def test_minibatches_are_of_the_front_that_is_on(iterators, front):
    for data_iter in iterators:
        X, y = next(iter(data_iter))
        kind = mx.np.ndarray if front is mx.np else mx.nd.NDArray
        assert type(X) is kind and type(y) is kind
        assert X.shape == (256, 1, 28, 28) and X.dtype == np.float32
        assert y.shape == (256,) and y.dtype == np.int32


def test_the_loss_of_gluon_takes_them(iterators, front):
    X, y = next(iter(iterators[1]))
    scores = X.reshape((256, -1))[:, 300:310]
    loss = gluon.loss.SoftmaxCrossEntropyLoss()(scores, y).asnumpy()
    scores = scores.asnumpy().astype('float64')
    expected = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(256), y.asnumpy()]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32 over ten classes


def test_order_and_values_are_those_of_gluons_own_loader():
    train_iter, _ = load_data_fashion_mnist(100, num_train=1050, num_test=1)
    pixels = (train_iter.X.asnumpy() * 255).round().astype('uint8').reshape(-1, 28, 28, 1)
    dataset = gluon.data.ArrayDataset(mx.nd.array(pixels, dtype='uint8'), train_iter.y.asnumpy())
    loader = gluon.data.DataLoader(dataset.transform_first(transforms.ToTensor()), 100, shuffle=True)
    np.random.seed(3)
    ours = list(train_iter)
    np.random.seed(3)
    gluons = list(loader)
    assert len(ours) == len(gluons) == 11
    for (X, y), (gluons_X, gluons_y) in zip(ours, gluons):
        assert (X.asnumpy() == gluons_X.asnumpy()).all() and (y.asnumpy() == gluons_y.asnumpy()).all()


def test_training_is_shuffled_anew_each_epoch_and_testing_is_not(iterators):
    train_iter, test_iter = iterators
    first, second = labels(train_iter), labels(train_iter)
    assert (first != second).mean() > 0.8  # 0.9 for two independent orders of ten classes
    assert (labels(test_iter) == labels(test_iter)).all()
    assert (labels(test_iter) == test_iter.y.asnumpy()).all()


def test_the_same_seed_gives_the_same_epochs(iterators):
    runs = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        runs.append([labels(iterators[0]), labels(iterators[0])])
    assert (runs[0][0] == runs[1][0]).all() and (runs[0][1] == runs[1][1]).all()
    assert (runs[0][0] != runs[2][0]).any()


def test_images_keep_their_labels_when_shuffled():
    X = mx.nd.arange(100).reshape((100, 1))
    for batch_X, batch_y in Minibatches(X, mx.nd.arange(100, dtype='int32'), 7, shuffle=True):
        assert (batch_X[:, 0].asnumpy() == batch_y.asnumpy()).all()


@pytest.mark.parametrize('part', ['train', 'test'])
def test_a_minibatch_may_be_changed_in_place(part, iterators):
    data_iter = iterators[part == 'test']
    before = data_iter.X.asnumpy()
    for X, y in data_iter:
        X[:] = -1
        y[:] = -1
    assert (data_iter.X.asnumpy() == before).all() and data_iter.y.min().asscalar() == 0


def test_two_epochs_may_be_interleaved(iterators):
    test_iter = iterators[1]
    for (_, a), (_, b) in zip(test_iter, test_iter):
        assert (a.asnumpy() == b.asnumpy()).all()


def test_fewer_examples_are_the_first_ones(iterators):
    train_iter, test_iter = load_data_fashion_mnist(64, num_train=100, num_test=10)
    assert (len(train_iter), len(test_iter)) == (2, 1)
    for few, whole, n in ((train_iter, iterators[0], 100), (test_iter, iterators[1], 10)):
        assert (few.X.asnumpy() == whole.X[:n].asnumpy()).all() and (few.y.asnumpy() == whole.y[:n].asnumpy()).all()


@pytest.mark.fault("the arguments of d2l's load_data_fashion_mnist")
@pytest.mark.parametrize('size', [96, (96, 64)])
def test_d2ls_second_argument_is_a_keyword_here(size):
    message = rf'^root must be the folder of the data, got {re.escape(str(size))}; a size, .* here: resize=96$'
    with pytest.raises(InputError, match=message):
        load_data_fashion_mnist(256, size)


def test_images_are_resized_as_gluon_resizes_them(front):
    ours, plain = (load_data_fashion_mnist(4, num_train=4, num_test=1, resize=size)[0] for size in ((96, 64), None))
    ours.shuffle = plain.shuffle = False
    (X, y), (original, labels) = next(iter(ours)), next(iter(plain))
    assert X.shape == (4, 1, 96, 64) and X.dtype == np.float32 and (y.asnumpy() == labels.asnumpy()).all()
    with mx.util.np_array(False), mx.util.np_shape(False):
        pixels = mx.nd.array((original.asnumpy().transpose(0, 2, 3, 1) * 255).round(), dtype='uint8')
        expected = np.array([transforms.Resize((64, 96))(image).asnumpy() for image in pixels])
    assert np.abs(X.asnumpy()[:, 0] * 255 - expected[..., 0]).max() < 1  # Gluon's rounds its weights and its results


@pytest.mark.parametrize('resize', [0, -1, 96.0, '96', True, (96,), (1, 2, 3), (96, 0)])
@pytest.mark.fault("bad input to load_data_fashion_mnist")
def test_a_size_that_is_none_is_refused(resize):
    with pytest.raises(ValueError, match=r'resize must be a whole number of pixels, or \(height, width\), got'):
        load_data_fashion_mnist(256, resize=resize)


@pytest.mark.fault("bad input to load_data_fashion_mnist")
def test_a_device_that_is_none_is_refused():
    for ctx in ('cpu', mx.gpu(99)):
        with pytest.raises(ValueError, match='ctx must be '):
            load_data_fashion_mnist(256, ctx=ctx)


def test_minibatches_live_on_the_device_asked_for(front):
    for data_iter in load_data_fashion_mnist(50, num_train=100, num_test=100, ctx=mx.cpu(1)):
        X, y = next(iter(data_iter))
        assert X.context == y.context == mx.cpu(1)


def test_they_train_a_model(front):
    train_iter, _ = load_data_fashion_mnist(100, num_train=2000, num_test=1)
    net = gluon.nn.Dense(10)
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.1})
    loss, means = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for _ in range(5):
        total = 0
        for X, y in train_iter:
            with autograd.record():
                l = loss(net(X), y)
            l.backward()
            trainer.step(len(X))
            total += l.sum().item() if front is mx.np else l.sum().asscalar()
        means.append(total / 2000)
    assert means[-1] < 0.9 < means[0]  # log(10) = 2.3 is what guessing costs


@pytest.mark.parametrize('batch_size', [0, -1, 2.5, '256', None, True])
@pytest.mark.fault("bad input to load_data_fashion_mnist")
def test_a_batch_size_that_is_none_is_refused(batch_size):
    with pytest.raises(ValueError, match='batch_size must be a whole number of at least 1, got'):
        load_data_fashion_mnist(batch_size)


@pytest.mark.parametrize('name, most', [('num_train', '60,000'), ('num_test', '10,000')])
@pytest.mark.parametrize('value', [0, 60_001, 1.5, True])
@pytest.mark.fault("bad input to load_data_fashion_mnist")
def test_a_number_of_examples_out_of_range_is_refused(name, most, value):
    with pytest.raises(ValueError, match=f'{name} must be a whole number from 1 to {most}, got {value}'):
        load_data_fashion_mnist(256, **{name: value})


def test_an_idx_file_by_hand():
    content = b'\0\0\x08\2' + struct.pack('>II', 2, 3) + bytes([1, 2, 3, 4, 5, 6])
    assert read_idx(content).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    'content, reason',
    [
        (b'', 'must start with 00 00 08'),
        (b'\0\0\x0d\1\0\0\0\1\0\0\0\0', 'must start with 00 00 08'),  # of floats
        (b'\x1f\x8b\x08\0rest', 'must start with 00 00 08'),  # still packed
        (b'\0\0\x08\3\0\0\0\1', 'must start with 00 00 08'),  # the sizes are cut off
        (b'\0\0\x08\3' + b'\xff' * 12 + b'data', r'promises \(4294967295, 4294967295, 4294967295\), got 4 bytes'),
        (b'\0\0\x08\1\0\0\0\5data', r'promises \(5,\), got 4 bytes'),
        (b'\0\0\x08\1\0\0\0\3data', r'promises \(3,\), got 4 bytes'),
        (b'\0\0\x08', 'must start with 00 00 08'),
        (b'\0\0\x08\1', 'must start with 00 00 08'),
        (b'\0\0\x08\2\0\0\0\1', 'must start with 00 00 08'),
        (b'\0\0\x08\1\0\0\0\2x', r'promises \(2,\), got 1 bytes'),
        (b'\0\0\x08\3' + b'\xff' * 12, r'promises \(4294967295, 4294967295, 4294967295\), got 0 bytes'),
        (b'\0\0\x08\xff' + b'\0\0\0\1' * 255 + b'x', ''),
        (b'\0\0\x08\x28' + b'\0\0\0\1' * 40 + b'x', ''),
    ],
)
@pytest.mark.fault("a wrong header in an IDX file")
def test_a_wrong_idx_header_is_refused(content, reason):
    with pytest.raises(InputError, match=f'IDX.*{reason}'):
        read_idx(content)
