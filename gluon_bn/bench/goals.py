"""What the measured figures come to: each ratio that matters, with its limit, from one result."""
from __future__ import annotations

from .rounds import ratio

LARGE = (256, 6, 24, 24), (64, 64, 56, 56)
SMALL = (256, 16, 8, 8), (32, 256, 14, 14)
DENSE = (256, 120), (256, 84)
# (largest share of Gluon's time, of PyTorch's) for the native path, forward + backward
LAYER_LIMITS: dict = {**dict.fromkeys(LARGE, (0.3, 0.5)), **dict.fromkeys(SMALL, (0.5, 1.0)),
                **dict.fromkeys(DENSE, (0.7, 2.0))}
NAMES = {'gluon': 'Gluon', 'torch': 'PyTorch'}


def check(result):
    """Every goal that the result has figures for: a list of dicts (goal, value, sense, limit, met)."""
    found = []

    def goal(text, value, sense, limit):
        met = value <= limit if sense == '<=' else value >= limit
        found.append({'goal': text, 'value': value, 'sense': sense, 'limit': limit, 'met': bool(met)})

    def quotient(text, entry, a, b, sense, limit):
        if a in entry and b in entry:
            goal(text, ratio(entry[a], entry[b]), sense, limit)

    for entry in result.get('layers', ()):
        shape, both = tuple(entry['shape']), entry['both']
        if shape in LAYER_LIMITS:
            for other, limit in zip(('gluon', 'torch'), LAYER_LIMITS[shape]):
                quotient(f'layer {shape}: native / {NAMES[other]}', both, 'native', other, '<=', limit)
        if shape == LARGE[0]:
            quotient(f'layer {shape}: batch_norm / native', both, 'scratch', 'native', '>=', 150)
            quotient(f'layer {shape}: batch_norm / portable', both, 'scratch', 'portable', '>=', 10)
        if shape == LARGE[1] and 'native' in both:
            goal(f'layer {shape}: native / memory floor', both['native']['floors'], '<=', 3)

    train = {name: entry['train'] for name, entry in result.get('epochs', {}).items()}
    quotient('epoch: native / Gluon', train, 'native', 'gluon', '<=', 0.9)
    quotient('epoch: native / PyTorch', train, 'native', 'torch', '<=', 1.1)
    quotient('epoch: native / no normalization', train, 'native', 'none', '<=', 1.15)
    quotient("epoch: batch_norm in d2l's loop / native in ours", train, 'd2l scratch', 'native', '>=', 15)
    quotient("epoch: Gluon in d2l's loop / Gluon in ours", train, 'd2l gluon', 'gluon', '>=', 1.5)

    errors = [(entry['mean'], entry['errors']) for entry in result.get('accuracy', ()) if 'native' in entry['errors']]
    if errors and 'torch' in errors[0][1]:
        goal('error of Y: native / PyTorch, worst case',
             max(of['native']['Y'] / of['torch']['Y'] for _, of in errors), '<=', 2)
        goal('error of the gradients: native / PyTorch, worst case',
             max(of['native'][name] / of['torch'][name] for _, of in errors for name in ('dX', 'dgamma', 'dbeta')),
             '<=', 2)
    if errors:
        goal('error of Y at mean 10,000: Gluon / native, least case',
             min(of['gluon']['Y'] / of['native']['Y'] for mean, of in errors if mean == 1e4), '>=', 1000)

    each = [entry['both']['native']['median'] / entry['megabytes'] for entry in result.get('sizes', ())
            if entry['megabytes'] >= 1 and 'native' in entry['both']]
    if len(each) > 1:
        goal('time per element, 1 to 200 MB: highest / lowest, native', max(each) / min(each), '<=', 1.5)
    return found
