"""The command `spjax convert`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spjax.cli.notes import print_note

_FORMATS = ("npy", "safetensors", "peft", "t5x", "huggingface")
_DTYPES = ("float32", "bfloat16", "int8")


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    parser = add("convert", convert)
    parser.add_argument(
        "source", metavar="SOURCE", help="a prompt or run folder, or weights in any format"
    )
    parser.add_argument(
        "out", metavar="OUT", help="a file (npy, safetensors) or folder (peft, t5x, huggingface)"
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=_FORMATS,
        help="of prompts npy, safetensors, peft, t5x; of weights safetensors, huggingface; an "
        "adapter of a run goes to safetensors and peft, its merged weights to huggingface or, "
        "with --dtype, to safetensors",
    )
    parser.add_argument("--dtype", choices=_DTYPES, help="of weights; float32 by default")
    parser.add_argument(
        "--vocabulary",
        default="",
        help="for huggingface: name or path; what belongs to the weights by default",
    )
    parser.add_argument(
        "--base_model",
        default="",
        help="for peft: its name on the hub or its folder; the run's checkpoint by default",
    )


def convert(args: argparse.Namespace) -> int:
    """Writes a prompt, with its provenance, or weights in another format.

    What is given decides; a T5X checkpoint with a prompt in it and a run that left an adapter count
    as weights with --dtype or --format=huggingface, and as the prompt or adapter otherwise. The
    weights of a run are its tuned ones.

    Examples:
      spjax convert runs/boolq boolq_adapter --format=peft
      spjax convert hf://google/flan-t5-base flan.safetensors --format=safetensors
    """
    from spjax.api import run_folders
    from spjax.checkpoints.prompts import prompt_files
    from spjax.checkpoints.weights import convert as weights_convert

    if args.vocabulary and args.format != "huggingface":
        raise ValueError(
            f"--vocabulary={args.vocabulary} goes into a Hugging Face folder, and the format is "
            f"{args.format!r}; leave it out."
        )
    wanted = args.dtype or args.format not in prompt_files.FORMATS
    if wanted and _is_adapter(args.source):
        raise ValueError(
            f"{args.source} is an adapter of PEFT, and only runs can be merged into the frozen "
            "weights: give the folder of a run, or write the adapter itself with "
            "--format=safetensors and without --dtype."
        )
    dtype = args.dtype or "float32"
    if folder := _run_with_weights(args.source, wanted):
        from spjax.training import export

        run = run_folders.load_run_config(folder)
        print(export.export(run, folder, args.out, args.format, dtype, args.vocabulary))
    elif wanted or weights_convert.is_weights(args.source):
        vocabulary = _vocabulary_file(args) if args.format == "huggingface" else ""
        print(weights_convert.convert(args.source, args.out, args.format, dtype, vocabulary))
    else:
        print(prompt_files.convert(args.source, args.out, args.format, args.base_model))
    return 0


def _is_adapter(source: str) -> bool:
    """Returns whether a folder or a repository of the hub has an adapter of PEFT."""
    from spjax import hub
    from spjax.checkpoints.prompts import peft
    from spjax.checkpoints.weights import convert as weights_convert

    if hub.is_url(source) and weights_convert.is_weights(source):
        return False
    return (hub.prompt_path(source) / peft.CONFIG).is_file()


def _run_with_weights(source: str, wanted: Any) -> Path | None:
    """The folder of a run whose weights are to be written, None for anything else."""
    from spjax.api import run_folders
    from spjax.checkpoints.prompts import run_prompts

    folder = run_folders.find_run_folder(source) if Path(source).is_dir() else None
    if folder is None or wanted:
        return folder
    only_weights = getattr(run_folders.method_class_of(folder), "changes_weights", False)
    return folder if only_weights and not (folder / run_prompts.TENSORS_FILE).is_file() else None


def _vocabulary_file(args: argparse.Namespace) -> str:
    """The SentencePiece file that goes into a Hugging Face folder, "" where nobody knows it."""
    from spjax.api.models import find_vocabulary
    from spjax.checkpoints.weights import weights

    if args.vocabulary:
        return str(find_vocabulary(args.vocabulary, weights.AUTO, args.source).path)
    try:
        return str(find_vocabulary("", weights.AUTO, args.source).path)
    except ValueError as error:
        print_note(f"{args.out} gets no vocabulary: {error}")
        return ""
