"""The commands `spjax eval` and `spjax predict`: what prompts and runs answer.

Modules are imported inside the commands, so that `spjax --help` answers at once.
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

from spjax.cli import run_folders
from spjax.cli.bank import Bank, note

_ENSEMBLES = ("vote", "mean")
_KINDS = ("greedy", "beam", "sample", "rank")
_MOST_ROWS = 1_000_000
_SHELL_FILES = ("/dev/stdin", "/dev/null")
_SPLITS = ("train", "validation", "test")
_FORMATS = ("text", "jsonl", "csv", "tsv", "parquet")
_INSERTIONS = ("front", "after_first", "end")
_DTYPES = ("float32", "bfloat16", "int8")
_RULES = ("data_parallel", "tensor_parallel", "fsdp")
_OF_THE_RUN = (
    "task",
    "model",
    "checkpoint",
    "vocabulary",
    "insertion",
    "weights_dtype",
    "labels",
    "input_length",
    "target_length",
)


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    scored = add("eval", evaluate)
    scored.add_argument("run_folder", nargs="?", help="a finished run; or else give --prompt")
    scored.add_argument(
        "--prompt",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="a prompt file, adapter or run folder; several answer in the same batches",
    )
    scored.add_argument("--ensemble", choices=_ENSEMBLES, help="what all of them say together")
    scored.add_argument(
        "--task",
        default="",
        help="the prompt's own by default; or a file, all rows of which are scored",
    )
    scored.add_argument("--split", default="", choices=_SPLITS, help="test if it has labels")
    _add_shared(scored)
    told = add("predict", predict)
    told.add_argument(
        "input",
        nargs="?",
        default="-",
        help="lines of text, or rows as JSON lines, CSV, TSV or Parquet; - for stdin",
    )
    told.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="FILE",
        help="a prompt; with --prompt_column repeatable, as NAME=FILE",
    )
    told.add_argument("--prompt_column", default="", help="column that names a row's prompt")
    told.add_argument(
        "--input_column",
        default="",
        help="column with a row's text; those of the prompt's task by default",
    )
    told.add_argument(
        "--format",
        choices=_FORMATS,
        default="",
        help="of the input; by default told from its name, or else from its first line",
    )
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
    from spjax import partitioning
    from spjax.studies import run_folder
    from spjax.training import stored_run

    partitioning.keep_compiled_programs()
    folder = Path(args.run_folder)
    if run_folder.result(folder) is None:
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
    run = run_folders.load(folder)
    place = {name: getattr(args, name) for name in ("num_partitions", "logical_axis_rules")}
    run = dataclasses.replace(run, attention="xla", **place)  # it may have trained elsewhere
    return stored_run.score_folder(run, folder, args.split)


def _evaluate_prompts(args: argparse.Namespace) -> dict[str, Any]:
    from spjax.inference import ensembles, scoring

    _check_batch_size(args.batch_size)
    if args.ensemble == "mean" and args.decoding != "rank":
        raise ValueError(
            "--ensemble=mean averages the probabilities of labels; give --decoding=rank with it."
        )
    bank = Bank(args, args.prompt)
    infos = bank.tasks(args.task, args.ensemble)
    predictor = bank.predictor(infos)
    how = (args.split, args.batch_size, args.target_length, str(predictor.words.path))
    if args.ensemble:
        scores = ensembles.score(predictor, args.ensemble, args.prompt, infos[0], *how)
        return {"task": infos[0].name, **scores}
    found = scoring.score_prompts(predictor, infos, *how)
    for scores, facts in zip(found, bank.facts, strict=True):
        step = facts.get("step", "")
        scores |= {"step": int(step)} if step.isdecimal() else {}
    if len(found) == 1:
        return found[0]
    mean = sum(scores["score"] for scores in found) / len(found)
    together = [{"prompt": path, **own} for path, own in zip(args.prompt, found)]
    return {"prompts": together, "mean_score": mean}


def predict(args: argparse.Namespace) -> int:
    """Answers lines of text, or rows, from a file or stdin, in order."""
    from spjax.data.tasks import input_rows

    _check_batch_size(args.batch_size)
    names, paths = _named(args.prompt, args.prompt_column)
    with _opened(args.input) as stream:  # before the weights are read
        predictor = Bank(args, paths).predictor()
        source = "stdin" if args.input == "-" else args.input
        columns = [
            input_rows.InputColumns(prompt.row_template, args.input_column, prompt.shown)
            for prompt in predictor.prompts
        ]
        rows = input_rows.read(
            stream,
            dict(zip(names, columns)),
            format=args.format,
            name="" if args.input == "-" else args.input,
            prompt_column=args.prompt_column,
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
            note(f"{source}{row.location}: {row.problem}")
            continue
        own = names.index(row.prompt) if row.prompt else 0
        try:
            ids, length = predictor.encode(row.input, own)
        except ValueError as error:  # the prompt's template shows something that is not there
            note(f"{source}{row.location}: {error}")
            continue
        most = predictor.most(own)[0]
        if length > most:
            note(f"{source}{row.location}: {length} tokens were cut to {most}")
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
            print(json.dumps({**row.fields, **made}, ensure_ascii=False, default=str))
    sys.stdout.flush()
    return len(rows) - len(good)


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
    from spjax.files import open_regular

    # A shell's <(...) and <file are open already; any other pipe could wait for ever.
    already_open = path.startswith(("/dev/fd/", "/proc/self/fd/")) or path in _SHELL_FILES
    try:
        stream = open(path, "rb") if already_open else open_regular(path)  # noqa: SIM115  (below)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}. Give a file of lines.") from error
    with stream:
        yield stream


def _check_batch_size(size: int) -> None:
    if not 1 <= size <= _MOST_ROWS:
        raise ValueError(f"the batch size is {size}; it must be 1 to {_MOST_ROWS}.")
