"""Frozen weights: spjax's own files, and which reader takes what a checkpoint path holds."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.flax

from spjax import trees
from spjax.checkpoints import huggingface, lazy, t5x
from spjax.models import T5Config, get_size
from spjax.types import Tree

SHIPPED = Path(__file__).parent.parent / "pocket" / "weights"
FORMATS = (
    "a .safetensors file of spjax; a T5X folder `checkpoint_{step}` (msgpack and zarr, or Orbax); "
    "a Hugging Face folder (config.json with model.safetensors or its index); or a URL of a T5X "
    "folder (gs://, s3://, http://)"
)


def save(path: Path, weights: Tree, metadata: Mapping[str, str], dtype: str = "bfloat16") -> None:
    """Writes weights to one safetensors file, by way of a temporary file.

    Args:
      path: where to write.
      weights: the tree to write.
      metadata: strings for the file's header (model, steps, seed, ...).
      dtype: of the stored arrays.
    """
    leaves = {k: jnp.asarray(v, dtype) for k, v in trees.flatten(weights).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    safetensors.flax.save_file(leaves, str(temporary), metadata=dict(metadata))
    os.replace(temporary, path)


def find(model: str, checkpoint: str = "") -> Path:
    """Where the weights of a model are: `checkpoint` itself, or what ships with spjax.

    Args:
      model: name of a size.
      checkpoint: a file or folder (`FORMATS`); "" for the shipped weights of the pocket ladder.

    Returns:
      The path of an existing file or folder.

    Raises:
      ValueError: there is nothing that can be read, or no weights ship for the size.
    """
    if checkpoint:
        kind(checkpoint)
        return Path(checkpoint)
    get_size(model)  # a misspelt name is not a size without weights
    path = SHIPPED / f"{model}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.safetensors"))) or "none"
        raise ValueError(
            f"no weights ship for {model!r} (shipped: {shipped}). Set INITIAL_CHECKPOINT_PATH, "
            "or make them with `spjax pretrain`."
        )
    return path


def kind(checkpoint: str) -> str:
    """The format of a checkpoint, by what is in the folder.

    Args:
      checkpoint: path of a file or folder, or a URL.

    Returns:
      "spjax", "t5x" or "huggingface".

    Raises:
      ValueError: it does not exist or holds nothing that can be read.
    """
    if "://" in checkpoint:  # not looked at before it is read
        return "t5x"
    path = Path(checkpoint)
    if path.is_file() and path.suffix == ".safetensors":
        return "spjax"
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if huggingface.CONFIG in names and {huggingface.WEIGHTS, huggingface.SHARDS} & names:
        return "huggingface"
    if path.is_dir() and t5x.is_checkpoint(path):
        return "t5x"
    held = f"a folder with {', '.join(sorted(names)[:8]) or 'nothing'}" if path.is_dir() else ""
    state = held or ("another kind of file" if path.is_file() else "absent")
    raise ValueError(
        f"INITIAL_CHECKPOINT_PATH {checkpoint!r} ({state}) is not a .safetensors file or another "
        f"checkpoint that spjax reads. Give {FORMATS}."
    )


def read(
    path: Path,
    config: T5Config,
    dtype: str = "float32",
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Reads a file of spjax and demands that names and shapes are those of the model.

    Args:
      path: a safetensors file.
      config: the model that should receive them; its `scan_layers` decides the layout.
      dtype: of the arrays that are returned, "float32" or "bfloat16".
      sharding: as in `lazy.assemble`.

    Returns:
      The parameter tree, as jax arrays.

    Raises:
      ValueError: the file cannot be read, or names or shapes differ (all are listed).
    """
    return lazy.assemble(lazy.safetensors_leaves(path), config, dtype, str(path), sharding)


def fingerprint(model: str, checkpoint: str = "") -> str:
    """SHA-256 that names the weights a run would load, "" while there are none.

    Of a file it is the hash of all bytes; of a folder, which may hold tens of gigabytes, that of
    every file's name, size and first 64 KiB; of a URL, that of its text.
    """
    if "://" in checkpoint:
        return hashlib.sha256(checkpoint.encode()).hexdigest()
    try:
        path = find(model, checkpoint)
    except ValueError:
        return ""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    state = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return _files_digest(state) if path.is_dir() else _file_digest(*state[0])


@functools.lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, modified: int) -> str:
    del size, modified  # parts of the cache's key
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=32)
def _files_digest(state: tuple[tuple[Path, int, int], ...]) -> str:
    total = hashlib.sha256()
    base = Path(os.path.commonpath([path.parent for path, _, _ in state]))
    for path, size, _ in state:
        total.update(f"{path.relative_to(base)} {size} ".encode())
        with open(path, "rb") as file:
            total.update(file.read(2**16))
    return total.hexdigest()


def load(
    model: str,
    checkpoint: str = "",
    dtype: str = "float32",
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Reads the weights of a named size from whatever format `checkpoint` has.

    Args:
      model: name of a size.
      checkpoint: as in `find`, or a URL of a T5X folder.
      dtype: "float32" or "bfloat16".
      sharding: as in `lazy.assemble`.

    Raises:
      ValueError: nothing can be read, or it does not fit the model.
    """
    path = checkpoint if "://" in checkpoint else find(model, checkpoint)
    readers = {"spjax": read, "t5x": t5x.read, "huggingface": huggingface.read}
    return readers[kind(str(path))](path, get_size(model), dtype, sharding)


def digest(weights: Tree) -> str:
    """SHA-256 of all weights, bit for bit, to prove that they have not changed."""
    total = hashlib.sha256()
    for name, leaf in trees.flatten(weights).items():
        total.update(name.encode())
        total.update(np.asarray(jax.device_get(leaf)).tobytes())
    return total.hexdigest()
