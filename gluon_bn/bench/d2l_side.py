"""d2l 1.0.3's own training loop, `train_ch6`, as its reader runs it, on this package's LeNet.

The loop, its data loader with four worker processes and its transforms are d2l's. Three things are put in their
places: the data set reads the verified files, nothing is drawn, and the clock stops while the test set is evaluated.
"""
from __future__ import annotations

import contextlib
import io
import multiprocessing
import time

import d2l.mxnet as d2l
import mxnet as mx
from mxnet import gluon, npx

from ..data import find_files, read_idx
from ..model import lenet
from ..training import seed_everything

_case: dict = {'loaders': {}}


def load_data(root, batch_size, threads):
    npx.set_np()
    # This process was spawned and would spawn the loader's workers too; its reader's forks them.
    multiprocessing.set_start_method('fork', force=True)
    _case.update(files=find_files(root), batch_size=batch_size)


def loaders(num_train):
    """What `d2l.load_data_fashion_mnist` returns, from the first num_train examples."""

    class FashionMNIST(gluon.data.vision.FashionMNIST):
        def _get_data(self):  # as in Gluon, but without the download
            name = 'train' if self._train else 't10k'
            images, labels = (read_idx(_case['files'][f'{name}-{kind}'].content)[:num_train if self._train else None]
                              for kind in ('images-idx3-ubyte', 'labels-idx1-ubyte'))
            self._data = mx.np.array(images[..., None], dtype='uint8')
            self._label = mx.np.array(labels.astype('int32'), dtype='int32')

    if num_train not in _case['loaders']:
        original, gluon.data.vision.FashionMNIST = gluon.data.vision.FashionMNIST, FashionMNIST
        try:
            _case['loaders'][num_train] = d2l.load_data_fashion_mnist(_case['batch_size'])
        finally:
            gluon.data.vision.FashionMNIST = original
    return _case['loaders'][num_train]


def time_epoch(column, num_train, lr):
    """One epoch of `d2l.train_ch6` on the first num_train examples, with the layer that `model.lenet` calls so."""
    train_iter, test_iter = loaders(num_train)
    evaluate, evaluations = d2l.evaluate_accuracy_gpu, []

    class Silent:
        """d2l's Animator without its figure; it keeps what it was told."""
        points = []

        def __init__(self, *args, **kwargs):
            pass

        def add(self, x, y):
            self.points.append(y)

    def timed(*args):
        start = time.perf_counter()
        accuracy = evaluate(*args)
        evaluations.append(time.perf_counter() - start)
        return accuracy

    original = d2l.Animator
    d2l.Animator, d2l.evaluate_accuracy_gpu = Silent, timed
    seed_everything(0)
    try:
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            d2l.train_ch6(lenet(column), train_iter, test_iter, 1, lr, mx.cpu())
        total = time.perf_counter() - start
    finally:
        d2l.Animator, d2l.evaluate_accuracy_gpu = original, evaluate
    (loss, train_acc, _), (_, _, test_acc) = Silent.points[-2:]
    return {'train': total - sum(evaluations), 'test': sum(evaluations), 'loss': float(loss),
            'train_acc': float(train_acc), 'test_acc': float(test_acc)}
