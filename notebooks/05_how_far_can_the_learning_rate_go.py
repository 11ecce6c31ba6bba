# %% [markdown]
# # How far can the learning rate go?
#
# Batch normalization is said to allow larger learning rates. Here LeNet is trained again and again: over learning
# rates from 0.03 to 10, with the norm and without. Then we take batch normalization apart: which layers need it, is
# it the mean or the variance, do $\gamma$ and $\beta$ matter, how small may the minibatch be, does it replace
# dropout, and what are the lower layers good for?
#
# All comparisons are fair in the same way: within a seed, all nets start from the same weights, see the same
# minibatches, and have the same pooling. There are always three seeds, and a statement counts if it holds for each of
# them. To make over a hundred trainings fit into about three minutes on two cores, each of them is short: 64 updates
# on 2048 images, unless we say otherwise.

# %%
# %matplotlib inline
from gluon_bn import fused_batch_norm, lenet, load_data_fashion_mnist
from gluon_bn.data import Minibatches
from gluon_bn.experiments import rates, training_figures as figures
from gluon_bn.experiments.variants import (freeze_lower, mean_only, norm_by, variance_only, with_activation,
                                           with_dropout)

seeds, num_epochs, batch_size = (0, 1, 2), 2, 64
train_iter, test_iter = load_data_fashion_mnist(batch_size, num_train=4096, num_test=1000)
test_iter = Minibatches(test_iter.X, test_iter.y, 500, shuffle=False)  # the same, but faster

def first(n):
    return Minibatches(train_iter.X[:n], train_iter.y[:n], batch_size, shuffle=True), test_iter
data = first(2048)

# %% [markdown]
# ## 1. From 0.03 to 10
#
# *Claim C29.* We begin with LeNet with ReLUs in the place of its sigmoids, because that one learns within 96 updates
# (3072 images, twice 48) also *without* a norm, at a suitable rate. A net that has learned nothing has an accuracy of
# 0.1, one class in ten.
#
# **Predict** two numbers: the largest learning rate at which LeNet still learns without batch normalization, and with
# it.

# %%
lrs = (0.03, 0.1, 0.3, 1, 3, 10)
relu_nets = {'none': lambda: with_activation(lenet('none'), 'relu'),
             'fused': lambda: with_activation(lenet('fused'), 'relu')}
relu = rates.over_rates(relu_nets, lrs, seeds, first(3072), num_epochs)

# %% [markdown]
# And the chapter's net, with sigmoids:

# %%
sigmoid_nets = {'none': lambda: lenet('none'), 'fused': lambda: lenet('fused')}
sigmoid = rates.over_rates(sigmoid_nets, (0.1, 1, 3), seeds, first(3072), num_epochs)
figures.accuracy_over([relu, sigmoid], 'learning rate', ['LeNet with ReLUs', 'LeNet with sigmoids'])

# %% [markdown]
# (Dots are seeds, the lines go through their medians; the dotted line is guessing. Test accuracies of normalized nets
# use statistics estimated once over the training images, so that a lagging moving average does not blur the
# comparison.)
#
# With ReLUs the grey net needs the right rate, and at 1 it is lost with every seed; the green one learns from the
# smallest rate to 3. With sigmoids the grey net learns at *no* rate in so few updates, so there the claim is not
# about the rate: batch normalization is what makes it learn at all. **Check**: every seed of the one, no seed of the
# other.

# %%
learns = {(net, norm): rates.rates_that_learn(runs[norm], 0.5)
          for net, runs in (('ReLU', relu), ('sigmoid', sigmoid)) for norm in runs}
largest = {norm: max(learns['ReLU', norm]) for norm in relu}
assert largest['fused'] >= 10 * largest['none']
assert all(run.test_acc < 0.2 for lr in (1, 3, 10) for run in relu['none'][lr])
assert learns['sigmoid', 'none'] == [] and 1 in learns['sigmoid', 'fused']
figures.table([(*of, ', '.join(map(str, lrs)) or 'none') for of, lrs in learns.items()],
              ['LeNet with', 'norm', 'rates at which every seed is above 0.5'])

# %% [markdown]
# It has an end, too: at a rate of 10 the normalized net with ReLUs fails. Larger, not arbitrarily large.
#
# ## 2. Which layers need it?
#
# LeNet has four places for a norm. **Predict**: is one enough, and which? (Sigmoids from here on, and a learning rate
# of 1.)

# %%
lr = 1.0
places = {'none': (), 'conv 1 only': ('conv 1',), 'conv 2 only': ('conv 2',), 'dense 1 only': ('dense 1',),
          'dense 2 only': ('dense 2',), 'all four': ('conv 1', 'conv 2', 'dense 1', 'dense 2')}
nets = {name: lambda chosen=chosen: lenet(norm_by(places=chosen)) for name, chosen in places.items()}
by_place = rates.over_seeds(nets, lr, seeds, data, num_epochs)
figures.strips(by_place)

# %% [markdown]
# One is nearly enough, if it stands high: the norm before the last sigmoids alone comes close to all four. The lower
# it stands, the less it does, and the lowest alone does nothing: the sigmoids above it take its variation away again,
# as in the net without any. (That is for LeNet, which is shallow, and for few updates.) **Check** it between the
# worst and the best seeds.

# %%
worst, best = ({name: pick(run.loss for run in runs) for name, runs in by_place.items()}
               for pick in (max, min))
assert worst['all four'] < best['none'] - 0.5 and worst['dense 2 only'] < best['none'] - 0.5
assert worst['dense 2 only'] < best['conv 2 only'] < best['conv 1 only']
assert abs(best['conv 1 only'] - best['none']) < 0.1

# %% [markdown]
# ## 3. The mean, or the variance?
#
# *Claim C27.* The maths is a function and the layer does the bookkeeping, so a question like this one needs a
# function, and not a line of the layer changes. `mean_only` subtracts the minibatch's mean and leaves the spread;
# `variance_only` divides by the standard deviation and leaves the mean. Both have the signature of `batch_norm`.
# **Predict** which of the two does more.

# %%
functions = {'none': None, 'mean only': mean_only, 'variance only': variance_only, 'both': fused_batch_norm}
nets = {name: lambda fn=fn: lenet(norm_by(fn) if fn else 'none') for name, fn in functions.items()}
by_function = rates.over_seeds(nets, lr, seeds, data, num_epochs)
figures.strips(by_function)

# %% [markdown]
# Neither half does anything alone, at this rate and in so few updates; and dividing without subtracting makes it
# worse. A unit whose mean is far from 0, measured in its own spread, is pushed to one end of its sigmoid for all
# images alike. **Check** it, worst seed against best.

# %%
assert max(run.loss for run in by_function['both']) < min(run.loss for run in by_function['mean only'])
assert max(run.loss for run in by_function['both']) < min(run.loss for run in by_function['variance only'])

# %% [markdown]
# ## 4. Do gamma and beta matter?
#
# They give the layer back what the normalization takes: any mean and any spread. **Predict** what becomes of the loss
# if they stay at 1 and 0. (Three epochs here and in the next section.)

# %%
frozen = {'both learned': (), 'gamma frozen': ('gamma',), 'beta frozen': ('beta',),
          'both frozen': ('gamma', 'beta')}
nets = {name: lambda names=names: lenet(norm_by(frozen=names)) for name, names in frozen.items()}
by_frozen = rates.over_seeds(nets, lr, seeds, data, num_epochs=3)
figures.strips(by_frozen)

# %% [markdown]
# Little. The next layer has weights and a bias of its own, which can do most of what $\gamma$ and $\beta$ do. The
# training loss is a little worse without them, with every seed; the test accuracy does not tell the two apart.
# **Check**:

# %%
for learned, both in zip(by_frozen['both learned'], by_frozen['both frozen']):
    assert 0 < both.loss - learned.loss < 0.3
    assert abs(both.test_acc - learned.test_acc) < 0.1

# %% [markdown]
# ## 5. What are the lower layers good for?
#
# *Claim C15.* In a chain of linear units, batch normalization makes the lower layers useless: whatever they do, the
# norm undoes it. Here there are sigmoids between the layers. We freeze the lowest one, two, three or four layers at
# their random initial weights (with their norms' $\gamma$ and $\beta$) and train the rest. **Predict** where it
# begins to hurt.

# %%
levels = {'all trained': 0, 'conv 1 frozen': 1, '+ conv 2': 2, '+ dense 1': 3, '+ dense 2': 4}
nets = {name: lambda level=level: freeze_lower(lenet('fused'), level) for name, level in levels.items()}
by_level = rates.over_seeds(nets, lr, seeds, data, num_epochs=3)
figures.strips(by_level)

# %% [markdown]
# The more is frozen, the less is learned, so the lower layers are useful. But mind the condition: one or two frozen
# convolutions cost little in a training as short as this one. Random filters followed by a norm are not bad filters,
# and within the seeds' spread one cannot tell. **Check** what is beyond doubt: three or four frozen layers, each seed
# against itself.

# %%
for i in range(len(seeds)):
    assert by_level['all trained'][i].loss < by_level['+ dense 1'][i].loss < by_level['+ dense 2'][i].loss
figures.table(rates.table(by_level), ['', 'train loss', 'train accuracy', 'test accuracy'])

# %% [markdown]
# (Median over the seeds, and their range.)
#
# ## 6. How small may the minibatch be?
#
# The mean and variance of a small minibatch are noisy. With two examples a unit of a dense layer becomes $\pm 1$, and
# all that is left is which one is larger. **Predict** the accuracy for minibatches of 2, 4, 16 and 64, each with 64
# updates at a rate of 0.1, with ReLUs, so that the net without a norm has its best rate.

# %%
by_size = rates.over_batch_sizes(relu_nets, (2, 4, 16, 64), 0.1, seeds,
                                 (train_iter, test_iter), num_updates=64)
figures.accuracy_over([by_size], 'batch size', ['64 updates'])

# %% [markdown]
# With two examples neither net learns much. From four on, batch normalization is ahead of the net without it, and
# both gain from larger minibatches, which also show them more images in the same number of updates. So the noise of a
# small minibatch's statistics does limit it, yet less than no norm at all does. **Check** the ends.

# %%
for norm in by_size:
    assert min(run.test_acc for run in by_size[norm][64]) > max(run.test_acc for run in by_size[norm][2])
assert min(run.test_acc for run in by_size['fused'][64]) > max(run.test_acc for run in by_size['none'][64])

# %% [markdown]
# ## 7. Instead of dropout?
#
# The noise of the minibatch's statistics is sometimes said to regularize, so that dropout may be left out. To see
# overfitting at all, we train on 512 images only, ten epochs, with ReLUs and a rate of 0.1. **Predict** the order of
# the four in training and in test.

# %%
nets = {'neither': relu_nets['none'], 'dropout': lambda: with_dropout(relu_nets['none']()),
        'batch norm': relu_nets['fused'],
        'batch norm and dropout': lambda: with_dropout(relu_nets['fused']())}
by_noise = rates.over_seeds(nets, 0.1, seeds, first(512), num_epochs=10)
figures.strips(by_noise, keys=(('train_acc', 'train accuracy'), ('test_acc', 'test accuracy')))

# %% [markdown]
# Batch normalization alone knows its training images best, and *overfits most*: the gap between the two pictures is
# the widest. And still it is the best in test, because it has learned the most. Dropout closes the gap and slows the
# learning. (Its training accuracy is measured with half of the dense units off; hence it can be below the test's.) In
# so short a training the two are no replacement for each other. **Check** the gaps.

# %%
gap = {name: [run.train_acc - run.test_acc for run in runs] for name, runs in by_noise.items()}
assert min(gap['batch norm']) > max(max(values) for name, values in gap.items() if name != 'batch norm')
figures.table([(name, rates.spread(values)) for name, values in gap.items()], ['', 'training - test accuracy'])

# %% [markdown]
# ## What we saw, and what we did not show
#
# - With ReLUs, batch normalization widens the range of rates that work tenfold or more; with sigmoids it is what
#   makes LeNet learn within few updates at all. At a rate of 10 it fails as well.
# - Both halves, mean and variance, are needed; $\gamma$ and $\beta$ help a little.
# - The lower layers stay useful, though random convolutions under a norm do surprisingly well for a while.
# - Small minibatches cost accuracy. Dropout and batch normalization do different things.
#
# All trainings were short and on few images. We did not show what is best after many epochs, nor that a larger rate
# leads to a better net in the end: only that it leads to one at all. We kept one pooling (maximum) and plain gradient
# descent throughout; momentum or Adam would move every border here.
