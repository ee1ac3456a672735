"""The files of a tokenized corpus: pairs of memory-mapped arrays, and a manifest.

    tokens-00003-of-00064.npy   uint16 (int32 for over 65,536 ids), all documents of a shard
    offsets-00003-of-00064.npy  int64, where each document starts, and the end
    checks-00003-of-00064.npy   uint32, a CRC-32 for each 16 KiB of the tokens' file, and then of
                                the offsets' file
    shard-00003-of-00064.json   how many documents, tokens and bytes; written last, so that a shard
                                with this file is whole
    corpus.json                 what the corpus was made from, and its shards; written last

Checksums are compared when a document is read, each one once, so that training starts without
reading hundreds of gigabytes. Corpora of older versions have no `checks-`, and are read unchecked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from spjax.files import DamagedFile, read_json, sync, write_json

_log = logging.getLogger(__name__)

FORMAT = 1  # to be raised when the layout or the meaning of these files changes
MANIFEST = "corpus.json"
TEMPORARY = ".tmp"
_BLOCK = 1 << 14  # bytes that share a checksum
_SHARD = re.compile(r"shard-(\d{5})-of-(\d{5})\.json")


def write_shard(
    folder: Path, index: int, count: int, documents: Iterable[np.ndarray], vocabulary_size: int
) -> None:
    """Writes one shard of a corpus in full or not at all; holds only offsets in memory.

    Args:
      folder: of the unfinished corpus.
      index: of the shard, from 0.
      count: how many shards there are.
      documents: token ids of each; empty ones are left out.
      vocabulary_size: more than every id.

    Raises:
      OSError: the files cannot be written.
    """
    kind = np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.int32)
    paths = _paths(folder, index, count)
    temporary = [path.with_name(path.name + TEMPORARY) for path in paths]
    offsets = [0]
    with open(temporary[0], "wb") as file:
        _write_header(file, kind, 0)
        for tokens in documents:
            if len(tokens):
                assert tokens.max() < vocabulary_size, "an id beyond the vocabulary"
                file.write(tokens.astype(kind).tobytes())
                offsets.append(offsets[-1] + len(tokens))
        file.seek(0)
        _write_header(file, kind, offsets[-1])
        sync(file)
    with open(temporary[1], "wb") as file:
        np.save(file, np.asarray(offsets, np.int64))
        sync(file)
    with open(temporary[2], "wb") as file:
        np.save(file, np.concatenate([_checksums(path) for path in temporary[:2]]))
        sync(file)
    for path, unfinished in zip(paths, temporary):
        unfinished.replace(path)
    facts = {
        "documents": len(offsets) - 1,
        "tokens": offsets[-1],
        "bytes": [path.stat().st_size for path in paths],
    }
    write_json(_facts_path(folder, index, count), facts, indent=None)


def has_shard(folder: Path, index: int, count: int) -> bool:
    """Returns whether a shard is there and complete; others have to be written again."""
    try:
        reason = _size_problem(folder, index, count, read_json(_facts_path(folder, index, count)))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    if reason:
        _log.warning("%s; the shard is written again.", reason)
    return not reason


def drop_other_shards(folder: Path, count: int) -> None:
    """Removes the shards of an unfinished corpus, except those of `count` in all."""
    for match in filter(None, map(_SHARD.fullmatch, os.listdir(folder))):
        if int(match[2]) != count:
            index, other = int(match[1]), int(match[2])
            for path in (_facts_path(folder, index, other), *_paths(folder, index, other)):
                path.unlink(missing_ok=True)  # another worker may be at it too


def finish(folder: Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the manifest of a folder with all its shards, which completes the corpus.

    Args:
      folder: of the corpus.
      key: what it was made from.

    Returns:
      The manifest.

    Raises:
      RuntimeError: a shard is missing.
    """
    matches = [match for match in map(_SHARD.fullmatch, sorted(os.listdir(folder))) if match]
    counts = {int(match[2]) for match in matches}
    if len(counts) != 1 or len(matches) != min(counts):
        raise RuntimeError(f"{folder} holds the shards {[match[0] for match in matches]} only.")
    shards = [read_json(folder / match[0]) for match in matches]
    total = {name: sum(shard[name] for shard in shards) for name in ("documents", "tokens")}
    manifest = {"key": dict(key), **total, "shards": shards}
    write_json(folder / MANIFEST, manifest, indent=1)
    return manifest


def problem(folder: Path) -> str | None:
    """Returns the reason why `folder` cannot be read as a corpus, or None."""
    if not (folder / MANIFEST).is_file():
        return "there is none"
    try:
        manifest = read_manifest(folder)
        shards = manifest["shards"]
        for index, shard in enumerate(shards):
            if reason := _size_problem(folder, index, len(shards), shard):
                return reason
        actual = manifest["key"]["format"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({type(error).__name__}: {error})"
    return None if actual == FORMAT else f"its format is {actual}, not {FORMAT}"


def _size_problem(folder: Path, index: int, count: int, facts: Mapping[str, Any]) -> str:
    """Returns the name of a shard's file that has a wrong size; "" if none has."""
    for path, size in zip(_paths(folder, index, count), facts["bytes"]):
        actual = path.stat().st_size if path.is_file() else 0
        if actual != size:
            return f"{path.name} has {actual} bytes instead of {size}"
    return ""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads `corpus.json`.

    Raises:
      DamagedFile: it is damaged.
    """
    return read_json(folder / MANIFEST)


def _mapped(path: Path) -> np.ndarray:
    """Maps a one-dimensional array into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # headers are evaluated by Python's tokenizer and parser
        raise _damaged(path, str(error)) from error
    if array.ndim != 1:
        raise _damaged(path, f"it has shape {array.shape}")
    return array


def _damaged(path: Path, reason: str) -> DamagedFile:
    return DamagedFile(
        f"{path} is damaged: {reason}. Copy it again, or delete the corpus's folder and build it "
        "again."
    )


class _Mapped:
    """A memory-mapped `.npy` file whose blocks are checked against checksums when read."""

    def __init__(self, path: Path, checksums: np.ndarray | None) -> None:
        """Opens a file; `checksums` are those of its blocks, or None."""
        self._path, self._checksums = path, checksums
        self._bytes = np.memmap(path, np.uint8, mode="r")
        self._checked = np.zeros(-(-len(self._bytes) // _BLOCK), bool)
        self._check(0, 1)  # the header
        array = _mapped(path)
        self._start = len(self._bytes) - array.nbytes
        self._array = self._bytes[self._start :].view(array.dtype)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns a checked part; its start and stop are not negative."""
        width = self._array.itemsize
        self._check(self._start + part.start * width, self._start + part.stop * width)
        return self._array[part]

    def _check(self, begin: int, end: int) -> None:
        if self._checksums is None:
            return
        for block in range(begin // _BLOCK, -(-end // _BLOCK)):
            if self._checked[block]:
                continue
            data = self._bytes[block * _BLOCK : (block + 1) * _BLOCK]
            if zlib.crc32(data.data) != self._checksums[block]:
                span = f"bytes {block * _BLOCK} to {block * _BLOCK + len(data)}"
                raise _damaged(self._path, f"{span} do not have their checksum")
            self._checked[block] = True


def _checksums(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        blocks = iter(functools.partial(file.read, _BLOCK), b"")
        return np.fromiter(map(zlib.crc32, blocks), np.uint32)


def _open_shard(folder: Path, index: int, count: int) -> list[_Mapped]:
    """Opens the tokens and offsets of a shard."""
    *paths, checks = _paths(folder, index, count)
    if not checks.is_file():
        return [_Mapped(path, None) for path in paths]
    blocks = -(-paths[0].stat().st_size // _BLOCK)
    checksums = _mapped(checks)
    if len(checksums) != blocks + -(-paths[1].stat().st_size // _BLOCK):
        raise _damaged(checks, f"it has {len(checksums)} checksums")
    return [_Mapped(paths[0], checksums[:blocks]), _Mapped(paths[1], checksums[blocks:])]


class Corpus:
    """Memory-mapped documents of a corpus by their number.

    Attributes:
      folder: of its files.
      manifest: its source and sizes.
    """

    def __init__(self, folder: Path) -> None:
        """Opens a folder without a `problem`."""
        self.folder, self.manifest = folder, read_manifest(folder)
        count = len(self.manifest["shards"])
        pairs = [_open_shard(folder, i, count) for i in range(count)]
        self._tokens: Sequence[_Mapped] = [pair[0] for pair in pairs]
        self._offsets: Sequence[_Mapped] = [pair[1] for pair in pairs]
        sizes = [shard["documents"] for shard in self.manifest["shards"]]
        self._ends = np.cumsum(sizes, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def fingerprint(self) -> str:
        """Returns the SHA-256 in hex of the manifest, which has the source and shard sizes."""
        text = json.dumps(self.manifest, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def vocabulary_size(self) -> int:
        """Returns the number of ids of its vocabulary, sentinels included."""
        return int(self.manifest["key"]["vocabulary_size"])

    def __getitem__(self, number: int) -> np.ndarray:
        """Returns the token ids of a document, int32."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        shard = int(np.searchsorted(self._ends, number, side="right"))
        local = number - (int(self._ends[shard - 1]) if shard else 0)
        begin, end = map(int, self._offsets[shard][local : local + 2])
        return self._tokens[shard][begin:end].astype(np.int32)


def _paths(folder: Path, index: int, count: int) -> list[Path]:
    names = ("tokens", "offsets", "checks")
    return [folder / f"{name}-{index:05d}-of-{count:05d}.npy" for name in names]


def _facts_path(folder: Path, index: int, count: int) -> Path:
    return folder / f"shard-{index:05d}-of-{count:05d}.json"


def _write_header(file: BinaryIO, kind: np.dtype, count: int) -> None:
    # NumPy leaves room for 21 digits, so that a header written again has the same length.
    description = np.lib.format.dtype_to_descr(kind)
    header = {"descr": description, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
