"""The command line: train, sweep, plot, pretrain, cache, tasks, eval, predict, inspect, convert.

Flags are T5X's: `--gin_file` (repeatable), `--gin.NAME=value`, `--gin_search_paths`. Modules are
imported inside the commands, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spjax import __version__
from spjax.cli import console, data, predict, prompts

_FAILED, _USAGE, _INTERRUPTED = 1, 2, console.INTERRUPTED
# Flags that are texts and never paths; gin's bindings are expanded where their setting is known.
_TEXTS = ("text", "labels", "gin_bindings", "input_column", "prompt_column", "pipeline_options")
_QUIET = {"log": lambda text: None}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0, 1 (failed), 2 (bad input), 130 (Ctrl-C)."""
    console.open_streams()
    with console.Interrupts(ends_process=argv is None) as interrupts:
        try:
            args = _parser().parse_args(_rewrite(sys.argv[1:] if argv is None else argv))
            _expand_paths(args)
            with contextlib.nullcontext() if _debugs() else console.quiet_background():
                code = args.command(args)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
            console.discard_output()
            return _FAILED
        except (KeyboardInterrupt, Exception) as error:
            # A library may have made another error of the interruption.
            if interrupts.count or isinstance(error, KeyboardInterrupt):
                return _say("\nspjax: interrupted; the same command continues.", _INTERRUPTED)
            code, message = _explain(error)
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


def train(args: argparse.Namespace) -> int:
    """Trains one run in MODEL_DIR, continuing where an earlier call was interrupted."""
    from spjax import config, multihost
    from spjax.checkpoints.weights import weights
    from spjax.studies import run_folder
    from spjax.studies.executors import local

    local.keep_memory()
    multihost.initialize()
    leads = multihost.is_primary()
    run, folder = _with_folder("Run", args)
    text = config.config_str(run)
    with run_folder.claim(folder, text) if leads else contextlib.nullcontext():
        run.check_contents()
        result, longer = run_folder.result(folder), run_folder.extends(folder, text)
        if result is None or longer:
            from spjax.training import loop, run_data

            weights.find(run.model, run.checkpoint)
            run_data.prepare([run])  # before the folder is anything's
            name = run_folder.LONGER if longer and result is not None else "config.gin"
            if leads:
                run = _settled("Run", folder, text, name)
            (result,) = loop.train([run], [folder], _print_progress)
            if leads and name == run_folder.LONGER:
                (folder / name).replace(folder / "config.gin")
        elif leads:
            print(f"Nothing to do: the run in {folder} is finished.")
    wanted = ("status", "message", "best_step", "validation", "test", "majority")
    shown = {name: result[name] for name in wanted if result.get(name)}
    if leads:
        print(json.dumps(shown, indent=2))
    return 0 if result.get("status") == "finished" else _FAILED


def sweep(args: argparse.Namespace) -> int:
    """Runs a study: trains what is not finished, prints the table, draws the figures."""
    from spjax import config
    from spjax.analysis import figures
    from spjax.studies import plan, runner
    from spjax.studies.executors import local
    from spjax.studies.study import load_study

    study, overrides = load_study(args.gin_file, args.gin_bindings, _paths(args))
    for name in study.figures:
        figures.get(name)
    specs = plan.expand(study, overrides, _paths(args))
    folder = Path(args.output_dir) / study.name
    workers = args.workers or local.default_workers()
    if args.dry_run:
        print(runner.estimate(specs, folder, workers))
        return 0
    estimate = runner.estimate(specs, folder, workers)
    print(estimate.splitlines()[-1], flush=True)
    outcome = runner.sweep(
        study.name,
        specs,
        folder,
        workers=workers,
        gang_width=study.gang_width,
        study_text=config.config_str(study),
        prepare=runner.prepare_data,
    )
    report = runner.report(outcome, specs, folder)
    if outcome.stopped not in ("", runner.INTERRUPTED):
        print(f"spjax: error: {report}", file=sys.stderr)
        return _FAILED
    print(report)
    if outcome.finished:
        print(_finish(folder, study))
    if outcome.stopped:
        return _INTERRUPTED
    return _FAILED if outcome.failed else 0


def plot(args: argparse.Namespace) -> int:
    """Prints the table and draws the figures of a study's folder again, from its results.csv."""
    from spjax.studies.study import load_stored_study

    folder = Path(args.study_folder)
    for name in ("study.gin", "results.csv"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: give the folder that a sweep has written.")
    study = load_stored_study(folder)
    print(_finish(folder, study))
    return 0


def pretrain(args: argparse.Namespace) -> int:
    """Pre-trains or adapts a model in MODEL_DIR, continuing where a call was interrupted."""
    from spjax import config, multihost
    from spjax.studies import run_folder

    multihost.initialize()
    leads = multihost.is_primary()
    recipe, folder = _recipe(args)
    text = config.config_str(recipe)
    with run_folder.claim(folder, text) if leads else contextlib.nullcontext():
        card = run_folder.result(folder, f"{recipe.model}.json")
        if card is None:
            from spjax.pretraining import pretrain as training

            texts = data.texts(recipe)  # before the folder is anything's
            if leads:
                recipe = _settled("Pretrain", folder, text)
                data.put_vocabulary_beside(recipe, folder)
            multihost.barrier("start")
            card = training.pretrain(recipe, *texts, folder, **({} if leads else _QUIET))
        elif leads:
            print(f"Nothing to do: the pre-training in {folder} is finished.")
    if leads:
        print(json.dumps(card, indent=2, sort_keys=True))
    return 0


def _parser() -> argparse.ArgumentParser:
    gin = argparse.ArgumentParser(add_help=False)
    gin.add_argument(
        "--gin_file", action="append", required=True, help="repeatable; later files win"
    )
    gin.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a binding that wins over the files; also written --gin.NAME=VALUE",
    )
    gin.add_argument("--gin_search_paths", default="", help="folders with gin files, by commas")
    parser = argparse.ArgumentParser(prog="spjax", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"spjax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        text = command.__doc__.splitlines()[0]
        made = commands.add_parser(name, help=text, description=text, parents=parents)
        made.set_defaults(command=command)
        return made

    add("train", train, gin)
    study = add("sweep", sweep, gin)
    study.add_argument("--output_dir", default="results", help="the study gets a folder in it")
    study.add_argument("--workers", type=_positive, help="processes; one for each core by default")
    study.add_argument("--dry_run", action="store_true", help="print the runs and their cost only")
    add("plot", plot).add_argument("study_folder")
    add("pretrain", pretrain, gin)
    data.add_commands(add)
    predict.add_commands(add)
    prompts.add_commands(add)
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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _rewrite(argv: Sequence[str]) -> list[str]:
    """`--gin.NAME=value` as argparse can take it."""
    return [
        f"--gin_bindings={arg.removeprefix('--gin.')}" if arg.startswith("--gin.") else arg
        for arg in argv
    ]


def _paths(args: argparse.Namespace) -> list[str]:
    return [path for path in args.gin_search_paths.split(",") if path]


def _with_folder(name: str, args: argparse.Namespace) -> tuple[Any, Path]:
    """What gin configures, and MODEL_DIR; a run folder's own config.gin stands for its folder."""
    from spjax import config

    value, folder = config.load_with_folder(name, args.gin_file, args.gin_bindings, _paths(args))
    last = Path(args.gin_file[-1])
    if not folder and last.name == "config.gin":
        folder = last.parent
    if not folder:
        raise ValueError("MODEL_DIR has no value; give one with --gin.MODEL_DIR=FOLDER.")
    return value, Path(folder)


def _recipe(args: argparse.Namespace) -> tuple[Any, Path]:
    """The pre-training recipe and its folder."""
    from spjax import config
    from spjax.models.sizes import get_size

    try:
        return _with_folder("Pretrain", args)
    except ValueError:
        # The recipe's tables are looked up first, and know nothing of sizes.
        if (size := config.macro("MODEL_SIZE")) and size != "auto":
            get_size(str(size))
        raise


def _settled(name: str, folder: Path, text: str, file: str = "config.gin") -> Any:
    """Writes `config.gin` and reads it: what is trained is what a later call would read."""
    from spjax import config
    from spjax.files import write_text
    from spjax.studies import run_folder

    if file == "config.gin" and not run_folder.extends(folder, text):
        run_folder.prepare(folder, text)
    else:  # everything in the folder stays
        write_text(folder / file, text)
    return config.load_stored(name, folder / file)


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message for an error; no message if it is a mistake of our own."""
    from spjax.studies import run_folder

    if isinstance(error, FloatingPointError):
        return _FAILED, str(error)
    if isinstance(error, ValueError) and _raised_here(error):
        return _USAGE, str(error)
    problem = run_folder.disk_problem(error)
    if not problem and isinstance(error, OSError) and (message := _path_problem(error)):
        return _USAGE, message
    if problem:
        message = run_folder.disk_message(problem)
        if "cannot be opened" in message:
            return _FAILED, f"{message}."
        return _FAILED, f"{message}; what was saved is kept; the same command continues."
    return _USAGE, str(error) if isinstance(error, ValueError) else ""


def _path_problem(error: BaseException | None) -> str:
    """What the system said of a path, such as that its name is too long, "" if it said nothing."""
    while error is not None:
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            return f"cannot use {os.fsdecode(error.filename)}: {error.strerror}."
        error = error.__context__  # gin wraps errors, and its wrapper has no file's name
    return ""


def _raised_here(error: Exception) -> bool:
    """Whether our own code raised it; TensorStore reports a full disk as a ValueError too."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("spjax")


def _print_progress(progress: Any) -> None:
    scores = ", ".join(f"{score:.1f}" for score in progress.scores)
    scores = f", validation score {scores}" if scores else ""
    print(f"{progress.stage} {progress.step}/{progress.steps}{scores}", flush=True)


def _finish(folder: Path, study: Any) -> str:
    from spjax.analysis import report

    return report.finish(folder, study)


if __name__ == "__main__":
    sys.exit(main())
