"""Frozen weights in safetensors files: read slice by slice, written one leaf after the other.

A matrix in int8 is two tensors, its values under its own name and its scales under
`<name>_scale`; whoever reads it gets the numbers that the two stand for.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spjax.checkpoints import remote
from spjax.checkpoints.stored import Index, Leaves, Stored
from spjax.files import replacing
from spjax.models import quantization

# What one step of reading may hold besides the array that is being filled.
BLOCK_BYTES = 16 * 2**20

_FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I8": 1}
_NAMES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8"}
_SCALE = "_scale"


def read(path: str | Path) -> Leaves:
    """The arrays of a file under the names they have there, not yet read.

    Bytes are read with ordinary reads: pages of a memory map would count as the process's memory
    and double its peak.

    Args:
      path: a file, or the URL of one.

    Raises:
      ValueError: the file is damaged, or an array is not of floating point.
    """
    try:
        header, base = _header(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"cannot read the weights {path}: {error}. Copy or make the file again."
        ) from error
    leaves: Leaves = {}
    for name, entry in header.items():
        scale = header.get(name + _SCALE)
        if entry["dtype"] == "I8" and scale is not None:
            values = _tensor(path, entry, base, "int8")
            leaves[name] = _product(values, _tensor(path, scale, base, "float32"))
        elif not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in header):
            if entry["dtype"] not in _FLOATS:
                raise ValueError(
                    f"{name} in {path} is stored as {entry['dtype']}; weights may be stored as "
                    f"{', '.join(_FLOATS)}, or by spjax as int8 with scales. Take the unquantised "
                    "file of this model."
                )
            leaves[name] = _tensor(path, entry, base, _FLOATS[entry["dtype"]])
    return leaves


def _header(path: str | Path) -> tuple[dict[str, Any], int]:
    """The entries of a file, checked against its size, and where its data starts."""
    with remote.open_binary(path) as file:
        length = int.from_bytes(file.read(8), "little")
        size = file.seek(0, os.SEEK_END)
        if not 2 <= length <= size - 8:
            raise ValueError(f"its header would have {length} bytes, the file has {size}")
        file.seek(8)
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise ValueError(f"it has {size} bytes, not the {8 + length + end} of its header")
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        width = _WIDTHS.get(entry["dtype"])
        if width and last - first != math.prod(entry["shape"]) * width:
            raise ValueError(f"shape and place of {name} contradict each other")
    return header, 8 + length


def _tensor(path: str | Path, entry: Mapping[str, Any], base: int, dtype: str) -> Stored:
    kind = np.dtype(dtype)
    shape = tuple(entry["shape"])
    row = math.prod(shape[1:]) * kind.itemsize

    def fill(index: Index, out: np.ndarray) -> None:
        with remote.open_binary(path) as file:
            for first, last in _blocks(index[0], row):
                file.seek(base + entry["data_offsets"][0] + first * row)
                raw = file.read((last - first) * row)
                if len(raw) < (last - first) * row:
                    raise EOFError("the file ends before its data does")
                rows = np.frombuffer(raw, kind).reshape(last - first, *shape[1:])
                out[first - index[0].start : last - index[0].start] = rows[:, *index[1:]]

    return Stored(shape, fill)


def _blocks(rows: slice, row_bytes: int) -> Iterable[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for first in range(rows.start, rows.stop, step):
        yield first, min(first + step, rows.stop)


def _product(values: Stored, scales: Stored) -> Stored:
    def fill(index: Index, out: np.ndarray) -> None:
        own = tuple(
            slice(0, 1) if size == 1 else part for size, part in zip(scales.shape, index)
        )
        out[...] = values.read("int8", index) * scales.read("float32", own)

    return Stored(values.shape, fill)


def write(
    path: Path, leaves: Mapping[str, Stored], dtype: str, metadata: Mapping[str, str]
) -> None:
    """Writes a file, in full or not at all, holding one leaf in memory at a time.

    Args:
      path: a local file.
      leaves: what to write, under these names.
      dtype: of the stored arrays, one of `quantization.DTYPES`.
      metadata: strings for the file's header.

    Raises:
      ValueError: an unknown dtype, or numbers that int8 cannot hold.
      OSError: a leaf cannot be read, or the file not written.
    """
    quantization.check_dtype(dtype)
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, leaf in leaves.items():
        entries |= _entries(name, leaf.shape, dtype)
    # Wide numbers first, so that all are aligned.
    order = sorted(entries, key=lambda name: (-np.dtype(entries[name][0]).itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        kind, shape = entries[name]
        start, end = end, end + math.prod(shape) * np.dtype(kind).itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, array in _parts(leaves, dtype):
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            _write(file, array)
        file.flush()
        os.fsync(file.fileno())


def _entries(
    name: str, shape: tuple[int, ...], dtype: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    axis = quantization.shared_axis(name)
    if dtype != "int8":
        return {name: (dtype, shape)}
    if axis is None:
        return {name: ("float32", shape)}
    scales = list(shape)
    scales[axis] = 1
    return {name: ("int8", shape), name + _SCALE: ("float32", tuple(scales))}


def _parts(leaves: Mapping[str, Stored], dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, leaf in leaves.items():
        axis = quantization.shared_axis(name) if dtype == "int8" else None
        if axis is None:
            yield name, leaf.read("float32" if dtype == "int8" else dtype)
            continue
        made = quantization.quantize(leaf.read("float32"), axis, name)
        yield name, made.values
        yield name + _SCALE, made.scales


def _write(file: BinaryIO, array: np.ndarray) -> None:
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
