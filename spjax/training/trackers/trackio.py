"""Trackio (`trackio`): a local database, or a Space as TRACKIO_SPACE_ID says."""

from __future__ import annotations

import contextlib
import contextvars
import sys
import uuid
from collections.abc import Mapping

from spjax import extras
from spjax.training.tracker import TrackedRun, Tracker


class Trackio(Tracker):
    """Logs to a run of Trackio; `trackio show` serves what is logged.

    TRACKIO_DIR and TRACKIO_SPACE_ID are Trackio's own variables. It finds runs by their names, so
    that these end in six digits of their own.
    """

    package, extra = "trackio", "trackio"

    def __init__(self, run: TrackedRun) -> None:
        """Begins a run, or continues it by its name."""
        trackio = extras.import_module("trackio", self.extra, "the tracker trackio")
        self.id = run.id or f"{run.name} {uuid.uuid4().hex[:6]}"
        with contextlib.redirect_stdout(sys.stderr):
            # `init` ends the run that its context knows: those of a gang each have their own.
            self._run = contextvars.Context().run(
                trackio.init,
                project=run.project,
                name=self.id,
                config={**run.settings, **run.labels},
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values."""
        self._run.log(dict(values), step=step)

    def finish(self, status: str) -> None:
        """Does nothing: a run of Trackio has no status."""

    def close(self) -> None:
        """Writes what is left."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
