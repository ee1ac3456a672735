"""The command `spjax sweep`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spjax.cli import gin_flags
from spjax.cli.exit_codes import FAILED, INTERRUPTED
from spjax.studies import executors
from spjax.studies.executor import settings

if TYPE_CHECKING:
    from spjax.api import studies
    from spjax.studies.mirror import Mirror


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    parser = add("sweep", sweep, gin_flags.gin_parser())
    gin_flags.add_trackers(parser)
    parser.add_argument(
        "--output_dir",
        default="results",
        help="the study gets a folder in it; a local folder, or gs://BUCKET/FOLDER, s3://...",
    )
    parser.add_argument(
        "--working_dir",
        default="",
        metavar="FOLDER",
        help="where a study at a URL is trained; in the cache folder by default",
    )
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="STUDY_FOLDER",
        help="copy its finished runs that are the same; may be repeated",
    )
    parser.add_argument("--dry_run", action="store_true", help="print the runs and their cost only")
    parser.add_argument(
        "--executor",
        default=executors.DEFAULT,
        help=f"where runs are trained: {', '.join(executors.names())}",
    )
    for name, uses in _settings().items():
        field = next(iter(uses.values()))
        text = f"{field.metadata['help']} ({', '.join(uses)})"
        if isinstance(field.default, bool):
            parser.add_argument(f"--{name}", action="store_const", const="True", help=text)
            parser.add_argument(
                f"--no_{name}",
                dest=name,
                action="store_const",
                const="False",
                help=f"the opposite of --{name}",
            )
        else:
            kind = _positive if name == "workers" else str
            parser.add_argument(f"--{name}", type=kind, metavar="VALUE", help=text)


def _settings() -> dict[str, dict[str, dataclasses.Field[Any]]]:
    """Returns the settings of executors that are flags: by name, and then by executor."""
    flags: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    for executor in executors.names():
        for name, field in settings(executors.get(executor)).items():
            if isinstance(field.default, (bool, int, float, str)):
                flags.setdefault(name, {})[executor] = field
    return flags


def _bindings(args: argparse.Namespace) -> list[str]:
    """Returns the flags of the executor as bindings of gin.

    Raises:
      ValueError: the executor has no such setting.
    """
    owner = executors.get(args.executor).__name__
    bindings = []
    for name, uses in _settings().items():
        if (value := getattr(args, name)) is None:
            continue
        if args.executor not in uses:
            raise ValueError(
                f"--{name} is no setting of the executor {args.executor!r}, but of "
                f"{' and '.join(uses)}; choose one of them with --executor."
            )
        is_text = isinstance(uses[args.executor].default, str)
        bindings.append(f"{owner}.{name} = {value!r}" if is_text else f"{owner}.{name} = {value}")
    return bindings


def sweep(args: argparse.Namespace) -> int:
    """Runs a study: trains what is not finished, prints the table, draws the figures.

    Finished runs are kept: the same command goes on after an interruption. Axes and macros are
    those of the study's gin file, and --gin.NAME=value changes one in all of its arms.

    Examples:
      spjax sweep --gin_file=experiments/pocket/quickstart.gin --dry_run
      spjax sweep --gin_file=experiments/pocket/quickstart.gin --gin.SEEDS="[0, 1]"
      spjax sweep --gin_file=experiments/lester2021/scaling.gin --executor=slurm --gpus=1
    """
    from spjax.api import studies

    planned = studies.plan_study(
        args.gin_file,
        [*args.gin_bindings, *gin_flags.tracker_bindings(args), *_bindings(args)],
        gin_flags.search_paths(args),
        args.output_dir,
        args.reuse,
        args.executor,
        args.working_dir,
    )
    if args.dry_run:
        print(planned.estimate())
        if planned.url:
            print(f"Runs that are finished at {planned.url} alone are not taken into account.")
        return 0
    with planned.mirrored() as mirror:
        code, following = _train(planned, mirror)
    while following and not (mirror and mirror.behind):
        planned = following
        with planned.mirrored() as mirror:
            code, following = _train(planned, mirror)
    if mirror and mirror.behind:
        print(f"spjax: error: {mirror.behind}", file=sys.stderr)
        return code or FAILED
    if mirror:
        print(f"The study is at {mirror.store.url}.")
    return code


def _train(
    planned: studies.PlannedStudy, mirror: Mirror | None
) -> tuple[int, studies.PlannedStudy | None]:
    """Trains a study, and draws it unless searches go on.

    Returns:
      The exit status, and the study with the next round of its searches, None if there is none.
    """
    from spjax.api import studies
    from spjax.studies import runner

    print(planned.estimate().splitlines()[-1], flush=True)
    outcome = planned.run(mirror)
    report = planned.report(outcome)
    if outcome.stopped not in ("", runner.INTERRUPTED):
        print(f"spjax: error: {report}", file=sys.stderr)
        return FAILED, None
    print(report)
    if (following := planned.following(outcome)) is not None:
        return 0, following
    if outcome.finished:
        print(studies.finish_study(planned.folder, planned.study))
    if outcome.stopped:
        return INTERRUPTED, None
    return FAILED if outcome.failed else 0, None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value
