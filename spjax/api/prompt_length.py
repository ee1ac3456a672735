"""The prompt length that a task needs, from a few short runs."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spjax import validation
from spjax.api import studies
from spjax.api.messages import python_messages
from spjax.api.models import load_model, run_settings
from spjax.api.tasks import Task, load_task
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.models import quantization
from spjax.models.sizes import SIZES, get_size
from spjax.studies import plan
from spjax.studies.executors.local import Local
from spjax.studies.study import Arm, Study
from spjax.training import run_data

if TYPE_CHECKING:
    from spjax.analysis.saturation import Saturation

LENGTHS = (1, 2, 5, 10, 20, 50, 100)
SEEDS, STEPS, TOLERANCE = 3, 600, 1.0
_FILES = (
    "gin_configs/runs/capacity.gin",
    "gin_configs/methods/prompt_tuning.gin",
    "gin_configs/prompts/sampled_vocabulary.gin",
)
_RATE = 0.1  # of the embedding's root mean square
_STAIRS = 20  # of the learning rate
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PromptLength:
    """The prompt length recommended for a task and a frozen model.

    Attributes:
      task: its name.
      model: name of its size.
      tolerance: points that count as no gain.
      length: the shortest from which on no length tried is beaten by a longer one by more than the
        tolerance, with 95 % confidence; the longest tried where none is shown to be enough.
      shortest: lower end of its 90 % interval: the length before it is shown to be beaten by more.
      located: whether a length below the longest is enough.
      varies: whether scores differ between seeds; where they do not, as at a ceiling, `length` is
        read off the scores and has no interval.
      scores: mean score in percent by length.
      other_sizes: for other sizes of the model's family the least and the recommended length at
        which a prompt has as many trained numbers.
      folder: of the runs, a study for `spjax plot`.
    """

    task: str
    model: str
    tolerance: float
    length: int
    shortest: int
    located: bool
    varies: bool
    scores: Mapping[int, float]
    other_sizes: Mapping[str, tuple[int, int]]
    folder: Path

    def __str__(self) -> str:
        """Returns the recommendation in words, with scores and other sizes."""
        lines = [_listed_scores(self.task, self.model, self.scores)]
        soft_tokens = f"{self.length} soft token{'s' * (self.length != 1)}"
        points = f"{self.tolerance:g} point{'s' * (self.tolerance != 1)}"
        if self.located and not self.varies:
            lines.append(
                f"Recommended: {soft_tokens}; no longer prompt tried gains more than "
                f"{points}. Scores do not differ between seeds: no interval."
            )
        elif self.located:
            lines.append(
                f"Recommended: {soft_tokens}; no longer prompt tried gains more than "
                f"{points}. 90 % interval: {self.shortest} to {self.length}."
            )
        else:
            lines.append(
                f"No length below {self.length} is shown to be enough: {self.shortest} or more. "
                "Try longer prompts if scores still rise, or more seeds if they do not."
            )
        if self.other_sizes:
            others = ", ".join(
                f"{name} {low} to {high}" if low < high else f"{name} {high}"
                for name, (low, high) in self.other_sizes.items()
            )
            lines.append(
                f"As many trained numbers on other sizes: {others}. Larger models may need fewer, "
                "since they know more of the task."
            )
        return "\n".join(lines)


def recommend_prompt_length(
    model: FrozenModel | str,
    data: Any,
    *,
    lengths: Sequence[int] = LENGTHS,
    seeds: int = SEEDS,
    steps: int = STEPS,
    batch_size: int = 32,
    tolerance: float = TOLERANCE,
    learning_rate: float | None = None,
    output_dir: str | os.PathLike[str] = "results",
    workers: int | None = None,
) -> PromptLength:
    """Trains prompts of several lengths on a task and returns the length that is enough.

    Training is that of `gin_configs/runs/capacity.gin`. An interrupted call goes on where it was.

    Args:
      model: from `load_model`, or what it takes.
      data: from `load_task`, or what it takes.
      lengths: two or more prompt lengths.
      seeds: runs of each length, two or more.
      steps: updates of a run.
      batch_size: examples in an update.
      tolerance: points of the score that count as no gain.
      learning_rate: of Adam; by default a tenth of the root mean square of the model's embedding.
      output_dir: the runs get a folder in it.
      workers: processes; by default one for each accelerator, or for each core.

    Raises:
      ValueError: an argument is not allowed, the model or task cannot be used, or no length scores
        above the majority baseline, so that none can be recommended.
      RuntimeError: runs failed.
    """
    from spjax.analysis import saturation, statistics

    lengths = _checked(lengths, seeds, tolerance, steps)
    model = model if isinstance(model, FrozenModel) else load_model(model)
    task = data if isinstance(data, Task) else load_task(data)
    if doubt := run_data.few_examples(task.mixture):
        _log.warning(doubt)
    with python_messages():
        study = _study(model, task, lengths, seeds, steps, batch_size, learning_rate)
        folder, executor = Path(output_dir) / study.name, Local(workers or 0)
        planned = studies.PlannedStudy(study, plan.expand(study), folder, executor)
        outcome = planned.run()
    if outcome.stopped or outcome.failed or not outcome.finished:
        raise RuntimeError(planned.report(outcome))
    studies.finish_study(planned.folder, study)
    suite = statistics.suite(statistics.main_runs(statistics.load(planned.folder)))
    cells = suite.cells.sort_values("prompt_length")
    estimates = [suite.estimates[line, name] for line, name in zip(cells["line"], cells["model"])]
    scores = dict(zip(lengths, cells["mean"]))
    _check_learned(task, model, scores, suite.majority, planned.folder)
    saturated = saturation.locate(lengths, estimates, tolerance)
    return _advice(model, task, tolerance, saturated, scores, planned.folder)


def _check_learned(
    task: Task, model: FrozenModel, scores: Mapping[int, float], majority: float, folder: Path
) -> None:
    """Refuses to compare lengths none of which has learned the task.

    Raises:
      ValueError: no score is above that of always answering with the commonest target.
    """
    # Of a task with one answer, as recitation, the majority is the best score there is.
    floor = majority if 0 < majority < 100 else 0.0
    if max(scores.values()) > floor:
        return
    raise ValueError(
        f"{_listed_scores(task.name, model.name, scores)} No length can be recommended: none "
        f"scores above {floor:.1f}, the score of always answering with the commonest target. "
        f"Train longer, or at another learning rate. Runs and figure: {folder}"
    )


def _listed_scores(task: str, model: str, scores: Mapping[int, float]) -> str:
    listed = ", ".join(f"{length}: {score:.1f}" for length, score in scores.items())
    return f"{task}, {model}. Mean score by prompt length: {listed}."


def _checked(lengths: Sequence[int], seeds: int, tolerance: float, steps: int) -> list[int]:
    for length in lengths:
        validation.whole("lengths", length, 1, validation.MOST_POSITIONS)
    validation.whole("seeds", seeds, 2, validation.MOST_EXAMPLES)
    validation.whole("steps", steps, _STAIRS, validation.MOST_STEPS)
    validation.number("tolerance", tolerance, 0, 100, above=True)
    if len(set(lengths)) < 2:
        raise ValueError(f"lengths is {list(lengths)}; give two different prompt lengths or more.")
    return sorted(set(lengths))


def _study(
    model: FrozenModel,
    task: Task,
    lengths: Sequence[int],
    seeds: int,
    steps: int,
    batch_size: int,
    learning_rate: float | None,
) -> Study:
    settings = {f"Run.{name}": value for name, value in run_settings(model).items()}
    arm = Arm(
        "prompts",
        _FILES,
        {"PROMPT_LENGTH": lengths, "SEED": list(range(seeds))},
        {
            **settings,
            "MIXTURE_OR_TASK_NAME": task.source,
            "TRAIN_STEPS": steps,
            "STEPS_PER_STAIR": -(-steps // _STAIRS),
            "EVAL_PERIOD": max(1, steps // 6),
            "BATCH_SIZE": batch_size,
            "LEARNING_RATE": _default_rate(model) if learning_rate is None else learning_rate,
        },
    )
    name = re.sub(r"[^\w.-]+", "_", f"prompt_length-{model.name}-{task.name}")
    return Study(name, [arm], ["score_over_length"])


def _default_rate(model: FrozenModel) -> float:
    """Returns a tenth of the root mean square of the embedding, in three digits."""
    import jax.numpy as jnp

    embedding_VD = quantization.dequantize(model.weights["token_embedder"]["embedding"])
    return float(f"{_RATE * float(jnp.sqrt(jnp.mean(embedding_VD**2))):.3g}")


def _advice(
    model: FrozenModel,
    task: Task,
    tolerance: float,
    saturated: Saturation,
    scores: Mapping[int, float],
    folder: Path,
) -> PromptLength:
    from spjax.analysis import saturation

    if varies := saturated.length is not None:
        shortest, length, located = saturated.shortest_possible, saturated.length, saturated.located
    else:
        length = saturation.without_spread(list(scores), list(scores.values()), tolerance)
        shortest, located = length, length < saturated.longest
    width, family = model.config.emb_dim, model.name.rpartition("_")[0]

    def scaled(count: int, size: str) -> int:
        return math.ceil(count * width / get_size(size).emb_dim)

    others = {
        size: (scaled(shortest, size), scaled(length, size))
        for size in SIZES
        if family and size != model.name and size.rpartition("_")[0] == family
    }
    return PromptLength(
        task.name,
        model.name,
        tolerance,
        length,
        shortest,
        located,
        varies,
        scores,
        others if located else {},
        folder,
    )
