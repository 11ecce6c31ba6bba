"""The reference: batch normalization in NumPy and float64, with its gradients in closed form."""

import numpy
from mxnet import autograd

RESULTS = ("Y", "moving_mean", "moving_var", "dX", "dgamma", "dbeta")  # what train, predict and run return
SHAPES = [(256, 120), (64, 7), (32, 6, 12, 12), (5, 3, 4, 7)]


def axes_of(X):
    return (0,) if X.ndim == 2 else (0, 2, 3)


def forward(X, gamma, beta, eps):
    """(Y, mean, var) over the minibatch X."""
    D, mean, var = centred(X)
    return gamma * D / numpy.sqrt(var + eps) + beta, mean, var


def centred(X):
    """(X - mean, mean, var), where what rounding leaves in the mean is found by a second pass and taken out."""
    X = X.astype("float64")
    mean = X.mean(axes_of(X), keepdims=True)
    rest = (X - mean).mean(axes_of(X), keepdims=True)
    D = X - mean - rest
    return D, mean + rest, (D**2).mean(axes_of(X), keepdims=True)


def backward(X, gamma, eps, dY):
    """(dX, dgamma, dbeta) of sum(Y * dY)."""
    dY = dY.astype("float64")
    D, _, var = centred(X)
    X_hat = D / numpy.sqrt(var + eps)
    dgamma, dbeta = (dY * X_hat).sum(axes_of(X), keepdims=True), dY.sum(axes_of(X), keepdims=True)
    count = X.size // X.shape[1]
    dX = gamma / numpy.sqrt(var + eps) * (dY - dbeta / count - X_hat * dgamma / count)
    return dX, dgamma, dbeta


def train(X, gamma, beta, moving_mean, moving_var, dY, eps=1e-5, momentum=0.9):
    """In training mode: the RESULTS, with the gradients of sum(Y * dY)."""
    Y, mean, var = forward(X, gamma, beta, eps)
    averages = [momentum * old + (1 - momentum) * new for old, new in ((moving_mean, mean), (moving_var, var))]
    return [Y, *averages, *backward(X, gamma, eps, dY)]


def predict(X, gamma, beta, moving_mean, moving_var, dY, eps=1e-5, momentum=0.9):
    """In prediction mode: the RESULTS, with the statistics constant."""
    std, axes = numpy.sqrt(moving_var + eps), axes_of(X)
    X_hat = (X - moving_mean) / std
    return [
        gamma * X_hat + beta,
        moving_mean,
        moving_var,
        gamma / std * dY,
        (dY * X_hat).sum(axes, keepdims=True),
        dY.sum(axes, keepdims=True),
    ]


def draw(shape, offset=0.0, scale=1.0, seed=0):
    """A minibatch X, and gamma, beta, moving_mean, moving_var and a random upstream gradient dY: all float64."""
    random = numpy.random.RandomState(seed)
    one = (1, shape[1]) + (1,) * (len(shape) - 2)
    return (
        offset + scale * random.randn(*shape),
        random.uniform(0.5, 2, one),
        random.randn(*one),
        random.randn(*one),
        random.uniform(0.5, 2, one),
        random.randn(*shape),
    )


def rounded(arrays, dtype):
    """The arrays as dtype holds them: the rounding of the input is no error of the function's."""
    return [array.astype(dtype).astype("float64") for array in arrays]


def run(fn, front, arrays, dY, eps=1e-5, momentum=0.9, dtype="float32", train_mode=True):
    """Call fn under autograd: the RESULTS as float64 NumPy arrays."""
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
