"""PyTorch's side: its own layer, and LeNet as this package trains it."""
from __future__ import annotations

import time

import numpy
import torch
from torch import nn

from ..data import find_files
from .accuracy import DEPTH, EPS, errors, make_arrays

_case: dict = {}


def describe():
    return {'columns': ['torch'], 'missing': {}, 'versions': {'torch': torch.__version__}}


def prepare(shape, threads, mean=0):
    torch.set_num_threads(threads)
    arrays = make_arrays(shape, mean)
    make = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    layers = [make(shape[1], eps=EPS, momentum=0.1) for _ in range(DEPTH)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.from_numpy(arrays.gamma))
            layer.bias.copy_(torch.from_numpy(arrays.beta))
    X, dY = torch.from_numpy(arrays.X).requires_grad_(), torch.from_numpy(arrays.dY)
    _case.update(arrays=arrays, X=X, dY=dY, layers=layers)


def time_layer(column, mode, repeat):
    """Seconds of one layer of a stack, forward or forward + backward, in training mode."""
    X, dY, layers = _case['X'], _case['dY'], _case['layers']
    if repeat > 1:
        run(layers, X, dY, mode)
    start = time.perf_counter()
    for _ in range(repeat):
        run(layers, X, dY, mode)
    return (time.perf_counter() - start) / repeat / DEPTH


def run(layers, X, dY, mode):
    Y, X.grad = X, None  # or backward would add: an optimizer's zero_grad does this
    for layer in layers:
        layer.weight.grad = layer.bias.grad = None
        Y = layer(Y)
    if mode == 'both':
        Y.backward(dY)
    return Y


def measure_errors(column):
    X, dY, layer = _case['X'], _case['dY'], _case['layers'][0]
    Y = run([layer], X, dY, 'both')
    return errors(_case['arrays'], *(A.detach().numpy() for A in (Y, X.grad, layer.weight.grad, layer.bias.grad)))


def load_data(root, batch_size, threads):
    torch.set_num_threads(threads)
    files = find_files(root)

    def part(name):
        # verified files: 16 bytes of header before the images, 8 before the labels
        X = numpy.frombuffer(files[f'{name}-images-idx3-ubyte'].content, 'uint8', offset=16).reshape(-1, 1, 28, 28)
        y = numpy.frombuffer(files[f'{name}-labels-idx1-ubyte'].content, 'uint8', offset=8)
        return torch.from_numpy(X.astype('float32') / 255), torch.from_numpy(y.astype('int64'))

    _case.update(train=part('train'), test=part('t10k'), batch_size=batch_size)


def lenet(norm):
    """`model.lenet` in PyTorch; norm: whether it has batch normalization."""
    def block(affine, layer, *rest):
        nn.init.xavier_uniform_(affine.weight)
        nn.init.zeros_(affine.bias)
        return [affine, *([layer] if norm else []), nn.Sigmoid(), *rest]

    last = nn.Linear(84, 10)
    nn.init.xavier_uniform_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        *block(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.MaxPool2d(2)),
        *block(nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.Flatten()),
        *block(nn.Linear(256, 120), nn.BatchNorm1d(120)), *block(nn.Linear(120, 84), nn.BatchNorm1d(84)), last)


def time_epoch(column, num_train, lr):
    """Train a new LeNet on the first num_train examples as `training.train` does, with the same metrics."""
    torch.manual_seed(0)
    net, loss_fn = lenet(norm=True), nn.CrossEntropyLoss(reduction='none')
    trainer = torch.optim.SGD(net.parameters(), lr)
    X_train, y_train = _case['train'][0][:num_train], _case['train'][1][:num_train]
    num_batches = -(-num_train // _case['batch_size'])
    start = time.perf_counter()
    total_loss = correct = torch.zeros(())
    for i, rows in enumerate(torch.randperm(num_train).split(_case['batch_size']), 1):
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
        correct = sum((net(X).argmax(1) == y).sum() for X, y in zip(*(part.split(_case['batch_size'])
                                                                      for part in _case['test'])))
    test_acc = correct.item() / len(_case['test'][0])
    return {'train': trained - start, 'test': time.perf_counter() - trained, 'loss': mean_loss, 'train_acc': train_acc,
            'test_acc': test_acc}
