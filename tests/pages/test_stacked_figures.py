"""On a phone, the panels of a figure stand one below the other, each with its labels."""

import figures  # docs/book/figures.py
import pytest

from gluon_bn.drawing import bars, panels


def pieces(figure, path):
    figure.savefig(path, bbox_inches="tight")
    return figures.panels_of(path)


def test_panels_that_share_an_axis_get_the_labels_of_the_first(tmp_path):
    names = ["one class, prediction", "mixed"]
    figure = bars(names, {"loss": {"a": [1, 2]}, "accuracy": {"a": [3, 4]}})
    (width, _), (first, second) = pieces(figure, tmp_path / "figure.png")
    assert len(first) == 1 and len(second) == 2
    labels, panel = second
    assert labels[0] == 0 and 0 < labels[2] < panel[0] and panel[0] == first[0][2]
    assert panel[0] + panel[2] == width


def test_one_panel_stays_whole_although_its_labels_are_wider_than_it(tmp_path):
    figure = bars(["its operators, compiled into one graph"] * 3, {"milliseconds": {"": [1, 10, 100]}}, log=True)
    assert len(pieces(figure, tmp_path / "figure.png")[1]) == 1


def test_a_picture_without_anything_dark_stays_whole(tmp_path):
    figure, ax = panels(1, 4)
    ax.plot([1, 2], color="orange")
    ax.set_axis_off()
    assert len(pieces(figure, tmp_path / "figure.png")[1]) == 1


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_each_entry_of_a_legend_below_all_panels_is_a_piece(suffix, tmp_path):
    figure, *axes = panels(3, 10)
    for ax in axes:
        for label in ("no normalization", "fused_batch_norm", "gluon.nn.BatchNorm"):
            ax.plot([1, 2, 3], [0.1, 1, 10], label=label)
        ax.set(xlabel="epoch", title="loss")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncol=3, frameon=False)
    (width, height), found = pieces(figure, tmp_path / f"figure.{suffix}")
    assert [len(boxes) for boxes in found] == [1] * 6
    (top,) = {boxes[0][1] for boxes in found[3:]}
    assert 0.85 * height < top < height and {boxes[0][3] for boxes in found[:3]} == {top}
    assert all(box[2] < width / 3 for (box,) in found[3:])
