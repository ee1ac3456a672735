"""Size and seed of a pre-trained model, from the header of its weights file."""

from __future__ import annotations

import functools
import json
import os
from typing import Any, NamedTuple

import safetensors

from spjax.checkpoints import remote
from spjax.checkpoints.weights import weights
from spjax.models.sizes import SIZES


class ModelNameAndSeed(NamedTuple):
    """A frozen model as tables name it.

    Attributes:
      name: of its size, or of its file or folder where nothing says the size.
      seed: of its pre-training; 0 where nothing says it.
    """

    name: str
    seed: int


def model_name_and_seed(model: str, checkpoint: str = "") -> ModelNameAndSeed:
    """Returns the size and the pre-training seed of the weights that a run loads.

    Args:
      model: name of a size, or "auto".
      checkpoint: as in `weights.find`.

    Raises:
      ValueError: there are no such weights.
    """
    if remote.is_url(checkpoint):  # tables are planned without a connection
        return ModelNameAndSeed(_stem(checkpoint) if model == weights.AUTO else model, 0)
    try:
        path = weights.find(model, checkpoint)
    except ValueError:
        if model == weights.AUTO:
            raise
        return ModelNameAndSeed(model, 0)  # a plan may be made before the weights are there
    recipe = _recipe(path, os.stat(path).st_mtime_ns)
    seed = recipe.get("seed")
    seed = seed if type(seed) is int and seed >= 0 else 0
    if model != weights.AUTO:
        return ModelNameAndSeed(model, seed)
    size = recipe.get("model")
    if size in SIZES and SIZES[size] == weights.config_of(model, checkpoint):
        return ModelNameAndSeed(size, seed)
    return ModelNameAndSeed(_stem(path), seed)


def _stem(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2].removesuffix(".safetensors")


@functools.lru_cache(maxsize=128)
def _recipe(path: str, modified: int) -> dict[str, Any]:
    """The recipe in the header of a local safetensors file, {} where there is none."""
    del modified  # a part of the cache's key
    if weights.kind(path) != "spjax":
        return {}
    try:
        with safetensors.safe_open(path, "numpy") as file:
            recipe = json.loads((file.metadata() or {}).get("recipe", "{}"))
    except (OSError, safetensors.SafetensorError, json.JSONDecodeError, RecursionError):
        return {}  # the error comes when the weights are read
    return recipe if isinstance(recipe, dict) else {}
