"""What glibc does with freed memory, before and after `keep_freed_memory`."""

import sys

import pytest
from commands import python

from gluon_bn.errors import InputError
from gluon_bn.system.memory import keep_freed_memory

FAULTS = """
import resource
from gluon_bn.system.memory import keep_freed_memory
from mxnet import nd
def faults(repeat):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(repeat):
        nd.zeros((10, 1000, 1000)).wait_to_read()  # 40 MB, 10,000 pages, by a thread of MXNet's
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(20)
keep_freed_memory()  # as `train` does, when MXNet's threads are there already
faults(20)
print(faults(20))
"""


def page_faults(setting):
    return int(python("-W", "ignore", "-c", FAULTS, GLUON_BN_MALLOC=setting).stdout)


@pytest.mark.fault("a setting that cannot be used")
def test_another_setting_is_refused(monkeypatch):
    monkeypatch.setenv("GLUON_BN_MALLOC", "yes")
    with pytest.raises(InputError, match="^GLUON_BN_MALLOC must be 0 or 1, got 'yes'; unset it for 1"):
        keep_freed_memory()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_in_the_process_unless_told_not_to():
    assert page_faults("1") < page_faults("0") / 2
