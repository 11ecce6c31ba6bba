"""The benchmark measures what it says, and its files agree with what it measured."""

import dataclasses
import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy
import pytest
from commands import python

from gluon_bn import cli
from gluon_bn.bench import accuracy, mxnet_worker, parts, report, results, rounds, run, workers
from gluon_bn.bench.results import LayerResult, Result, content
from gluon_bn.bench.rounds import Profiled, Worker

TOP = Path(__file__).resolve().parents[2]


def measurement(*times):
    return rounds.summary(list(times))


def test_a_ratio_is_taken_within_its_rounds():
    # The medians are 4 and 2, but in each round both had, a takes three times as long.
    a, b = measurement(3, 4, 30, None), measurement(1, None, 10, 2)
    assert rounds.ratio(a, b) == 3


def test_median_and_quartiles_by_hand():
    summary = measurement(5, None, 1, 2, 4, 3)
    assert (summary.q1, summary.median, summary.q3) == (2, 3, 4)


def test_every_round_gives_each_column_its_turn(monkeypatch):
    monkeypatch.setattr(rounds, 'PAUSE_SECONDS', 0)
    order = []

    def column(name, seconds):
        def call(repeat):
            order.append((name, repeat))
            return seconds

        return call

    times = rounds.interleave({'a': column('a', 0.01), 'b': column('b', 0.02), 'slow': column('slow', 1)}, 5, budget=60)
    assert times == {'a': [0.01] * 5, 'b': [0.02] * 5, 'slow': [1] * 3 + [None] * 2}
    measured = order[6:]  # after two calls of each to warm up and to see how long one takes
    assert measured[:3] == [('a', 4), ('b', 2), ('slow', 1)]  # each turn about 0.04 s
    assert [name for name, _ in measured[3:6]] == ['b', 'slow', 'a']  # the neighbours change


def test_the_budget_ends_the_rounds_but_not_before_five(monkeypatch):
    monkeypatch.setattr(rounds, 'PAUSE_SECONDS', 0)
    assert len(rounds.interleave({'a': lambda repeat: 0.1}, 50, budget=0)['a']) == 5


class Loads:
    """A monitor that reports these loads, one per round."""

    def __init__(self, *loads):
        self.next, self.loads, self.discarded = iter([0.0, *loads]), [], 0

    def load(self):
        return next(self.next)


def test_a_round_beside_other_programs_is_measured_again(monkeypatch):
    monkeypatch.setattr(rounds, 'PAUSE_SECONDS', 0)
    seconds = iter([0.1, 0.1, 1, 2, 3, 4])  # two calls to warm up
    watch = Loads(0, 0.5, 0.05, 0)
    assert rounds.interleave({'a': lambda repeat: next(seconds)}, 3, 60, watch) == {'a': [1, 3, 4]}
    assert (watch.loads, watch.discarded) == ([0, 0.05, 0], 1)


def test_if_it_is_never_quiet_the_quietest_rounds_count(monkeypatch):
    monkeypatch.setattr(rounds, 'PAUSE_SECONDS', 0)
    times, watch = iter(range(100)), Loads(0.9, 0.2, 0.8, 0.3, 0.4)
    columns = {'a': lambda repeat: next(times) + 0.1, 'slow': lambda repeat: 1}
    found = rounds.interleave(columns, 5, 0, watch)  # 0 seconds: no round is measured again
    assert sorted(watch.loads) == [0.2, 0.3, 0.4, 0.8, 0.9] and watch.loads[0] == 0.2
    assert rounds.ratio(rounds.summary(found['slow']), rounds.summary(found['a'])) > 0  # they have rounds in common


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
def test_the_watch_sees_another_program():
    with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as busy:
        watch = rounds.LoadMonitor()
        time.sleep(0.4)
        load = watch.load()
        busy.kill()
    assert load > 0.5


def test_a_worker_has_the_environment_that_it_was_given():
    with Worker('copy_worker', {'OMP_NUM_THREADS': '3'}) as worker:
        assert worker.submit(os.getenv, 'OMP_NUM_THREADS').result() == '3'


def test_what_bounds_a_goal_comes_from_the_profile():
    profile = results.ProfileResult(
        {'native': {'convolutions': 3.0, 'pooling': 1.0}, 'sigmoid': {'pooling': 1.0}},
        {'native': {'Python': 1.0}},
        (2,),
    )
    result = Result('', '', {}, {}, 0, [], profile=profile)
    assert results.bound('epoch: native / Gluon', result) == (
        'a minibatch of the native path: 75% convolutions, 25% pooling'
    )
    assert (
        results.bound('epoch: native, with sigmoid / Gluon', result) == 'a minibatch of the native path: 100% pooling'
    )
    assert results.bound('layer (256, 84), 1 thread: native / Gluon', result).endswith('100% Python')


def test_every_worker_gets_the_same_arrays():
    first, second = accuracy.make_arrays((4, 3, 2, 2), 100), accuracy.make_arrays((4, 3, 2, 2), 100)
    assert all(numpy.array_equal(a, b) for a, b in zip(first, second))
    assert abs(first.X.mean() - 100) < 1


@pytest.mark.parametrize('shape', [(5, 3), (4, 3, 2, 2)])
def test_the_reference_gradient_matches_finite_differences(shape):
    arrays = accuracy.Arrays(*(array.astype('float64') for array in accuracy.make_arrays(shape)))
    exact, h = accuracy.reference(arrays), 1e-6
    for name, gradient in (('X', 'dX'), ('gamma', 'dgamma'), ('beta', 'dbeta')):
        array = getattr(arrays, name)
        for index in numpy.ndindex(*array.shape):
            both = []
            for step in (h, -h):
                moved = array.copy()
                moved[index] += step
                both.append((accuracy.reference(arrays._replace(**{name: moved}))['Y'] * arrays.dY).sum())
            # central differences: h^2 times the third derivative, and rounding of 1e-16 / h
            assert abs((both[0] - both[1]) / (2 * h) - exact[gradient].reshape(array.shape)[index]) < 1e-7


def test_an_error_is_relative_to_the_exact_result():
    arrays = accuracy.make_arrays((8, 3))
    exact = accuracy.reference(arrays)
    found = accuracy.errors(arrays, exact['Y'] * 1.01, exact['dX'], exact['dgamma'], exact['dbeta'])
    assert found['Y'] == pytest.approx(0.01) and found['dX'] == 0


def test_goals_are_met_or_not_by_the_ratios_of_the_rounds():
    both = {
        'native': dataclasses.replace(measurement(2, 20), floors=3.5),
        'gluon': measurement(10, 100),
        'torch': measurement(2.5, 25),
    }
    result = Result(
        '',
        '',
        {},
        {},
        0,
        [],
        layers=[LayerResult((64, 64, 56, 56), None, None, both)],
        sizes=[
            LayerResult((1,), megabytes, None, {'native': measurement(seconds)})
            for megabytes, seconds in ((0.1, 9), (1, 2), (100, 100))
        ],
    )
    found = {goal.goal.split(': ', 1)[1]: (goal.value, goal.met) for goal in results.check(result)}
    assert found == {
        'native / Gluon': (0.2, True),
        'native / PyTorch': (0.8, False),
        'native / memory floor': (3.5, False),
        'highest / lowest, native': (2, False),
    }


def test_a_profile_adds_up_to_the_whole():
    kinds = parts.by_kind(Profiled(10, {'_backward_Convolution': 3, 'Convolution': 2, 'take': 1}))
    assert {kind: seconds for kind, seconds in kinds.items() if seconds} == {
        'convolutions': 5,
        parts.OTHER: 1,
        parts.BETWEEN: 4,
    }


PROFILED = """
import os, tempfile
from gluon_bn.bench import mxnet_worker
found = {}
with mxnet_worker._profiled(found):
    print(len(os.listdir(tempfile.gettempdir())))
    (mxnet_worker.nd.ones(3) + 1).wait_to_read()
assert any(found.values()), found
"""


def test_the_profiler_has_a_file_of_its_own_and_leaves_none(tmp_path):
    (tmp_path / 'here').mkdir()
    (tmp_path / 'temporary').mkdir()
    environment = {'TMPDIR': str(tmp_path / 'temporary'), 'PYTHONPATH': str(TOP)}
    done = python('-W', 'ignore', '-c', PROFILED, cwd=tmp_path / 'here', **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, '1\n', '')
    assert not list(tmp_path.glob('*/*'))


@pytest.mark.parametrize('value, text', [(1234.5, '1,234'), (12.34, '12.3'), (1.234, '1.23'), (0.01234, '0.012')])
def test_numbers_are_readable(value, text):
    assert report.three_digits(value) == text


def test_the_profiler_is_off_again_whatever_happens():
    with pytest.raises(ZeroDivisionError), mxnet_worker._profiled({}):
        mx.nd.ones(3).sqrt().wait_to_read()
        raise ZeroDivisionError
    mx.nd.ones(3).exp().wait_to_read()
    found = json.loads(mx.profiler.dumps(reset=True, format='json'))['Time']['operator']
    assert 'sqrt' in found and 'exp' not in found


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match='parts must be some of layers, sizes, accuracy, epochs, profile, workers, got speed'
    ):
        run.main(json=tmp_path / 'bench.json', parts=('speed',))


@pytest.mark.fault('a file of the benchmark cannot be written', tries=2)
@pytest.mark.parametrize('option', ['--json', '--figure', '--readme'])
def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path, capsys, option):
    (tmp_path / 'a file').write_text('kept')
    (tmp_path / 'a folder.svg').mkdir()
    files = ['--json', str(tmp_path / 'bench.json')] if option != '--json' else []
    below = tmp_path / 'a file' / 'bench'
    is_folder = tmp_path / ('a folder' if option == '--figure' else 'a folder.svg')
    for path, reason in [(below, r'(Not a directory|File exists)'), (is_folder, 'Is a directory')]:
        assert cli.main(['bench', '--quick', '--parts', 'layers', *files, option, str(path)]) == 2
        captured = capsys.readouterr()
        assert re.fullmatch(
            f'gluon_bn: {option} must be a file that can be written, got .*: {reason}; name another\n', captured.err
        )
        assert captured.out == ''
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a file', 'a folder.svg']


@pytest.mark.parametrize(
    'chosen, quick', [(('layers', 'accuracy'), False), (tuple(run.PARTS), True), (tuple(run.PARTS)[:-1], True)]
)
def test_the_command_that_a_result_names_makes_such_a_result(chosen, quick):
    python, _, package, *arguments = shlex.split(run.command(chosen, quick))
    assert (python, package) == ('python', 'gluon_bn')
    read = cli._parser().parse_args(arguments)
    assert (tuple(read.parts or run.default_parts(read.quick)), read.quick) == (chosen, quick)


def test_a_worker_raises_here_what_its_function_raised_there():
    with Worker('copy_worker') as worker, pytest.raises(TypeError, match='positional argument'):
        worker.call('prepare', (2, 3), 1, 'one too many', 'and another')


def test_a_copy_takes_longer_the_more_there_is_to_copy():
    with Worker('copy_worker') as worker:
        seconds = []
        for size in (10_000, 10_000_000):
            worker.call('prepare', (size,), 2)
            seconds.append(min(worker.call('time_layer', 'copy', 'copy', 5) for _ in range(3)))
    assert seconds[1] > 10 * seconds[0]  # a thousand times as much, less what the caches and the start make of it


@pytest.mark.slow
@pytest.mark.parametrize('threads', ['1', pytest.param('', marks=pytest.mark.long)])  # '': one, then one per core
def test_a_quick_run_measures_every_part_and_writes_it(threads, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', threads)
    monkeypatch.setattr(rounds, 'MOST_LOAD', math.inf)  # other tests are running: repeat no round
    measure, measured = run.measure, []
    monkeypatch.setattr(run, 'measure', lambda *arguments: measured.append(measure(*arguments)) or measured[0])
    assert run.main(json=tmp_path / 'bench.json', readme=tmp_path / 'README.md', quick=True) == 0
    result = json.loads((tmp_path / 'bench.json').read_text())
    assert result == content(measured[0])
    columns, printed = result['columns'], capsys.readouterr().out
    assert {'scratch', 'portable', 'gluon'} <= set(columns)
    if importlib.util.find_spec('torch') is None:  # an optional column is left out with a word
        assert 'requirements/torch.txt' in result['missing']['torch'] and 'no column PyTorch' in printed
    else:
        assert 'torch' in columns
    for entry in result['layers'] + result['sizes']:
        assert set(entry['both']) == {*columns, 'floor'}
        # What a copy must do, batch normalization must do and more.
        assert all(entry['both'][name]['median'] > entry['both']['floor']['median'] for name in columns)
    entry, *others = result['layers']
    assert entry['both']['gluon']['median'] > entry['forward']['gluon']['median']
    assert all('forward' not in entry for entry in others)
    first, *_, last = result['accuracy']
    assert (first['mean'], last['mean']) == (0, 1e4)
    assert max(first['errors']['scratch'].values()) < 1e-6  # a few units of float32's 6e-8
    assert last['errors']['gluon']['Y'] > 1000 * last['errors']['portable']['Y']
    epochs = result['epochs']
    fused = {'sigmoid'} if 'native' in columns else set()
    assert set(epochs) == {'none', *columns, *fused, 'd2l gluon', 'd2l scratch'}
    for name, entry in epochs.items():
        # a random guess has the loss log(10) = 2.3, which only batch normalization leaves in a few batches
        assert entry['train']['median'] > 0 and (name == 'none' or entry['loss'] < 2.3)
    assert (tmp_path / 'bench.png').stat().st_size > 10_000 and '<svg' in (tmp_path / 'bench.svg').read_text()
    minibatch = result['profile']['minibatch']
    assert minibatch['none']['normalization'] == 0 < minibatch['gluon']['normalization']
    assert all(kinds['convolutions'] > 0 and kinds['pooling'] > 0 for kinds in minibatch.values())
    page = (tmp_path / 'README.md').read_text()
    assert '(bench.svg)' in page and result['date'] in page and str(tmp_path) not in page
    for title, _, table in report.sections(measured[0]):
        assert title in printed and table in printed and f'## {title}' in page


@pytest.mark.fault('a process of a part of the benchmark fails', tries=1)
def test_a_part_that_fails_does_not_lose_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setattr(workers, 'MODULE', 'gluon_bn.bench.missing')
    files = ['--json', str(tmp_path / 'bench.json'), '--readme', str(tmp_path / 'page.md')]
    assert cli.main(['bench', '--quick', '--parts', 'accuracy', 'workers', *files]) == 1
    result, page = json.loads((tmp_path / 'bench.json').read_text()), (tmp_path / 'page.md').read_text()
    assert result['accuracy'] and 'workers' not in result and '## Error against float64' in page
    reason = result['failed']['workers']
    assert reason == 'a process of the benchmark failed: its process ended with exit code 1'
    said = f'he part workers was not measured: {reason}'
    assert f'- T{said}' in page and f'gluon_bn: t{said}' in capsys.readouterr().err


def test_epochs_have_a_table_and_goals_for_each_number_of_threads():
    def epochs(native):
        times = {'none': 10.0, 'native': native, 'gluon': 20.0}
        return {
            name: results.EpochResult(1, measurement(seconds), measurement(1.0), 0.5, 0.8, 0.8)
            for name, seconds in times.items()
        }

    company = {'quiet': measurement(1.0), 'beside': measurement(3.0)}
    result = Result('', '', {}, {}, 0, [], [1, 4], epochs_one_thread=epochs(15.0), epochs=epochs(18.0), company=company)
    result.goals = results.check(result)
    assert {goal.goal: (goal.value, goal.met) for goal in result.goals} == {
        'epoch, 1 thread: native / Gluon': (0.75, True),
        'epoch, 1 thread: native / no normalization': (1.5, False),
        'epoch, 4 threads: native / Gluon': (0.9, False),
        'epoch, 4 threads: native / no normalization': (1.8, False),
        'epoch, 4 threads: beside a busy core / alone': (3.0, False),
    }
    tables = {title: table for title, _, table in report.sections(result)}
    assert list(tables) == [
        'One epoch of LeNet, 1 thread',
        'One epoch of LeNet, 4 threads',
        'Beside a busy core, 4 threads',
        'Ratios',
    ]
    assert re.search(r'native +15\.0 ', tables['One epoch of LeNet, 1 thread'])
