"""The prompts that a study has left, and predictors over their frozen models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spjax import config
from spjax.analysis import rates, statistics
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

# What runs share that differ in their seed alone.
ALIKE = ("arm", "model", "model_parameters", statistics.PRETRAINING_SEED, "method")
ALIKE += ("prompt_length", "init", "settings", "learning_rate", "task")
_TITLES = {"prompt_length": "P", "learning_rate": "learning rate"}
_TITLES |= {statistics.PRETRAINING_SEED: "pre-training draw"}


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

    @property
    def alike(self) -> dict[str, Any]:
        """Returns the values it shares with runs that differ from it in their seed alone."""
        shared = {name: self.row.get(name) for name in ALIKE}
        return {name: None if value != value else value for name, value in shared.items()}


def runs(study_folder: Path) -> list[Stored]:
    """All finished runs of a study that have a prompt, each once, at the chosen learning rates.

    Raises:
      ValueError: the folder holds no study's results, or as `rates.chosen`.
    """
    table = rates.chosen(statistics.load(study_folder)).drop_duplicates("key")
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
    """A run's frozen model with some prompts of its task.

    Raises:
      ValueError: a prompt was trained with another model.
    """
    frozen = run.open_model()
    for prompt in stored_prompts:
        for doubt in prediction.doubts(prompt, frozen):
            raise ValueError(f"{doubt}; sweep the study again with the weights it is to have")
    info = registry.get(run.task)
    placed = [prediction.prepare(prompt, labels=info.labels) for prompt in stored_prompts]
    model = weights.config_of(run.model, run.checkpoint)
    lengths = (run.input_length or info.input_length, run.target_length or info.target_length)
    words = vocabulary.load_vocabulary(run.resolved_vocabulary)
    return Predictor(model, frozen.weights, placed, words, Decoding(kind), *lengths)


def shown_columns(rows: Sequence[dict[str, Any]], usual: Sequence[str]) -> dict[str, str]:
    """Titles of the usual columns of a table, and of those of `ALIKE` in which its rows differ."""
    differing = [name for name in ALIKE if len({row.get(name) for row in rows}) > 1]
    names = [name for name in differing if name not in (*usual, "model_parameters")]
    return {name: _TITLES.get(name, name) for name in (*usual, *names)}


def cells(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """The values of a row in some columns, as texts."""
    return ["-" if row.get(name) in (None, "") else str(row[name]) for name in names]


def sorting(row: dict[str, Any], names: Sequence[str]) -> list[tuple[bool, Any]]:
    """A key to sort rows by some columns, those without a value last."""
    return [(row.get(name) is None, row.get(name)) for name in names]


def write(folder: Path, name: str, title: str, rows: Sequence[dict[str, Any]], text: str) -> None:
    """Prints a table of a study and writes it, and its rows as JSON, to the study's folder."""
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
    (folder / f"{name}.md").write_text(f"# {title}\n\n{text}")
    print(text)
