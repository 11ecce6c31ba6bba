# %% [markdown]
# # In today's textbook
#
# The chapter's code uses MXNet's older `nd` interface, as *Dive into Deep Learning* did then. The book's last edition
# with MXNet cells, d2l 1.0.3, looks different: arrays like NumPy's, a `Classifier`, a `DataModule`, a `Trainer`. Here
# we put our layer and our data into those cells unchanged, and at the end a table shows what has changed in between.
#
# **Afterwards you can** use the layer in today's d2l, and convert `momentum`, `eps` and the initial variance from one
# edition to another.
#
# **You need** notebook 01. Reading takes about 12 minutes; running takes about two minutes on two cores.

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
from d2l import mxnet as d2l
from mxnet import autograd, init, np, npx
from mxnet.gluon import nn

import gluon_bn
from gluon_bn.experiments import figures
from gluon_bn.data.textbook import FashionMNIST
from gluon_bn.training import seed_everything

max_epochs = int(os.environ.get('GLUON_BN_EPOCHS', 2))  # the book trains for 10
npx.set_np()  # arrays are now those of mx.np

# %% [markdown]
# ## The same function in the new interface
#
# The function `batch_norm` is written once for both interfaces. **Predict** the result for the small batch of the first
# notebook when its arrays are those of `mx.np`.

# %% tags=["hide-output"]
X = np.array([[1, 2], [3, 2], [5, 6], [7, 6]])
one, zero = np.ones((1, 2)), np.zeros((1, 2))
with autograd.train_mode():
    Y, moving_mean, moving_var = gluon_bn.batch_norm(X, one, zero, zero, zero, eps=1e-5, momentum=0.9)
print(type(Y).__module__, Y.asnumpy().round(3), sep='\n')

# %% [markdown]
# <details><summary>Answer</summary>
#
# The same numbers, in arrays of the new kind.
#
# </details>

# %% tags=["hide-input"]
assert isinstance(Y, np.ndarray)
assert numpy.allclose(moving_mean, 0.4) and numpy.allclose(moving_var, [[0.5, 0.4]])


# %% [markdown]
# **Try it.** Pass arrays of `mx.nd` to `batch_norm` (`from mxnet import nd`): what does it return?
#
# ## The data as a DataModule
#
# The book's `d2l.FashionMNIST` uses Gluon's data set, which downloads from MXNet's bucket and keeps the raw bytes in
# memory; it resizes and converts each image every time it is requested. A `DataModule` that keeps converted images
# takes a few lines:

# %%
class ImagesInMemory(d2l.DataModule):
    def __init__(self, batch_size=128):
        super().__init__()
        self.save_hyperparameters()
        self.train, self.val = gluon_bn.load_data_fashion_mnist(batch_size)

    def get_dataloader(self, train):
        return self.train if train else self.val

data = ImagesInMemory()

# %% [markdown]
# It is used like the book's. The package's `FashionMNIST` can also draw images and use fewer of them.

# %%
batch = next(iter(data.val_dataloader()))
print('X', batch[0].shape, batch[0].dtype, ' y', batch[1].shape, batch[1].dtype)
assert isinstance(data, d2l.DataModule) and len(data.train_dataloader()) == 469
# Figure: eight small pictures of clothes, with the names of their classes
FashionMNIST(128).visualize([array[:8] for array in batch])


# %% [markdown]
# **Try it.** Ask the DataModule for minibatches of 1,000. How many are there?
#
# ## The model as a Classifier
#
# A `Classifier` needs a `net` and a learning rate; it provides loss, accuracy and optimizer. `gluon_bn.lenet` makes the
# net: here, the book uses average pooling, the chapter maximum pooling.

# %%
class BNLeNet(d2l.Classifier):
    def __init__(self, lr=0.1, num_classes=10, norm='fused'):
        super().__init__()
        self.save_hyperparameters()
        self.net = gluon_bn.lenet(norm, pool='avg', num_classes=num_classes)
        self.net.initialize(init.Xavier())

seed_everything(0)
model = BNLeNet(lr=0.1)
model.layer_summary((1, 1, 28, 28))

# %% [markdown]
# **Try it.** Build the net with `norm='gluon'`: does the summary change?
#
# ## Trainer.fit
#
# As in the book, which trains for ten epochs (`max_epochs = 10` in the cell with the imports). **Predict**: is the
# validation loss above or below the training loss in the first epoch? (One is measured while the weights still move,
# the other after that.)

# %% tags=["hide-output"]
model.board.ylim = [0, 1]  # leaves the legend a free corner
trainer = d2l.Trainer(max_epochs=max_epochs)
# Figure: training loss, validation loss and validation accuracy over the epochs
trainer.fit(model, data)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Below: it is measured after the epoch, whereas the training loss is a mean over the epoch, which began with worse
# weights. At the end of training, the two are close. (The next cell prints both.)
#
# </details>
#
# The book shows curves only. **Check** what the board has recorded, and the accuracy on all 10,000 test images.

# %% tags=["hide-output"]
noted = {label: float(points[-1].y) for label, points in model.board.data.items()}
accuracy = gluon_bn.evaluate_accuracy(model, data.val_dataloader())
for label, value in {**noted, 'test accuracy': accuracy}.items():
    print(f'{label:13} {value:.3f}')
in_first = {label: numpy.mean([float(point.y) for point in points if point.x <= 1])
            for label, points in model.board.data.items()}
print(f"first epoch: training loss {in_first['train_loss']:.3f}, validation loss {in_first['val_loss']:.3f}")
assert in_first['val_loss'] < in_first['train_loss']
assert list(noted) == ['train_loss', 'val_loss', 'val_acc']
assert accuracy > 0.6


# %% [markdown]
# *Claim C30.* Gluon's layer in the same cell is the same computation, up to rounding, so from the same seed it should
# take nearly the same path. We run short fits on a fifth of the images, from three seeds each; the board does not draw.

# %%
def last_loss(norm, seed):
    seed_everything(seed)
    model, few = BNLeNet(lr=0.1, norm=norm), FashionMNIST(128, num_train=12_000, num_val=1000)
    model.board.display = False
    d2l.Trainer(max_epochs=1).fit(model, few)
    return model.board.data['train_loss'][-1].y

losses = [(seed, *(f'{last_loss(norm, seed):.4f}' for norm in ('fused', 'gluon'))) for seed in (0, 1, 2)]
assert all(abs(float(fused) - float(gluon)) < 0.01 for _, fused, gluon in losses)
figures.table(losses, ['seed', 'loss with fused_batch_norm', 'with gluon.nn.BatchNorm'])

# %% [markdown]
# **Try it.** Set `lr` to 1.0: is the first epoch's validation loss still where you predicted?
#
# ## train_ch6, the loop in between
#
# Editions in between train with a function: the first of them with `train_ch5`, like the chapter, later ones with
# `train_ch6`. The library still has the second. It takes a net and two iterators, and accepts ours.

# %%
seed_everything(0)
train_iter, test_iter = gluon_bn.load_data_fashion_mnist(256)
# Figure: training loss, training accuracy and test accuracy over the epochs
d2l.train_ch6(gluon_bn.lenet('fused'), train_iter, test_iter, max(2, max_epochs), 1.0, d2l.try_gpu())


# %% [markdown]
# **Try it.** Give `train_ch6` the net without a norm, `gluon_bn.lenet('none')`.
#
# ## What has changed between the editions
#
# The first trap is `momentum`. In the chapter, in Gluon and here, it weighs the
# *old* value; in today's textbook (and in PyTorch) the function written from scratch weighs the *new* one. The same
# number 0.1 then means the opposite. **Predict** where each average stands after twenty batches whose mean is 1.

# %% tags=["hide-output"]
def after(batches, weight_of_old):
    moving_mean = np.zeros((1, 1))
    ones = np.array([[0.0], [2.0]])  # mean 1, variance 1
    with autograd.train_mode():
        for _ in range(batches):
            _, moving_mean, _ = gluon_bn.batch_norm(
                ones, one[:, :1], zero[:, :1], moving_mean, zero[:, :1], 1e-5, weight_of_old)
    return float(moving_mean)

print(f'0.1 read as today: {after(20, 1 - 0.1):.3f}   0.1 read as in the chapter: {after(20, 0.1):.3f}')

# %% [markdown]
# <details><summary>Answer</summary>
#
# A momentum of 0.1, if it weighs the old value as in the chapter, forgets nearly everything but the last batch. So does
# 0.9, if it weighs the new value as today. Neither raises an error.
#
# </details>

# %% tags=["hide-input"]
assert numpy.isclose(after(20, 1 - 0.1), 1 - 0.9 ** 20) and numpy.isclose(after(20, 0.1), 1 - 0.1 ** 20)


# %% [markdown]
# The second change is where the variance starts. Take an untrained layer in prediction mode, with everything at its
# initial value. **Predict** the factor by which it multiplies its input.

# %% tags=["hide-output"]
def factor(**start):
    layer = gluon_bn.BatchNorm(1, num_dims=2, **start)
    layer.initialize()
    return float(layer(np.ones((1, 1))))

gluon = nn.BatchNorm()
gluon.initialize()
factors = {'zeros': factor(), 'ones': factor(moving_var_initializer='ones'),
           'gluon': float(gluon(np.ones((1, 1))))}
for start, value in factors.items():
    print(f'{start:5} {value:.3f}')

# %% [markdown]
# <details><summary>Answer</summary>
#
# If the variance starts at 0, an untrained or badly loaded layer multiplies by 316; if it starts at 1, the layer leaves
# its input almost unchanged.
#
# </details>
#
# **Check:**

# %% tags=["hide-input"]
assert numpy.isclose(factors['zeros'], 1 / 1e-5 ** 0.5) and abs(factors['ones'] - 1) < 1e-4


# %% [markdown]
# The editions in between also start at 0, except the last of them, which start at 1. (Ours starts at 0 like the
# chapter's, and accepts `moving_var_initializer='ones'`.)
#
# Third, `eps`: $10^{-5}$ then, $10^{-12}$ in today's MXNet cells. **Predict** by how much a layer multiplies the
# gradient of a unit that is constant over the batch.

# %% tags=["hide-output"]
def gradient_factor(eps):
    X, dY = np.full((8, 1), 0.5), np.random.normal(size=(8, 1))
    X.attach_grad()
    with autograd.record():
        Y, _, _ = gluon_bn.batch_norm(X, one[:, :1], zero[:, :1], zero[:, :1], zero[:, :1], eps, 0.9)
    Y.backward(dY)
    return float(np.abs(X.grad).max() / np.abs(dY - dY.mean()).max())

gradient_factors = {eps: gradient_factor(eps) for eps in (1e-5, 1e-12)}
for eps, value in gradient_factors.items():
    print(f'eps {eps:5g}: {value:,.1f}')

# %% [markdown]
# <details><summary>Answer</summary>
#
# By $1/\sqrt{\mathtt{eps}}$: about 300 in the chapter, a million today.
#
# </details>

# %% tags=["hide-input"]
assert all(numpy.isclose(value, eps ** -0.5, rtol=1e-3) for eps, value in gradient_factors.items())

# %% [markdown]
# What has *not* changed is the divisor of the variance: it is $m$, in both editions, here, and in Gluon on a CPU.
# (PyTorch normalizes by $m$ too but keeps a moving average of the estimate by $m - 1$.) **Predict** Gluon's moving
# variances after the small batch, starting from 1 and with momentum 0.9.

# %% tags=["hide-output"]
gluon = nn.BatchNorm(momentum=0.9)
gluon.initialize()
with autograd.record():
    Y = gluon(X)
Y.backward()  # Gluon moves its averages here
print(gluon.running_var.data().asnumpy().round(3))

# %% [markdown]
# <details><summary>Answer</summary>
#
# $0.9 + 0.1 \cdot 5 = 1.4$ and $0.9 + 0.1 \cdot 4 = 1.3$: it divides by $m$.
#
# </details>

# %% tags=["hide-input"]
assert numpy.allclose(gluon.running_var.data(), [1.4, 1.3])

# %% [markdown]
# Last, the names of the library. **Check** which of them today's d2l still has.

# %%
names = ['train_ch5', 'train_ch6', 'load_data_fashion_mnist', 'FashionMNIST', 'DataModule',
         'Classifier', 'Trainer', 'Animator', 'ProgressBoard', 'BatchNorm']
has = {name: hasattr(d2l, name) for name in names}
for name in names:
    print(f'{name:24}', 'there' if has[name] else 'not there')
assert has['train_ch6'] and has['Trainer'] and not has['train_ch5'] and not has['BatchNorm']

# %% [markdown]
# Here is everything in one table. Its numbers are those measured in the cells above; the columns on the two editions'
# own code say what is printed there.

# %%
rows = [('arrays', 'nd', 'np', 'both'),
        ('momentum weighs', 'the old value (0.9)', 'the new value (0.1)', 'the old value (0.9)'),
        ('after 20 batches of mean 1', *(f'{after(20, weight):.3f}' for weight in (0.9, 1 - 0.1, 0.9))),
        ('moving_var starts at', '0', '1', '0, or 1 if asked'),
        ('untrained, multiplies by', *(f'{factors[key]:.3g}' for key in ('zeros', 'ones', 'zeros'))),
        ('eps', '1e-5', '1e-12', '1e-5'),
        ('gradient of a constant unit', *(f'× {gradient_factors[e]:,.0f}' for e in (1e-5, 1e-12, 1e-5))),
        ('variance divided by', 'm', 'm', 'm'),
        ('pooling in LeNet with the norm', 'max', 'average', "pool='max' or 'avg'"),
        ('trains by', 'train_ch5', 'Trainer.fit', 'gluon_bn.train, and any of these'),
        ('data by', 'load_data_fashion_mnist', 'FashionMNIST, a DataModule', 'both')]
figures.table(rows, ['', 'the chapter', 'd2l 1.0.3', 'gluon_bn'])

# %% [markdown]
# **Try it.** After how many batches do the two readings of 0.1 differ by less than a hundredth?
#
# ## What we saw, and what we did not show
#
# - Layer, net and data fit into today's cells unchanged; `Trainer.fit` and `train_ch6` train them.
# - From the same seed, the losses with our layer and with Gluon's are within 0.01 of each other after an epoch in the
#   book's own loop, with three seeds.
# - A momentum of 0.1 is the chapter's 0.9. Copied without its meaning, the number gives an average that remembers
#   little but the last batch.
# - The initial variance and `eps` matter in corners: before training, and for units that are constant.
#
# We trained for fewer epochs than the book (set `max_epochs = 10` in the cell with the imports, or start Jupyter with
# `GLUON_BN_EPOCHS=10`), did not run the PyTorch cells, and did not show that one pooling is better: if
# you compare two runs, give both the same one, or you compare the pooling as well.
