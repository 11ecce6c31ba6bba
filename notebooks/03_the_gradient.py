# %% [markdown]
# # The gradient of batch normalization
#
# Autograd gives us this gradient for free. We derive it all the same, one named intermediate at a time, because the
# result shows what makes batch normalization work: *what the gradient does not contain*. For one unit and a minibatch
# of $m$ examples,
#
# $$\mu = \frac1m\sum_i x_i,\quad c_i = x_i-\mu,\quad v = \frac1m\sum_i c_i^2,\quad s = \sqrt{v+\epsilon},\quad
# \hat x_i = \frac{c_i}{s},\quad y_i = \gamma\hat x_i+\beta .$$
#
# In the code they are `X, mean, centred, var, std, X_hat, Y`. The output leads to some loss $L$, of which we know only
# $\partial L/\partial y_i$. We draw it at random: with all ones the gradient of $X$ is 0, and some mistakes would pass,
# as the end of section 2 shows. The arrays are in float64, except in the forward pass of section 3.
#
# **Afterwards you can** derive the gradient of batch normalization, check each step against autograd, and see from the
# result which changes it never proposes.
#
# **You need** notebook 01 and the chain rule. Reading takes about 20 minutes; running takes a few seconds.

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
import numpy as np
from mxnet import autograd

from gluon_bn.experiments import figures, gradient
from gluon_bn.experiments.chain import float64, leaf

eps = 0.1  # large, so that it can be seen; change it
X, gamma, beta, dY = gradient.draw((64, 5))
print('X and dY', X.shape, ' gamma and beta', gamma.shape)

# %% [markdown]
# ## 1. Forward
#
# *Claim C04.* Every unit is standardized by its own mean and deviation, broadcast over the rows. **Predict** mean
# and variance of each unit of $\hat X$, for $\epsilon = 0.1$.

# %% tags=["hide-output"]
mean = X.mean(axis=0, keepdims=True)  # (1, 5)
centred = X - mean
var = (centred ** 2).mean(axis=0, keepdims=True)
std = np.sqrt(var + eps)
X_hat = centred / std
Y = gamma * X_hat + beta

# Figure: The mean and variance of five units, in X and in X_hat.
expected = (var / (var + eps))[0]
figures.bars([f'unit {i}' for i in range(5)], {
    'X': {'mean': mean[0], 'variance': var[0]},
    'X_hat': {'mean': X_hat.mean(axis=0), 'variance': X_hat.var(axis=0)}})

# %% [markdown]
# <details><summary>Answer</summary>
#
# The means are 0; the variances are $v/(v+\epsilon)$, which approaches 1 only as $\epsilon\to0$.
#
# </details>
#
# **Check** that, and that these lines compute what the package's `batch_norm` does.

# %%
assert np.allclose(X_hat.mean(axis=0), 0, atol=1e-14)
assert np.allclose(X_hat.var(axis=0), expected, rtol=1e-12)
Y_of_batch_norm, autograd_of_batch_norm = gradient.of_batch_norm(X, gamma, beta, eps, dY)
assert np.allclose(Y_of_batch_norm, Y, atol=1e-13)

# %% [markdown]
# **Try it.** Set `eps` to 1e-5 in the cell with the imports, and predict the variances of $\hat X$.
#
# ## 2. Backward, one step at a time
#
# Autograd keeps only the gradients of its leaves. To see an *intermediate's* gradient, we add a zero to it: the sum is
# the same, and the zero is a leaf that gets the sum's gradient. In this graph, `X` and `centred` are each used twice:
#
# ```text
# X -+------------> centred -+----------> X_hat -> Y
#    +-> mean ---------^     +-> var -> std -^
# ```
#
# Here are the lines of section 1, under the names of the formulas, each with its zero.

# %%
values = {'X': X, 'mean': mean, 'centred': centred, 'var': var, 'std': std, 'X_hat': X_hat, 'Y': Y,
          'gamma': gamma, 'beta': beta}
zero = {name: leaf(0 * value) for name, value in values.items()}
with autograd.record():
    x = float64(X) + zero['X']
    mu = x.mean(axis=0, keepdims=True) + zero['mean']
    c = x - mu + zero['centred']
    v = (c ** 2).mean(axis=0, keepdims=True) + zero['var']
    s = (v + eps).sqrt() + zero['std']
    x_hat = c / s + zero['X_hat']
    y = (float64(gamma) + zero['gamma']) * x_hat + (float64(beta) + zero['beta']) + zero['Y']
y.backward(float64(dY))
by_autograd = {name: zero[name].grad.asnumpy() for name in values}


# %% [markdown]
# Now by hand, from $y$ down to $x$; `check` compares each formula with the gradient of its zero.
#
# **Scale and shift.** $y_i = \gamma\hat x_i+\beta$, where $\gamma$ and $\beta$ are shared by all examples, so their
# gradients are sums:
#
# $$\frac{\partial L}{\partial\hat x_i} = \gamma\,\frac{\partial L}{\partial y_i},\qquad
# \frac{\partial L}{\partial\gamma} = \sum_i \hat x_i\frac{\partial L}{\partial y_i},\qquad
# \frac{\partial L}{\partial\beta} = \sum_i \frac{\partial L}{\partial y_i} .$$

# %%
def check(name, by_hand):
    np.testing.assert_allclose(by_hand, by_autograd[name], atol=1e-12, err_msg=name)

dX_hat = gamma * dY
dgamma = (X_hat * dY).sum(axis=0, keepdims=True)
dbeta = dY.sum(axis=0, keepdims=True)
check('X_hat', dX_hat)
check('gamma', dgamma)
check('beta', dbeta)

# %% [markdown]
# **The deviation and the variance.** $\hat x_i = c_i/s$ with one $s$ for all examples, and $s =
# \sqrt{v+\epsilon}$:
#
# $$\frac{\partial L}{\partial s} = -\frac{1}{s^2}\sum_i c_i\,\frac{\partial L}{\partial\hat x_i},\qquad
# \frac{\partial L}{\partial v} = \frac{1}{2s}\,\frac{\partial L}{\partial s} .$$

# %%
dstd = -(centred * dX_hat).sum(axis=0, keepdims=True) / std ** 2
dvar = dstd / (2 * std)
check('std', dstd)
check('var', dvar)

# %% [markdown]
# **The centred values** take two paths: straight into $\hat x_i$, and into $v$. Two paths, two terms. Then **the
# mean**, which every $c_i$ contains with a minus sign:
#
# $$\frac{\partial L}{\partial c_i}
# {}= \frac1s\frac{\partial L}{\partial\hat x_i} + \frac{2c_i}{m}\frac{\partial L}{\partial v},
# \qquad \frac{\partial L}{\partial\mu} = -\sum_i \frac{\partial L}{\partial c_i} .$$

# %%
m = len(X)
dcentred = dX_hat / std + 2 * centred * dvar / m
dmean = -dcentred.sum(axis=0, keepdims=True)
check('centred', dcentred)
check('mean', dmean)

# %% [markdown]
# **The input** also takes two paths: into $c_i$, and with weight $1/m$ into $\mu$. If we substitute all of the above,
# the gradient is one line:
#
# $$\frac{\partial L}{\partial x_i} = \frac{\partial L}{\partial c_i} + \frac1m\frac{\partial L}{\partial\mu}
# {}= \frac{\gamma}{m\,s}\left(m\frac{\partial L}{\partial y_i} - \frac{\partial L}{\partial\beta} -
# \hat x_i\frac{\partial L}{\partial\gamma}\right).$$
#
# In words: the gradient subtracts from the upstream gradient its mean and its component along $\hat x$.

# %%
dX = dcentred + dmean / m
check('X', dX)
assert np.allclose(dX, gamma / (m * std) * (m * dY - dbeta - X_hat * dgamma), atol=1e-13)
assert np.allclose(dX, autograd_of_batch_norm['X'], atol=1e-13)

# %% [markdown]
# What if $\partial L/\partial y_i$ is all ones? We make two mistakes: omit the path through the variance, and treat
# both mean and deviation as constants. **Predict** which of the two the ones fail to detect.

# %% tags=["hide-output"]
rows = []
for name, d in (('ones', np.ones_like(dY)), ('random', dY)):
    right = gradient.of_batch_norm(X, gamma, beta, eps, d)[1]['X']
    no_variance, constants = gamma / std * (d - d.mean(axis=0)), gamma / std * d
    rows.append((name, *(np.abs(wrong - right).max() for wrong in (no_variance, constants))))
figures.table(rows, ['dL/dy', 'error without the variance', 'error with constants'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The ones miss the first mistake; random numbers reveal both.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert rows[0][1] < 1e-13 and min(rows[0][2], *rows[1][1:]) > 0.1

# %% [markdown]
# One minibatch is no proof. The same formulas live in `gradient.by_hand` and the zeros in `gradient.by_autograd`; here
# we compare the two for three seeds, dense and convolutional. **Predict** the errors, relative to the largest gradient
# of each name.

# %% tags=["hide-output"]
names = (*gradient.INTERMEDIATES, 'gamma', 'beta')
twins = [twin(X, gamma, beta, eps, dY) for twin in (gradient.by_hand, gradient.by_autograd)]
errors = {shape: [gradient.errors(shape, seed=seed) for seed in range(3)]
          for shape in ((64, 5), (4, 3, 5, 6))}
worst = {shape: [max(run[name] for run in runs) for name in names] for shape, runs in errors.items()}
figures.table(zip(names, *worst.values()), ['gradient of', 'dense (64, 5)', 'convolution (4, 3, 5, 6)'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# They are all rounding errors.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert all(np.allclose(twin[name], by_autograd[name], atol=1e-12) for twin in twins for name in names)
assert max(map(max, worst.values())) < 1e-12

# %% [markdown]
# **Try it.** Omit the term through `var` from `dcentred`, and see which checks fail.
#
# ## 3. Four rows by hand
#
# *Claim C23.* A dense layer with batch normalization computes $\phi(\mathrm{BN}(Wu+b))$, with the statistics of the
# current minibatch. Let $W u+b$ be the four rows $(1,2), (3,2), (5,6), (7,6)$: means 4 and 4, variances 5 and 4.
# **Predict** the second column behind BN ($\epsilon = 0$) and behind a ReLU; then the first.

# %% tags=["hide-output"]
u, W, b = np.array([[0, 0], [1, 0], [2, 1], [3, 1]]), np.array([[2, 0], [0, 4]]), np.array([1, 2])
affine = u @ W.T + b
normalized = (affine - affine.mean(axis=0)) / affine.std(axis=0)  # eps = 0
output = np.maximum(normalized, 0)  # the ReLU
rows = [(*a, *b, *c) for a, b, c in zip(affine, normalized, output)]
figures.table(rows, [f'{what}, unit {i}' for what in ('Wu + b', 'BN', 'ReLU') for i in (1, 2)])

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the second column, $\hat x = (-1,-1,1,1)$; in the first, $(-3,-1,1,3)/\sqrt5$.
#
# </details>
#
# Now go backwards with $\partial L/\partial y = (0,1,0,3)$ in the second column: $\partial L/\partial\beta = 4$,
# $\partial L/\partial\gamma = -1+3 = 2$, and with $m s = 8$
#
# $$\frac{\partial L}{\partial x} = \tfrac18\big(4\,(0,1,0,3) - 4 - 2\,(-1,-1,1,1)\big) = \tfrac14(-1, 1, -3, 3).$$

# %%
s = 5 ** 0.5
assert np.allclose(normalized, [[-3 / s, -1], [-1 / s, -1], [1 / s, 1], [3 / s, 1]])
assert np.allclose([affine, normalized, output], gradient.dense_by_hand())  # by Gluon's Dense, BatchNorm and ReLU
one, upstream = np.ones((1, 2)), np.array([[1, 0], [2, 1], [0, 0], [-1, 3.0]])
rows_dX = gradient.of_batch_norm(gradient.ROWS, one, 0 * one, 0.0, upstream)[1]['X']
assert np.allclose(rows_dX[:, 1], [-0.25, 0.25, -0.75, 0.75])
assert np.allclose(rows_dX[:, 0], np.array([-0.7, 1.1, -0.1, -0.3]) / s)


# %% [markdown]
# Add up the four numbers: 0. Multiply them by $(-1,-1,1,1)$ and add up: 0 again. That is no accident.
#
# **Try it.** Set `affine[3] = 70, 6`: how do the other rows of the first column change?
#
# ## 4. What the gradient never proposes
#
# *Claim C06.* First break it: treat $\mu$ and $s$ as constants, so that $\partial L/\partial x_i = \gamma\,\partial
# L/\partial y_i / s$. Does such a gradient propose to shift a unit (all examples by the same amount) or to stretch it
# (along $c$)? We take the cosine with both directions for 600 units with random upstream gradients. **Predict** both
# histograms, also for the whole gradient, which subtracts two more terms. (Omit one of them and run the cell again.)

# %% tags=["hide-output"]
def dL_dX(X, gamma, dY, eps):
    std = np.sqrt(X.var(axis=0) + eps)
    X_hat = (X - X.mean(axis=0)) / std
    return gamma / std * (dY - dY.mean(axis=0) - X_hat * (X_hat * dY).mean(axis=0))

def cosines(X, dX):
    return [(dX * direction).sum(axis=0) / np.sqrt((dX ** 2).sum(axis=0) * (direction ** 2).sum(axis=0))
            for direction in (np.ones_like(X), X - X.mean(axis=0))]  # a shift, a stretch

X_600, gamma_600, beta_600, dY_600 = gradient.draw((64, 600), seed=1)
through = dL_dX(X_600, gamma_600, dY_600, eps=0.0)
constants = gamma_600 / X_600.std(axis=0) * dY_600
figures.cosines(cosines(X_600, through), cosines(X_600, constants))

# %% [markdown]
# <details><summary>Answer</summary>
#
# With constant statistics there are shifts and stretches of any size; through the statistics there are none. From the
# closed form, with $\sum\hat x_i = 0$:
#
# $$\sum_i\frac{\partial L}{\partial x_i} = 0,\qquad
# \sum_i\hat x_i\,\frac{\partial L}{\partial x_i}
# {}= \frac{\gamma}{s}\,\frac{\partial L}{\partial\gamma}\cdot\frac{\epsilon}{v+\epsilon} .$$
#
# The first is always 0; the second vanishes only as $\epsilon\to0$.
#
# </details>
#
# **Check** this on three seeds, with $\epsilon$ from 0 to 1, by autograd through `batch_norm` and with the package's
# cosines.

# %% tags=["hide-output"]
rows = []
for eps_ in (0.0, 1e-5, 1e-2, 1.0):
    draws = [gradient.draw((64, 5), seed) for seed in range(3)]
    gradients = [gradient.of_batch_norm(*d[:3], eps_, d[3])[1]['X'] for d in draws]
    parts = np.array([gradient.forbidden_components(d[0], g) for d, g in zip(draws, gradients)])
    assert np.allclose(parts, [cosines(d[0], dL_dX(d[0], d[1], d[3], eps_)) for d in draws], atol=1e-14)
    shift, stretch = np.abs(parts).max(axis=(0, 2))
    assert shift < 1e-14 and stretch < max(1e-14, 0.2 * eps_)
    rows.append((eps_, shift, stretch))
figures.table(rows, ['eps', 'largest cosine with a shift', 'with a stretch'])

# %% [markdown]
# "Never" has two more conditions. First: a step orthogonal to $c$ preserves the length of $c$ only to first order.
# **Predict** what a step on $X$ itself does to the variances, and what a step twice as long does.

# %% tags=["hide-output"]
growths = []
for lr in (0.1, 0.2):
    X_new = X - lr * dL_dX(X, gamma, dY, eps=0.0)
    growths.append(X_new.var(axis=0) - X.var(axis=0))
figures.table(zip(range(5), *growths), ['unit', 'variance gained, rate 0.1', 'rate 0.2'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The step is orthogonal to $c$. By Pythagoras' theorem the squared lengths of $c$ and of the step add up, so the
# variance can only grow, with the square of the step.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert (growths[0] > 0).all() and np.allclose(growths[1] / growths[0], 4)
assert np.allclose(X.mean(axis=0), X_new.mean(axis=0), atol=1e-14)


# %% [markdown]
# Second: in a network, the step is not on $X$ but on the weights below. If $H = UW$, a step on $W$ at a rate $\eta$
# moves $H$ by $-\eta\,U U^\top\partial L/\partial H$. **Predict:** does the mean of $H$ stay the same when the inputs
# $U$ have mean 0? And mean 1?

# %% tags=["hide-output"]
def mean_moves(offset, seed, lr=0.1):
    random = np.random.RandomState(seed)
    U, W = random.randn(64, 8), random.randn(8, 5)
    U += offset - U.mean(axis=0)
    H = U @ W
    dW = U.T @ dL_dX(H, 1.0, random.randn(64, 5), eps=0.0)
    H_new = U @ (W - lr * dW)
    return np.abs(H_new.mean(axis=0) - H.mean(axis=0)).max()

moved = {offset: [mean_moves(offset, seed) for seed in range(3)] for offset in (0.0, 1.0)}
figures.table([(offset, *steps) for offset, steps in moved.items()],
              ['mean of U', 'mean of H moved by: seed 0', 'seed 1', 'seed 2'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The gradient of the *activations* contains no shift. The step on the *weights* may shift them all the same, if their
# inputs are not centred.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert max(moved[0.0]) < 1e-13 and min(moved[1.0]) > 0.1

# %% [markdown]
# **Try it.** Take the step at a rate of 10: is the variance larger or smaller than before?
#
# ## 5. And if a unit is shifted or stretched after all?
#
# *Claim C07.* Then the normalization removes it: $\mathrm{BN}(ax+b) = \mathrm{BN}(x)$ for $a>0$. **Predict** the
# difference for $a = 7$, for $a = 0.01$, and for $a = -7$, with $\epsilon = 10^{-5}$ and with 0.

# %% tags=["hide-output"]
rows = []
for a in (7.0, 0.01, -7.0):
    row = [a]
    for eps_ in (0.0, 1e-5):
        Y, Y_moved = [gradient.of_batch_norm(Z, 1 + 0 * gamma, 0 * beta, eps_, dY)[0]
                      for Z in (X, a * X + 20)]
        row.append(np.abs(Y_moved - Y).max())
    rows.append(row)
figures.table(rows, ['a (b = 20)', 'largest difference, eps = 0', 'eps = 1e-5'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The result is exact for $\epsilon=0$ and $a>0$. With $\epsilon$, the stretched unit behaves like the original one with
# $\epsilon/a^2$, which matters when $a$ is small. A negative $a$ flips the sign.
#
# </details>
#
# **Check:**

# %%
small, same = [gradient.of_batch_norm(Z, 1 + 0 * gamma, 0 * beta, eps_, dY)[0]
               for Z, eps_ in ((0.01 * X + 20, 1e-5), (X, 1e-5 / 0.01 ** 2))]
assert np.allclose(small, same, atol=1e-10)
plus, minus = [gradient.of_batch_norm(Z, 1 + 0 * gamma, 0 * beta, 0.0, dY)[0] for Z in (X, -7 * X + 20)]
assert np.allclose(minus, -plus, atol=1e-12)
assert rows[0][1] < 1e-12 < rows[1][2]


# %% [markdown]
# **Try it.** Which $a$ makes the difference for `eps = 1e-5` reach 0.1?
#
# ## 6. Why there is an eps
#
# *Claim C05.* A unit may be the same in every example: a dead ReLU, a white border. Then $v = 0$, and the slope
# of $\sqrt{v}$ is infinite there. First break it: **predict** $\partial L/\partial x$ of a constant unit for
# $\epsilon = 0$, then for $10^{-8}$ and $10^{-5}$.

# %%
def constant_unit(eps, dY):
    X, one = np.full((64, 1), 3.0), np.ones((1, 1))
    return gradient.of_batch_norm(X, one, 0 * one, eps, dY)[1]['X'].ravel()

rows = [(eps_, *constant_unit(eps_, dY[:, :1])[:4]) for eps_ in (0.0, 1e-8, 1e-5)]
figures.table(rows, ['eps', 'x1', 'x2', 'x3', 'x4'])

# %% [markdown]
# Without eps, the gradient is NaN or infinite, and in a network this would reach all weights below. With eps, it is
# finite. But note how large it is: the unit's gradient is the centred upstream gradient times $1/\sqrt\epsilon$, 10,000
# for $10^{-8}$ and 316 for $10^{-5}$. The picture shows the slope of the root.

# %%
v = np.logspace(-12, 0, 100)
slopes = {eps_: 0.5 / np.sqrt(v + eps_) for eps_ in (0.0, 1e-8, 1e-5)}
figures.root_slopes(v, slopes)

# %% [markdown]
# **Check** the three statements.

# %% tags=["hide-input"]
assert not np.isfinite(constant_unit(0.0, dY[:, :1])).any()
for d in dY.T:
    for eps_ in (1e-8, 1e-5):
        assert np.allclose(constant_unit(eps_, d[:, None]), (d - d.mean()) / eps_ ** 0.5)


# %% [markdown]
# **Try it.** Find the eps for which the gradient of a constant unit is at most 1.
#
# ## 7. The bias before batch normalization
#
# *Claim C21.* A bias is a shift of its unit. So by sections 4 and 5, a dense layer before BN needs none: $\beta$ takes
# its place. **Predict**, for a bias of 30, the change of the output and the gradient of the bias, in training and in
# prediction mode.

# %% tags=["hide-output"]
def with_bias(bias, train_mode, seed):
    random = np.random.RandomState(seed)
    U, W, dY = random.randn(32, 6), random.randn(4, 6), random.randn(32, 4)
    H, b = float64(U @ W.T), leaf(np.full((1, 4), float(bias)))
    mean = H.mean(axis=0)  # the moving statistics: those of this minibatch without a bias
    var = ((H - mean) ** 2).mean(axis=0)
    with autograd.record():
        Z = H + b
        if train_mode:
            mean = Z.mean(axis=0)
            var = ((Z - mean) ** 2).mean(axis=0)
        Y = (Z - mean) / (var + 1e-5).sqrt()
    Y.backward(float64(dY))
    return Y.asnumpy(), b.grad.asnumpy()


# %% [markdown]
# The next cell compares biases of 0 and 30.

# %% tags=["hide-output"]
rows = []
for train_mode in (True, False):
    runs = [[with_bias(bias, train_mode, seed) for bias in (0.0, 30.0)] for seed in range(3)]
    changes = [np.abs(run[1][0] - run[0][0]).max() for run in runs]
    gradients = [np.abs(run[1][1]).max() for run in runs]
    rows.append(('training' if train_mode else 'prediction', max(changes), max(gradients)))
figures.table(rows, ['mode', 'largest change of Y', 'largest gradient of the bias'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# In training, the bias changes nothing and learns nothing. In prediction mode the moving mean is fixed: a bias that was
# not part of it shifts the output. (If the bias was there during training, the moving mean contains it and subtracts
# it.)
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert rows[0][1] < 1e-12 and rows[0][2] < 1e-13
assert rows[1][1] > 1 and rows[1][2] > 0.1
for train_mode in (True, False):  # by Gluon's Dense and our BatchNorm
    assert np.allclose(with_bias(30, train_mode, 0)[0], gradient.with_bias(30, train_mode, 0)[0])

# %% [markdown]
# **Try it.** Include the bias in the moving mean: does the bias still change the prediction?
#
# ## 8. Convolutions: one mean for all locations
#
# *Claim C22.* A feature map $(m, c, p, q)$ has $mpq$ values per channel, and one $\mu$ and one $\sigma$ for all of
# them. First break it: give every *location* its own statistics. **Predict** what happens to a bright spot that is
# mostly near the middle.

# %% tags=["hide-output"]
maps = gradient.blobs()
one = np.ones((1, 1, 1, 1))
by_channel = gradient.of_batch_norm(maps, one, 0 * one, 1e-5, maps)[0]
by_location = (maps - maps.mean(axis=0)) / np.sqrt(maps.var(axis=0) + 1e-5)
figures.feature_maps({'X': maps, 'by channel': by_channel, 'by location': by_location})

# %% [markdown]
# <details><summary>Answer</summary>
#
# By channel, only the scale of the picture changes. By location, the frequent middle is scaled down and the rare margin
# is scaled up: what a spot looks like now depends on where it is.
#
# </details>
#
# **Check** how much of the picture is kept, over all 64 maps, and compare rearranging the locations before and after
# BN.

# %% tags=["hide-output"]
kept = [np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(maps, Z)])
        for Z in (by_channel, by_location)]
assert np.isclose(kept[0], 1) and kept[1] < 0.9
moves = {'cyclic shift': gradient.roll, 'random order': gradient.permute,
         'shift with zeros': gradient.shift_in_zeros}
differences = [max(gradient.commutes(move, seed=seed) for seed in range(3)) for move in moves.values()]
assert max(differences[:2]) < 1e-13 and differences[2] > 0.1
figures.table(zip(moves, differences), ['move', 'largest difference: BN(move(X)) - move(BN(X))'])


# %% [markdown]
# BN commutes with any rearrangement of the locations. The condition is that nothing is lost: a shift that brings in
# zeros has other statistics. The dense case with $mpq$ examples is the same computation, gradient included. **Check:**

# %%
def as_rows(A):  # (m, c, p, q) -> (m p q, c)
    return A.transpose(0, 2, 3, 1).reshape(-1, A.shape[1])

for seed in range(3):
    *batch, upstream = gradient.draw((4, 3, 5, 6), seed)
    Y_maps, of_maps = gradient.of_batch_norm(*batch, 1e-5, upstream)
    Y_rows, of_rows = gradient.of_batch_norm(*map(as_rows, batch), 1e-5, as_rows(upstream))
    assert np.allclose(as_rows(Y_maps), Y_rows, atol=1e-13)
    assert np.allclose(as_rows(of_maps['X']), of_rows['X'], atol=1e-13)

# %% [markdown]
# **Try it.** Average `by_location` over `axis=(0, 2)`, that is, whole columns of pixels: which spots keep their shape?
#
# ## 9. One scale and one shift a channel
#
# *Claim C24.* $\gamma$ and $\beta$ hold one number for each channel. We change both in channel 2 of five. **Predict**
# which channels of $Y$ and of $\partial L/\partial X$ change, under the same upstream gradient.

# %% tags=["hide-output"]
*batch, upstream = gradient.draw((8, 5, 4, 4))
X_maps, gamma_new, beta_new = [array.copy() for array in batch]
gamma_new[:, 2] += 1.5
beta_new[:, 2] += 1.5
(Y, of_old), (Y_new, of_new) = [gradient.of_batch_norm(*arrays, 1e-5, upstream)
                                for arrays in (batch, (X_maps, gamma_new, beta_new))]
changes = [np.abs(new - old).max(axis=(0, 2, 3)) for new, old in ((Y_new, Y), (of_new['X'], of_old['X']))]
# Figure: The largest change of each channel of Y and of dL/dX.
figures.bars([f'channel {c}' for c in range(5)], {'largest change': {'Y': changes[0], 'dL/dX': changes[1]}})

# %% [markdown]
# <details><summary>Answer</summary>
#
# The others are unchanged, bit for bit. (In a network the layers above mix the channels, so that the *upstream*
# gradient will differ at the next step.)
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert all((change[[0, 1, 3, 4]] == 0).all() and change[2] > 0.1 for change in changes)

# %% [markdown]
# **Try it.** Change only `beta_new`: which of the two bars disappears?
#
# ## What we saw, and what we did not show
#
# **Saw.** Each gradient of batch normalization is a formula of one line, and equals autograd's. Back-propagation
# through mean and deviation removes two directions from each unit's gradient: the shift and, as $\epsilon \to 0$, the
# stretch. So a bias before it is idle. A convolution is the dense case with more examples.
#
# **With conditions.** The variance is $v/(v+\epsilon)$ (C04). The stretch is removed up to $\epsilon/(v+\epsilon)$; the
# step keeps the variance to first order only; and a step on the weights may shift units whose inputs are not centred
# (C06). Stretching is invisible for $a>0$ and as far as $\epsilon$ is small against $a^2v$ (C07). With $\epsilon$ the
# gradient of a constant unit is finite, not small (C05). The bias is idle in training, not in prediction (C21). In a
# convolution, batch normalization commutes with shifts if no location is lost (C22).
#
# **Did not show.** Float32, in which `batch_norm` loses digits where the mean is large against the spread (notebook
# 06); how fast a closed form can be computed; and whether any of this makes a real network learn better. Those are
# other notebooks.
