"""The checks of experiments: a fair one passes, and the check names what is unfair. All nets are really trained."""

import re

import numpy
import pytest
from mxnet import init, nd
from mxnet.gluon import nn

from gluon_bn.classroom import checks, workbench
from gluon_bn.classroom.workbench import Setting, check_experiment, fit

SEEDS = (0, 1)
SMALL = {"num_epochs": 1, "num_train": 200}


def net(*norms, dropout=()):
    made = nn.Sequential()
    made.add(nn.Dense(8), *norms, nn.Activation("relu"), *dropout, nn.Dense(10))
    return made


CASES = {
    "none": Setting(("Dense 8", "Activation relu", "Dense 10"), 0.1, **SMALL),
    "bn": Setting(("Dense 8", "BatchNorm", "Activation relu", "Dense 10"), 0.1, **SMALL),
}


@pytest.fixture(scope="module")
def fair():
    nets = {"none": net, "bn": lambda: net(nn.BatchNorm())}
    return {name: [fit(make(), 0.1, seed=seed, **SMALL).train_acc for seed in SEEDS] for name, make in nets.items()}


def judged(table):
    return check_experiment("accuracies", table, CASES, SEEDS, "train_acc")


def test_a_fair_experiment_passes_and_its_numbers_may_be_rounded(fair):
    assert judged(fair).ok
    assert judged({name: [round(value, 3) for value in values] for name, values in fair.items()}).ok


def changed(what):
    options = {"lr": 0.1, "seed": 1, **SMALL, **what.get("fit", {})}
    return fit(net(*what.get("norms", [nn.BatchNorm()]), dropout=what.get("dropout", ())), **options).train_acc


@pytest.mark.parametrize(
    "what, mistake, said",
    [
        ({"fit": {"lr": 0.2}}, "OtherSetting", "for 'bn', seed 1, lr should be 0.1, yours is 0.2"),
        ({"fit": {"seed": 2}}, "OtherSetting", "seed should be 1, yours is 2"),
        ({"fit": {"num_train": 300}}, "OtherSetting", "num_train should be 200, yours is 300"),
        ({"norms": [nn.BatchNorm(momentum=0.5, epsilon=1)]}, "OtherNet", "yours is BatchNorm eps=1 momentum=0.5"),
        ({"dropout": [nn.Dropout(0.5)]}, "OtherNet", "net should be Dense 10, yours is Dropout 0.5 as block 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_differs_is_named(what, mistake, said, fair):
    result = judged({**fair, "bn": [fair["bn"][0], changed(what)]})
    assert result.mistakes == [mistake] and said in str(result).replace("\n    ", " ")


@pytest.mark.fault("a function of the student that returns no net", tries=2)
@pytest.mark.parametrize("nothing", [None, nn.BatchNorm])
def test_fit_refuses_a_value_that_is_no_net(nothing):
    with pytest.raises(ValueError, match="^net must be a net, got .*; does your function return the net"):
        fit(nothing, 0.1, **SMALL)


def test_other_first_weights_are_named(fair):
    made = net(nn.BatchNorm())
    made[0].weight.init = init.Normal(0.3)  # Xavier does not apply to it
    result = judged({**fair, "bn": [fair["bn"][0], fit(made, 0.1, seed=1, **SMALL).train_acc]})
    assert result.mistakes == ["OtherStart"]


def test_a_number_that_no_training_gave_and_one_seed_alone_are_named(fair):
    assert judged({**fair, "bn": [0.123456, fair["bn"][1]]}).mistakes == ["NotMeasured"]
    assert judged({**fair, "bn": fair["bn"][:1]}).mistakes == ["OneSeed"]
    assert judged({**fair, "bn": fair["bn"][0]}).mistakes == ["OneSeed"]
    assert judged({**fair, "bn": [fit(net(), 0.1, **SMALL), "0.2"]}).mistakes == ["WrongReturn"]
    assert checks.rates({"bn": fair["bn"]}, SEEDS).mistakes == ["WrongReturn"]
    assert judged({}).blank


def test_dropout_changes_neither_the_first_weights_nor_the_minibatches():
    starts = [fit(net(*norms, dropout=drops), 0.1, seed=3, **SMALL).start
              for norms in ([], [nn.BatchNorm()]) for drops in ([], [nn.Dropout(0.5)])]  # fmt: skip
    assert len(set(starts)) == 1
    assert fit(net(), 0.1, seed=4, **SMALL).start != starts[0]


# exercises 8, 13 and 14: wrong functions, and the mistakes that the checks name


def bias_kept(net, X, shift):
    before = net(X)
    net[0].bias.set_data(net[0].bias.data() + shift)
    return float((net(X) - before).abs().max().asscalar())


def test_a_bias_that_is_not_put_back_is_named():
    assert checks.bias(bias_kept, SEEDS).mistakes == ["MutatesInput", "WrongOutput"]  # and it is in prediction mode
    assert checks.bias(lambda net, X, shift: None, SEEDS).mistakes


@pytest.mark.parametrize("kind, options", [("slow", {"momentum": 0.9}), ("frozen", {}), ("channels last", {})])
def test_an_option_that_is_missing_is_named(kind, options):
    right = {"channels last": {"axis": -1}, "frozen": {"use_global_stats": True}, "slow": {"momentum": 0.99}}
    result = checks.options(lambda name: nn.BatchNorm(**{**right, kind: options}[name]), {}, SEEDS)
    assert [row.words for row in result.rows[:3] if row.status == "mistake"] == [kind]


@pytest.mark.parametrize("fixed", ["gamma", "beta", "gamma beta"])
def test_gamma_and_beta_may_be_fixed_in_any_way_and_the_hint_names_no_argument(fixed):
    def mlp_fixed():
        norms = [nn.BatchNorm(), nn.BatchNorm(), nn.BatchNorm(scale="gamma" not in fixed, center="beta" not in fixed)]
        for norm, name in [(norm, name) for norm in norms[:2] for name in fixed.split()]:
            getattr(norm, name).grad_req = "null"
        made = nn.Sequential()
        for norm in norms:
            made.add(nn.Dense(64), norm, nn.Activation("relu"))
        made.add(nn.Dense(10))
        return made

    said = checks.fixed(mlp_fixed, {}, SEEDS)
    assert (said.rows[0].status == "ok") == (fixed == "gamma beta")
    assert not re.search("center|scale|fix_gamma", str(said))


def test_whitening_needs_its_own_counts():
    def whiten(X, eps):
        D = X.asnumpy() - X.asnumpy().mean(0)
        values, vectors = numpy.linalg.eigh(D.T @ D / len(D) + eps * numpy.eye(D.shape[1]))
        return nd.array(D @ vectors / numpy.sqrt(values) @ vectors.T)

    assert checks.whitening(whiten, {100: [16, 16], 8: [7, 7]}, SEEDS).ok
    assert checks.whitening(whiten, {100: [16, 16], 8: [8, 8]}, SEEDS).mistakes == ["WrongOutput"]
    assert checks.whitening(whiten, {100: None}, SEEDS).mistakes == ["NotWritten"]
    assert not checks.whitening(lambda X, eps: X, {100: [16, 16], 8: [7, 7]}, SEEDS).ok


def test_an_exercise_that_is_not_begun_is_reported_as_to_do():
    def empty(*arguments):
        raise NotImplementedError("not written yet")

    for result in (
        checks.lenet(empty, [], SEEDS, 0.6),
        checks.rates({}, SEEDS),
        checks.places(empty, {}, SEEDS),
        checks.dropout({"bn": None}, SEEDS, {"bn": None}),
        checks.fixed(empty, {}, SEEDS),
        checks.options(empty, {}, SEEDS),
        checks.whitening(empty, {}, SEEDS),
        checks.layer_norm(empty),
        checks.bias(empty, SEEDS),
    ):
        assert result.blank, result


def test_an_error_that_repeats_is_reported_once():
    result = checks.places(lambda chosen: 1 / 0, {}, SEEDS)
    assert [row.status for row in result.rows[:5]] == ["mistake"] + ["open"] * 4
    assert result.rows[1].remark == "not tried, because of RaisesException"


def test_lenet_is_compared_block_by_block():
    def short():
        made = nn.Sequential()
        made.add(nn.Conv2D(6, kernel_size=5), nn.BatchNorm(), nn.Activation("sigmoid"), nn.Dense(10))
        return made

    result = checks.lenet(short, [], SEEDS, 0.6)
    assert "block 3 should be MaxPool2D, yours is Dense 10" in str(result) and result.mistakes[0] == "OtherNet"
    assert workbench.described(short()) == ("Conv2D 6", "BatchNorm", "Activation sigmoid", "Dense 10")


@pytest.mark.fault("what should be a table of an experiment is something else", tries=1)
@pytest.mark.parametrize("other", [None, [], 0.8, {"none": numpy.array(0.8), "bn": "abc"}])
def test_what_is_no_table_is_named(other):
    rates = checks.rates(other, SEEDS)
    assert judged(other).mistakes[0] in ("WrongReturn", "OneSeed")
    assert not rates.ok and not checks.dropout(other, SEEDS, other).ok


@pytest.mark.parametrize("accuracies", [0.8, numpy.array([0.8, 0.9]), ["x", "y"], "abc", {0: 1}, None])
def test_accuracies_that_are_no_list_of_numbers_are_named(accuracies):
    assert not checks.lenet(None, accuracies, SEEDS, 0.6).ok
