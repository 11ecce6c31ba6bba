"""Write the table of the chapter's claims into docs/claims.md:  python tools/claims.py [--check]

A claim is shown where a notebook says *Claim C01* in a section, and asserted where a test is marked
@pytest.mark.claim("C01"). The table goes between <!-- claims --> and <!-- /claims -->.

--check writes nothing, and exits with 1 if the table is not up to date, or if a claim has no section or no test.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path

import block

TOP = Path(__file__).resolve().parent.parent

# id -> the claim, and the condition under which it holds ("" where there is none)
CLAIMS = {
    "C01": ("updating all layers of a linear chain at once has effects of every order up to its depth", ""),
    "C02": (
        "a step sized by the gradient for a decrease of 0.1 brings another one",
        "from two layers on; by how much depends on the size of y and on unequal weights",
    ),
    "C03": ("a second-order term vanishes or explodes with the product of the other weights", "for a fixed step"),
    "C04": ("each unit is standardized by itself, row by row", "variance v/(v + eps), just below 1"),
    "C05": ("eps keeps the gradient of the root defined at variance 0", ""),
    "C06": ("the gradient never proposes merely to move a unit's mean or spread", "the spread: as eps → 0"),
    "C07": ("a shift or stretch of a unit is removed", "for a > 0, and a variance far above eps"),
    "C08": ("a penalty on the statistics normalizes imperfectly", "for every finite weight of the penalty"),
    "C09": (
        "normalizing after each step, outside the gradient, undoes part of the step",
        "it costs time where the inputs are not white; with BN the gradient itself proposes nothing to undo",
    ),
    "C10": ("moving averages let one example be evaluated alone", "in prediction mode"),
    "C11": ("normalizing the last hidden unit untangles the chain", "for Gaussian inputs, and no lower weight at 0"),
    "C12": ("a lower weight of 0 degenerates, a change of sign flips", "rare for small steps, common for large ones"),
    "C13": (
        "without normalization nearly every update moves the hidden unit's statistics",
        "the more, the larger the step",
    ),
    "C14": (
        "in the linear net the lower layers become useless",
        "up to their signs, and while eps is small against the variance",
    ),
    "C15": (
        "with nonlinear units the lower layers stay useful",
        "freezing three or more costs; two convolutions cost little in a short training",
    ),
    "C16": (
        "whitening costs much more than standardizing",
        "counted in multiplications, and the more so, the wider the layer",
    ),
    "C17": ("gamma and beta can give the old function back", "gamma = sigma, beta = mu of the same batch"),
    "C18": ("the new mean is beta's alone", "in training mode, before the activation"),
    "C19": (
        "the two parametrizations of one family of functions learn differently",
        "the new one better at large rates, the old one ahead at small ones",
    ),
    "C20": (
        "the affine map's output is nearer to a Gaussian than the layer's input",
        "clear with ReLUs; with sigmoids the kurtosis only",
    ),
    "C21": ("a bias before the norm is redundant", "in training mode"),
    "C22": ("a channel shares one mean and variance over all its m p q places", ""),
    "C23": ("in a dense layer the norm stands between affine map and activation", ""),
    "C24": ("each channel has a scale and a shift of its own", ""),
    "C25": ("statistics for prediction are better estimated once, on a large set", "while the weights move fast"),
    "C26": ("autograd tells training from prediction", "Gluon's averages move only with a backward pass, on a CPU"),
    "C27": ("the maths in a function, the bookkeeping in a layer", ""),
    "C28": ("sizes are given by hand here, and inferred by Gluon", ""),
    "C29": (
        "batch normalization makes larger learning rates possible",
        "shown with ReLUs; with sigmoids only BN learns in so few updates, at any rate tried",
    ),
    "C30": ("Gluon's layer is the same computation", "its averages move in backward on a CPU, and start at variance 1"),
    "C31": ("Gluon's layer is much faster", "for the speed of its sums, not because it is compiled"),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and say whether the table is up to date")
    arguments = parser.parse_args(argv)
    shown, tested = sections(), tests()
    missing = [
        f"{claim} has no {what}"
        for what, found in (("notebook section", shown), ("test", tested))
        for claim in CLAIMS
        if claim not in found
    ]
    missing += [
        f"{claim} is not a claim, but is named in {where[0]}"
        for found in (shown, tested)
        for claim, where in found.items()
        if claim not in CLAIMS
    ]
    missing += block.update(TOP / "docs" / "claims.md", "claims", table(shown, tested), arguments.check)
    if missing:
        print("\n".join(missing), file=sys.stderr)
    else:
        print(f"{len(CLAIMS)} claims, each with a section and a test")
    return 1 if missing else 0


def table(shown, tested):
    lines = ["| | the chapter says | shown in | asserted by |", "|---|---|---|---|"]
    for claim, (phrase, condition) in CLAIMS.items():
        lines.append(
            f"| {claim} | {phrase}{f'; *{condition}*' if condition else ''} "
            f"| {_some(shown.get(claim, []), 2)} | {_some(tested.get(claim, []), 1)} |"
        )
    return "\n".join(lines) + "\n"


def _some(places, count):
    more = len(places) - count
    return "<br>".join(places[:count]) + (f" and {more} more" if more > 0 else "")


def sections():
    """Return {claim: [link to the notebook, with the section's heading]}, in reading order."""
    found = {}
    for path in sorted((TOP / "notebooks").glob("*.ipynb")):
        heading = ""
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "markdown":
                continue
            for line in re.split(r"(?m)^(?=#+ )", "".join(cell["source"])):
                title = re.match(r"#+ (.*)", line)
                heading = title.group(1).strip() if title else heading
                for mention in re.findall(r"\*Claims? ([^*]+)\*", line):
                    for claim in re.findall(r"\bC\d\d\b", mention):
                        place = f"[{path.stem[:2]}: {heading}](../notebooks/{path.name})"
                        if place not in found.setdefault(claim, []):
                            found[claim].append(place)
    return found


def tests():
    """Return {claim: [link to the file, with the sentence that the test proves]}, from @pytest.mark.claim(...)."""
    found = {}
    files = (TOP / "tests").rglob("test_*.py")
    for path in sorted(files, key=lambda path: (not path.name.startswith("test_claims_"), path.name)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and _is_claim(decorator.func):
                        sentence = node.name.split("_", 1)[1].replace("_", " ")
                        link = f"[{sentence}](../{path.relative_to(TOP).as_posix()})"
                        for argument in decorator.args:
                            found.setdefault(ast.literal_eval(argument), []).append(link)
    return found


def _is_claim(function):
    return isinstance(function, ast.Attribute) and function.attr == "claim"  # ast.unparse needs Python 3.9


if __name__ == "__main__":
    sys.exit(main())
