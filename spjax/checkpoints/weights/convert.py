"""Frozen weights of any format as a safetensors file with T5X's names or a Hugging Face folder.

One leaf is in memory at a time, so a model of any size can be converted on a small machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from spjax import trees
from spjax.checkpoints import remote
from spjax.checkpoints.weights import huggingface, lazy, safetensors_files, t5x, weights
from spjax.checkpoints.weights.stored_array import Leaves
from spjax.files import write_text
from spjax.models import T5Config
from spjax.models.t5 import EMBEDDING, weight_shapes
from spjax.vocabularies.vocabulary import load_vocabulary

FORMATS = ("safetensors", "huggingface")


def is_weights(source: str) -> bool:
    """Returns whether a path or URL holds frozen weights and no prompt."""
    try:
        kind = weights.kind(source)
        if kind == "t5x":
            return not t5x.holds_prompts(remote.local(source))
        return kind == "huggingface" or EMBEDDING in weights.open_arrays(source)
    except ValueError:  # the reader of prompts tells better what is wrong
        return False


def convert(
    source: str, out: Path | str, format: str, dtype: str = "float32", vocabulary: str = ""
) -> Path:
    """Writes the frozen weights of a checkpoint in another format; prompts in it are left out.

    Args:
      source: path of a file or folder, or a URL, of any format that is read.
      out: a file for "safetensors", a folder for "huggingface".
      format: one of `FORMATS`.
      dtype: "float32", "bfloat16" or (for "safetensors") "int8".
      vocabulary: a SentencePiece file to put into a Hugging Face folder; that beside the source by
        default.

    Returns:
      What was written.

    Raises:
      ValueError: the source cannot be read or is no T5, or as `write`.
    """
    _check(format, dtype)
    config = weights.config_of(weights.AUTO, source)
    unrolled = lazy.unroll(weights.open_arrays(source))
    leaves = {name: lazy.checked(leaf, name, source) for name, leaf in unrolled.items()}
    trees.check_same(trees.unflatten(dict(leaves)), weight_shapes(config), source)
    copied_vocabulary = vocabulary or weights.vocabulary_of(source)
    return write(out, leaves, config, format, dtype, copied_vocabulary, {"source": source})


def write(
    out: Path | str,
    leaves: Leaves,
    config: T5Config,
    format: str,
    dtype: str,
    vocabulary: str,
    metadata: Mapping[str, str],
) -> Path:
    """Writes weights as a checkpoint of one of `FORMATS`.

    Args:
      out: as of `convert`, and so are format and dtype.
      leaves: the arrays under T5X's names, layers unrolled.
      config: the model they belong to.
      format: "safetensors" or "huggingface".
      dtype: of the stored arrays.
      vocabulary: a SentencePiece file to put into a Hugging Face folder, "" for none.
      metadata: strings for the header of a safetensors file; its "source" is named in messages.

    Returns:
      What was written.

    Raises:
      ValueError: an unknown format or dtype, or a path that cannot be read or written.
    """
    _check(format, dtype)
    try:
        if format == "safetensors":
            safetensors_files.write(Path(out), leaves, dtype, metadata)
            return Path(out)
        return write_huggingface(Path(out), leaves, config, dtype, vocabulary)
    except (OSError, EOFError) as error:
        raise ValueError(
            f"cannot convert {metadata['source']} to {out}: {error}. Check both paths and the "
            "space on disk."
        ) from error


def _check(format: str, dtype: str) -> None:
    if format not in FORMATS:
        raise ValueError(
            f"weights cannot be written as {format!r}; use one of {', '.join(FORMATS)}."
        )
    if format == "huggingface" and dtype == "int8":
        raise ValueError(
            "Hugging Face folders have no place for the scales of int8; use --dtype float32 or "
            "bfloat16, or --format safetensors."
        )


def write_huggingface(
    folder: Path, leaves: Leaves, config: T5Config, dtype: str, vocabulary: str = ""
) -> Path:
    """Writes a folder that transformers loads; `config.json` last, which makes it a model.

    Args:
      folder: made if missing.
      leaves: the arrays under T5X's names, layers unrolled.
      config: the model they belong to.
      dtype: "float32" or "bfloat16".
      vocabulary: name or path of a vocabulary to copy, "" for none.

    Returns:
      The folder.

    Raises:
      OSError: an array cannot be read, or a file not written.
    """
    tensors = huggingface.tensors(leaves)
    metadata = {"format": "pt"}  # transformers asks for it
    safetensors_files.write(folder / huggingface.WEIGHTS, tensors, dtype, metadata)
    if vocabulary:
        load_vocabulary(vocabulary).copy(folder, weights.VOCABULARY)
        tokenizer = Path(vocabulary).with_name(weights.TOKENIZER_CONFIG)
        if (
            Path(vocabulary).is_file() and tokenizer.is_file()
        ):  # which may say how many sentinels there are
            shutil.copyfile(tokenizer, folder / weights.TOKENIZER_CONFIG)
    text = json.dumps(huggingface.config_json(config, dtype), indent=2, sort_keys=True)
    write_text(folder / huggingface.CONFIG, text + "\n")
    return folder
