"""The command `spjax sweep`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from spjax.cli import gin_flags
from spjax.cli.exit_codes import FAILED, INTERRUPTED


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    parser = add("sweep", sweep, gin_flags.gin_parser())
    parser.add_argument("--output_dir", default="results", help="the study gets a folder in it")
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="STUDY_FOLDER",
        help="copy its finished runs that are the same; may be repeated",
    )
    parser.add_argument("--workers", type=_positive, help="processes; one for each core by default")
    parser.add_argument("--dry_run", action="store_true", help="print the runs and their cost only")


def sweep(args: argparse.Namespace) -> int:
    """Runs a study: trains what is not finished, prints the table, draws the figures."""
    from spjax.api import studies
    from spjax.studies import runner
    from spjax.studies.executors import local

    paths = gin_flags.search_paths(args)
    planned = studies.plan_study(
        args.gin_file, args.gin_bindings, paths, args.output_dir, args.reuse
    )
    workers = args.workers or local.default_workers()
    estimate = planned.estimate(workers)
    if args.dry_run:
        print(estimate)
        return 0
    print(estimate.splitlines()[-1], flush=True)
    outcome = planned.run(workers)
    report = planned.report(outcome)
    if outcome.stopped not in ("", runner.INTERRUPTED):
        print(f"spjax: error: {report}", file=sys.stderr)
        return FAILED
    print(report)
    if outcome.finished:
        print(studies.finish_study(planned.folder, planned.study))
    if outcome.stopped:
        return INTERRUPTED
    return FAILED if outcome.failed else 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value
