# %% [markdown]
# # Training and prediction
#
# In training, batch normalization uses the mean and variance of the minibatch; in prediction, numbers that were
# collected before. Those are two functions under one name. This notebook asks what tells the layer which one to be,
# what goes wrong if it is the wrong one, and which numbers to keep. Then it looks *inside* LeNet: at the shape of the
# units' distributions, at sigmoids that are saturated, at gradients and at the size of the steps.
#
# **Afterwards you can** tell, for each way of calling a layer, which statistics it uses and whether it updates the
# averages; estimate the statistics of a trained net; and say what batch normalization changes inside LeNet.
#
# **You need** notebook 01. Reading takes about 22 minutes; running takes about two minutes on two cores. Each section
# asks for a prediction, runs, and then checks it; the cell with the imports sets the sizes.

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
from contextlib import nullcontext

import numpy
import pandas
from mxnet import autograd, nd
from mxnet.gluon import loss as gluon_loss, nn
from gluon_bn import BatchNorm, estimate_statistics, lenet, load_data_fashion_mnist
from gluon_bn.data import Minibatches
from gluon_bn.experiments import activations, modes, training_figures as figures
from gluon_bn.experiments.rates import initialize, with_activation
from gluon_bn.training import seed_everything, statistics_of, train

seeds, lr = (0, 1, 2), 1.0
data = load_data_fashion_mnist(batch_size=128, num_train=3840, num_test=1000)  # 30 updates an epoch


# %% [markdown]
# ## 1. Five ways to call a layer
#
# *Claim C26.* The layer behaves differently in training and in prediction, and `autograd` tells it which. But
# `autograd` has two switches, not one: whether it *records* operations for a gradient, and whether this is *training*.
# `record()` turns both on. Take a layer that has seen one minibatch thirty times.

# %%
def after_thirty_passes(layer):
    layer.initialize()
    for _ in range(30):
        with autograd.record():
            Y = layer(X)
        Y.backward()  # changes no weight, but Gluon moves its averages here
    return layer

X = nd.array(numpy.random.RandomState(1).normal(2, 3, size=(16, 4)))
other = nd.concat(X[:1], 3 * X[1:] + 1, dim=0)  # the same first example in other company
dY = nd.array(numpy.random.RandomState(0).randn(16, 4))
layer, gluon_layer = [after_thirty_passes(each) for each in (BatchNorm(4, num_dims=2), nn.BatchNorm(in_channels=4))]


# %% [markdown]
# We call it on $X$ and on `other`, and run the backward pass if autograd has recorded. A gradient that goes *through*
# the mean sums to 0 over the minibatch (notebook 03, section 4); one that treats the mean as a constant does not.

# %%
def call(layer, mode):
    X.attach_grad()
    before = statistics_of(layer)[0].data().asnumpy()
    with mode():
        recording, training = autograd.is_recording(), autograd.is_training()
        Y, Y_other = layer(X), layer(other)
    if recording:
        Y.backward(dY)
    after = statistics_of(layer)[0].data().asnumpy()
    through = abs(X.grad.sum(axis=0).asnumpy()).max() < 1e-3
    return {'recording': recording, 'training': training,
            'uses_batch': not numpy.allclose(Y[0].asnumpy(), Y_other[0].asnumpy(), atol=1e-3),
            'statistics_move': not numpy.allclose(after, before, rtol=1e-4),
            'gradient': ('through' if through else 'past') + ' the statistics' if recording else 'none'}


# %% [markdown]
# **Predict** for each way of calling it: does an example's output depend on the others in its batch? Do the moving
# averages move? And does the gradient go through the mean and variance, or treat them as constants?

# %% tags=["hide-output"]
five = {'plain': nullcontext, 'predict_mode()': autograd.predict_mode, 'train_mode()': autograd.train_mode,
        'record(train_mode=False)': lambda: autograd.record(train_mode=False), 'record()': autograd.record}
ours = {name: call(layer, mode) for name, mode in five.items()}
pandas.DataFrame(ours).T.drop(columns='recording')

# %% [markdown]
# <details><summary>Answer</summary>
#
# Only the rows with `training` use the minibatch; recording only decides whether there is a gradient.
# `record(train_mode=False)` gives a gradient of the *prediction* function, for example to find which pixels made the
# net say "shirt"; `train_mode()` moves the averages without any gradient.
#
# </details>
#
# **Check** that the training mode alone decides, and that the package's tested `modes.ways` finds the same.

# %% tags=["hide-input"]
for way in ours.values():
    assert way['uses_batch'] == way['statistics_move'] == way['training']
assert ours == {name: vars(way) for name, way in modes.ways(layer, X).items()}

# %% [markdown]
# Does Gluon's own layer agree? **Predict** where it might not: on a CPU, MXNet 1.9.1 moves its averages in the
# *backward* pass.

# %% tags=["hide-output"]
gluon = {name: call(gluon_layer, mode) for name, mode in five.items()}
print([name for name in ours if gluon[name] != ours[name]])

# %% [markdown]
# <details><summary>Answer</summary>
#
# In `train_mode()` only: without a backward pass, Gluon's averages do not move. On a CPU, passing data through a net in
# `train_mode()` to refresh its averages leaves them unchanged, without a warning.
#
# </details>

# %% tags=["hide-input"]
assert not gluon['train_mode()']['statistics_move'] and gluon['record()']['statistics_move']
assert gluon == {name: vars(way) for name, way in modes.ways(gluon_layer, X).items()}


# %% [markdown]
# What about two backward passes through one forward pass? The mean is 1, its average starts at 0, and momentum is 0.9.
# **Predict** the average after no backward pass, one and two, and whether compiling the layer changes anything.

# %% tags=["hide-output"]
def average_after(backward_passes, **options):
    layer = nn.BatchNorm(in_channels=4, momentum=0.9)
    layer.initialize()
    layer.hybridize(bool(options), **options)
    with autograd.record():
        Y = layer(nd.ones((16, 4)))
    for _ in range(backward_passes):
        Y.backward(retain_graph=True)
    return layer.running_mean.data()[0].asscalar()

ways = {'eager': {}, 'hybridized': {'static_alloc': False}, 'static': {'static_alloc': True, 'static_shape': True}}
averages = {way: [average_after(n, **options) for n in (0, 1, 2)] for way, options in ways.items()}
pandas.DataFrame(averages, index=['no backward pass', 'one', 'two']).T.round(2)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each backward pass moves the average, whether the layer is hybridized or not.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert all(numpy.allclose(values, [0, 0.1, 0.19]) for values in averages.values())

# %% [markdown]
# **Try it.** Call the layer twice inside `record()` in `average_after`: how far does one backward pass move the
# average?
#
# ## 2. One example alone
#
# *Claim C10.* First we **break it**. Three LeNets, one per seed, are trained for two epochs. The first test image goes
# through each of them together with four different groups of fifty others, in training mode, as if we had forgotten to
# switch. **Predict** whether its first logit changes.

# %% tags=["hide-output"]
nets = {seed: modes.trained(seed, data, num_epochs=2, lr=lr) for seed in seeds}
test = data[1]
groups = [nd.concat(test.X[:1], test.X[1 + 50 * i:51 + 50 * i], dim=0) for i in range(4)]
logits = {}
for seed, net in nets.items():
    with modes.statistics_kept(net), autograd.train_mode():  # training mode moves the averages; they are put back
        training = numpy.array([net(group)[0].asnumpy() for group in groups])
    prediction = numpy.array([net(group)[0].asnumpy() for group in groups])
    logits[seed] = {'training': training, 'prediction': prediction}
# Figure: The first logit in four groups, in training and in prediction mode, for three seeds.
figures.bars([f'group {i}' for i in range(1, 5)], {
    f'first logit, {mode} mode': {f'seed {seed}': logits[seed][mode][:, 0] for seed in seeds}
    for mode in ('training', 'prediction')})

# %% [markdown]
# <details><summary>Answer</summary>
#
# In training mode, the same image gets a different answer in each of these groups; in prediction mode, always the same.
#
# </details>
#
# **Check** this for all ten logits, also against the package, and that an image entirely alone gets the same answer.
# (The tolerance is that of float32: MXNet may sum in a different order for another batch size.)

# %%
for seed, net in nets.items():
    alone = net(test.X[:1]).asnumpy()
    assert numpy.allclose(logits[seed]['prediction'], alone, atol=1e-4)
    assert numpy.ptp(logits[seed]['training'], axis=0).max() > 0.1
    in_company = modes.in_company(net, test.X[:1], [group[1:] for group in groups])
    assert all(numpy.allclose(logits[seed][mode], in_company[mode], atol=1e-4) for mode in in_company)

# %% [markdown]
# What about one image alone in training mode? A single example *is* its own mean, so a dense layer would give $\beta$,
# whatever the image. The layer refuses:

# %%
try:
    with autograd.train_mode():
        nets[0](test.X[:1])
except ValueError as error:
    print(error)
else:
    raise AssertionError('the layer took a batch of one example in training mode')

# %% [markdown]
# How much does it matter? Minibatches of a hundred mixed images hide the effect: their statistics are close to those of
# the training set. In use, though, images rarely come mixed. **Predict** the accuracy in training mode if the same
# thousand test images come sorted by class, so that a minibatch is all shirts, or all boots.

# %% tags=["hide-output"]
accuracies = {seed: modes.accuracies_in_company(net, test) for seed, net in nets.items()}
# Figure: The test accuracy of mixed and of sorted minibatches, in both modes, for three seeds.
kinds = [(company, mode) for company in ('mixed', 'one class') for mode in ('prediction', 'training')]
figures.bars([f'{company}, {mode}' for company, mode in kinds], {
    'accuracy': {f'seed {seed}': [accuracies[seed][company][mode] for company, mode in kinds] for seed in seeds}})

# %% [markdown]
# <details><summary>Answer</summary>
#
# A standardized minibatch of nothing but shirts no longer looks like shirts: what they have in common has been
# subtracted.
#
# </details>
#
# **Check** that in prediction mode the order changes the accuracy by one image at most, and that training mode loses
# more than a quarter of all images when they are sorted.

# %% tags=["hide-input"]
for by_seed in accuracies.values():
    assert abs(by_seed['mixed']['prediction'] - by_seed['one class']['prediction']) <= 0.001
    assert by_seed['one class']['training'] < by_seed['mixed']['training'] - 0.25


# %% [markdown]
# **Try it.** Put the first image among 127 copies of itself. What does the net answer in training mode?
#
# ## 3. Which numbers to keep
#
# *Claim C25.* The moving averages are collected while the weights still move, so they describe a net that is already
# gone. The alternative: stop, leave the weights alone, pass the training set through once, and keep *its* means and
# variances. The means also differ between minibatches, so we add the variance of their means to the mean of their
# variances (the minibatches have equal sizes here):
#
# $$\mu = \mathrm{E}[\mu_b],\qquad v = \mathrm{E}[v_b] + \mathrm{Var}[\mu_b].$$
#
# Here it is for one layer, LeNet's lowest norm.

# %%
def estimate(minibatches):
    means, variances = [], []
    for images, _ in minibatches:
        H = nets[0][0](images).asnumpy()  # what reaches the norm, (128, 6, 24, 24)
        means.append(H.mean(axis=(0, 2, 3)))
        variances.append(H.var(axis=(0, 2, 3)))
    mean = numpy.mean(means, axis=0)
    var = numpy.mean(variances, axis=0) + numpy.var(means, axis=0)
    return mean, var, numpy.var(means, axis=0) / var


# %% [markdown]
# **Predict** the second term's share of $v$, for mixed minibatches and for minibatches sorted by class, and whether $v$
# itself depends on the order.

# %% tags=["hide-output"]
by_class = numpy.argsort(data[0].y.asnumpy(), kind='stable')
orders = {'mixed': data[0], 'sorted': Minibatches(data[0].X[by_class], data[0].y[by_class], 128, shuffle=False)}
estimates = {order: estimate(minibatches) for order, minibatches in orders.items()}
# Figure: The share of the second term in each channel, for mixed and for sorted minibatches, on a logarithmic scale.
figures.bars([f'channel {i}' for i in range(6)],
             {'share of the second term': {order: share for order, (_, _, share) in estimates.items()}}, log=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# In each channel, the second term is a few thousandths for mixed minibatches, and up to a tenth for sorted
# ones. For this layer, the sum is the same for both.
#
# </details>
#
# **Check** this, and that the package, which handles all layers at once, gets the same.

# %%
estimate_statistics(nets[0], data[0])
of_package = [statistic.data().asnumpy().ravel() for statistic in statistics_of(nets[0][1])]
for mean, var, _ in estimates.values():
    assert numpy.allclose(mean, of_package[0], rtol=1e-5) and numpy.allclose(var, of_package[1], rtol=1e-5)

# %% [markdown]
# Now all layers, with `estimate_statistics`. **Predict** the test accuracy after each epoch, with the moving averages
# and with the estimate, at a large learning rate and at a small one. A third curve shows what the net can do: each test
# minibatch with its own statistics, which is cheating, as section 2 showed.

# %% tags=["hide-output"]
num_epochs, lrs = 5, (1.0, 0.1)
results = {lr: [modes.accuracies_over_epochs(seed, lr, data, num_epochs) for seed in seeds] for lr in lrs}
figures.accuracies_by_statistics(results)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At the large rate, the averages lag: the dotted line is far below the others, and how far depends on the seed, as the
# band over three seeds shows. The solid line is as good as the batches' own statistics.
#
# </details>
#
# **Check** the mean over the epochs and the width of the band, that is, how far apart the three seeds are.

# %% tags=["hide-output"]
table = pandas.DataFrame(modes.summarize(results)).T.round(3)
table.rename_axis(['rate', 'statistics'])

# %% [markdown]
# With every seed, the estimate is better on average over the epochs, and the seeds are closer together. On average it
# is within 0.02 of the batches' own statistics.

# %%
for run in results[1.0]:
    assert run.estimated.mean() > run.moving.mean() + 0.02
assert table.loc[(1.0, 'estimated'), 'between seeds'] < table.loc[(1.0, 'moving'), 'between seeds']
assert abs(table.loc[(1.0, 'estimated'), 'mean'] - table.loc[(1.0, 'batch'), 'mean']) < 0.02
gap = {lr: numpy.mean([run.estimated - run.moving for run in results[lr]], axis=0) for lr in lrs}  # by epoch
assert 0 < gap[0.1].mean() < gap[1.0].mean() / 2
for rate, values in gap.items():
    print(f'rate {rate}: gap {values.mean():.3f}, of it in the first epoch {values[0] / values.sum():.0%}')


# %% [markdown]
# So the claim is true, and how much it matters has a condition: the weights must move far within the ten or so
# minibatches that an average with momentum 0.9 remembers. At a tenth of the rate the gap is less than half as
# wide (the numbers are above).
#
# **Try it.** Loop over `list(minibatches)[:2]` in `estimate`: how far are mean and variance from those of all thirty?
#
# ## 4. Normalize the layer's input, or what comes out of $XW + b$?
#
# *Claim C20.* The chapter says: the latter, because the input is the output of an activation, and so further from a
# Gaussian; a mean and a variance then say little. Two numbers measure this, both 0 for a Gaussian: *skewness*
# (lopsided?) and *excess kurtosis* (heavy tails: positive; two humps or a box: negative). We compute both for each
# unit, and take the median absolute value over all units of a layer.
#
# Constant units are left out:

# %%
def shape_of(values):  # (m, units) or (m, c, h, w)
    units = numpy.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    units = units[units.std(axis=1) > 1e-6]
    Z = (units - units.mean(axis=1, keepdims=True)) / units.std(axis=1, keepdims=True)
    return (Z ** 3).mean(axis=1), (Z ** 4).mean(axis=1) - 3

random = numpy.random.RandomState(0)
for name, values in (('Gaussian', random.randn(1000, 50)), ('its ReLU', random.randn(1000, 50).clip(0)),
                     ('box', random.rand(1000, 50))):
    assert numpy.allclose(shape_of(values), activations.shape_of(values))
    print(f'{name:9}', *(f'{numpy.median(moment):6.2f}' for moment in shape_of(values)))

# %% [markdown]
# We look at LeNet as it is, with sigmoids, and at the same net with ReLUs, each with batch normalization, before
# training and after a hundred updates. **Predict:** for which of the two activations is the claim clearer?

# %% tags=["hide-output"]
small = (Minibatches(data[0].X[:1280], data[0].y[:1280], 64, shuffle=True), data[1])  # 20 updates an epoch
bn = {'sigmoid': [activations.watch(lenet('fused'), seed, lr, small, num_epochs=5) for seed in seeds],
      'relu': [activations.watch(with_activation(lenet('fused'), 'relu'), seed, 0.1, small, num_epochs=5)
               for seed in seeds]}
figures.shapes(bn['relu'][0].after)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The figure shows ReLUs and seed 0. The inputs of the three layers have a spike at zero and a tail to the right; $XW +
# b$ of the same layers, below them, is bell-shaped. In all three layers its skewness is smaller; in conv 2 its kurtosis
# is not.
#
# </details>
#
# Now all seeds, and both activations:

# %% tags=["hide-output"]
shapes = {name: activations.shapes_over(runs) for name, runs in bn.items()}
figures.moments(shapes)

# %% [markdown]
# (Each dot is one of three seeds and three layers; the bar is their median.)
#
# In the medians, the claim holds with ReLUs for both moments, for the skewness by a wide margin. With sigmoids it holds
# for the kurtosis, but **hardly for the skewness**, and after training not at all. (A sigmoid bends both tails alike,
# so a distribution that is symmetric around 0 before it is not lopsided after it.) **Check** both.

# %%
median = {(name, *key): numpy.median(values) for name in shapes for key, values in shapes[name].items()}
for when in ('before', 'after'):
    for moment in ('skewness', 'kurtosis'):
        assert median['relu', moment, when, 'X'] > median['relu', moment, when, 'H']
    assert median['sigmoid', 'kurtosis', when, 'X'] > median['sigmoid', 'kurtosis', when, 'H']
assert median['sigmoid', 'skewness', 'after', 'X'] < median['relu', 'skewness', 'after', 'X'] / 2


# %% [markdown]
# **Try it.** Pass all units to `shape_of` as one, with `values.reshape(-1, 1)`: is the ReLU's distribution still as
# lopsided?
#
# ## 5. What flows forward, and what flows back
#
# Why does LeNet with sigmoids learn so slowly without batch normalization? Train it, with and without, from the same
# weights and on the same minibatches, and look at one fixed minibatch inside the net. We record the input and the
# output of each sigmoid, and the gradient of that output, by the trick of notebook 03: we add a zero.

# %%
def look(net, X, y):
    recorded = []
    with autograd.record():
        for block in net:
            Z, X = X, block(X)
            if isinstance(block, nn.Activation):
                zero = nd.zeros_like(X)
                zero.attach_grad()
                X = X + zero
                recorded.append((Z, X, zero))
        loss = gluon_loss.SoftmaxCrossEntropyLoss()(X, y).mean()
    loss.backward()
    return [(Z.asnumpy(), A.asnumpy(), zero.grad.asnumpy()) for Z, A, zero in recorded]


# %% [markdown]
# `activations.watch` trains a net and records this, and the sizes of the steps, before it and after each epoch.

# %%
few = test.X[:256], test.y[:256]
with modes.statistics_kept(nets[0]):
    seen = look(nets[0], *few)
for (Z, A, dA), layer in zip(seen, activations.inspect_minibatch(nets[0], *few)[0].values()):
    assert all(numpy.allclose(*pair, atol=1e-5) for pair in zip((Z, A, dA), (layer.Z, layer.A, layer.dA)))
    print(f'Z {Z.mean():5.2f} +- {Z.std():.2f}, A from {A.min():.2f} to {A.max():.2f}, dA +- {dA.std():.1e}')

# %% [markdown]
# First the outputs of the sigmoids after training. **Predict:** saturated, that is, near 0 and 1? Or the opposite?

# %% tags=["hide-output"]
sigmoid = {'none': [activations.watch(lenet('none'), seed, lr, small, num_epochs=5) for seed in seeds],
           'fused': bn['sigmoid']}
losses = {norm: [watched.losses[-1] for watched in sigmoid[norm]] for norm in sigmoid}
display(figures.by_seed(losses, 'training loss of the last epoch'))
figures.activations({norm: sigmoid[norm][0] for norm in sigmoid})

# %% [markdown]
# <details><summary>Answer</summary>
#
# The opposite. Without normalization, each sigmoid in the upper layers gives nearly the same output for every image:
# most of the narrow grey spikes are single units. With it, the sigmoids use their whole range.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert max(losses['fused']) < min(losses['none'])

# %% [markdown]
# Here is the share of nearly saturated sigmoids (below 0.05 or above 0.95) over the course of training:

# %%
figures.over_training(sigmoid, 'saturation', 'share of saturated sigmoids')

# %% [markdown]
# At most a few percent are saturated, and in the lower layers, the net that learns has *more* saturated sigmoids. So
# saturation is not what stops the other net here. What differs is that its sigmoids do not vary. **Check** with a
# number: the standard deviation of each sigmoid over the images, averaged over the units of a layer, and then the
# median over the layers.

# %%
range_used = {norm: [numpy.median([layer.A.std(axis=0).mean() for layer in watched.after.values()])
                     for watched in sigmoid[norm]] for norm in sigmoid}
assert min(range_used['fused']) > 3 * max(range_used['none'])
assert max(watched.saturation.max() for of_seeds in sigmoid.values() for watched in of_seeds) < 0.1
figures.by_seed(range_used, 'deviation of a sigmoid')


# %% [markdown]
# Here, the sigmoids do not vary and the net does not learn; is one the reason for the other? We intervene: *before*
# training, once, on one minibatch, we choose the weights and biases of each layer below the output so that $XW + b$ has
# mean 0 and deviation 1 in each unit. There is no norm, so nothing keeps it there. **Predict** the loss after the same
# training.

# %% tags=["hide-output"]
def let_sigmoids_vary(net, X):
    for block in list(net)[:-1]:
        if isinstance(block, (nn.Conv2D, nn.Dense)):
            H, weight = block(X).asnumpy(), block.weight.data()
            axes = tuple(axis for axis in range(H.ndim) if axis != 1)
            mean, std = nd.array(H.mean(axes)), nd.array(H.std(axes))
            block.weight.set_data(weight / std.reshape((-1,) + (1,) * (weight.ndim - 1)))
            block.bias.set_data(-mean / std)
        X = block(X)


# %% [markdown]
# The training is the one from above, without a norm.

# %% tags=["hide-output"]
def loss_from_such_a_start(seed):
    seed_everything(seed)
    net = initialize(lenet('none'), small[0].X[:256])
    let_sigmoids_vary(net, small[0].X[:256])
    return train(net, *small, 5, lr, initialize=False, plot=False, progress=False)[-1].loss

varied = [loss_from_such_a_start(seed) for seed in seeds]
figures.table([('as drawn', *losses['none']), ('sigmoids vary at the start', *varied)],
              ['no normalization, loss of the last epoch', *(f'seed {seed}' for seed in seeds)])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It falls far below that of the usual start.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert max(varied) < min(losses['none']) - 0.5

# %% [markdown]
# From such a start LeNet learns without a norm, with each of the three seeds. So the usual start is what stops it. This
# does not tell *how*: the larger weights also let more of the gradient through, which we look at next.
#
# Now backwards: the gradient of the loss with respect to each sigmoid's output. Each sigmoid multiplies it by its
# slope, a quarter at most. **Predict** what is left in the lowest layer.

# %% tags=["hide-output"]
figures.gradients({norm: sigmoid[norm][0] for norm in sigmoid})

# %% [markdown]
# <details><summary>Answer</summary>
#
# Note the logarithmic scale: without normalization the gradient shrinks by a factor of about ten from layer to layer,
# in all by about two thousand; with it, by about four in all.
#
# </details>
#
# **Check** this on all seeds: the ratio of the gradient's spread at the top to that at the bottom.

# %% tags=["hide-output"]
top_over_bottom = {norm: [float(watched.after['dense 2'].dA.std() / watched.after['conv 1'].dA.std())
                          for watched in sigmoid[norm]] for norm in sigmoid}
assert min(top_over_bottom['none']) > 100 and max(top_over_bottom['fused']) < 20
figures.by_seed(top_over_bottom, 'gradient: top over bottom')

# %% [markdown]
# Last, the size of a step: the spread of the update of a layer's weights over the spread of the weights themselves. A
# common rule of thumb asks for about one in a thousand (the dotted line). **Predict** which net is closer to it, at a
# learning rate of 1.

# %% tags=["hide-output"]
figures.over_training(sigmoid, 'steps', 'update / weights', hint=1e-3)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The net that does not learn is closer to the rule! Its steps are small, though unequal: the fastest layer moves tens
# of times as fast as the slowest. With the norm the steps are a few per cent in each layer, and it learns all the same.
# (A norm's output does not depend on the scale of the weights before it; whether this is why such steps do no harm is
# not shown here.)
#
# </details>
#
# **Check** both.

# %% tags=["hide-output"]
steps = {norm: numpy.array([watched.steps[-1] for watched in sigmoid[norm]])  # (seeds, layers)
         for norm in sigmoid}
unequal = {norm: values.max(axis=1) / values.min(axis=1) for norm, values in steps.items()}
assert steps['fused'][:, 0].min() > 5 * steps['none'][:, 0].max()
assert numpy.median(unequal['fused']) < numpy.median(unequal['none'])
figures.by_seed(unequal, 'step: largest layer over smallest')

# %% [markdown]
# **Try it.** Start with sigmoid inputs of standard deviation 0.1 instead of 1. Does LeNet still learn?
#
# ## What we saw, and what we did not show
#
# - Training mode, not recording, makes the layer use the minibatch. Gluon's layer agrees, except in *when* it updates
#   its averages: in MXNet 1.9.1 on a CPU, in each backward pass.
# - In prediction mode, an example's output depends on it alone. In training mode it depends on the rest of the batch,
#   and sorted images ruin the accuracy.
# - At a rate of 1, statistics estimated once over the training set are as good as the batches' own, and better and
#   steadier than moving averages, with each of three seeds. At a rate of 0.1 that is worth less.
# - $XW + b$ is nearer to a Gaussian than the layer's input, in the median over layers and seeds: with ReLUs in both
#   moments, with sigmoids in the kurtosis only.
# - Without normalization LeNet's sigmoids hardly vary and the gradient shrinks about two thousandfold on its way down;
#   with it they vary, and it shrinks about fourfold. A start at which the sigmoids vary lets LeNet learn without a
#   norm.
#
# We trained on a few thousand images for a few epochs, so the accuracies are far below what LeNet reaches (`python -m
# gluon_bn compare` trains it in full). We did not show that a Gaussian unit trains better; that is the chapter's
# reason for the place of the norm, and a comparison of the two places would be another experiment.
