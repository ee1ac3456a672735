"""Arrays as `.npy` and safetensors: read without pickle, written in full or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from spjax import guesses
from spjax.checkpoints import header_digests
from spjax.files import DamagedFile, check_regular, open_regular, reason, replacing, sync

NPY, SAFETENSORS = ".npy", "safetensors"
_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_WIDENED = ("float32", "bfloat16", "float16", "float64")


def kind(path: Path) -> str:
    """Returns the format of a file, "npy" or "safetensors", by its first bytes.

    Raises:
      ValueError: the file cannot be read, or is in neither format.
    """
    try:
        with open_regular(path) as file:
            head = file.read(9)
    except OSError as error:
        meant = "" if path.exists() else guesses.did_you_mean_path(path)
        raise ValueError(f"cannot read {path}: {error.strerror}. Check the path.{meant}") from error
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
    """Reads an array; two-byte voids are bfloat16, which `.npy` has no name for.

    Raises:
      ValueError: the file is damaged, or holds Python objects.
    """
    try:
        with open_regular(path) as file:
            _check_npy_size(file)
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # headers are evaluated by Python's tokenizer and parser
        problem = reason(error)
        if problem.startswith("malformed node"):  # followed by the address of an object
            problem = "its header is no Python literal"
        raise ValueError(
            f"cannot read the array in {path}: {problem}. Copy or write the file again, as numbers."
        ) from error
    return array.view(ml_dtypes.bfloat16) if array.dtype == np.dtype("V2") else array


def _check_npy_size(file: BinaryIO) -> None:
    """Checks that a file is as long as its header says, before any memory is allocated.

    Leaves the file at its start.

    Raises:
      ValueError: it is not, or the header is damaged.
    """
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise ValueError(f"it has version {version} of the format")
    shape, _, dtype = _NPY_HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code when loaded")
    if any(size < 0 for size in shape):
        raise ValueError(f"its header has the shape {shape}")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if (size := file.seek(0, os.SEEK_END)) != expected:
        raise ValueError(f"it has {size} bytes, but {expected} by its header")
    file.seek(0)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file's tensors, and the strings of its header, without spjax's checksums.

    Raises:
      ValueError: the file is damaged, or holds numbers that NumPy does not know.
    """
    try:
        check_regular(path)
        with safetensors.safe_open(str(path), "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            metadata = dict(file.metadata() or {})
        _check_digests(tensors, metadata)
        return tensors, metadata
    except (safetensors.SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"cannot read the tensors in {path}: {reason(error)}. Copy or write the file again."
        ) from error


def _check_digests(tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    checksums = header_digests.unseal(metadata, _layout(tensors))
    for name, expected in checksums.items():
        if header_digests.checksums_of(tensors[name]) != expected:
            raise DamagedFile(f"{name} does not have the checksum that the header names")


def _layout(tensors: Mapping[str, np.ndarray]) -> header_digests.Layout:
    return {name: (array.dtype.name, array.shape) for name, array in tensors.items()}


def widen(array: np.ndarray, source: str) -> np.ndarray:
    """Returns a floating-point array as contiguous float32; float64 is rounded.

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
    """Writes a safetensors file with strings and checksums in its header, or none at all."""
    checksums = {name: header_digests.checksums_of(array) for name, array in tensors.items()}
    sealed = header_digests.seal(metadata, _layout(tensors), checksums)
    data = _with_sorted_metadata(safetensors.numpy.save(dict(tensors), metadata=sealed))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        sync(file)


def _with_sorted_metadata(data: bytes) -> bytes:
    """Sorts the strings in a safetensors header, so that equal content gives equal bytes.

    The library writes them in an order that differs from call to call.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header.pop("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]
