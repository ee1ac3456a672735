"""Frozen weights as safetensors under T5X's parameter names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.flax

from spjax import trees
from spjax.models import T5Config, get_size
from spjax.models.t5 import weight_shapes
from spjax.types import Tree

SHIPPED = Path(__file__).parent.parent / "pocket" / "weights"


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
    """The weights file of a model: `checkpoint` itself, or the one that ships with spjax.

    Args:
      model: name of a size.
      checkpoint: a `.safetensors` file; "" for the shipped weights of the pocket ladder.

    Returns:
      The path of an existing file.

    Raises:
      ValueError: there is no such file, or no weights ship for the size.
    """
    if checkpoint:
        path = Path(checkpoint)
        if not path.is_file() or path.suffix != ".safetensors":
            raise ValueError(
                f"INITIAL_CHECKPOINT_PATH {checkpoint!r} is not a .safetensors file. "
                "Give the path of a file written by `spjax pretrain`."
            )
        return path
    path = SHIPPED / f"{model}.safetensors"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.safetensors"))) or "none"
        raise ValueError(
            f"no weights ship for {model!r} (shipped: {shipped}). Set INITIAL_CHECKPOINT_PATH, "
            "or make them with `spjax pretrain`."
        )
    return path


def read(path: Path, config: T5Config, dtype: str = "float32") -> dict[str, Any]:
    """Reads weights and demands that names and shapes are those of the model.

    Args:
      path: a safetensors file.
      config: the model that should receive them; its `scan_layers` decides the layout.
      dtype: of the arrays that are returned.

    Returns:
      The parameter tree, as jax arrays.

    Raises:
      ValueError: the file cannot be read, or names or shapes differ (all are listed).
    """
    try:
        leaves = safetensors.flax.load_file(str(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"cannot read the weights {path}: {error}. Copy or make the file again."
        ) from error
    tree = trees.unflatten({k: jnp.asarray(v, dtype) for k, v in leaves.items()})
    if config.scan_layers:
        tree = trees.stack_layers(tree)
    trees.check_same(tree, weight_shapes(config), str(path))
    return tree


def load(model: str, checkpoint: str = "", dtype: str = "float32") -> dict[str, Any]:
    """Reads the weights of a named size (`find`, then `read`)."""
    return read(find(model, checkpoint), get_size(model), dtype)


def digest(weights: Tree) -> str:
    """SHA-256 of all weights, bit for bit, to prove that they have not changed."""
    import hashlib

    total = hashlib.sha256()
    for name, leaf in trees.flatten(weights).items():
        total.update(name.encode())
        total.update(np.asarray(jax.device_get(leaf)).tobytes())
    return total.hexdigest()
