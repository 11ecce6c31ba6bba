"""The command line: parses the arguments and calls the package."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence

from . import __version__
from .errors import GluonBnError, InputError
from .system.interpreter import command_line
from .system.settings import check_before_mxnet
from .system.terminal import open_standard_files, output, terminated_as_interrupted, warnings_in_a_line
from .system.unexpected import describe_and_keep

if TYPE_CHECKING:
    from .comparison.places import Part

NORM_NAMES = (
    'none (no normalization), scratch (batch_norm), fused (fused_batch_norm), sync (sync_batch_norm), '
    'gluon (gluon.nn.BatchNorm)'
)

# The package's name for an argument in its errors, and the option that sets it.
SAME = ('lr', 'norms', 'seeds', 'jobs', 'workers', 'hosts', 'out', 'resume', 'parts', 'json', 'figure', 'readme')
OTHERS = {'num_epochs': 'epochs', 'batch_size': 'batch-size', 'num_train': 'examples', 'norm': 'norms', 'root': 'data'}
OPTIONS = {name: f'--{OTHERS.get(name, name)}' for name in (*SAME, *OTHERS)}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command and return the exit code: 0 done, 1 something is wrong, 2 bad input, 130 stopped."""
    open_standard_files()
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:  # reported by the command's parser, which shows that command's usage
        arguments.parser.error(f'unrecognized arguments: {" ".join(unknown)}')
    names = {**OPTIONS, **vars(arguments).get('options', {})}
    try:
        with output(), warnings_in_a_line(), terminated_as_interrupted():
            if arguments.run is not _doctor:  # the doctor checks the settings itself
                check_before_mxnet()
            code: int = arguments.run(arguments)
            return code
    except GluonBnError as error:
        print('gluon_bn:', error.message(names), file=sys.stderr)
        return 1 if isinstance(error, (ImportError, RuntimeError)) else 2  # MXNet or the compiled operator is missing
    except KeyboardInterrupt:
        print('gluon_bn: stopped', file=sys.stderr)
        return 130
    except Exception as error:  # a bug, not bad input: keep its traceback
        print('gluon_bn:', describe_and_keep(error), file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('gluon_bn', description='Batch normalization from its definition, in MXNet Gluon.')
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    command = commands.add_parser('compare', help="train LeNet without batch normalization, with ours, with Gluon's")
    command.add_argument('--norms', nargs='+', metavar='NORM', help=f'any of {NORM_NAMES} (default: none fused gluon)')
    seeds = 'train each norm once from each seed (default: 0 1 2)'
    command.add_argument('--seeds', nargs='+', type=_whole, metavar='SEED', help=seeds)
    jobs = (
        'runs that train at the same time; affects only the seconds (default: the number of cores that this process '
        'may use)'
    )
    command.add_argument('--jobs', type=_whole, metavar='N', help=jobs)
    _add_training(command)

    command = commands.add_parser('train', help='train one LeNet and save it')
    command.add_argument('--norm', dest='norms', nargs=1, metavar='NORM', help=f'one of {NORM_NAMES} (default: fused)')
    seed = 'random seed for initial weights and minibatches (default: 0)'
    command.add_argument('--seed', dest='seeds', nargs=1, type=_whole, metavar='SEED', help=seed)
    _add_training(command)
    workers = 'processes that share every minibatch; --norm sync also shares its statistics (default: 1)'
    command.add_argument('--workers', type=_whole, metavar='N', help=workers)
    hosts = 'start all workers but the first over ssh, on the hosts in this file, one per line'
    command.add_argument('--hosts', metavar='FILE', help=hosts)
    names = {'norm': '--norm', 'norms': '--norm', 'seeds': '--seed'}
    command.set_defaults(jobs=1, defaults={'norms': ('fused',), 'seeds': (0,)}, options=names)

    command = commands.add_parser('bench', help="measure speed and accuracy against Gluon's layer and PyTorch's")
    parts = ['layers', 'sizes', 'accuracy', 'epochs', 'profile', 'workers']
    chosen = f'any of {", ".join(parts)} (default: all; with --quick, all but workers)'
    command.add_argument('--parts', nargs='+', metavar='PART', help=chosen)
    command.add_argument('--json', metavar='FILE', help='file for the result (default: a new one below runs/)')
    figure = 'file for the figure, without .svg or .png (default: beside the JSON)'
    command.add_argument('--figure', metavar='FILE', help=figure)
    command.add_argument('--readme', metavar='FILE', help='also write the result as a Markdown page')
    command.add_argument('--quick', action='store_true', help='a rough run of about two minutes')
    command.add_argument('--data', metavar='DIR', help='folder of the Fashion-MNIST files (default: look for them)')
    command.set_defaults(run=_bench)

    command = commands.add_parser('data', help='find or fetch Fashion-MNIST, verify it, and say where it is')
    command.add_argument('--data', metavar='DIR', help='folder to search first, and to fetch into')
    command.set_defaults(run=_data)

    command = commands.add_parser('doctor', help='check what works on this machine, and say what to do about the rest')
    command.set_defaults(run=_doctor)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_training(command: argparse.ArgumentParser) -> None:
    """Add the options that compare and train share; each defaults to None."""
    epochs = 'passes over the training set (default: 10)'
    command.add_argument('--epochs', dest='num_epochs', type=_whole, metavar='N', help=epochs)
    command.add_argument('--lr', type=_number, help='learning rate (default: 1.0)')
    command.add_argument('--batch-size', type=_whole, metavar='N', help='examples in a minibatch (default: 256)')
    command.add_argument('--pool', choices=('max', 'avg'), help='pooling (default: max)')
    examples = 'use only the first N training examples, for a quick run (default: all 60,000)'
    command.add_argument('--examples', dest='num_train', type=_whole, metavar='N', help=examples)
    folder = command.add_mutually_exclusive_group()
    folder.add_argument('--out', metavar='DIR', help='run folder (default: a new one below runs/)')
    resume = (
        'continue a stopped or killed training in its run folder, after the last epoch of each run; needs no other '
        'option, except --data and --hosts if they were given'
    )
    folder.add_argument('--resume', metavar='DIR', help=resume)
    command.add_argument('--data', metavar='DIR', help='folder of the Fashion-MNIST files (default: look for them)')
    command.set_defaults(run=_compare)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # from int
        raise argparse.ArgumentTypeError(f'must be a whole number, got {text!r}') from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # from float
        raise argparse.ArgumentTypeError(f'must be a number, got {text!r}') from None


def _say_what_is_taken_instead(arguments: argparse.Namespace) -> None:
    from .data import taken_instead

    for line in taken_instead(arguments.data, OPTIONS):
        print('gluon_bn:', line, file=sys.stderr)


def _compare(arguments: argparse.Namespace) -> int:
    import dataclasses

    from . import compare
    from .comparison import RESULTS, Configuration, configuration_of
    from .comparison.cluster import take_part, workers_of
    from .comparison.report import beside, caption, failures, table
    from .comparison.summary import Summary

    given: Dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if value is not None and name in Configuration.__dataclass_fields__
    }
    if arguments.resume is not None:
        configuration = dataclasses.replace(configuration_of(arguments.resume), **given)
    else:
        configuration = Configuration(**{**vars(arguments).get('defaults', {}), **given})
    _say_what_is_taken_instead(arguments)
    workers, parts = getattr(arguments, 'workers', None), _parts(arguments)
    if len(parts) == 1 and parts[0].role.rank != 0:
        reason = take_part(configuration, parts[0], arguments.data)
        if reason:
            print('gluon_bn:', reason, file=sys.stderr)
        return 1 if reason else 0
    if parts:
        workers = parts[0].role.workers
    elif workers is None:
        workers = 1 if arguments.resume is None else workers_of(arguments.resume)
    how: Dict[str, Any] = {'jobs': arguments.jobs, 'resume': arguments.resume, 'workers': workers, 'parts': parts}
    content, out = compare(configuration, arguments.out, arguments.data, **how)
    summary = Summary.of(content)
    failed, stopped = failures(summary), summary.interrupted
    if summary.results:
        print(table(summary.results), caption(summary.jobs), *filter(None, [beside(summary)]), sep='\n')
    for line in failed:
        print(f'gluon_bn: {line}', file=sys.stderr)
    print(f'{"Stopped; what had finished" if stopped else "Everything"} is in {out}{os.sep}: {", ".join(RESULTS)}')
    worth_another_try = [run for run in summary.runs if run.failed and not run.diverged]
    if stopped or worth_another_try:
        data = ['--data', arguments.data] if arguments.data else []
        hosts = ['--hosts', arguments.hosts] if getattr(arguments, 'hosts', None) else []
        command = ['train', '--workers', str(workers)] if workers > 1 or hosts else ['compare']
        print('To continue:', command_line(*command, *hosts, '--resume', str(out), *data))
    return 130 if stopped else 1 if failed else 0


def _parts(arguments: argparse.Namespace) -> Sequence[Part]:
    """Return the processes that --hosts or MXNet's environment variables describe; () if all run on this machine."""
    from .comparison.places import by_hand, on_hosts

    if 'hosts' in arguments:  # `compare` has no such option
        part = by_hand()
        if part:
            if arguments.hosts or arguments.workers not in (None, part.role.workers):
                raise InputError(
                    f'must not be given with DMLC_ROLE: this is one of {part.role.workers} workers that are started by '
                    'hand; leave it out, or unset DMLC_ROLE',
                    'hosts' if arguments.hosts else 'workers',
                )
            return [part]
        if arguments.hosts:
            return on_hosts(arguments.hosts, arguments.workers)
    return ()


def _bench(arguments: argparse.Namespace) -> int:
    from .bench import run

    parts = tuple(arguments.parts or run.default_parts(arguments.quick))
    if {'epochs', 'profile'} & set(parts):  # the parts that train
        _say_what_is_taken_instead(arguments)
    files = arguments.json, arguments.readme, arguments.figure
    return run.main(*files, parts, arguments.quick, arguments.data)


def _data(arguments: argparse.Namespace) -> int:
    from .data import find_files, lacking

    found = find_files(arguments.data)
    for line in lacking(found, arguments.data, OPTIONS):
        print(line)
    for name, file in found.items():
        verified = f'{len(file.content):,} bytes unpacked, SHA-256 as expected'
        print(f'{name}: {file.path} ({verified}; from {OPTIONS.get(file.source, file.source)})')
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from . import doctor

    return doctor.main()
