"""Slips in a backward pass by hand, each written as the formula that comes of it."""
from __future__ import annotations

import itertools
from typing import List, Tuple

from .formulas import Formula, sqrt, total, variable
from .slips import X, eps, gamma, m, mean, n, var

dY, X_hat, dgamma, dbeta = map(variable, ('dY', 'X_hat', 'dgamma', 'dbeta'))
NONE = Formula('0', lambda values: 0)

# what may stand in the place of the right terms, which are the first
SCALES = [gamma / sqrt(var + eps), 1 / sqrt(var + eps), gamma, gamma * sqrt(var + eps), gamma / (var + eps),
          gamma ** 2 / sqrt(var + eps)]
THROUGH_MEAN = [dbeta / m, NONE, X_hat * dbeta / m, dgamma / m, X_hat * dgamma / m, gamma * dbeta / m, dY / m,
                mean * dbeta / m]
THROUGH_VARIANCE = [X_hat * dgamma / m, NONE, dgamma / m, X * dgamma / m, (X - mean) * dgamma / m,
                    X_hat ** 2 * dgamma / m, X_hat * dbeta / m, dbeta / m, dY * dgamma / m, X_hat / m,
                    X_hat * total(dY * X) / m, X_hat * total(dY * (X - mean)) / m, X_hat * total(X_hat) / m,
                    (X - mean) * dgamma / (var + eps) / m, gamma * X_hat * dgamma / m, X_hat * dgamma / m ** 2,
                    X_hat * dgamma * 2 / m, X_hat * dgamma / (m * 2)]
NAMES = ('WrongGradientScale', 'WrongGradientThroughMean', 'WrongGradientThroughVariance')
# of two terms at once
WHOLE = [(gamma * dY - dbeta / m - X_hat * dgamma / m) / sqrt(var + eps),
         gamma / sqrt(var + eps) * dY - dbeta / m - X_hat * dgamma / m,
         gamma * dY - (dbeta / m + X_hat * dgamma / m) / sqrt(var + eps)]
PARAMETERS = {
    'dgamma': [total(dY * X), total(dY * (X - mean)), total(dY * X_hat) / m, total(dY * X_hat) / n,
               gamma * total(dY * X_hat), total(X_hat), total(dY), total(X), total(dY) * total(X_hat),
               total(dY * (X - mean) / (var + eps)), -total(dY * X_hat), total(dY * X_hat) / gamma],
    'dbeta': [total(dY) / m, total(dY) / n, gamma * total(dY), total(dY * X_hat), -total(dY), m,
              total(dY) / sqrt(var + eps), total(dY) / gamma],
}


def dX_formulas() -> List[Tuple[List[str], Formula]]:
    """Pairs of the names of what is wrong and the formula that comes of it, from the fewest names to the most."""
    made: List[Tuple[List[str], Formula]] = []
    means, variances = ([*((term, '-') for term in terms), (terms[0], '+')]
                        for terms in (THROUGH_MEAN, THROUGH_VARIANCE))
    for scale, mean_term, variance_term in itertools.product(SCALES, means, variances):
        wrong = scale != SCALES[0], mean_term != means[0], variance_term != variances[0]
        names = list(itertools.compress(NAMES, wrong))
        inner = dY
        for term, sign in (mean_term, variance_term):
            if term is not NONE:
                inner = inner - term if sign == '-' else inner + term
        made.append((names, scale * inner))
    made += [(list(NAMES[1:]), formula) for formula in WHOLE]
    return sorted((pair for pair in made if pair[0]), key=lambda pair: len(pair[0]))
