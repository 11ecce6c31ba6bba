"""Hundreds of wrong implementations: right ones in three styles of writing, each with one node of its code changed.

The place of each mistake is known from its making: the quantity that the changed line computes.
"""

import ast
import collections
import copy
import functools
import random
import sys

import mxnet as mx
import numpy
from mxnet import autograd, nd
from mxnet.gluon import nn

from gluon_bn import check

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
        self.gamma = self.params.get('gamma', shape=shape, init='ones')
        self.beta = self.params.get('beta', shape=shape, init='zeros')
        self.moving_mean, self.moving_var = nd.zeros(shape), nd.ones(shape)

    def forward(self, X):
        mean, var = self.moving_mean.as_in_context(X.context), self.moving_var.as_in_context(X.context)
        Y, self.moving_mean, self.moving_var = batch_norm(
            X, self.gamma.data(), self.beta.data(), mean, var, 1e-5, 0.9)
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
OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.Div]
TERMS = {"scale of dX", "term through the mean", "term through the variance", "count in dX", "dX"}
AVERAGES = {"moving mean", "moving variance"}
# What a check may say about a mistake in each place. A doubled X_hat looks like a doubled gamma: `scaled X_hat`.
LOCALIZED = {
    "axes": {"mean", "variance", "dgamma", "dbeta"},
    "count": {"mean", "variance", *TERMS},
    "returned": {"scale and shift", "mode", "dgamma", "dbeta", *TERMS, *AVERAGES},
    "denominator": {"denominator", "scaled X_hat"},
    "X_hat": {"X_hat", "scaled X_hat"},
    "scale and shift": {"scale and shift", "scaled X_hat"},
    "the scale of dX": {"scale of dX"},
    "the term through the mean": {"term through the mean", "count in dX"},
    "the term through the variance": {"term through the variance", "count in dX"},
    "dX": TERMS,
}
# later quantities that are wrong because of it: not invented, but not the first wrong quantity either
FURTHER = {
    "mean": {"variance", "denominator", "X_hat", "scaled X_hat", "dgamma", *AVERAGES, *TERMS},
    "variance": {"denominator", "X_hat", "scaled X_hat", "moving variance", "dgamma", *TERMS},
    "denominator": {"X_hat", "dgamma", *TERMS},
    "X_hat": {"dgamma", *TERMS},
    "dgamma": {"dX", "term through the variance"},
    "dbeta": {"dX", "term through the mean"},
    "the scale of dX": TERMS,
    "the term through the mean": {"dX"},
    "the term through the variance": {"dX"},
}
FURTHER["count"] = FURTHER["axes"] = FURTHER["mean"]


def _names(function):
    """The names that a line of the function may confuse: arguments and names assigned before."""
    first = {argument.arg: 0 for argument in function.args.args}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            first.setdefault(node.id, node.lineno)
    return first


def _changed(node, names, line):
    """The changes of one node: (what was done, the new node)."""
    new = functools.partial(copy.deepcopy, node)
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        for operator in OPERATORS:
            if not isinstance(node.op, operator) and not isinstance(node.op, ast.Pow):
                made = new()
                made.op = operator()
                yield "operator", made
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, (ast.Sub, ast.Div)):
            yield "exchanged", ast.BinOp(copy.deepcopy(node.right), node.op, copy.deepcopy(node.left))
        yield "dropped", copy.deepcopy(node.left)
        if not isinstance(node.op, ast.Pow):
            yield "dropped", copy.deepcopy(node.right)
            for side in ("left", "right"):
                made = new()
                setattr(made, side, ast.BinOp(ast.Constant(2), ast.Mult(), getattr(made, side)))
                yield "doubled", made
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in {node.value + 1, node.value * 2, -node.value} - {node.value}:
            yield "constant", ast.Constant(value)
    if isinstance(node, ast.Tuple) and all(isinstance(item, ast.Constant) for item in node.elts) and len(node.elts) > 1:
        for i in range(len(node.elts)):
            yield "axis", ast.Tuple(node.elts[:i] + node.elts[i + 1 :], ast.Load())
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for name, start in names.items():
            if name != node.id and start < line:
                yield "operand", ast.Name(name, ast.Load())
        yield "detached", ast.Call(ast.Attribute(copy.deepcopy(node), "detach", ast.Load()), [], [])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("mean", "sum", "is_training"):
            made = new()
            made.func.attr = {"mean": "sum", "sum": "mean", "is_training": "is_recording"}[node.func.attr]
            yield "call", made
        if node.func.attr in ("sqrt", "square"):
            yield "dropped", copy.deepcopy(node.args[0])
            made = new()
            made.func.attr = "abs"
            yield "call", made
    if isinstance(node, ast.UnaryOp):
        yield "dropped", copy.deepcopy(node.operand)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        made = new()
        made.value.elts[1:] = made.value.elts[:0:-1]
        yield "exchanged", made


def _inside(tree, wanted):
    return wanted is tree or any(wanted is node for node in ast.walk(tree))


def _place(marked, statement, node):
    """The quantity that a node belongs to; for dX, the term."""
    for outer in ast.walk(statement):
        root = isinstance(outer, ast.Call) and getattr(outer.func, "attr", "") == "sqrt"
        divisor = isinstance(outer, ast.BinOp) and isinstance(outer.op, ast.Div) and _inside(outer.right, node)
        if (root or divisor) and _inside(outer, node) and "X_hat" in marked:
            return marked.replace("X_hat", "denominator")
    return marked


def mutants(kind, style):
    """All (what was done, its place, source) for a style of writing, including equal ones."""
    source = SOURCES[kind, style]
    places = {number: line.split("#: ")[1] for number, line in enumerate(source.splitlines(), 1) if "#: " in line}
    tree = ast.parse(source)
    function = tree.body[0]
    names = _names(function)
    for node in ast.walk(function):
        line = getattr(node, "lineno", 0)
        if line not in places or isinstance(node, (ast.FunctionDef, ast.With, ast.If, ast.arguments, ast.arg)):
            continue
        statement = next(s for s in reversed(list(ast.walk(function))) if isinstance(s, ast.stmt) and _inside(s, node))
        place = _place(places[line], statement, node)
        for what, new in _changed(node, names, line):
            if what == "operand" and place.startswith("moving") and ast.unparse(new) in ("x", "off"):
                continue  # MXNet writes a larger array into a smaller one, and crashes
            if what == "detached" and (kind == "backward" or not places[line].startswith(("X_hat", "variance"))):
                continue
            mutated = _Replace(node, new).visit(copy.deepcopy(_marked(tree, node)))
            yield what, ("gradient" if what == "detached" else place), ast.unparse(ast.fix_missing_locations(mutated))


def _marked(tree, node):
    for other in ast.walk(tree):
        other.__dict__.pop("target_node", None)
    node.target_node = True
    return tree


class _Replace(ast.NodeTransformer):
    def __init__(self, node, new):
        self.new = new

    def visit(self, node):
        if node.__dict__.get("target_node"):
            return ast.copy_location(copy.deepcopy(self.new), node)
        return super().generic_visit(node)


def build(kind, source):
    names = {"nd": nd, "autograd": autograd, "nn": nn, "mx": mx}
    exec(compile(source, "mutant", "exec"), names)
    return names[{"function": "batch_norm", "layer": "BatchNorm", "backward": "backward"}[kind]]


def outcome(kind, code):
    """All results on this module's own inputs, as one vector."""
    random_state = numpy.random.RandomState(5)
    values = []
    for shape, scale in (((5, 3), 1), ((5, 3), 2e-3), ((2, 3, 2, 3), 1)):
        one = (1, 3) + (1,) * (len(shape) - 2)
        X, dY = (nd.array(random_state.randn(*shape) * scale + 0.3 * scale), nd.array(random_state.randn(*shape)))
        gamma, beta, mean, var = (nd.array(random_state.uniform(0.5, 2, one)) for _ in range(4))
        mean, var = mean * scale, var * scale**2
        if kind == "backward":
            for eps in (1e-5, 0.5):
                values += code(dY, X, gamma, eps)
            continue
        for mode in ("training", "prediction", "recording", "unrecorded"):
            for eps, momentum in ((1e-5, 0.9), (0.5, 0.7)) if kind == "function" else ((0, 0),):
                if kind == "layer":
                    net = code(3, X.ndim)
                    net.initialize()
                    net.gamma.set_data(gamma), net.beta.set_data(beta)
                    net.moving_mean, net.moving_var = mean, var
                for array in (X, gamma, beta):
                    array.attach_grad()
                train = mode in ("training", "unrecorded")
                modes = [autograd.train_mode() if train else autograd.predict_mode()]
                with modes[0]:
                    with (
                        autograd.record(train_mode=train) if mode != "unrecorded" and mode != "prediction" else modes[0]
                    ):
                        if kind == "layer":
                            out = net(X), net.moving_mean, net.moving_var
                        else:
                            out = code(X, gamma, beta, mean, var, eps, momentum)
                if mode == "training":
                    out[0].backward(dY)
                    values.append(X.grad / scale)
                values += [out[0], out[1] / scale, out[2] / scale**2]
    return [value.asnumpy() for value in values]


def differs(kind, code, right):
    """Whether the code runs and gives arrays of the right shapes, whose numbers differ by more than rounding."""
    try:
        found = outcome(kind, code)
        sizes = [a.size != b.size for a, b in zip(found, right)]
    except Exception:  # Python itself reports this mistake
        return False
    if any(sizes) or not all(numpy.isfinite(a).all() for a in found):
        return not any(sizes) and any(not numpy.isfinite(a).all() for a in found)
    return max(abs(a.ravel() - b.ravel()).max() / (1 + abs(b).max()) for a, b in zip(found, right)) > 5e-3


@functools.lru_cache(maxsize=None)
def mistakes(kind, style, count, seed=0):
    """So many different mistakes, from all places in turn: (what was done, place, source)."""
    right = outcome(kind, build(kind, ast.unparse(ast.parse(SOURCES[kind, style]))))
    made = sorted(set(mutants(kind, style)))
    random.Random(seed).shuffle(made)
    turn = collections.Counter()
    ranked = []
    for one in made:
        turn[one[1]] += 1
        ranked.append((turn[one[1]], len(ranked), one))
    found = {}
    for _, _, (what, place, source) in sorted(ranked):
        if len(found) == count:
            break
        if source not in found and differs(kind, build(kind, source), right):
            found[source] = what, place, source
    return list(found.values())


def pairs(kind, style, count, seed=0):
    """Implementations with two mistakes in different lines: (what was done, both places, source)."""
    original = ast.unparse(ast.parse(SOURCES[kind, style])).splitlines()
    right = outcome(kind, build(kind, "\n".join(original)))
    made = mistakes(kind, style, 4 * count, seed)
    found = []
    for (what, place, one), (_, other_place, other) in zip(made, made[2 * count :]):
        both = list(original)
        for source in (one, other):
            if len(source.splitlines()) == len(original):
                both = [new if new != old else so_far for so_far, old, new in zip(both, original, source.splitlines())]
        if place != other_place and differs(kind, build(kind, "\n".join(both)), right):
            found.append((what, (place, other_place), "\n".join(both)))
    return found[:count]


def judged(kind, places, source):
    """(localized, explained, invented) by the check of a wrong implementation; places: of its one or two mistakes."""
    code = build(kind, source)
    checks = {"function": check.batch_norm, "layer": check.layer, "backward": check.gradient}
    told = checks[kind](code, seconds=60).places
    first, allowed = [], []
    for true in places:
        quantity = true.replace(" in prediction", "")
        there = [one for one in told if "in prediction" not in true or one.mode == "prediction"]
        hits = [one for one in there if one.quantity in LOCALIZED.get(quantity, {quantity})]
        first += hits
        allowed += hits + [one for one in there if one.quantity in FURTHER.get(quantity, ())]
    return bool(first), any(one.equals for one in first), [str(one) for one in told if one not in allowed]


def table(count, number_of_pairs, say=print):
    """Print the table, and return the sums (made, localized, explained, invented) for one mistake and for two."""
    sums = []
    for make, number in ((mistakes, count), (pairs, number_of_pairs)):
        say(f"{'kind':10} {'style':8} {'made':>5} localized explained invented")
        results = []
        for kind, style in SOURCES:
            found = []
            for what, place, source in make(kind, style, number):
                places = (place,) if isinstance(place, str) else place
                localized, explained, invented = judged(kind, places, source)
                found.append((1, localized, explained, bool(invented)))
                if not localized or invented:
                    original = ast.unparse(ast.parse(SOURCES[kind, style])).splitlines()
                    changed = [line.strip() for line in source.splitlines() if line not in original]
                    say(f"    {what} in {' and '.join(places)}: {' | '.join(changed)}: told {invented or 'elsewhere'}")
            if not found:
                continue
            results += found
            say("{:10} {:8} {:5} {:9} {:9} {:8}".format(kind, style, *map(sum, zip(*found))))
        if not results:
            continue
        sums.append(tuple(map(sum, zip(*results))))
        say("{:19} {:5} {:9} {:9} {:8}".format("all", *sums[-1]))
    return sums


if __name__ == "__main__":
    table(*map(int, sys.argv[1:] or (48, 12)), say=functools.partial(print, flush=True))
