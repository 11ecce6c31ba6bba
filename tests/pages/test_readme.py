"""The commands and code in README.md and docs do what the pages say."""

import code
import re
from pathlib import Path

import book  # tools/book.py
import numpy
import pytest
from commands import python

from gluon_bn import estimate_statistics, evaluate_accuracy, lenet, load_data_fashion_mnist, train

TOP = Path(__file__).resolve().parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


def block(opening):
    (found,) = [text for text in BLOCKS if text.startswith(opening)]
    return found


def arrays(text):
    """The numbers of the arrays in a text, in order."""
    return [
        float(number)
        for array in re.findall(r"\[\[.*?\]\]", text, re.DOTALL)
        for number in re.findall(r"-?\d+\.?\d*", array)
    ]


LAYER = block("from mxnet import autograd, nd\n")


def pasted(text):
    """Line by line into Python's prompt."""
    console = code.InteractiveConsole()
    for line in text.splitlines():
        console.push(line)


@pytest.mark.parametrize("run", [pasted, lambda text: exec(text, {})], ids=["pasted", "as a file"])
def test_the_layer_in_ten_lines_prints_the_numbers_beside_it(run, capsys):
    run(LAYER)
    printed, errors = capsys.readouterr()
    assert errors == ""
    promised = arrays("".join(re.findall("#.*", LAYER)))
    assert len(promised) == 14
    numpy.testing.assert_allclose(arrays(printed), promised, atol=0.00501)  # two decimals are shown


def test_a_check_in_a_script_says_what_it_found(tmp_path):
    (tmp_path / "exercise.py").write_text(block("from gluon_bn import batch_norm, check\n"))
    done = python("exercise.py", cwd=tmp_path)
    assert done.returncode == 0 and "MomentumSwapped" in done.stdout, done.stderr


def test_a_trained_net_is_loaded_and_measured(tmp_path, monkeypatch, capsys):
    net, (train_iter, test_iter) = lenet("fused"), load_data_fashion_mnist(64, num_train=2048)
    train(net, train_iter, test_iter, 1, 1.0, progress=False)
    estimate_statistics(net, train_iter)
    accuracy = evaluate_accuracy(net, test_iter)
    assert accuracy > 0.3
    (tmp_path / "runs" / "DIR" / "nets").mkdir(parents=True)
    net.save_parameters(str(tmp_path / "runs" / "DIR" / "nets" / "fused-0.params"))
    monkeypatch.chdir(tmp_path)
    exec(block("from gluon_bn import evaluate_accuracy"), {})
    assert abs(float(capsys.readouterr().out) - accuracy) < 0.001  # Gluon's layer rounds otherwise


def test_the_web_site_has_every_page_but_the_model_answers():
    pages = {f"docs/{path.name}" for path in (TOP / "docs").glob("*.md")}
    assert pages - set(book.files()) == {"docs/model_answers.md"}
