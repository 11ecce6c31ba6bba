"""The comparison: trains LeNet with several norms from several seeds, each run in its own process."""

from ..system import before_mxnet  # noqa: F401  must come first: see that module
from .comparison import compare
from .configuration import Configuration
from .folder import RESULTS, configuration_of
from .plots import plot_curves

__all__ = ["Configuration", "RESULTS", "compare", "configuration_of", "plot_curves"]
