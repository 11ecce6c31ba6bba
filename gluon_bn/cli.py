"""The command line: it reads the arguments, and calls the package."""
from __future__ import annotations

import argparse
import os
import sys

from . import __version__


def main(argv=None):
    """Run one command; returns the exit code: 0 done, 1 something is wrong, 2 bad input, 130 stopped."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f'gluon_bn: {error}', file=sys.stderr)
        return 2
    except ImportError as error:  # of the public names, which say what to do
        print(f'gluon_bn: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('gluon_bn: stopped', file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser('gluon_bn', description='Batch normalization from its definition, in MXNet Gluon.')
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    command = commands.add_parser('compare', help="train LeNet without batch normalization, with ours, with Gluon's")
    command.add_argument('--norms', nargs='+', default=['none', 'fused', 'gluon'], metavar='NORM',
                         help='any of none, scratch, fused, gluon (default: none fused gluon)')
    command.add_argument('--epochs', type=int, default=10, help='passes over the training set (default: %(default)s)')
    command.add_argument('--lr', type=float, default=1.0, help='learning rate (default: %(default)s)')
    command.add_argument('--batch-size', type=int, default=256, help='examples in a minibatch (default: %(default)s)')
    command.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='SEED',
                         help='each norm is trained once from each (default: 0 1 2)')
    command.add_argument('--pool', choices=('max', 'avg'), default='max', help='pooling (default: %(default)s)')
    command.add_argument('--out', metavar='DIR', help='run folder (default: a new one below runs/)')
    command.add_argument('--data', metavar='DIR', help='folder of the Fashion-MNIST files (default: look for them)')
    command.set_defaults(run=_compare)

    command = commands.add_parser('bench', help='measure speed and accuracy, beside Gluon\'s layer and PyTorch')
    command.add_argument('--parts', nargs='+', default=['layers', 'sizes', 'accuracy', 'epochs'], metavar='PART',
                         help='any of layers, sizes, accuracy, epochs (default: all)')
    command.add_argument('--json', metavar='FILE', help='write the result there (default: below runs/)')
    command.add_argument('--figure', metavar='FILE', help='write the figure there, without .svg and .png '
                                                          '(default: beside the JSON)')
    command.add_argument('--readme', metavar='FILE', help='write the result as a Markdown page too')
    command.add_argument('--quick', action='store_true', help='a rough run of a minute')
    command.add_argument('--data', metavar='DIR', help='folder of the Fashion-MNIST files (default: look for them)')
    command.set_defaults(run=_bench)

    command = commands.add_parser('data', help='find or fetch Fashion-MNIST, verify it, and say where it is')
    command.add_argument('--data', metavar='DIR', help='look here first, and fetch to here')
    command.set_defaults(run=_data)

    command = commands.add_parser('doctor', help='say what works on this machine, and what to do where it does not')
    command.set_defaults(run=_doctor)
    return parser


def _compare(arguments):
    from . import compare
    from .comparison import Configuration
    from .report import beside, table
    configuration = Configuration(tuple(arguments.norms), arguments.epochs, arguments.lr, arguments.batch_size,
                                  tuple(arguments.seeds), arguments.pool)
    summary, out = compare(configuration, arguments.out, arguments.data)
    if summary['results']:
        print(table(summary['results']), beside(summary), sep='\n')
    print(f'{"Stopped; what had finished" if summary["interrupted"] else "Everything"} is in {out}{os.sep}: '
          'report.md, curves.svg, curves.png, summary.json, metrics.jsonl')
    return 130 if summary['interrupted'] else 0


def _bench(arguments):
    from .bench import run
    return run.main(json=arguments.json, readme=arguments.readme, figure=arguments.figure,
                    parts=tuple(arguments.parts), quick=arguments.quick, root=arguments.data)


def _data(arguments):
    from . import fashion_mnist
    return fashion_mnist.main(arguments.data)


def _doctor(arguments):
    from . import doctor
    return doctor.main()
