"""The command `spjax prompt_length`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from spjax.cli import task_flags


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("prompt_length", prompt_length)
    parser.add_argument("task", help="a task, or a file of examples")
    task_flags.add_flags(parser)
    task_flags.add_labels(parser)
    parser.add_argument("--model", required=True, help="its size, or a checkpoint")
    parser.add_argument("--checkpoint", default="", help="its weights, unless they ship with spjax")
    parser.add_argument("--vocabulary", default="", help="name or path of its vocabulary")
    parser.add_argument(
        "--lengths", default="", metavar="N,N", help="1,2,5,10,20,50,100 by default"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each length; 3 by default")
    parser.add_argument("--steps", type=int, default=600, help="updates of a run; 600 by default")
    parser.add_argument(
        "--batch_size", type=int, default=32, help="examples in an update; 32 by default"
    )
    text = "gains of at most so many points count as none; 1 by default"
    parser.add_argument("--tolerance", type=float, default=1.0, help=text)
    text = "of Adam; by default a tenth of the embedding's root mean square"
    parser.add_argument("--learning_rate", type=float, help=text)
    parser.add_argument(
        "--output_dir", default="results", help="the runs get a folder in it; results by default"
    )
    text = "processes; one for each accelerator or core by default"
    parser.add_argument("--workers", type=int, help=text)


def prompt_length(args: argparse.Namespace) -> int:
    """Recommends a prompt length for a task, from short runs of several lengths.

    Examples:
      spjax prompt_length data.jsonl --model=t5_1_1_base --checkpoint=CHECKPOINT
      spjax prompt_length films.csv --template="{title}: {text}" --target="{verdict}" \\
        --labels=bad,good --model=t5_1_1_base --checkpoint=CHECKPOINT
      spjax prompt_length pocket_sentiment --model=pocket_200k --steps=300
    """
    from spjax.api import models, prompt_length, tasks

    task = tasks.load_task(args.task, **task_flags.file_options(args))
    model = models.load_model(args.model, checkpoint=args.checkpoint, vocabulary=args.vocabulary)
    advice = prompt_length.recommend_prompt_length(
        model,
        task,
        lengths=_lengths(args.lengths) or prompt_length.LENGTHS,
        seeds=args.seeds,
        steps=args.steps,
        batch_size=args.batch_size,
        tolerance=args.tolerance,
        learning_rate=args.learning_rate,
        output_dir=args.output_dir,
        workers=args.workers,
    )
    print(advice)
    print(f"runs and figure: {advice.folder}")
    return 0


def _lengths(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise ValueError(
            f"--lengths has {wrong[0]!r}; give whole numbers between commas: 1,5,20,100."
        )
    return [int(part) for part in parts]
