"""PyTorch: its own layer, and LeNet trained as this package trains it."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Sequence, Tuple

import numpy
import torch
from torch import nn

from ..data import find_files
from .accuracy import DEPTH, EPS, errors, make_arrays
from .rounds import Description, EpochTurn


class Framework:
    def describe(self) -> Description:
        return Description(['torch'], {'torch': torch.__version__}, {})

    def prepare(self, shape: Sequence[int], threads: int, mean: float = 0) -> None:
        torch.set_num_threads(threads)
        self.arrays = make_arrays(shape, mean)
        make = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
        self.layers = [make(shape[1], eps=EPS, momentum=0.1) for _ in range(DEPTH)]
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.copy_(torch.from_numpy(self.arrays.gamma))
                layer.bias.copy_(torch.from_numpy(self.arrays.beta))
        self.X, self.dY = torch.from_numpy(self.arrays.X).requires_grad_(), torch.from_numpy(self.arrays.dY)

    def time_layer(self, column: str, mode: str, repeat: int) -> float:
        """Return the seconds of one layer in a stack, forward or forward + backward, in training mode."""
        if repeat > 1:
            self.run(self.layers, mode)
        start = time.perf_counter()
        for _ in range(repeat):
            self.run(self.layers, mode)
        return (time.perf_counter() - start) / repeat / DEPTH

    def run(self, layers: Sequence[Any], mode: str) -> Any:
        Y, self.X.grad = self.X, None  # as an optimizer's zero_grad does; otherwise backward would accumulate
        for layer in layers:
            layer.weight.grad = layer.bias.grad = None
            Y = layer(Y)
        if mode == 'both':
            Y.backward(self.dY)
        return Y

    def measure_errors(self, column: str) -> Dict[str, float]:
        layer = self.layers[0]
        Y = self.run([layer], 'both')
        results = Y, self.X.grad, layer.weight.grad, layer.bias.grad
        return errors(self.arrays, *(array.detach().numpy() for array in results))

    def load_data(self, root: Any, batch_size: int, threads: int) -> None:
        torch.set_num_threads(threads)
        files, self.batch_size = find_files(root), batch_size

        def part(name: str) -> Tuple[Any, Any]:
            # verified files: 16 bytes of header before the images, 8 before the labels
            X = numpy.frombuffer(files[f'{name}-images-idx3-ubyte'].content, 'uint8', offset=16)
            y = numpy.frombuffer(files[f'{name}-labels-idx1-ubyte'].content, 'uint8', offset=8)
            X = X.reshape(-1, 1, 28, 28).astype('float32') / 255
            return torch.from_numpy(X), torch.from_numpy(y.astype('int64'))

        self.train, self.test = part('train'), part('t10k')

    def time_epoch(self, column: str, num_train: int, lr: float) -> EpochTurn:
        """Train a new LeNet on the first num_train examples as `training.train` does, with the same metrics."""
        torch.manual_seed(0)
        net, loss_fn = lenet(), nn.CrossEntropyLoss(reduction='none')
        trainer = torch.optim.SGD(net.parameters(), lr)
        X_train, y_train = self.train[0][:num_train], self.train[1][:num_train]
        num_batches = -(-num_train // self.batch_size)
        start = time.perf_counter()
        total_loss = correct = torch.zeros(())
        for i, rows in enumerate(torch.randperm(num_train).split(self.batch_size), 1):
            X, y = X_train[rows], y_train[rows]
            output = net(X)
            loss = loss_fn(output, y)
            trainer.zero_grad()
            loss.mean().backward()
            trainer.step()
            total_loss, correct = total_loss + loss.detach().sum(), correct + (output.argmax(1) == y).sum()
            if i % max(1, num_batches // 5) == 0 or i == num_batches:
                mean_loss, train_acc = total_loss.item() / num_train, correct.item() / num_train
        trained = time.perf_counter()
        net.eval()
        with torch.no_grad():
            batches = zip(*(array.split(self.batch_size) for array in self.test))
            correct = sum((net(X).argmax(1) == y).sum() for X, y in batches)
        test_acc = correct.item() / len(self.test[0])
        return EpochTurn(trained - start, time.perf_counter() - trained, mean_loss, train_acc, test_acc)


def lenet() -> Any:
    """`model.lenet` in PyTorch, with batch normalization."""

    def block(affine: Any, *rest: Any) -> List[Any]:
        nn.init.xavier_uniform_(affine.weight)
        nn.init.zeros_(affine.bias)
        return [affine, *rest]

    last = block(nn.Linear(84, 10))  # first: the weights then are those of docs/benchmark
    return nn.Sequential(
        *block(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.Sigmoid(), nn.MaxPool2d(2)),
        *block(nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten()),
        *block(nn.Linear(256, 120), nn.BatchNorm1d(120), nn.Sigmoid()),
        *block(nn.Linear(120, 84), nn.BatchNorm1d(84), nn.Sigmoid()),
        *last,
    )
