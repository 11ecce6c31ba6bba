"""Where the time goes: MXNet's profiler over minibatches of LeNet, and over one dense layer."""
from __future__ import annotations

from .epochs import BATCH_SIZE, LR

DENSE = (256, 84)
NUM_TRAIN = 30 * BATCH_SIZE
REPEAT = 200  # runs of the layer: enough that Python and the engine keep pace
# What a row of the table adds up, by the operator's name without `_backward_`; any other is 'other operators'.
KINDS = {'Convolution': 'convolutions', 'Pooling': 'pooling', 'Activation': 'sigmoids',
         'FullyConnected': 'dense layers', 'BatchNorm': 'normalization', 'gluon_bn_train': 'normalization',
         'gluon_bn_predict': 'normalization', 'Concat': 'normalization'}  # Concat: of gamma and beta
OTHER, BETWEEN = 'other operators', 'between operators'


def measure_profile(side, columns, root=None, quick=False, say=print):
    """{'minibatch': {column: {kind: seconds}}, 'layer': {column: {kind: seconds}}}, each with what lies between.

    side: MXNet's `Side`; columns: 'none' and norms. A minibatch is one of LeNet's training, a layer one of a
    stack, forward and backward.
    """
    say('profile')
    num_train, repeat = (NUM_TRAIN // 10, REPEAT // 10) if quick else (NUM_TRAIN, REPEAT)
    side.call('load_data', root, BATCH_SIZE, None)
    found = {'minibatch': {name: by_kind(side.call('profile_epoch', name, num_train, LR)) for name in columns}}
    side.call('prepare', DENSE, None)
    found['layer'] = {name: by_kind(side.call('profile_layer', name, repeat)) for name in columns if name != 'none'}
    return {**found, 'shape': list(DENSE)}


def by_kind(profile):
    """{kind: seconds} of a profile {'seconds': in all, 'operators': {name: seconds}}."""
    kinds = dict.fromkeys([*KINDS.values(), OTHER], 0.0)
    for name, seconds in profile['operators'].items():
        kinds[KINDS.get(name.replace('_backward_', ''), OTHER)] += seconds
    # The device works behind Python: what no operator has is what it waited for.
    return {**kinds, BETWEEN: max(0.0, profile['seconds'] - sum(kinds.values()))}
