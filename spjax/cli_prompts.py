"""The commands `spjax inspect` and `spjax convert`: prompts on the command line.

Rooms are imported inside the commands, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORMATS = ("npy", "safetensors", "peft", "t5x")
_EMBEDDINGS = ("token_embedder/embedding", "shared.weight")  # T5X's and Hugging Face's names


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands to the command line.

    Args:
      add: makes a sub-command from its name and its function.
    """
    shown = add("inspect", inspect)
    shown.add_argument("prompt", metavar="PROMPT", help="a prompt file, adapter or run folder")
    shown.add_argument("--model", default="", help="size of the frozen model, for nearest words")
    shown.add_argument("--checkpoint", default="", help="its weights, unless they ship with spjax")
    shown.add_argument("--vocabulary", default="", help="name or path of its vocabulary")
    shown.add_argument("--neighbours", type=int, default=5, help="words for each row")
    made = add("convert", convert)
    made.add_argument("prompt", metavar="PROMPT", help="a prompt file, adapter or run folder")
    made.add_argument("out", metavar="OUT", help="a file (npy, safetensors) or folder (peft, t5x)")
    made.add_argument("--format", required=True, choices=_FORMATS)
    made.add_argument("--base_model", default="", help="for peft: its name on the hub")


def inspect(args: argparse.Namespace) -> int:
    """Prints a prompt's shape, norms, provenance and nearest vocabulary words."""
    from spjax.checkpoints import inspection, prompts

    prompt = prompts.read(args.prompt)
    if not (args.model or args.checkpoint):
        print(inspection.describe(prompt))
        print("\nGive --model=SIZE for the nearest words of each row.")
        return 0
    embedding = _embedding(args.model, args.checkpoint)
    words = _vocabulary(args.vocabulary, args.model, args.checkpoint)
    print(inspection.describe(prompt, embedding, words, args.neighbours))
    return 0


def convert(args: argparse.Namespace) -> int:
    """Writes a prompt in another format, with its provenance."""
    from spjax.checkpoints import prompts

    print(prompts.convert(args.prompt, args.out, args.format, args.base_model))
    return 0


def _embedding(model: str, checkpoint: str) -> Any:
    """The embedding table alone: for an inspection the other weights need not be read."""
    from spjax.checkpoints import huggingface, lazy, t5x, weights

    path = weights.find(model, checkpoint)
    readers = {"huggingface": huggingface.stored, "t5x": t5x.stored}
    stored = readers.get(weights.kind(str(path)), lazy.safetensors_leaves)(path)
    for name in _EMBEDDINGS:
        if name in stored:
            return stored[name].read()
    raise ValueError(
        f"{path} has no embedding table, neither {' nor '.join(_EMBEDDINGS)}. Give the weights of "
        "a T5 model with --checkpoint."
    )


def _vocabulary(given: str, model: str, checkpoint: str) -> Any:
    from spjax.data import vocabulary

    folder = Path(checkpoint) if Path(checkpoint).is_dir() else Path(checkpoint).parent
    beside = folder / "spiece.model"
    if not given and model.startswith("pocket"):
        given = "pocket"
    elif not given and checkpoint and beside.is_file():
        given = str(beside)
    if not given:
        raise ValueError(
            f"no vocabulary is known for the model {model!r}; give its SentencePiece file with "
            "--vocabulary=PATH (for T5, spiece.model)."
        )
    return vocabulary.load(given)
