# %% [markdown]
# # Batch normalization: exercises
#
# In exercises 1 to 7 you write batch normalization, from one formula to a trained LeNet. In 8 to 14 you use it to answer
# questions by experiment.
#
# - Write where it says `YOUR CODE HERE` or `YOUR ANSWER HERE`. Leave the names of functions and variables as they are.
# - Run the cell `check...` below your code as often as you like. It names the mistake, shows it by numbers, and asks a
#   question that helps.
# - Cells marked *graded* hold tests that you do not see. They run when your work is graded.
# - Arrays are of `mx.nd`. In exercises 1 to 6, compute with its operations, not with a ready-made norm.
# - At the end: *Kernel, Restart and Run All*, save, and hand in this one file.
#
# Stuck? Leave an exercise as it is and go on. Each is graded by itself.

# %% nbgrader={"grade": false, "grade_id": "setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import mxnet as mx
import numpy
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn

from gluon_bn import check
from gluon_bn.classroom import checks
from gluon_bn.classroom.workbench import fit

seeds = {{seeds}}  # of each experiment

# %% [markdown]
# ## Exercise 1: a dense layer
#
# `X` is a minibatch of shape (m, d): m examples, d units. Give each unit a mean of 0 and a variance of 1 over the
# examples; then scale it by `gamma` and shift it by `beta`. The variance is the mean of the squared distances (divide
# by m), and `eps` is added to it.
#
# $$Y = \gamma \, \frac{X - \mathrm{mean}}{\sqrt{\mathrm{var} + \epsilon}} + \beta$$
#
# `gamma`, `beta`, `moving_mean` and `moving_var` have the shape (1, d). For now, return the moving averages
# unchanged.

# %% nbgrader={"grade": false, "grade_id": "dense", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_dense(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    ### BEGIN SOLUTION
    mean = X.mean(axis=0, keepdims=True)
    var = ((X - mean) ** 2).mean(axis=0, keepdims=True)
    Y = gamma * (X - mean) / nd.sqrt(var + eps) + beta
    ### END SOLUTION
    return Y, moving_mean, moving_var

# %%
check.batch_norm(batch_norm_dense, only=('dense',))

# %% nbgrader={"grade": true, "grade_id": "dense-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 1, {{points}}
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_dense, only=('dense',)).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 2: a convolution
#
# Now `X` has the shape (m, c, h, w), and the other arrays (1, c, 1, 1). A convolution treats all places of an image
# alike, and so should its norm: all values of one channel, from all images and all places, share one mean and one
# variance.

# %% nbgrader={"grade": false, "grade_id": "convolution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_conv(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    ### BEGIN SOLUTION
    mean = X.mean(axis=(0, 2, 3), keepdims=True)
    var = ((X - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    Y = gamma * (X - mean) / nd.sqrt(var + eps) + beta
    ### END SOLUTION
    return Y, moving_mean, moving_var

# %%
check.batch_norm(batch_norm_conv, only=('convolution',))

# %% nbgrader={"grade": true, "grade_id": "convolution-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 2, {{points}}
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_conv, only=('convolution',)).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 3: training or prediction
#
# A prediction must work for one example alone, which has no variance. So in prediction mode the two moving averages
# take the place of the minibatch's mean and variance. `autograd.is_training()` says which mode it is. In training mode,
# call what you wrote above: `X.ndim` is 2 or 4.

# %% nbgrader={"grade": false, "grade_id": "modes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_modes(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    ### BEGIN SOLUTION
    if autograd.is_training():
        fn = batch_norm_dense if X.ndim == 2 else batch_norm_conv
        return fn(X, gamma, beta, moving_mean, moving_var, eps, momentum)
    Y = gamma * (X - moving_mean) / nd.sqrt(moving_var + eps) + beta
    ### END SOLUTION
    return Y, moving_mean, moving_var

# %%
check.batch_norm(batch_norm_modes, only=('prediction', 'modes'))

# %% nbgrader={"grade": true, "grade_id": "modes-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 3, {{points}}
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_modes, only=('prediction', 'modes')).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 4: the moving averages
#
# Write the whole function in one piece, from what you have, and let it remember: after each *training* batch, each
# moving average moves a little from its old value towards the batch's.
#
# $$\text{new} = \text{momentum} \cdot \text{old} + (1 - \text{momentum}) \cdot \text{batch}$$
#
# Return new arrays and leave the input arrays unchanged. The averages take no part in the gradient: detach them from the
# graph.

# %% nbgrader={"grade": false, "grade_id": "averages", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    ### BEGIN SOLUTION
    if autograd.is_training():
        axes = (0,) if X.ndim == 2 else (0, 2, 3)
        mean = X.mean(axis=axes, keepdims=True)
        var = ((X - mean) ** 2).mean(axis=axes, keepdims=True)
        moving_mean = momentum * moving_mean + (1 - momentum) * mean.detach()
        moving_var = momentum * moving_var + (1 - momentum) * var.detach()
    else:
        mean, var = moving_mean, moving_var
    Y = gamma * (X - mean) / nd.sqrt(var + eps) + beta
    ### END SOLUTION
    return Y, moving_mean, moving_var

# %%
check.batch_norm(batch_norm)

# %% nbgrader={"grade": true, "grade_id": "averages-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 4, {{points}} for the averages
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm, only=('statistics', 'unmoved', 'inputs')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "graph-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 4, {{points}} for averages that are cut from the graph, and a gradient that is not
### BEGIN HIDDEN TESTS
result = check.batch_norm(batch_norm, only=('gradients', 'graph'))
result.assert_ok()
assert 'StatsKeptInGraph' not in result.notes, 'the moving averages hang on the graph'
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 5: the layer
#
# The function holds the maths; the layer keeps the books. Write `BatchNorm(num_features, num_dims)`, where `num_dims`
# is 2 after a dense layer and 4 after a convolution. It owns four arrays named `gamma`, `beta`, `moving_mean` and
# `moving_var` of shape (1, d) or (1, c, 1, 1). Two are learned and two are not. They start so that a new layer, in
# prediction mode, leaves `X` as it is. `forward` calls your `batch_norm` with `eps` 1e-5 and `momentum` 0.9, and keeps
# the new averages.
#
# One point is for averages that `save_parameters` saves. One hint: `X` may come on another device than the averages.

# %% nbgrader={"grade": false, "grade_id": "layer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class BatchNorm(nn.Block):
    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(**kwargs)
        ### BEGIN SOLUTION
        shape = (1, num_features) if num_dims == 2 else (1, num_features, 1, 1)
        self.gamma = self.params.get('gamma', shape=shape, init='ones')
        self.beta = self.params.get('beta', shape=shape, init='zeros')
        self.moving_mean = self.params.get('moving_mean', shape=shape, init='zeros', grad_req='null')
        self.moving_var = self.params.get('moving_var', shape=shape, init='ones', grad_req='null')
        ### END SOLUTION

    def forward(self, X):
        ### BEGIN SOLUTION
        device = X.context
        for statistic in (self.moving_mean, self.moving_var):
            if device not in statistic.list_ctx():
                statistic.reset_ctx(device)
        old = self.moving_mean.data(device), self.moving_var.data(device)
        Y, *new = batch_norm(X, self.gamma.data(device), self.beta.data(device), *old, eps=1e-5, momentum=0.9)
        for array, value in zip(old, new):
            if value is not array:
                value.copyto(array)
        ### END SOLUTION
        return Y

# %%
check.layer(BatchNorm)

# %% nbgrader={"grade": true, "grade_id": "layer-parameters-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, {{points}} for the four arrays and the device
### BEGIN HIDDEN TESTS
check.layer(BatchNorm, only=('parameters', 'device')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "layer-start-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, {{points}} for starting values with which a new layer leaves X as it is
### BEGIN HIDDEN TESTS
result = check.layer(BatchNorm, only=('start',))
result.assert_ok()
assert 'VarInitZero' not in result.notes, 'in prediction mode, a new layer multiplies X by about 316'
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "layer-forward-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, {{points}} for forward
### BEGIN HIDDEN TESTS
check.layer(BatchNorm, only=('dense', 'convolution', 'prediction', 'statistics', 'unmoved')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "layer-saved-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, {{points}} for averages that are saved
### BEGIN HIDDEN TESTS
result = check.layer(BatchNorm, only=('saving',))
result.assert_ok()
assert 'StatsNotSaved' not in result.notes, 'save_parameters leaves the averages out'
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 6: backward by hand
#
# `dY` is the gradient of the loss with respect to `Y`, in training. Return those with respect to `X`, `gamma` and
# `beta`, without autograd. Note that `X` reaches `Y` in three ways: directly, through the mean and through the
# variance. `X` is (m, d) or (m, c, h, w). Begin with `dgamma` and `dbeta`: they are graded separately.

# %% nbgrader={"grade": false, "grade_id": "backward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def batch_norm_backward(dY, X, gamma, eps):
    ### BEGIN SOLUTION
    axes = (0,) if X.ndim == 2 else (0, 2, 3)
    mean = X.mean(axis=axes, keepdims=True)
    std = nd.sqrt(((X - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
    X_hat = (X - mean) / std
    dbeta = dY.sum(axis=axes, keepdims=True)
    dgamma = (dY * X_hat).sum(axis=axes, keepdims=True)
    m = X.size / X.shape[1]
    dX = gamma / std * (dY - dbeta / m - X_hat * dgamma / m)
    ### END SOLUTION
    return dX, dgamma, dbeta

# %%
check.gradient(batch_norm_backward)

# %% nbgrader={"grade": true, "grade_id": "backward-parameters-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 6, {{points}} for dgamma and dbeta
### BEGIN HIDDEN TESTS
rows = [row for row in check.gradient(batch_norm_backward).rows if not row.words.endswith('dX')]
assert len(rows) == 4 and all(row.status == 'ok' for row in rows), [row.words for row in rows if row.status != 'ok']
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "backward-input-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 6, {{points}} for dX
### BEGIN HIDDEN TESTS
check.gradient(batch_norm_backward).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## The workbench of exercises 7 to 13
#
# You answer these questions by experiments. In an experiment, only *one* thing differs: the nets start from the same
# weights and see the same minibatches. The result of one training may be chance, so you train each net with several
# seeds.
#
# `fit(net, lr, num_epochs=4, num_train=3000, seed=0)` draws new weights, trains on `num_train` images in minibatches of
# 100, and tests on 2,000 others. It returns `train_acc` and `loss`, measured during the last epoch; `test_acc`, measured
# afterwards in prediction mode; and `gap`, the train accuracy minus the test accuracy, both in prediction mode. If
# training diverges, the loss is nan. Training `mlp` takes about a second, LeNet up to ten seconds, and an exercise less
# than a minute.
#
# Your tables hold a list of numbers for each net, one per seed in `seeds`. `mlp` is the net of exercises 9 to 13.

# %% nbgrader={"grade": false, "grade_id": "workbench", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mlp(norm=None, dropout=0):
    """Three dense layers; norm is a function without arguments that makes a block, such as nn.BatchNorm."""
    net = nn.Sequential()
    for _ in range(3):
        net.add(nn.Dense(64))
        if norm:
            net.add(norm())
        net.add(nn.Activation('relu'))
        if dropout:
            net.add(nn.Dropout(dropout))
    net.add(nn.Dense(10))
    return net

# %% [markdown]
# ## Exercise 7: LeNet with batch normalization
#
# Build LeNet with a norm between each affine map and its sigmoid. Give its blocks to one `nn.Sequential`, in this
# order:
#
# | block | sizes |
# |---|---|
# | convolution, norm, sigmoid, max pooling | 6 channels, kernel 5; pool 2, strides 2 |
# | convolution, norm, sigmoid, max pooling | 16 channels, kernel 5; pool 2, strides 2 |
# | dense, norm, sigmoid | 120 units |
# | dense, norm, sigmoid | 84 units |
# | dense | 10 units |
#
# Use your own `BatchNorm`. If it does not work yet, use `nn.BatchNorm()`: that costs no points here. Then choose `lr`
# and `num_epochs` (at most 4) so that `train_acc` is above {{learned}} for each seed.

# %% nbgrader={"grade": false, "grade_id": "lenet", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bn_lenet():
    net = nn.Sequential()
    ### BEGIN SOLUTION
    for channels in (6, 16):
        net.add(nn.Conv2D(channels, kernel_size=5), BatchNorm(channels, 4), nn.Activation('sigmoid'),
                nn.MaxPool2D(pool_size=2, strides=2))
    for units in (120, 84):
        net.add(nn.Dense(units), BatchNorm(units, 2), nn.Activation('sigmoid'))
    net.add(nn.Dense(10))
    ### END SOLUTION
    return net

# %% nbgrader={"grade": false, "grade_id": "lenet-training", "locked": false, "schema_version": 3, "solution": true, "task": false}
lr, num_epochs, lenet_runs = None, None, []
### BEGIN SOLUTION
lr, num_epochs = 1.0, 2
lenet_runs = [fit(bn_lenet(), lr, num_epochs, seed=seed) for seed in seeds]
### END SOLUTION
for run in lenet_runs:
    print(run)

# %%
checks.lenet(bn_lenet, [run.train_acc for run in lenet_runs], seeds, {{learned}})

# %% nbgrader={"grade": true, "grade_id": "lenet-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 7, {{points}} for the network
### BEGIN HIDDEN TESTS
result = checks.lenet(bn_lenet, [run.train_acc for run in lenet_runs], seeds, {{learned}})
assert result.rows[0].status == 'ok', result
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "lenet-training-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 7, {{points}} for a network that learns, with each seed
### BEGIN HIDDEN TESTS
assert num_epochs <= 4
checks.lenet(bn_lenet, [run.train_acc for run in lenet_runs], seeds, {{learned}}).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# Compare `train_acc` and `test_acc` of your three runs: how far apart are they, and how much does each differ between
# the seeds? Which statistics does each of the two use, and why does that matter after so few steps?

# %% [markdown] nbgrader={"grade": true, "grade_id": "lenet-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# After two epochs at a rate of 1, train accuracy is 0.68 to 0.70, nearly the same for each seed. Test accuracy is 0.56
# to 0.65: it is lower, and the seeds are further apart. In training, each minibatch is normalized by its own mean and
# variance. The test uses the moving averages, which with momentum 0.9 average about the last ten minibatches. The
# weights move fast at this rate, so the averages describe an earlier net. (The test images are different ones, too, but
# after 60 steps there is hardly any overfitting.)

# %% [markdown]
# ## Exercise 8: the bias before a norm
#
# A dense layer adds a bias to each unit, and then a norm follows. Measure what that bias does. `net` is an
# `nn.Sequential` whose first block is a `Dense`. Return the largest absolute change of the output, in training mode,
# when each bias of this block grows by `shift`. Put the old bias back before you return.

# %% nbgrader={"grade": false, "grade_id": "bias", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bias_effect(net, X, shift):
    ### BEGIN SOLUTION
    bias = net[0].bias
    old = bias.data().copy()
    with autograd.train_mode():
        before = net(X)
        bias.set_data(old + shift)
        after = net(X)
    bias.set_data(old)
    return float(nd.abs(after - before).max().asscalar())
    ### END SOLUTION

# %%
checks.bias(bias_effect, seeds)

# %%
for blocks in ([nn.Dense(8)], [nn.Dense(8), nn.BatchNorm()]):
    net = nn.Sequential()
    net.add(*blocks)
    net.initialize()
    print([type(block).__name__ for block in blocks], bias_effect(net, nd.random.normal(shape=(32, 4)), 3.0))

# %% nbgrader={"grade": true, "grade_id": "bias-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 8, {{points}} for the measurement
### BEGIN HIDDEN TESTS
checks.bias(bias_effect, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# Can the bias before a norm be left out? Show it with the formula for $\hat X$. Which parameter takes over its task? A
# trained net is used in prediction mode: how does a bias affect its output (a) if someone changes it now, and (b) if it
# was there during the whole training?

# %% [markdown] nbgrader={"grade": true, "grade_id": "bias-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Yes. A bias moves all examples of a unit by the same amount b. The mean moves by b too, so X - mean stays the same,
# and the variance does not change: b cancels, and its gradient is 0. The small change that we measure is rounding. Now
# beta shifts the unit. In prediction mode the moving mean is fixed, so (a) a bias changed *now* shifts the output, by its
# change times gamma over the standard deviation; but (b) one that was there during training is in the moving mean, too,
# and cancels.

# %% [markdown]
# ## Exercise 9: learning rates, with and without
#
# Train `mlp()` and `mlp(nn.BatchNorm)` with the same five or more learning rates, from 0.03 to 10. Collect the train
# accuracies in `accuracies`, with keys such as `('none', 0.03)` and `('bn', 0.03)`. A training that diverges is a
# result, too.

# %% nbgrader={"grade": false, "grade_id": "rates", "locked": false, "schema_version": 3, "solution": true, "task": false}
accuracies = {}
### BEGIN SOLUTION
for lr in (0.03, 0.3, 1, 3, 10):
    for name, norm in (('none', None), ('bn', nn.BatchNorm)):
        accuracies[name, lr] = [fit(mlp(norm), lr, seed=seed).train_acc for seed in seeds]
### END SOLUTION
accuracies

# %%
checks.rates(accuracies, seeds)

# %% nbgrader={"grade": true, "grade_id": "rates-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 9, {{points}} for the experiment
### BEGIN HIDDEN TESTS
checks.rates(accuracies, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# For each net: what is the largest of your rates at which every seed is above {{learned}}? What is the ratio of the two
# rates? What happens to the loss and the accuracy at the next larger rate? Name one thing that one might conclude from
# this table, but that it does not show.

# %% [markdown] nbgrader={"grade": true, "grade_id": "rates-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Up to 0.3 without a norm, up to 3 with one: a ratio of ten. Beyond, the net without a norm hardly learns (at 1) or
# diverges (from 3 on): its loss is nan, and it guesses, with an accuracy of 0.1. The net with a norm guesses at 10. A
# possible reason: a larger step changes the spread of each layer's output more, and the norm removes that change. Not
# shown: that the larger rate gives a better net in the end (with a norm, the best train accuracy is at 0.3, not at 3);
# other nets, more images, longer training; test accuracy.

# %% [markdown]
# ## Exercise 10: a norm in every layer?
#
# Write `mlp_with(places)`: the same network, but with a norm only after the dense layers whose numbers (1, 2, 3) are in
# `places`. Then train it at a rate of 0.3 with `()`, `(1,)`, `(2,)`, `(3,)` and `(1, 2, 3)`, the keys of `accuracies`.

# %% nbgrader={"grade": false, "grade_id": "places", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mlp_with(places):
    net = nn.Sequential()
    ### BEGIN SOLUTION
    for place in (1, 2, 3):
        net.add(nn.Dense(64))
        if place in places:
            net.add(nn.BatchNorm())
        net.add(nn.Activation('relu'))
    net.add(nn.Dense(10))
    ### END SOLUTION
    return net

# %% nbgrader={"grade": false, "grade_id": "places-training", "locked": false, "schema_version": 3, "solution": true, "task": false}
place_accuracies = {}  # train accuracies, as in exercise 9
### BEGIN SOLUTION
for places in ((), (1,), (2,), (3,), (1, 2, 3)):
    place_accuracies[places] = [fit(mlp_with(places), 0.3, seed=seed).train_acc for seed in seeds]
### END SOLUTION
place_accuracies

# %%
checks.places(mlp_with, place_accuracies, seeds)

# %% nbgrader={"grade": true, "grade_id": "places-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 10, {{points}} for the network and the experiment
### BEGIN HIDDEN TESTS
checks.places(mlp_with, place_accuracies, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# How much does one norm add to the train accuracy, and how much do the other two add to that (means over the seeds)?
# Does the place of a single norm matter? Compare the differences between places with those between seeds.

# %% [markdown] nbgrader={"grade": true, "grade_id": "places-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# One norm adds about 0.14, wherever it is (from 0.70 to about 0.83), and the other two together 0.03. So the first
# brings most of the gain. The means of the three places differ by less than 0.01, but the seeds of one place by up to
# 0.02: three seeds cannot tell which place is best.

# %% [markdown]
# ## Exercise 11: instead of dropout?
#
# Dropout reduces overfitting. Does batch normalization? Train four networks on 500 images for 30 epochs at a rate of
# 0.1: with neither, with dropout 0.5, with batch normalization, with both. Put the lists of `gap` into `gaps`, and
# those of `test_acc` into `tests`.

# %% nbgrader={"grade": false, "grade_id": "dropout", "locked": false, "schema_version": 3, "solution": true, "task": false}
gaps = {'neither': None, 'dropout': None, 'bn': None, 'both': None}
tests = dict(gaps)
### BEGIN SOLUTION
for name, norm, rate in (('neither', None, 0), ('dropout', None, 0.5), ('bn', nn.BatchNorm, 0), ('both', nn.BatchNorm, 0.5)):
    runs = [fit(mlp(norm, rate), 0.1, num_epochs=30, num_train=500, seed=seed) for seed in seeds]
    gaps[name], tests[name] = [run.gap for run in runs], [run.test_acc for run in runs]
### END SOLUTION
gaps, tests

# %%
checks.dropout(gaps, seeds, tests)

# %% nbgrader={"grade": true, "grade_id": "dropout-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 11, {{points}} for the experiment
### BEGIN HIDDEN TESTS
checks.dropout(gaps, seeds, tests).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# Which net has the smallest gap, and which the best test accuracy? Does batch normalization reduce overfitting here? In
# training, both dropout and batch normalization make an example's output noisy: what is random in each case, and what
# happens to the noise if the minibatch holds all 500 images?

# %% [markdown] nbgrader={"grade": true, "grade_id": "dropout-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# Dropout alone has the smallest gap (0.03 to 0.08), batch normalization alone the best test accuracy (0.77 to 0.78),
# with the largest gap (0.22 to 0.23; neither has 0.10 to 0.12). So it does not reduce overfitting here, but the net
# learns faster and better. Batch normalization's noise comes from the other examples that happen to be in the
# minibatch, which move the mean and the variance; with all 500 images in one minibatch they are always the same, and
# the noise is gone. Dropout draws a mask for each unit and example, at a rate that we choose, whatever the minibatch
# is: its noise stays.

# %% [markdown]
# ## Exercise 12: gamma and beta left out
#
# Build the network with Gluon's own `nn.BatchNorm` in all three layers, but with gamma fixed at 1 and beta at 0.
# Everything else still learns. Then compare the train accuracies at a rate of 0.3, `'learned'` and `'fixed'`.

# %% nbgrader={"grade": false, "grade_id": "fixed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mlp_fixed():
    ### BEGIN SOLUTION
    return mlp(lambda: nn.BatchNorm(center=False, scale=False))
    ### END SOLUTION

# %% nbgrader={"grade": false, "grade_id": "fixed-training", "locked": false, "schema_version": 3, "solution": true, "task": false}
fixed_accuracies = {'learned': None, 'fixed': None}
### BEGIN SOLUTION
for name, make in (('learned', lambda: mlp(nn.BatchNorm)), ('fixed', mlp_fixed)):
    fixed_accuracies[name] = [fit(make(), 0.3, seed=seed).train_acc for seed in seeds]
### END SOLUTION
fixed_accuracies

# %%
checks.fixed(mlp_fixed, fixed_accuracies, seeds)

# %% nbgrader={"grade": true, "grade_id": "fixed-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 12, {{points}} for the network and the experiment
### BEGIN HIDDEN TESTS
checks.fixed(mlp_fixed, fixed_accuracies, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# How much do the two nets differ, and how much do the seeds? Each norm is followed by a ReLU and a dense layer: how can
# that dense layer take over gamma's task, and why can it not quite take over beta's? Would your answer for gamma hold
# with a sigmoid instead of the ReLU?

# %% [markdown] nbgrader={"grade": true, "grade_id": "fixed-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# They hardly differ: train accuracy is 0.86 to 0.87 learned and 0.85 to 0.87 fixed, and the seeds differ as much. A ReLU
# passes a positive factor on, ReLU(g x) = g ReLU(x), so the next weights can absorb it. (The next norm removes it again;
# the last dense layer sets the scale of the output.) beta decides which share of the examples a ReLU passes, and no later
# layer can change that; with beta 0 it is about half, a good choice. With a sigmoid, the answer for gamma does not hold:
# sigmoid(g x) is not a multiple of sigmoid(x); gamma decides between the straight middle and the flat ends.

# %% [markdown]
# ## Exercise 13: what Gluon's layer can do
#
# Read the documentation of `nn.BatchNorm` (`help(nn.BatchNorm)`). Write `gluon_norm(kind)`, which returns a layer of
# - `'channels last'`: for `X` of shape (m, h, w, c);
# - `'frozen'`: one that uses its moving averages even in training, and leaves them alone;
# - `'slow'`: one whose moving averages keep 99 percent of their old value at each step.
#
# Then train `mlp` at a rate of 0.3, with the `'default'` norm and with the `'slow'` one, and collect the *test*
# accuracies.

# %% nbgrader={"grade": false, "grade_id": "options", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gluon_norm(kind):
    ### BEGIN SOLUTION
    options = {'channels last': {'axis': -1}, 'frozen': {'use_global_stats': True}, 'slow': {'momentum': 0.99}}
    return nn.BatchNorm(**options[kind])
    ### END SOLUTION

# %% nbgrader={"grade": false, "grade_id": "options-training", "locked": false, "schema_version": 3, "solution": true, "task": false}
slow_accuracies = {'default': None, 'slow': None}
### BEGIN SOLUTION
for name, norm in (('default', nn.BatchNorm), ('slow', lambda: gluon_norm('slow'))):
    slow_accuracies[name] = [fit(mlp(norm), 0.3, seed=seed).test_acc for seed in seeds]
### END SOLUTION
slow_accuracies

# %%
checks.options(gluon_norm, slow_accuracies, seeds)

# %% nbgrader={"grade": true, "grade_id": "options-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 13, {{points}} for the three layers and the experiment
### BEGIN HIDDEN TESTS
checks.options(gluon_norm, slow_accuracies, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# The training takes 120 steps. At its end, what fraction of the `'slow'` average is still the initial value? What
# fraction is it with the default momentum of 0.9? How does that show in your test accuracies, and why not in the train
# accuracies? When would you still want the slow average, and when the frozen layer?

# %% [markdown] nbgrader={"grade": true, "grade_id": "options-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# 0.99^120 = 0.30, so nearly a third of the average is still the initial 0 or 1; with 0.9 it is 0.9^120, three in a
# million. Test accuracy is 0.71 to 0.74 with the slow averages and 0.76 to 0.77 with the default: prediction uses a mean
# and variance that do not match the net. Training never uses the averages, so the train accuracies are the same to the
# last digit. The slow average suits long training with small minibatches, whose means are noisy: it smooths them, once
# the weights change little. The frozen layer suits fine-tuning, if the minibatches are too small for statistics of their
# own, or too unlike the original data.

# %% [markdown]
# ## Exercise 14: other ways to normalize
#
# Write two others for `X` of shape (m, d), in training only, without gamma and beta.
# - `layer_norm(X, eps)`: each *example* gets mean 0 and variance 1 over its own units.
# - `whiten(X, eps)`: units get mean 0 and, as a whole, the identity matrix as their covariance, so that no two are
#   correlated. Add `eps` to the diagonal of the covariance. NumPy may help: `numpy.linalg.eigh`. Return an `mx.nd` array.

# %% nbgrader={"grade": false, "grade_id": "others", "locked": false, "schema_version": 3, "solution": true, "task": false}
def layer_norm(X, eps):
    ### BEGIN SOLUTION
    centred = X - X.mean(axis=1, keepdims=True)
    return centred / nd.sqrt((centred ** 2).mean(axis=1, keepdims=True) + eps)
    ### END SOLUTION


def whiten(X, eps):
    ### BEGIN SOLUTION
    X = X.asnumpy()
    centred = X - X.mean(axis=0)
    cov = centred.T @ centred / len(X)
    values, vectors = numpy.linalg.eigh(cov + eps * numpy.eye(len(cov)))
    return nd.array(centred @ vectors / numpy.sqrt(values) @ vectors.T)
    ### END SOLUTION

# %%
checks.layer_norm(layer_norm)

# %% [markdown]
# `checks.correlated(m, seed)` is a minibatch of `m` examples with 16 correlated units. With each seed, whiten one of 100
# and one of 8 examples with `eps` 1e-5. Count the directions that are left: the eigenvalues of the output's covariance
# (divide by m) that are above 0.5.

# %% nbgrader={"grade": false, "grade_id": "directions", "locked": false, "schema_version": 3, "solution": true, "task": false}
directions = {100: None, 8: None}
### BEGIN SOLUTION
for m in directions:
    outputs = [whiten(checks.correlated(m, seed), 1e-5).asnumpy() for seed in seeds]
    directions[m] = [int((numpy.linalg.eigvalsh(numpy.cov(Y.T, bias=True)) > 0.5).sum()) for Y in outputs]
### END SOLUTION
directions

# %%
checks.whitening(whiten, directions, seeds)

# %% nbgrader={"grade": true, "grade_id": "layer-norm-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 14, {{points}} for layer_norm
### BEGIN HIDDEN TESTS
checks.layer_norm(layer_norm).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "whiten-test", "locked": true, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 14, {{points}} for whiten and the directions
### BEGIN HIDDEN TESTS
checks.whitening(whiten, directions, seeds).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# Why are 8 examples not enough for 16 directions, and what would `whiten` do to a small change of `X` along a lost
# direction? Roughly how many multiplications do batch normalization, layer normalization and whitening take for an `X` of
# (m, d)? What does each return for a minibatch of one example?

# %% [markdown] nbgrader={"grade": true, "grade_id": "others-answer", "locked": false, "schema_version": 3, "solution": true, "task": false}
# 8 examples minus their mean span at most 7 directions, so the covariance has rank 7, and 7 are left (with 100
# examples, all 16). Along a lost direction the variance is 0, so a change is divided by sqrt(eps): with 1e-5 it grows
# 316 times. Batch and layer normalization take about 3 m d multiplications; whitening takes m d^2 for the covariance
# and a few d^3 for its eigenvectors, in every layer and step. With one example, batch normalization and whitening
# return zeros, whatever the example; layer normalization uses the example's own units and works as always.

