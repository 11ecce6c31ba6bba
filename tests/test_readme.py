"""What README.md tells a reader to type does what it says."""
import code
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

TOP = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (TOP / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def block(opening):
    (found,) = [text for text in BLOCKS if text.startswith(opening)]
    return found


def arrays(text):
    """The numbers of the arrays in a text, in order."""
    return [float(number) for array in re.findall(r"\[\[.*?\]\]", text, re.DOTALL)
            for number in re.findall(r"-?\d+\.?\d*", array)]


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
    (tmp_path / "exercise.py").write_text("from gluon_bn import batch_norm as my_batch_norm\n"
                                          + block("from gluon_bn import check\n"))
    done = subprocess.run([sys.executable, "exercise.py"], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0 and "batch_norm" in done.stdout, done.stderr
