# %% [markdown]
# # How far can the learning rate go?
#
# Batch normalization is said to allow larger learning rates. Here LeNet is trained again and again: over learning
# rates from 0.03 to 10, with the norm and without. Then we take batch normalization apart: which layers need it, is
# it the mean or the variance, do $\gamma$ and $\beta$ matter, what are the lower layers good for, how few examples
# may share their statistics, and does it replace dropout?
#
# All comparisons are fair in the same way: within a seed, all nets start from the same weights, see the same
# minibatches, and have the same pooling. There are three seeds, and a statement counts if it holds for each of them.
# "Every seed" means these three; this proves nothing about others.
#
# **Afterwards you can** say at which rates LeNet learns with and without the norm, where in the net it matters, and
# which of its parts matter at which rate.
#
# **You need** notebook 01. Reading takes about 17 minutes. To make over a hundred trainings fit into a few minutes on
# two cores, each of them is short: 64 updates on 2048 images, unless we say otherwise.

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
from mxnet import autograd, nd
from mxnet.gluon import nn
from mxnet.gluon.contrib.nn import Identity
from gluon_bn import BatchNorm, estimate_statistics, fused_batch_norm, lenet, load_data_fashion_mnist
from gluon_bn.data import Minibatches
from gluon_bn.experiments import rates, training_figures as figures
from gluon_bn.experiments.rates import with_activation, with_dropout
from gluon_bn.training import Diverged, evaluate_accuracy, seed_everything, train

seeds, num_epochs, batch_size = (0, 1, 2), 2, 64
train_iter, test_iter = load_data_fashion_mnist(batch_size, num_train=4096, num_test=1000)
test_iter = Minibatches(test_iter.X, test_iter.y, 500, shuffle=False)  # the same, but faster


# %% [markdown]
# A fair training takes a seed for the weights and for the order of the minibatches, and draws all weights before the
# first step, because dropout would draw from the same generator in between:

# %%
def first(n):
    return Minibatches(train_iter.X[:n], train_iter.y[:n], batch_size, shuffle=True), test_iter

def learn(net, lr, seed, data):
    seed_everything(seed)
    rates.initialize(net, test_iter.X[:1])
    try:
        train(net, *data, num_epochs, lr, initialize=False, plot=False, progress=False)
        estimate_statistics(net, data[0])  # the moving averages would lag
    except Diverged:
        pass  # a result, too: the net guesses
    return evaluate_accuracy(net, test_iter)

data = first(2048)
assert learn(lenet('fused'), 1.0, 0, data) == rates.train_once(lenet('fused'), 1.0, 0, data, num_epochs).test_acc

# %% [markdown]
# The package's `rates.train_once` does the same for any net, and returns the loss and the train accuracy, too.
#
# ## 1. From 0.03 to 10
#
# *Claim C29.* We begin with LeNet with ReLUs instead of sigmoids, because it learns within 96 updates (3072 images,
# twice 48) also *without* a norm, at a suitable rate. A net that has learned nothing has an accuracy of 0.1, one class
# in ten.
#
# **Predict** two numbers: the largest learning rate at which LeNet still learns without batch normalization, and with
# it.

# %% tags=["hide-output"]
lrs = (0.03, 0.1, 0.3, 1, 3, 10)
relu_nets = {'none': lambda: with_activation(lenet('none'), 'relu'),
             'fused': lambda: with_activation(lenet('fused'), 'relu')}
relu = {norm: {lr: [rates.train_once(make(), lr, seed, first(3072), num_epochs) for seed in seeds] for lr in lrs}
        for norm, make in relu_nets.items()}

# %% [markdown]
# And the chapter's net, with sigmoids:

# %% tags=["hide-output"]
sigmoid_nets = {'none': lambda: lenet('none'), 'fused': lambda: lenet('fused')}
sigmoid = rates.over_rates(sigmoid_nets, (0.1, 1, 3), seeds, first(3072), num_epochs)
figures.accuracy_over_rates([relu, sigmoid], ['LeNet with ReLUs', 'LeNet with sigmoids'])

# %% [markdown]
# (Dots are seeds, the lines go through their medians; the dotted line is guessing. Test accuracies of normalized nets
# use statistics estimated once over the training images, so that a lagging moving average does not blur the
# comparison.)
#
# <details><summary>Answer</summary>
#
# With ReLUs the grey net needs the right rate, and from 1 on it guesses with every seed; the green one learns from the
# smallest rate to 3. With sigmoids the grey net learns at *none* of the three rates in so few updates, so there the
# claim is not about the rate: of the two nets, only the normalized one learns at all.
#
# </details>
#
# **Check** this on every seed.

# %% tags=["hide-output"]
learns = {(net, norm): rates.rates_that_learn(runs[norm], 0.5)
          for net, runs in (('ReLU', relu), ('sigmoid', sigmoid)) for norm in runs}
largest = {norm: max(learns['ReLU', norm]) for norm in relu}
assert learns['ReLU', 'fused'] == list(lrs[:-1]) and max(run.test_acc for run in relu['fused'][10]) < 0.5
assert largest['fused'] >= 10 * largest['none']
assert all(run.test_acc < 0.2 for lr in (1, 3, 10) for run in relu['none'][lr])
assert learns['sigmoid', 'none'] == [] and 1 in learns['sigmoid', 'fused']
figures.table([(*of, ', '.join(map(str, lrs)) or 'at no rate') for of, lrs in learns.items()],
              ['LeNet with', 'norm', 'rates at which every seed is above 0.5'])

# %% [markdown]
# There is a limit, too: at a rate of 10, the normalized net with ReLUs fails. The rate can be larger, but not
# arbitrarily large.
#
# **Try it.** Add a rate of 5 to `lrs`: does the normalized net learn there?
#
# ## 2. Which layers need it?
#
# LeNet has four places for a norm. `lenet` takes a function that makes a norm for a given number of features; at the
# other places it makes a block that does nothing:

# %%
sizes = {'conv 1': 6, 'conv 2': 16, 'dense 1': 120, 'dense 2': 84}

def norm_by(fn=fused_batch_norm, places=tuple(sizes), frozen=()):
    def norm(num_features, num_dims):
        if num_features not in [sizes[place] for place in places]:
            return Identity()
        layer = BatchNorm(num_features, num_dims, fn=fn)
        for name in frozen:  # gamma or beta, for section 4
            getattr(layer, name).grad_req = 'null'
        return layer
    return norm


# %% [markdown]
# **Predict**: is one enough, and which? (Sigmoids from here on, and a learning rate of 1.)

# %% tags=["hide-output"]
lr = 1.0
places = {'none': (), 'conv 1 only': ('conv 1',), 'conv 2 only': ('conv 2',), 'dense 1 only': ('dense 1',),
          'dense 2 only': ('dense 2',), 'all four': ('conv 1', 'conv 2', 'dense 1', 'dense 2')}
nets = {name: lambda chosen=chosen: lenet(norm_by(places=chosen)) for name, chosen in places.items()}
by_place = rates.over_seeds(nets, lr, seeds, data, num_epochs)
figures.strips(by_place)

# %% [markdown]
# <details><summary>Answer</summary>
#
# One is nearly enough, if it is near the top: the norm before the last sigmoids alone comes close to all four. The
# lower it is, the less it helps, and the lowest alone leaves the loss as high as without any. (This holds for LeNet,
# which is shallow, and for few updates.)
#
# </details>
#
# **Check** this, worst seed against best, except for the two upper positions, which are close to each other.

# %%
worst, best = ({name: pick(run.loss for run in runs) for name, runs in by_place.items()}
               for pick in (max, min))
assert worst['all four'] < best['none'] - 0.5 and worst['dense 2 only'] < best['none'] - 0.5
assert max(worst['dense 2 only'], worst['dense 1 only']) < best['conv 2 only']
assert worst['conv 2 only'] < best['conv 1 only']
assert abs(best['conv 1 only'] - best['none']) < 0.1


# %% [markdown]
# **Try it.** Use the two dense norms together: do they do better than one?
#
# ## 3. The mean, or the variance?
#
# *Claim C27.* The maths is a function and the layer does the bookkeeping, so a question like this only needs a new
# function; the layer does not change. `mean_only` subtracts the minibatch's mean and leaves the spread; `variance_only`
# divides by the standard deviation and leaves the mean. Both have the signature of `batch_norm`.

# %%
def mean_only(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    mean = moving_mean
    if autograd.is_training():
        mean = rates.mean_of(X)  # (1, d) or (1, c, 1, 1)
        moving_mean = momentum * moving_mean + (1 - momentum) * mean.detach()
    return gamma * (X - mean) + beta, moving_mean, moving_var

def variance_only(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    var = moving_var
    if autograd.is_training():
        var = rates.mean_of((X - rates.mean_of(X)) ** 2)
        moving_var = momentum * moving_var + (1 - momentum) * var.detach()
    return gamma / (var + eps).sqrt() * X + beta, moving_mean, moving_var


# %% [markdown]
# The layer takes them as `BatchNorm(..., fn=mean_only)`. **Check** that the layer gives the same results with each as
# with the package's function of that name, in training and then in prediction mode.

# %%
X = nd.random.normal(2, 3, shape=(8, 3, 5, 4))
for pair in ((mean_only, rates.mean_only), (variance_only, rates.variance_only)):
    layers = [BatchNorm(3, num_dims=4, fn=fn) for fn in pair]
    for layer in layers:
        layer.initialize()
    for mode in (autograd.train_mode, autograd.predict_mode):
        with mode():
            ours, theirs = [layer(X) for layer in layers]
        assert (ours - theirs).abs().max().asscalar() < 1e-5

# %% [markdown]
# **Predict** which of the two does more.

# %% tags=["hide-output"]
functions = {'none': None, 'mean only': mean_only, 'variance only': variance_only, 'both': fused_batch_norm}
nets = {name: lambda fn=fn: lenet(norm_by(fn) if fn else 'none') for name, fn in functions.items()}
by_function = rates.over_seeds(nets, lr, seeds, data, num_epochs)
figures.strips(by_function)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At this rate and with so few updates, neither half learns anything alone. Both even end with a higher loss than the
# net without a norm, and dividing without subtracting is by far the worst.
#
# </details>
#
# **Check** this, worst seed against best.

# %%
losses = {name: [run.loss for run in runs] for name, runs in by_function.items()}
for half in ('mean only', 'variance only'):
    assert max(losses['both']) < min(losses['none']) and max(losses['none']) < min(losses[half])

# %% [markdown]
# Is dividing alone useless, then? That depends on the rate. **Predict** its test accuracy at a rate of 0.03.

# %% tags=["hide-output"]
few = {name: nets[name] for name in ('none', 'variance only')}
slowly = rates.over_seeds(few, 0.03, seeds, data, num_epochs)
figures.strips(slowly)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At the small rate it learns something, and the net without a norm learns nothing. So "both are needed" is a statement
# about a rate of 1.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert min(run.test_acc for run in slowly['variance only']) > max(run.test_acc for run in slowly['none']) + 0.05

# %% [markdown]
# **Try it.** Let `mean_only` divide by 2, a constant. Does it learn now?
#
# ## 4. Do gamma and beta matter?
#
# They give back to the layer what the normalization removes: any mean and any spread. **Predict** what happens to the
# loss if they stay at 1 and 0. (Three epochs here and in the next section.)

# %% tags=["hide-output"]
frozen = {'both learned': (), 'gamma frozen': ('gamma',), 'beta frozen': ('beta',),
          'both frozen': ('gamma', 'beta')}
nets = {name: lambda names=names: lenet(norm_by(frozen=names)) for name, names in frozen.items()}
by_frozen = rates.over_seeds(nets, lr, seeds, data, num_epochs=3)
figures.strips(by_frozen)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Little changes. Without them, the training loss is slightly worse with every seed; the test accuracies differ by a few
# hundredths at most.
#
# </details>
#
# **Check**:

# %% tags=["hide-input"]
for learned, both in zip(by_frozen['both learned'], by_frozen['both frozen']):
    assert 0 < both.loss - learned.loss < 0.3
    assert abs(both.test_acc - learned.test_acc) < 0.1


# %% [markdown]
# **Try it.** Freeze gamma at 0.1 instead of 1: in `norm_by`, set `layer.gamma.init = init.Constant(0.1)` (`from mxnet
# import init`).
#
# ## 5. What are the lower layers good for?
#
# *Claim C15.* In a chain of linear units, batch normalization makes the lower layers useless, up to their signs
# (notebook 02, section 7). Here there are sigmoids between the layers. We freeze the lowest one, two, three or four
# layers at their random initial weights (with their norms' $\gamma$ and $\beta$) and train the rest:

# %%
def freeze_lower(net, num_layers):
    affine = 0
    for block in net:
        affine += isinstance(block, (nn.Conv2D, nn.Dense))
        if affine <= num_layers:
            block.collect_params().setattr('grad_req', 'null')
    return net


# %% [markdown]
# **Predict** where it begins to hurt.

# %% tags=["hide-output"]
levels = {'all trained': 0, 'conv 1 frozen': 1, '+ conv 2': 2, '+ dense 1': 3, '+ dense 2': 4}
nets = {name: lambda level=level: freeze_lower(lenet('fused'), level) for name, level in levels.items()}
by_level = rates.over_seeds(nets, lr, seeds, data, num_epochs=3)
figures.strips(by_level)

# %% [markdown]
# <details><summary>Answer</summary>
#
# With three or four frozen layers, the net learns less with every seed, so the lower layers are useful. But note the
# condition: in a training as short as this one, freezing one or two convolutions costs little, less than a tenth in the
# loss and a few hundredths in test accuracy.
#
# </details>
#
# **Check** both, comparing each seed with itself.

# %% tags=["hide-output"]
for i in range(len(seeds)):
    assert by_level['all trained'][i].loss < by_level['+ dense 1'][i].loss < by_level['+ dense 2'][i].loss
    assert by_level['+ conv 2'][i].loss < by_level['all trained'][i].loss + 0.1
    assert by_level['+ conv 2'][i].test_acc > by_level['all trained'][i].test_acc - 0.05
figures.table(rates.table(by_level), ['', 'train loss', 'train accuracy', 'test accuracy'])


# %% [markdown]
# (Median over the seeds, and their range.)
#
# **Try it.** Freeze the *upper* two layers instead. Which is worse?
#
# ## 6. How few examples may share their statistics?
#
# The mean and variance of few examples are noisy. With two of them a unit of a dense layer becomes $\pm 1$, up to eps,
# and all that is left is which one is larger. But with smaller minibatches, the net would also see fewer images in the
# same number of updates. To change only one thing, each update always has 64 examples, and the *statistics* are those
# of groups of `size` examples: the groups are side by side, as if they were channels. In prediction mode there are no
# groups.

# %%
def in_groups_of(size):
    def fn(X, gamma, beta, moving_mean, moving_var, eps, momentum):
        if not autograd.is_training():
            return fused_batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum)
        c, groups = X.shape[1], X.shape[0] // size
        X_groups = X.reshape((groups, size, c, -1)).transpose((1, 0, 2, 3))  # (size, groups, c, places)
        arrays = [nd.tile(array.reshape((1, c, 1, 1)), (1, groups, 1, 1))
                  for array in (gamma, beta, moving_mean, moving_var)]
        Y, *new = fused_batch_norm(X_groups.reshape((size, groups * c, -1, 1)), *arrays, eps, momentum)
        mean, var = (statistic.reshape((groups, c)).mean(axis=0).reshape(gamma.shape) for statistic in new)
        return Y.reshape(X_groups.shape).transpose((1, 0, 2, 3)).reshape(X.shape), mean, var
    return fn


# %% [markdown]
# **Check** that this is batch normalization of each group by itself, for a dense layer and for a convolution:

# %%
for shape, row in (((8, 3), (1, 3)), ((8, 3, 5, 4), (1, 3, 1, 1))):
    X, one, zero = nd.random.normal(2, 3, shape=shape), nd.ones(row), nd.zeros(row)
    with autograd.train_mode():
        Y = in_groups_of(4)(X, one, zero, zero, zero, 1e-5, 0.9)[0]
        halves = [fused_batch_norm(half, one, zero, zero, zero, 1e-5, 0.9)[0] for half in (X[:4], X[4:])]
    assert (Y - nd.concat(*halves, dim=0)).abs().max().asscalar() < 1e-5

# %% [markdown]
# **Predict** the order of groups of 2, 4, 16 and 64, and of the net without a norm. It is LeNet with ReLUs again, at a
# rate of 0.1, at which the net without a norm learns.

# %% tags=["hide-output"]
nets = {'none': relu_nets['none'],
        **{f'groups of {size}': lambda size=size: with_activation(lenet(norm_by(in_groups_of(size))), 'relu')
           for size in (2, 4, 16, 64)}}
by_size = rates.over_seeds(nets, 0.1, seeds, first(4096), num_epochs=1)  # 64 updates
figures.strips(by_size)

# %% [markdown]
# <details><summary>Answer</summary>
#
# With groups of two the norm is *worse than none*: with every seed the loss is higher and the test accuracy lower. With
# groups of four or more it is better than none; it still gains from 4 to 16, and little from 16 to 64.
#
# </details>
#
# **Check**:

# %% tags=["hide-output"]
loss, test_acc = ({name: [getattr(run, key) for run in runs] for name, runs in by_size.items()}
                  for key in ('loss', 'test_acc'))
assert min(loss['groups of 2']) > max(loss['none']) > min(loss['none']) > max(loss['groups of 4'])
assert min(loss['groups of 4']) > max(loss['groups of 16'])
for i in range(len(seeds)):
    assert test_acc['groups of 2'][i] < test_acc['none'][i] < test_acc['groups of 4'][i]
    assert abs(test_acc['groups of 64'][i] - test_acc['groups of 16'][i]) < 0.05
figures.table(rates.table(by_size), ['', 'train loss', 'train accuracy', 'test accuracy'])

# %% [markdown]
# **Try it.** Use groups of 8. Where do the results lie?
#
# ## 7. Instead of dropout?
#
# The noise of the minibatch's statistics is sometimes said to regularize, so that dropout can be omitted. To see
# overfitting at all, we train on only 512 images, for ten epochs, with ReLUs and a rate of 0.1. While a net with
# dropout trains, half of its dense units are off, so its training accuracy is measured once more after the last epoch,
# in prediction mode, as the test accuracy is. **Predict** the order of the four in training and in test.

# %% tags=["hide-output"]
nets = {'neither': relu_nets['none'], 'dropout': lambda: with_dropout(relu_nets['none']()),
        'batch norm': relu_nets['fused'],
        'batch norm and dropout': lambda: with_dropout(relu_nets['fused']())}
by_noise = rates.over_seeds(nets, 0.1, seeds, first(512), num_epochs=10)
figures.strips(by_noise, keys=(('train_acc_predicted', 'train accuracy, prediction mode'),
                               ('test_acc', 'test accuracy')))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Batch normalization alone fits its training images best and *overfits most*: it has the widest gap between the two
# pictures. Even so, both nets with batch normalization have a higher test accuracy than both nets without it. Adding
# dropout narrows the gap to less than half, at the cost of training accuracy.
#
# </details>
#
# **Check** the gaps, and see how they would look with the accuracy measured during training, when dropout is active:

# %% tags=["hide-output"]
gap, while_training = ({name: [getattr(run, key) - run.test_acc for run in runs] for name, runs in by_noise.items()}
                       for key in ('train_acc_predicted', 'train_acc'))
assert min(gap['batch norm']) > 2 * max(gap['batch norm and dropout'])
assert min(gap['batch norm']) > 2 * max(gap['neither'] + gap['dropout'])
assert max(while_training['batch norm and dropout']) < 0 < min(gap['batch norm and dropout'])
test_acc = {name: [run.test_acc for run in runs] for name, runs in by_noise.items()}
assert min(test_acc['batch norm'] + test_acc['batch norm and dropout']) > max(test_acc['neither'] + test_acc['dropout'])
figures.table([(name, rates.spread(gap[name]), rates.spread(while_training[name])) for name in gap],
              ['', 'gap: prediction mode', 'gap: while training'])

# %% [markdown]
# Measured while training, the net with both would seem to do better in test than in training. In this short training
# batch normalization is no replacement for dropout: alone, it overfits most.
#
# **Try it.** Train on 4096 images: does batch normalization still overfit most?
#
# ## What we saw, and what we did not show
#
# - With ReLUs, the largest rate that works is at least ten times as large with batch normalization; with sigmoids only
#   the normalized LeNet learns within so few updates. At a rate of 10, the normalized net with ReLUs fails as well.
# - At a rate of 1 neither mean nor variance is enough alone; at 0.03 the variance alone learns a little. $\gamma$ and
#   $\beta$ help the training loss a little.
# - Freezing three or four layers costs, so the lower layers stay useful; freezing two convolutions costs little in so
#   short a training.
# - Statistics of two examples are worse than no norm; those of four are better, those of 16 better still.
# - On few images, batch normalization alone overfits most, and adding dropout narrows the gap.
#
# All trainings were short, on few images, and from three seeds. We did not show what is best after many epochs, nor
# that a larger rate leads to a better net in the end: only that it leads to one at all. We did not show *why* the
# places, the halves and the groups differ as they do. We kept one pooling (maximum) and plain gradient descent
# throughout; with momentum or Adam the borders may lie elsewhere.
