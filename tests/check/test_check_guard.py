"""Code that hangs, exits, raises or prints gives a result, without delay."""

import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import mxnet as mx
import pytest
import students
from mxnet import nd

from gluon_bn import check


def endless(*args):
    while True:
        pass


def stubborn(*args):
    while not stubborn.released:  # the test ends it
        try:
            time.sleep(0.01)
        except:  # noqa: E722  what the watchdog raises is swallowed
            pass


def in_native_code(*args):
    time.sleep(8)


@pytest.mark.parametrize("fn", [endless, stubborn, in_native_code])
@pytest.mark.fault("a student's code that hangs")
def test_a_hang_is_told_and_the_rest_not_tried(fn):
    stubborn.released = False
    start = time.monotonic()
    result = check.batch_norm(fn, seconds=0.5)
    # Three times half a second, and half a second to stop it, on a busy machine. Under a tracer, such as coverage's,
    # CPython 3.11 stands still while another thread in native code has an exception to come.
    assert time.monotonic() - start < 7 or sys.gettrace()
    stubborn.released = True
    assert result.mistakes == ["TooSlow"] and "no answer within 0.5 seconds (line " in str(result)
    assert [row.status for row in result.rows].count("open") == 9
    assert check.batch_norm(students.batch_norm()).ok  # and the next check works


@pytest.mark.fault("a student's code that hangs")
def test_a_hang_is_named_beside_an_earlier_mistake():
    def raises_or_hangs(dY, X, *others):
        if X.ndim == 2:
            raise ValueError("not here")
        endless()

    assert check.gradient(raises_or_hangs, seconds=0.3).mistakes == ["RaisesException", "TooSlow"]


@pytest.mark.fault("a student's code that hangs")
def test_what_can_be_stopped_is_stopped():
    check.batch_norm(students.batch_norm(), only=("dense",))
    before = set(threading.enumerate())
    result = check.batch_norm(endless, seconds=0.2)
    assert "still runs" not in str(result)
    assert set(threading.enumerate()) < before  # the thread that it ran in is gone


@pytest.mark.fault("a student's code that hangs")
def test_code_that_cannot_be_stopped_leaves_nothing_behind():
    """Not in autograd, nor in MXNet's arrays, nor in the folder for temporary files."""

    def hangs(*args):
        stubborn()

    class Hangs(students.ChapterLayer):
        def forward(self, X):
            if X.context == mx.cpu(1):
                stubborn()
            return super().forward(X)

        def load_parameters(self, *args, **kwargs):
            stubborn()

    methods = [mx.autograd.backward, mx.autograd.grad, nd.NDArray.backward, nd.NDArray.copyto]
    folders = set(Path(tempfile.gettempdir()).iterdir())
    stubborn.released = False
    try:
        assert check.gradient(hangs, seconds=0.2).mistakes == ["TooSlow"]
        for key in ("device", "saving"):
            assert check.layer(Hangs, only=(key,), seconds=0.3).mistakes == ["TooSlow"]
        assert [mx.autograd.backward, mx.autograd.grad, nd.NDArray.backward, nd.NDArray.copyto] == methods
        assert not [path for path in set(Path(tempfile.gettempdir()).iterdir()) - folders if list(path.glob("layer*"))]
        x = nd.ones((2,))
        x.attach_grad()
        with mx.autograd.record():
            y = x * x
        y.backward()
        assert x.grad.asnumpy().tolist() == [2, 2]
    finally:
        stubborn.released = True


def test_other_threads_keep_autograd_during_a_check_by_hand():
    def waits(*args):
        thread.start()
        thread.join()

    def differentiate():
        x = nd.ones((2,))
        x.attach_grad()
        with mx.autograd.record():
            y = x * x
        y.backward()
        slopes.append(x.grad.asnumpy().tolist())

    slopes, thread = [], threading.Thread(target=differentiate)
    check.gradient(waits, only=("dense",), seconds=20)
    assert slopes == [[2, 2]]


def test_code_on_a_busy_machine_is_not_taken_for_code_that_hangs():
    """Where the processors work for others this code would take twice as long."""

    def waits(*args):
        if not waits.done:
            waits.done = time.sleep(1) or True
        return students.batch_norm()(*args)

    waits.done = False
    assert check.batch_norm(waits, only=("dense",), seconds=0.6).ok


def test_the_time_limit_covers_all_calls_together():
    def slow(*args):
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return students.batch_norm()(*args)

    # 38 calls: 3.8 s at least. The first 8, for the first row, count no more than 1.6 s, however busy the machine is
    result = check.batch_norm(slow, seconds=3)
    assert result.mistakes == ["TooSlow"] and result.rows[0].status == "ok"


def raiser(error):
    def fn(*args):
        raise error

    return fn


@pytest.mark.parametrize(
    "fn, name, words",
    [
        (lambda *args: sys.exit(1), "CallsExit", "ends the whole program"),
        (lambda *args: exit(), "CallsExit", "ends the whole program"),
        (raiser(KeyboardInterrupt()), "RaisesException", "KeyboardInterrupt"),
        (raiser(MemoryError("too much")), "RaisesException", "MemoryError: too much"),
        (raiser(ValueError("")), "RaisesException", "ValueError"),
        (lambda: None, "WrongArguments", "takes 0 positional arguments but 7 were given"),
        (lambda X, *rest: (X - X.mean(axis=1), *rest[2:4]), "WrongShape", "operands could not be broadcast together"),
    ],
)
@pytest.mark.fault("a student's code that raises or exits")
def test_whatever_is_raised_is_told(fn, name, words):
    result = check.batch_norm(fn, only=("dense", "prediction"))
    text = str(result)
    assert result.mistakes == [name] and words in text
    assert "Traceback" not in text and "Check failed" not in text


def test_the_line_in_the_student_s_code_is_told():
    def fn(*args):
        return 1 / len(args[7:])

    assert "ZeroDivisionError: division by zero (line" in students.told(check.batch_norm(fn))


@pytest.mark.fault("a student's code that recurses without end")
def test_an_endless_recursion_is_told():
    def fn(*args):
        return fn(*args)

    result = check.batch_norm(fn)
    assert result.mistakes == ["CallsItself"] and "RecursionError" in str(result)


@pytest.mark.fault("Ctrl-C during a check")
def test_the_reader_s_own_interrupt_still_stops_the_check():
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        check.batch_norm(endless, seconds=20)
    assert check.batch_norm(students.batch_norm()).ok


def test_what_the_code_prints_is_shown_once_and_shortly(capsys):
    def fn(*args):
        print("mean", args[0].shape)
        return students.batch_norm()(*args)

    result = check.batch_norm(fn)
    assert capsys.readouterr().out == ""
    assert result.ok and str(result).count("mean (4, 2)") <= 10 and "Your code printed:" in str(result)
    assert "more lines" in str(result)


def test_a_check_takes_at_most_one_and_a_half_seconds_of_the_processor_and_of_a_layer_two_and_a_half():
    def seconds(function, of):
        tracer, start = sys.gettrace(), time.process_time()
        sys.settrace(None)  # coverage would double the time
        try:
            function(of)
            return time.process_time() - start
        finally:
            sys.settrace(tracer)

    check.batch_norm(students.batch_norm("NoEps"))  # the first in a process also makes the formulas to compare with
    assert seconds(check.batch_norm, students.batch_norm("WrongAxis", "NoEps", "MomentumSwapped")) < 1.5
    assert seconds(check.layer, students.layer("WrongAxis", "NoEps")) < 2.5
    assert seconds(check.gradient, students.backward("WrongGradientX")) < 1.5


def test_many_checks_do_not_grow():
    import psutil

    check.batch_norm(students.batch_norm())
    before = psutil.Process().memory_info().rss
    for _ in range(20):
        check.batch_norm(students.batch_norm())
    # a thread of its own for each call would keep 5 MB of MXNet's: 100 MB a check
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


@pytest.mark.fault("a student's code that raises or exits")
def test_in_a_notebook_exit_does_not_end_the_kernel_and_the_table_is_html():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = [
        "from gluon_bn import check\ndef leave(*args):\n    exit()\ncheck.batch_norm(leave)",
        "def endless(*args):\n    while True: pass\ncheck.batch_norm(endless, seconds=0.5)",
        "6 * 7",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    left, hung, alive = (cell.outputs[-1].data for cell in notebook.cells)
    assert "<b>CallsExit</b>" in left["text/html"] and "(line 3: exit())" in left["text/plain"].replace("\n    ", " ")
    assert "<b>TooSlow</b>" in hung["text/html"]
    assert alive["text/plain"] == "42"
