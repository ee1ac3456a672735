"""The command `spjax plot`."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("plot", plot)
    parser.add_argument("study_folder", nargs="+", help="several are joined")
    parser.add_argument("--figures", default="", help="NAME,NAME: other figures than the studies'")
    parser.add_argument("--output_dir", default="", help="for figures and tables")


def plot(args: argparse.Namespace) -> int:
    """Prints the table and draws the figures of study folders again, from their results.csv.

    Examples:
      spjax plot results/quickstart
      spjax plot results/scaling results/multitask --output_dir=results/joined
    """
    from spjax.api import studies

    result = studies.plot(*args.study_folder, figures=args.figures, output_dir=args.output_dir)
    print(result.report)
    return 0
