"""Weights that PyTorch has pickled, `pytorch_model.bin`, read by PyTorch without running code."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from spjax import extras
from spjax.checkpoints.weights.stored_array import Index, Leaves, StoredArray

WEIGHTS = "pytorch_model.bin"
SHARDS = "pytorch_model.bin.index.json"
_FLOATS = ("float32", "bfloat16", "float16", "float64")
_BLOCK_BYTES = 1 << 25  # of a tensor, converted at once


def read(path: str | Path) -> Leaves:
    """Returns the tensors of a file, mapped into memory and not yet read.

    `torch.load` takes tensors only and runs no code of the file (`weights_only=True`).

    Args:
      path: of a local file.

    Raises:
      ValueError: PyTorch is not installed, the path is a URL, or the file cannot be read or holds
        anything but tensors of floating-point numbers.
    """
    if "://" in str(path):
        raise ValueError(
            f"{path} is pickled, and PyTorch reads local files only. Download the folder, or take "
            "one with safetensors."
        )
    torch = extras.import_module(
        "torch", "torch", f"{path}, pickled weights without safetensors beside them,"
    )
    try:
        # Files of PyTorch before 1.6 are no archives, and cannot be mapped.
        tensors = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # of the unpickler, of zip files and of PyTorch
        raise ValueError(
            f"cannot read {path}: {str(error).splitlines()[0]} Download the file again."
        ) from error
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds {type(tensors).__name__}, no tensors by name.")
    return {str(name): _stored(torch, tensor, name, path) for name, tensor in tensors.items()}


def _stored(torch: Any, tensor: Any, name: str, path: str | Path) -> StoredArray:
    kind = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
    if kind not in _FLOATS:
        raise ValueError(
            f"{name} in {path} is stored as {kind}; weights may be stored as "
            f"{', '.join(_FLOATS)}. Take the unquantized file of this model."
        )
    shape = tuple(tensor.shape)
    rows = max(1, _BLOCK_BYTES // max(1, 4 * math.prod(shape[1:])))

    def fill(index: Index, out: np.ndarray) -> None:
        part = tensor[index]
        for first in range(0, max(1, len(part)), rows):  # bounds the memory of a conversion
            block = part[first : first + rows]
            block = block.to(torch.float32) if kind == "bfloat16" else block
            out[first : first + rows] = block.numpy()

    return StoredArray(shape, fill)
