"""Running the trials: each once, when a property first asks for it, and what went wrong told once."""
from __future__ import annotations

from .raised import Trouble
from .result import Finding, Row
from .trials import RANKS, offset_trial, trials


class Open(Exception):
    """A property that cannot be judged yet."""


class Probes:
    """Runs the trials once each, when a property first asks for them, and remembers the names found so far."""

    def __init__(self, observe, guard, eps=None, momentum=None):
        self._observe, self._guard = observe, guard
        self.trials = {rank: trials(rank, eps, momentum) for rank in RANKS}
        self.offset = {rank: offset_trial(rank, eps, momentum) for rank in RANKS}
        self._seen, self.known, self._told = {}, [], set()
        self._secret = None  # the Trouble with code that remembers between calls

    def observed(self, trial, mode):
        """What came out. Raises: Trouble, the same for the same trial."""
        if self._secret is not None:  # whatever it answers now depends on what was tried before
            raise self._secret
        key = id(trial), mode
        if key not in self._seen:
            self._seen[key] = self._run(trial, mode)
        if isinstance(self._seen[key], Trouble):
            self._secret = self._seen[key] if self._seen[key].name == 'RemembersBetweenCalls' else None
            raise self._seen[key]
        return self._seen[key]

    def _run(self, trial, mode):
        """What came out of a trial, or the Trouble."""
        try:
            return self._guard.run(lambda: self._observe(trial, mode))
        except Trouble as trouble:
            if trouble.name == 'WritesWhileRecording' and mode == 'training':
                # into whose array? Without a record MXNet writes, and one can see
                other = self._run(trial, 'unrecorded')
                if not isinstance(other, Trouble) and other.changed:
                    return Trouble('MutatesInput', trouble.text)
            return trouble

    def row(self, words, *judges):
        """Run the judges of one property; each returns findings, or raises Trouble or Open."""
        findings, reason = [], ''
        for judge in judges:
            try:
                findings += judge()
            except Open as error:
                reason = str(error)
            except Trouble as trouble:
                if trouble.name in ('MutatesInput', 'WritesWhileRecording') and 'StatsTrainable' in self.known:
                    trouble.name = 'StatsTrainable'  # writing to a variable of the gradient is a consequence
                where = (trouble.name, trouble.text)
                if where in self._told or (trouble.name == 'TooSlow' and 'TooSlow' in self.known):
                    reason = f'not tried, because of {trouble.name}'
                else:
                    self._told.add(where)
                    findings.append(Finding(*where))
        self.known += [finding.name for finding in findings]
        return Row(words, tuple(findings), reason)
