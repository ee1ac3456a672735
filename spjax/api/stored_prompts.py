"""Stored prompts, adapters and runs that answer together over one frozen model."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from spjax import hub, partitioning
from spjax.api import run_folders
from spjax.api.models import run_settings
from spjax.checkpoints import frozen_model, remote
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.checkpoints.weights.weights import AUTO
from spjax.data.tasks import file_task, registry, scored_files
from spjax.data.tasks.info import TaskInfo
from spjax.inference import prediction, weight_changes
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.models.decoding import Decoding
from spjax.studies.copies import local_copy
from spjax.training import stored_run
from spjax.training.run import Run
from spjax.types import Tree

_MOST_ROWS = 1_000_000
_GIVE_MODEL = "Give the model, with --checkpoint=PATH, or --model=SIZE for one that ships."


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The frozen model to answer with, as far as the prompts do not say it themselves.

    Attributes:
      model: name of a size, or "auto"; "" for that of the prompts.
      checkpoint: its weights; "" for those of the prompts' runs, those that ship with spjax, or the
        base model that an adapter names.
      vocabulary: name or path; "" for that of the prompts' runs, or the checkpoint's own.
      dtype: of the weights in memory; "" for that of the prompts' runs, or float32.
      num_partitions: devices along the mesh axis `model`.
      logical_axis_rules: as in `Run`.
    """

    model: str = ""
    checkpoint: str = ""
    vocabulary: str = ""
    dtype: str = ""
    num_partitions: int = 1
    logical_axis_rules: Any = "data_parallel"


@dataclasses.dataclass(frozen=True)
class AnswerOptions:
    """Layout of inputs and choice of answers.

    Attributes:
      decoding: the way of choosing answers.
      labels: answers that "rank" chooses from; () for those of each prompt's task.
      insertion: where the prompt goes; "" for where it was trained.
      input_length: most tokens of an input, EOS included; 0 for that of each prompt's task.
      target_length: most tokens of an answer; likewise.
      batch_size: inputs that are answered at once.

    Raises:
      ValueError: the batch size is out of range.
    """

    decoding: Decoding = Decoding()
    labels: tuple[str, ...] = ()
    insertion: str = ""
    input_length: int = 0
    target_length: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Checks the batch size."""
        if not 1 <= self.batch_size <= _MOST_ROWS:
            raise ValueError(f"the batch size is {self.batch_size}; it must be 1 to {_MOST_ROWS}.")


class StoredPrompts:
    """Prompts, adapters and runs, read, with the frozen model that they share.

    Attributes:
      names: the path of each, or where an object in memory comes from.
      provenance: of each.
    """

    def __init__(
        self,
        sources: Sequence[str | Path | Prompt],
        options: ModelOptions = ModelOptions(),
        model: FrozenModel | None = None,
        note: Callable[[str], None] = warnings.warn,
    ) -> None:
        """Reads prompts and adapters, but no model weights.

        Args:
          sources: paths of prompt files, PEFT adapters or run folders, or prompts in memory.
          options: the model, where none is loaded yet.
          model: an open model, in place of the one that `options` name.
          note: told what a user should know before believing an answer.

        Raises:
          ValueError: something cannot be read, or cannot share a forward pass with the others.
        """
        self.options, self._model, self._note = options, model, note
        self._sources = [check_source(source) for source in sources]
        self.names = [x if isinstance(x, str) else x.origin for x in self._sources]
        self._runs = [self._run_of(source) for source in self._sources]
        for name, run in zip(self.names, self._runs):
            self._check_alone(name, bool(run and run.method.changes_weights))
        self._changing = _weight_changing_run(self.names[0], self._runs[0])
        if self._changing:
            facts = stored_run.provenance(self._changing, Path(self.names[0]))
            self._stored = [Prompt({}, facts, self.names[0])]
        else:
            self._stored = [
                prompt_files.read(x) if isinstance(x, str) else x for x in self._sources
            ]
        self.provenance = [stored.provenance for stored in self._stored]
        for name, stored in zip(self.names, self._stored):
            self._check_alone(name, bool(stored.weight_changes))
        self._weights: Tree | None = None

    def _check_alone(self, name: str, changes_weights: bool) -> None:
        if changes_weights and len(self._sources) > 1:
            raise ValueError(
                f"{name} changes the weights, so no other prompt can share a forward pass with it; "
                "give it alone."
            )

    def tasks(
        self,
        task: Any = "",
        *,
        split: str = "",
        labels: Sequence[str] = (),
        ensemble: str = "",
        columns: Mapping[str, str] = MappingProxyType({}),
    ) -> list[TaskInfo]:
        """Returns the task that each prompt is scored on.

        Args:
          task: as `registry.get` takes it; the path of a file, all rows of which are read as those
            of each prompt's own task; or "" for the prompts' own tasks.
          split: the split that is asked for, "" for the reported one.
          labels: of a file's targets, where the prompt's task has none.
          ensemble: the kind of ensemble, "" for none.
          columns: `template` and `target` of a file, in place of those of the prompts' tasks.

        Raises:
          ValueError: a task is not known, or an ensemble has several.
        """
        is_file = isinstance(task, str) and bool(task) and file_task.is_path(task)
        if columns and not is_file:
            raise ValueError(
                f"--{next(iter(columns))} is of the rows of a file; give the file or dataset with "
                "--task=PATH."
            )
        if task and not is_file:
            return [registry.get(task)] * len(self.provenance)
        if task:
            infos = self._tasks_of_file(task, split, labels, columns)
        else:
            named = [x.get("task_file") or x.get("task", "") for x in self.provenance]
            if not all(named):
                name = self.names[named.index("")]
                raise ValueError(f"{name} does not say its task; give one with --task=NAME.")
            infos = [registry.get(name) for name in named]
        if ensemble and len({*infos}) > 1:
            names = ", ".join(sorted({info.name for info in infos}))
            raise ValueError(
                f"the prompts are of different tasks, {names}; say which one to score with "
                "--task=NAME (a file's rows are read as each prompt's own task reads them, which "
                "must then be the same for all)."
            )
        return infos

    def _tasks_of_file(
        self, path: str, split: str, labels: Sequence[str], columns: Mapping[str, str]
    ) -> list[TaskInfo]:
        """The task of each prompt over all rows of a file."""
        if split not in ("", scored_files.SPLIT):
            raise ValueError(
                f"--split={split} is of a task, and all rows of {path} are scored; leave "
                "it out. Without --task, splits are those of the prompt's own task."
            )
        infos: list[TaskInfo] = []
        notes: dict[str, None] = {}
        for stored in self._stored:
            trained = prediction.task_of(stored)
            infos.append(scored_files.task(path, trained, labels, columns))
            if not columns:
                notes[scored_files.note(path, infos[-1], trained)] = None
        for text in filter(None, notes):
            self._note(text)
        return infos

    def trained_task(self) -> TaskInfo | None:
        """Returns the task of the first prompt, None where it is not known here."""
        return prediction.task_of(self._stored[0])

    def predictor(self, options: AnswerOptions, infos: Sequence[TaskInfo] = ()) -> Predictor:
        """Loads the frozen model and puts the prompts over it.

        Args:
          options: how to answer.
          infos: the task of each prompt; its own by default.

        Raises:
          ValueError: the model is not known, or something does not fit it.
        """
        partitioning.keep_compiled_programs()
        model = self._open_model()
        prompts = self._prepared_prompts(options, infos)
        inputs, targets = (max(prompt.lengths[i] for prompt in prompts) for i in (0, 1))
        fitted = (prompts, model.vocabulary, options.decoding, inputs, targets)
        prediction.check(model.config, *fitted)  # before weights are read
        if self._weights is None:
            self._weights = self._load_weights(model)
        return Predictor(model.config, self._weights, *fitted)

    def _open_model(self) -> FrozenModel:
        """The model that was given, that the options name, or that the prompts name."""
        if self._model is None:
            name = self._model_name()
            if len(self.names) > 1 and not self.options.checkpoint:
                self._base_model()  # all have to name the same
            checkpoint = self.options.checkpoint
            if not (checkpoint or weights.ships(self.options.model)):
                checkpoint = self._run_setting("checkpoint", name)
            if checkpoint and not (remote.is_url(checkpoint) or os.path.exists(checkpoint)):
                # The prompt has the whole path, which runs of earlier versions do not say.
                checkpoint = self.options.checkpoint or self._base_model() or checkpoint
            base = "" if checkpoint else self._base_model()
            if name == AUTO and not (checkpoint or base):
                raise ValueError(
                    f"{', '.join(self.names)} was trained over a model from a checkpoint, which it "
                    "does not name; give the model, with --checkpoint=PATH."
                )
            try:
                self._model = self._open(name, checkpoint or base)
            except ValueError as error:
                if not base:
                    raise
                raise ValueError(
                    f"{', '.join(self.names)} names the frozen model {base!r}, which cannot be "
                    f"opened: {error} {_GIVE_MODEL}"
                ) from error
        return self._model

    def _open(self, name: str, checkpoint: str) -> FrozenModel:
        options = self.options
        of_runs = "" if options.checkpoint else self._run_setting("vocabulary", name)
        return frozen_model.open_shared(
            name,
            checkpoint,
            vocabulary=options.vocabulary or of_runs,
            dtype=options.dtype or self._run_setting("weights_dtype", name) or "float32",
            num_partitions=options.num_partitions,
            logical_axis_rules=options.logical_axis_rules,
        )

    def _model_name(self) -> str:
        names = {facts.get("model", "") for facts in self.provenance}
        name = self.options.model or (names.pop() if len(names) == 1 else "")
        name = name or (AUTO if self.options.checkpoint or self._base_model() else "")
        if not name:
            listed = [facts.get("model", "") for facts in self.provenance]
            raise ValueError(f"the prompts do not say one model (they say {listed}). {_GIVE_MODEL}")
        return name

    def _base_model(self) -> str:
        """The path or URL of the base model that the prompts name, "" for weights that ship.

        Raises:
          ValueError: they name several, or one that cannot be.
        """
        if weights.ships(self.options.model):
            return ""
        known = [
            (name, facts)
            for name, facts in zip(self.names, self.provenance)
            if facts.get("model") or facts.get("base_model")
        ]
        bases = {"" if _is_shipped(facts) else base_model_of(name, facts) for name, facts in known}
        if len(bases) > 1:
            listed = ", ".join(sorted(base or "none" for base in bases))
            raise ValueError(f"the prompts name different frozen models: {listed}. {_GIVE_MODEL}")
        return max(bases, default="")

    def _run_setting(self, name: str, model: str) -> str:
        """The value of a setting in the runs with this model, "" where there is none.

        Raises:
          ValueError: the runs do not agree.
        """
        values = {getattr(run, name) for run in self._runs if run and run.model == model}
        if len(values) > 1:
            raise ValueError(
                f"the runs have trained with different values of {name}: "
                f"{', '.join(sorted(map(repr, values)))}; say which to use with --{name}."
            )
        return values.pop() if values else ""

    def _prepared_prompts(
        self, options: AnswerOptions, infos: Sequence[TaskInfo]
    ) -> list[PreparedPrompt]:
        prepared = []
        for i, stored in enumerate(self._stored):
            info = infos[i] if infos else prediction.task_of(stored)
            labels = options.labels or (info.labels if info else ())
            prompt = prediction.prepare(stored, options.insertion, labels)
            usual = prediction.INPUT_LENGTH, prediction.TARGET_LENGTH
            inputs, targets = (info.input_length, info.target_length) if info else usual
            lengths = options.input_length or inputs, options.target_length or targets
            prepared.append(dataclasses.replace(prompt, lengths=lengths))
        return prepared

    def _load_weights(self, model: FrozenModel) -> Tree:
        """The weights to run with: the frozen ones, or those that a run or an adapter changes."""
        for stored in self._stored:
            for doubt in prediction.doubts(stored, model):
                self._note(doubt)
        if self._changing:
            run = dataclasses.replace(self._changing, **run_settings(model))
            return stored_run.weights_of(run, Path(self.names[0]), model)
        base = model.weights
        for stored in self._stored:
            if stored.weight_changes:
                base = weight_changes.apply(base, stored.weight_changes, stored.origin)
        return base

    def _run_of(self, source: str | Prompt) -> Run | None:
        """The run that has left what a path names, None for what stands alone."""
        folder = run_folders.find_run_folder(source) if isinstance(source, str) else None
        if folder is None:
            return None
        try:
            return run_folders.load_run_config(folder)
        except ValueError as error:
            if getattr(run_folders.method_class_of(folder), "changes_weights", True):
                raise
            self._note(
                f"{folder / 'config.gin'} cannot be used ({str(error).splitlines()[0]}); "
                "checkpoint, vocabulary and dtype of the weights are not known from it, give them "
                "if they are not those of the model's size"
            )
            return None


def check_source(source: Any) -> str | Prompt:
    """Returns a path as text, and a prompt in memory as it is; what a URL names is downloaded.

    Raises:
      ValueError: it is neither, or as `local_copy`.
    """
    if isinstance(source, (str, Path)):
        return local_copy(source)
    if isinstance(source, Prompt):
        return source
    raise ValueError(
        f"{source!r} is no prompt; give the path of a prompt file, PEFT adapter or run folder, or "
        "a prompt from spjax.load_prompt."
    )


def base_model_of(prompt: str, provenance: Mapping[str, str]) -> str:
    """Returns the path or URL of the frozen model that a prompt names, "" for none.

    A name like `google/flan-t5-base` is that of a folder, if there is one and no revision is named,
    as for transformers, and else of a repository of the hub.

    Args:
      prompt: its name in messages.
      provenance: of the prompt.

    Raises:
      ValueError: the base is neither there nor the name of a repository of the hub.
    """
    base, revision = provenance.get("base_model", ""), provenance.get("base_revision", "")
    if not base or _is_local(provenance) or remote.is_url(base):
        return base
    if hub.is_name(base):
        return str(hub.Repository(base, revision))
    raise ValueError(
        f"{prompt} names the frozen model {base!r}, which cannot be opened: there is no file or "
        "folder of this name, and a repository of the hub is written ORGANIZATION/NAME. "
        f"{_GIVE_MODEL}"
    )


def _is_shipped(provenance: Mapping[str, str]) -> bool:
    """Returns whether a prompt was trained over weights that ship with spjax.

    It names no others, or others that are not on this machine and are the same.
    """
    size = provenance.get("model", "")
    if not weights.ships(size) or not provenance.get("base_model"):
        return weights.ships(size)
    digests = weights.shipped_digests(size)
    return not _is_local(provenance) and provenance.get("base_sha256") in digests


def _is_local(provenance: Mapping[str, str]) -> bool:
    """Returns whether the base model of a prompt is a file or folder on this machine."""
    base = provenance.get("base_model", "")
    is_pinned = hub.is_name(base) and bool(provenance.get("base_revision"))
    return os.path.exists(base) and not is_pinned


def _weight_changing_run(name: str, run: Run | None) -> Run | None:
    """The run in a folder if its method changes weights, else None."""
    if run is None or not Path(name).is_dir():
        return None
    if not run.method.trained:
        raise ValueError(
            f"the run in {name} has trained nothing: it writes text around each input. Score it "
            "with `spjax eval` and its folder, without --prompt."
        )
    return run if run.method.changes_weights else None
