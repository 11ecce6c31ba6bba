"""The chapter's claims as experiments: functions that measure, for the notebooks to tell and the tests to assert."""
from ..system import before_mxnet  # noqa: F401  first: see there
