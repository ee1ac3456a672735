"""Weights & Biases (`wandb`); with WANDB_MODE=offline without a network or an account."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping

from spjax import extras
from spjax.training.tracker import TrackedRun, Tracker


class WandB(Tracker):
    """Logs to a run of W&B; WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and the others are its own.

    Files are in the run's folder unless WANDB_DIR names another. Runs of a gang are logged side by
    side.
    """

    package, extra = "wandb", "wandb"

    def __init__(self, run: TrackedRun) -> None:
        """Begins a run, or continues it by its id."""
        wandb = extras.import_module("wandb", self.extra, "the tracker wandb")
        self.id = run.id or uuid.uuid4().hex[:12]
        offline = os.environ.get("WANDB_MODE") == "offline"  # has no server to ask for the run
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.project),
            id=self.id,
            name=run.name,
            config={**run.settings, "labels": dict(run.labels)},
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            resume="allow" if run.id and not offline else None,
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        self._exit_code = 1  # W&B shows such a run as failed

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values; W&B itself ignores steps before its last one."""
        self._run.log(dict(values), step=step)

    def finish(self, status: str) -> None:
        """Writes the status to the summary."""
        self._run.summary["status"] = status
        self._exit_code = 1 if status == "diverged" else 0

    def close(self) -> None:
        """Uploads what is left, or leaves it on the disk for `wandb sync`."""
        self._run.finish(exit_code=self._exit_code)
