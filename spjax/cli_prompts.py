"""The commands `spjax inspect` and `spjax convert`: prompts and frozen weights as files.

Rooms are imported inside the commands, so that `spjax --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

_FORMATS = ("npy", "safetensors", "peft", "t5x", "huggingface")
_DTYPES = ("float32", "bfloat16", "int8")


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
    made.add_argument(
        "source", metavar="SOURCE", help="a prompt or run folder, or frozen weights in any format"
    )
    made.add_argument(
        "out", metavar="OUT", help="a file (npy, safetensors) or folder (peft, t5x, huggingface)"
    )
    made.add_argument(
        "--format",
        required=True,
        choices=_FORMATS,
        help="of prompts npy, safetensors, peft, t5x; of weights safetensors, huggingface",
    )
    made.add_argument("--dtype", choices=_DTYPES, help="of frozen weights; float32 by default")
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
    words = find_vocabulary(args.vocabulary, args.model, args.checkpoint)
    print(inspection.describe(prompt, embedding, words, args.neighbours))
    return 0


def convert(args: argparse.Namespace) -> int:
    """Writes a prompt, with its provenance, or frozen weights in another format.

    What is given decides; a T5X checkpoint with a prompt in it counts as weights with --dtype or
    --format=huggingface, and as the prompt otherwise.

    Raises:
      ValueError: the source cannot be read or does not go into this format.
    """
    from spjax.checkpoints import convert as weights_convert
    from spjax.checkpoints import prompts

    frozen = args.dtype or args.format not in prompts.FORMATS
    if frozen or weights_convert.is_weights(args.source):
        dtype = args.dtype or "float32"
        print(weights_convert.convert(args.source, args.out, args.format, dtype))
    else:
        print(prompts.convert(args.source, args.out, args.format, args.base_model))
    return 0


def _embedding(model: str, checkpoint: str) -> Any:
    """The embedding table alone: for an inspection the other weights need not be read."""
    from spjax.checkpoints import weights
    from spjax.models.t5 import EMBEDDING

    path = weights.find(model, checkpoint)
    stored = weights.stored(path)
    names = (EMBEDDING, "shared.weight")  # T5X's and Hugging Face's
    for name in names:
        if name in stored:
            return stored[name].read()
    raise ValueError(
        f"{path} has no embedding table, neither {' nor '.join(names)}. Give the weights of "
        "a T5 model with --checkpoint."
    )


def find_vocabulary(given: str, model: str, checkpoint: str) -> Any:
    """The vocabulary that is given, or the one that belongs to a model.

    Args:
      given: name or path; "" to look for it.
      model: name of a size.
      checkpoint: the model's weights; a SentencePiece file may lie beside them.

    Raises:
      ValueError: none is known.
    """
    from spjax.checkpoints import weights
    from spjax.data import vocabulary

    if not given:
        given = weights.vocabulary_of(checkpoint)
        given = given or ("pocket" if model.startswith("pocket") else "")
    if not given:
        raise ValueError(
            f"no vocabulary is known for the model {model!r}; give its SentencePiece file with "
            "--vocabulary=PATH (for T5, spiece.model)."
        )
    return vocabulary.load(given)
