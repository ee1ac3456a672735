"""The command `spjax translate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from spjax.cli import gin_flags
from spjax.cli.exit_codes import FAILED

_DEFAULT = "translated.gin"


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    parser = add("translate", translate, gin_flags.gin_parser("FILE"))
    parser.add_argument(
        "--output", default="", metavar="OUT.gin", help="where the gin file goes; else printed"
    )


def translate(args: argparse.Namespace) -> int:
    """Translates a launch script of T5X, or its gin files, into a gin file and command of spjax.

    What has no counterpart is listed with the reason. The exit status is 1 if something of that
    changes the numbers.

    Examples:
      spjax translate sst2-demo.sh --output=translated.gin
      spjax translate prompt_finetune.gin --gin.MODEL_DIR=/tmp/run
    """
    from spjax import files
    from spjax.config.t5x import translation

    paths, names = gin_flags.search_paths(args), gin_flags.files(args)
    draft = translation.translate(names, args.gin_bindings, paths)
    if draft.program != "train":
        if args.output:
            raise ValueError(
                f"--output={args.output} is for a gin file, and evaluations have flags alone; "
                "leave it out."
            )
        print(f"{draft.command('')}\n\n{draft.table()}")
    elif args.output:
        output = Path(args.output)
        inputs = [*(Path(name).expanduser() for name in names), *draft.bindings.files]
        for path in inputs:
            if path.exists() and output.exists() and output.samefile(path):
                raise ValueError(
                    f"--output={args.output} would overwrite {path}, which is translated; give the "
                    f"name of another file, such as --output={_DEFAULT}."
                )
        files.write_text(output, draft.gin_text(names[-1], args.output))
        print(f"{draft.command(args.output)}\n\n{draft.table()}")
    else:
        print(draft.gin_text(names[-1], _DEFAULT), end="")
    return FAILED if draft.differs else 0
