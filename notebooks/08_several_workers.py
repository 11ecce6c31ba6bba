# %% [markdown]
# # Several workers
#
# Large nets are trained on several machines. Each gets a share of every minibatch, and the gradients are added up. For
# most layers, only rounding changes, because the gradient of a sum is the sum of the gradients. Batch normalization is
# the exception: each share has its own statistics. Here we measure what that costs, and let the workers share their
# statistics, too. You need no cluster: the workers are threads of this process.
#
# **Afterwards you can** say how small a share may be, which numbers the workers must exchange, and how often.
#
# **You need** notebook 01. Reading takes about 6 minutes; running takes about a minute on two cores.

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
# Now the imports and the data: 16 minibatches of 256 images.

# %%
# %matplotlib inline
from mxnet import autograd, init, nd
from gluon_bn import fused_batch_norm, lenet, load_data_fashion_mnist, train
from gluon_bn.experiments import rates, training_figures as figures
from gluon_bn.experiments.rates import norm_by, with_activation
from gluon_bn.norm.sync import merge_statistics
from gluon_bn.training import seed_everything
from gluon_bn.workers import Threads

data = train_iter, test_iter = load_data_fashion_mnist(batch_size=256, num_train=4096, num_test=1000)


# %% [markdown]
# ## 1. Statistics of a share
#
# A layer that sees only its worker's share computes the mean and variance of that share. One process can compute the same
# numbers if we lay the shares side by side, like channels; that is faster than one worker for each. (Section 6 of
# notebook 05 has the same function, repeated here because each notebook runs by itself.)

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
# **Predict** how the training loss and the test accuracy depend on the share, from 1 worker with all 256 examples to 64
# workers with 4 each. The net is LeNet with ReLUs, trained for 32 steps at a rate of 0.3.

# %% tags=["hide-output"]
nets = {f'{256 // size} x {size}': lambda size=size: with_activation(lenet(norm_by(in_groups_of(size))), 'relu')
        for size in (256, 128, 64, 32, 8, 4)}
by_share = rates.over_seeds(nets, 0.3, (0, 1, 2), data, num_epochs=2)
figures.strips(by_share)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Shares of 128 and 64 train about as well as the whole minibatch. From 32 down, the smaller the share, the higher the
# loss. With four examples, the test accuracy is lower, too: the mean and variance of few examples are noisy, and in
# prediction mode the net uses other statistics than in training.
#
# </details>
#
# **Check**, for each of the three seeds:

# %% tags=["hide-output"]
loss, test_acc = ({name: [getattr(run, key) for run in runs] for name, runs in by_share.items()}
                  for key in ('loss', 'test_acc'))
for i in range(3):
    assert loss['1 x 256'][i] < loss['8 x 32'][i] < loss['32 x 8'][i] < loss['64 x 4'][i]
    assert test_acc['64 x 4'][i] < test_acc['1 x 256'][i]
assert all(abs(a - b) < 0.06 for a, b in zip(loss['1 x 256'], loss['2 x 128']))
figures.table(rates.table(by_share), ['workers x share', 'train loss', 'train accuracy', 'test accuracy'])

# %% [markdown]
# **Try it.** Take a rate of 0.1. Are the losses as far apart?
#
# ## 2. Shared statistics
#
# From the count $n_i$, mean $\mu_i$ and variance $\sigma_i^2$ of each share, every worker can compute those of the
# whole minibatch of $n$:
#
# $$\mu = \frac 1n \sum_i n_i \mu_i, \qquad \sigma^2 = \frac 1n \sum_i n_i \left(\sigma_i^2 + (\mu_i - \mu)^2\right)$$
#
# The second term is due to the distances between the shares' means; without it, the variance would be too small. The
# worked example of notebook 01 has means (4, 4) and variances (5, 4). One worker gets its first row, another the other
# three:

# %%
X = nd.array([[1, 2], [3, 2], [5, 6], [7, 6]]).asnumpy()
shares = [(len(share), *share.mean(axis=0), *share.var(axis=0)) for share in (X[:1], X[1:])]
n, mean, var = merge_statistics(nd.array(shares).asnumpy().astype('float64'))
print(n, mean.round(5), var.round(5))
assert abs(mean - (4, 4)).max() < 1e-5 and abs(var - (5, 4)).max() < 1e-5

# %% [markdown]
# So each layer needs one exchange in the forward pass. It needs another in the backward pass: $\mu$ and $\sigma^2$ depend
# on the examples of all workers, so their gradients must be summed over the workers before they flow back into each share.
# This is what `sync_batch_norm` does, one more function for the layer. On several machines, the same numbers
# [go through MXNet's parameter server](../docs/several_machines.md). Here are ten steps at a rate of 0.3:

# %%
minibatches = [pair for pair, _ in zip(train_iter, range(10))]  # threads must not shuffle
def ten_steps(workers, norm):
    seed_everything(0)
    nets = [lenet(norm) for _ in range(workers)]
    for net in nets:  # train gives the others the weights of the first
        net.initialize(init.Xavier())
        net(minibatches[0][0][:1])
    Threads.run(workers, lambda worker: train(nets[worker.rank], minibatches, test_iter, 1, 0.3, initialize=False,
                                              plot=False, progress=False))
    return [parameter.data().asnumpy() for parameter in nets[0].collect_params().values()]


# %% [markdown]
# **Predict** how far the weights of 2 and of 4 workers are from those of one worker, when each share has its own
# statistics and when the workers share them.

# %% tags=["hide-output"]
one = ten_steps(1, 'fused')
apart = {(norm, workers): max(abs(a - b).max() for a, b in zip(one, ten_steps(workers, norm)))
         for norm in ('fused', 'sync') for workers in (2, 4)}
figures.table([(name, apart[norm, 2], apart[norm, 4]) for name, norm in
               (('statistics of each share', 'fused'), ('shared statistics', 'sync'))],
              ['largest difference of a weight', '2 workers', '4 workers'])

# %% [markdown]
# <details><summary>Answer</summary>
#
# With shared statistics, the weights are those of one worker up to rounding errors, which grow with each step. With
# statistics of each share, the weights are at least dozens of times as far away: this is a different training.
#
# </details>
#
# **Check**:

# %% tags=["hide-input"]
assert 24 * max(apart['sync', 2], apart['sync', 4]) < min(apart['fused', 2], apart['fused', 4])

# %% [markdown]
# **Try it.** Give the shares different sizes: take minibatches of 250 and 4 workers. Is the result still that of one
# worker?
#
# ## What we saw, and what we did not show
#
# - If each worker normalizes by its own share, small shares train worse: in these 32 steps, shares of 32 examples or
#   fewer.
# - The count, mean and variance of each share give the statistics of the whole minibatch. With one exchange forward and
#   one backward per layer, several workers train as one does, up to rounding.
#
# We did not show how much time the exchanges cost: that depends on the network, and on how much there is to compute
# between them. The page on [several machines](../docs/several_machines.md) measures it. We trained briefly, with one net
# and one rate.
