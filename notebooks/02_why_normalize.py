# %% [markdown]
# # Why normalize?
#
# A gradient says what to do with each weight *if all the others stay as they are*. Then we move them all at once.
# This notebook takes the smallest network in which that goes wrong, a chain of single linear units
#
# $$y = x\,w_1 w_2 \cdots w_l ,\qquad h_i = h_{i-1} w_i ,$$
#
# breaks it, mends it by normalizing one unit, and then asks which remedies were tried before, what each costs, and what
# the two new parameters $\gamma$ and $\beta$ are for. The example is from Goodfellow, Bengio and Courville, *Deep
# Learning* (2016), section 8.7.1; batch normalization itself is by Ioffe and Szegedy (2015).
#
# **Afterwards you can** say why no single rate suits a deep chain, what normalizing one unit changes and what it does
# not, and why a penalty, renormalizing or whitening is no substitute. *Claim*, with a number, refers to the
# [table](../docs/claims.md) of what the chapter claims.
#
# **You need** notebook 01 and the chain rule. Reading takes about 28 minutes, with a good place for a break after
# section 7; running takes about a minute on two cores. Each section asks for a prediction, runs, and then checks it.

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
# Now the imports. `figures` draws; the other three modules hold tested versions of what the cells compute.

# %%
# %matplotlib inline
import numpy as np
from mxnet import autograd, nd

from gluon_bn.experiments import alternatives, chain, figures, reparametrization

seeds = range(5)

# %% [markdown]
# ## 1. One step, all orders
#
# *Claim C01.* Suppose we want a smaller $y$ at $x = 1$. Let $g_i = \partial y/\partial w_i$, the product of the other
# weights. A step of gradient descent with learning rate $\eta$ (`step` in the code) replaces every $w_i$ by $w_i - \eta
# g_i$, so the new output is a polynomial in $\eta$:
#
# $$x\prod_{i=1}^{l}(w_i - \eta g_i) = \sum_{k=0}^{l} c_k\,\eta^k ,
# \qquad c_0 = y,\qquad c_1 = -g^\top g .$$
#
# The first-order Taylor series contains only $c_0$ and $c_1$. **Predict:** twelve layers, all weights 1.1, $\eta =
# 0.03$. How much of the change of $y$ is in the terms from order 2 on?

# %% tags=["hide-output"]
w, step = np.full(12, 1.1), 0.03
g = w.prod() / w  # dy/dw_i at x = 1: the product of the other weights
effects = np.ones(1)  # a polynomial in the step: its coefficients, from order 0 on
for w_i, g_i in zip(w, g):
    effects = np.convolve(effects, [w_i, -g_i])  # multiply the polynomial by (w_i - step g_i)
effects *= step ** np.arange(13)
figures.orders(effects)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The black bar promises a decrease by nearly the whole value of $y$, which is 3.1; the other orders take back a third
# of it, with alternating signs.
#
# </details>
#
# **Check** that nothing is missing: $c_1$ is as predicted, and the bars sum to the true change, to the last digits of
# float64.

# %% tags=["hide-output"]
predicted, actual = step * g @ g, w.prod() - (w - step * g).prod()
assert np.allclose(effects, chain.effects_by_order(1.0, w, step), rtol=1e-9)  # g by autograd
assert np.isclose(effects[1], -predicted, rtol=1e-12)
assert np.isclose(effects[1:].sum(), -actual, rtol=1e-12)
print(f'y = {effects[0]:.2f}: predicted decrease {predicted:.2f}, actual {actual:.2f}')


# %% [markdown]
# **Predict:** set the step to 0.01, and add layers. For which weights do prediction and truth diverge, and at what
# depth?

# %% tags=["hide-output"]
def decrease(w, step):
    g = w.prod() / w
    return step * g @ g, w.prod() - (w - step * g).prod()  # predicted, actual

depths = range(1, 21)
changes = {weight: [decrease(np.full(l, weight), 0.01) for l in depths]
           for weight in (0.9, 1.0, 1.1)}
figures.changes_over_depth(depths, changes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Note the three scales. With weights of 0.9, a deep chain hardly reacts, and the prediction is at most 2 % too large.
# With 1.0, it is 10 % too large at twenty layers. With 1.1, twenty layers react a thousand times as strongly as with
# 0.9; the prediction is 10 % too large at ten layers and 63 % at twenty.
#
# </details>
#
# **Check:** the prediction is exact for one layer, but not for twenty layers with weights of 1.1.

# %%
(p1, a1), (p20, a20) = changes[1.1][0], changes[1.1][-1]
assert np.isclose(p1, a1)
assert p20 > 1.5 * a20


# %% [markdown]
# **Try it.** Draw the weights at random with `w = 1 + 0.3 * np.random.randn(12)`: which orders matter now?
#
# ## 2. A step made to measure
#
# *Claim C02.* To make $y$ fall by 0.1, the first order suggests $\eta = 0.1 / g^\top g$. **Predict:** does $y$ then
# fall by 0.1? First all weights are equal; then each is 1 plus 0.5 times a Gaussian, with ten seeds.

# %% tags=["hide-output"]
def decrease_by_measure(w, intended=0.1):
    g = w.prod() / w
    return decrease(w, intended / (g @ g))[1]

equal = {weight: [decrease_by_measure(np.full(l, weight)) for l in depths]
         for weight in (0.8, 0.9, 1.0, 1.1, 1.2)}
random = [[decrease_by_measure(1 + 0.5 * np.random.RandomState(seed).randn(l)) for l in depths]
          for seed in range(10)]
figures.intended_over_depth(depths, equal, random)

# %% [markdown]
# <details><summary>Answer</summary>
#
# From two layers on, never exactly. But *how far* it misses depends on the weights. Equal weights give
#
# $$y\left(1 - \Big(1 - \frac{0.1}{l\,y}\Big)^{l}\right) \approx y\,(1 - e^{-0.1/y}) ,$$
#
# which depends on $y$ and hardly on the depth: 5 % too little at $y = 1$, almost exactly 0.1 at a large $y$, and far
# too little where $y$ itself is below 0.1. With unequal weights it misses far more: at depth 20 one of these ten seeds
# makes $y$ rise, and another makes it fall by almost 20,000. The gradient of $w_i$ is $y/w_i$, so the smallest weights
# get the largest steps, many times their own size.
#
# </details>
#
# **Check** both.

# %%
l = np.arange(2, 21)
for weight, decreases in equal.items():  # decreases[0], of one layer, is exact
    y = weight ** l
    assert np.allclose(decreases[1:], y * (1 - (1 - 0.1 / (l * y)) ** l))
    assert all(decrease < 0.1 for decrease in decreases[1:])
deep = np.array(random)[:, -1]
assert deep.min() < 0 and deep.max() > 1000


# %% [markdown]
# **Try it.** Ask for a decrease of 0.01 instead of 0.1. Is the relative error smaller?
#
# ## 3. One term of second order
#
# *Claim C03.* One of the second-order terms is $\eta^2 g_1 g_2\, w_3 w_4 \cdots w_l$. It is negligible or exponentially
# large, depending on the product of the other weights. **Predict** how its size depends on the depth for weights of
# 0.9, 1 and 1.1: first for a fixed step, then for the step of section 2, which depends on the weights.

# %% tags=["hide-output"]
def term(w, step=None):
    g = w.prod() / w
    step = step or 0.1 / (g @ g)  # chosen for a decrease of 0.1
    return step ** 2 * g[0] * g[1] * w[2:].prod()

depths, fixed, chosen = range(2, 21), {}, {}
for weight in (0.9, 1.0, 1.1):
    chains = [np.full(l, weight) for l in depths]
    fixed[weight] = [term(w, 0.01) for w in chains]
    chosen[weight] = [term(w) for w in chains]
figures.second_order(depths, fixed, chosen)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first picture shows the claim. It is true *for a given step*; the gradients contain the other weights as well:
# each gradient is $w^{l-1}$, which together with the $w^{l-2}$ of the formula makes $\eta^2 w^{3l-4}$, three times as
# steep. The second picture shows why the condition matters: the step of section 2 shrinks where the weights are large,
# the term becomes $0.01/(l^2 w^l)$, and the curves change places.
#
# </details>
#
# **Check** the exponents.

# %%
l = np.arange(2, 21)
for weight in (0.9, 1.0, 1.1):
    assert np.allclose(fixed[weight], 1e-4 * weight ** (3.0 * l - 4))
    assert np.allclose(chosen[weight], 0.01 / (l ** 2 * weight ** l))


# %% [markdown]
# **Try it.** Set one of the other weights to 0.1: what happens to the term of $w_1$ and $w_2$?
#
# ## 4. What an update does to the last unit but one
#
# *Claim C13.* Let $x$ be Gaussian with mean 0 and variance 1, a *unit Gaussian*. The unit $h_{l-1} = x\,w_1\cdots
# w_{l-1}$ is Gaussian too, but which one? In a chain of ten weights, the nine lower ones are 1. To each of them we add
# a Gaussian times 0.01, 0.03, 0.1 or 0.3, in a hundred random updates for each size. **Predict** the variance of
# $h_{9}$, and that of the same unit behind `batch_norm`.

# %% tags=["hide-output"]
def standardize(h, eps=1e-5):  # batch_norm in training mode, with gamma = 1 and beta = 0, in NumPy
    return (h - h.mean()) / np.sqrt(h.var() + eps)

def units(size, seed=0):
    random, x = np.random.RandomState(seed), np.random.RandomState(seed).randn(1000)
    return [x * (1 + size * random.randn(9)).prod() for _ in range(100)]  # h_9 after each update

sizes = (0.01, 0.03, 0.1, 0.3)
raw = [[h.var() for h in units(size)] for size in sizes]
standardized = [[standardize(h).var() for h in units(size)] for size in sizes]
figures.variances(sizes, raw, standardized)

# %% [markdown]
# <details><summary>Answer</summary>
#
# An update of size 0.1 in each weight, that is, by about a tenth, already spreads the variance over more than a factor
# of ten. The textbook calls the effect of nearly every update extreme. That depends on the step: at 0.01, all hundred
# variances stay within a factor of 1.4. The variance of the normalized unit stays within a hundredth of 1 at all four
# sizes, and within a thousandth up to 0.1.
#
# </details>
#
# **Check** this on three seeds:

# %%
of_seeds = [[[h.var() for h in units(size, seed)] for seed in range(3)] for size in sizes]
spread = [[max(values) / min(values) for values in of_size] for of_size in of_seeds]
assert max(spread[0]) < 2 and min(spread[2]) > 10 and min(spread[3]) > 1000
assert max(abs(v - 1) for values in standardized[:3] for v in values) < 1e-3
assert max(abs(v - 1) for v in standardized[3]) < 0.01

# %% [markdown]
# **Try it.** At which size of the update does the variance stay within a factor of 2?
#
# ## 5. Mend it: normalize one unit
#
# *Claim C11.* Put batch normalization on $h_{l-1}$: $\;\hat y = w_l\,\hat h_{l-1}$. Whatever the lower weights become,
# apart from the corners of section 6, $\hat h_{l-1}$ remains a unit Gaussian, and the model is linear in $w_l$.
# **Predict:** the loss of the chain against the target $2x$, over one lower weight and the last weight. Without
# normalization it is a curved valley, $w_1 w_l = 2$. What is it behind `batch_norm`?

# %% tags=["hide-output"]
lower, last = np.linspace(0.1, 3, 25), np.linspace(-1, 5, 25)
x = standardize(np.random.RandomState(0).randn(256), eps=0)
without = np.array([[((b * a * x - 2 * x) ** 2).mean() for a in lower] for b in last])
with_bn = np.array([[((b * standardize(a * x) - 2 * x) ** 2).mean() for a in lower] for b in last])
figures.surfaces(lower, last, without, with_bn)

# %% [markdown]
# <details><summary>Answer</summary>
#
# A straight valley: the best $w_l$ is 2, whatever the lower weight is.
#
# </details>
#
# **Check:** the loss is $(w_l - 2)^2$ in every column. The shape of the unit's distribution, that is, its skewness and
# excess kurtosis (both 0 for a Gaussian, near 0 for a sample), stays that of $x$ after any update. (Batch normalization
# does not *make* a unit Gaussian: it sets two moments. Here the others are right because $x$'s are.)

# %% tags=["hide-output"]
assert np.allclose(with_bn, (last[:, None] - 2) ** 2, atol=0.02)  # eps is felt at the smallest weight
_, after = chain.moments_under_updates(0.1)  # standardized, after the updates of section 4
shapes = np.array([(u.mean, u.var, u.skewness, u.excess_kurtosis) for u in after]).round(4) + 0  # no -0
assert np.ptp(shapes, axis=0).max() < 1e-3  # ptp: largest minus smallest
names = ['mean', 'variance', 'skewness', 'excess kurtosis']
figures.table(zip(names, shapes.min(axis=0), shapes.max(axis=0)), ['of 100 updates', 'lowest', 'highest'])

# %% [markdown]
# **Try it.** Let `lower` run from $-3$ to $-0.1$ and `last` from $-5$ to 1: where is the valley of the normalized chain
# now?
#
# ## 6. The corners
#
# *Claim C12.* Two changes below can still reach the output: a weight of 0 removes $x$, and a change of the product's
# sign flips $\hat h$. **Predict** the normalized unit for the example $x = 1$ of the minibatch $(-1, 1)$ while one
# lower weight runs from $-1.5$ to $1.5$. Then predict it again when the other lower weights multiply to 0.01 or 0.001.

# %% tags=["hide-output"]
weights = np.linspace(-1.5, 1.5, 301)
curves = {}
for product in (1, 0.01, 0.001):  # the minibatch -1, 1 has mean 0 and variance 1
    x = np.array([-1.0, 1.0])
    curves[product] = [standardize(x * (product * w))[1] for w in weights]
figures.corner_cases(weights, curves)

# %% [markdown]
# <details><summary>Answer</summary>
#
# With a product of 1, the curve is a step: only the sign matters. With small weights, the corner becomes a wide ramp,
# because the normalized variance is $v/(v + \mathtt{eps})$: once the standard deviation of $h_{l-1}$ falls to about
# $\sqrt{\mathtt{eps}} = 0.003$, it is no longer standardized. A deep chain gets there without any weight near zero:
# nineteen weights of 0.7 multiply to 0.001.
#
# </details>
#
# How rare are flips? The next cell counts them among random updates: after a flip, the unit's correlation with $x$ is
# negative.

# %% tags=["hide-output"]
assert np.isclose(curves[1][-1], 1, atol=1e-4) and np.isclose(curves[1][0], -1, atol=1e-4)
assert curves[1][150] == 0 and chain.var_after(0.7 ** 19) < 0.5  # the variance once standardized
flips = {size: [np.mean([u.correlation < 0 for u in chain.moments_under_updates(size, m=50, seed=seed)[1]])
                for seed in range(3)] for size in (0.1, 0.3, 0.5)}
assert max(flips[0.1]) == 0 and min(flips[0.5]) > 0.1
shares = {f'seed {seed}': [of_size[seed] for of_size in flips.values()] for seed in range(3)}
figures.bars([f'steps of {size} of a weight' for size in flips], {'share of updates that flip the sign': shares})


# %% [markdown]
# So they are rare as long as the steps are small compared with the weights: with steps of half a weight, about a fifth
# of the updates flip the sign.
#
# **Try it.** Set `eps` to 0 in `standardize`: what happens to the ramp?
#
# ## 7. Train both
#
# *Claims C13 and C14.* Now the chain learns $y = 2x$ by gradient descent on all ten weights, five seeds.
# (`chain.float64` makes an MXNet array of float64, and `chain.leaf` one that also has a gradient.) **Predict** for a rate
# of 0.1: the loss, and the variance that the last layer sees.

# %% tags=["hide-output"]
def train_chain(normalize, lr, num_steps=60, seed=0):
    random, losses = np.random.RandomState(seed), []
    w = chain.leaf(1 + 0.1 * random.randn(10))
    for _ in range(num_steps):
        x = chain.float64(random.randn(64, 1))
        with autograd.record():
            h = x * w[:-1].prod()
            y = w[-1] * (chain.standardize(h) if normalize else h)
            loss = ((y - 2 * x) ** 2).mean()
        loss.backward()
        w[:] = w - lr * w.grad
        losses.append(loss.asscalar())
    return losses


# %% [markdown]
# `chain.standardize` is `batch_norm` in training mode. The package's `chain.train_chain` is the same loop, but also
# records the variances.

# %% tags=["hide-output"]
assert np.allclose(train_chain(True, 0.1), chain.train_chain(True, 0.1, num_steps=60).loss)
plain = [chain.train_chain(normalize=False, lr=0.1, num_steps=60, seed=seed) for seed in seeds]
normalized = [chain.train_chain(normalize=True, lr=0.1, num_steps=60, seed=seed) for seed in seeds]
figures.trainings(plain, normalized)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Without normalization, the chain explodes (what exceeds $10^6$ is drawn there) or dies: its output falls to almost 0,
# and its loss stays near 4. With normalization, it learns, and the last layer sees a variance of 1 at every step. But
# the loss does not fall below about 0.1 on average: each minibatch of 64 is standardized by its own mean and deviation,
# while the target is $2x$. The plain chain has no such noise: at a rate of 0.01 it learns, and its last loss is even
# lower. What normalization buys in this example is a rate at which the plain chain fails.
#
# </details>
#
# **Check:**

# %% tags=["hide-output"]
assert sum(not run.loss[-1] < 1 for run in plain) >= 4  # also counts NaN
assert all(np.median(run.loss[-10:]) < 0.1 * run.loss[0] for run in normalized)
slow = [[chain.train_chain(bn, 0.01, num_steps=60, seed=s).loss[-1] for s in seeds] for bn in (False, True)]
assert np.median(slow[0]) < np.median(slow[1])
factors = [[chain.largest_factor(chain.train_chain(False, lr, num_steps=40, seed=s).raw_var) for s in seeds]
           for lr in (0.003, 0.03)]
for lr, of_lr in zip((0.003, 0.03), factors):
    print(f'rate {lr}: one step changes the variance by a factor of up to {max(of_lr):.2g}')

# %% [markdown]
# So the plain chain's statistics change extremely only at the larger of these two rates.
#
# *Claim C14.* The price: the lower layers have become useless. Their size does not reach the output, so their gradient
# vanishes. Not quite, in fact: what is left is of the size $\mathtt{eps}/v$, where $v$ is the variance of $h_{l-1}$.
# **Predict** what happens when the lower weights multiply to 0.001, so that $v$ is below eps. (`chain.lower_gradient`
# returns the gradients of a chain of four weights, with and without normalization, for a random gradient of $y$.)

# %% tags=["hide-output"]
rows = []
for product, eps in ((1.0, 0.0), (1.0, 1e-5), (1e-3, 0.0), (1e-3, 1e-5)):
    pairs = [chain.lower_gradient(product, eps, seed=seed) for seed in seeds]
    ratios = [abs(bn[0] / without[0]) for bn, without in pairs]
    rows.append((product, eps, min(ratios), max(ratios)))
names = [f'product {product:g}, eps {eps:g}' for product, eps, *_ in rows]
ratios = {'largest of five seeds': [row[3] for row in rows]}
figures.bars(names, {'gradient of w1: with BN / without': ratios}, log=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Without eps, only rounding errors, at both sizes. With eps, the gradient is small while $v \gg \mathtt{eps}$; for
# smaller $v$, the normalization multiplies by up to $1/\sqrt{\mathtt{eps}} = 316$, and the gradient of the lower
# weights is larger than without it.
#
# </details>
#
# **Check:**

# %%
exact, usual, exact_small, _ = [row[3] for row in rows]
assert exact < 1e-11 and exact_small < 1e-9 and usual < 1e-4 and rows[3][2] > 1  # of all five seeds


# %% [markdown]
# (In a network with nonlinear activations the lower layers also change the shape of the data. Whether they stay useful
# there takes a real network: notebook 05, section 5.)
#
# **Try it.** Train the plain chain at a rate of 0.03, with `train_chain(False, 0.03, seed=seed)`. How many of the
# five seeds learn?
#
# ## 8. Before: a penalty
#
# *Claim C08.* Why not let the cost ask for normalized units? Let $\mu_j$ and $\sigma_j$ be the mean and deviation of
# hidden unit $j$ before its ReLU. We add $\lambda\,\mathrm{mean}_j\big(\mu_j^2 + (\sigma_j^2 - 1)^2\big)$ to the cost
# of a small regression: `alternatives.regression` draws 128 examples, `alternatives.initial` the weights of $H = XW +
# b$, with sixteen units, and of the output $\mathrm{relu}(H)\,v + c$. **Predict** how large $\mu_j$ and $\sigma_j^2 -
# 1$ still are at each $\lambda$.

# %% tags=["hide-output"]
def train_with_penalty(weight, seed):
    (X, y), p = alternatives.regression(seed), alternatives.initial(seed)
    for _ in range(300):
        with autograd.record():
            H = nd.dot(X, p['W']) + p['b']
            mean = H.mean(axis=0)
            var = ((H - mean) ** 2).mean(axis=0)
            cost = ((nd.dot(nd.relu(H), p['v']) + p['c'] - y) ** 2).mean()
            loss = cost + weight * (mean ** 2 + (var - 1) ** 2).mean()
        loss.backward()
        for array in p.values():
            array[:] = array - 0.02 / max(1, weight) * array.grad
    return alternatives.PenaltyResult(mean.asnumpy(), var.asnumpy(), cost.asscalar())


# %% [markdown]
# Each $\lambda$ (`weight` in the code) is tried with three seeds; `leaves` is what remains after batch normalization.

# %% tags=["hide-output"]
weights = (0, 0.01, 0.1, 1, 10)
rests = [[train_with_penalty(weight, seed) for seed in range(3)] for weight in weights]
leaves = alternatives.batch_norm_leaves()
figures.penalties(weights, rests, leaves)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is a tug of war (the bars show three seeds): a light penalty leaves a lot. A heavy one leaves a few hundredths, but
# it dictates the learning rate: at $\lambda = 10$ we had to make it ten times smaller. After the same number of steps
# the cost itself is several times as high, because of the penalty or of the smaller rate: this cell cannot tell. By
# definition, batch normalization leaves only rounding errors in the mean and $\mathtt{eps}/v$ in the variance.
#
# </details>
#
# **Check:**

# %%
left = np.array([[np.sqrt((rest.mean ** 2).mean()) for rest in runs] for runs in rests])
cost = np.array([[rest.cost for rest in runs] for runs in rests])
assert (np.diff(np.median(left, axis=1)) < 0).all() and left.min() > 0.005
assert np.median(cost[4]) > 2 * np.median(cost[3])
assert np.abs(leaves.mean).max() < 1e-14 and np.abs(leaves.var - 1).max() < 1e-3


# %% [markdown]
# **Try it.** Penalize only the mean. What happens to the variance?
#
# ## 9. Before: renormalize after each step
#
# *Claim C09.* Or let the gradient ignore the statistics, and after each step rescale the weights so that every unit has
# mean 0 and variance 1 again? Then steps propose to move means and deviations, and this is undone. A step has two
# sides: what $\partial L/\partial H$ *proposes*, and how $H$ *moves* when the weights take the step. For each, we
# measure the share that only shifts or stretches a unit. **Predict** the shares for both methods, here with white
# inputs (mean 0 and $X^\top X = mI$), three seeds.

# %% tags=["hide-output"]
def renormalize(X, p):  # so that each unit of X W + b has mean 0 and variance 1
    H = nd.dot(X, p['W']) + p['b']
    mean = H.mean(axis=0)
    std = ((H - mean) ** 2).mean(axis=0).sqrt()
    p['W'][:] = p['W'] / std
    p['b'][:] = (p['b'] - mean) / std

def share(change, H):  # of a change's squared length, what shifts or stretches units
    c = H - H.mean(axis=0)
    shift = len(H) * change.mean(axis=0) ** 2
    stretch = (change * c).sum(axis=0) ** 2 / (c ** 2).sum(axis=0)
    return (shift + stretch).sum() / (change ** 2).sum()


# %% [markdown]
# Shifts and stretches count in full; a change orthogonal to both does not count. `alternatives.train_renormalizing` is
# a loop like those above. At each step it records this share for the `proposed` change of $H$ and for the change by
# which $H$ then `moved`.

# %% tags=["hide-output"]
(X, _), p = alternatives.regression(0), alternatives.initial(0)
renormalize(X, p)
H = (nd.dot(X, p['W']) + p['b']).asnumpy()
assert np.allclose(H.mean(axis=0), 0) and np.allclose(H.var(axis=0), 1)
assert np.isclose(share(0.1 * H + 1, H), 1)
assert np.isclose(share(H ** 2, H), alternatives.share_of_statistics(H ** 2, H))
train, lr = alternatives.train_renormalizing, 0.1
white = {method: [train(method, lr, seed=seed, white=True, eps=0.0) for seed in range(3)]
         for method in ('renormalize', 'batch_norm')}
figures.wastes(white['renormalize'], white['batch_norm'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first two pictures show the claim: part of each step is proposed and then undone, and with batch normalization
# that share is 0 (up to rounding). Of the gradient, this share is a fifth at first, and soon less than a hundredth. Of
# the movement of $H$, it is about a tenth, and later more. In the third picture, the two loss curves coincide: what is
# undone costs no time here.
#
# </details>
#
# Now the inputs have an offset and correlations. **Predict** again, especially the second picture.

# %% tags=["hide-output"]
correlated = {method: [train(method, lr, seed=seed, eps=0.0) for seed in range(3)]
              for method in ('renormalize', 'batch_norm')}
figures.wastes(correlated['renormalize'], correlated['batch_norm'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Batch normalization still *proposes* no shift and no stretch: in the first picture, the share is 0. But a step on $W$
# moves $H = XW + b$ through $X$, and if $X$ is not white, it changes means and deviations all the same; the next
# normalization removes that. So the gradient of the activations wastes nothing, but the step of the weights does,
# unless the inputs are white. The losses differ by up to a third, but neither is lower with every seed.
#
# </details>
#
# **Check** these statements, for both kinds of inputs:

# %%
for runs in (white, correlated):
    assert all(waste.proposed.min() > 1e-3 for waste in runs['renormalize'])
    assert all(waste.proposed.max() < 1e-25 for waste in runs['batch_norm'])
assert all(waste.moved.max() < 1e-20 for waste in white['batch_norm'])
assert all(waste.moved.min() > 0.01 for waste in correlated['batch_norm'])
by_white, by_correlated = (
    [(a.loss[-1], b.loss[-1]) for a, b in zip(runs['renormalize'], runs['batch_norm'])] for runs in (white, correlated)
)
assert np.allclose(*zip(*by_white), rtol=0.1)
assert {a < b for a, b in by_correlated} == {True, False}


# %% [markdown]
# **Try it.** Set `lr` to 0.01: does renormalizing waste less?
#
# ## 10. Why not whiten?
#
# *Claim C16.* Desjardins et al. (2015) remove the correlations between units as well. With the Cholesky factor $L$ of
# the covariance, $LL^\top = \mathrm{cov}(H)$, the whitened units are $(H - \mu)L^{-\top}$. For $m$ rows, this takes
# about $md^2/2$ multiplications for the covariance, which is symmetric, $d^3/6$ for $L$, and $md^2/2$ to divide by $L$:
# in all about $md^2 + d^3/6$. Standardizing takes only $3md$: a square, a division and $\gamma$ for each number.
# **Predict** how the time of whitening grows with the width $d$, for $m = 1024$ rows, compared with our `batch_norm`
# and Gluon's compiled layer.

# %% tags=["hide-output"]
def whiten(H, eps=1e-5):
    centred = H - H.mean(axis=0, keepdims=True)
    covariance = nd.linalg.syrk(centred, transpose=True, alpha=1 / len(H))  # H^T H / m, (d, d)
    L = nd.linalg.potrf(covariance + eps * nd.eye(H.shape[1], dtype=H.dtype))  # the Cholesky factor
    return nd.linalg.trsm(L, centred, transpose=True, rightside=True)  # centred L^-T

widths = (16, 32, 64, 128, 256, 512)
times = alternatives.milliseconds(widths)
figures.times(widths, times)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each doubling of the width multiplies the time of whitening by more, at last by about three; the times of the other
# two about double. Whitening always takes longer than Gluon's layer, but our `batch_norm`, which is written to be read,
# takes longer still, except perhaps in the widest layers. In time, the textbook's "much more expensive" holds only for
# wide layers and compared with a good implementation.
#
# </details>
#
# **Check** that standardizing leaves all correlations and whitening less than 0.001, and count the multiplications:
# times vary with the machine, counts do not.

# %% tags=["hide-output"]
H = alternatives.correlated(1024, 64, dtype='float64')
remaining = [alternatives.largest_correlation(Z) for Z in (H, chain.standardize(H), whiten(H))]
assert abs(whiten(H) - alternatives.whiten(H)).max().asscalar() < 1e-12
assert np.isclose(remaining[0], remaining[1]) and remaining[2] < 1e-3
count = alternatives.multiplications
work = [count('whitening', 1024, d) / count('standardizing', 1024, d) for d in widths]
assert work[-1] > 15 * work[1] > 15 * 10  # sixteen times as wide, at least fifteen times as expensive
assert times['whitening'][-1] > times['gluon.nn.BatchNorm'][-1] and times['whitening'][0] < times['batch_norm'][0]
figures.bars(widths, {'multiplications: whitening / standardizing, by units': {'': work}}, log=True)

# %% [markdown]
# **Try it.** Whiten with `eps = 1`: how much correlation is left?
#
# ## 11. What $\gamma$ and $\beta$ give back
#
# *Claim C17.* $\gamma\hat H + \beta$ can be what $H$ was: choose $\gamma = \sigma$ and $\beta = \mu$. **Predict** the
# largest absolute difference between $\gamma\hat H + \beta$ and $H$ on the minibatch itself, and on another one of the
# same kind with the same $\gamma$ and $\beta$.

# %% tags=["hide-output"]
rows = []
for seed in range(3):
    random = np.random.RandomState(seed)
    H, other = [chain.float64(3 + 2 * random.randn(64, 5)) for _ in range(2)]
    mean, std = reparametrization.statistics(H)
    same, new = [abs(reparametrization.normalize(Z, std, mean) - Z).max().asscalar() for Z in (H, other)]
    rows.append((seed, same, new))
figures.table(rows, ['seed', 'same minibatch', 'another minibatch'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The identity is possible, to the last digit, with $\gamma = \sqrt{\sigma^2 + \mathtt{eps}}$, but only *for one
# minibatch*: another has different statistics, so the same $\gamma$ and $\beta$ change it. The family of functions is
# the same once the statistics are fixed, as in prediction.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert max(row[1] for row in rows) < 1e-12
assert min(row[2] for row in rows) > 0.1

# %% [markdown]
# *Claim C18.* Why set the mean to 0 and then learn it back? Because now a single parameter holds it. We pass a
# minibatch through fifty random affine layers, with random sizes and offsets. **Predict** mean and deviation of the
# unit behind each, and of $\gamma\hat H + \beta$ with $\gamma = 1.5$, $\beta = 0.7$.

# %% tags=["hide-output"]
raw, normalized = reparametrization.output_statistics(beta=0.7, gamma=1.5)
rows = [(name, f'{a.min():.2f} to {a.max():.2f}', f'{b.min():.4f} to {b.max():.4f}')
        for name, a, b in zip(('mean', 'standard deviation'), raw.T, normalized.T)]
figures.table(rows, ['over 50 layers below', 'H', 'gamma H_hat + beta'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# $\beta$ alone sets the mean, and $\gamma$ alone sets the deviation (up to eps). This holds in training mode, before
# the activation.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert np.allclose(normalized[:, 0], 0.7, atol=1e-12)
assert np.allclose(normalized[:, 1], 1.5, rtol=1e-2) and np.ptp(raw[:, 0]) > 10

# %% [markdown]
# **Try it.** Choose $\gamma$ and $\beta$ so that the *other* minibatch comes out unchanged.
#
# ## 12. The same functions learn differently
#
# *Claim C19.* We write *the same function* of the data in two ways, as a network with three hidden layers: once with
# weights and biases, and once with $\gamma(XW)' + \beta$, where the prime means standardized, like the hat so far. We
# begin with one layer, on inputs with mean 3:

# %%
random = np.random.RandomState(0)
X, W = chain.float64(3 + random.randn(64, 8)), chain.float64(random.randn(8, 16))
gamma, beta = chain.float64(random.uniform(0.5, 2, 16)), chain.float64(random.randn(16))

H = nd.dot(X, W)
Y_new = gamma * (H - H.mean(axis=0)) / (((H - H.mean(axis=0)) ** 2).mean(axis=0) + 1e-5).sqrt() + beta
mean, std = reparametrization.statistics(H)  # with the same eps
Y_old = nd.dot(X, W * gamma / std) + (beta - mean * gamma / std)
assert abs(Y_new - Y_old).max().asscalar() < 1e-12

# %% [markdown]
# Both ways give the same numbers, so the two networks start as the same function. Train both by gradient descent on the
# regression of section 8, with inputs of mean 3. **Predict** the losses: which is lower after 60 steps at a rate of
# 0.03, and over the rates from 0.003 to 0.3?

# %% tags=["hide-output"]
lrs, offset = (0.003, 0.03, 0.1, 0.3), 3.0
learn = reparametrization.train_parametrization
old, new = [{lr: [learn(kind, lr, offset, num_steps=60, seed=seed)[0] for seed in range(3)] for lr in lrs}
            for kind in (False, True)]
figures.parametrizations(lrs, old, new, offset)

# %% [markdown]
# <details><summary>Answer</summary>
#
# They start at the same point and separate. At 0.03 the new one ends at about half the loss; at 0.1 and above, the old
# one diverges or ends far higher. But "easier to learn" is no law: at the smallest rate the *old* one is ahead. The
# offset does not affect the new one at all: at a rate of 0.1, its curve for mean 0 is the same.
#
# </details>
#
# **Check:**

# %%
for seed in range(3):
    assert np.isclose(old[0.1][seed][0], new[0.1][seed][0], rtol=1e-9)
    assert new[0.1][seed][-1] < 0.1 and not old[0.1][seed][-1] < 4 * new[0.1][seed][-1]
    assert new[0.003][seed][-1] > old[0.003][seed][-1]
    centred = learn(True, 0.1, offset=0.0, num_steps=60, seed=seed)[0]
    assert np.allclose(centred, new[0.1][seed], rtol=1e-5)

# %% [markdown]
# **Try it.** Raise the offset to 10: which rates does the old parametrization still tolerate?
#
# ## What we saw, and what we did not show
#
# **Saw.** In a chain, a step on all weights has effects of every order: at one and the same rate, negligible for small
# weights and large for large ones. Normalizing one unit makes the rest a linear model in one weight, which learns at a
# rate at which the plain chain fails. Penalties leave a remainder; if we renormalize outside the gradient, each step
# proposes changes that are then undone. $\gamma$ and $\beta$ give the functions back in parameters that no longer
# depend on what lies below.
#
# **With conditions.** A step chosen for a given decrease misses it by little when $y$ is large and the weights are
# equal (C02); with such a step, the term of C03 is largest for small weights. The unit is standardized only while its
# deviation is well above $\sqrt{\mathtt{eps}}$ (C11, C12, C14). Flips are rare only for small steps (C12), and changes
# extreme only for large ones (C13). Only on white inputs does BN waste no part of its steps; what renormalizing undid
# there cost no time (C09). Whitening costs more the wider the layer: 6 times the multiplications at 16 units, 185 times
# at 512 (C16). The identity holds for one minibatch (C17). The new parametrization is easier to learn at large steps,
# not at small ones (C19).
#
# **Did not show.** Everything here is small, synthetic and trained on a full batch or on fresh samples. A single linear
# chain is not a deep network: whether the lower layers of LeNet stay useful, and whether batch normalization trains it
# better, is measured on real data, in notebooks 01 and 05.
