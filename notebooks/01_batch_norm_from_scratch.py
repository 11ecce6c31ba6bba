# %% [markdown]
# # Batch normalization from scratch
#
# You build batch normalization twice here: first the maths, as a function; then the bookkeeping, as a layer. Each step
# is checked at once on a batch so small that you can do it in your head. Then LeNet learns to tell clothes apart with
# your layer in it, and Gluon's own layer has to agree with yours. The code is given here; in the exercises
# (`make assignment` writes them) you write it yourself.
#
# **Afterwards you can** write batch normalization as a function and as a layer, say what its four numbers per unit are
# for, and tell when a layer uses the batch and when it uses its moving averages.
#
# **You need** what the first chapters of *Dive into Deep Learning* teach: arrays, `autograd.record()`, a `Block`.
# Reading takes about 28 minutes, with a good place for a break after *The layer*; running takes two or three minutes on
# two cores. Wherever the text asks you to predict, do it before you open the output and the answer. *Claim*, with a
# number such as C04, refers to a row in the [table](../docs/claims.md) of what the chapter claims.

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
import os

import numpy
from matplotlib import pyplot as plt
from mxnet import autograd, gluon, init, nd
from mxnet.gluon import nn

import gluon_bn
from gluon_bn import check, training
from gluon_bn.comparison import plots
from gluon_bn.experiments import panel

num_epochs = int(os.environ.get('GLUON_BN_EPOCHS', 3))  # how often a net sees all images
lr, batch_size = 1.0, 256

# %% [markdown]
# ## A batch that fits in your head
#
# Four examples, two units: each row is an example, each column is a unit.
#
# $$X = \begin{pmatrix} 1 & 2 \\ 3 & 2 \\ 5 & 6 \\ 7 & 6 \end{pmatrix}$$
#
# **Predict** the mean of each column, and the mean of the squared distances from it (the variance, divided by
# the number of examples $m = 4$, not by $m - 1$).

# %% tags=["hide-output"]
X = nd.array([[1, 2], [3, 2], [5, 6], [7, 6]])
mean = X.mean(axis=0)
var = ((X - mean) ** 2).mean(axis=0)
print('mean', mean.asnumpy(), ' var', var.asnumpy())

# %% [markdown]
# <details><summary>Answer</summary>
#
# The second column is easy: every value is 2 away from 4. In the first column, the distances are 3, 1, 1, 3, so the
# variance is $(9 + 1 + 1 + 9)/4 = 5$. From now on, a cell with `assert` is the check: it prints nothing if all is well.
#
# </details>

# %% tags=["hide-input"]
assert mean.asnumpy().tolist() == [4, 4]
assert var.asnumpy().tolist() == [5, 4]

# %% [markdown]
# **Try it.** Change one number in `X`, and predict how far the means and variances of both columns move.
#
# ## Standardize each unit
#
# *Claim C04.* Subtracting the mean and dividing by the standard deviation makes every unit standardized: mean 0,
# variance 1. The row of means is broadcast over the rows of the batch, and everything else is elementwise:
#
# $$\hat X_{ij} = \frac{X_{ij} - \mu_j}{\sigma_j}$$
#
# Here $i$ counts the examples and $j$ the units; $\mu_j$ and $\sigma_j$ are mean and standard deviation of column $j$.
# **Predict** the second column of $\hat X$.

# %% tags=["hide-output"]
X_hat = (X - mean) / var.sqrt()
print(X_hat.asnumpy().round(3))

# %% [markdown]
# <details><summary>Answer</summary>
#
# It is $-1, -1, 1, 1$: each value is 2 away from 4, and the standard deviation is 2. Both columns have mean 0 and
# variance 1.
#
# </details>

# %% tags=["hide-input"]
assert numpy.allclose(X_hat.asnumpy().mean(axis=0), 0, atol=1e-6)
assert numpy.allclose(X_hat.asnumpy().var(axis=0), 1, atol=1e-6)

# %% [markdown]
# It works, so let us **break it**. A unit may be constant over a batch: a saturated sigmoid, or a pixel at the edge of
# every image. **Predict** its standardized value.

# %% tags=["hide-output"]
X_constant = nd.array([[1, 2], [3, 2], [5, 2], [7, 2]])  # the second unit never changes
mean_c = X_constant.mean(axis=0)
var_c = ((X_constant - mean_c) ** 2).mean(axis=0)
broken = (X_constant - mean_c) / var_c.sqrt()
print(broken.asnumpy().round(3))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Not a number: zero divided by zero is NaN.
#
# </details>

# %% tags=["hide-input"]
assert numpy.isnan(broken.asnumpy()[:, 1]).all()

# %% [markdown]
# The remedy is a small number $\epsilon$ under the root, `eps` in the code. It costs a little: a variance $v$ becomes
# $v/(v + \epsilon)$ rather than 1.

# %%
eps = 1e-5
mended = (X_constant - mean_c) / (var_c + eps).sqrt()
print(mended.asnumpy().round(3))
assert (mended.asnumpy()[:, 1] == 0).all()
assert numpy.allclose(mended.asnumpy()[:, 0].var(), 5 / (5 + eps))

# %% [markdown]
# **Try it.** Set `eps` to 1 and run the cells again: what is the variance of the first unit now?
#
# ## Scale and shift
#
# If every unit had mean 0 and variance 1, the layer could express less: a sigmoid, for example, would only use its
# nearly straight middle. So each unit gets a scale $\gamma$ and a shift $\beta$, which are learned:
#
# $$Y = \gamma \hat X + \beta$$
#
# *Claim C24.* Each unit, or channel, has its own pair. **Predict** what happens to the first column if only the
# $\gamma$ and $\beta$ of the second are changed.

# %% tags=["hide-output"]
X_hat = (X - mean) / (var + eps).sqrt()
Y = nd.array([[1, 10]]) * X_hat + nd.array([[0, 3]])
print(Y.asnumpy().round(2))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing: it stays the same. The second column becomes $10 \hat x + 3$, that is, $-7, -7, 13, 13$.
#
# </details>

# %% tags=["hide-input"]
assert numpy.allclose(Y.asnumpy()[:, 0], X_hat.asnumpy()[:, 0])
assert numpy.allclose(Y.asnumpy()[:, 1], [-7, -7, 13, 13], atol=1e-4)

# %% [markdown]
# **Try it.** Which gamma and beta restore the first column, with mean 4 and variance 5?
#
# ## Images: one mean for each channel
#
# The output of a convolution is four-dimensional: (examples, channels, height, width). Let us see what our line of
# code does to it. **Predict** the shape of the mean.

# %% tags=["hide-output"]
images = nd.random.normal(3, 2, shape=(8, 6, 5, 4))
print('averaged over the examples alone:', images.mean(axis=0).shape)
per_channel = images.mean(axis=(0, 2, 3), keepdims=True)
print('averaged over all but the channels:', per_channel.shape)


# %% [markdown]
# <details><summary>Answer</summary>
#
# The first is broken: it has a mean for every pixel, $6 \cdot 5 \cdot 4 = 120$ means of 8 values each, and a shirt
# shifted by one pixel would be normalized with different numbers. The second is correct.
#
# </details>
#
# *Claim C22.* A channel is one unit, computed at many places: with $m$ images of $p$ by $q$ pixels, all its $m \cdot p
# \cdot q$ values share one mean and one variance:
#
# ```text
#             image 1   ...   image m
# channel 1    p x q    ...    p x q   -> one mean
# channel c    p x q    ...    p x q   -> one mean
# ```
#
# So the result must be the same if we lay out all places as rows of a
# table with one column for each channel, and normalize that as before. **Check** this.

# %%
def standardize(X, axes):
    mean = X.mean(axis=axes, keepdims=True)
    var = ((X - mean) ** 2).mean(axis=axes, keepdims=True)
    return (X - mean) / (var + eps).sqrt()

table = images.transpose((0, 2, 3, 1)).reshape((-1, 6))  # (8 * 5 * 4, 6)
as_table = standardize(table, 0).reshape((8, 5, 4, 6)).transpose((0, 3, 1, 2))
as_images = standardize(images, (0, 2, 3))
assert numpy.allclose(as_images.asnumpy(), as_table.asnumpy(), atol=1e-5)

# %% [markdown]
# **Try it.** Normalize `images` with `axes=(1, 2, 3)`: which values share a mean then?
#
# ## One example alone
#
# So far the examples of a batch depend on each other, because they share the mean. When the net is in use, we do not
# want that, and with a single example it cannot work at all. **Predict** what is left of an example that is normalized
# by its own mean.

# %% tags=["hide-output"]
alone = X[2:3]  # the third row, (5, 6)
print('alone:       ', standardize(alone, 0)[0].asnumpy())
print('in its batch:', standardize(X, 0)[2].asnumpy().round(3))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing: the row is its own mean, so all its units become 0.
#
# </details>

# %% tags=["hide-input"]
assert (standardize(alone, 0).asnumpy() == 0).all()

# %% [markdown]
# So during training we keep *moving averages* of the means and variances, and use them afterwards:
#
# $$\text{new} = \text{momentum} \cdot \text{old} + (1 - \text{momentum}) \cdot \text{batch}$$
#
# Here `momentum` weighs the *old* value. **Predict** what both become after one batch, from 0 and with momentum 0.9.

# %% tags=["hide-output"]
momentum = 0.9
moving_mean = momentum * nd.zeros(2) + (1 - momentum) * mean
moving_var = momentum * nd.zeros(2) + (1 - momentum) * var
print('moving_mean', moving_mean.asnumpy(), ' moving_var', moving_var.asnumpy())

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each moves a tenth of the way from 0 to the batch's value: $0.1 \cdot 4 = 0.4$ for both means, $0.1 \cdot 5 = 0.5$ and
# $0.1 \cdot 4 = 0.4$ for the variances.
#
# </details>

# %% tags=["hide-input"]
assert numpy.allclose(moving_mean.asnumpy(), [0.4, 0.4])
assert numpy.allclose(moving_var.asnumpy(), [0.5, 0.4])


# %% [markdown]
# **Try it.** With `momentum = 0.5`, how many batches does the average need to come within a hundredth of 4?
#
# ## The function
#
# *Claim C26.* Now all of this in one function. Autograd knows whether we train or predict: `autograd.is_training()` is
# true inside `autograd.record()`, and inside `autograd.train_mode()`, which records nothing. The function changes
# nothing in place; it returns the new averages, and the caller keeps them.

# %%
def my_batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    if autograd.is_training():
        axes = (0,) if X.ndim == 2 else (0, 2, 3)
        mean = X.mean(axis=axes, keepdims=True)  # (1, d) or (1, c, 1, 1)
        var = ((X - mean) ** 2).mean(axis=axes, keepdims=True)
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
        moving_var = momentum * moving_var + (1 - momentum) * var
    else:
        mean, var = moving_mean, moving_var
    X_hat = (X - mean) / (var + eps).sqrt()
    return gamma * X_hat + beta, moving_mean, moving_var


# %% [markdown]
# **Check** it on the small batch: the numbers from above must come out.

# %%
one, zero = nd.ones((1, 2)), nd.zeros((1, 2))
with autograd.train_mode():
    output, kept_mean, kept_var = my_batch_norm(X, one, zero, zero, zero, eps, momentum)
print(output.asnumpy().round(3))
assert numpy.allclose(output.asnumpy(), X_hat.asnumpy())
assert numpy.allclose(kept_mean.asnumpy(), [[0.4, 0.4]])
assert numpy.allclose(kept_var.asnumpy(), [[0.5, 0.4]])

# %% [markdown]
# *Claim C10.* In prediction, with the averages, an example alone gives the same result as in a batch. In training it
# does not: there, the rest of the batch matters. **Predict** which of the two lines below prints the same row each
# time.

# %% tags=["hide-output"]
wild = nd.array([[100, -100]])
company = nd.concat(alone, wild, dim=0)  # the third row of X beside a wild one

def normalized(batch, row):
    Y, _, _ = my_batch_norm(batch, one, zero, kept_mean, kept_var, eps, momentum)
    return Y[row].asnumpy().round(3)

print('prediction:', normalized(X, 2), normalized(company, 0), normalized(alone, 0))
with autograd.train_mode():
    print('training:  ', normalized(X, 2), normalized(company, 0))

# %% [markdown]
# <details><summary>Answer</summary>
#
# The first. Why does prediction not give 0.447 and 1 as well? After one batch, the averages have moved only a tenth of
# the way from 0: $(5 - 0.4)/\sqrt{0.5} = 6.505$. After fifty such batches they are almost there.
#
# </details>

# %% tags=["hide-input"]
assert (normalized(X, 2) == normalized(company, 0)).all()
assert (normalized(X, 2) == normalized(alone, 0)).all()
with autograd.train_mode():
    assert not numpy.allclose(normalized(X, 2), normalized(company, 0))

# %% [markdown]
# Before you trust your function, test it: `check.batch_norm` tries it on small batches of both shapes, gradients
# included, and names any mistake.

# %%
result = check.batch_norm(my_batch_norm)
result.assert_ok()
result


# %% [markdown]
# The *note* also applies to the chapter's own function; the layer will take care of it.
#
# **Try it.** Swap `momentum` and `1 - momentum` in `my_batch_norm`, and run the check on it.
#
# ## The layer
#
# *Claim C27.* The maths is done. The bookkeeping remains, and it is the same for any maths: create gamma and beta so
# that they are learned, and keep the averages from one batch to the next. You give the sizes: the number of units and
# `num_dims`, 2 after a dense layer and 4 after a convolution.

# %%
class MyFirstBatchNorm(nn.Block):
    def __init__(self, num_features, num_dims, fn=my_batch_norm):
        super().__init__()
        shape = (1, num_features) + (1,) * (num_dims - 2)
        self.fn = fn
        self.gamma = self.params.get('gamma', shape=shape, init=init.One())
        self.beta = self.params.get('beta', shape=shape, init=init.Zero())
        self.moving_mean, self.moving_var = nd.zeros(shape), nd.zeros(shape)

    def forward(self, X):
        Y, self.moving_mean, self.moving_var = self.fn(
            X, self.gamma.data(), self.beta.data(),
            self.moving_mean, self.moving_var, 1e-5, 0.9)
        return Y


# %% [markdown]
# It runs, and it trains. But let us **break it**: save a trained layer, load it into a new one, and predict.
# **Predict** whether the two outputs are the same.

# %% tags=["hide-output"]
def after_save_and_load(layer_class):
    old, new = layer_class(2, 2), layer_class(2, 2)
    old.initialize()
    with autograd.record():
        old(X)
    old.save_parameters('layer.params')
    new.load_parameters('layer.params')
    os.remove('layer.params')
    return old(X).asnumpy(), new(X).asnumpy()

old, new = after_save_and_load(MyFirstBatchNorm)
print('the old one:', old[0], ' the new one:', new[0])

# %% [markdown]
# <details><summary>Answer</summary>
#
# They are far apart, and there is no warning: the averages are plain arrays, and `save_parameters` saves only
# parameters. A new layer starts with a moving variance of 0, so it divides by $\sqrt\epsilon$, that is, multiplies by
# 316.
#
# </details>

# %% tags=["hide-input"]
assert not numpy.allclose(old, new)


# %% [markdown]
# The second, quieter fault is the one in the note: the averages come from recorded computations and keep them alive, so
# memory grows with every batch.
#
# The remedy for both is to make the averages parameters without a gradient, and to write their values while autograd is
# paused. The rest stays the same.

# %%
class MyBatchNorm(MyFirstBatchNorm):
    def __init__(self, num_features, num_dims, fn=my_batch_norm):
        super().__init__(num_features, num_dims, fn)
        kept = dict(shape=self.gamma.shape, init=init.Zero(), grad_req='null')
        self.moving_mean = self.params.get('moving_mean', **kept)
        self.moving_var = self.params.get('moving_var', **kept)

    def forward(self, X):
        Y, moving_mean, moving_var = self.fn(
            X, self.gamma.data(), self.beta.data(),
            self.moving_mean.data(), self.moving_var.data(), 1e-5, 0.9)
        with autograd.pause():  # bookkeeping is not recorded
            self.moving_mean.set_data(moving_mean)
            self.moving_var.set_data(moving_var)
        return Y


# %% [markdown]
# **Check** that saving now keeps everything, and that the averages are still those that we computed by hand.

# %%
old, new = after_save_and_load(MyBatchNorm)
assert (old == new).all()

layer = MyBatchNorm(2, 2)
layer.initialize()
with autograd.record():
    layer(X)
assert numpy.allclose(layer.moving_mean.data().asnumpy(), [[0.4, 0.4]])
assert numpy.allclose(layer.moving_var.data().asnumpy(), [[0.5, 0.4]])

# %% [markdown]
# **Try it.** Initialize `moving_var` in `MyBatchNorm` with `init.One()`: what does an untrained layer do to `X` in
# prediction mode?
#
# ## Move it yourself
#
# Before we train, look at what the layer does to a whole distribution. The unit below is lopsided on purpose. There are
# four settings: the initial layer; its input shifted and stretched; another gamma and beta; only eight examples.
# **Predict** which of the four histograms of $Y$ differ from the first.

# %% tags=["hide-output"]
panel.plot_settings({}, {'offset': 4.0, 'scale': 2.0}, {'gamma': 2.0, 'beta': -3.0},
                    {'batch_size': 8})

# %% [markdown]
# <details><summary>Answer</summary>
#
# Shifting and stretching the input has no effect on the output: beta alone sets its mean, and gamma alone its spread.
# The shape stays lopsided, because only mean and variance are normalized. With eight examples, the statistics are those
# of these eight.
#
# </details>
#
# **Try it.** Run the next cell and move the controls: try a negative gamma and a batch of two. (They also work on the
# web page.)

# %%
panel.show()


# %% [markdown]
# ## LeNet with your layer
#
# LeNet reads images of 28 by 28 pixels with two convolutions and three dense layers. A norm of your choice stands
# between each affine map and its sigmoid; the last map has neither:
#
# ```text
# conv 1    6 x 24 x 24   norm, sigmoid   pool to  6 x 12 x 12
# conv 2   16 x  8 x  8   norm, sigmoid   pool to 16 x  4 x  4
# dense 1        120      norm, sigmoid
# dense 2         84      norm, sigmoid
# dense 3         10
# ```

# %%
def lenet_in_full(norm):  # norm(num_features, num_dims) makes a layer
    net = nn.Sequential()
    for channels in (6, 16):
        net.add(nn.Conv2D(channels, kernel_size=5))
        net.add(norm(channels, 4))
        net.add(nn.Activation('sigmoid'))
        net.add(nn.MaxPool2D(pool_size=2, strides=2))
    for units in (120, 84):
        net.add(nn.Dense(units))
        net.add(norm(units, 2))
        net.add(nn.Activation('sigmoid'))
    net.add(nn.Dense(10))
    return net


# %% [markdown]
# `gluon_bn.lenet` makes the same net, with a faster pooling. **Predict** how many numbers your four layers keep.

# %% tags=["hide-output"]
def mine_in_lenet(fn=my_batch_norm):
    def norm(num_features, num_dims):
        return MyBatchNorm(num_features, num_dims, fn)
    net = gluon_bn.lenet(norm)
    net.initialize(init.Xavier())
    return net

fresh_net = mine_in_lenet()
fresh_net(nd.zeros((1, 1, 28, 28)))
arrays = [p.data() for p in fresh_net.collect_params('.*batchnorm').values()]
count = sum(array.size for array in arrays)
print(count, 'numbers in', len(arrays), 'arrays')

# %% [markdown]
# <details><summary>Answer</summary>
#
# Four for each unit, 904 in all. Only half of them, gamma and beta, are learned; the other half are the averages.
#
# </details>

# %% tags=["hide-input"]
assert count == 4 * (6 + 16 + 120 + 84)
blocks = [[type(block).__name__ for block in net] for net in (lenet_in_full(MyBatchNorm), fresh_net)]
assert blocks[0] == blocks[1]

# %% [markdown]
# Now the clothes: 60,000 images of ten kinds to train on, and 10,000 others to test on.

# %%
train_iter, test_iter = gluon_bn.load_data_fashion_mnist(batch_size)
clothes, labels = next(iter(train_iter))
# Figure: eight small grey pictures of clothes, with the names of their classes
figure, axes = plt.subplots(1, 8, figsize=(10, 1.6))
for ax, image, label in zip(axes, clothes.asnumpy(), labels.asnumpy()):
    ax.imshow(image[0], cmap='gray_r')
    ax.set_title(gluon_bn.data.TEXT_LABELS[label], fontsize=9)
    ax.axis('off')

# %% [markdown]
# Your function is written to be read, not to be fast. `gluon_bn.fused_batch_norm` is the same maths in one piece, and
# several times as fast (notebook 06 shows why). May we train with it? Only if it computes the same. Both get the same
# random images and the same random upstream gradient (never all ones: the gradient of $X$ would be 0, and some mistakes
# would pass, such as a missing path through the variance; notebook 03 tries it).

# %%
rng = numpy.random.RandomState(0)
X_random, dY = rng.normal(size=(2, 16, 6, 5, 4))
gamma_random, beta_random = rng.normal(size=(2, 1, 6, 1, 1))

def outputs_and_gradients(fn):
    X, gamma, beta = nd.array(X_random), nd.array(gamma_random), nd.array(beta_random)
    for array in (X, gamma, beta):
        array.attach_grad()
    zeros = nd.zeros((1, 6, 1, 1))
    with autograd.record():
        Y, moving_mean, moving_var = fn(X, gamma, beta, zeros, zeros, eps, momentum)
    Y.backward(nd.array(dY))
    return {'Y': Y, 'moving_mean': moving_mean, 'moving_var': moving_var,
            'dX': X.grad, 'dgamma': gamma.grad, 'dbeta': beta.grad}


# %% [markdown]
# **Check** these six arrays, to 1e-5, since both compute in float32.

# %%
mine = outputs_and_gradients(my_batch_norm)
fused = outputs_and_gradients(gluon_bn.fused_batch_norm)
for name in mine:
    assert numpy.allclose(mine[name].asnumpy(), fused[name].asnumpy(), atol=1e-5), name

# %% [markdown]
# Then the loss of LeNet over its first 16 steps, from the same weights and on the same batches. Here is the loop that
# trains it; `gluon_bn.train` is this loop, too, with curves and accuracies.

# %%
few, few_test = gluon_bn.load_data_fashion_mnist(batch_size, num_train=16 * batch_size, num_test=256)

def loss_of_16_steps(net):
    training.seed_everything(0)
    net.initialize(init.Xavier(), force_reinit=True)
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': lr})
    loss_fn, total = gluon.loss.SoftmaxCrossEntropyLoss(), 0
    for images, labels in few:
        with autograd.record():
            loss = loss_fn(net(images), labels)  # one for each image
        loss.backward()
        trainer.step(len(images))
        total += loss.sum().asscalar()
    return total / (16 * batch_size)


# %% [markdown]
# **Check** that the losses agree, and that the package's loop gives the same.

# %%
my_loss = loss_of_16_steps(mine_in_lenet())
fused_loss = loss_of_16_steps(mine_in_lenet(gluon_bn.fused_batch_norm))
print(f'loss with your function {my_loss:.5f}, with the fused one {fused_loss:.5f}')
assert abs(my_loss - fused_loss) < 1e-3
training.seed_everything(0)
history = gluon_bn.train(mine_in_lenet(), few, few_test, 1, lr, plot=False, progress=False)
assert abs(history[0].loss - my_loss) < 1e-3

# %% [markdown]
# They agree, so from here on your *layer* trains with the fused *maths*. Not one line of the layer had to change for
# that, which is the point of keeping the two apart.
#
# Watch the curves grow. Loss and training accuracy are running means over the epoch, so they jump at the start of each
# epoch; test accuracy is measured after each epoch.

# %%
training.seed_everything(0)
trained_net = mine_in_lenet(gluon_bn.fused_batch_norm)
histories = {}
# Figure: loss and accuracies of LeNet with your layer, over the epochs
histories['fused', 0] = gluon_bn.train(trained_net, train_iter, test_iter, num_epochs, lr)

# %% [markdown]
# **Try it.** Give `mine_in_lenet` a function that returns X unchanged, and train: is this the net without a norm?
#
# ## What gamma and beta have learned
#
# All began as 1 and 0. **Predict**: have they stayed near there? Do the channels of one layer agree?

# %% tags=["hide-output"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout='constrained')
norms = [block for block in trained_net if isinstance(block, MyBatchNorm)]
# Figure: the learned gamma and beta of each channel or unit in the four layers, one dot each
for ax, name, start in zip(axes, ('gamma', 'beta'), (1, 0)):
    ax.axhline(start, color=plots.COLORS['none'], linestyle=':')
    for number, block in enumerate(norms, 1):
        values = getattr(block, name).data().asnumpy().ravel()
        spread = number + numpy.linspace(-0.25, 0.25, len(values))
        ax.scatter(spread, values, s=12, color=plots.COLORS['fused'])
    ax.set(title=name, xticks=[1, 2, 3, 4],
           xticklabels=['conv 1\n6', 'conv 2\n16', 'dense 1\n120', 'dense 2\n84'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each dot is a channel or a unit; the dotted line is where they all began. Each has gone its own way: the net uses its
# freedom to have means and spreads other than 0 and 1.
#
# </details>

# %% tags=["hide-input"]
for block in norms:
    assert abs(block.gamma.data() - 1).max().asscalar() > 0.01
    assert abs(block.beta.data()).max().asscalar() > 0.01

# %% [markdown]
# In the dense layers a unit is
#
# $$y = \phi(\mathrm{BN}(Wu + b))$$
#
# with inputs $u$, weights $W$, biases $b$, and a sigmoid $\phi$.
#
# *Claim C23.* The affine map comes first, then the norm, then the activation, and the statistics are those of the
# current batch. **Check** this by hand.

# %%
dense, dense_norm = nn.Dense(2), MyBatchNorm(2, 2)
dense.initialize(init.Xavier())
dense_norm.initialize()
with autograd.record():
    y = dense_norm(dense(X)).sigmoid()
affine = X.asnumpy() @ dense.weight.data().asnumpy().T + dense.bias.data().asnumpy()
by_hand = (affine - affine.mean(axis=0)) / numpy.sqrt(affine.var(axis=0) + 1e-5)
assert numpy.allclose(y.asnumpy(), 1 / (1 + numpy.exp(-by_hand)), atol=1e-5)

# %% [markdown]
# **Try it.** Plot the moving means instead: in which layer are they furthest from 0?
#
# ## Gluon's own layer
#
# *Claim C28.* Gluon has such a layer, `nn.BatchNorm`, which needs no sizes: it infers them from its first input. We
# give ours explicitly, so they can be wrong. **Predict** what each of the two does with 6 channels.

# %% tags=["hide-output"]
images_6 = nd.random.normal(shape=(4, 6, 5, 5))
gluon_layer = nn.BatchNorm()
gluon_layer.initialize()
gluon_layer(images_6)
print('Gluon: gamma has shape', gluon_layer.gamma.shape)
our_layer = gluon_bn.BatchNorm(5, num_dims=4)
our_layer.initialize()
try:
    our_layer(images_6)
except ValueError as error:
    print('ours: ', error)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Gluon's layer infers six channels; ours was made for five, and says so.
#
# </details>
#
# *Claim C30.* In training it should be the same computation, because Gluon's `epsilon` and `momentum` are those of our
# layer: 1e-5, and 0.9 for the *old* value. (Other libraries differ: in PyTorch `momentum` weighs the new value.) Two
# things about the averages do differ: Gluon's `running_var` starts at 1, where `moving_var` above starts at 0, and
# Gluon 1.9.1 moves both averages in the backward pass, on a CPU.

# %% tags=["hide-input"]
assert gluon_layer._kwargs['eps'] == 1e-5 and gluon_layer._kwargs['momentum'] == 0.9
assert (gluon_layer.running_var.data().asnumpy() == 1).all()

# %% [markdown]
# Neither matters in training. **Check** one layer, forward and backward, and the loss of 16 steps.

# %%
gluon_layer.gamma.set_data(nd.array(gamma_random.ravel()))
gluon_layer.beta.set_data(nd.array(beta_random.ravel()))
X_gluon = nd.array(X_random)
X_gluon.attach_grad()
with autograd.record():
    Y_gluon = gluon_layer(X_gluon)
Y_gluon.backward(nd.array(dY))
for name, theirs in (('Y', Y_gluon), ('dX', X_gluon.grad)):
    difference = (theirs - mine[name]).abs().max().asscalar()
    print(f'{name:3} largest difference {difference:.1e}')
    assert difference < 1e-5
gluon_loss = loss_of_16_steps(gluon_bn.lenet('gluon'))
print(f'loss with your function {my_loss:.5f}, with Gluon {gluon_loss:.5f}')
assert abs(my_loss - gluon_loss) < 1e-2

# %% [markdown]
# **Try it.** Make `gluon_layer` by `nn.BatchNorm(epsilon=1e-3)`, and run the two cells again: which checks fail?
#
# ## Three curves
#
# Now the question behind all this: does it help? We train three nets from the same weights, with the same learning
# rate, batches and pooling. One is trained already. **Predict** the curve of the net without a norm.

# %% tags=["hide-output"]
training.seed_everything(0)
plain_net = gluon_bn.lenet('none')
# Figure: loss and accuracies of LeNet without normalization, over the epochs
histories['none', 0] = gluon_bn.train(plain_net, train_iter, test_iter, num_epochs, lr)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It learns almost nothing at first.
#
# </details>
#
# And with Gluon's layer? **Predict** how far its curve is from that of your layer.

# %% tags=["hide-output"]
training.seed_everything(0)
gluon_net = gluon_bn.lenet('gluon')
# Figure: loss and accuracies of LeNet with Gluon's layer, over the epochs
histories['gluon', 0] = gluon_bn.train(gluon_net, train_iter, test_iter, num_epochs, lr)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Close by: they are the same computation, up to rounding.
#
# </details>
#
# One run is an anecdote. So we train with two more seeds, that is, other initial weights and another order of the
# images, with your layer and without. This takes a minute or more.

# %%
makers = {'none': lambda: gluon_bn.lenet('none'),
          'fused': lambda: mine_in_lenet(gluon_bn.fused_batch_norm)}
for seed in (1, 2):
    for norm, make in makers.items():
        training.seed_everything(seed)
        histories[norm, seed] = gluon_bn.train(
            make(), train_iter, test_iter, num_epochs, lr, plot=False,
            description=f'{norm}, seed {seed}')

# %% [markdown]
# The line is the median of the three seeds, and the band reaches from the lowest to the highest; Gluon's curve shows
# seed 0 only.

# %%
runs = [{'norm': norm, 'seed': seed, 'history': [vars(epoch) for epoch in history]}
        for (norm, seed), history in histories.items()]
# Figure: loss and accuracies of the three nets, the median of the seeds and their range
plots.plot_curves(runs)

# %% [markdown]
# Your curve and Gluon's are close together, far from the grey one. **Check** the numbers: the worst seed with your
# layer ends with a lower loss than the best one without, and with the same seed, Gluon's loss is close to yours.

# %%
final = {run: history[-1].loss for run, history in histories.items()}
without, yours = ([final[norm, seed] for seed in (0, 1, 2)] for norm in makers)
print('train loss of the last epoch')
print(f'no normalization  {min(without):.3f} to {max(without):.3f}')
print(f'your layer        {min(yours):.3f} to {max(yours):.3f}')
print(f'seed 0: yours {final["fused", 0]:.3f}, Gluon {final["gluon", 0]:.3f}')
assert max(yours) < min(without)
assert abs(final['fused', 0] - final['gluon', 0]) < 0.05

# %% [markdown]
# **Try it.** Set `num_epochs` to 10, below the imports, and run all cells: do the curves meet?
#
# ## What we saw, and what we did not show
#
# - Batch normalization is a mean, a variance, and a line of arithmetic for each unit; over images, for each channel.
# - In training, an example's output depends on its batch. In prediction, the moving averages take the batch's place, so
#   one example is enough.
# - The maths is one function, and the layer does the bookkeeping. Averages that are kept beside the parameters
#   are lost on saving.
# - At this learning rate, LeNet with your layer ends with a lower training loss than without a norm, with all three
#   seeds, and with seed 0 Gluon's layer ends within 0.05 of yours.
#
# We did not show *why* it helps, nor that it helps at every learning rate: at one that suits it, the plain net
# may well catch up. We did not derive the gradient; autograd did that. And test accuracy with moving averages can
# swing from one epoch to the next. The notebooks that follow take these up one by one. For ten epochs:
# `.venv/bin/python -m gluon_bn compare`.
