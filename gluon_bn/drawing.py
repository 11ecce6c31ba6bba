"""What all figures share: one colour for each norm, and how a figure becomes files."""
from __future__ import annotations

import io
from typing import Dict

from .system import before_matplotlib  # noqa: F401  first: see there

# isort: split
from matplotlib.figure import Figure

# Okabe and Ito's palette, made for every kind of colour vision. In grey most of these look alike: there, go by the
# dashes below, the markers or the labels.
COLORS = {'none': '#999999', 'scratch': '#0072B2', 'portable': '#56B4E9', 'fused': '#009E73', 'gluon': '#D55E00',
          'torch': '#CC79A7'}
LABELS = {'none': 'no normalization', 'scratch': 'batch_norm', 'portable': 'fused_batch_norm, portable',
          'fused': 'fused_batch_norm', 'gluon': 'gluon.nn.BatchNorm', 'torch': 'PyTorch'}
STYLES = {'none': ':', 'scratch': '-.', 'gluon': '--'}  # else solid; curves that lie on each other stay visible


def pictures(figure: Figure) -> Dict[str, bytes]:
    """The figure as files: their contents by extension, svg and png."""
    found = {}
    for extension in ('svg', 'png'):
        file = io.BytesIO()
        # no date: the same results make the same file
        figure.savefig(file, format=extension, dpi=150, metadata={'Date': None} if extension == 'svg' else None)
        found[extension] = file.getvalue()
    return found
