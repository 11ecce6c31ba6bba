"""Set up the running kernel if the package is missing, for example on Colab; every notebook begins with this.

It installs the requirements in pyproject.toml that this Python lacks, puts this copy of the project on the path, and
gives NumPy the names that MXNet needs. It replaces only other versions of MXNet and d2l, or an unusable NumPy.
"""

import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def missing():
    """Return the requirements that this Python lacks: (those to install without their own pins, the others)."""
    from packaging.requirements import Requirement  # ipykernel needs it, so every kernel has it

    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r"^    ['\"](.+)['\"],", text.split("dependencies = [")[1].split("\n]")[0], re.MULTILINE)
    pinned = ["mxnet==1.9.1", "d2l==1.0.3"]
    found = [Requirement(line) for line in dict.fromkeys([*pinned, *listed, "ipywidgets"])]
    lacking = []
    for requirement in found:
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                lacking.append(requirement)
            else:
                if requirement.name in ("mxnet", "d2l", "numpy") and version not in requirement.specifier:
                    lacking.append(requirement)
    bare = {"mxnet", "d2l"} if sys.version_info >= (3, 12) else set()  # their own pins exclude this Python
    apart = sorted({str(one).split(";")[0] for one in lacking if one.name in bare})
    return apart, sorted({str(one).split(";")[0] for one in lacking if one.name not in bare})


def main():
    apart, others = missing()
    for options, names in ([], others), (["--no-deps"], apart):  # in this order, pip does not complain about the pins
        if names:
            print("installing", *names, flush=True)
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, *names], check=True)
    sys.path.insert(0, str(PROJECT))
    importlib.invalidate_caches()
    if sys.version_info >= (3, 12):
        import setuptools  # noqa: F401  brings distutils, which MXNet imports

        from gluon_bn.system.missing_names import give_names

        give_names()


if __name__ in ("__main__", "<run_path>"):
    main()
