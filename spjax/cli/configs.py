"""The command `spjax configs`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from pathlib import Path


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("configs", configs)
    parser.add_argument("name", nargs="?", default="", help="a file, which is printed; or a part")


def configs(args: argparse.Namespace) -> int:
    """Lists the gin files that ship with spjax, or prints one.

    Their paths are what --gin_file takes, in any working directory.

    Examples:
      spjax configs
      spjax configs methods
      spjax configs gin_configs/runs/paper.gin
    """
    from spjax import config

    if args.name.endswith(".gin"):
        print(config.find_file(args.name).read_text(encoding="utf-8"), end="")
        return 0
    folder = config.default_search_paths()[-1]
    files = [(str(path.relative_to(folder)), path) for path in _gin_files(folder)]
    found = [(name, path) for name, path in files if args.name in name]
    if not found:
        raise ValueError(
            f"no gin file that ships with spjax has {args.name!r} in its path; `spjax configs` "
            "lists them all."
        )
    for name, path in found:
        print(f"{name}\n    {first_sentence(path)}")
    return 0


def _gin_files(folder: Path) -> Iterator[Path]:
    for name in ("gin_configs", "experiments"):
        paths = sorted((folder / name).glob("*/*.gin"))
        yield from (path for path in paths if path.parent.name != "results")


def first_sentence(path: Path) -> str:
    """Returns the first sentence of the comment that a gin file begins with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.strip() == "#":
            break
        words += line.lstrip("# ").split()
    return re.split(r"(?<!al\.)(?<=\.) (?=[A-Z])", " ".join(words), maxsplit=1)[0]
