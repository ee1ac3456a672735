"""The commands `spjax eval` and `spjax predict`: what prompts and runs answer.

Rooms are imported inside the commands, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spjax.cli_prompts import find_vocabulary

_ENSEMBLES = ("vote", "mean")
_KINDS = ("greedy", "beam", "sample", "rank")
_SPLITS = ("train", "validation", "test")
_INSERTIONS = ("front", "after_first", "end")
_DTYPES = ("float32", "bfloat16", "int8")
_RULES = ("data_parallel", "tensor_parallel", "fsdp")
_OF_THE_RUN = (
    "task", "model", "checkpoint", "vocabulary", "insertion", "weights_dtype", "labels",
    "input_length", "target_length",
)  # fmt: skip


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    scored = add("eval", evaluate)
    scored.add_argument("run_folder", nargs="?", help="a finished run; or else give --prompt")
    scored.add_argument(
        "--prompt", metavar="FILE", nargs="+", action="extend", default=[],
        help="a prompt file, adapter or run folder; several answer in the same batches",
    )  # fmt: skip
    scored.add_argument("--ensemble", choices=_ENSEMBLES, help="what all of them say together")
    scored.add_argument("--task", help="the prompt's own by default")
    scored.add_argument("--split", default="", choices=_SPLITS, help="test if it has labels")
    _add_shared(scored)
    told = add("predict", predict)
    told.add_argument("input", nargs="?", default="-", help="text or JSON lines; - for stdin")
    told.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="FILE",
        help="a prompt; with --prompt_column repeatable, as NAME=FILE",
    )
    told.add_argument("--prompt_column", default="", help="JSON field that names a row's prompt")
    told.add_argument("--input_column", default="inputs", help="JSON field with a row's text")
    told.add_argument("--format", choices=("text", "jsonl"), help="told from the input by default")
    _add_shared(told)


def _add_shared(command: argparse.ArgumentParser) -> None:
    model = command.add_argument_group("the frozen model")
    model.add_argument("--model", default="", help="its size; the prompt's own by default")
    model.add_argument("--checkpoint", default="", help="its weights, unless they ship with spjax")
    model.add_argument("--vocabulary", default="", help="name or path of its vocabulary")
    model.add_argument("--insertion", choices=_INSERTIONS, default="", help="where the prompt goes")
    model.add_argument("--weights_dtype", choices=_DTYPES, default="", help="float32 by default")
    model.add_argument("--num_partitions", type=int, default=1, help="devices along `model`")
    model.add_argument("--logical_axis_rules", choices=_RULES, default="data_parallel")
    how = command.add_argument_group("decoding")
    how.add_argument("--decoding", choices=_KINDS, default="greedy")
    how.add_argument("--num_beams", type=int, default=4)
    how.add_argument("--length_penalty", type=float, default=0.6, help="T5X's alpha, for beams")
    how.add_argument("--temperature", type=float, default=1.0)
    how.add_argument("--top_k", type=int, default=0, help="tokens to sample from; 0 for all")
    how.add_argument("--seed", type=int, default=0)
    how.add_argument("--labels", default="", metavar="A,B", help="for rank; the task's by default")
    how.add_argument("--input_length", type=int, default=0, help="most tokens; the task's")
    how.add_argument("--target_length", type=int, default=0, help="most tokens; the task's")
    how.add_argument("--batch_size", type=int, default=64, help="rows that are answered at once")


def evaluate(args: argparse.Namespace) -> int:
    """Scores a finished run or a prompt file on a split of a task."""
    if bool(args.run_folder) == bool(args.prompt):
        raise ValueError("give either the folder of a finished run or --prompt=FILE.")
    if args.ensemble and len(args.prompt) < 2:
        raise ValueError("--ensemble wants several prompts: --prompt FILE FILE ...")
    found = _evaluate_prompts(args) if args.prompt else _evaluate_run(args)
    print(json.dumps(found, indent=2))
    return 0


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    from spjax import config
    from spjax.studies import folder as disk
    from spjax.training import mesh, scoring

    mesh.keep_compiled_programs()
    folder = Path(args.run_folder)
    if disk.result(folder) is None:
        raise ValueError(f"{folder} holds no finished run; train it first with `spjax train`.")
    for name in _OF_THE_RUN:
        if getattr(args, name):
            raise ValueError(
                f"--{name} is what the run in {folder} says itself; to score its prompt otherwise "
                f"give --prompt={folder / 'prompt.npy'} instead of the folder."
            )
    if args.decoding != "greedy":
        raise ValueError(
            f"a run folder is scored greedily, as it was while training; for "
            f"--decoding={args.decoding} give --prompt={folder / 'prompt.npy'} instead."
        )
    run = config.load_stored("Run", folder / "config.gin")
    place = {name: getattr(args, name) for name in ("num_partitions", "logical_axis_rules")}
    run = dataclasses.replace(run, attention="xla", **place)  # it may have trained elsewhere
    return scoring.score_folder(run, folder, args.split)


def _evaluate_prompts(args: argparse.Namespace) -> dict[str, Any]:
    from spjax.checkpoints import weights
    from spjax.data.tasks import registry
    from spjax.training import ensembling, scoring

    bank = _Bank(args, args.prompt)
    names = bank.tasks(args.task, args.ensemble)
    infos = [registry.get(name) for name in names]
    beside = weights.vocabulary_of(args.checkpoint)
    pocket = (args.model or bank.facts[0].get("model", "")).startswith("pocket")
    own = "pocket" if pocket else infos[0].vocabulary
    args.vocabulary = args.vocabulary or beside or own
    _check_batch_size(args.batch_size)
    if args.ensemble == "mean" and args.decoding != "rank":
        raise ValueError(
            "--ensemble=mean averages the probabilities of labels; give --decoding=rank with it."
        )
    predictor = bank.predictor(infos)
    how = (args.split, args.batch_size, args.target_length, args.vocabulary)
    if args.ensemble:
        scores = ensembling.score(predictor, args.ensemble, args.prompt, names[0], *how)
        return {"task": infos[0].name, **scores}
    found = scoring.score_prompts(predictor, names, *how)
    for scores, facts in zip(found, bank.facts, strict=True):
        step = facts.get("step", "")
        scores |= {"step": int(step)} if step.isdecimal() else {}
    if len(found) == 1:
        return found[0]
    mean = sum(scores["score"] for scores in found) / len(found)
    together = [{"prompt": path, **own} for path, own in zip(args.prompt, found)]
    return {"prompts": together, "mean_score": mean}


def predict(args: argparse.Namespace) -> int:
    """Answers lines of text or JSON from a file or stdin, in order."""
    from spjax.data import lines

    _check_batch_size(args.batch_size)
    names, paths = _named(args.prompt, args.prompt_column)
    with _opened(args.input) as stream:  # before the weights are read
        predictor = _Bank(args, paths).predictor()
        source = "stdin" if args.input == "-" else args.input
        shown = dict(zip(names, (prompt.shown for prompt in predictor.prompts)))
        rows = lines.read(
            stream, args.format or "", args.input, args.input_column, args.prompt_column, shown
        )
        bad, first = 0, 0
        while batch := list(itertools.islice(rows, args.batch_size)):
            bad += _answer(predictor, batch, names, first, source)
            first += len(batch)
    if bad:
        print(f"spjax: {bad} of {first} rows were not answered.", file=sys.stderr)
    return 1 if bad else 0


def _answer(
    predictor: Any, rows: Sequence[Any], names: Sequence[str], first: int, source: str
) -> int:
    """Writes the answers to some rows; returns how many of them were bad."""
    inputs, who, good = [], [], []
    for i, row in enumerate(rows):
        if row.problem:
            _note(f"{source}:{row.line}: {row.problem}")
            continue
        own = names.index(row.prompt) if row.prompt else 0
        try:
            ids, length = predictor.encode(row.text if row.parts is None else row.parts, own)
        except ValueError as error:  # the prompt's template shows something that is not there
            _note(f"{source}:{row.line}: {error}")
            continue
        most = predictor.most(own)[0]
        if length > most:
            _note(f"{source}:{row.line}: {length} tokens were cut to {most}")
        inputs.append(ids)
        who.append(own)
        good.append(i)
    numbers = [first + i for i in good]
    found = dict(zip(good, predictor.answer(inputs, who, numbers) if inputs else ()))
    for i, row in enumerate(rows):
        if row.fields is None:  # a bad line gets an empty answer, so that lines stay lines
            print(" ".join(found[i].text.splitlines()) if i in found else "")
        elif i in found:
            made = {"prediction": found[i].text, "score": found[i].score}
            made = {name: value for name, value in made.items() if value is not None}
            print(json.dumps({**row.fields, **made}, ensure_ascii=False))
    sys.stdout.flush()
    return len(rows) - len(good)


class _Bank:
    """What is given with --prompt, and the frozen model that is asked under all of it.

    Attributes:
      facts: the provenance of each.
    """

    def __init__(self, args: argparse.Namespace, paths: Sequence[str]) -> None:
        """Reads what is small.

        Raises:
          ValueError: something of it cannot be read, or not answer beside the rest.
        """
        from spjax.checkpoints import tuned

        self.args, self.paths = args, paths
        runs = [_changing(path) for path in paths]
        if any(runs) and len(paths) > 1:
            path = paths[[run is not None for run in runs].index(True)]
            raise ValueError(
                f"the method of the run in {path} changes the weights, so no other prompt can "
                "share a forward pass with it; give it alone."
            )
        self.run = runs[0]
        self.stored = [] if self.run else [tuned.read(path) for path in paths]
        self.facts = [x.provenance for x in self.stored] or [_facts_of(paths[0])]

    def tasks(self, given: str, together: str) -> list[str]:
        """The task that each is scored on: the given one, else its own."""
        if given:
            return [given] * len(self.facts)
        named = [facts.get("task_file") or facts.get("task", "") for facts in self.facts]
        if not all(named):
            path = self.paths[named.index("")]
            raise ValueError(f"{path} does not say its task; give one with --task=NAME.")
        if together and len(set(named)) > 1:
            raise ValueError(
                f"the prompts are of different tasks, {', '.join(sorted(set(named)))}; say which "
                "one to score with --task=NAME."
            )
        return named

    def predictor(self, infos: Sequence[Any] = ()) -> Any:
        """The model that they were trained with, or the one that is asked for.

        Args:
          infos: the task of each; its own by default.
        """
        from spjax.checkpoints import weights
        from spjax.models.decoding import Decoding
        from spjax.training import mesh, prediction

        mesh.keep_compiled_programs()
        args = self.args
        how = Decoding(
            args.decoding, args.num_beams, args.length_penalty, args.temperature, args.top_k,
            args.seed,
        )  # fmt: skip
        model = args.model or self._model() or ("auto" if args.checkpoint else "")
        if not model:
            models = [facts.get("model", "") for facts in self.facts]
            raise ValueError(
                f"the prompts do not say one model (they say {models}); give it with --model=SIZE."
            )
        checkpoint = args.checkpoint or (self.run.checkpoint if self.run else "")
        words = find_vocabulary(args.vocabulary, model, checkpoint)
        config = weights.config_of(model, checkpoint)
        placed = self._placed(infos)
        inputs, targets = (max(own.lengths[i] for own in placed) for i in (0, 1))
        prediction.check(config, placed, words, how, inputs, targets)  # before weights are read
        base = self._base(model, checkpoint, config)
        return prediction.Predictor(config, base, placed, words, how, inputs, targets)

    def _model(self) -> str:
        models = {facts.get("model", "") for facts in self.facts}
        return models.pop() if len(models) == 1 else ""

    def _placed(self, infos: Sequence[Any]) -> list[Any]:
        from spjax.checkpoints.tuned import Tuned
        from spjax.training import prediction

        args = self.args
        stored = self.stored or [Tuned({}, self.facts[0], self.paths[0])]
        labels = [label.strip() for label in args.labels.split(",")] if args.labels else ()
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
        from spjax.checkpoints import weights
        from spjax.models.t5 import weight_shapes
        from spjax.training import loop, mesh, prediction, scoring

        args = self.args
        dtype = args.weights_dtype or (self.run.weights_dtype if self.run else _DTYPES[0])
        if self.run:
            place = {name: getattr(args, name) for name in ("num_partitions", "logical_axis_rules")}
            run = dataclasses.replace(
                self.run, model=model, checkpoint=checkpoint, weights_dtype=dtype, **place
            )
            return scoring.weights_of(run, Path(self.paths[0]), loop.base_of(run))
        places = mesh.place(args.num_partitions, args.logical_axis_rules)
        shardings = places.weights(weight_shapes(config))
        base = weights.load(model, checkpoint, dtype, shardings)
        digest = weights.digest(base)
        for one in self.stored:
            for doubt in prediction.doubts(one, model, digest):
                _note(doubt)
        return base


def _changing(path: str) -> Any:
    """The finished run in a folder if its method changes weights, else None."""
    from spjax import config
    from spjax.studies import folder as disk

    folder = Path(path)
    left = (folder / name for name in ("prompt.npy", "prompts"))
    if any(x.exists() for x in left) or disk.result(folder) is None:
        return None
    if not (folder / "config.gin").is_file():
        return None
    run = config.load_stored("Run", folder / "config.gin")
    if not run.method.trained:
        raise ValueError(
            f"the run in {folder} has trained nothing: it writes text around each input. Score it "
            "with `spjax eval` and its folder, without --prompt."
        )
    return run if run.method.changes_weights else None


def _facts_of(path: str) -> dict[str, str]:
    """What the prompt of a run would say of it."""
    from spjax.checkpoints import prompts
    from spjax.studies import folder as disk

    return prompts.provenance_of_run(disk.result(Path(path)), "")


def _named(given: Sequence[str], column: str) -> tuple[list[str], list[str]]:
    """Names and paths of the prompts; one without a column has the name ""."""
    if not column:
        if len(given) > 1:
            raise ValueError(
                f"{len(given)} prompts are given; say which row has which with --prompt_column "
                "and --prompt=NAME=FILE, or give one."
            )
        return [""], list(given)
    pairs = [text.partition("=") for text in given]
    names = [name for name, _, _ in pairs]
    wrong = [text for text, (name, _, path) in zip(given, pairs) if not (name and path)]
    if wrong or len(set(names)) < len(names):
        raise ValueError(
            f"with --prompt_column every --prompt is NAME=FILE, no name twice, not {list(given)}."
        )
    return names, [path for _, _, path in pairs]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}. Give a file of lines.") from error
    with stream:
        yield stream


def _check_batch_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"the batch size is {size}; it must be 1 or more.")


def _note(text: str) -> None:
    print(f"spjax: note: {text}", file=sys.stderr)
