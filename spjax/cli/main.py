"""Soft prompts for frozen T5 models, and the scaling study of Lester et al. 2021.

Flags are T5X's: `--gin_file` (repeatable), `--gin.NAME=value`, `--gin_search_paths`. Modules are
imported inside the commands, so that `spjax --help` answers at once. A command's help is the
docstring of its function.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect as python_inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

from spjax import __version__
from spjax.cli import (
    cache,
    configs,
    console,
    convert,
    eval,
    inspect,
    plan,
    plot,
    predict,
    pretrain,
    prompt_length,
    push,
    report,
    sweep,
    tasks,
    train,
    translate,
)
from spjax.cli.exit_codes import FAILED, INTERRUPTED, USAGE
from spjax.cli.gin_flags import rewrite_gin_flags
from spjax.cli.parser import CommandParser, Parser

COMMANDS = (
    *(train, sweep, plan, plot, report, prompt_length, pretrain, cache, tasks, configs),
    *(eval, predict, inspect, convert, translate, push),
)

_EXAMPLE = """\
`spjax COMMAND --help` has the flags of a command, with examples. A first run, offline:

  spjax train --gin_file=gin_configs/models/pocket.gin --gin_file=gin_configs/runs/pocket.gin \\
    --gin_file=gin_configs/methods/prompt_tuning.gin --gin.MODEL_SIZE=pocket_200k \\
    --gin.MIXTURE_OR_TASK_NAME=pocket_sentiment --gin.PROMPT_LENGTH=20 --gin.MODEL_DIR=/tmp/run
"""
# Flags that are texts and never paths; gin's bindings are expanded where their setting is known.
_TEXTS = (
    "text",
    "labels",
    "template",
    "target",
    "gin_bindings",
    "input_column",
    "prompt_column",
    "pipeline_options",
    "repository",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0, 1 (failed), 2 (bad input), 130 (Ctrl-C)."""
    console.open_streams()
    with console.Interrupts(ends_process=argv is None) as interrupts:
        try:
            args = make_parser().parse_args(
                rewrite_gin_flags(sys.argv[1:] if argv is None else argv)
            )
            _expand_paths(args)
            with contextlib.nullcontext() if _debugs() else console.quiet_background():
                code = args.command(args)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
            console.discard_output()
            return FAILED
        except (KeyboardInterrupt, Exception) as error:
            # A library may have made another error of the interruption.
            if interrupts.count or isinstance(error, KeyboardInterrupt):
                return _say("\nspjax: interrupted; the same command continues.", INTERRUPTED)
            code, message = explain_error(error)
            if not message or _debugs():
                raise
            return _say(f"spjax: error: {message}", code)


def _debugs() -> bool:
    return bool(os.environ.get("SPJAX_DEBUG"))


def _say(message: str, code: int) -> int:
    """Writes a last message, if anybody reads it, and gives the exit code."""
    try:
        print(message, file=sys.stderr, flush=True)
    except BrokenPipeError:
        console.discard_output()
    return code


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = Parser(
        prog="spjax",
        description=__doc__.splitlines()[0],
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spjax {__version__}")
    commands: Any = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=CommandParser
    )

    def add(name: str, command: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        text = python_inspect.getdoc(command) or ""
        command_parser = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            parents=parents,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command_parser.set_defaults(command=command)
        return command_parser

    for module in COMMANDS:
        module.add_command(add)
    return parser


def _expand_paths(args: argparse.Namespace) -> None:
    """Makes a leading "~" the home folder in every flag that may hold a path, also NAME=PATH."""
    from spjax.files import expanded

    def path_of(text: Any) -> Any:
        name, sign, path = text.partition("=") if isinstance(text, str) else ("", "", "")
        return f"{name}={expanded(path)}" if sign else expanded(text)

    for name, value in vars(args).items():
        if name not in _TEXTS:
            one = [path_of(item) for item in value] if isinstance(value, list) else path_of(value)
            setattr(args, name, one)


def explain_error(error: Exception) -> tuple[int, str]:
    """Exit code and message for an error; no message if it is a mistake of our own."""
    from spjax.studies import run_folder

    if isinstance(error, FloatingPointError):
        return FAILED, str(error)
    if isinstance(error, ValueError) and _raised_here(error):
        return USAGE, str(error)
    problem = run_folder.disk_problem(error)
    if not problem and isinstance(error, OSError) and (message := _path_problem(error)):
        return USAGE, message
    if problem:
        message = run_folder.disk_message(problem)
        if "cannot be opened" in message:
            return FAILED, f"{message}."
        return FAILED, f"{message}; what was saved is kept; the same command continues."
    return USAGE, str(error) if isinstance(error, ValueError) else ""


def _path_problem(error: BaseException | None) -> str:
    """Returns the system's message about a path, such as a name too long, "" without one."""
    while error is not None:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}."
        error = error.__context__  # gin wraps errors, and its wrapper has no file's name
    return ""


def _raised_here(error: Exception) -> bool:
    """Returns whether our own code raised it; TensorStore's full disk is a ValueError too."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("spjax")


if __name__ == "__main__":
    sys.exit(main())
