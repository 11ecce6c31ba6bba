# %% [markdown]
# # Speed and accuracy
#
# The chapter's layer and Gluon's compute the same thing, and yet on a minibatch of images one is many times as fast as
# the other. The usual explanation is that Gluon's layer "is compiled". We measure the time operator by operator, and
# find a different explanation for such minibatches. On the way, we ask to how many digits "the same" holds.
#
# **Afterwards you can** say where a layer spends its time, why compiling does not help here, and which digits of a
# result to trust.
#
# **You need** notebook 01. Reading takes about 11 minutes; running takes half a minute. Most of it runs on one
# minibatch with the shape of LeNet's first layer, (256, 6, 24, 24), on a CPU. Times vary from machine to machine; look
# at the *ratios*.

# %% [markdown]
# The next cell installs the package if this kernel lacks it, for example on Colab. Otherwise it does nothing.

# %% tags=["hide-input"]
import importlib.util, pathlib, runpy

found = map(importlib.util.find_spec, ('gluon_bn', 'mxnet'))
if not all(spec and spec.origin for spec in found):  # a folder gluon_bn without __init__.py has no origin
    here = pathlib.Path.cwd()
    found = [place / 'tools/kernel.py' for place in (here, *here.parents, *here.iterdir())]
    project = [path for path in found if path.exists()]
    assert project, 'put a copy of the project beside this notebook: clone it, or upload and unzip it'
    runpy.run_path(str(project[0]))

# %% [markdown]
# Now the imports and the sizes.

# %%
# %matplotlib inline
import numpy
from mxnet import autograd, nd
from mxnet.gluon import nn

from gluon_bn.bench.accuracy import make_arrays
from gluon_bn.experiments import figures, speed
from gluon_bn.norm import BatchNorm, batch_norm_portable, fused_batch_norm, status

shape = (256, 6, 24, 24)
print(status().split(':')[0], 'is the path of fused_batch_norm here')


# %% [markdown]
# ## 1. Is it because it is compiled?
#
# *Claim C31.* If Python were the reason, then the same operators, compiled into one graph that Python starts once,
# would be about as fast as Gluon's layer. This is such a graph:

# %%
class Compiled(nn.HybridBlock):
    def hybrid_forward(self, F, X):  # gamma = 1 and beta = 0
        mean = F.mean(X, axis=(0, 2, 3), keepdims=True)
        D = F.broadcast_sub(X, mean)
        var = F.mean(D ** 2, axis=(0, 2, 3), keepdims=True)
        return F.broadcast_div(D, F.sqrt(var + 1e-5))

compiled, layer, X = Compiled(), BatchNorm(6, 4), nd.random.normal(2, 3, shape=shape)
compiled.hybridize(static_alloc=True, static_shape=True)
layer.initialize()
with autograd.train_mode():
    assert (compiled(X) - layer(X)).abs().max().asscalar() < 1e-4

# %% [markdown]
# `speed.time_layers` times it with $\gamma$ and $\beta$, beside the others. **Predict**: how much of the time does
# compiling save?

# %% tags=["hide-output"]
# Figure: Milliseconds for forward and backward of each layer, as bars on a logarithmic scale.
times = speed.time_layers(shape)
eager = times['batch_norm, operator by operator']
figures.bars(list(times), {'forward + backward, milliseconds': {'': list(times.values())}}, log=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At this shape, compiling changes little, and Gluon's layer is far ahead even of the compiled graph.
#
# </details>
#
# **Check**: the graph contains the same operators that run one by one; the portable closed form contains no mean and no
# power. (The checks on times allow a wide margin, because the machine may be busy.)

# %%
operators = speed.operators(shape)
one_by_one, graph, portable = list(operators.values())[:3]
assert graph == one_by_one and graph['mean'] == 2 and graph['_power_scalar'] == 1
assert not {'mean', '_power_scalar'} & set(portable)
assert times['its operators, compiled into one graph'] > 3 * times['gluon.nn.BatchNorm']
assert times['fused_batch_norm, portable'] < eager / 3

# %% [markdown]
# Is that true for every shape? Compiling removes launch overhead, a few microseconds per operator. Now the same
# `HybridBlock` runs once operator by operator and once compiled, after convolutions and after dense layers. **Predict**
# where compiling begins to pay.

# %% tags=["hide-output"]
gains = speed.gain_from_compiling([shape, (256, 16, 8, 8), (256, 120), (32, 84), (4, 20)])
ratio = {of: gain for of, _, _, gain in gains}
figures.table([(str(of), *numbers) for of, *numbers in gains],
              ['shape', 'ms, operator by operator', 'ms, compiled', 'times as fast'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the small dense minibatches at the end, where launch overhead is a large part of the time. In the large ones, the
# operators' own work dominates.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert ratio[32, 84] > 1.2 and ratio[4, 20] > ratio[shape]

# %% [markdown]
# **Try it.** Time a batch of 32 images: is the order the same?
#
# ## 2. Where the time goes
#
# Back to the first shape. We break `batch_norm` into its operators. **Predict** which is the slowest: the sums, the
# squares, or the subtraction with its broadcast?

# %% tags=["hide-output"]
m, c, s = shape[0], shape[1], shape[2] * shape[3]  # s: the pixels of a plane
X, ones_s = nd.random.normal(shape=shape), nd.ones((s, 1))
X_planes, mean = X.reshape((m * c, s)), X.mean(axis=(0, 2, 3), keepdims=True)
times = speed.time_in_turns({
    'X.mean(axis=(0, 2, 3))': lambda: X.mean(axis=(0, 2, 3), keepdims=True),
    'sums over planes, as a product with ones': lambda: nd.dot(X_planes, ones_s),
    'X ** 2': lambda: X ** 2,
    'nd.square(X)': lambda: nd.square(X),
    'X - mean': lambda: X - mean}, rounds=7)
# Figure: Milliseconds for each operator, as bars on a logarithmic scale.
figures.bars(list(times), {'milliseconds': {'': list(times.values())}}, log=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# MXNet's reduction over three axes is slow. A product with a vector of ones, which goes to the matrix library, sums
# each of the 256 times 6 planes, and leaves 256 numbers a channel to add. `X ** 2` calls a general power where `square`
# would multiply. And autograd adds the gradients of the broadcasts, which are reductions again. So at this shape the
# remedy is not to compile, but to choose other sums. `total` sums each channel by products, and `spread` takes one
# value back to all places of its channel: each is the gradient of the other.
#
# </details>

# %%
assert times['sums over planes, as a product with ones'] < times['X.mean(axis=(0, 2, 3))']
assert times['nd.square(X)'] < times['X ** 2']

def total(A):  # (m * c, s) -> (1, c)
    return nd.dot(nd.ones((1, m)), nd.dot(A, ones_s).reshape((m, c)))

def spread(v):  # (1, c) -> (m * c, s)
    return nd.dot(nd.dot(nd.ones((m, 1)), v).reshape((m * c, 1)), ones_s.T)


# %% [markdown]
# Here is the definition, and the same in these operators. (Section 4 shows why the second subtracts a first mean, which
# is a constant to autograd, before it takes the moments.)

# %%
def by_definition(X, gamma, beta, eps=1e-5):
    mean = X.mean(axis=(0, 2, 3), keepdims=True)  # (1, c, 1, 1)
    var = ((X - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    X_hat = (X - mean) / (var + eps).sqrt()
    return gamma * X_hat + beta

def by_products(X, gamma, beta, eps=1e-5):
    X_planes = X.reshape((m * c, s))
    D = X_planes - spread(total(X_planes.detach()) / (m * s))
    mean = total(D) / (m * s)  # (1, c); nearly 0, but the gradient goes through it
    var = total(nd.square(D)) / (m * s) - nd.square(mean)
    scale = gamma.reshape((1, c)) / (var + eps).sqrt()
    shift = beta.reshape((1, c)) - mean * scale
    return (D * spread(scale) + spread(shift)).reshape(X.shape)


# %% [markdown]
# **Predict** how many times as fast the second is, forward and backward. The third row is the package's
# `batch_norm_portable`, which does the same for dense layers, for prediction and for float16 too.

# %% tags=["hide-output"]
arrays = gamma, beta, zero, one = [nd.full((1, c, 1, 1), value) for value in (2, 3, 0, 1)]
dY, functions = nd.random.normal(shape=shape), {
    'by_definition': lambda X: by_definition(X, gamma, beta), 'by_products': lambda X: by_products(X, gamma, beta),
    'batch_norm_portable': lambda X: batch_norm_portable(X, *arrays, 1e-5, 0.9)[0]}
for array in (X, gamma, beta):
    array.attach_grad()
times = speed.time_in_turns({name: lambda function=function: speed.forward_and_backward(function, X, dY)
                             for name, function in functions.items()}, rounds=7)
figures.table([(name, ms, times['by_definition'] / ms) for name, ms in times.items()],
              ['forward + backward', 'milliseconds', 'times as fast'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The same sums by other operators make the difference. `native.cc` goes further, with its own loops for the gradient.
#
# </details>
#
# **Check** that all three give the same output and the same gradient of $X$; the second and third agree to the last
# digits.

# %%
results = []
for function in functions.values():
    Y = speed.forward_and_backward(function, X, dY)
    results.append(numpy.array([Y.asnumpy(), X.grad.asnumpy()]))
assert numpy.allclose(results[1], results[0], atol=1e-4)
assert numpy.allclose(results[1], results[2], atol=1e-6) and times['by_products'] < times['by_definition'] / 3

# %% [markdown]
# **Try it.** Replace `X ** 2` with `nd.square(X)` or `X * X`: which is fastest?
#
# ## 3. How equal is "the same"?
#
# *Claim C30.* We train one layer of each kind for five steps, on the same minibatches and random upstream gradients,
# and compare all results: outputs, the three gradients, the moving statistics (after the backward pass, since that is
# when Gluon's layer moves its own). **Predict** the difference in units of float32's last digit, 6e-8.

# %% tags=["hide-output"]
small, large = speed.compare_with_gluon((256, 120)), speed.compare_with_gluon(shape)
figures.table([(name, small[name], large[name]) for name in small],
              ['largest relative difference of', 'dense (256, 120)', f'convolution {shape}'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The dense layers agree to about the sixth digit, the convolutional ones only to the fourth. There, a channel has
# 147,456 values instead of 256, so we suspect a sum. Whose?
#
# </details>

# %% tags=["hide-input"]
assert max(small.values()) < 1e-5 and max(large.values()) < 5e-4

# %% [markdown]
# **Try it.** Pass `steps=50` to `compare_with_gluon`: does the difference grow?
#
# ## 4. Whose error it is
#
# NumPy in float64 is the reference. The inputs are float32, with unit variance around a mean of 0, 100 and 10,000, and
# NumPy uses the same rounded inputs, so their rounding does not count as an error.

# %%
makers = {'batch_norm': lambda c: BatchNorm(c, 4),
          'fused_batch_norm, portable': lambda c: BatchNorm(c, 4, fn=batch_norm_portable),
          'fused_batch_norm': lambda c: BatchNorm(c, 4, fn=fused_batch_norm),
          'gluon.nn.BatchNorm': lambda c: nn.BatchNorm(in_channels=c)}
layers = {name: make(c) for name, make in makers.items()}
for layer in layers.values():
    layer.initialize()  # gamma = 1 and beta = 0

# %% [markdown]
# **Predict** whose error grows.

# %% tags=["hide-output"]
means, errors = (0, 100, 10_000), {name: [] for name in makers}
for mean in means:
    X = make_arrays(shape, mean).X  # float32
    D = X - X.mean(axis=(0, 2, 3), dtype='float64', keepdims=True)  # float64 from here on
    exact = D / numpy.sqrt((D ** 2).mean(axis=(0, 2, 3), keepdims=True) + 1e-5)
    for name, layer in layers.items():
        with autograd.train_mode():
            Y = layer(nd.array(X)).asnumpy()
        errors[name].append(numpy.linalg.norm(Y - exact) / numpy.linalg.norm(exact))
figures.table([(name, *values) for name, values in errors.items()],
              ['relative error of Y', *(f'mean {mean:,}' for mean in means)])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Gluon's layer loses two digits more than ours at mean 0, and at 10,000 it has no correct digit left. `batch_norm`
# loses digits too, but not because float32 cannot do better: the portable path uses float32 throughout, and its error
# hardly grows. (`fused_batch_norm` takes the path that the cell with the imports prints; the native path accumulates in
# float64.)
#
# </details>
#
# **Check** this, and that the package measures the same.

# %% tags=["hide-output"]
for name, values in speed.errors_by_mean(makers, means, shape).items():
    assert numpy.allclose(errors[name], values, rtol=1e-3)
assert errors['gluon.nn.BatchNorm'][2] > 1000 * errors['fused_batch_norm'][2]
assert errors['batch_norm'][2] < 1e-3
assert max(errors['fused_batch_norm'][2], errors['fused_batch_norm, portable'][2]) < 1e-6
figures.errors_by_mean(errors, means)

# %% [markdown]
# What does `batch_norm` lose? Its *mean* is rounded to float32, whose numbers near 10,000 are 0.001 apart, and every
# $X - \mu$ inherits its error. The portable path subtracts such a mean first, too (see `D` in `by_products`), but then
# takes the mean of the small differences and subtracts that as well. **Check**: the rounding of the exact mean, by
# itself, is about as large as the error of $Y$ in the table.

# %%
for mean, error in zip(means[1:], errors['batch_norm'][1:]):
    exact = make_arrays(shape, mean).X.mean(axis=(0, 2, 3), dtype='float64')
    rounding = numpy.sqrt(((exact - numpy.float32(exact)) ** 2).mean())  # in standard deviations of X
    print(f'mean {mean:6,}: rounding of the mean {rounding:.1e}, error of Y {error:.1e}')
    assert rounding / 3 < error < 3 * rounding

# %% [markdown]
# **Try it.** Add 1,000 to the input of Gluon's layer: which digits of the output are lost?
#
# ## What we saw, and what we did not show
#
# **Saw.** On LeNet's first layer, the same operators in one compiled graph are about as slow as when they run one by
# one; other operators for the same sums are many times as fast. Gluon's layer is the same computation, to four digits
# on the convolution and to about six after the dense layer, and the error is Gluon's.
#
# **With conditions.** "Much faster, and not because it is compiled" is shown for Gluon's layer, compared with the
# chapter's maths, at this shape and on a CPU (C31); on small dense minibatches, compiling pays. "The same" holds with
# equal eps, momentum and initial variance, for inputs whose mean is small against their spread, and for statistics read
# after a backward pass (C30).
#
# **Did not show.** Gluon's layer at other shapes, whole epochs, PyTorch, and how far memory sets the limit: `make
# bench` measures those. Why MXNet's reductions are slow. GPUs, where MXNet calls another library.
