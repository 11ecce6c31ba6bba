"""A process of test_parameter_server: python broadcasts.py ROLE RANK PORT [race]

The workers broadcast a weight and add up its gradient, each time to a new key, as Trainer does in its first step. Each
prints how often the weight or the sum was wrong.
"""

import os
import sys

import numpy
from mxnet import autograd, nd

from gluon_bn.workers.parameter_server import ParameterServer, Role, serve

STARTS = 50
name, rank, port, *race = sys.argv[1:]
role = Role(name, int(rank), 2, "127.0.0.1", int(port), "127.0.0.1")
if name != "worker":
    serve(role, lambda number: os._exit(1))
group = ParameterServer(role, lambda number: os._exit(1))
store = group.kv if race else group.store()
wrong = 0
for key in range(STARTS):
    weight = nd.full((300, 400), 7.0)
    weight.attach_grad()
    with autograd.record():
        loss = (weight * (group.rank + 1)).sum()
    loss.backward()
    nd.waitall()
    group.kv._barrier()
    number = key + 1000 if race else key  # other keys than those of gather
    store.broadcast(number, weight, [weight])
    store.pushpull(number, [weight.grad])
    nd.waitall()
    wrong += not ((weight.asnumpy() == 7).all() and (weight.grad.asnumpy() == 3).all())
values = numpy.array([[1 / 3, 1e300, numpy.nan], [-0.0, 5e-324, numpy.inf]])  # one row for each worker
assert group.gather(values[group.rank]).tobytes() == values.tobytes()
print(wrong, flush=True)
group.gather(numpy.zeros(1))
os._exit(0)
