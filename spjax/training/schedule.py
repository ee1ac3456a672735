"""The steps at which a run is logged, evaluated, saved and stopped."""

from __future__ import annotations

import dataclasses
from typing import Any

from spjax.training.run import Run


@dataclasses.dataclass
class Standing:
    """Progress of a run, beside its arrays. Stored in every checkpoint.

    Attributes:
      step: updates made.
      data: state of the data iterator.
      best_step: step of the best evaluation, -1 before the first.
      best: its validation scores.
      stale: evaluations since then.
      before_last: the three above before an evaluation that only the end of the run is the reason
        for, so that a longer run can go on without it; None where it is at a period.
      code: digests of the code of all processes that trained the run, sorted.
      losses: of the steps since a loss was logged.
    """

    step: int = 0
    data: Any = None
    best_step: int = -1
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    stale: int = 0
    before_last: dict[str, Any] | None = None
    code: list[str] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)

    def without_last(self) -> Standing:
        """Returns the standing of a longer run, which has no evaluation at this step."""
        return dataclasses.replace(self, before_last=None, **(self.before_last or {}))

    def record(self, scores: dict[str, float], at_period: bool) -> None:
        """Takes note of the validation scores of this step.

        Args:
          scores: with `score`, by which steps are compared; the first of equal ones is the best.
          at_period: whether a longer run is evaluated here too.
        """
        before = {"best_step": self.best_step, "best": self.best, "stale": self.stale}
        self.before_last = None if at_period else before
        if self.best_step < 0 or scores["score"] > self.best["score"]:
            self.best_step, self.best, self.stale = self.step, scores, 0
        else:
            self.stale += 1


class Schedule:
    """Steps at which a run is logged, evaluated, saved and stopped."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def steps_to_next(self, step: int) -> int:
        """Returns the number of steps to the next evaluation, checkpoint or the end."""
        periods = filter(None, (self._run.eval_period, self._run.checkpoint_period))
        return min(self._run.steps - step, *(period - step % period for period in periods))

    def is_period(self, step: int) -> bool:
        """Returns whether runs of any length with this period are evaluated at this step."""
        return step % self._run.eval_period == 0

    def evaluates_at(self, step: int) -> bool:
        """Returns whether an evaluation is due."""
        return self.is_period(step) or step == self._run.steps

    def saves_at(self, step: int) -> bool:
        """Returns whether a checkpoint is due, as it is at every evaluation."""
        period = self._run.checkpoint_period
        return self.evaluates_at(step) or bool(period and step % period == 0)

    def logs_at(self, step: int) -> bool:
        """Returns whether a row of the training log is due, as it is at every checkpoint."""
        period = self._run.log_period
        return self.saves_at(step) or bool(period and step % period == 0)

    def is_over(self, standing: Standing) -> bool:
        """Returns whether all steps are made, or too many evaluations have brought no gain."""
        impatient = 0 < self._run.patience <= standing.stale
        return standing.step >= self._run.steps or impatient

    def is_pruned(self, standing: Standing) -> bool:
        """Returns whether the best score is below what a search demands at this step."""
        demanded = dict(self._run.stop_below).get(standing.step)
        return demanded is not None and standing.best.get("score", demanded) < demanded
