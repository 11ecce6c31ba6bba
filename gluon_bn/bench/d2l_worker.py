"""d2l 1.0.3's training loop, `train_ch6`, as a reader of the book runs it, on this package's LeNet.

The loop, the data loader with four worker processes and the transforms are d2l's. Three things differ: the data
set reads the verified files, nothing is drawn, and the clock stops during evaluation on the test set.
"""

from __future__ import annotations

import contextlib
import functools
import io
import multiprocessing
import time
from typing import Any, List, Tuple
from unittest.mock import patch

import d2l.mxnet as d2l
import mxnet as mx
from mxnet import gluon, npx

from ..data import find_files, read_idx
from ..model import lenet
from ..training import seed_everything
from .rounds import EpochTurn


class Framework:
    def load_data(self, root: Any, batch_size: int, threads: int) -> None:
        npx.set_np()
        # This process was spawned, so it would spawn the loader's workers too; the reader's process forks them.
        multiprocessing.set_start_method('fork', force=True)
        files = find_files(root)

        @functools.lru_cache(maxsize=None)
        def loaders(num_train: int) -> Tuple[Any, Any]:
            """Return what `d2l.load_data_fashion_mnist` would, for the first num_train examples."""

            class FashionMNIST(gluon.data.vision.FashionMNIST):  # type: ignore[misc]  # Gluon's has no types
                def _get_data(self) -> None:  # as in Gluon, but without the download
                    name, count = ('train', num_train) if self._train else ('t10k', None)
                    images, labels = (
                        read_idx(files[f'{name}-{kind}'].content)[:count]
                        for kind in ('images-idx3-ubyte', 'labels-idx1-ubyte')
                    )
                    self._data = mx.np.array(images[..., None], dtype='uint8')
                    self._label = mx.np.array(labels.astype('int32'), dtype='int32')

            with patch.multiple(gluon.data.vision, FashionMNIST=FashionMNIST):
                loaded: Tuple[Any, Any] = d2l.load_data_fashion_mnist(batch_size)
            return loaded

        self.loaders = loaders

    def time_epoch(self, column: str, num_train: int, lr: float) -> EpochTurn:
        """Time an epoch of `d2l.train_ch6` on the first num_train examples; column: the norm of `model.lenet`."""
        train_iter, test_iter = self.loaders(num_train)
        evaluate = d2l.evaluate_accuracy_gpu
        evaluations: List[float] = []
        points: List[Any] = []

        class Animator:
            """d2l's without the figure: it records the points."""

            def __init__(self, **_: Any) -> None:
                pass

            def add(self, _: float, values: Any) -> None:
                points.append(values)

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            accuracy = evaluate(*args)
            evaluations.append(time.perf_counter() - start)
            return accuracy

        seed_everything(0)
        replaced = patch.multiple(d2l, Animator=Animator, evaluate_accuracy_gpu=timed)
        with replaced, contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            d2l.train_ch6(lenet(column), train_iter, test_iter, 1, lr, mx.cpu())
            total = time.perf_counter() - start
        (loss, train_acc, _), (_, _, test_acc) = points[-2:]
        return EpochTurn(total - sum(evaluations), sum(evaluations), float(loss), float(train_acc), float(test_acc))
