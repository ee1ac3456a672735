"""Sizes in the metadata of zarr arrays, checked before memory is allocated for them."""

from __future__ import annotations

import math
import os
from typing import Any

from spjax.files import parse_json_object

FILES = {"zarr": ".zarray", "zarr3": "zarr.json"}
_WIDTH = 4  # bytes of a number
# Trained weights hardly shrink when they are compressed, but arrays of one number do.
_MOST_COMPRESSION, _ALWAYS = 100, 1 << 26


def check(text: bytes | None, driver: str, name: str, limit: int) -> None:
    """Checks that an array and its chunks are of a size that can be read.

    TensorStore ends the process if memory for a chunk cannot be allocated.

    Args:
      text: content of the array's metadata file, None if there is none.
      driver: of TensorStore, one of `FILES`.
      name: of the array, for the message.
      limit: as many bytes as there may be.

    Raises:
      OSError: they are not, or the metadata is damaged.
    """
    if text is None:
        raise OSError(f"{name} has no {FILES[driver]}")
    try:
        metadata = parse_json_object(text)
        shape, chunks = metadata["shape"], _chunks(metadata, driver)
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{FILES[driver]} of {name} is damaged ({error!r})") from error
    for sizes, least in ((shape, 0), (chunks, 1)):
        if not isinstance(sizes, list) or any(type(n) is not int or n < least for n in sizes):
            raise OSError(f"{FILES[driver]} of {name} has the sizes {sizes!r:.80}")
        if (size := math.prod(sizes) * _WIDTH) > limit:
            raise OSError(
                f"{FILES[driver]} of {name} asks for {size} bytes at once ({sizes!r:.80}), and "
                f"by the checkpoint's files and this machine's memory {limit} is the most"
            )


def _chunks(metadata: dict[str, Any], driver: str) -> Any:
    if driver == "zarr":
        return metadata["chunks"]
    return metadata["chunk_grid"]["configuration"]["chunk_shape"]


def memory() -> int:
    """Returns the memory of this machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def unpacked(size: int) -> int:
    """Returns the largest unpacked size of compressed files with `size` bytes."""
    return _ALWAYS + size * _MOST_COMPRESSION
