"""Training: the loop, where it diverges, the statistics for prediction, checkpoints, and saved nets."""
from .checkpoint import Checkpoint
from .divergence import Diverged
from .estimation import estimate_statistics, statistics_of
from .loop import Epoch, check_schedule, evaluate_accuracy, in_notebook, seed_everything, train
from .saved import load_parameters

__all__ = [
    "Checkpoint",
    "Diverged",
    "Epoch",
    "check_schedule",
    "estimate_statistics",
    "evaluate_accuracy",
    "in_notebook",
    "load_parameters",
    "seed_everything",
    "statistics_of",
    "train",
]
