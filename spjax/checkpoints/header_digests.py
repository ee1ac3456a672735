"""Checksums of tensors in the header of a safetensors file, and a digest of that header.

A tensor has one CRC-32 for each `BLOCK` bytes, so that a slice can be checked without the rest of
it. Readers of other projects keep both as strings of the header's metadata, and ignore them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping

import numpy as np

from spjax.files import DamagedFile, parse_json_object

BLOCK = 1 << 18  # bytes; a slice is read in whole blocks, and 44 GB have 1.4 MB of checksums
_WIDTH = 8  # hex digits of a CRC-32
_PREFIX = "spjax."
_CHECKSUMS, _DIGEST = _PREFIX + "crc32", _PREFIX + "header_sha256"

Layout = Mapping[str, tuple[str, tuple[int, ...]]]  # dtype and shape of each tensor


def checksums(data: bytes | memoryview) -> str:
    """Returns the checksums of a tensor's blocks, or of consecutive ones, as hex digits."""
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    return "".join(
        f"{zlib.crc32(view[first : first + BLOCK]):0{_WIDTH}x}"
        for first in range(0, len(view), BLOCK)
    )


def checksums_of(array: np.ndarray) -> str:
    """Returns the `checksums` of an array in memory."""
    return checksums(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def length(size: int) -> int:
    """Returns the number of hex digits in the checksums of `size` bytes."""
    return -(-size // BLOCK) * _WIDTH


def check(data: bytes, first: int, expected: str) -> None:
    """Checks that bytes from the block number `first` on have the expected checksums.

    Args:
      data: whole blocks; the tensor's last one may be shorter.
      first: number of the first block.
      expected: the checksums of the whole tensor.

    Raises:
      DamagedFile: they have others.
    """
    actual = checksums(data)
    if actual != expected[first * _WIDTH : first * _WIDTH + len(actual)]:
        raise DamagedFile("its bytes do not have the checksum that the file's header names")


def seal(
    metadata: Mapping[str, str], layout: Layout, checksums: Mapping[str, str]
) -> dict[str, str]:
    """Returns a header's metadata with the checksums of all tensors and a digest of the header.

    Raises:
      ValueError: a key of the metadata begins like spjax's.
    """
    if taken := [key for key in metadata if key.startswith(_PREFIX)]:
        raise ValueError(f"the metadata has the keys {taken}; those with {_PREFIX!r} are taken.")
    sealed = {**metadata, _CHECKSUMS: json.dumps(checksums, sort_keys=True)}
    return {**sealed, _DIGEST: _digest(sealed, layout)}


def unseal(metadata: dict[str, str], layout: Layout) -> dict[str, str]:
    """Removes the digests from a header's metadata and checks that of the header.

    Args:
      metadata: of the file; those two keys are removed from it.
      layout: what the file holds.

    Returns:
      The checksums of each tensor; empty for a file without any, of others or older versions.

    Raises:
      DamagedFile: the header is not the one that was written.
    """
    if not any(key.startswith(_PREFIX) for key in metadata):
        return {}
    digest = metadata.pop(_DIGEST, None)
    if digest != _digest(metadata, layout):
        raise DamagedFile("its header does not have the digest that it names")
    return parse_json_object(metadata.pop(_CHECKSUMS))


def _digest(metadata: Mapping[str, str], layout: Layout) -> str:
    tensors = {name: [dtype, list(shape)] for name, (dtype, shape) in layout.items()}
    text = json.dumps([dict(metadata), tensors], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
