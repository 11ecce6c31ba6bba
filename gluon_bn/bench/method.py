"""How the benchmark measures, in words that go into its result."""
from __future__ import annotations

import os

METHOD = (
    'Columns take turns, round by round, and each ratio is taken within its rounds; medians, with quartiles and rounds '
    'in the JSON. A turn takes about 40 ms, at least one run, after one that warms the cache. What takes more than '
    '0.3 s has three turns.',
    'Each framework has a process of its own, which sleeps while another works; copies have one too.',
    'Threads: PyTorch is told to use {cores}, the number of cores; MXNet and the native path decide for themselves '
    '(OMP_NUM_THREADS: {omp}). Nothing else of OpenMP is set (OMP_WAIT_POLICY: {wait}, GOMP_SPINCOUNT: {spin}).',
    "glibc keeps freed memory in MXNet's process and in PyTorch's alike (GLUON_BN_MALLOC=0 leaves both alone); d2l's "
    'loop runs as its reader runs it, without.',
    'A layer is one of a stack of four, and has a quarter of its time: in a network too its input is the output of '
    'another layer, and not a variable with a gradient of its own.',
    'A layer is called in training mode with all its bookkeeping: X has a gradient, the upstream gradient is random, '
    'the moving statistics move. MXNet works behind Python and is waited for at the end of a turn, as a training loop '
    "does not wait for a layer either. PyTorch's gradients are set to None before each run, as by zero_grad.",
    'The memory floor is a copy of an array of the same size, by one core or all, whichever is faster, in the same '
    'rounds. A copy passes over memory twice. Forward must do so twice (read X, write Y), forward + backward five '
    'times (and read dY, read X, write dX). Small arrays stay in the cache, and there starting an operator costs more '
    'than its work.',
    "An epoch trains a new LeNet; its time does not include the test after it. PyTorch's has the same architecture, "
    "batches in memory, shuffling, rate and metrics. d2l's is `train_ch6` with d2l's data loader, but from verified "
    'files, and nothing is drawn.',
)


def method(threads):
    """The lines, with what is set here."""
    def setting(name):
        return os.environ.get(name, 'not set')

    return [line.format(cores=threads, omp=setting('OMP_NUM_THREADS'), wait=setting('OMP_WAIT_POLICY'),
                        spin=setting('GOMP_SPINCOUNT')) for line in METHOD]
