"""A comparison in words: the results by norm, as a table and as a page."""
from __future__ import annotations

import statistics

from tabulate import tabulate

from .plots import LABELS

HEADERS = ('norm', 'train loss', 'train acc', 'test acc', 'test acc, estimated', 's/epoch')

CAPTION = ('Median over the seeds (lowest to highest) of the last epoch. Estimated: with the statistics estimated once '
           'over the training set in place of the moving averages.')


def summarize(runs):
    """The last epoch of each norm's finished runs: the median over seeds, with the lowest and highest.

    Seconds an epoch are the median over all epochs, so that the first, which warms up, does not count.
    """
    results = []
    for norm in dict.fromkeys(run['norm'] for run in runs):
        finished = [run for run in runs if run['norm'] == norm and run['finished']]
        if not finished:
            continue
        result = {'norm': norm, 'seeds': len(finished), 'epochs': len(finished[0]['history'])}
        for key in ('loss', 'train_acc', 'test_acc'):
            result[key] = spread([run['history'][-1][key] for run in finished])
        estimated = [run['test_acc_estimated'] for run in finished if 'test_acc_estimated' in run]
        result['test_acc_estimated'] = spread(estimated) if estimated else None
        result['seconds'] = spread([epoch['seconds'] for run in finished for epoch in run['history']])
        results.append(result)
    return results


def spread(values):
    """Median, lowest and highest."""
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}


def table(results, tablefmt='simple'):
    """The results as a text table."""
    rows = [(LABELS.get(result['norm'], result['norm']), _show(result['loss']), _show(result['train_acc']),
             _show(result['test_acc']), _show(result['test_acc_estimated']), f"{result['seconds']['median']:.1f}")
            for result in results]
    return tabulate(rows, HEADERS, tablefmt=tablefmt, disable_numparse=True)


def beside(summary):
    """A sentence on the chapter's own maths beside the fused one, or nothing where it was not run."""
    found = summary['beside']
    if not found:
        return ''
    loss, seconds = found['loss'], found['seconds_a_minibatch']
    batches = -(-60_000 // summary['configuration']['batch_size'])
    return (f"Beside it, batch_norm as the chapter writes it, on the same {found['minibatches']} minibatches: mean "
            f"loss {loss['scratch']:.4f} ({loss['fused']:.4f} by fused_batch_norm), {seconds['scratch'] * 1000:.0f} ms "
            f"each, which makes {seconds['scratch'] * batches:.0f} s an epoch.")


def markdown(summary):
    """The report of a comparison as a Markdown page beside its curves.png."""
    configuration, machine, versions = summary['configuration'], summary['machine'], summary['versions']
    lines = ['# LeNet on Fashion-MNIST, with and without batch normalization', '']
    if summary['interrupted']:
        lines += ['The comparison was stopped; this page shows what had finished.', '']
    lines += [
        f"Epochs: {configuration['num_epochs']}; learning rate: {configuration['lr']}; batch size: "
        f"{configuration['batch_size']}; pooling: {configuration['pool']}; "
        f"seeds: {', '.join(map(str, configuration['seeds']))}.", '',
        table(summary['results'], 'github'), '', CAPTION, '',
        *([beside(summary), ''] if summary['beside'] else []),
        '![loss and accuracy over the epochs](curves.png)', '',
        f"Measured on {machine['processor']}, {machine['cores']} cores, with "
        + ', '.join(f'{name} {version}' for name, version in versions.items()) + '.', '']
    return '\n'.join(lines)


def _show(value):
    if value is None:
        return '-'
    text = f"{value['median']:.3f}"
    return text if value['min'] == value['max'] else f"{text} ({value['min']:.3f} to {value['max']:.3f})"
