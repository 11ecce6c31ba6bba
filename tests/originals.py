"""Right implementations in three styles, and wrong expressions for their parts."""

# "#: mean" marks a line that computes the mean; code inside a square root belongs to the denominator
CHAPTER = """
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    axes = (0,) if X.ndim == 2 else (0, 2, 3) #: axes
    if not autograd.is_training(): #: mode
        X_hat = (X - moving_mean) / nd.sqrt(moving_var + eps) #: X_hat in prediction
        Y = gamma * X_hat + beta #: scale and shift in prediction
        return Y, moving_mean, moving_var #: returned in prediction
    mean = X.mean(axis=axes, keepdims=True) #: mean
    var = ((X - mean) ** 2).mean(axis=axes, keepdims=True) #: variance
    X_hat = (X - mean) / nd.sqrt(var + eps) #: X_hat
    Y = gamma * X_hat + beta #: scale and shift
    with autograd.pause():
        new_mean = momentum * moving_mean + (1 - momentum) * mean #: moving mean
        new_var = momentum * moving_var + (1 - momentum) * var #: moving variance
    return Y, new_mean, new_var #: returned
"""
D2L = """
def batch_norm(X, gamma, beta, moving_mean, moving_var, eps, momentum):
    if not autograd.is_training(): #: mode
        X_hat = (X - moving_mean) / nd.sqrt(moving_var + eps) #: X_hat in prediction
    else:
        if len(X.shape) == 2: #: axes
            mean = X.mean(axis=0) #: mean
            var = ((X - mean) ** 2).mean(axis=0) #: variance
        else:
            mean = X.mean(axis=(0, 2, 3), keepdims=True) #: mean
            var = ((X - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True) #: variance
        X_hat = (X - mean) / nd.sqrt(var + eps) #: X_hat
        moving_mean = momentum * moving_mean + (1.0 - momentum) * mean #: moving mean
        moving_var = momentum * moving_var + (1.0 - momentum) * var #: moving variance
    Y = gamma * X_hat + beta #: scale and shift
    return Y, moving_mean, moving_var #: returned
"""
OWN = """
def batch_norm(x, g, b, avg, spread, eps, mom):
    over = (0,) if x.ndim == 2 else (0, 2, 3) #: axes
    if autograd.is_training(): #: mode
        N = x.size / x.shape[1] #: count
        mu = x.sum(axis=over, keepdims=True) / N #: mean
        off = x - mu #: X_hat
        v = (nd.square(x - mu)).sum(axis=over, keepdims=True) / N #: variance
        with autograd.pause():
            new_avg = avg * mom #: moving mean
            new_avg += mu * (1 - mom) #: moving mean
            new_spread = spread.copy() #: moving variance
            new_spread *= mom #: moving variance
            new_spread += v * (1 - mom) #: moving variance
    else:
        off = x - avg #: X_hat in prediction
        v = spread #: denominator in prediction
        new_avg, new_spread = avg, spread #: returned in prediction
    root = (v + eps) ** 0.5 #: denominator
    z = off / root #: X_hat
    out = z * g #: scale and shift
    out = out + b #: scale and shift
    return out, new_avg, new_spread #: returned
"""
LAYER = """
class BatchNorm(nn.Block):
    def __init__(self, num_features, num_dims, **kwargs):
        super().__init__(**kwargs)
        shape = (1, num_features) + (1, 1) * (num_dims == 4)
        self.gamma = self.params.get('gamma', shape=shape, init='ones') #: start
        self.beta = self.params.get('beta', shape=shape, init='zeros') #: start
        self.moving_mean, self.moving_var = nd.zeros(shape), nd.ones(shape) #: start

    def forward(self, X):
        mean, var = self.moving_mean.as_in_context(X.context), self.moving_var.as_in_context(X.context)
        eps, momentum = 1e-5, 0.9 #: constants
        gamma, beta = self.gamma.data(), self.beta.data()
        Y, mean, var = batch_norm(X, gamma, beta, mean, var, eps, momentum) #: call
        self.moving_mean, self.moving_var = mean, var
        return Y
"""
CHAPTER_BACKWARD = """
def backward(dY, X, gamma, eps):
    axes = (0,) if X.ndim == 2 else (0, 2, 3) #: axes
    m = X.size / X.shape[1] #: count
    mean = X.mean(axis=axes, keepdims=True) #: mean
    var = ((X - mean) ** 2).mean(axis=axes, keepdims=True) #: variance
    std = nd.sqrt(var + eps) #: denominator
    X_hat = (X - mean) / std #: X_hat
    dgamma = (dY * X_hat).sum(axis=axes, keepdims=True) #: dgamma
    dbeta = dY.sum(axis=axes, keepdims=True) #: dbeta
    scale = gamma / std #: the scale of dX
    through_mean = dbeta / m #: the term through the mean
    through_var = X_hat * dgamma / m #: the term through the variance
    dX = scale * (dY - through_mean - through_var) #: dX
    return dX, dgamma, dbeta #: returned
"""
D2L_BACKWARD = """
def backward(dY, X, gamma, eps):
    if len(X.shape) == 2: #: axes
        axes = 0 #: axes
        m = X.shape[0] #: count
    else:
        axes = (0, 2, 3) #: axes
        m = X.shape[0] * X.shape[2] * X.shape[3] #: count
    mean = X.mean(axis=axes, keepdims=True) #: mean
    var = ((X - mean) ** 2).mean(axis=axes, keepdims=True) #: variance
    std = nd.sqrt(var + eps) #: denominator
    X_hat = (X - mean) / std #: X_hat
    dX_hat = dY * gamma #: the scale of dX
    through_mean = dX_hat.sum(axis=axes, keepdims=True) #: the term through the mean
    through_var = X_hat * (dX_hat * X_hat).sum(axis=axes, keepdims=True) #: the term through the variance
    dX = (m * dX_hat - through_mean - through_var) / (m * std) #: dX
    dgamma = (dY * X_hat).sum(axis=axes, keepdims=True) #: dgamma
    dbeta = dY.sum(axis=axes, keepdims=True) #: dbeta
    return dX, dgamma, dbeta #: returned
"""
OWN_BACKWARD = """
def backward(up, x, g, eps):
    over = (0,) if x.ndim == 2 else (0, 2, 3) #: axes
    N = x.size / x.shape[1] #: count
    mu = x.sum(axis=over, keepdims=True) / N #: mean
    off = x - mu #: X_hat
    v = (nd.square(x - mu)).sum(axis=over, keepdims=True) / N #: variance
    inv = (v + eps) ** -0.5 #: denominator
    z = off * inv #: dgamma
    db = up.sum(axis=over, keepdims=True) #: dbeta
    dg = (up * z).sum(axis=over, keepdims=True) #: dgamma
    out = up * g #: the scale of dX
    dv = (out * off).sum(axis=over, keepdims=True) * -0.5 * inv ** 3 #: the term through the variance
    dmu = -out.sum(axis=over, keepdims=True) * inv #: the term through the mean
    out *= inv #: the scale of dX
    out += dv * 2 * off / N #: the term through the variance
    out += dmu / N #: the term through the mean
    return out, dg, db #: returned
"""
SOURCES = {
    ("function", "chapter"): CHAPTER,
    ("function", "d2l"): D2L,
    ("function", "own"): OWN,
    ("layer", "chapter"): CHAPTER + LAYER,
    ("layer", "d2l"): D2L + LAYER,
    ("layer", "own"): OWN + LAYER,
    ("backward", "chapter"): CHAPTER_BACKWARD,
    ("backward", "d2l"): D2L_BACKWARD,
    ("backward", "own"): OWN_BACKWARD,
}

# Wrong expressions for a quantity. {k}: the arguments of the reduction; {n}: the count.
INSTEAD = {
    "mean": [
        "({X}.max({k}) + {X}.min({k})) / 2",
        "{X}.sum({k})",
        "{X}.sum({k}) / ({n} - 1)",
        "{X}.sum({k}) / {X}.shape[0]",
        "nd.abs({X}).mean({k})",
        "nd.sqrt(({X} ** 2).mean({k}))",
        "{X}.max({k})",
        "nd.round({X}.mean({k}))",
    ],
    "median": ["nd.array(numpy.median({X}.asnumpy(), {k}))"],
    "variance": [
        "{X}.max({k}) - {X}.min({k})",
        "nd.abs({X} - {mean}).mean({k})",
        "nd.abs({X} - {mean}).max({k})",
        "({X} ** 2).mean({k})",
        "({X} ** 2).mean({k}) - {mean}",
        "({X} ** 2).mean({k}) + {mean} ** 2",
        "(({X} - {mean}) ** 2).sum({k})",
        "(({X} - {mean}) ** 2).sum({k}) / ({n} - 1)",
        "(({X} - {mean}) ** 2).sum({k}) / ({n} - 2)",
        "(({X} - {mean}) ** 2).sum({k}) / {X}.shape[0]",
        "nd.sqrt((({X} - {mean}) ** 2).mean({k}))",
        "(({X} - {mean}) ** 4).mean({k})",
        "({X} - {mean}).mean({k}) ** 2",
    ],
    "denominator": [
        "nd.sqrt({var}) + {eps}",
        "nd.sqrt({var}) + {eps} ** 0.5",
        "nd.sqrt({var} + {eps} ** 2)",
        "nd.sqrt({var} ** 2 + {eps} ** 2)",
        "nd.sqrt({var} + {eps} ** 0.5)",
        "nd.sqrt({var} + 2 * {eps})",
        "nd.sqrt({var} + {eps} + {eps})",
        "nd.sqrt({var} + {eps}) + {eps}",
        "nd.maximum(nd.sqrt({var}), {eps})",
        "nd.sqrt(nd.maximum({var}, {eps}))",
        "({var} + {eps}) ** 2",
        "nd.cbrt({var} + {eps})",
        "nd.sqrt({var} * {eps})",
        "{var} ** 2 + {eps}",
        "nd.sqrt({var} + 1e-3)",
        "1 + nd.sqrt({var} + {eps})",
    ],
    "scale and shift": [
        "({gamma} + 1) * {X_hat} + {beta}",
        "{gamma} * ({X_hat} + {beta})",
        "{gamma} ** 2 * {X_hat} + {beta}",
        "nd.sqrt({gamma}) * {X_hat} + {beta}",
        "{gamma} * {X_hat} + {beta} ** 2",
        "{gamma} * {X_hat}",
        "{X_hat} + {beta}",
        "nd.relu({gamma} * {X_hat} + {beta})",
        "{gamma} * nd.abs({X_hat}) + {beta}",
        "nd.exp({gamma}) * {X_hat} + {beta}",
        "{gamma} * {X_hat} + {beta} + {eps}",
        "{gamma} * nd.clip({X_hat}, -1, 1) + {beta}",
    ],
    "moving": [
        "0.9 * {old} + 0.1 * {batch}",
        "0.5 * {old} + 0.5 * {batch}",
        "{old} + (1 - {momentum}) * {batch}",
        "{old} - (1 - {momentum}) * ({batch} - {old})",
        "{momentum} * {batch} + (1 - {momentum}) * {old}",
        "{momentum} * ({old} + {batch})",
        "{momentum} ** 2 * {old} + (1 - {momentum} ** 2) * {batch}",
        "{momentum} * {old} + {batch}",
        "{momentum} * {old}",
        "(1 - {momentum}) * {batch}",
        "{batch}",
        "{old}",
        "nd.maximum({old}, {batch})",
        "{momentum} * {old} + (1 - {momentum}) * {batch} ** 2",
        "{momentum} * {old} + (1 - {momentum}) * nd.sqrt(nd.abs({batch}))",
        "{momentum} * {old} + (1 - {momentum}) * {batch} * {n} / ({n} - 1)",
    ],
    "dgamma": [
        "({dY} * {X}).sum({k})",
        "({dY} * ({X} - {mean})).sum({k})",
        "({dY} * {X_hat}).sum({k}) / {n}",
        "({dY} * {X_hat} ** 2).sum({k})",
        "{gamma} * ({dY} * {X_hat}).sum({k})",
        "(nd.abs({dY}) * {X_hat}).sum({k})",
    ],
    "dbeta": ["{dY}.sum({k}) / {n}", "{gamma} * {dY}.sum({k})", "nd.abs({dY}).sum({k})", "{dY}.max({k})"],
}
_BOOK = {name: name for name in ("X", "mean", "var", "eps", "gamma", "beta", "momentum", "X_hat", "dY")}
NAMES = {
    "chapter": _BOOK,
    "d2l": _BOOK,
    "own": dict(X="x", mean="mu", var="v", eps="eps", gamma="g", beta="b", momentum="mom", X_hat="z", dY="up"),
}
