"""MLflow (`mlflow`): a local store or a server, as MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax import extras, locks
from spjax.training.tracker import TrackedRun, Tracker

_MOST_CHARACTERS = 500  # of a parameter, in every version and store of MLflow
_PATIENCE_SECONDS = 120.0
_STATUS = {"finished": "FINISHED", "pruned": "FINISHED", "diverged": "FAILED"}


class MLflow(Tracker):
    """Logs to a run of MLflow, in an experiment named after the study.

    MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are MLflow's own variables.
    """

    package, extra = "mlflow", "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        """Begins a run, or continues it by its id."""
        mlflow = extras.import_module("mlflow", self.extra, "the tracker mlflow")
        self._entities = mlflow.entities
        lock = Path(tempfile.gettempdir()) / f"spjax-mlflow-{os.getuid()}.lock"
        with locks.hold(lock, _PATIENCE_SECONDS):  # two workers must not both make a new database
            self._client = mlflow.MlflowClient()
            self._client.search_experiments(max_results=1)
        if run.id:
            self.id = run.id
            self._client.update_run(run.id, "RUNNING")
        else:
            experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", run.project))
            self.id = self._client.create_run(experiment, run_name=run.name).info.run_id
            texts = {**run.settings, **run.labels}
            params = [
                self._entities.Param(name, str(value)[:_MOST_CHARACTERS])
                for name, value in texts.items()
            ]
            self._client.log_batch(self.id, params=params)
        self._status = "KILLED"

    def _experiment(self, name: str) -> Any:
        """Returns the id of an experiment, which another process may be making right now."""
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return self._client.create_experiment(name)
            except Exception:
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        return known.experiment_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Logs values in one transaction."""
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def finish(self, status: str) -> None:
        """Notes the status, which `close` reports."""
        self._status = _STATUS[status]

    def close(self) -> None:
        """Ends the run: as KILLED if it has no result yet."""
        self._client.set_terminated(self.id, self._status)
