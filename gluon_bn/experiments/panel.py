"""Histograms of one unit before and after batch normalization, with controls to move them."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy
from matplotlib.figure import Figure
from mxnet import nd

from ..drawing import COLORS, grid
from . import Array
from .chain import normalize

DEFAULTS: Dict[str, Any] = {'gamma': 1.0, 'beta': 0.0, 'batch_size': 256, 'offset': 0.0, 'scale': 1.0}
# name -> lowest, highest, step
RANGES = {
    'gamma': (-2.0, 2.0, 0.25),
    'beta': (-4.0, 4.0, 0.25),
    'batch_size': (2, 512, 1),
    'offset': (-4.0, 4.0, 0.25),
    'scale': (0.25, 2.0, 0.25),
}
# A skewed unit: batch normalization does not change its shape.
UNIT = numpy.random.RandomState(0).gamma(2.0, 1 / 2**0.5, size=512) - 2**0.5


def before_and_after(gamma: float, beta: float, batch_size: int, offset: float, scale: float) -> Tuple[Array, Array]:
    """(X, Y), each (batch_size,): offset + scale * unit, and what batch_norm makes of it in training mode."""
    X = nd.array(offset + scale * UNIT[:batch_size]).reshape((-1, 1))
    Y = normalize(X, nd.array([gamma]), nd.array([beta]))
    return X.asnumpy().ravel(), Y.asnumpy().ravel()


def plot_settings(*settings: Dict[str, Any]) -> Figure:
    """A column for each setting, a dict of what differs from DEFAULTS: X above, Y = BN(X) below, on one scale.

    Returns: a matplotlib Figure.
    """
    settings = settings or ({},)
    figure, axes = grid(2, len(settings), max(4.5, 3 * len(settings)), 4, sharex=True)
    for column, setting in zip(axes.T, settings):
        both = before_and_after(**{**DEFAULTS, **setting})
        for ax, name, values, color in zip(column, 'XY', both, (COLORS['none'], COLORS['scratch'])):
            weights = numpy.full(len(values), 1 / len(values))
            ax.hist(values, bins=numpy.arange(-12.125, 12.25, 0.25), weights=weights, color=color)
            ax.set(xlim=(-12, 12), yticks=[])
            mean = round(float(values.mean()), 2) + 0.0  # no -0.00
            ax.set_title(f'{name}: mean {mean:.2f}, std {values.std():.2f}', fontsize=9)
        changed = [f'{name} {value:g}' for name, value in setting.items() if value != DEFAULTS[name]]
        column[1].set_xlabel(', '.join(changed) or 'as it starts')
    axes[0, 0].set_ylabel('before')
    axes[1, 0].set_ylabel('after')
    return figure


def show() -> None:
    """In a notebook: sliders for everything in DEFAULTS, above a figure that follows them.

    The figure is an ordinary output, so it stays where the notebook is only read.
    """
    import ipywidgets
    from IPython.display import display

    sliders = {}
    for name, (lowest, highest, step) in RANGES.items():
        slider = ipywidgets.IntSlider if name == 'batch_size' else ipywidgets.FloatSlider
        sliders[name] = slider(value=DEFAULTS[name], min=lowest, max=highest, step=step, description=name)
    display(ipywidgets.VBox(list(sliders.values())))
    values = {name: slider.value for name, slider in sliders.items()}
    picture = display(plot_settings(values), display_id=True)

    def redraw(change: Dict[str, Any]) -> None:
        values[change['owner'].description] = change['new']
        picture.update(plot_settings(values))

    for slider in sliders.values():
        slider.observe(redraw, 'value')
