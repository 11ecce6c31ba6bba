"""What a training records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Epoch:
    """The results of one epoch: loss in nats per example, accuracies from 0 to 1, seconds of training."""

    epoch: int
    loss: float
    train_acc: float
    test_acc: float
    seconds: float
    examples_per_sec: float
