"""Labels of a run: the columns that tell runs apart in tables, trackers and on the screen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax.checkpoints.weights import recipes
from spjax.training.run import Run


def labels_of(run: Run) -> dict[str, Any]:
    """Returns model, pretraining_seed, method, prompt_length, init, task, seed and learning_rate.

    The rate is None where nothing is trained.
    """
    model = recipes.model_name_and_seed(run.model, run.checkpoint)
    return {
        "model": model.name,
        "pretraining_seed": model.seed,
        "method": run.method_name,
        "prompt_length": run.method.length_in_tables,
        "init": _init(run),
        "task": str(run.task),
        "seed": run.seed,
        "learning_rate": run.optimizer.learning_rate if run.method.trained else None,
    }


def title(labels: Mapping[str, Any], seeds: str = "") -> str:
    """Returns labels as a short text.

    Args:
      labels: from `labels_of`.
      seeds: of several runs that differ in nothing else; by default the seed.
    """
    length = f" P={labels['prompt_length']}" if labels["prompt_length"] else ""
    seeds = seeds or str(labels["seed"])
    return f"{labels['task']} {labels['model']} {labels['method']}{length} seed {seeds}"


def _init(run: Run) -> str:
    """Returns the label of runs beside model, method, prompt length, task and seed."""
    initializer: Any = getattr(run.method, "initializer", None)
    start = "" if initializer is None else _snake(type(initializer).__name__)
    if path := getattr(initializer, "path", ""):
        start += f" {Path(path).stem}"
    pull = "" if run.waywardness is None else f"pull {run.waywardness.gamma:g}"
    return " ".join(filter(None, (run.method.variant, start, pull)))


def _snake(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
