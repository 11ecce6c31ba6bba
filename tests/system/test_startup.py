"""What importing the package sets in the process."""
import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import gluon_bn
from mxnet import nd
def faults(repeat):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(repeat):
        nd.zeros((10, 1000, 1000)).wait_to_read()  # 40 MB, 10,000 pages, by a thread of MXNet's
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(20)
print(faults(20))
"""


def page_faults(setting):
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FAULTS], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "GLUON_BN_MALLOC": setting})
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_in_the_process_unless_told_not_to():
    assert page_faults("1") < page_faults("0") / 2
