"""TensorBoard: events in the run's folder; the run's labels are its hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping

from tensorboardX import SummaryWriter, summary

from spjax.training.tracker import TrackedRun, Tracker

_FLUSH_SECONDS = 10
_SHOWN = ("validation/score", "test/score", "train/loss")  # in the table of hyper-parameters


class TensorBoard(Tracker):
    """Writes event files; `tensorboard --logdir FOLDER` shows them.

    Events after the step that a run goes on from are hidden.
    """

    def __init__(self, run: TrackedRun) -> None:
        """Opens an event file."""
        self._writer = SummaryWriter(
            str(run.folder),
            purge_step=run.step + 1,
            flush_secs=_FLUSH_SECONDS,
            filename_suffix=f".{run.step:08}",  # else a file of the same second is overwritten
        )
        experiment, start, self._end = summary.hparams(dict(run.labels), dict.fromkeys(_SHOWN, 0.0))
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(start)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self, status: str) -> None:
        """Ends the session of the hyper-parameters."""
        self._writer.file_writer.add_summary(self._end)

    def close(self) -> None:
        """Flushes the events."""
        self._writer.close()
