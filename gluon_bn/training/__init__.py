"""Training: the loop, divergence, statistics for prediction, checkpoints, and saved nets."""

from ..system import before_mxnet  # noqa: F401  must come first: see that module
from .blocks import statistics_of
from .checkpoint import Checkpoint
from .divergence import Diverged
from .estimation import estimate_statistics
from .inputs import check_schedule
from .loop import evaluate_accuracy, seed_everything, train
from .saved import load_parameters
from .totals import Epoch

__all__ = [
    "Checkpoint",
    "Diverged",
    "Epoch",
    "check_schedule",
    "estimate_statistics",
    "evaluate_accuracy",
    "load_parameters",
    "seed_everything",
    "statistics_of",
    "train",
]
