# %% [markdown]
# # Batch normalization: exercises
#
# Fourteen exercises. In the first seven you write batch normalization, from one formula to a trained LeNet. In the other
# seven you use it to answer questions.
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

from gluon_bn import check, load_data_fashion_mnist, train
from gluon_bn.training import Diverged, Epoch, evaluate_accuracy, seed_everything

# %% [markdown]
# ## Exercise 1: a dense layer (3 points)
#
# `X` is a minibatch of shape (m, d): m examples, d units. Give each unit a mean of 0 and a variance of 1 over the
# examples; then scale it by `gamma` and shift it by `beta`. The variance is the mean of the squared distances (divide by
# m), and `eps` is added to it.
#
# $$Y = \gamma \, \frac{X - \mathrm{mean}}{\sqrt{\mathrm{var} + \epsilon}} + \beta$$
#
# `gamma`, `beta`, `moving_mean` and `moving_var` have the shape (1, d). The moving averages come back as they came, for now.

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

# %% nbgrader={"grade": true, "grade_id": "dense-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 1, 3 points
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_dense, only=('dense',)).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 2: a convolution (3 points)
#
# Now `X` has the shape (m, c, h, w), and the other arrays (1, c, 1, 1). A convolution treats all places of an image alike,
# and so should its norm: all numbers of one channel, from all images and all places, share one mean and one variance.

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

# %% nbgrader={"grade": true, "grade_id": "convolution-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 2, 3 points
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_conv, only=('convolution',)).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 3: training or prediction (3 points)
#
# A prediction must work for one example alone, which has no variance. So in prediction mode the two moving averages take
# the place of the minibatch's mean and variance. `autograd.is_training()` tells the mode. In training mode, call what you
# wrote above: `X.ndim` is 2 or 4.

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

# %% nbgrader={"grade": true, "grade_id": "modes-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 3, 3 points
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm_modes, only=('prediction', 'modes')).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 4: the moving averages (4 points)
#
# Write the whole function in one piece, from what you have, and let it remember: after each *training* batch, each moving
# average moves a little from its old value towards the batch's.
#
# $$\text{new} = \text{momentum} \cdot \text{old} + (1 - \text{momentum}) \cdot \text{batch}$$
#
# Return new arrays and leave those that came in as they are. The memory is no part of the gradient: cut it from the graph.

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

# %% nbgrader={"grade": true, "grade_id": "averages-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 4, 3 points for the averages
### BEGIN HIDDEN TESTS
check.batch_norm(batch_norm, only=('statistics', 'unmoved', 'inputs')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "graph-test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 4, 1 point for averages that are cut from the graph, and a gradient that is not
### BEGIN HIDDEN TESTS
result = check.batch_norm(batch_norm, only=('gradients', 'graph'))
result.assert_ok()
assert 'StatsKeptInGraph' not in result.notes, 'the moving averages hang on the graph'
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 5: the layer (6 points)
#
# The function holds the maths; the layer keeps the books. Write `BatchNorm(num_features, num_dims)`, where `num_dims` is 2
# after a dense layer and 4 after a convolution. It owns four arrays named `gamma`, `beta`, `moving_mean` and `moving_var`
# of shape (1, d) or (1, c, 1, 1). Two are learned and two are not. They start so that a new layer, in prediction mode, leaves
# `X` as it is. `forward` calls your `batch_norm` with `eps` 1e-5 and `momentum` 0.9, and keeps the new averages.
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

# %% nbgrader={"grade": true, "grade_id": "layer-parameters-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, 3 points for the four arrays, their first values and the device
### BEGIN HIDDEN TESTS
check.layer(BatchNorm, only=('parameters', 'start', 'device')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "layer-forward-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, 2 points for forward
### BEGIN HIDDEN TESTS
check.layer(BatchNorm, only=('dense', 'convolution', 'prediction', 'statistics', 'unmoved')).assert_ok()
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "layer-saved-test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 5, 1 point for averages that are saved
### BEGIN HIDDEN TESTS
result = check.layer(BatchNorm, only=('saving',))
result.assert_ok()
assert 'StatsNotSaved' not in result.notes, 'save_parameters leaves the averages out'
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 6: backward by hand (6 points)
#
# `dY` is the gradient of the loss with respect to `Y`, in training. Return those with respect to `X`, `gamma` and `beta`,
# without autograd. Mind that `X` reaches `Y` on three ways: directly, through the mean and through the variance.
# `X` is (m, d) or (m, c, h, w). Begin with `dgamma` and `dbeta`: they are graded by themselves.

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

# %% nbgrader={"grade": true, "grade_id": "backward-parameters-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 6, 2 points for dgamma and dbeta
### BEGIN HIDDEN TESTS
rows = [row for row in check.gradient(batch_norm_backward).rows if not row.words.endswith('dX')]
assert len(rows) == 4 and all(row.status == 'ok' for row in rows), [row.words for row in rows if row.status != 'ok']
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "backward-input-test", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 6, 4 points for dX
### BEGIN HIDDEN TESTS
check.gradient(batch_norm_backward).assert_ok()
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 7: LeNet with batch normalization (5 points)
#
# Build LeNet with a norm between each affine map and its sigmoid. Give its blocks to one `nn.Sequential`, in this order:
#
# | block | sizes |
# |---|---|
# | convolution, norm, sigmoid, max pooling | 6 channels, kernel 5; pool 2, strides 2 |
# | convolution, norm, sigmoid, max pooling | 16 channels, kernel 5; pool 2, strides 2 |
# | dense, norm, sigmoid | 120 units |
# | dense, norm, sigmoid | 84 units |
# | dense | 10 units |
#
# Then train it on 3,000 images: choose `num_epochs` (at most 4) and `lr` so that more than 6 of 10 training images are right.
# Use your own `BatchNorm`. If it does not work yet, take `nn.BatchNorm()`: that costs no points here.

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
seed_everything(0)
train_iter, test_iter = load_data_fashion_mnist(100, num_train=3000, num_test=1000)
net, num_epochs, lr = bn_lenet(), None, None
### BEGIN SOLUTION
num_epochs, lr = 2, 1.0
### END SOLUTION
history = train(net, train_iter, test_iter, num_epochs, lr, plot=False, progress=False)
history[-1]

# %% nbgrader={"grade": true, "grade_id": "lenet-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 7, 2 points for the network
### BEGIN HIDDEN TESTS
fresh = bn_lenet()
fresh.initialize(init.Xavier())
assert fresh(nd.zeros((2, 1, 28, 28))).shape == (2, 10)
kinds = [type(block).__name__ for block in fresh]
assert kinds == (['Conv2D', 'BatchNorm', 'Activation', 'MaxPool2D'] * 2 + ['Dense', 'BatchNorm', 'Activation'] * 2 + ['Dense']), kinds
assert [block.weight.shape[0] for block in fresh if hasattr(block, 'weight')] == [6, 16, 120, 84, 10]
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "lenet-training-test", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 7, 3 points for a network that has learned
### BEGIN HIDDEN TESTS
assert len(history) <= 4
X, y = next(iter(load_data_fashion_mnist(1000, num_train=1000)[0]))
with autograd.train_mode():  # the batch's own statistics: the moving ones still lag after so few steps
    accuracy = float((net(X).argmax(axis=1) == y.astype('float32')).mean().asscalar())
assert accuracy > 0.6, accuracy
### END HIDDEN TESTS

# %% [markdown]
# ## The workbench for exercises 8 to 12
#
# The questions below train many nets, so they take one that trains in a second or so: three dense layers of 64 units
# with ReLU. `fit` starts from the same seed each time, so nets without dropout start from the same weights. It trains for
# a few epochs and returns the last one: see its `.train_acc` and `.test_acc`. Where a training diverges, its loss is not
# a number.

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


def fit(net, lr, num_epochs=4, num_train=3000):
    seed_everything(0)
    train_iter, test_iter = load_data_fashion_mnist(100, num_train=num_train, num_test=2000)
    try:
        return train(net, train_iter, test_iter, num_epochs, lr, plot=False, progress=False)[-1]
    except Diverged as error:
        accuracies = evaluate_accuracy(net, train_iter), evaluate_accuracy(net, test_iter)
        return Epoch(error.epoch, numpy.nan, *accuracies, seconds=numpy.nan, examples_per_sec=numpy.nan)

# %% [markdown]
# ## Exercise 8: the bias before a norm (2 + 3 points)
#
# A dense layer adds a bias to each unit, and then a norm follows. Measure what that bias does. `net` is an `nn.Sequential`
# whose first block is a `Dense`. Return the largest absolute change of the output, in training mode, when each bias
# of this block grows by `shift`. Put the old bias back before you return.

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
for blocks in ([nn.Dense(8)], [nn.Dense(8), nn.BatchNorm()]):
    net = nn.Sequential()
    net.add(*blocks)
    net.initialize()
    print([type(block).__name__ for block in blocks], bias_effect(net, nd.random.normal(shape=(32, 4)), 3.0))

# %% nbgrader={"grade": true, "grade_id": "bias-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 8, 2 points for the measurement
### BEGIN HIDDEN TESTS
X = nd.random.normal(shape=(50, 7))
for blocks, expected in (([nn.Dense(5)], 2.5), ([nn.Dense(5), nn.BatchNorm()], 0.0)):
    net = nn.Sequential()
    net.add(*blocks)
    net.initialize(init.Xavier())
    net(X)
    old = net[0].bias.data().copy()
    assert abs(bias_effect(net, X, 2.5) - expected) < 1e-3, (len(blocks), bias_effect(net, X, 2.5))
    assert (net[0].bias.data() == old).min().asscalar() == 1, 'the old bias should be back'
### END HIDDEN TESTS

# %% [markdown]
# Can the bias be left out before a norm? Say why, with the formula, and what takes over its task. What about a layer whose
# norm is in prediction mode?

# %% [markdown] nbgrader={"grade": true, "grade_id": "bias-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Yes. A bias moves all examples of a unit by the same amount b. The mean moves by b too, so X - mean stays the same, and
# the variance does not change: nothing of b is left, and its gradient is 0. What measured change there is, is rounding. The
# shift of a unit is now beta's task. In prediction mode the moving mean is fixed, so a bias changed *now* would show; but
# one that was there during training is in the moving mean and drops out again.

# %% [markdown]
# ## Exercise 9: learning rates, with and without (2 + 3 points)
#
# Train `mlp()` and `mlp(nn.BatchNorm)` with at least five learning rates from 0.03 to 10. Collect the train accuracies in
# `accuracies`, with keys such as `('none', 0.03)` and `('bn', 0.03)`. A loss that is not a number is a result, too.

# %% nbgrader={"grade": false, "grade_id": "rates", "locked": false, "schema_version": 3, "solution": true, "task": false}
accuracies = {}
### BEGIN SOLUTION
for lr in (0.03, 0.1, 0.3, 1, 3, 10):
    accuracies['none', lr] = fit(mlp(), lr).train_acc
    accuracies['bn', lr] = fit(mlp(nn.BatchNorm), lr).train_acc
### END SOLUTION
accuracies

# %% nbgrader={"grade": true, "grade_id": "rates-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 9, 2 points for the measurement
### BEGIN HIDDEN TESTS
rates = {norm: sorted(lr for name, lr in accuracies if name == norm) for norm in ('none', 'bn')}
assert rates['none'] == rates['bn'] and len(rates['bn']) >= 5 and rates['bn'][0] <= 0.03 and rates['bn'][-1] >= 10, rates
top = {norm: max((lr for lr in rates[norm] if accuracies[norm, lr] > 0.6), default=0) for norm in rates}
assert 0 < top['none'] < top['bn'], top
### END HIDDEN TESTS

# %% [markdown]
# Which learning rates work for each network? What happens beyond? What do you conclude, and what does this small
# experiment not show?

# %% [markdown] nbgrader={"grade": true, "grade_id": "rates-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Without a norm, 0.03 to 0.3 work; at 1 it hardly learns, and beyond the loss is not a number or the network guesses (0.1).
# With a norm, 0.03 to 3 work, ten times as far, and each gives a better train accuracy than the same rate without. At 10 it
# breaks down, too. A larger step changes the spread of each layer's output more, and the norm takes that change away,
# which may be why. Not shown: other seeds, longer training, more images, other networks; and test accuracy gains less
# than train accuracy.

# %% [markdown]
# ## Exercise 10: a norm in every layer? (2 + 3 points)
#
# Write `mlp_with(places)`: the same network, but with a norm only after the dense layers whose numbers (1, 2, 3) are in
# `places`. Then train some of the eight choices and compare.

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

# %%
for places in [(), (1,), (2,), (3,), (1, 2), (1, 2, 3)]:
    epoch = fit(mlp_with(places), lr=0.3)
    print(f'{str(places):10} train {epoch.train_acc:.3f} test {epoch.test_acc:.3f}')

# %% nbgrader={"grade": true, "grade_id": "places-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 10, 2 points for the network
### BEGIN HIDDEN TESTS
for places in ((), (2,), (1, 3), (1, 2, 3)):
    expected = []
    for place in (1, 2, 3):
        expected += ['Dense'] + ['BatchNorm'] * (place in places) + ['Activation']
    assert [type(block).__name__ for block in mlp_with(places)] == expected + ['Dense'], places
### END HIDDEN TESTS

# %% [markdown]
# Does this network need all three norms? Where does one help most? Support it by your numbers, and name a reason to doubt
# them.

# %% [markdown] nbgrader={"grade": true, "grade_id": "places-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# No. One norm, wherever it is, takes train accuracy from about 0.71 to 0.83; two make 0.85 and three 0.86. The first norm
# gains most, the others little. Which place is best differs
# by less than 0.01, and the test accuracies (0.60 to 0.78) swing more than that: with one seed the order means nothing.

# %% [markdown]
# ## Exercise 11: instead of dropout? (2 + 3 points)
#
# Dropout is there against overfitting. Is batch normalization, too? Train four networks on 500 images for 30 epochs at
# `lr` 0.1: with neither, with dropout 0.5, with batch normalization, with both. For each, put the train accuracy minus the
# test accuracy, both in *prediction* mode, into `gaps`. `evaluate_accuracy(net, data_iter)` measures one.

# %% nbgrader={"grade": false, "grade_id": "dropout", "locked": false, "schema_version": 3, "solution": true, "task": false}
gaps = {'neither': None, 'dropout': None, 'bn': None, 'both': None}
few, test_iter = load_data_fashion_mnist(100, num_train=500, num_test=2000)
### BEGIN SOLUTION
for name, norm, rate in (('neither', None, 0), ('dropout', None, 0.5), ('bn', nn.BatchNorm, 0), ('both', nn.BatchNorm, 0.5)):
    net = mlp(norm, rate)
    fit(net, 0.1, num_epochs=30, num_train=500)
    train_acc, test_acc = evaluate_accuracy(net, few), evaluate_accuracy(net, test_iter)
    print(f'{name:8} train {train_acc:.3f} test {test_acc:.3f}')
    gaps[name] = train_acc - test_acc
### END SOLUTION
gaps

# %% nbgrader={"grade": true, "grade_id": "dropout-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 11, 2 points for the measurement
### BEGIN HIDDEN TESTS
assert set(gaps) == {'neither', 'dropout', 'bn', 'both'} and all(-0.2 < gap < 0.5 for gap in gaps.values()), gaps
assert gaps['bn'] > gaps['dropout'] + 0.03, gaps
### END HIDDEN TESTS

# %% [markdown]
# Can batch normalization replace dropout? Where does its noise come from, and how does it differ from dropout's?

# %% [markdown] nbgrader={"grade": true, "grade_id": "dropout-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Not here. With 500 images, batch normalization learns all of them (1.00) and reaches the best test accuracy (0.78), but its
# gap is the largest: 0.22, where it is 0.11 with neither, 0.06 with dropout and 0.10 with both. So it made the network learn
# faster and better; it did not hold it back. Its noise comes from the other examples that happen to be in the minibatch,
# which move the mean and the variance; it shrinks as the batch grows, and nobody sets its strength. Dropout's is drawn for
# each unit, by a rate that one chooses, whatever the batch. What one wants, a smaller gap or a better test, is two questions.

# %% [markdown]
# ## Exercise 12: gamma and beta left out (2 + 3 points)
#
# Build the network with a norm in all three layers whose gamma stays 1 and whose beta stays 0, by Gluon's own
# `nn.BatchNorm`. Everything else still learns.

# %% nbgrader={"grade": false, "grade_id": "fixed", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mlp_fixed():
    ### BEGIN SOLUTION
    return mlp(lambda: nn.BatchNorm(center=False, scale=False))
    ### END SOLUTION

# %%
for name, net in (('learned', mlp(nn.BatchNorm)), ('fixed', mlp_fixed())):
    print(name, fit(net, lr=0.3))

# %% nbgrader={"grade": true, "grade_id": "fixed-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 12, 2 points for the network
### BEGIN HIDDEN TESTS
net = mlp_fixed()
norms = [block for block in net if isinstance(block, nn.BatchNorm)]
assert len(norms) == 3
net.initialize(init.Xavier())
X = nd.random.normal(shape=(20, 784))
net(X)
old = net[0].weight.data().copy()
trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.5})
for _ in range(2):
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(X), nd.arange(20) % 10)
    loss.backward()
    trainer.step(20)
assert all((norm.gamma.data() == 1).min().asscalar() and (norm.beta.data() == 0).min().asscalar() for norm in norms)
assert nd.abs(net[0].weight.data() - old).max().asscalar() > 1e-4, 'the other parameters should learn'
### END HIDDEN TESTS

# %% [markdown]
# What do gamma and beta change here? Why does so little depend on them in this network, and where would they be missed?

# %% [markdown] nbgrader={"grade": true, "grade_id": "fixed-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Hardly anything: train accuracy is 0.86 learned and 0.85 fixed, and test accuracy is no worse without them. Each norm
# is followed by a ReLU and a dense layer. A ReLU passes a positive factor on, so the next weights can do gamma's task, and
# their own norm takes it away again; the last dense layer sets the scale of the output. beta chooses which share of the examples
# a ReLU passes; fixed at 0 it is about half, which is a good choice. They would be missed before a sigmoid, where spread and
# shift decide between its straight middle and its flat ends, and where no affine map follows.

# %% [markdown]
# ## Exercise 13: what Gluon's layer can do (2 + 3 points)
#
# Read the documentation of `nn.BatchNorm` (`help(nn.BatchNorm)`). Write `gluon_norm(kind)`, which returns a layer of
# - `'channels last'`: for `X` of shape (m, h, w, c);
# - `'frozen'`: one that uses its moving averages even in training, and leaves them alone;
# - `'slow'`: one whose moving averages keep 99 percent of their old value at each step.

# %% nbgrader={"grade": false, "grade_id": "options", "locked": false, "schema_version": 3, "solution": true, "task": false}
def gluon_norm(kind):
    ### BEGIN SOLUTION
    options = {'channels last': {'axis': -1}, 'frozen': {'use_global_stats': True}, 'slow': {'momentum': 0.99}}
    return nn.BatchNorm(**options[kind])
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "options-test", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 13, 2 points for the three layers
### BEGIN HIDDEN TESTS
def mean_after_training(norm, X):
    norm.initialize()
    X.attach_grad()
    with autograd.record():
        Y = norm(X)
    Y.backward(nd.random.normal(shape=X.shape))  # Gluon moves its averages here
    return Y, norm.running_mean.data().asnumpy()


X = nd.random.normal(3, 2, shape=(6, 4, 5, 7))
Y, mean = mean_after_training(gluon_norm('channels last'), X)
assert mean.shape == (7,) and numpy.allclose(Y.mean(axis=(0, 1, 2)).asnumpy(), 0, atol=1e-4)
X = nd.random.normal(3, 2, shape=(200, 5))
Y, mean = mean_after_training(gluon_norm('frozen'), X)
assert numpy.allclose(Y.asnumpy(), X.asnumpy(), rtol=1e-2) and not mean.any()
Y, mean = mean_after_training(gluon_norm('slow'), X)
assert numpy.allclose(mean, 0.01 * X.mean(axis=0).asnumpy(), rtol=1e-3)
### END HIDDEN TESTS

# %% [markdown]
# For each of the three: name a case in which one wants it. Which other argument of the layer would you change, and when?

# %% [markdown] nbgrader={"grade": true, "grade_id": "options-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Channels last: images that come as (m, h, w, c), as some hardware likes them, need no transpose. Frozen: fine-tuning a
# trained network with batches too small, or too unlike the first data, for statistics of their own. Slow: many small
# batches, whose means are noisy; the price is that the averages lag behind weights that still move. Another one: a larger
# epsilon where units are almost constant, or scale=False where a ReLU and a dense layer follow, which can do the scaling.

# %% [markdown]
# ## Exercise 14: other ways to normalize (2 + 3 points)
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

# %% nbgrader={"grade": true, "grade_id": "layer-norm-test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 14, 1 point for layer_norm
### BEGIN HIDDEN TESTS
X = nd.random.normal(3, 2, shape=(4, 9))
centred = X.asnumpy() - X.asnumpy().mean(1, keepdims=True)
expected = centred / numpy.sqrt((centred ** 2).mean(1, keepdims=True) + 0.1)
assert numpy.allclose(layer_norm(X, 0.1).asnumpy(), expected, atol=1e-4)
### END HIDDEN TESTS

# %% nbgrader={"grade": true, "grade_id": "whiten-test", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
# graded: exercise 14, 1 point for whiten
### BEGIN HIDDEN TESTS
X = nd.dot(nd.random.normal(shape=(500, 6)), nd.random.normal(shape=(6, 6)) + 2 * nd.eye(6)) + 5
Y = whiten(X, 1e-6).asnumpy()
assert Y.shape == (500, 6) and numpy.allclose(Y.mean(0), 0, atol=1e-3)
assert numpy.allclose(Y.T @ Y / 500, numpy.eye(6), atol=1e-2)
### END HIDDEN TESTS

# %% [markdown]
# Compare batch normalization, layer normalization and whitening: what does each cost, what does each do with a batch of one
# example, and what goes wrong when whitening has fewer examples than units? Think of one more way to normalize, and say what
# it would be good for.

# %% [markdown] nbgrader={"grade": true, "grade_id": "others-answer", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# Batch and layer normalization take about m d steps. Whitening takes m d^2 for the covariance and d^3 for its
# eigenvectors, in every layer and step, and a gradient through them. With one example, batch normalization gives beta for
# every unit, whitening zeros; layer normalization does not mind, and needs no moving averages. With m <= d the covariance
# has rank m - 1 at most: directions without any spread are divided by sqrt(eps), and their noise is blown up. One more:
# groups of channels of one example (group normalization), for detection with two images a batch; or the rank of each
# value among the batch, mapped to a Gaussian, which an outlier cannot spoil, but which has hardly a gradient.
