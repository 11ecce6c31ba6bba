"""Fashion-MNIST for today's textbook: d2l's DataModule over the images in memory."""

from __future__ import annotations

import os
from typing import Any, Iterable, List, Optional, Sequence, Union

import d2l.mxnet as d2l

from .minibatches import TEXT_LABELS, Minibatches, load_data_fashion_mnist


class FashionMNIST(d2l.DataModule):  # type: ignore[misc]  # d2l has no types
    """Fashion-MNIST for `d2l.Trainer(max_epochs=10).fit(model, data)`.

    It replaces `d2l.FashionMNIST`, which uses Gluon's data set and resizes and converts each image on every
    access. root, num_train, num_val: see `load_data_fashion_mnist`. Call `npx.set_np()` first, as the book does.

    Shapes: minibatches X (b, 1, 28, 28) float32 from 0 to 1, y (b,) int32.
    """

    def __init__(
        self,
        batch_size: int = 64,
        root: Union[str, os.PathLike[str], None] = None,
        num_train: Optional[int] = None,
        num_val: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.train, self.val = load_data_fashion_mnist(batch_size, root, num_train=num_train, num_test=num_val)

    def get_dataloader(self, train: bool) -> Minibatches:
        return self.train if train else self.val

    def text_labels(self, indices: Iterable[Any]) -> List[str]:
        return [TEXT_LABELS[int(i)] for i in indices]

    def visualize(self, batch: Sequence[Any], nrows: int = 1, ncols: int = 8, labels: Iterable[str] = ()) -> None:
        X, y = batch
        d2l.show_images(X.squeeze(1), nrows, ncols, titles=list(labels) or self.text_labels(y))
