"""The panel: its histograms show what batch_norm computes."""

import numpy
import pytest
from matplotlib.colors import to_hex

from gluon_bn.drawing import COLORS
from gluon_bn.experiments import panel


def after(**setting):
    return panel.before_and_after(**{**panel.DEFAULTS, **setting})[1]


def test_the_unit_is_lopsided_and_stays_so():
    X, Y = panel.before_and_after(**panel.DEFAULTS)
    skewness = [((values - values.mean()) ** 3).mean() / values.std() ** 3 for values in (X, Y)]
    assert skewness[0] > 1 and skewness[1] == pytest.approx(skewness[0], rel=1e-3)


@pytest.mark.claim("C07")
def test_moving_and_stretching_the_input_leaves_no_trace():
    # eps is 1e-5, and the variance at a scale of 0.25 about 0.06: the spread is short by a ten-thousandth
    for offset, scale in ((4.0, 1.0), (-4.0, 0.25), (2.0, 2.0)):
        numpy.testing.assert_allclose(after(offset=offset, scale=scale), after(), atol=1e-3)


@pytest.mark.claim("C18")
def test_mean_and_spread_are_those_of_beta_and_gamma():
    for gamma, beta in ((2.0, -3.0), (-1.5, 1.0)):
        Y = after(gamma=gamma, beta=beta)
        assert Y.mean() == pytest.approx(beta, abs=1e-5) and Y.std() == pytest.approx(abs(gamma), rel=1e-4)


def test_two_examples_become_minus_one_and_one():
    assert sorted(after(batch_size=2)) == pytest.approx([-1, 1], abs=1e-3)


def test_everything_that_can_be_set_starts_within_its_range_and_stays_in_the_picture():
    assert panel.DEFAULTS.keys() == panel.RANGES.keys()
    for name, (lowest, highest, _) in panel.RANGES.items():
        assert lowest <= panel.DEFAULTS[name] <= highest
    widest = {name: highest for name, (_, highest, _) in panel.RANGES.items()}
    for setting in (widest, {**widest, "offset": panel.RANGES["offset"][0], "beta": panel.RANGES["beta"][0]}):
        for ax in panel.plot_settings(setting).axes:
            assert sum(patch.get_height() for patch in ax.patches) > 0.99  # at the rim a stray value may be cut off


def test_each_setting_is_a_column_with_the_colours_of_the_norms():
    figure = panel.plot_settings({}, {"gamma": 2.0, "beta": -3.0})
    assert len(figure.axes) == 4
    assert [to_hex(ax.patches[0].get_facecolor()).upper() for ax in figure.axes] == [COLORS["none"]] * 2 + [
        COLORS["scratch"]
    ] * 2
    assert [ax.get_xlabel() for ax in figure.axes[2:]] == ["as it starts", "gamma 2, beta -3"]
    assert figure.axes[3].get_title() == "Y: mean -3.00, std 2.00"
