"""The notebooks' set-up cell: it installs what is missing, and nothing if all is there."""

import importlib.metadata
import sys

import kernel  # tools/kernel.py
import pytest


def test_nothing_is_missing_in_the_environment_of_the_tests():
    assert kernel.missing() == ([], [])


@pytest.mark.fault("a kernel without MXNet and tabulate, or with another d2l", tries=2)
def test_what_is_missing_is_installed_and_what_pins_too_much_without_its_pins(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name in ("mxnet", "tabulate"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.17" if name == "d2l" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    apart, others = kernel.missing()
    pinned = ["d2l==1.0.3", "mxnet==1.9.1"]
    if sys.version_info >= (3, 12):
        assert (apart, others) == (pinned, ["tabulate==0.9.0"])
    else:
        assert (apart, others) == ([], [*pinned, "tabulate==0.9.0"])
