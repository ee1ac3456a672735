"""Arrays that stay on disk until a slice of them is wanted, and the model's tree made of them.

Every format of frozen weights is turned into `{T5X name: Stored}` by its own file; what is common
to all happens here: matching the layer layout, comparing names and shapes, and reading leaf by
leaf (or, on a mesh, slice by slice) straight into the target dtype.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping

import jax
import numpy as np
import safetensors

from spjax import trees
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes
from spjax.types import Tree

Index = tuple[slice, ...]
Leaves = dict[str, "Stored"]

# What one step of reading a safetensors file may hold besides the array that is being filled.
BLOCK_BYTES = 16 * 2**20

_SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+)/(.+)$")
_SCANNED = re.compile(r"^(encoder|decoder)/layers/(.+)$")


@dataclasses.dataclass(frozen=True)
class Stored:
    """An array that has not been read.

    Attributes:
      shape: of the whole array.
      fill: `fill(index, out)` reads the slice `index` (one slice with start and stop per axis)
        into `out`, converting to its dtype; `out` need not be contiguous.
    """

    shape: tuple[int, ...]
    fill: Callable[[Index, np.ndarray], None]

    def read(self, dtype: str = "float32", index: Index | None = None) -> np.ndarray:
        """The array, or the slice `index` of it, in host memory."""
        bounds = self.whole() if index is None else index
        out = _aligned([s.stop - s.start for s in bounds], np.dtype(dtype))
        self.fill(bounds, out)
        return out

    def whole(self) -> Index:
        """The index of everything."""
        return tuple(slice(0, size) for size in self.shape)


def _aligned(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """Empty memory that starts at a cache line: JAX on CPU then uses it without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def from_array(array: np.ndarray) -> Stored:
    """An array that is already in memory."""

    def fill(index: Index, out: np.ndarray) -> None:
        out[...] = array[index]

    return Stored(tuple(array.shape), fill)


def transpose(stored: Stored) -> Stored:
    """The array with its axes reversed."""
    return Stored(stored.shape[::-1], lambda index, out: stored.fill(index[::-1], out.T))


def stack(parts: list[Stored]) -> Stored:
    """Arrays of one shape side by side on a new axis 1, as T5X's scanned layers are."""
    shape = parts[0].shape

    def fill(index: Index, out: np.ndarray) -> None:
        for place, part in enumerate(parts[index[1]]):
            part.fill((index[0], *index[2:]), out[:, place])

    return Stored((shape[0], len(parts), *shape[1:]), fill)


def unstack(stored: Stored) -> list[Stored]:
    """The layers of an array that is stacked on axis 1; to be read in their order.

    One chunk on disk holds many layers, so a slice is read once for all of them and kept until
    the last one has been handed out: the price is one stacked array of memory.
    """
    count = stored.shape[1]
    kept: dict[Any, np.ndarray] = {}

    def layer(i: int) -> Stored:
        def fill(index: Index, out: np.ndarray) -> None:
            wide = (index[0], slice(0, count), *index[1:])
            key = (out.dtype.name, tuple((s.start, s.stop) for s in index))
            if key not in kept:
                kept[key] = stored.read(out.dtype.name, wide)
            out[...] = kept[key][:, i]
            if i == count - 1:
                del kept[key]

        return Stored((stored.shape[0], *stored.shape[2:]), fill)

    return [layer(i) for i in range(count)]


def unroll(leaves: Mapping[str, Stored]) -> Leaves:
    """Scanned layers (`layers/...`) under the names of unrolled ones (`layers_{i}/...`)."""
    unrolled: Leaves = {}
    for name, stored in leaves.items():
        match = _SCANNED.match(name)
        if not match or len(stored.shape) < 2:
            unrolled[name] = stored
            continue
        for i, layer in enumerate(unstack(stored)):
            unrolled[f"{match[1]}/layers_{i}/{match[2]}"] = layer
    return unrolled


def _scan(leaves: Leaves, scanned: Mapping[str, Stored]) -> Leaves:
    """Unrolled layers stacked, or what was already `scanned` as it is."""
    result: Leaves = {}
    stacks: dict[str, dict[int, Stored]] = {}
    for name, stored in leaves.items():
        if match := _LAYER.match(name):
            stacks.setdefault(f"{match[1]}/layers/{match[3]}", {})[int(match[2])] = stored
        else:
            result[name] = stored
    for name, parts in stacks.items():
        result[name] = scanned.get(name) or stack([parts[i] for i in sorted(parts)])
    return result


def check_dtype(dtype: str) -> None:
    """Refuses dtypes in which a frozen T5 does not work.

    Raises:
      ValueError: the dtype is neither float32 nor bfloat16.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(
            f"weights cannot be read as {dtype!r}: allowed are 'float32' and 'bfloat16' "
            "(T5 overflows in float16). Choose one of the two."
        )


def assemble(
    leaves: Mapping[str, Stored],
    config: T5Config,
    dtype: str,
    source: str,
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Reads the parameter tree of a model, one leaf after the other.

    Args:
      leaves: stored arrays under T5X names, layers scanned or unrolled.
      config: the model that should receive them; its `scan_layers` decides the layout.
      dtype: "float32" or "bfloat16"; arrays are converted while they are read.
      source: where the arrays are, for messages.
      sharding: None for the default device; one sharding for all leaves, or a tree of them with
        the names of the result. With shardings a process reads only the slices of its devices.

    Returns:
      The parameter tree, as jax arrays.

    Raises:
      ValueError: names or shapes are not those of the model (all are listed), an array cannot be
        read, or the dtype is not supported.
    """
    check_dtype(dtype)
    unrolled = unroll(leaves)
    shapes = weight_shapes(dataclasses.replace(config, scan_layers=False))
    trees.check_same(trees.unflatten(dict(unrolled)), shapes, source)
    if config.scan_layers:
        unrolled = _scan(unrolled, leaves)
    places = trees.flatten(sharding) if isinstance(sharding, Mapping) else {}
    arrays = {}
    for name, stored in unrolled.items():
        try:
            place = places[name] if places else sharding
            arrays[name] = _to_devices(stored, dtype, place)
        except (OSError, EOFError) as error:
            raise ValueError(
                f"cannot read {name} of {source}: {error}. The files are damaged or incomplete; "
                "copy them again."
            ) from error
    return trees.unflatten(arrays)


def _to_devices(stored: Stored, dtype: str, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        # Waiting lets go of the host's copy of a leaf before the next one is read.
        return jax.device_put(stored.read(dtype)).block_until_ready()
    slices: dict[Any, np.ndarray] = {}

    def piece(index: Index) -> np.ndarray:
        bounds = tuple(
            slice(*s.indices(size)[:2]) for s, size in zip(index, stored.shape, strict=True)
        )
        key = tuple((s.start, s.stop) for s in bounds)
        if key not in slices:  # devices that hold copies share one read
            slices[key] = stored.read(dtype, bounds)
        return slices[key]

    return jax.make_array_from_callback(stored.shape, sharding, piece).block_until_ready()


def safetensors_leaves(path: Path) -> Leaves:
    """The arrays of a safetensors file under the names they have there.

    Bytes are read with ordinary reads: pages of a memory map would count as the process's memory
    and double its peak.

    Raises:
      ValueError: the file is damaged, or an array is not of floating point.
    """
    try:
        with safetensors.safe_open(str(path), framework="np"):
            pass  # checks the header against the file's size
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"cannot read the weights {path}: {error}. Copy or make the file again."
        ) from error
    header.pop("__metadata__", None)
    return {name: _safetensor(path, name, entry, 8 + size) for name, entry in header.items()}


def _safetensor(path: Path, name: str, entry: Mapping[str, Any], base: int) -> Stored:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise ValueError(
            f"{name} in {path} is stored as {entry['dtype']}; weights may be stored as "
            f"{', '.join(_SAFETENSORS_DTYPES)}. Take the unquantised file of this model."
        )
    dtype = np.dtype(_SAFETENSORS_DTYPES[entry["dtype"]])
    shape = tuple(entry["shape"])
    width = math.prod(shape[1:])

    def fill(index: Index, out: np.ndarray) -> None:
        with open(path, "rb") as file:
            for first, last in _blocks(index[0], width * dtype.itemsize):
                file.seek(base + entry["data_offsets"][0] + first * width * dtype.itemsize)
                raw = file.read((last - first) * width * dtype.itemsize)
                rows = np.frombuffer(raw, dtype).reshape(last - first, *shape[1:])
                out[first - index[0].start : last - index[0].start] = rows[:, *index[1:]]

    return Stored(shape, fill)


def _blocks(rows: slice, row_bytes: int) -> Iterable[tuple[int, int]]:
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    for first in range(rows.start, rows.stop, step):
        yield first, min(first + step, rows.stop)
