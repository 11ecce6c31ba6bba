"""A comparison in words: the results by norm, as a table and as a page."""
from __future__ import annotations

import statistics

from tabulate import tabulate

from ..drawing import LABELS

HEADERS = ('norm', 'train loss', 'train acc', 'test acc', 'test acc, estimated', 's/epoch')

CAPTION = ('Median over the seeds (lowest to highest) of the last epoch. Estimated: with the statistics estimated once '
           'over the training set in place of the moving averages.')


def summarize(runs):
    """The last epoch of each norm's finished runs: the median over seeds, with the lowest and highest.

    Seconds an epoch are the median over all epochs, so that the first, which warms up, does not count.
    Runs that failed are counted; of a norm that has neither there is no result.
    """
    results = []
    for norm in dict.fromkeys(run['norm'] for run in runs):
        finished = [run for run in runs if run['norm'] == norm and run['finished']]
        failed = sum(run['norm'] == norm and run['failed'] is not None for run in runs)
        if not finished and not failed:
            continue
        result = {'norm': norm, 'seeds': len(finished), 'failed': failed,
                  'epochs': len(finished[0]['history']) if finished else None}
        for key in ('loss', 'train_acc', 'test_acc'):
            result[key] = spread([run['history'][-1][key] for run in finished])
        result['test_acc_estimated'] = spread([run['test_acc_estimated'] for run in finished
                                               if 'test_acc_estimated' in run])
        result['seconds'] = spread([epoch['seconds'] for run in finished for epoch in run['history']])
        results.append(result)
    return results


def spread(values):
    """Median, lowest and highest; None of no values."""
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values)} if values else None


def three_digits(number):
    """Three decimals, or three digits of what is far too large."""
    return f'{number:.3f}' if number < 1e4 else f'{number:.2e}'


def table(results, tablefmt='simple'):
    """The results as a text table."""
    rows = [(_label(result), _show(result['loss']), _show(result['train_acc']), _show(result['test_acc']),
             _show(result['test_acc_estimated']), f"{result['seconds']['median']:.1f}" if result['seconds'] else '-')
            for result in results]
    return tabulate(rows, HEADERS, tablefmt=tablefmt, disable_numparse=True)


def caption(summary):
    """What the numbers of the table are, and how many runs shared the machine when seconds were measured."""
    jobs = summary['jobs']  # None of what was resumed
    how = 'of more than one sitting' if jobs is None else f'with {jobs} runs at a time' if jobs > 1 else (
        'one run at a time')
    return f'{CAPTION} Seconds: {how}.'


def failures(summary):
    """A line for each run that failed, with the reason."""
    return [f"{LABELS.get(run['norm'], run['norm'])}, seed {run['seed']}, failed after {len(run['history'])} epochs: "
            f"{run['failed']}" for run in summary['runs'] if run['failed'] is not None]


def beside(summary):
    """A sentence on the chapter's own maths beside the fused one, or nothing where it was not run."""
    found = summary['beside']
    if not found:
        return ''
    loss, seconds = found['loss'], found['seconds_a_minibatch']
    configuration = summary['configuration']
    batches = -(-(configuration['num_train'] or 60_000) // configuration['batch_size'])
    return (f"Beside it, batch_norm as the chapter writes it, on the same {found['minibatches']} minibatches: mean "
            f"loss {loss['scratch']:.4f} ({loss['fused']:.4f} by fused_batch_norm), {seconds['scratch'] * 1000:.0f} ms "
            f"each, which makes {seconds['scratch'] * batches:.1f} s an epoch.")


def markdown(summary):
    """The report of a comparison as a Markdown page beside its curves.png."""
    configuration, machine, versions = summary['configuration'], summary['machine'], summary['versions']
    lines = ['# LeNet on Fashion-MNIST, with and without batch normalization', '']
    if summary['interrupted']:
        lines += ['The comparison was stopped; this page shows what had finished.', '']
    lines += [
        f"Epochs: {configuration['num_epochs']}; learning rate: {configuration['lr']}; batch size: "
        f"{configuration['batch_size']}; training examples: {configuration['num_train'] or 60_000:,}; "
        f"pooling: {configuration['pool']}; "
        f"seeds: {', '.join(map(str, configuration['seeds']))}.", '',
        table(summary['results'], 'github'), '', caption(summary), '',
        *[f'- {line}' for line in failures(summary)], *([''] if failures(summary) else []),
        *([beside(summary), ''] if summary['beside'] else []),
        '![loss and accuracy over the epochs](curves.png)', '',
        f"Measured on {machine['processor']}, {machine['cores']} cores, with "
        + ', '.join(f'{name} {version}' for name, version in versions.items()) + '.', '']
    return '\n'.join(lines)


def _label(result):
    label = LABELS.get(result['norm'], result['norm'])
    failed, runs = result['failed'], result['failed'] + result['seeds']
    return f'{label} ({failed} of {runs} failed)' if failed else label


def _show(value):
    if value is None:
        return '-'
    median, lowest, highest = (three_digits(value[key]) for key in ('median', 'min', 'max'))
    return median if lowest == highest else f'{median} ({lowest} to {highest})'
