"""Records the outcomes of the tests that simulate faults:  pytest --faults FILE

FILE (JSON) gets a record for each test marked fault(what, tries) that ran; tools/faults.py makes the table of
tests/README.md from it. Rerunning a test replaces its record, so the fast and the slow tests can share a file.
"""

import json
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--faults", metavar="FILE", type=Path, help="note the outcome of the tests of faults in FILE")


def pytest_configure(config):
    if config.option.faults:
        config.pluginmanager.register(Notes(config.option.faults))


def fault(what, tries=1):
    """What a marker says; a marker that says it in another way is a TypeError."""
    return {"what": what, "tries": tries}


def repeated(what, few, many):
    """The cases of a test that repeats a fault: a few times, and many times in a case marked long."""
    few_marks, many_marks = (pytest.mark.fault(what, tries=tries) for tries in (few, many))
    return [
        pytest.param(few, marks=few_marks),
        pytest.param(many, marks=[many_marks, pytest.mark.slow, pytest.mark.long]),
    ]


class Notes:
    def __init__(self, path):
        self.path, self.notes = path, {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        marks = [fault(*mark.args, **mark.kwargs) for mark in item.iter_markers("fault")]
        if marks and (report.when == "call" or not report.passed):  # a set-up or tear-down that passes proves nothing
            file = item.nodeid.split("::")[0]
            report.fault = {
                "file": file[len("tests/") :] if file.startswith("tests/") else file,
                "test": item.originalname,
                "outcome": report.outcome,
                "faults": marks,
            }

    def pytest_runtest_logreport(self, report):
        """Where the tests run in several processes, the reports come from all of them to the one that writes."""
        if hasattr(report, "fault"):
            self.notes[report.nodeid] = report.fault

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workerinput"):  # one of several processes that run tests
            return
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({**before, **self.notes}, indent=1))
