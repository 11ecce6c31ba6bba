"""Batch normalization by NumPy in float64, with its gradients in closed form: what all others are measured by."""
import numpy
from mxnet import autograd

SHAPES = [(256, 120), (64, 7), (32, 6, 12, 12), (5, 3, 4, 7)]


def axes_of(X):
    return (0,) if X.ndim == 2 else (0, 2, 3)


def forward(X, gamma, beta, eps):
    """(Y, mean, var) over the minibatch X."""
    X = X.astype("float64")
    mean = X.mean(axes_of(X), keepdims=True)
    var = ((X - mean) ** 2).mean(axes_of(X), keepdims=True)
    return gamma * (X - mean) / numpy.sqrt(var + eps) + beta, mean, var


def backward(X, gamma, eps, dY):
    """(dX, dgamma, dbeta) of sum(Y * dY)."""
    X, dY = X.astype("float64"), dY.astype("float64")
    _, mean, var = forward(X, gamma, 0, eps)
    X_hat = (X - mean) / numpy.sqrt(var + eps)
    dgamma, dbeta = (dY * X_hat).sum(axes_of(X), keepdims=True), dY.sum(axes_of(X), keepdims=True)
    count = X.size // X.shape[1]
    dX = gamma / numpy.sqrt(var + eps) * (dY - dbeta / count - X_hat * dgamma / count)
    return dX, dgamma, dbeta


def draw(shape, offset=0.0, scale=1.0, seed=0):
    """A minibatch X, and gamma, beta, moving_mean, moving_var and a random upstream gradient dY: all float64."""
    random = numpy.random.RandomState(seed)
    one = (1, shape[1]) + (1,) * (len(shape) - 2)
    return (offset + scale * random.randn(*shape), random.uniform(0.5, 2, one), random.randn(*one), random.randn(*one),
            random.uniform(0.5, 2, one), random.randn(*shape))


def run(fn, front, arrays, dY, eps=1e-5, momentum=0.9, dtype="float32", train_mode=True):
    """Call fn under autograd: (Y, moving_mean, moving_var, dX, dgamma, dbeta) as float64 NumPy arrays."""
    arrays = [front.array(array, dtype=dtype) for array in arrays]
    learned = arrays[:3]  # X, gamma, beta
    for array in learned:
        array.attach_grad()
    with autograd.record(train_mode=train_mode):
        Y, moving_mean, moving_var = fn(*arrays, eps, momentum)
    Y.backward(front.array(dY, dtype=dtype))
    return [result.asnumpy().astype("float64") for result in (Y, moving_mean, moving_var, *(a.grad for a in learned))]


def relative_error(actual, expected):
    """The largest error, in units of the largest expected value."""
    return numpy.abs(actual - expected).max() / numpy.abs(expected).max()
