"""The command `spjax plan`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from spjax.cli import gin_flags
from spjax.cli.exit_codes import FAILED


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    parser = add("plan", plan, gin_flags.gin_parser("STUDY.gin"))
    parser.add_argument(
        "--topology",
        required=True,
        help="devices: v5e:4x4, v4:2x2x4, v5p:2x2x2 (TPUs, with the extra tpu), gpu:h100:8, cpu:2",
    )


def plan(args: argparse.Namespace) -> int:
    """Says whether a study's runs fit some devices, in which setting, and how long they take.

    The devices need not be there: programs for TPUs are compiled ahead of time (extra `tpu`).

    Examples:
      spjax plan experiments/lester2021/scaling.gin --topology=gpu:h100:8
      spjax plan experiments/lester2021/scaling.gin --topology=v5e:4x4
    """
    from spjax.api import hardware
    from spjax.studies.hardware import report

    def tell(kind: report.KindPlan) -> None:
        if sys.stderr.isatty():
            print(" ".join(("planned", *kind.kind.label)), file=sys.stderr, flush=True)

    paths = gin_flags.search_paths(args)
    planned = hardware.plan_files(
        gin_flags.files(args), args.gin_bindings, paths, args.topology, tell
    )
    print(planned.text)
    return 0 if planned.fits else FAILED
