"""Fashion-MNIST in memory, in minibatches."""

from __future__ import annotations

import math
import os
from typing import Any, Iterator, Optional, Tuple, Union

from ..system import before_mxnet  # noqa: F401  must come first: see that module

# isort: split
import numpy
from mxnet import Context, cpu, nd, util
from mxnet.ndarray import NDArray

from ..devices import check_devices
from ..errors import InputError
from ..system.arguments import check_count, is_whole
from .fashion_mnist import find_files

# The name of each label, 0 to 9.
TEXT_LABELS = ('t-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')


def load_data_fashion_mnist(
    batch_size: int,
    root: Union[str, os.PathLike[str], None] = None,
    *,
    num_train: Optional[int] = None,
    num_test: Optional[int] = None,
    ctx: Optional[Context] = None,
    download: bool = True,
    resize: Union[None, int, Tuple[int, int]] = None,
) -> Tuple[Minibatches, Minibatches]:
    """Load Fashion-MNIST into memory and return (train_iter, test_iter), each of minibatches X, y.

    The training set is reshuffled each epoch by NumPy's generator, in the same order as by Gluon's DataLoader;
    the test set keeps its order. The last batch of an epoch may be smaller. `num_train` and `num_test` use only
    the first so many examples of a set, for quick runs. `root` and `download`: see `fashion_mnist.find_files`.
    resize: the side of the images, or (height, width); each minibatch is resized bilinearly as it is made.

    Shapes: X (b, 1, 28, 28) float32, or of the size asked for; y (b,) int32; on `ctx`, the CPU if None; arrays of
    `mx.np` if `npx.set_np()` is on when the batch is made, else of `mx.nd`.
    Units: X from 0 (background) to 1; y an index of TEXT_LABELS.
    Raises: InputError for an argument that is out of range; DataUnavailable if the data cannot be found or fetched.
    Source: Xiao, Rasul and Vollgraf (2017), Fashion-MNIST.
    """
    batch_size = check_count('batch_size', batch_size)
    for name, value, most in (('num_train', num_train, 60_000), ('num_test', num_test, 10_000)):
        if value is not None:
            check_count(name, value, most)
    if root is not None and not isinstance(root, (str, os.PathLike)):
        hint = '' if isinstance(root, bytes) else '; a size, the second argument of d2l, is a keyword here: resize=96'
        raise InputError(f'must be the folder of the data, got {root!r}{hint}', 'root')
    (device,) = check_devices([cpu() if ctx is None else ctx], 'ctx')
    size: Any = tuple(resize) if isinstance(resize, (list, tuple)) else (resize, resize)
    if resize is not None and not (len(size) == 2 and all(map(is_whole, size))):
        raise InputError(f'must be a whole number of pixels, or (height, width), got {resize!r}', 'resize')
    found = find_files(root, download)

    def batches(part: str, count: Optional[int], shuffle: bool) -> Minibatches:
        images = read_idx(found[f'{part}-images-idx3-ubyte'].content)[:count, None]  # (n, 1, 28, 28)
        labels = read_idx(found[f'{part}-labels-idx1-ubyte'].content)[:count]
        X = nd.array(images, dtype='uint8', ctx=device).astype('float32')
        X /= 255
        y = nd.array(labels, dtype='int32', ctx=device)
        return Minibatches(X, y, batch_size, shuffle, None if resize is None else size)

    return batches('train', num_train, True), batches('t10k', num_test, False)


class Minibatches:
    """The minibatches of X and y: iterate as often as you like, each time over all examples.

    size: (height, width) to which the images are resized; None keeps that of X.

    Shapes: X (n, ...) and y (n,), arrays of `mx.nd`; minibatches of batch_size, the last one of the remainder.
    """

    def __init__(
        self, X: NDArray, y: NDArray, batch_size: int, shuffle: bool, size: Optional[Tuple[int, int]] = None
    ) -> None:
        self.X, self.y, self.batch_size, self.shuffle, self.size = X, y, batch_size, shuffle, size

    def __len__(self) -> int:
        return -(-len(self.X) // self.batch_size)

    def __iter__(self) -> Iterator[Tuple[NDArray, NDArray]]:
        n = len(self.X)
        order = numpy.random.permutation(n) if self.shuffle else numpy.arange(n)
        order = nd.array(order, dtype='int32', ctx=self.X.context)
        for start in range(0, n, self.batch_size):
            # take runs in MXNet's engine, parallel to the training, and copies: a batch may be changed in place
            rows = order[start : start + self.batch_size]
            X, y = nd.take(self.X, rows), nd.take(self.y, rows)
            if self.size:
                X = nd.image.resize(X.transpose((0, 2, 3, 1)), self.size[::-1]).transpose((0, 3, 1, 2))
            yield (X.as_np_ndarray(), y.as_np_ndarray()) if util.is_np_array() else (X, y)


def read_idx(content: bytes) -> numpy.ndarray[Any, Any]:
    """Return the array of an IDX file of unsigned bytes, as a view of its content.

    Raises: InputError if the header does not match the content.
    """
    header = content[:4]
    if len(header) < 4 or header[:3] != b'\0\0\x08' or len(content) < 4 + 4 * header[3]:
        raise InputError(
            f'an IDX file of bytes must start with 00 00 08, its rank and its sizes, got '
            f'{content[:8].hex(" ") or "nothing"}; unpack it, or fetch it again'
        )
    shape = tuple(int(size) for size in numpy.frombuffer(content, '>u4', header[3], 4))
    values: numpy.ndarray[Any, Any] = numpy.frombuffer(content, numpy.uint8, offset=4 + 4 * len(shape))
    if math.prod(shape) != len(values) or len(shape) > 32:  # more axes than NumPy's arrays have
        raise InputError(f'the IDX header promises {shape}, got {len(values):,} bytes; fetch the file again')
    return values.reshape(shape)
