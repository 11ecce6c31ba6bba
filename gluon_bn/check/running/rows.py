"""The rows of a result: each trial is run once, and each mistake reported once."""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Set, Tuple, Union

from ..result import Finding, Row, StudentError
from .student_code import TimeLimitedRunner
from .trials import RANKS, Observed, Trial, trials


class NotJudgeable(Exception):
    """A property that cannot be judged yet."""


class Reporter:
    """Makes the rows of a result: each mistake is reported once, where it is first seen."""

    def __init__(self) -> None:
        self.known: List[str] = []  # the names reported so far
        self._reported: Set[Finding] = set()

    def row(self, words: str, *judges: Callable[[], List[Finding]]) -> Row:
        """Run the judges of one property; each returns findings, or raises StudentError or NotJudgeable."""
        findings: List[Finding] = []
        reason = ''
        for judge in judges:
            try:
                findings += judge()
            except NotJudgeable as error:
                reason = str(error)
            except StudentError as error:
                finding = error.finding
                if finding.name in ('MutatesInput', 'WritesWhileRecording') and 'StatsTrainable' in self.known:
                    finding = finding._replace(name='StatsTrainable')  # the cause: it must not be written to
                if finding in self._reported or (finding.name == 'TooSlow' and 'TooSlow' in self.known):
                    reason = f'not tried, because of {finding.name}'
                else:
                    self._reported.add(finding)
                    findings.append(finding)
        self.known += [finding.name for finding in findings]
        return Row(words, tuple(findings), reason)


class TrialRunner(Reporter):
    """Runs each trial once, when a property first asks for it."""

    def __init__(
        self,
        observe: Callable[[Trial, str], Observed],
        runner: TimeLimitedRunner,
        eps: Optional[float] = None,
        momentum: Optional[float] = None,
    ) -> None:
        super().__init__()
        self._observe, self._runner = observe, runner
        self.trials = {rank: trials(rank, eps, momentum) for rank in RANKS}
        # the worked example far from 0, where float32 holds X and X - mean exactly, but not X * X
        self.offset = {
            rank: trial._replace(X=trial.X + 30000, description=trial.description + ', all plus 30000')
            for rank, (trial, *_) in self.trials.items()
        }
        self._outcomes: Dict[Tuple[int, str], Tuple[Trial, Union[Observed, StudentError]]] = {}
        self._remembers: Optional[StudentError] = None  # set if the code remembers between calls

    def observed(self, trial: Trial, mode: str) -> Observed:
        """The results of the student's code on a trial. Raises: StudentError, the same one each time."""
        if self._remembers is not None:  # its answers now depend on what was tried before
            raise self._remembers
        key = id(trial), mode
        if key not in self._outcomes:
            self._outcomes[key] = trial, self._run(trial, mode)  # keeps the trial, so that no other gets its id
        outcome = self._outcomes[key][1]
        if isinstance(outcome, StudentError):
            if outcome.finding.name == 'RemembersBetweenCalls':
                self._remembers = outcome
            raise outcome
        return outcome

    def _run(self, trial: Trial, mode: str) -> Union[Observed, StudentError]:
        try:
            return self._runner.run(lambda: self._observe(trial, mode))
        except StudentError as error:
            if error.finding.name == 'WritesWhileRecording' and mode == 'training':
                # unrecorded, MXNet allows the write: see whether it changed an input
                other = self._run(trial, 'unrecorded')
                if isinstance(other, Observed) and other.changed:
                    return StudentError('MutatesInput', error.finding.text)
            return error
