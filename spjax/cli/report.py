"""The command `spjax report`."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("report", report)
    parser.add_argument("study_folders", nargs="+", metavar="FOLDER", help="that a sweep wrote")
    parser.add_argument(
        "--output", help="the HTML file; report.html in the first folder by default"
    )


def report(args: argparse.Namespace) -> int:
    """Writes one HTML page of studies: verdicts on claims, interactive figures and tables.

    Examples:
      spjax report results/quickstart
      spjax report results/scaling results/methods
    """
    from spjax.api import studies

    path = studies.write_report(args.study_folders, args.output)
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
