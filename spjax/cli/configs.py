"""The command `spjax configs`."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

from spjax.cli.parser import guess

_WIDTH = 100


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
    files = config.shipped_files()
    found = [name for name in files if args.name in name]
    if not found:
        words = {word for name in files for word in (*Path(name).parts[:-1], Path(name).stem)}
        raise ValueError(
            f"no gin file that ships with spjax has {args.name!r} in its path"
            f"{guess(args.name, sorted(words)) or '.'} `spjax configs` lists them all."
        )
    width = min(max(shutil.get_terminal_size((_WIDTH, 0)).columns, 20), _WIDTH)
    for name in found:
        print(name)
        text = textwrap.wrap(first_sentence(files[name]), width - 4, break_on_hyphens=False)
        print(textwrap.indent("\n".join(text), "    "))
    return 0


def first_sentence(path: Path) -> str:
    """Returns the first sentence of the comment that a gin file begins with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or line.strip() == "#":
            break
        words += line.lstrip("# ").split()
    return re.split(r"(?<!al\.)(?<=\.) (?=[A-Z])", " ".join(words), maxsplit=1)[0]
