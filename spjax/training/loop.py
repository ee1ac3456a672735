"""The training loop: a gang of runs over one frozen model, resumable at any moment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spjax import multihost, partitioning
from spjax.inference import evaluation
from spjax.training import code_version, drift, host_memory, result, trackers, untrained
from spjax.training.gang import Gang, check_gang
from spjax.training.member import Member
from spjax.training.reports import Reports
from spjax.training.run import Run
from spjax.training.stop import StopRequested
from spjax.types import Tree

_SECONDS_BETWEEN_REPORTS = 0.3


@dataclasses.dataclass(frozen=True)
class Progress:
    """A report to the caller while a gang trains.

    Attributes:
      step: updates made by the run that is furthest behind.
      steps: updates in all.
      stage: "loading", "compiling" (the first step, or the first evaluation, which it compiles),
        "training" or "evaluating".
      scores: the last validation score of each run, in percent.
    """

    step: int
    steps: int
    stage: str
    scores: tuple[float, ...] = ()


def train(
    runs: Sequence[Run],
    folders: Sequence[Path],
    on_progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Trains a gang of runs (often of one) to the end and writes their folders.

    A run whose folder holds checkpoints continues from the last one, with the numbers it would
    have had without the interruption (in a gang of other runs, but for the order of sums).
    `result.json` is written last.

    Args:
      runs: must have an equal `gang.gang_key`.
      folders: one for each run; made if missing.
      on_progress: called a few times a second at the most, in each process. It may raise
        `StopRequested`, again and again, as soon as the time is up; if it does so in one of several
        processes, all of them stop.

    Returns:
      The content of each `result.json`. A run whose loss became NaN has status "diverged" and the
      message says at which step.

    Raises:
      ValueError: the runs do not fit together, or their data or weights cannot be read.
      StopRequested: by `on_progress`, once the checkpoints of the present steps are on disk. An
        evaluation that is due comes first.
    """
    reports = Reports(on_progress)
    total = max(run.steps for run in runs)
    reports.report(Progress(0, total, "loading"))
    code_version.digest()  # as the files are now, not as they are when the run ends
    partitioning.keep_compiled_programs()
    host_memory.release_programs()
    multihost.barrier("start")  # the primary process may have had to prepare the folders
    check_gang(runs)
    trackers.check_installed([name for run in runs for name in run.trackers])
    for run, folder in zip(runs, folders, strict=True):
        run.check_contents()
        folder.mkdir(parents=True, exist_ok=True)
    members = [Member(run, folder) for run, folder in zip(runs, folders, strict=True)]
    if not runs[0].method.trained:
        return [_score_untrained(member) for member in members]
    started, reported = time.monotonic(), 0.0
    gang = Gang(members, runs[0].open_model())
    try:
        stopwatch = gang.step_log.stopwatch
        with contextlib.suppress(StopRequested):  # is raised again when there is a step to save
            reports.report(_progress(gang, total, "compiling"))
        evaluating = "compiling"
        while gang.active:
            gang.train()
            if due := [m for m in gang.active if m.schedule.saves_at(m.standing.step)]:
                gang.wait_for_steps()
                stopwatch.lap("train", [member.times for member in gang.active])
            for member in due:
                with contextlib.suppress(StopRequested):  # a run is saved with its evaluation
                    reports.report(_progress(gang, total, evaluating))
                _evaluate_and_save(gang, member)
                evaluating = "evaluating" if member.scores else evaluating
            if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                reports.report(_progress(gang, total, "training"))
            reports.agree()
        gang.wait_for_checkpoints()
        results = {}
        for member in gang.members:  # each has its share of the time of all
            results[member] = _finish(gang, member, (time.monotonic() - started) / len(runs))
        return [results[member] for member in members]
    except StopRequested:
        gang.wait_for_steps()
        for member in gang.active:
            if gang.check(member):
                member.save(gang.arrays(member))
        gang.wait_for_checkpoints()
        raise
    finally:
        gang.close()


def _evaluate_and_save(gang: Gang, member: Member) -> None:
    """Scores the validation examples if that is due, and writes a checkpoint."""
    if not gang.check(member):
        return
    stopwatch, step = gang.step_log.stopwatch, member.standing.step
    if member.schedule.evaluates_at(step):
        trainable = gang.arrays(member)["trainable"]
        member.scores = member.data.evaluate(_answer(gang, member, trainable))
        member.standing.record(member.scores, member.schedule.is_period(step))
        member.stop_if_over()
        named = {f"validation/{name}": value for name, value in member.scores.items()}
        member.log(step, named | drift.drift(member.start, trainable))
        if not member.active:
            gang.deactivate(member)
        stopwatch.lap("evaluation", [member.times])
    member.save(gang.arrays(member))
    stopwatch.lap("checkpoint", [member.times])


def _finish(gang: Gang, member: Member, seconds: float) -> dict[str, Any]:
    """Scores the best checkpoint of a run on what chose nothing, and writes its result."""
    content = result.facts(member, gang.model)
    if member.standing.best_step >= 0:
        arrays = member.best_arrays(gang.arrays(member))
        trainable = arrays["trainable"]
        result.score(member, _answer(gang, member, trainable), content)
        result.save_tensors(member, gang.model, trainable, content)
    written = result.write(member, content, seconds)
    member.finish(written)
    return written


def _answer(gang: Gang, member: Member, trainable: Tree) -> result.Answer:
    """Returns a function that writes the texts of a run with these parameters for a split."""
    return functools.partial(
        evaluation.predict,
        gang.config.model,
        member.method.without_initializer(),
        trainable,
        gang.model.weights,
        member.data.vocabulary,
        member.data.eval_layout,
        member.run.eval_batch_size,
        member.run.num_beams,
    )


def _score_untrained(member: Member) -> dict[str, Any]:
    """Scores a run whose method has nothing to train, and writes its result."""
    started, model = time.monotonic(), member.run.open_model()
    scored = untrained.Untrained(member.run, member.data)
    answer = scored.answers(model.weights)
    best = member.data.evaluate(answer)
    member.standing = dataclasses.replace(member.standing, best_step=0, best=best)
    member.status, member.message = "finished", scored.message
    content = result.facts(member, model)
    result.score(member, answer, content)
    return result.write(member, content, time.monotonic() - started)


def _progress(gang: Gang, total: int, stage: str) -> Progress:
    step = min(member.standing.step for member in gang.active or gang.members)
    scores = tuple(member.scores["score"] for member in gang.members if member.scores)
    return Progress(step, total, stage, scores)
