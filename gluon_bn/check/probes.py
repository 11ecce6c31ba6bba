"""Running the trials: each once, when a property first asks for it, and what went wrong told once."""
from __future__ import annotations

from typing import Callable, Dict, List, Optional, Set, Tuple, Union

from .guard import Guard
from .observe import Observed
from .raised import Trouble
from .result import Finding, Row
from .trials import RANKS, Trial, offset_trial, trials


class Open(Exception):
    """A property that cannot be judged yet."""


class Probes:
    """Runs the trials once each, when a property first asks for them, and remembers the names found so far."""

    def __init__(self, observe: Callable[[Trial, str], Observed], guard: Guard, eps: Optional[float] = None,
                 momentum: Optional[float] = None) -> None:
        self._observe, self._guard = observe, guard
        self.trials = {rank: trials(rank, eps, momentum) for rank in RANKS}
        self.offset = {rank: offset_trial(rank, eps, momentum) for rank in RANKS}
        self.known: List[str] = []
        self._seen: Dict[Tuple[int, str], Union[Observed, Trouble]] = {}
        self._told: Set[Tuple[str, str]] = set()
        self._secret: Optional[Trouble] = None  # the Trouble with code that remembers between calls

    def observed(self, trial: Trial, mode: str) -> Observed:
        """What came out. Raises: Trouble, the same for the same trial."""
        if self._secret is not None:  # whatever it answers now depends on what was tried before
            raise self._secret
        key = id(trial), mode
        if key not in self._seen:
            self._seen[key] = self._run(trial, mode)
        seen = self._seen[key]
        if isinstance(seen, Trouble):
            self._secret = seen if seen.name == 'RemembersBetweenCalls' else None
            raise seen
        return seen

    def _run(self, trial: Trial, mode: str) -> Union[Observed, Trouble]:
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

    def row(self, words: str, *judges: Callable[[], List[Finding]]) -> Row:
        """Run the judges of one property; each returns findings, or raises Trouble or Open."""
        findings: List[Finding] = []
        reason = ''
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
