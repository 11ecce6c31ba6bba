"""Hundreds of wrong implementations: right ones in three styles of writing, each with one node of its code changed.

The place of each mistake is known from its making: the quantity that the changed line computes.
"""

import ast
import collections
import contextlib
import copy
import functools
import random
import sys
from pathlib import Path
from unittest import mock

import block
import mxnet as mx
import numpy
from mxnet import autograd, nd
from mxnet.gluon import nn
from originals import INSTEAD, NAMES, SOURCES

from gluon_bn import check
from gluon_bn.check.result import Place

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
    # mistakes in a layer's bookkeeping, and writing to an input, have a name but belong to no quantity
    "start": {"WrongStart", "VarInitZero"},
    "shape": {"WrongShape"},
    "constants": {"denominator", *AVERAGES},
    "call": {"ExchangedArguments", "NeverUpdates", "WrongReturn", "WrongName", "mode", *AVERAGES},
    "input": {"MutatesInput", "WritesWhileRecording"},
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
FURTHER["mode"] = {"X_hat", "scaled X_hat", "denominator", "scale and shift", *AVERAGES}  # the other branch runs
FURTHER["count"] = FURTHER["axes"] = FURTHER["mean"]
FURTHER["call"] = FURTHER["input"] = {"mean", "variance", "scale and shift", "gradient", *FURTHER["mean"], "dbeta"}


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
        if node.func.attr in ("mean", "sum"):
            yield "cast", ast.parse(f"({ast.unparse(node)}).astype('float16').astype('float32')", mode="eval").body
        if node.func.attr in ("sqrt", "square"):
            yield "dropped", copy.deepcopy(node.args[0])
            made = new()
            made.func.attr = "abs"
            yield "call", made
        if node.func.attr == "is_training":
            yield "constant", ast.Constant(True)
            yield "constant", ast.Constant(False)
    if isinstance(node, ast.UnaryOp):
        yield "dropped", copy.deepcopy(node.operand)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        made = new()
        made.value.elts[1:] = made.value.elts[:0:-1]
        yield "exchanged", made


def _rewritten(node, place, kind, style):
    """The expressions in INSTEAD that may take the place of this node."""
    names = NAMES[style]
    names = {**names, "n": "({X}.size / {X}.shape[1])".format(**names)}
    if isinstance(node, ast.Assign):
        call = next((part for part in ast.walk(node.value) if getattr(part, "keywords", None)), None)
        if call is not None:
            names["k"] = ", ".join(map(ast.unparse, call.keywords))
        if place.startswith("moving"):
            old = place.replace(" ", "_").replace("variance", "var")
            names.update(old=old, batch=old.replace("moving_", ""))
        templates = INSTEAD["moving"] * (style != "own") if place.startswith("moving") else INSTEAD.get(place, [])
        if place == "denominator" or (place == "scale and shift" and style == "own"):
            return
        if call is None and not place.startswith(("moving", "scale")):
            return
        for template in templates + INSTEAD["median"] * (place == "mean" and kind == "backward"):
            yield ast.Assign(node.targets, ast.parse(template.format(**names), mode="eval").body, lineno=0)
    root = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "sqrt"
    power = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    inside = node.args[0] if root else node.left if power else None
    if isinstance(inside, ast.BinOp) and isinstance(inside.op, ast.Add):
        names.update(var=ast.unparse(inside.left), eps=ast.unparse(inside.right))
        inverse = power and isinstance(node.right, ast.UnaryOp)
        for template in INSTEAD["denominator"]:
            template = f"1 / ({template})" if inverse else f"({template})"
            yield ast.parse(template.format(**names), mode="eval").body


def _restated(node, arguments):
    """A step left out, done twice, or done in place on an argument."""
    if isinstance(node, ast.AugAssign):
        yield "dropped", ast.Pass()
        yield "doubled", [copy.deepcopy(node), copy.deepcopy(node)]
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.targets[0], ast.Name):
        left = node.value.left
        if isinstance(left, ast.Name) and left.id in arguments and not isinstance(node.value.op, ast.Pow):
            written = ast.AugAssign(ast.Name(left.id, ast.Store()), node.value.op, copy.deepcopy(node.value.right))
            yield "in place", [written, ast.Assign(node.targets, copy.deepcopy(left), lineno=0)]


def _in_the_layer(node, place):
    """Other initial values, constants, and arguments of the call in a layer."""
    other = {"ones": "zeros", "zeros": "ones"}
    if isinstance(node, ast.Name) and node.id == "shape" and isinstance(node.ctx, ast.Load):
        yield "shape", ast.parse("(1, 1)", mode="eval").body
    if isinstance(node, ast.Constant) and node.value in other:
        yield "constant", ast.Constant(other[node.value])
    if isinstance(node, ast.Attribute) and node.attr in other:
        yield "constant", ast.Attribute(copy.deepcopy(node.value), other[node.attr], ast.Load())
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        for value in {1e-5: (1e-3, 1e-8, 0.1), 0.9: (0.1, 0.99, 0.5)}[node.value]:
            yield "constant", ast.Constant(value)
    if isinstance(node, ast.Assign) and place == "call":
        targets, arguments = node.targets[0].elts, node.value.args
        for pair in ((1, 2), (3, 4), (5, 6)):
            made = copy.deepcopy(node)
            made.value.args[pair[0]], made.value.args[pair[1]] = arguments[pair[1]], arguments[pair[0]]
            yield "exchanged", made
        for i in (1, 2):
            made = copy.deepcopy(node)
            made.targets[0].elts[i] = ast.Name("unused", ast.Store())
            yield "dropped", made
        made = copy.deepcopy(node)
        made.targets[0].elts[1:] = targets[:0:-1]
        yield "exchanged", made


def _parents(tree):
    """For the id of each node: its parent, and the list or the object that holds it, with its index or field."""
    found = {}
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, ast.AST):
                found[id(value)] = parent, vars(parent), field
            for i, item in enumerate(value if isinstance(value, list) else ()):
                if isinstance(item, ast.AST):
                    found[id(item)] = parent, value, i
    return found


def _place(marked, node, parents):
    """The quantity to which a node belongs: within a root or a divisor of X_hat, the denominator."""
    while "X_hat" in marked and not isinstance(node, ast.stmt):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "sqrt":
            return marked.replace("X_hat", "denominator")
        parent = parents[id(node)][0]
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div) and parent.right is node:
            return marked.replace("X_hat", "denominator")
        node = parent
    return marked


def mutants(kind, style):
    """All (what was done, its place, source) for a style of writing, including equal ones."""
    source = SOURCES[kind, style]
    places = {number: line.split("#: ")[1] for number, line in enumerate(source.splitlines(), 1) if "#: " in line}
    tree = ast.parse(source)
    names, parents = _names(tree.body[0]), _parents(tree)
    arguments = [name for name, first in names.items() if first == 0]
    for node in list(ast.walk(tree)):
        line = getattr(node, "lineno", 0)
        if line not in places or isinstance(node, (ast.FunctionDef, ast.With, ast.If, ast.arguments, ast.arg)):
            continue
        place = _place(places[line], node, parents)
        if place in ("start", "constants", "call"):
            changes = list(_in_the_layer(node, place))
        else:
            changes = [*_changed(node, names, line), *_restated(node, arguments)]
            changes += [("rewritten", new) for new in _rewritten(node, place, kind, style)]
        for what, new in changes:
            if what == "detached" and (kind == "backward" or not places[line].startswith(("X_hat", "variance"))):
                continue
            if what == "cast" and kind == "backward":  # within the tolerance for gradients
                continue
            _, holder, key = parents[id(node)]
            before = holder[:] if isinstance(holder, list) else node
            if isinstance(holder, list):
                holder[key : key + 1] = new if isinstance(new, list) else [new]
            else:
                holder[key] = new
            yield (
                what,
                {"detached": "gradient", "in place": "input", "shape": "shape"}.get(what, place),
                ast.unparse(tree),
            )
            if isinstance(holder, list):
                holder[:] = before
            else:
                holder[key] = node


def build(kind, source):
    names = {"nd": nd, "autograd": autograd, "nn": nn, "mx": mx, "numpy": numpy}
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
                values += [*code(dY, X, gamma, eps), dY + 0, X + 0, gamma + 0]
            continue
        for mode in ("training", "prediction", "recording", "unrecorded"):
            for eps, momentum in ((1e-5, 0.9), (0.5, 0.7)) if kind == "function" else ((0, 0),):
                if kind == "layer":
                    net = code(3, X.ndim)
                    net.initialize()
                    values += [net.gamma.data(), net.beta.data(), net.moving_mean, net.moving_var]
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
                    if out[0].shape != dY.shape:  # MXNet reads beyond the array
                        raise ValueError("Y has another shape")
                    out[0].backward(dY)
                    values.append(X.grad / scale)
                values += [out[0], out[1] / scale, out[2] / scale**2, mean / scale, var / scale**2]
    return [value.asnumpy() for value in values]


def _checked(method):
    def call(self, other):
        shape = getattr(other, "shape", ())  # not (4, 1) with (1, 4) either: MXNet writes beyond the array
        if numpy.broadcast(numpy.empty(self.shape), numpy.empty(shape)).shape != self.shape:
            raise ValueError("a larger array does not fit")
        return method(self, other)

    return call


def differs(kind, code, right, least=5e-3):
    """Whether the code runs and gives arrays of the right shapes, whose numbers differ by more than rounding."""
    try:
        with contextlib.ExitStack() as patches:
            for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
                patches.enter_context(mock.patch.object(nd.NDArray, name, _checked(getattr(nd.NDArray, name))))
            found = outcome(kind, code)
        sizes = [a.size != b.size for a, b in zip(found, right)]
    except Exception:  # Python itself reports this mistake
        return False
    if any(sizes) or not all(numpy.isfinite(a).all() for a in found):
        return not any(sizes) and any(not numpy.isfinite(a).all() for a in found)
    return max(abs(a.ravel() - b.ravel()).max() / (1 + abs(b).max()) for a, b in zip(found, right)) > least


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
        least = 1e-4 if what == "cast" else 5e-3
        if source not in found and (what == "shape" or differs(kind, build(kind, source), right, least)):
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
    result = checks[kind](code, seconds=60)
    told = result.places
    named = [Place(name, "", "", name) for name in result.mistakes + result.notes]  # a name alone says what is wrong
    first, allowed = [], []
    for true in places:
        quantity = true.replace(" in prediction", "")
        there = [one for one in told if "in prediction" not in true or one.mode == "prediction"]
        hits = [one for one in [*there, *named] if one.quantity in LOCALIZED.get(quantity, {quantity})]
        first += hits
        allowed += hits + [one for one in there if one.quantity in FURTHER.get(quantity, ())]
    return bool(first), any(one.equals for one in first), [str(one) for one in told if one not in allowed]


def table(count, number_of_pairs, seed=0, only=SOURCES, say=print, rows=None):
    """Print the table, and return the sums (made, localized, explained, invented) for one mistake and for two.

    rows: a dict that gets these numbers for each kind and style.
    """
    sums, rows = [], {} if rows is None else rows
    for make, number in ((mistakes, count), (pairs, number_of_pairs)):
        say(f"{'kind':10} {'style':8} {'made':>5} localized explained invented")
        results = []
        for kind, style in only:
            found = []
            for what, place, source in make(kind, style, number, seed):
                places = (place,) if isinstance(place, str) else place
                localized, explained, invented = judged(kind, places, source)
                found.append((1, localized, explained, bool(invented)))
                if invented or not explained:
                    original = ast.unparse(ast.parse(SOURCES[kind, style])).splitlines()
                    changed = [line.strip() for line in source.splitlines() if line not in original]
                    told = invented or ("no formula" if localized else "elsewhere")
                    say(f"    {what} in {' and '.join(places)}: {' | '.join(changed)}: {told}")
            rows.setdefault((kind, style), []).append(tuple(map(sum, zip(*found))) or (0, 0, 0, 0))
            if not found:
                continue
            results += found
            say("{:10} {:8} {:5} {:9} {:9} {:8}".format(kind, style, *map(sum, zip(*found))))
        if not results:
            continue
        sums.append(tuple(map(sum, zip(*results))))
        say("{:19} {:5} {:9} {:9} {:8}".format("all", *sums[-1]))
    return sums


COLUMNS = "kind", "style", "mistakes", "localized", "explained", "invented", "pairs", "one localized", "invented"
PAGE = Path(__file__).parent.parent / "docs" / "grading.md"


def write(rows):
    """Update the page's table: each row replaces that of its kind and style."""
    lines = [line.strip("| ").split(" | ") for line in block.current(PAGE, "mistakes").splitlines()[2:-1]]
    shown = {(kind, style): list(map(int, numbers)) for kind, style, *numbers in lines}
    for key, ((made, localized, explained, invented), (pairs, one, _, wrong)) in rows.items():
        shown[key] = [made, localized, explained, invented, pairs, one, wrong]
    lines = [(*key, *shown[key]) for key in SOURCES if key in shown]
    lines.append(("all", "", *map(sum, zip(*shown.values()))))
    head = [" | ".join(COLUMNS), " | ".join(["---"] * 2 + ["--:"] * 7), *(" | ".join(map(str, line)) for line in lines)]
    return block.update(PAGE, "mistakes", "".join(f"| {line} |\n" for line in head))


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--write"]
    numbers = [int(word) for word in words if word.isdigit()]
    chosen = [one for one in SOURCES if {word for word in words if not word.isdigit()} <= set(one)]
    found = {}
    table(*(numbers or (48, 12)), only=chosen, say=functools.partial(print, flush=True), rows=found)
    sys.exit(block.report(write(found)) if "--write" in sys.argv else 0)
