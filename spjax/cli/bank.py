"""What is given with --prompt, and the frozen model that is asked under all of it.

Modules are imported inside functions, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spjax.cli import run_folders
from spjax.cli.prompts import find_vocabulary


class Bank:
    """Prompts, adapters and runs from the command line.

    Attributes:
      facts: the provenance of each.
    """

    def __init__(self, args: argparse.Namespace, paths: Sequence[str]) -> None:
        """Reads what is small.

        Raises:
          ValueError: something of it cannot be read, or cannot answer beside the others.
        """
        from spjax.checkpoints.prompts import tuned

        self.args, self.paths = args, paths
        self._runs = [_run_of(path) for path in paths]
        for path, run in zip(paths, self._runs):
            self._check_alone(path, run and run.method.changes_weights)
        self._changing = _changing_run(paths[0], self._runs[0])
        self._stored = [] if self._changing else [tuned.read(path) for path in paths]
        self.facts = [x.provenance for x in self._stored] or [_facts_of(paths[0])]
        for path, one in zip(paths, self._stored):
            self._check_alone(path, bool(one.changes))

    def _check_alone(self, path: str, changes_weights: bool) -> None:
        if changes_weights and len(self.paths) > 1:
            raise ValueError(
                f"{path} changes the weights, so no other prompt can share a forward pass with it; "
                "give it alone."
            )

    def tasks(self, task: str, together: str) -> list[Any]:
        """The task that each is scored on: `task`, else its own.

        Args:
          task: the name of a task, or the path of a file whose rows are read as those of each
            prompt's own task; "" for their own.
          together: the kind of ensemble, "" for none.

        Raises:
          ValueError: a task is not known, or an ensemble has several.
        """
        from spjax.data.tasks import file_task, registry

        if task and not file_task.is_path(task):
            return [registry.get(task)] * len(self.facts)
        if task:
            found = self._of_file(task)
        else:
            named = [facts.get("task_file") or facts.get("task", "") for facts in self.facts]
            if not all(named):
                path = self.paths[named.index("")]
                raise ValueError(f"{path} does not say its task; give one with --task=NAME.")
            found = [registry.get(name) for name in named]
        if together and len({*found}) > 1:
            names = ", ".join(sorted({info.name for info in found}))
            raise ValueError(
                f"the prompts are of different tasks, {names}; say which one to score with "
                "--task=NAME (a file's rows are read as each prompt's own task reads them, which "
                "must then be the same for all)."
            )
        return found

    def _of_file(self, path: str) -> list[Any]:
        """The task of each prompt over all rows of a file."""
        from spjax.checkpoints.prompts.tuned import Tuned
        from spjax.data.tasks import scored_files
        from spjax.inference import prediction

        if self.args.split not in ("", scored_files.SPLIT):
            raise ValueError(
                f"--split={self.args.split} is of a task, and all rows of {path} are scored; leave "
                "it out. Without --task, splits are those of the prompt's own task."
            )
        infos, notes = [], {}
        for facts, origin in zip(self.facts, self.paths, strict=True):
            trained = prediction.task_of(Tuned({}, facts, origin))
            infos.append(scored_files.task(path, trained, labels_of(self.args)))
            notes[scored_files.note(path, infos[-1], trained)] = None
        for text in filter(None, notes):
            note(text)
        return infos

    def predictor(self, infos: Sequence[Any] = ()) -> Any:
        """The model that they were trained with, or the one that the flags name.

        Args:
          infos: the task of each; its own by default.

        Raises:
          ValueError: the model is not known, or something does not fit it.
        """
        from spjax import partitioning
        from spjax.checkpoints.weights import weights
        from spjax.inference import prediction
        from spjax.models.decoding import Decoding

        partitioning.keep_compiled_programs()
        args = self.args
        how = Decoding(
            args.decoding,
            args.num_beams,
            args.length_penalty,
            args.temperature,
            args.top_k,
            args.seed,
        )
        model = self._model()
        checkpoint = self._checkpoint(model)
        of_runs = "" if args.checkpoint else self._of_runs("vocabulary", model)
        words = find_vocabulary(args.vocabulary or of_runs, model, checkpoint)
        config = weights.config_of(model, checkpoint)
        placed = self._placed(infos)
        inputs, targets = (max(own.lengths[i] for own in placed) for i in (0, 1))
        prediction.check(config, placed, words, how, inputs, targets)  # before weights are read
        base = self._base(model, checkpoint, config)
        return prediction.Predictor(config, base, placed, words, how, inputs, targets)

    def _model(self) -> str:
        args, models = self.args, {facts.get("model", "") for facts in self.facts}
        model = args.model or (models.pop() if len(models) == 1 else "")
        model = model or ("auto" if args.checkpoint else "")
        if not model:
            models = [facts.get("model", "") for facts in self.facts]
            raise ValueError(
                f"the prompts do not say one model (they say {models}); give it with --model=SIZE."
            )
        return model

    def _checkpoint(self, model: str) -> str:
        return self.args.checkpoint or self._of_runs("checkpoint", model)

    def _of_runs(self, name: str, model: str) -> str:
        """What the runs with this model say of it, "" where there is none.

        Raises:
          ValueError: they do not agree.
        """
        said = {getattr(run, name) for run in self._runs if run and run.model == model}
        if len(said) > 1:
            raise ValueError(
                f"the runs have trained with different values of {name}: "
                f"{', '.join(sorted(map(repr, said)))}; say which to use with --{name}."
            )
        return said.pop() if said else ""

    def _placed(self, infos: Sequence[Any]) -> list[Any]:
        from spjax.checkpoints.prompts.tuned import Tuned
        from spjax.inference import prediction

        args = self.args
        stored = self._stored or [Tuned({}, self.facts[0], self.paths[0])]
        labels = labels_of(args)
        placed = []
        for i, one in enumerate(stored):
            info = infos[i] if infos else prediction.task_of(one)
            own = prediction.place(one, args.insertion, labels or (info.labels if info else ()))
            usual = prediction.INPUT_LENGTH, prediction.TARGET_LENGTH
            inputs, targets = (info.input_length, info.target_length) if info else usual
            lengths = args.input_length or inputs, args.target_length or targets
            placed.append(dataclasses.replace(own, lengths=lengths))
        return placed

    def _base(self, model: str, checkpoint: str, config: Any) -> Any:
        from spjax import partitioning
        from spjax.checkpoints.weights import weights
        from spjax.inference import prediction, weight_changes
        from spjax.models.t5 import weight_shapes
        from spjax.training import stored_run

        args = self.args
        dtype = args.weights_dtype or self._of_runs("weights_dtype", model) or "float32"
        if self._changing:
            place = {name: getattr(args, name) for name in ("num_partitions", "logical_axis_rules")}
            run = dataclasses.replace(
                self._changing, model=model, checkpoint=checkpoint, weights_dtype=dtype, **place
            )
            return stored_run.weights_of(run, Path(self.paths[0]), run.open_model())
        places = partitioning.make_placement(args.num_partitions, args.logical_axis_rules)
        shardings = places.weights(weight_shapes(config))
        base = weights.load(model, checkpoint, dtype, shardings)
        digest = weights.digest(base)
        for one in self._stored:
            for doubt in prediction.doubts(one, model, digest):
                note(doubt)
            if one.changes:
                base = weight_changes.apply(base, one.changes, one.origin)
        return base


def labels_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The labels that are given with --labels."""
    return tuple(label.strip() for label in args.labels.split(",")) if args.labels else ()


def note(text: str) -> None:
    """Tells what a user should know on stderr."""
    print(f"spjax: note: {text}", file=sys.stderr)


def _run_of(path: str) -> Any:
    """The run that has left what a path names, None for what stands alone."""
    folder = run_folders.folder_of(path)
    if folder is None:
        return None
    try:
        return run_folders.load(folder)
    except ValueError as error:
        if getattr(run_folders.method_of(folder), "changes_weights", True):
            raise
        note(
            f"{folder / 'config.gin'} cannot be used ({str(error).splitlines()[0]}); checkpoint, "
            "vocabulary and dtype of the weights are not known from it, give them if they are not "
            "those of the model's size"
        )
        return None


def _changing_run(path: str, run: Any) -> Any:
    """The run in a folder if its method changes weights, else None."""
    if run is None or not Path(path).is_dir():
        return None
    if not run.method.trained:
        raise ValueError(
            f"the run in {path} has trained nothing: it writes text around each input. Score it "
            "with `spjax eval` and its folder, without --prompt."
        )
    return run if run.method.changes_weights else None


def _facts_of(path: str) -> dict[str, str]:
    """What the prompt of a run would say of it."""
    from spjax.checkpoints.prompts import prompts
    from spjax.studies import run_folder

    return prompts.provenance_of_run(run_folder.result(Path(path)), "")
