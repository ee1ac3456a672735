"""Frozen weights: spjax's own files, and the reader for each format of checkpoint."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from spjax import trees
from spjax.checkpoints import remote
from spjax.checkpoints.weights import huggingface, lazy, safetensors_files, shapes, t5x
from spjax.checkpoints.weights.stored_array import Leaves, from_array
from spjax.files import reason
from spjax.models import T5Config, get_size, quantization
from spjax.types import Tree

SHIPPED = Path(__file__).parents[2] / "pocket" / "weights"
AUTO = "auto"
_MOST_HASHED = 2**31  # bytes of a folder; a second or two
_PIECES, _PIECE_BYTES = 64, 2**16  # of each file of a larger one
VOCABULARY = "spiece.model"
TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER_FILES = frozenset(
    {
        VOCABULARY,
        "tokenizer.json",
        TOKENIZER_CONFIG,
        "vocab.json",
        "merges.txt",
        "vocab.txt",
    }
)
FORMATS = (
    "a .safetensors file of spjax; a T5X folder `checkpoint_{step}` (msgpack and zarr, or Orbax); "
    "a Hugging Face folder (config.json with model.safetensors or pytorch_model.bin, or the index "
    "of one); or the URL of one "
    "(gs://, s3://, http://; of a Hugging Face repository, hf://ORGANIZATION/NAME)"
)
_READERS = {
    "spjax": safetensors_files.read,
    "t5x": t5x.open_weights,
    "huggingface": huggingface.open_arrays,
}


def save(path: Path, weights: Tree, metadata: Mapping[str, str], dtype: str = "bfloat16") -> None:
    """Writes weights to one safetensors file, in full or not at all.

    Args:
      path: where to write.
      weights: the tree to write.
      metadata: strings for the file's header (model, steps, seed, ...).
      dtype: of the stored arrays, one of `quantization.DTYPES`.
    """
    leaves = {
        name: from_array(np.asarray(quantization.dequantize(leaf)))
        for name, leaf in trees.flatten(weights).items()
    }
    safetensors_files.write(path, leaves, dtype, metadata)


def find(model: str, checkpoint: str = "") -> str:
    """Returns the path of a model's weights: `checkpoint`, or the file that ships with spjax.

    Args:
      model: name of a size, or "auto".
      checkpoint: a file, folder or URL (`FORMATS`); "" for the shipped weights of the pocket
        ladder. A repository of the Hugging Face hub is downloaded.

    Returns:
      The path of an existing file or folder, or a URL.

    Raises:
      ValueError: there is nothing that can be read, or no weights ship for the size.
    """
    if checkpoint:
        kind(checkpoint)
        return remote.local(checkpoint)
    check_model(model)  # a misspelt name is not a size without weights
    if not ships(model):
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.safetensors"))) or "none"
        raise ValueError(
            f"no weights ship for {model!r} (shipped: {shipped}). Set INITIAL_CHECKPOINT_PATH, "
            "or make them with `spjax pretrain`."
        )
    return str(SHIPPED / f"{model}.safetensors")


def ships(model: str) -> bool:
    """Returns whether weights of a size ship with spjax."""
    return bool(model) and (SHIPPED / f"{model}.safetensors").is_file()


@functools.cache
def shipped_digests(model: str) -> frozenset[str]:
    """Returns the digests of the weights of a size that ships, in each dtype; none for another."""
    dtypes = ("float32", "bfloat16", "int8") if ships(model) else ()
    return frozenset(digest(load(model, dtype=dtype)) for dtype in dtypes)


def kind(checkpoint: str) -> str:
    """Returns the format of a checkpoint, by the files in the folder.

    Args:
      checkpoint: path of a file or folder, or a URL.

    Returns:
      "spjax", "t5x" or "huggingface".

    Raises:
      ValueError: it does not exist or holds nothing that can be read.
    """
    path = remote.local(checkpoint)
    if path.endswith(".safetensors") and remote.is_file(path):
        return "spjax"
    if _is_t5x(path):
        return "t5x"
    try:
        names = remote.names(path)
    except OSError as error:
        raise ValueError(
            f"cannot look at the checkpoint {checkpoint!r}: {reason(error)}. Check the address and "
            "the connection."
        ) from error
    if huggingface.CONFIG in names and huggingface.WEIGHT_FILES & names:
        return "huggingface"
    empty = "an empty folder" if Path(path).is_dir() else "absent"
    held = f"a folder with {', '.join(sorted(names)[:8])}" if names else empty
    state = "another kind of file" if remote.is_file(path) else held
    raise ValueError(
        f"the checkpoint {checkpoint!r} ({state}) is not a .safetensors file or another "
        f"checkpoint that spjax reads. Give {FORMATS}."
    )


def _is_t5x(path: str) -> bool:
    try:
        return t5x.is_checkpoint(path)
    except (ValueError, NotImplementedError) as error:  # a scheme that TensorStore does not know
        if "retry attempts failed" in str(error):
            raise ValueError(
                f"cannot reach the checkpoint {path!r}: {error}. Check the address and "
                "the connection, or give the path of a copy."
            ) from error
        return False


def open_arrays(checkpoint: str) -> Leaves:
    """Returns all frozen weights of a checkpoint, not yet read, under T5X's names.

    Args:
      checkpoint: path of a file or folder, or a URL.

    Raises:
      ValueError: it cannot be read.
    """
    path = remote.local(checkpoint)
    return _READERS[kind(path)](path)


def check_model(model: str, checkpoint: str = "") -> None:
    """Demands the name of a size, or "auto" with a checkpoint; reads no files.

    Raises:
      ValueError: an unknown size, or nothing that "auto" could be.
    """
    if model != AUTO:
        get_size(model)
    elif not checkpoint:
        raise ValueError(
            "the model 'auto' is the one that INITIAL_CHECKPOINT_PATH holds, which is empty. Give "
            "a checkpoint, or the name of a size that ships with spjax."
        )


def config_of(model: str, checkpoint: str = "") -> T5Config:
    """Returns the configuration of a model: a row of the sizes table, or that of a checkpoint.

    Args:
      model: name of a size, or "auto" for the checkpoint's own: `config.json` of a Hugging Face
        folder, else the shapes of its arrays.
      checkpoint: path of a file or folder, or a URL.

    Raises:
      ValueError: an unknown size, or the checkpoint does not tell.
    """
    return _config(find(model, checkpoint)) if model == AUTO else get_size(model)


@functools.lru_cache(maxsize=32)
def _config(path: str) -> T5Config:
    if kind(path) == "huggingface":
        return huggingface.read_config(path)
    return shapes.config(open_arrays(path), path)


def vocabulary_of(checkpoint: str) -> str:
    """Returns the path of the SentencePiece file beside a checkpoint, "" where there is none.

    Args:
      checkpoint: path of a file or folder, or a URL; of URLs only `hf://` is looked at.
    """
    folder = folder_of(checkpoint)
    return str(folder / VOCABULARY) if folder and (folder / VOCABULARY).is_file() else ""


def folder_of(checkpoint: str) -> Path | None:
    """Returns the folder of a checkpoint; None for a URL, and without a checkpoint."""
    path = remote.local(checkpoint)
    if not checkpoint or remote.is_url(path):
        return None
    return Path(path) if Path(path).is_dir() else Path(path).parent


def tokenizer_files(checkpoint: str) -> list[str]:
    """Returns the names of the tokenizer files in a checkpoint's folder.

    Args:
      checkpoint: path of a file or folder, or a URL; a file has none.
    """
    names = remote.names(remote.local(checkpoint)) if checkpoint else set()
    return sorted(name for name in names if name in _TOKENIZER_FILES or name.endswith(".model"))


def read(
    checkpoint: str | Path,
    config: T5Config,
    dtype: str = "float32",
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Reads a checkpoint of any format and demands that its model is `config`.

    Args:
      checkpoint: path of a file or folder, or a URL.
      config: the model that should receive the weights; its `scan_layers` decides the layout.
      dtype: as in `lazy.assemble`.
      sharding: as in `lazy.assemble`.

    Returns:
      The parameter tree, as jax arrays; soft prompts in the checkpoint are left out.

    Raises:
      ValueError: the checkpoint cannot be read, its model computes otherwise (Hugging Face
        folders say how), or names or shapes differ (all are listed).
    """
    path = remote.local(checkpoint)
    format = kind(path)
    if format == "huggingface":
        huggingface.check(path, config)
    return lazy.assemble(_READERS[format](path), config, dtype, path, sharding)


def fingerprint(model: str, checkpoint: str = "") -> str:
    """Returns a SHA-256 that names the weights a run would load, "" while there are none.

    Of a file it is the hash of all bytes (and those of a vocabulary beside it and of what says how
    many sentinels that has); of a folder that of every file's name and bytes, or, where it holds
    more than 2 GiB, of names, sizes and 64 pieces of each file; of a URL, that of its text.
    """
    if remote.is_url(checkpoint):
        return hashlib.sha256(checkpoint.encode()).hexdigest()
    try:
        path = Path(find(model, checkpoint))
    except ValueError:
        return ""
    beside = [Path(vocabulary)] if (vocabulary := vocabulary_of(checkpoint)) else []
    beside += [p for p in (path.with_name(TOKENIZER_CONFIG),) if beside and p.is_file()]
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path, *beside]
    state = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _files_digest(state) if path.is_dir() else "".join(_file_digest(*s) for s in state)


@functools.lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, modified: int) -> str:
    del size, modified  # parts of the cache's key
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=32)
def _files_digest(state: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    base = Path(os.path.commonpath([path.parent for path, _, _ in state]))
    whole = sum(size for _, size, _ in state) <= _MOST_HASHED
    for path, size, _ in state:
        total.update(f"{path.relative_to(base)} {size} ".encode())
        with open(path, "rb") as file:
            if whole:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for i in range(_PIECES):  # the last one ends with the file
                file.seek(max(size - _PIECE_BYTES, 0) * i // (_PIECES - 1))
                total.update(file.read(_PIECE_BYTES))
    return total.hexdigest()


def load(
    model: str,
    checkpoint: str = "",
    dtype: str = "float32",
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Loads the weights of a model from a checkpoint of any format.

    Args:
      model: name of a size, or "auto" for the checkpoint's own shape.
      checkpoint: as in `find`.
      dtype: as in `lazy.assemble`.
      sharding: as in `lazy.assemble`.

    Raises:
      ValueError: nothing can be read, or it does not fit the model.
    """
    path = find(model, checkpoint)
    return read(path, config_of(model, path), dtype, sharding)


def digest(weights: Tree) -> str:
    """Returns the SHA-256 of all weights, bit for bit, to prove that they have not changed.

    It is the same whether layers are stacked or not.
    """
    leaves: dict[str, tuple[Any, int | None]] = {}
    for name, leaf in trees.flatten(weights).items():
        layers = trees.layer_names(name, leaf)
        leaves.update({layer: (leaf, i) for i, layer in enumerate(layers)})
        if not layers:
            leaves[name] = leaf, None
    total = hashlib.sha256()
    for name, (leaf, layer) in sorted(leaves.items(), key=lambda item: item[0]):
        total.update(name.encode())
        for part in jax.tree.leaves(leaf):  # two of a quantized matrix
            array = part if layer is None else part[:, layer]
            total.update(trees.to_host(array).tobytes())
    return total.hexdigest()
