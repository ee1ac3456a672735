"""Arrays that stay on disk until a slice of them is read, and views of such arrays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

# The bits of an exponent, by dtype.
_EXPONENTS = {
    "float32": (np.uint32, np.uint32(0x7F800000)),
    "bfloat16": (np.uint16, np.uint16(0x7F80)),
    "float16": (np.uint16, np.uint16(0x7C00)),
    "float64": (np.uint64, np.uint64(0x7FF << 52)),
}
_FINITE_BLOCK = 1 << 18  # numbers; what is made of them stays in the processor's cache

Index = tuple[slice, ...]
Leaves = dict[str, "StoredArray"]


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array that has not been read.

    Attributes:
      shape: of the whole array.
      fill: `fill(index, out)` reads the slice `index` (one slice with start and stop per axis)
        into `out`, converting to its dtype; `out` need not be contiguous.
    """

    shape: tuple[int, ...]
    fill: Callable[[Index, np.ndarray], None]

    def read(self, dtype: str = "float32", index: Index | None = None) -> np.ndarray:
        """Reads the array, or the slice `index` of it, into host memory."""
        bounds = self.whole() if index is None else index
        out = _aligned([s.stop - s.start for s in bounds], np.dtype(dtype))
        self.fill(bounds, out)
        return out

    def whole(self) -> Index:
        """Returns the index of the whole array."""
        return tuple(slice(0, size) for size in self.shape)


def _aligned(shape: list[int], dtype: np.dtype) -> np.ndarray:
    """Allocates memory that starts at a cache line: JAX on CPU then uses it without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


def check_finite(array: np.ndarray, name: str, source: str = "the checkpoint") -> None:
    """Checks that an array of weights holds finite numbers only; reads all its bits once.

    Args:
      array: float32, bfloat16, float16 or float64, contiguous.
      name: of the array, for the message.
      source: the file or folder that it was read from, for the message.

    Raises:
      ValueError: there are NaN or infinite numbers.
    """
    bits, exponent = _EXPONENTS[array.dtype.name]
    numbers = array.reshape(-1).view(bits)
    for first in range(0, numbers.size, _FINITE_BLOCK):
        # All bits of the exponent are set in NaN and infinity only.
        block = numbers[first : first + _FINITE_BLOCK] & exponent
        if block.max() == exponent:
            wrong = int(np.sum((numbers & exponent) == exponent))
            raise ValueError(
                f"{name} in {source} has {wrong} of {array.size} numbers that are NaN or infinite "
                f"(as {array.dtype}). Weights cast to float16 overflow, and a run that diverged "
                "leaves such numbers: take the float32 or bfloat16 checkpoint from before."
            )


def from_array(array: np.ndarray) -> StoredArray:
    """Wraps an array that is already in memory."""

    def fill(index: Index, out: np.ndarray) -> None:
        out[...] = array[index]

    return StoredArray(tuple(array.shape), fill)


def transpose(array: StoredArray) -> StoredArray:
    """Returns the array with its axes reversed."""
    return StoredArray(array.shape[::-1], lambda index, out: array.fill(index[::-1], out.T))


def stack(parts: list[StoredArray]) -> StoredArray:
    """Stacks arrays of one shape on a new axis 1, as T5X's scanned layers are."""
    shape = parts[0].shape

    def fill(index: Index, out: np.ndarray) -> None:
        for position, part in enumerate(parts[index[1]]):
            part.fill((index[0], *index[2:]), out[:, position])

    return StoredArray((shape[0], len(parts), *shape[1:]), fill)


def unstack(array: StoredArray) -> list[StoredArray]:
    """Splits an array along axis 1 into layers; to be read in their order.

    One chunk on disk holds many layers, so a slice is read once for all of them and kept until
    the last one has been handed out: the price is one stacked array of memory.
    """
    count = array.shape[1]
    cache: dict[Any, np.ndarray] = {}

    def layer(i: int) -> StoredArray:
        def fill(index: Index, out: np.ndarray) -> None:
            wide = (index[0], slice(0, count), *index[1:])
            key = (out.dtype.name, tuple((s.start, s.stop) for s in index))
            if key not in cache:
                cache[key] = array.read(out.dtype.name, wide)
            out[...] = cache[key][:, i]
            if i == count - 1:
                del cache[key]

        return StoredArray((array.shape[0], *array.shape[2:]), fill)

    return [layer(i) for i in range(count)]
