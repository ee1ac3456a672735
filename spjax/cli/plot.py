"""The command `spjax plot`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    add("plot", plot).add_argument("study_folder")


def plot(args: argparse.Namespace) -> int:
    """Prints the table and draws the figures of a study's folder again, from its results.csv."""
    from spjax.api import studies

    print(studies.finish_study(Path(args.study_folder)))
    return 0
