"""Frozen weights in safetensors files: read slice by slice, written one leaf after the other.

A matrix in int8 is two tensors, its values under its own name and its scales under
`<name>_scale`; readers get their product.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spjax.checkpoints import header_digests, remote
from spjax.checkpoints.weights.stored_array import Index, Leaves, StoredArray, check_finite
from spjax.files import JSON_BYTES, DamagedFile, parse_json_object, reason, replacing, sync
from spjax.models import quantization

# What one step of reading may hold besides the array that is being filled.
BLOCK_BYTES = 16 * 2**20

_FLOATS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I8": 1}
_NAMES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8"}
_SCALE = "_scale"


def read(path: str | Path) -> Leaves:
    """Returns the arrays of a file under the names in it, not yet read.

    Bytes are read with ordinary reads: pages of a memory map would count as the process's memory
    and double its peak.

    Args:
      path: a file, or the URL of one.

    Raises:
      ValueError: the file is damaged, or an array is not of floating point.
    """
    try:
        entries = _entries_of(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot read the weights {path}: {reason(error)}. Copy or make the file again."
        ) from error
    leaves: Leaves = {}
    for name, entry in entries.items():
        scale = entries.get(name + _SCALE)
        if entry.dtype == "I8" and scale is not None:
            values = _tensor(path, entry, "int8")
            leaves[name] = _product(values, _tensor(path, scale, "float32"))
        elif not (name.endswith(_SCALE) and name.removesuffix(_SCALE) in entries):
            if entry.dtype not in _FLOATS:
                raise ValueError(
                    f"{name} in {path} is stored as {entry.dtype}; weights may be stored as "
                    f"{', '.join(_FLOATS)}, or by spjax as int8 with scales. Take the unquantized "
                    "file of this model."
                )
            leaves[name] = _tensor(path, entry, _FLOATS[entry.dtype])
    return leaves


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Position, dtype and shape of a tensor in a file.

    Attributes:
      name: of the tensor.
      dtype: by the format's name.
      shape: of the tensor.
      first: its first byte, from the start of the file.
      size: in bytes.
      checksums: as of `header_digests`, "" if the file has none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    size: int
    checksums: str = ""


def _entries_of(path: str | Path) -> dict[str, _Entry]:
    """Reads the entries of a file's header and checks them against its size.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is damaged.
    """
    with remote.open_binary(path) as file:
        length = int.from_bytes(file.read(8), "little")
        size = file.seek(0, os.SEEK_END)
        if not 2 <= length <= min(size - 8, JSON_BYTES):
            raise ValueError(f"its header would have {length} bytes, the file has {size}")
        file.seek(8)
        header = parse_json_object(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    entries = {name: _entry(name, value, 8 + length) for name, value in header.items()}
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].first, item[1].size)):
        if entry.first != end:
            raise ValueError(f"{name} begins at byte {entry.first}, where {end} is wanted")
        end += entry.size
    if end != size:
        raise ValueError(f"it has {size} bytes, not the {end} of its header")
    if not isinstance(metadata, dict):
        raise ValueError(f"its header has {type(metadata).__name__} for metadata")
    layout = {name: (_numpy_name(entry.dtype), entry.shape) for name, entry in entries.items()}
    checksums = header_digests.unseal(metadata, layout)
    return {
        name: dataclasses.replace(entry, checksums=checksums.get(name, ""))
        for name, entry in entries.items()
    }


def _entry(name: str, value: Any, base: int) -> _Entry:
    try:
        dtype, shape, (first, last) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its header has {value!r:.80} for {name}") from error
    numbers = [*shape, first, last] if isinstance(shape, list) else [None]
    if any(type(number) is not int or number < 0 for number in numbers) or last < first:
        raise ValueError(f"its header has the shape {shape} at {[first, last]} for {name}")
    width = _WIDTHS.get(dtype) if isinstance(dtype, str) else None
    if width and last - first != math.prod(shape) * width:
        raise ValueError(f"shape and place of {name} contradict each other")
    return _Entry(name, str(dtype), tuple(shape), base + first, last - first)


def _numpy_name(dtype: str) -> str:
    return "int8" if dtype == "I8" else _FLOATS.get(dtype, dtype)


def _tensor(path: str | Path, entry: _Entry, dtype: str) -> StoredArray:
    kind = np.dtype(dtype)
    shape = entry.shape
    row = math.prod(shape[1:]) * kind.itemsize
    digits = header_digests.length(entry.size)
    if entry.checksums and len(entry.checksums) != digits:
        raise DamagedFile(f"{path} has {len(entry.checksums)} digits of checksums, not {digits}.")

    def fill(index: Index, out: np.ndarray) -> None:
        with remote.open_binary(path) as file:
            for first, last in _blocks(index[0], row):
                raw = _read_checked(file, path, entry, first * row, last * row)
                rows = np.frombuffer(raw, kind).reshape(last - first, *shape[1:])
                out[first - index[0].start : last - index[0].start] = rows[:, *index[1:]]

    return StoredArray(shape, fill)


def _read_checked(
    file: BinaryIO, path: str | Path, entry: _Entry, first: int, last: int
) -> memoryview:
    """Reads bytes of a tensor, in whole blocks if these have checksums."""
    begin, end = first, last
    if entry.checksums:
        begin = first // header_digests.BLOCK * header_digests.BLOCK
        end = min(-(-last // header_digests.BLOCK) * header_digests.BLOCK, entry.size)
    file.seek(entry.first + begin)
    raw = file.read(end - begin)
    if len(raw) < end - begin:
        raise EOFError("the file ends before its data does")
    if entry.checksums:
        try:
            header_digests.check(raw, begin // header_digests.BLOCK, entry.checksums)
        except ValueError as error:
            raise DamagedFile(
                f"{entry.name} in {path} is damaged, from byte {begin} to {end}: {error}. Copy or "
                "make the file again."
            ) from error
    return memoryview(raw)[first - begin : last - begin]


def _blocks(rows: slice, row_bytes: int) -> Iterable[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for first in range(rows.start, rows.stop, step):
        yield first, min(first + step, rows.stop)


def _product(values: StoredArray, scales: StoredArray) -> StoredArray:
    def fill(index: Index, out: np.ndarray) -> None:
        scale_index = tuple(
            slice(0, 1) if size == 1 else part for size, part in zip(scales.shape, index)
        )
        out[...] = values.read("int8", index) * scales.read("float32", scale_index)

    return StoredArray(values.shape, fill)


def write(
    path: Path, leaves: Mapping[str, StoredArray], dtype: str, metadata: Mapping[str, str]
) -> None:
    """Writes a file, in full or not at all, holding one leaf in memory at a time.

    Args:
      path: a local file.
      leaves: what to write, under these names.
      dtype: of the stored arrays, one of `quantization.DTYPES`.
      metadata: strings for the file's header.

    Raises:
      ValueError: an unknown dtype, or numbers that are not finite.
      OSError: a leaf cannot be read, or the file not written.
    """
    quantization.check_dtype(dtype)
    entries: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, leaf in leaves.items():
        entries |= _entries(name, leaf.shape, dtype)
    # Wide numbers first, so that all are aligned.
    order = sorted(entries, key=lambda name: (-np.dtype(entries[name][0]).itemsize, name))
    sizes = {
        name: math.prod(shape) * np.dtype(kind).itemsize for name, (kind, shape) in entries.items()
    }
    # Checksums of the right length, until they are known.
    checksums = {name: "0" * header_digests.length(sizes[name]) for name in entries}
    start = len(_header(order, entries, sizes, metadata, checksums))
    firsts = dict(zip(order, itertools.accumulate((sizes[n] for n in order), initial=start)))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        for name, array in _parts(leaves, dtype):
            file.seek(firsts[name])
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            checksums[name] = header_digests.checksums(data)
            file.write(data)
        file.seek(0)
        file.write(_header(order, entries, sizes, metadata, checksums))
        sync(file)


def _header(
    order: Sequence[str],
    entries: header_digests.Layout,
    sizes: Mapping[str, int],
    metadata: Mapping[str, str],
    checksums: Mapping[str, str],
) -> bytes:
    """Returns the bytes in front of the data; their number does not depend on the checksums."""
    header: dict[str, Any] = {"__metadata__": header_digests.seal(metadata, entries, checksums)}
    end = 0
    for name in order:
        kind, shape = entries[name]
        start, end = end, end + sizes[name]
        header[name] = {"dtype": _NAMES[kind], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


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


def _parts(leaves: Mapping[str, StoredArray], dtype: str) -> Iterator[tuple[str, Any]]:
    for name, leaf in leaves.items():
        axis = quantization.shared_axis(name) if dtype == "int8" else None
        array = leaf.read("float32" if dtype == "int8" else dtype)
        check_finite(array, name)
        if axis is None:
            yield name, array
            continue
        rounded = quantization.quantize(array, axis, name)
        yield name, rounded.values
        yield name + _SCALE, rounded.scales
