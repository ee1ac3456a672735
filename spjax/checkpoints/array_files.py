"""Arrays as `.npy` and safetensors: read without pickle, written in full or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from spjax.files import replacing, sync

NPY, SAFETENSORS = ".npy", "safetensors"
_WIDENED = ("float32", "bfloat16", "float16", "float64")


def kind(path: Path) -> str:
    """Which of the two formats a file has, by its first bytes and not by its name.

    Raises:
      ValueError: the file cannot be read, or is in neither format.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}. Check the path.") from error
    if head.startswith(b"\x93NUMPY"):
        return NPY
    if head[8:] == b"{":  # eight bytes of length, then a JSON header
        return SAFETENSORS
    hint = ""
    if head.startswith((b"PK", b"\x80")):
        hint = " It looks like a pickle of PyTorch or NumPy, which could run code when loaded."
    raise ValueError(
        f"{path} is neither .npy nor safetensors (it starts with {head!r}).{hint} Write the "
        "array again in one of the two formats."
    )


def read_npy(path: Path) -> np.ndarray:
    """Reads an array; one of two-byte voids is bfloat16, which `.npy` has no name for.

    Raises:
      ValueError: the file is damaged, or holds Python objects.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"cannot read the array in {path}: {error}. Copy or write the file again, as numbers."
        ) from error
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file's tensors, and the strings of its header.

    Raises:
      ValueError: the file is damaged, or holds numbers that NumPy does not know.
    """
    try:
        with safetensors.safe_open(str(path), "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError) as error:
        raise ValueError(
            f"cannot read the tensors in {path}: {error}. Copy or write the file again."
        ) from error


def widen(array: np.ndarray, source: str) -> np.ndarray:
    """A floating-point array as contiguous float32; from float64 it is rounded.

    Args:
      array: of any shape.
      source: where it came from, for the message.

    Raises:
      ValueError: another dtype, or a number that is not finite (float16 turns what is above
        65504 into infinity).
    """
    if array.dtype.name not in _WIDENED:
        raise ValueError(
            f"{source} holds {array.dtype} numbers; a prompt is one of {', '.join(_WIDENED)}. "
            "Convert it where it was made."
        )
    with np.errstate(over="ignore"):  # the check below tells it better
        wide = np.ascontiguousarray(array, np.float32)
    if bad := int(np.sum(~np.isfinite(wide))):
        what = "NaN" if np.isnan(wide).any() else "infinite"
        raise ValueError(
            f"{source} has {bad} of {wide.size} numbers that are not finite ({what}; stored as "
            f"{array.dtype}). float16 overflows above 65504: save prompts as float32, and do not "
            "use one from a run that diverged."
        )
    return wide


def write_npy(path: Path, array: np.ndarray) -> None:
    """Writes an `.npy` file under exactly this name, in full or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)
        sync(file)


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a safetensors file with strings in its header, in full or not at all."""
    data = safetensors.numpy.save(dict(tensors), metadata=dict(metadata))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        sync(file)
