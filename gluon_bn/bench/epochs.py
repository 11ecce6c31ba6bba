"""What an epoch of LeNet costs: in this package's loop, in PyTorch, and in the book's own loop."""
from __future__ import annotations

import time

from .rounds import PAUSE, summary

NUM_TRAIN, BATCH_SIZE, LR = 60_000, 256, 1.0
FEWEST = 10 * BATCH_SIZE
BUDGET, FEWEST_ROUNDS = 300, 3  # seconds after which no further round begins, but after three
# The share of an epoch that the slow ones train, in every second round.
SHARES = {'scratch': 0.1, 'd2l scratch': 0.1, 'd2l gluon': 0.5}


def measure_epochs(sides, threads, columns, rounds, share, root=None, say=print):
    """(b): seconds of training and of the test that follows, for a full epoch, by column.

    columns: 'none' and norms, 'torch', and 'd2l ' before the name of a norm for the book's loop.
    share: of an epoch to train in each turn; the slow ones train `SHARES` of that.
    """
    for side in {id(sides[name]): sides[name] for name in columns}.values():
        side.call('load_data', root, BATCH_SIZE, threads)
    turns, start = {name: [] for name in columns}, time.perf_counter()
    for i in range(-1, rounds):  # the first round warms up: ten batches each
        if i >= FEWEST_ROUNDS and time.perf_counter() - start > BUDGET:
            break
        say('epochs, warming up' if i < 0 else f'epochs, round {i + 1} of {rounds}')
        for name in columns:
            num_train = FEWEST if i < 0 else max(FEWEST, round(NUM_TRAIN * share * SHARES.get(name, 1)))
            if name in SHARES and i % 2 and i >= 0:
                turns[name].append(None)
                continue
            time.sleep(PAUSE)
            turn = sides[name].call('time_epoch', name.replace('d2l ', ''), num_train, LR)
            turn['train'] *= NUM_TRAIN / num_train
            if i >= 0:
                turns[name].append(turn)
    return {name: _entry(turns[name], max(FEWEST / NUM_TRAIN, share * SHARES.get(name, 1))) for name in columns}


def _entry(turns, share):
    def values(key):
        return summary([turn and turn[key] for turn in turns])
    last = next(turn for turn in reversed(turns) if turn)
    return {'share': share, 'train': values('train'), 'test': values('test'),
            **{key: last[key] for key in ('loss', 'train_acc', 'test_acc')}}
