"""Wall time of a run's training steps and evaluations, apart: `times.jsonl`.

It is not in `metrics.jsonl`, which has the same bytes however often a run was interrupted. A line
has the seconds since the line before, which is of the step `since`: `train_seconds` of updates,
with loading batches and the first compilation, `evaluation_seconds` of scoring, and
`checkpoint_seconds` of handing checkpoints over, which are written in the background. `runs` is the
number that trained side by side: of a gang's updates each run that still trains has an equal share.
What an interruption lost does not count. `examples_per_second` are those of the run, without the
first compilation and evaluations, and `padding` is the share of the encoder positions of all rows,
the gang's others included, without a token or soft token.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from spjax.files import append_line
from spjax.training import run_files

FILE = "times.jsonl"
STAGES = ("train", "evaluation", "checkpoint")


class Stopwatch:
    """Divides the time of a process among the stages of its runs."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self, stage: str, times: Sequence[RunTimes]) -> None:
        """Adds the time since the last call to a stage, in equal shares of some runs.

        Args:
          stage: one of `STAGES`.
          times: of the runs.
        """
        now = time.perf_counter()
        for of_run in times:
            of_run.add(stage, (now - self._last) / len(times), len(times))
        self._last = now


class RunTimes:
    """Seconds of one run by stage.

    Attributes:
      speed: further values for the next line.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        """Drops what was written after `step`, which the run goes on from.

        Args:
          folder: of the run; None in a process that writes no files.
          step: the run goes on from.
        """
        self._path = None if folder is None else folder / FILE
        if self._path is not None:
            run_files.drop_after(self._path, step)
        self._since, self._runs = step, 1
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self.speed: Mapping[str, float] = {}

    def add(self, stage: str, seconds: float, runs: int) -> None:
        """Adds a share of the seconds that some runs took together."""
        self._seconds[stage] += seconds
        if stage == "train":
            self._runs = runs

    def write(self, step: int, is_synced: bool = True) -> None:
        """Appends a line with the seconds since the last one.

        Args:
          step: of the run.
          is_synced: as for `append_line`.
        """
        seconds = {f"{stage}_seconds": round(self._seconds[stage], 6) for stage in STAGES}
        row = {"step": step, "since": self._since, **seconds, "runs": self._runs, **self.speed}
        if self._path is not None:
            append_line(self._path, json.dumps(row), is_synced)
        self._since, self._seconds, self.speed = step, dict.fromkeys(STAGES, 0.0), {}
