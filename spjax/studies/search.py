"""Searches: settings of a study's arm that Optuna draws in rounds, by the validation scores so far.

Nothing of a search is stored but its runs. A sweep that starts again draws the same trials from the
same seed and tells Optuna the same results in the same order, so it comes to the same next round,
whatever has trained the runs and in whichever order they ended.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spjax import config, extras, validation
from spjax.files import DamagedFile, read_json_lines, write_json
from spjax.studies import run_folder

PRUNED = "pruned"  # status of a run
_SAMPLERS = ("tpe", "random")
_TRIALS_FIRST = 5  # complete ones before any run is pruned, as in Optuna's MedianPruner
_DIGITS = 4  # of numbers that are drawn: enough for any setting, and the same on every machine
VERSION_FILE = "search.json"  # in a study's folder


@config.configurable
@dataclasses.dataclass(frozen=True)
class Search:
    """Settings that Optuna draws. A trial is one drawing; its score is the mean over an arm's axes.

    Attributes:
      space: what to draw from, by macro or "Configurable.parameter": a list of values, or a dict
        with Optuna's words "low" and "high", and "log" or "step" if wanted. Whole numbers are drawn
        where both ends are whole (1, not 1.0).
      trials: in all.
      batch: trials of a round, which are trained together; the next round knows their scores.
      sampler: "tpe" (Optuna's TPESampler) or "random".
      pruning: whether a run stops at an evaluation at which its best validation score is below the
        median that complete trials of earlier rounds had there, as in Optuna's MedianPruner.
      seed: of the sampler.
    """

    space: Mapping[str, Any]
    trials: int = 24
    batch: int = 8
    sampler: str = "tpe"
    pruning: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what can be checked without Optuna."""
        if not self.space or "" in self.space:
            raise ValueError(
                f"Search.space is {dict(self.space)!r}; give one setting or more, such as "
                '{"LEARNING_RATE": {"low": 0.01, "high": 1.0, "log": True}}.'
            )
        for name, values in self.space.items():
            if not isinstance(values, (list, tuple, Mapping)) or not values:
                raise ValueError(_not_drawn(name, values, "it is neither a list nor a dict"))
        validation.whole("Search.trials", self.trials, 1, validation.MOST_EXAMPLES)
        validation.whole("Search.batch", self.batch, 1, validation.MOST_EXAMPLES)
        validation.whole("Search.seed", self.seed, 0, validation.MOST_SEED)
        if self.sampler not in _SAMPLERS:
            raise ValueError(
                f"Search.sampler is {self.sampler!r}; use {' or '.join(map(repr, _SAMPLERS))}."
            )


@dataclasses.dataclass(frozen=True)
class Scored:
    """Validation scores of a finished run.

    Attributes:
      score: on validation, in percent; 0 for a run that diverged before it was scored.
      steps: validation score by step.
      pruned: whether it was stopped early.
    """

    score: float
    steps: Mapping[int, float]
    pruned: bool = False


def scored(folder: Path, text: str) -> Scored | None:
    """Reads the validation scores of the run with this `config.gin`; None while it is unfinished.

    Test scores are not looked at.
    """
    if not run_folder.holds(folder, text) or (result := run_folder.result(folder)) is None:
        return None
    try:
        rows = read_json_lines(folder / "metrics.jsonl")
    except (OSError, DamagedFile):  # `results` warns of it; the search loses no more than pruning
        rows = []
    name = "validation/score"
    steps = {int(row["step"]): float(row[name]) for row in rows if name in row}
    score = (result.get("validation") or {}).get("score", 0.0)
    return Scored(float(score), steps, result.get("status") == PRUNED)


class Draws:
    """The rounds of one search, from its first."""

    def __init__(self, search: Search) -> None:
        """Makes the sampler.

        Args:
          search: its settings.

        Raises:
          ValueError: Optuna is not installed, or cannot draw from the space.
        """
        optuna = extras.import_module("optuna", "optuna", "its search")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search = search
        self._states = optuna.trial.TrialState
        self._space = {
            name: _distribution(optuna.distributions, name, values)
            for name, values in search.space.items()
        }
        samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self._study = optuna.create_study(
            direction="maximize", sampler=samplers[search.sampler](seed=search.seed)
        )
        self._round: list[Any] = []
        self._complete: list[Sequence[Scored]] = []
        self._asked = 0

    def ask(self) -> list[dict[str, Any]]:
        """Draws the next round: the values of each trial by name; [] when all were drawn."""
        count = min(self.search.batch, self.search.trials - self._asked)
        self._round = [self._study.ask(self._space) for _ in range(count)]
        self._asked += count
        return [
            {name: self._value(name, value) for name, value in trial.params.items()}
            for trial in self._round
        ]

    def tell(self, scores: Sequence[Sequence[Scored]]) -> None:
        """Tells the sampler the scores of the round: for each trial those of its runs, in order."""
        for trial, runs in zip(self._round, scores, strict=True):
            for step in sorted(set.intersection(*(set(run.steps) for run in runs))):
                trial.report(float(np.mean([run.steps[step] for run in runs])), step)
            if any(run.pruned for run in runs):
                self._study.tell(trial, state=self._states.PRUNED)
            else:
                self._study.tell(trial, float(np.mean([run.score for run in runs])))
                self._complete.append(runs)

    def stop_below(self, run: int) -> tuple[tuple[int, float], ...]:
        """Returns the steps at which a run is pruned, and the score below which it is.

        Args:
          run: its place among those of a trial.
        """
        if not self.search.pruning:
            return ()
        steps = [of_trial[run].steps for of_trial in self._complete]
        pairs = []
        for step in sorted({step for of_run in steps for step in of_run}):
            known = [of_run[step] for of_run in steps if step in of_run]
            if len(known) >= _TRIALS_FIRST:
                pairs.append((step, float(np.median(known))))
        return tuple(pairs)

    def _value(self, name: str, value: Any) -> Any:
        choices = self.search.space[name]
        if not isinstance(choices, Mapping):
            return choices[value]
        if not isinstance(value, float):
            return value
        low, high = choices["low"], choices["high"]
        # Four digits of the range: more of a number whose range is narrow, or has a fine step.
        finest = min(high - low, choices.get("step") or math.inf) or 1.0
        more = max(0, math.floor(math.log10(max(abs(low), abs(high)) / finest)))
        return min(max(float(f"{value:.{_DIGITS + more}g}"), low), high)


def check_version(folder: Path, url: str = "") -> None:
    """Notes the version of Optuna in a study's folder, whose trials another may not draw again.

    Args:
      folder: of the study.
      url: that it is mirrored to, if any.

    Raises:
      ValueError: another version began the searches of this folder.
    """
    optuna = extras.import_module("optuna", "optuna", "a search")
    path = folder / VERSION_FILE
    before = (run_folder.result(folder, VERSION_FILE) or {}).get("optuna")
    if before and before != optuna.__version__:
        raise ValueError(
            f"the trials in {folder} were drawn by Optuna {before}, and {optuna.__version__} is "
            f"installed, which may draw others. Go on with pip install optuna=={before}, or delete "
            f"{path}{url and f' and {url}/{VERSION_FILE}'} to accept other trials: those that are "
            "not drawn again leave the table."
        )
    if not before:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"optuna": optuna.__version__})


def _distribution(distributions: Any, name: str, values: Any) -> Any:
    """Returns Optuna's distribution of a setting; of a list, that of the places in it."""
    if not isinstance(values, Mapping):
        return distributions.CategoricalDistribution(range(len(values)))
    ends: list[Any] = [values.get("low"), values.get("high")]
    try:
        if any(isinstance(x, bool) or not isinstance(x, (int, float)) for x in ends):
            raise ValueError("'low' and 'high' must be numbers")
        if not all(math.isfinite(x) for x in ends):
            raise ValueError("'low' and 'high' must be finite")
        if all(isinstance(x, int) for x in (*ends, values.get("step") or 1)):
            return distributions.IntDistribution(**values)
        return distributions.FloatDistribution(**values)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(_not_drawn(name, values, str(error))) from error


def _not_drawn(name: str, values: Any, reason: str) -> str:
    return (
        f"Search.space cannot draw {name!r} from {values!r}: {reason}. Give a list of values, or "
        '{"low": 0.01, "high": 1.0}, with "log": True or "step": 0.01 if wanted.'
    )
