"""A model's parameter tree of arrays that stay on disk until they are read.

The reader of each format of frozen weights returns `{T5X name: StoredArray}`; this module does what
is common to all: matching the layer layout, comparing names and shapes, and reading leaf by
leaf (or, on a mesh, slice by slice) straight into the target dtype.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from spjax import trees
from spjax.checkpoints.weights.stored_array import (
    Index,
    Leaves,
    StoredArray,
    check_finite,
    stack,
    unstack,
)
from spjax.models import T5Config, quantization
from spjax.models.quantization import Quantized
from spjax.models.sizes import MOST_LAYERS
from spjax.models.t5 import weight_shapes
from spjax.types import Array, Tree

_LAYER = re.compile(r"^(encoder|decoder)/layers_(\d+)/(.+)$")
_SCANNED = re.compile(r"^(encoder|decoder)/layers/(.+)$")


def unroll(leaves: Mapping[str, StoredArray]) -> Leaves:
    """Renames scanned layers (`layers/...`) to unrolled ones (`layers_{i}/...`)."""
    unrolled: Leaves = {}
    for name, array in leaves.items():
        match = _SCANNED.match(name)
        if not match or len(array.shape) < 2:
            unrolled[name] = array
            continue
        if not 1 <= array.shape[1] <= MOST_LAYERS:
            raise ValueError(
                f"{name} has shape {array.shape}, that is {array.shape[1]} layers; there may be "
                f"1 to {MOST_LAYERS}. Check the checkpoint."
            )
        for i, layer in enumerate(unstack(array)):
            unrolled[f"{match[1]}/layers_{i}/{match[2]}"] = layer
    return unrolled


def _scan(leaves: Leaves, scanned: Mapping[str, StoredArray]) -> Leaves:
    """Stacks unrolled layers; those already `scanned` stay as they are."""
    result: Leaves = {}
    stacks: dict[str, dict[int, StoredArray]] = {}
    for name, array in leaves.items():
        if match := _LAYER.match(name):
            stacks.setdefault(f"{match[1]}/layers/{match[3]}", {})[int(match[2])] = array
        else:
            result[name] = array
    for name, parts in stacks.items():
        result[name] = scanned.get(name) or stack([parts[i] for i in sorted(parts)])
    return result


def assemble(
    leaves: Mapping[str, StoredArray],
    config: T5Config,
    dtype: str,
    source: str,
    sharding: jax.sharding.Sharding | Tree | None = None,
) -> dict[str, Any]:
    """Reads the parameter tree of a model, one leaf after the other, the largest first.

    Reading a leaf (chunks, rounding) takes a multiple of its size in memory, so large ones are read
    while memory holds little else.

    Args:
      leaves: stored arrays under T5X names, layers scanned or unrolled.
      config: the model that should receive them; its `scan_layers` decides the layout.
      dtype: "float32" or "bfloat16", converted to while reading, or "int8": then matrices are
        `Quantized` and the rest is float32.
      source: where the arrays are, for messages.
      sharding: None for the default device; one sharding for all leaves, or a tree of them with
        the names of the result. With shardings a process reads only the slices of its devices;
        in int8 it reads whole channels, because a scale is that of a whole one.

    Returns:
      The parameter tree, as jax arrays.

    Raises:
      ValueError: names or shapes are not those of the model (all are listed), an array cannot be
        read or has numbers that are not finite, or the dtype is not supported.
    """
    quantization.check_dtype(dtype)
    unrolled = unroll(leaves)
    shapes = weight_shapes(dataclasses.replace(config, scan_layers=False))
    trees.check_same(trees.unflatten(dict(unrolled)), shapes, source)
    if config.scan_layers:
        unrolled = _scan(unrolled, leaves)
    places = trees.flatten(sharding) if isinstance(sharding, Mapping) else None
    arrays = {}
    # Sorting is stable: the layers of one stacked array stay in their order.
    for name in sorted(unrolled, key=lambda name: -math.prod(unrolled[name].shape)):
        try:
            leaf_sharding: Any = sharding if places is None else places[name]
            leaf = checked(unrolled.pop(name), name, source)
            arrays[name] = _to_devices(name, leaf, dtype, leaf_sharding)
        except (OSError, EOFError) as error:
            raise ValueError(
                f"cannot read {name} of {source}: {error}. The files are damaged or incomplete; "
                "copy them again."
            ) from error
    return trees.unflatten(arrays)


def checked(array: StoredArray, name: str, source: str) -> StoredArray:
    """Returns the same array, checked for NaN and infinite numbers as it is read."""

    def fill(index: Index, out: np.ndarray) -> None:
        array.fill(index, out)
        check_finite(out, name, source)

    return StoredArray(array.shape, fill)


def _to_devices(
    name: str, array: StoredArray, dtype: str, sharding: jax.sharding.Sharding | None
) -> jax.Array | Quantized:
    axis = quantization.shared_axis(name) if dtype == "int8" else None
    if axis is not None:
        return _quantized(name, array, axis % len(array.shape), sharding)
    dtype = "float32" if dtype == "int8" else dtype
    if sharding is None:
        # Waiting lets go of the host's copy of a leaf before the next one is read.
        return jax.device_put(array.read(dtype)).block_until_ready()
    return _spread(array.shape, sharding, lambda bounds: array.read(dtype, bounds))


def _quantized(
    name: str, array: StoredArray, axis: int, sharding: jax.sharding.Sharding | None
) -> Quantized:
    """Reads a matrix and rounds it to int8 meanwhile, in whole channels."""
    blocks: dict[Any, Quantized] = {}

    def channels(bounds: Index) -> Quantized:
        whole = slice(0, array.shape[axis])
        wide = tuple(whole if i == axis else part for i, part in enumerate(bounds))
        if (key := _key(wide)) not in blocks:
            blocks[key] = quantization.quantize(array.read("float32", wide), axis, name)
        return blocks[key]

    def values(bounds: Index) -> Array:
        index = tuple(part if i == axis else slice(None) for i, part in enumerate(bounds))
        return channels(bounds).values[index]

    if sharding is None:
        parts = channels(array.whole())
        return jax.tree.map(lambda part: jax.device_put(part).block_until_ready(), parts)
    scales_shape = tuple(1 if i == axis else size for i, size in enumerate(array.shape))
    return Quantized(
        _spread(array.shape, sharding, values),
        _spread(scales_shape, _not_along(axis, sharding), lambda bounds: channels(bounds).scales),
    )


def _not_along(axis: int, sharding: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """Returns the sharding of an array that has size 1 on an axis."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    spec = [None if i == axis else part for i, part in enumerate(sharding.spec)]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def _spread(
    shape: tuple[int, ...],
    sharding: jax.sharding.Sharding,
    read: Callable[[Index], Array],
) -> jax.Array:
    slices: dict[Any, Array] = {}

    def piece(index: Index | None) -> Array:
        assert index is not None
        bounds = tuple(slice(*s.indices(size)[:2]) for s, size in zip(index, shape, strict=True))
        if (key := _key(bounds)) not in slices:  # devices that hold copies share one read
            slices[key] = read(bounds)
        return slices[key]

    return jax.make_array_from_callback(shape, sharding, piece).block_until_ready()


def _key(bounds: Index) -> tuple[tuple[int, int], ...]:
    return tuple((part.start, part.stop) for part in bounds)
