"""Training from Python, in the same run folders as `spjax train`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spjax import guesses, methods, multihost
from spjax.api import run_folders
from spjax.api.messages import python_messages
from spjax.api.models import load_model, run_settings
from spjax.api.tasks import Task, load_task
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.config.method_defaults import method_defaults
from spjax.files import expanded, read_json_lines
from spjax.methods.base import Method
from spjax.studies import run_folder
from spjax.studies.copies import local_copy
from spjax.training.loop import Progress
from spjax.training.optimizers import Adafactor, Optimizer
from spjax.training.run import Run

_LEARNING_RATE = 0.3  # of Lester et al. 2021, for methods whose gin file has no other
_FROM_ARGUMENTS = ("task", "method", "optimizer", "steps", "contents")
# Names of settings in the `Trainer` of transformers, and those here.
_OF_TRAINER = {
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "microbatches",
    "num_train_epochs": "steps",
    "max_steps": "steps",
    "report_to": "trackers",
}
_FROM_MODEL = (
    "model",
    "checkpoint",
    "vocabulary",
    "weights_dtype",
    "num_partitions",
    "logical_axis_rules",
)


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A finished run in its folder.

    Attributes:
      folder: with `config.gin`, `metrics.jsonl`, `checkpoints/`, what the method has trained
        (`prompt.npy`, `prompts/`, `tuned.safetensors`) and `result.json`.
      config: everything that decides the numbers of the run.
      result: content of `result.json`.
    """

    folder: Path
    config: Run
    result: dict[str, Any]

    def __repr__(self) -> str:
        """Returns folder, status and scores; all settings are in `config`."""
        scores = {split: self.result.get(split) for split in ("validation", "test")}
        shown = "".join(f", {split}={value}" for split, value in scores.items() if value)
        return f"TrainedRun({str(self.folder)!r}, {self.status!r}{shown})"

    @property
    def status(self) -> str:
        """Returns "finished", or "diverged" for a run whose loss became NaN or infinite."""
        return self.result["status"]

    @property
    def message(self) -> str:
        """Explanation of the status; "" where there is nothing to explain."""
        return self.result["message"]

    @property
    def best_step(self) -> int:
        """Step with the best validation score, which all scores and the prompt belong to."""
        return self.result["best_step"]

    @property
    def validation(self) -> dict[str, float]:
        """Validation metrics in percent, and `score`, their mean."""
        return self.result["validation"]

    @property
    def test(self) -> dict[str, float] | None:
        """Test metrics in percent, and `score`; None without a labeled test split."""
        return self.result["test"]

    @property
    def metrics(self) -> list[dict[str, float]]:
        """Rows of `metrics.jsonl`: step, training loss and validation metrics."""
        return read_json_lines(self.folder / "metrics.jsonl")

    @property
    def times(self) -> list[dict[str, float]]:
        """Rows of `times.jsonl`: seconds of training steps, evaluations and checkpoints, apart."""
        return read_json_lines(self.folder / "times.jsonl")

    @property
    def prompt(self) -> Prompt:
        """Tensors for inference: soft tokens, a prefix, factors of kernels, with provenance.

        Raises:
          ValueError: the run has left none in its folder, as full fine-tuning does, or a prompt
            for each of several tasks.
        """
        return prompt_files.read(self.folder)

    def evaluate(self, split: str = "") -> dict[str, Any]:
        """Scores the best step again, as `spjax eval FOLDER` does.

        Args:
          split: "train", "validation" or "test"; "" for the one that is reported.

        Returns:
          Split, number of examples, step, metrics in percent, and `score`.
        """
        from spjax.training import stored_run

        with python_messages():
            return stored_run.score_folder(self.config, self.folder, split)


def train(
    model: FrozenModel | str,
    data: Any,
    method: Method,
    optimizer: Optimizer | None = None,
    *,
    steps: int,
    output_dir: str | os.PathLike[str],
    learning_rate: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **settings: Any,
) -> TrainedRun:
    """Trains a method on a task over a frozen model, and scores its best step.

    Writes the run folder that `spjax train` writes. The same call continues an interrupted run,
    returns a finished one at once, and goes on from a finished one with more steps.

    Args:
      model: from `load_model`, or what it takes.
      data: from `load_task`, or what it takes.
      method: an object of one of the classes in `spjax.methods`.
      optimizer: `Adafactor` or `AdamW`; by default Adafactor as the method's gin file sets it.
      steps: updates.
      output_dir: folder of this run alone.
      learning_rate: of the optimizer; by default that of the method's gin file (0.3 for prompts).
      on_progress: called with step, stage and scores a few times a second.
      **settings: further fields of `Run`, for example `batch_size`, `eval_period`, `seed`,
        `patience`, `dropout_rate`, `input_length`, `eval_examples`, `log_period`, `trackers`.

    Raises:
      ValueError: an unknown setting, an argument of the wrong kind, or an output folder that holds
        another run.
    """
    check_method(method)
    _check_optimizer(optimizer)
    _check_names(settings)
    model = model if isinstance(model, FrozenModel) else load_model(model)
    task = data if isinstance(data, Task) else load_task(data)
    folder = Path(expanded(os.fspath(output_dir)))
    with python_messages():
        optimizer = optimizer or default_optimizer(method)
        if learning_rate is not None:
            optimizer = dataclasses.replace(optimizer, learning_rate=learning_rate)
        run = Run(
            task=task.source,
            method=method,
            optimizer=optimizer,
            steps=steps,
            **run_settings(model),
            **settings,
        )
        reports = on_progress if multihost.is_primary() else None
        result, _ = run_folders.train_in_folder(run, folder, reports)
    # The other processes of a multi-host run may be ahead of the one that writes the files.
    return load_run(folder) if multihost.is_primary() else TrainedRun(folder, run, result)


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """Opens the folder of a finished run, whether Python or the command line has trained it.

    Raises:
      ValueError: there is no finished run, or its files were changed since.
    """
    path = Path(expanded(local_copy(folder)))
    result = run_folder.result(path)
    if result is None and not path.exists():
        raise ValueError(f"there is no folder {path}.{guesses.did_you_mean_path(path)}")
    if result is None:
        raise ValueError(
            f"{path} holds no finished run (no result.json); train it with spjax.train or "
            "`spjax train`."
        )
    with python_messages():
        return TrainedRun(path, run_folders.load_run_config(path), result)


def default_optimizer(method: Method) -> Adafactor:
    """Returns the Adafactor that `spjax train` uses for a method, from the method's gin file."""
    defaults = method_defaults(methods.name_of(method))
    settings = {
        name.removeprefix("Adafactor."): value
        for name, value in defaults.items()
        if name.startswith("Adafactor.")
    }
    rate = defaults.get("LEARNING_RATE", _LEARNING_RATE)
    return Adafactor(**{"learning_rate": rate, **settings})


def check_method(method: Any) -> None:
    """Demands an object of a method's class.

    Raises:
      ValueError: it is a class, or something else.
    """
    if isinstance(method, Method):
        return
    if isinstance(method, type) and issubclass(method, Method):
        raise ValueError(
            f"method is the class {method.__name__}; give an object of it, {method.__name__}(...)."
        )
    names = ", ".join(methods.get(name).__name__ for name in methods.names())
    raise ValueError(f"method is {method!r}; give an object of one of spjax's methods: {names}.")


def _check_optimizer(optimizer: Any) -> None:
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"optimizer is {optimizer!r}; give spjax.Adafactor(...) or spjax.AdamW(...), which a "
            "run folder can record. For any other optax optimizer write the loop with "
            "spjax.TunedModel."
        )


def _check_names(settings: dict[str, Any]) -> None:
    known = {field.name for field in dataclasses.fields(Run)}
    for name in settings:
        if name in _FROM_MODEL:
            raise ValueError(
                f"{name} belongs to the model; give it to spjax.load_model, not to spjax.train."
            )
        if name not in known - {*_FROM_ARGUMENTS}:
            allowed = sorted(known - {*_FROM_ARGUMENTS, *_FROM_MODEL})
            guess = guesses.did_you_mean(_OF_TRAINER.get(name, name), [*allowed, "steps"])
            raise ValueError(
                f"spjax.train has no setting {name!r}.{guess} There are: {', '.join(allowed)}."
            )
