"""The flags of commands that read gin files, as T5X has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def gin_parser(positional: str = "") -> argparse.ArgumentParser:
    """Returns a parent parser with `--gin_file`, `--gin_bindings` and `--gin_search_paths`.

    Args:
      positional: the name in the usage of files that stand without `--gin_file`; "" for none.
    """
    parser = argparse.ArgumentParser(add_help=False)
    help = "repeatable; later files win"
    if positional:
        parser.add_argument("gin_file", nargs="*", metavar=positional, help=help)
        parser.add_argument(
            "--gin_file",
            action="append",
            dest="named_files",
            default=[],
            help="the same, as in T5X",
        )
    else:
        parser.add_argument("--gin_file", action="append", required=True, help=help)
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a binding that wins over the files; also written --gin.NAME=VALUE",
    )
    parser.add_argument("--gin_search_paths", default="", help="folders with gin files, by commas")
    return parser


def add_trackers(parser: argparse.ArgumentParser) -> None:
    """Adds `--trackers` to the parser of a command that trains runs."""
    parser.add_argument(
        "--trackers",
        metavar="NAME,NAME",
        help="what runs report to: Run.trackers on the command line; empty for none",
    )


def tracker_bindings(args: argparse.Namespace) -> list[str]:
    """Returns `--trackers` as bindings of gin."""
    if args.trackers is None:
        return []
    return [f"Run.trackers = {[name for name in args.trackers.split(',') if name]!r}"]


def rewrite_gin_flags(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--gin.NAME=value` as argparse can take it."""
    return [
        f"--gin_bindings={arg.removeprefix('--gin.')}" if arg.startswith("--gin.") else arg
        for arg in argv
    ]


def files(args: argparse.Namespace) -> list[str]:
    """Returns the files of a parser with a positional, with and without `--gin_file`.

    Raises:
      ValueError: there is none.
    """
    if not (names := [*args.gin_file, *args.named_files]):
        raise ValueError("no file is given; name one or more, with or without --gin_file=.")
    return names


def search_paths(args: argparse.Namespace) -> list[str]:
    """Returns the folders of `--gin_search_paths`."""
    return [path for path in args.gin_search_paths.split(",") if path]


def load_with_folder(name: str, args: argparse.Namespace) -> tuple[Any, Path]:
    """Returns what gin configures, and MODEL_DIR.

    The `config.gin` of a run folder stands for its folder where MODEL_DIR is not bound.

    Args:
      name: of the configurable, "Run" or "Pretrain".
      args: with the flags of `gin_parser`.

    Raises:
      ValueError: MODEL_DIR has no value, or as `config.load_with_folder`.
    """
    from spjax import config

    paths = search_paths(args)
    value, text = config.load_with_folder(name, args.gin_file, args.gin_bindings, paths)
    last = Path(args.gin_file[-1])
    if not text and last.name == "config.gin":
        return value, last.parent
    if not text:
        raise ValueError("MODEL_DIR has no value; give one with --gin.MODEL_DIR=FOLDER.")
    return value, Path(text)
