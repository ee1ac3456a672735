"""The command `spjax predict`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from spjax.cli import model_flags
from spjax.cli.exit_codes import FAILED
from spjax.cli.notes import LimitedNotes, print_note

if TYPE_CHECKING:
    from spjax.inference.prediction import Predictor

_SHELL_FILES = ("/dev/stdin", "/dev/null")
_FORMATS = ("text", "jsonl", "csv", "tsv", "parquet")


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("predict", predict)
    parser.add_argument(
        "input",
        nargs="?",
        default="-",
        help="lines of text, or rows as JSON lines, CSV, TSV or Parquet; - for stdin",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        metavar="FILE",
        help="a prompt; with --prompt_column repeatable, as NAME=FILE",
    )
    parser.add_argument("--prompt_column", default="", help="column that names a row's prompt")
    parser.add_argument(
        "--input_column",
        default="",
        help="column with a row's text; those of the prompt's task by default",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="",
        help="format of the input, not of the answers; by default told from the input's name, or "
        "else from its first line",
    )
    text = "of a row's text, as '{title}: {text}'; that of the prompt's task by default"
    parser.add_argument("--template", default="", help=text)
    model_flags.add_flags(parser)


def predict(args: argparse.Namespace) -> int:
    """Answers lines of text, or rows, from a file or stdin, in order.

    Examples:
      echo "review: a lovely film" | spjax predict --prompt=runs/sentiment
      spjax predict --prompt=boolq.safetensors --model=pocket_800k questions.jsonl
    """
    from spjax.api.predictor import TextPredictor
    from spjax.api.stored_prompts import StoredPrompts
    from spjax.data.tasks import input_rows

    options = model_flags.answer_options(args)
    names, paths = _named(args.prompt, args.prompt_column)
    with _opened(args.input) as stream:  # before the weights are read
        stored = StoredPrompts(paths, model_flags.model_options(args), note=print_note)
        predictor = TextPredictor(stored, options).predictor
        source = "stdin" if args.input == "-" else args.input
        columns = [
            input_rows.InputColumns(
                args.template or prompt.row_template, args.input_column, prompt.shown
            )
            for prompt in predictor.prompts
        ]
        rows = input_rows.read(
            stream,
            dict(zip(names, columns)),
            format=args.format,
            name="" if args.input == "-" else args.input,
            prompt_column=args.prompt_column,
        )
        bad, first, notes = 0, 0, _RowNotes()
        try:
            while batch := list(itertools.islice(rows, args.batch_size)):
                bad += _answer(predictor, batch, names, first, source, notes)
                first += len(batch)
        finally:
            notes.problems.print_count()
            notes.cuts.print_count()
    if bad:
        print(f"spjax: {bad} of {first} rows were not answered.", file=sys.stderr)
    return FAILED if bad else 0


class _RowNotes:
    """Notes on rows without an answer, nearly all of which are printed, and on inputs cut short."""

    def __init__(self) -> None:
        self.problems = LimitedNotes("rows that were not answered", 1000)
        self.cuts = LimitedNotes("inputs that were cut", 20)


def _answer(
    predictor: Predictor,
    rows: Sequence[Any],
    names: Sequence[str],
    first: int,
    source: str,
    notes: _RowNotes,
) -> int:
    """Writes the answers to some rows; returns how many of them were bad."""
    inputs, prompt_indices, answered = [], [], []
    for i, row in enumerate(rows):
        if row.problem:
            notes.problems.add(f"{source}{row.location}: {row.problem}")
            continue
        index = names.index(row.prompt) if row.prompt else 0
        try:
            ids, length = predictor.encode(row.input, index)
        except ValueError as error:  # the prompt's template shows something that is not there
            notes.problems.add(f"{source}{row.location}: {error}")
            continue
        max_length = predictor.max_lengths(index)[0]
        if length > max_length:
            notes.cuts.add(f"{source}{row.location}: {length} tokens were cut to {max_length}")
        inputs.append(ids)
        prompt_indices.append(index)
        answered.append(i)
    numbers = [first + i for i in answered]
    answers = predictor.answer(inputs, prompt_indices, numbers) if inputs else ()
    answer_of_row = dict(zip(answered, answers))
    for i, row in enumerate(rows):
        answer = answer_of_row.get(i)
        if row.fields is None:  # a bad line gets an empty answer, so that lines stay lines
            print(" ".join(answer.text.splitlines()) if answer else "")
        elif answer:
            columns = {"prediction": answer.text, "score": answer.score}
            columns = {name: value for name, value in columns.items() if value is not None}
            print(json.dumps({**row.fields, **columns}, ensure_ascii=False, default=str))
    sys.stdout.flush()
    return len(rows) - len(answered)


def _named(flags: Sequence[str], column: str) -> tuple[list[str], list[str]]:
    """Names and paths of the prompts; one without a column has the name ""."""
    if not column:
        if len(flags) > 1:
            raise ValueError(
                f"{len(flags)} prompts are given; say which row has which with --prompt_column "
                "and --prompt=NAME=FILE, or give one."
            )
        return [""], list(flags)
    pairs = [text.partition("=") for text in flags]
    names = [name for name, _, _ in pairs]
    wrong = [text for text, (name, _, path) in zip(flags, pairs) if not (name and path)]
    if wrong or len(set(names)) < len(names):
        raise ValueError(
            f"with --prompt_column every --prompt is NAME=FILE, no name twice, not {list(flags)}."
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
        stream = open(path, "rb") if already_open else open_regular(path)  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}. Give a file of lines.") from error
    with stream:
        yield stream
