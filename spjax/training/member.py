"""One run of a gang: its data, its standing and its files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax import multihost
from spjax.training import code_version
from spjax.training.run import Run
from spjax.training.run_data import RunData
from spjax.training.run_files import Checkpoints, MetricsLog
from spjax.training.schedule import Schedule, Standing
from spjax.training.times import RunTimes
from spjax.training.tracking import Trackers
from spjax.types import Tree


class Member:
    """One run of a gang; its arrays are the gang's.

    Attributes:
      run: its configuration.
      folder: of its files.
      data: its tasks.
      method: the run's, with initial values that follow from the task.
      schedule: when it is evaluated, saved and stopped.
      standing: its progress.
      status: "running", "finished", "pruned" or "diverged".
      message: explains the status, if there is anything to explain.
      scores: the last validation scores.
      times: wall times since the last checkpoint.
      start: trainable parameters at the start of this process, None if they are weights.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.data = RunData(run)
        self.method = self.data.method
        self.schedule, self.standing = Schedule(run), Standing(code=[code_version.digest()])
        self.status, self.message = "running", ""
        self.scores: dict[str, float] = {}
        self.start: Tree | None = None
        self.times = RunTimes(None, 0)
        self.checkpoints: Checkpoints | None = None
        self._log: MetricsLog | None = None
        self._trackers: Trackers | None = None

    @property
    def active(self) -> bool:
        """True while the run still trains."""
        return self.status == "running"

    def open(self, arrays: Tree) -> Tree:
        """Opens files and data, and continues from the last checkpoint if there is one.

        Args:
          arrays: trainable parameters and optimizer slots at step 0.

        Returns:
          The arrays to go on with.
        """
        self.start = None if self.method.changes_weights else arrays["trainable"]
        self.checkpoints = Checkpoints(self.folder)
        self.batches = self.data.batches()
        if (latest := self.checkpoints.latest(arrays)) is not None:
            arrays, self.standing = latest
            self.standing.code = code_version.with_present(self.standing.code)
            if self.standing.step < self.run.steps:
                self.standing = self.standing.without_last()
            self.batches.set_state(self.standing.data)
            self.stop_if_over()
        if multihost.is_primary():
            self._log = MetricsLog(self.folder, self.standing.step)
            self._trackers = Trackers(self.run, self.folder, self.standing.step)
            self.times = RunTimes(self.folder, self.standing.step)
        return arrays

    def stop_if_over(self) -> None:
        """Ends the run if its schedule says so."""
        if self.schedule.is_over(self.standing):
            self.status = "finished"
        elif self.schedule.is_pruned(self.standing):
            step = self.standing.step
            self.status = "pruned"
            self.message = (
                f"stopped at step {step}: the best validation score was "
                f"{self.standing.best['score']:.1f}, below the "
                f"{dict(self.run.stop_below)[step]:.1f} that the search demands there"
            )

    def diverge(self, step: int) -> None:
        """Ends the run at a step whose loss or parameters are not finite."""
        self.standing.step, self.status = step, "diverged"
        self.message = (
            f"the loss or the parameters became NaN or infinite at step {step + 1}; the last good "
            f"checkpoint is kept in {self.folder / 'checkpoints'}. Lower LEARNING_RATE "
            f"({self.run.optimizer.learning_rate})."
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values of a step, in the primary process."""
        if self._log and self._trackers:
            self._log.write(step, values)
            self._trackers.log(step, values)

    def log_step(
        self, step: int, values: Mapping[str, float], speed: Mapping[str, float], is_saved: bool
    ) -> None:
        """Logs a training step, in the primary process.

        Args:
          step: of the run.
          values: that depend on the run alone.
          speed: examples per second and share of padding, as far as they are known.
          is_saved: a checkpoint of the step follows, with the times until then.
        """
        if self._log and self._trackers:
            self._log.write(step, values, is_saved)
            self._trackers.log(
                step, {**values, **{f"train/{name}": value for name, value in speed.items()}}
            )
            self.times.speed = speed
            if not is_saved:  # what follows the last checkpoint is trained again after a power cut
                self.times.write(step, is_synced=False)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tells the trackers the result."""
        if self._trackers:
            self._trackers.finish(self.standing.step, result)

    def save(self, arrays: Tree) -> None:
        """Writes a checkpoint."""
        assert self.checkpoints is not None  # since `open`
        self.standing.data = self.batches.get_state()
        self.times.write(self.standing.step)
        self.checkpoints.save(arrays, self.standing)

    def best_arrays(self, like: Tree) -> Tree:
        """Returns the arrays of the best checkpoint, in the shapes and shardings of `like`."""
        assert self.checkpoints is not None  # since `open`
        return self.checkpoints.at(self.standing.best_step, like)[0]

    def close(self) -> None:
        """Flushes the files; an error of one leaves none of them open."""
        with contextlib.ExitStack() as closing:
            for files in (self.checkpoints, self._trackers):
                if files is not None:
                    closing.callback(files.close)
