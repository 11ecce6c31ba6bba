"""What glibc does with freed memory, before and after `keep_freed_memory`."""

import sys

import pytest
from commands import python

from gluon_bn.errors import InputError
from gluon_bn.system.memory import keep_freed_memory

FAULTS = """
import resource
{first}
from mxnet import nd
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        nd.zeros((10, 1000, 1000)).wait_to_read()  # 40 MB, 10,000 pages, by a thread of MXNet's
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
{then}
print(faults())
"""
IMPORT = "from gluon_bn.system.memory import keep_freed_memory"
KEEP = "keep_freed_memory(); faults()"  # as `train` does, when MXNet's threads are there already
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")


def page_faults(first, then="", **environment):
    return int(python("-W", "ignore", "-c", FAULTS.format(first=first, then=then), **environment).stdout)


@pytest.mark.fault("a setting that cannot be used")
def test_another_setting_is_refused(monkeypatch):
    monkeypatch.setenv("GLUON_BN_MALLOC", "yes")
    with pytest.raises(InputError, match="^GLUON_BN_MALLOC must be 0 or 1, got 'yes'; unset it for 1"):
        keep_freed_memory()


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("first", ["", "import gluon_bn"])
def test_freed_memory_is_given_back_with_or_without_the_package(first):
    assert page_faults(first) > 100_000


@pytest.mark.slow
@LINUX
def test_freed_memory_stays_in_the_process_unless_told_not_to():
    kept, given_back = (page_faults(IMPORT, KEEP, GLUON_BN_MALLOC=setting) for setting in "10")
    assert kept < given_back / 2
