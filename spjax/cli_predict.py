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
        help="a prompt file, adapter or run folder; several with --ensemble",
    )  # fmt: skip
    scored.add_argument("--ensemble", choices=_ENSEMBLES, help="what several prompts say together")
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
    if len(args.prompt) > 1 and not args.ensemble:
        raise ValueError(
            f"{len(args.prompt)} prompts are given; say how they answer together with --ensemble: "
            f"{' or '.join(_ENSEMBLES)}."
        )
    found = _evaluate_prompts(args) if args.prompt else _evaluate_run(args)
    print(json.dumps(found, indent=2))
    return 0


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    from spjax import config
    from spjax.studies import folder as disk
    from spjax.training import scoring

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
    run = config.load("Run", [(folder / "config.gin").absolute()])
    place = {name: getattr(args, name) for name in ("num_partitions", "logical_axis_rules")}
    return scoring.score_folder(dataclasses.replace(run, **place), folder, args.split)


def _evaluate_prompts(args: argparse.Namespace) -> dict[str, Any]:
    from spjax.checkpoints import weights
    from spjax.data.tasks import registry
    from spjax.training import ensembling, scoring

    prompts = _read_prompts(args.prompt)
    name = args.task or _task_of(args.prompt, prompts)
    info = registry.get(name)
    args.input_length = args.input_length or info.input_length
    args.target_length = args.target_length or info.target_length
    beside = weights.vocabulary_of(args.checkpoint)
    pocket = (args.model or prompts[0].provenance.get("model", "")).startswith("pocket")
    own = "pocket" if pocket else info.vocabulary
    args.vocabulary = args.vocabulary or beside or own
    _check_batch_size(args.batch_size)
    if args.ensemble == "mean" and args.decoding != "rank":
        raise ValueError(
            "--ensemble=mean averages the probabilities of labels; give --decoding=rank with it."
        )
    predictor = _predictor(args, prompts, info.labels)
    how = (name, args.split, args.batch_size, args.target_length, args.vocabulary)
    if args.ensemble:
        scores = ensembling.score(predictor, args.ensemble, args.prompt, *how)
        return {"task": info.name, **scores}
    step = prompts[0].provenance.get("step", "")
    known = {"step": int(step)} if step.isdecimal() else {}
    return {"task": info.name, **known, **scoring.score_prompt(predictor, *how)}


def _task_of(paths: Sequence[str], prompts: Sequence[Any]) -> str:
    """The task that all prompts name."""
    facts = [prompt.provenance for prompt in prompts]
    named = [own.get("task_file") or own.get("task", "") for own in facts]
    if not all(named):
        path = paths[named.index("")]
        raise ValueError(f"{path} does not say its task; give one with --task=NAME.")
    if len(set(named)) > 1:
        raise ValueError(
            f"the prompts are of different tasks, {', '.join(sorted(set(named)))}; say which one "
            "to score with --task=NAME."
        )
    return named[0]


def predict(args: argparse.Namespace) -> int:
    """Answers lines of text or JSON from a file or stdin, in order."""
    from spjax.data import lines

    _check_batch_size(args.batch_size)
    names, paths = _named(args.prompt, args.prompt_column)
    with _opened(args.input) as stream:  # before the weights are read
        predictor = _predictor(args, _read_prompts(paths))
        source = "stdin" if args.input == "-" else args.input
        rows = lines.read(
            stream, args.format or "", args.input, args.input_column, args.prompt_column, names
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
        ids, length = predictor.encode(row.text)
        if length > len(ids):
            _note(f"{source}:{row.line}: {length} tokens were cut to {len(ids)}")
        inputs.append(ids)
        who.append(names.index(row.prompt) if row.prompt else 0)
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


def _predictor(
    args: argparse.Namespace, prompts: Sequence[Any], labels: Sequence[str] = ()
) -> Any:
    """The model that prompts were trained with, or the one that is asked for."""
    from spjax.checkpoints import weights
    from spjax.models.decoding import Decoding
    from spjax.models.t5 import weight_shapes
    from spjax.training import mesh, prediction

    how = Decoding(
        args.decoding, args.num_beams, args.length_penalty, args.temperature, args.top_k, args.seed
    )
    models = list(dict.fromkeys(p.provenance.get("model", "") for p in prompts))
    own = models[0] if len(models) == 1 else ""
    model = args.model or own or ("auto" if args.checkpoint else "")
    if not model:
        raise ValueError(
            f"the prompts do not say one model (they say {models}); give it with --model=SIZE."
        )
    words = find_vocabulary(args.vocabulary, model, args.checkpoint)
    config = weights.config_of(model, args.checkpoint)
    tasks = [task for task in map(prediction.task_of, prompts) if task]
    if args.labels:
        labels = [label.strip() for label in args.labels.split(",")]
    placed = [prediction.place(prompt, args.insertion, labels) for prompt in prompts]
    lengths = (
        args.input_length or max((t.input_length for t in tasks), default=prediction.INPUT_LENGTH),
        args.target_length
        or max((t.target_length for t in tasks), default=prediction.TARGET_LENGTH),
    )
    prediction.check(config, placed, words, how, *lengths)  # before the weights are read
    places = mesh.place(args.num_partitions, args.logical_axis_rules)
    shardings = places.weights(weight_shapes(config))
    base = weights.load(model, args.checkpoint, args.weights_dtype or _DTYPES[0], shardings)
    digest = weights.digest(base)
    for prompt in prompts:
        for doubt in prediction.doubts(prompt, model, digest):
            _note(doubt)
    return prediction.Predictor(config, base, placed, words, how, *lengths)


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


def _read_prompts(paths: Sequence[str]) -> list[Any]:
    from spjax.checkpoints import prompts

    return [prompts.read(path) for path in paths]


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
