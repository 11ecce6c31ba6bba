# %% [markdown]
# # Speed and accuracy
#
# The chapter's layer and Gluon's compute the same thing, and yet one is tens of times as fast as the other. The
# usual explanation is that Gluon's layer "is compiled". We take the time apart, operator by operator, and find
# another one. On the way we ask how equal "the same" is, in digits.
#
# Everything runs on one minibatch of the shape of LeNet's first layer, (256, 6, 24, 24), and takes half a minute.
# Times vary from machine to machine; the *ratios* are what to look at.

# %%
# %matplotlib inline
from gluon_bn.experiments import figures, parity, speed
from gluon_bn.norm import BatchNorm, fused_batch_norm, status
from mxnet.gluon import nn

shape = (256, 6, 24, 24)
print(status().split(':')[0], 'is the path of fused_batch_norm here')

# %% [markdown]
# ## 1. Is it because it is compiled?
#
# *Claim C31.* If Python were the reason, then the same operators, compiled into one graph that Python starts once,
# would be about as fast as Gluon's layer. **Predict**: how much of the time does compiling take away?

# %%
times = speed.time_layers(shape)
eager = times['batch_norm, operator by operator']
rows = [(name, ms, eager / ms) for name, ms in times.items()]
figures.table(rows, ['forward + backward', 'milliseconds', 'times as fast'])

# %% [markdown]
# Compiling changes almost nothing: the interpreter was never in the way. Operators that take milliseconds do not
# notice the microseconds that starting one costs. **Check**: the graph holds the very operators that run one by one,
# so compiling has nothing else to give; the portable closed form has no mean and no power in it. (The times are checked
# with a margin of several times, for a machine may be busy.)

# %%
operators = speed.operators(shape)
one_by_one, graph, portable = list(operators.values())[:3]
assert graph == one_by_one and graph['mean'] == 2 and graph['_power_scalar'] == 1
assert not {'mean', '_power_scalar'} & set(portable)
assert times['its operators, compiled into one graph'] > 3 * times['gluon.nn.BatchNorm']
assert times['fused_batch_norm, portable'] < eager / 3

# %% [markdown]
# ## 2. Where the time goes
#
# We break `batch_norm` into its operators. **Predict** which is the slowest: the sums, the squares, or the
# subtraction with its broadcast?

# %%
times = speed.time_operators(shape)
figures.table(times.items(), ['operator', 'milliseconds'])

# %% [markdown]
# MXNet's reduction over three axes goes through the values one by one, in compensated arithmetic; a product with a
# vector of ones is the same sum, handed to the matrix library. `X ** 2` calls a general power where `square` would
# multiply. And autograd adds the gradients of the broadcasts, which are reductions again. So the mend is not to
# compile, but to choose other sums: that is `portable.py`. Going on from there, `native.cc` reads each value only
# as often as the definition needs: the closed form of the gradient, in two passes.

# %%
assert times['the same sums, as a product with ones'] < times['X.mean(axis=(0, 2, 3))']
assert times['nd.square(X)'] < times['X ** 2']

# %% [markdown]
# ## 3. How equal is "the same"?
#
# *Claim C30.* We train one layer of each kind for five steps, on the same minibatches and random upstream
# gradients, and compare all that comes out: outputs, the three gradients, the moving statistics (after the backward
# pass, since that is when Gluon's layer moves its own). **Predict** the difference in units of float32's last
# digit, 6e-8.

# %%
small, large = parity.compare_with_gluon((256, 120)), parity.compare_with_gluon(shape)
figures.table([(name, small[name], large[name]) for name in small],
              ['largest relative difference of', 'dense (256, 120)', f'convolution {shape}'])

# %% [markdown]
# The dense layers agree to the sixth digit. The convolutional ones part after the fourth: there a channel has
# 147,456 values instead of 256. The difference grows with the number of values in a sum, so a sum is to blame;
# whose?

# %%
assert max(small.values()) < 1e-5 and max(large.values()) < 5e-4

# %% [markdown]
# ## 4. Whose error it is
#
# NumPy in float64 is the judge. The inputs have unit variance around a mean of 0, 100 and 10,000: rounding cannot
# be avoided altogether, since float32 holds numbers near 10,000 only to 0.0005. **Predict** whose error grows.

# %%
makers = {'batch_norm': lambda c: BatchNorm(c, 4),
          'fused_batch_norm': lambda c: BatchNorm(c, 4, fn=fused_batch_norm),
          'gluon.nn.BatchNorm': lambda c: nn.BatchNorm(in_channels=c)}
means = (0, 100, 10_000)
errors = parity.errors_by_mean(makers, means, shape)
figures.table([(name, *values) for name, values in errors.items()],
              ['relative error of Y', *(f'mean {mean:,}' for mean in means)])

# %% [markdown]
# Gluon's sums lose two digits more than ours at mean 0, and at 10,000 nothing is left of them. The two-pass
# variance of `batch_norm` stays at what float32 allows. `fused_batch_norm` does better still, because it adds in
# float64 and keeps the digits of the mean that float32 cannot hold.

# %%
assert errors['gluon.nn.BatchNorm'][2] > 1000 * errors['fused_batch_norm'][2]
assert errors['batch_norm'][2] < 1e-3 and errors['fused_batch_norm'][2] < 1e-6
figures.errors_by_mean(errors, means)

# %% [markdown]
# ## What we saw, and what we did not show
#
# **Saw.** The same operators in one compiled graph are about as slow as one after the other; other operators for
# the same sums are many times as fast. Gluon's layer is the same computation, to four digits where its sums are
# long and to six where they are short, and the missing digits are its own.
#
# **With conditions.** "Much faster" is true of Gluon's layer against the chapter's maths, on this shape (C31). "The
# same" holds with equal eps, momentum and initial variance, for inputs whose mean is small against their spread,
# and for statistics read after a backward pass (C30).
#
# **Did not show.** Other shapes, whole epochs, PyTorch, and how far memory sets the limit: `make bench` measures
# those. GPUs, where MXNet calls another library.
