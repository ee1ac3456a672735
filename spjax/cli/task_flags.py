"""The flags that say how the rows of a file or dataset are read."""

from __future__ import annotations

import argparse
from typing import Any

from spjax.cli import model_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--template` and `--target` to a parser."""
    text = "of the inputs of a file, as '{title}: {text}'; '{input}' by default"
    parser.add_argument("--template", default="", help=text)
    parser.add_argument("--target", default="", help="of its targets; '{target}' by default")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds `--labels` to a parser that does not have the flags for answers."""
    text = "words that its targets are taken from; free text by default"
    parser.add_argument("--labels", default="", metavar="A,B", help=text)


def columns(args: argparse.Namespace) -> dict[str, str]:
    """Returns those of `template` and `target` that are given."""
    values = {"template": args.template, "target": args.target}
    return {name: value for name, value in values.items() if value}


def file_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the fields of `FileTask` that are given."""
    labels = model_flags.labels(args)
    return {**columns(args), **({"labels": labels} if labels else {})}
