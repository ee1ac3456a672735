"""The command `spjax train`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from spjax.cli import gin_flags
from spjax.cli.exit_codes import FAILED

_SHOWN = ("status", "message", "best_step", "validation", "test", "examples", "majority")


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name, its function and parent parsers.
    """
    parser = add("train", train, gin_flags.gin_parser())
    gin_flags.add_trackers(parser)


def train(args: argparse.Namespace) -> int:
    """Trains one run in MODEL_DIR, continuing where an earlier call was interrupted.

    SIGTERM, SIGUSR1 and SIGUSR2 end it with a checkpoint of the present step.

    Macros that matter: MODEL_SIZE, INITIAL_CHECKPOINT_PATH, MIXTURE_OR_TASK_NAME, MODEL_DIR,
    PROMPT_LENGTH, LEARNING_RATE, TRAIN_STEPS, BATCH_SIZE, EVAL_PERIOD, SEED. `spjax configs` lists
    the gin files.

    Examples:
      spjax train --gin_file=gin_configs/models/pocket.gin \\
        --gin_file=gin_configs/runs/pocket.gin --gin_file=gin_configs/methods/prompt_tuning.gin \\
        --gin.MODEL_SIZE=pocket_200k --gin.MIXTURE_OR_TASK_NAME=pocket_sentiment \\
        --gin.PROMPT_LENGTH=20 --gin.MODEL_DIR=/tmp/sentiment
    """
    from spjax import multihost
    from spjax.studies import devices

    devices.keep_memory()
    multihost.initialize()
    from spjax.api import run_folders
    from spjax.cli.train_display import TrainDisplay
    from spjax.training.stop import StopRequested, StopSignals

    args.gin_bindings = [*args.gin_bindings, *gin_flags.tracker_bindings(args)]
    run, folder = gin_flags.load_with_folder("Run", args)
    with TrainDisplay() as display, StopSignals() as signals:

        def on_progress(progress: Any) -> None:
            if multihost.is_primary():
                display(progress)
            signals.check()

        try:
            result, has_trained = run_folders.train_in_folder(run, folder, on_progress)
        except StopRequested:
            number = signals.received or signal.SIGTERM  # another process has received it
            print(f"spjax: stopped by {number.name}; the same command continues.", file=sys.stderr)
            return 128 + number
    if multihost.is_primary():
        if not has_trained:
            print(f"Nothing to do: the run in {folder} is finished.")
        print(json.dumps({name: result[name] for name in _SHOWN if result.get(name)}, indent=2))
    return FAILED if result.get("status") == "diverged" else 0
