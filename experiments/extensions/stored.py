"""The prompts that a study has left, and predictors over their frozen models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spjax import config
from spjax.analysis import statistics
from spjax.checkpoints.prompts import prompt_files, run_prompts
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.data.tasks import registry
from spjax.inference import prediction
from spjax.inference.prediction import Predictor
from spjax.methods import base
from spjax.models.decoding import Decoding
from spjax.training.run import Run
from spjax.vocabularies import vocabulary


@dataclasses.dataclass(frozen=True)
class Stored:
    """A finished run and its prompt.

    Attributes:
      row: of the study's results.csv.
      run: what its folder's config.gin says.
      prompt: of its best step.
    """

    row: dict[str, Any]
    run: Run
    prompt: Prompt


def runs(study_folder: Path) -> list[Stored]:
    """All finished runs of a study that have a prompt, each once.

    Raises:
      ValueError: the folder holds no study's results.
    """
    table = statistics.load(study_folder).drop_duplicates("key")
    result = []
    for row in table.to_dict("records"):
        folder = study_folder / "runs" / row["key"]
        if (folder / run_prompts.PROMPT_FILE).is_file():
            run = config.load_stored("Run", folder / "config.gin")
            result.append(Stored(row, run, prompt_files.read_soft_tokens(folder)))
    return result


def at_the_start(run: Run) -> Prompt:
    """The prompt that a run of prompt tuning started from."""
    model = run.open_model()
    method = run.method.resolve(
        run.mixture.class_labels, model.vocabulary.encode, len(run.mixture.trained)
    )
    trainable = base.init_trainable(method, model.weights, run.seed)
    arrays = method.without_initializer().collapse(trainable, model.weights)
    return Prompt.from_array(np.asarray(arrays["prompt"], np.float32), {}, "before training")


def predictor(run: Run, stored_prompts: Sequence[Prompt], kind: str = "greedy") -> Predictor:
    """A run's frozen model with some prompts of its task."""
    info = registry.get(run.task)
    placed = [prediction.prepare(prompt, labels=info.labels) for prompt in stored_prompts]
    model = weights.config_of(run.model, run.checkpoint)
    lengths = (run.input_length or info.input_length, run.target_length or info.target_length)
    words = vocabulary.load_vocabulary(run.resolved_vocabulary)
    return Predictor(model, run.open_model().weights, placed, words, Decoding(kind), *lengths)


def write(folder: Path, name: str, title: str, rows: Sequence[dict[str, Any]], text: str) -> None:
    """Prints a table of a study and writes it, and its rows as JSON, to the study's folder."""
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
    (folder / f"{name}.md").write_text(f"# {title}\n\n{text}")
    print(text)
