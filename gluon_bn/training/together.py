"""What the workers of a group share besides gradients: the start, and the moving statistics."""

from __future__ import annotations

import dataclasses
from typing import Any, List

import numpy
from mxnet.gluon import Block

from ..workers import Group, assign
from .totals import Epoch


def share_start(net: Block, history: List[Epoch], group: Group) -> List[Epoch]:
    """Give all workers the parameters, the order of the examples and the history of worker 0; return its history."""
    if group.size == 1:
        return history
    state: Any = numpy.random.get_state()
    _, keys, *rest = state
    epochs, place, has_gauss, gauss, *words = group.broadcast(numpy.array([len(history), *rest, *keys], 'float64'))
    numpy.random.set_state(('MT19937', numpy.array(words, 'uint32'), int(place), int(has_gauss), gauss))
    share_parameters(net, group)
    if not epochs:
        return []
    values = numpy.zeros((int(epochs), len(dataclasses.fields(Epoch))))
    if group.rank == 0:
        values[:] = [dataclasses.astuple(epoch) for epoch in history]
    return [Epoch(int(number), *measured) for number, *measured in group.broadcast(values).tolist()]


def share_parameters(net: Block, group: Group, grad_req: str = '') -> None:
    """Give all workers the parameters of worker 0; with grad_req='null', only those without a gradient.

    These are the moving statistics. Those of `sync_batch_norm` are already equal; others come from one share only.
    """
    if group.size == 1:
        return
    for parameter in net._collect_params_with_prefix().values():
        for array in parameter.list_data() if parameter.grad_req.startswith(grad_req) else []:
            assign(array, group.broadcast(array.asnumpy().astype('float64')))
