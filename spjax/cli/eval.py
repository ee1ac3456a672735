"""The command `spjax eval`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spjax.cli import model_flags, task_flags
from spjax.cli.notes import print_note

_ENSEMBLES = ("vote", "mean")
_SPLITS = ("train", "validation", "test")
_OF_THE_RUN = (
    "task",
    "template",
    "target",
    "model",
    "checkpoint",
    "vocabulary",
    "insertion",
    "weights_dtype",
    "labels",
    "input_length",
    "target_length",
)


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("eval", evaluate)
    parser.add_argument("run_folder", nargs="?", help="a finished run; or else give --prompt")
    parser.add_argument(
        "--prompt",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="a prompt file, adapter or run folder; several answer in the same batches",
    )
    parser.add_argument("--ensemble", choices=_ENSEMBLES, help="what all of them say together")
    parser.add_argument(
        "--task",
        default="",
        help="the prompt's own by default; or a file, all rows of which are scored",
    )
    parser.add_argument("--split", default="", choices=_SPLITS, help="test if it has labels")
    task_flags.add_flags(parser)
    model_flags.add_flags(parser)


def evaluate(args: argparse.Namespace) -> int:
    """Scores a finished run or a prompt file on a split of a task.

    Examples:
      spjax eval runs/boolq --split=validation
      spjax eval --prompt=boolq.safetensors --model=pocket_800k --task=pocket_boolq
      spjax eval --prompt=adapter --task=new.csv --template="review: {text}" --target="{label}"
    """
    if bool(args.run_folder) == bool(args.prompt):
        raise ValueError("give either the folder of a finished run or --prompt=FILE.")
    if args.ensemble and len(args.prompt) < 2:
        raise ValueError("--ensemble wants several prompts: --prompt FILE FILE ...")
    scores = _evaluate_prompts(args) if args.prompt else _evaluate_run(args)
    print(json.dumps(scores, indent=2))
    return 0


def _evaluate_run(args: argparse.Namespace) -> dict[str, Any]:
    from spjax import guesses, partitioning
    from spjax.api import run_folders
    from spjax.studies import copies, run_folder
    from spjax.training import stored_run

    partitioning.keep_compiled_programs()
    folder = Path(copies.local_copy(args.run_folder))
    if not folder.exists():
        raise ValueError(f"there is no folder {folder}.{guesses.did_you_mean_path(folder)}")
    if run_folder.result(folder) is None:
        raise ValueError(f"{folder} holds no finished run; train it first with `spjax train`.")
    for name in _OF_THE_RUN:
        if getattr(args, name):
            raise ValueError(
                f"--{name} is what the run in {folder} says itself; to score its prompt otherwise "
                f"give --prompt={folder / 'prompt.npy'} instead of the folder."
            )
    for name, value in model_flags.changed_answer_flags(args).items():
        raise ValueError(
            "a run folder is scored greedily and in batches of Run.eval_batch_size, as it was "
            f"while training; for --{name}={value} give --prompt={folder / 'prompt.npy'} instead."
        )
    run = run_folders.load_run_config(folder)
    mesh = (args.num_partitions, args.logical_axis_rules)
    return stored_run.score_folder(run, folder, args.split, *mesh)


def _evaluate_prompts(args: argparse.Namespace) -> dict[str, Any]:
    from spjax.api.predictor import score_prompts
    from spjax.api.stored_prompts import StoredPrompts

    options = model_flags.answer_options(args)
    model = model_flags.model_options(args)
    stored = StoredPrompts(args.prompt, model, note=print_note)
    ensemble = args.ensemble or ""
    columns = task_flags.columns(args)
    return score_prompts(stored, options, args.prompt, args.task, args.split, ensemble, columns)
