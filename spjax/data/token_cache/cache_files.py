"""The files of one split: ragged token ids, raw fields, and a manifest with checksums.

inputs.npy, targets.npy                  int32 ids of all examples, one after the other
inputs_offsets.npy, targets_offsets.npy  int64, where each example starts, and the end
examples.jsonl                           the raw fields of each example
manifest.json                            the key, counts of the examples, sizes and SHA-256
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax.files import file_digest, read_json, read_json_lines, sync_folder, sync_tree, write_json

FORMAT = 2  # to be raised when the layout or the meaning of these files changes
TEMPORARY = ".building-"  # folders that begin so are unfinished


@dataclasses.dataclass(frozen=True)
class Ragged:
    """An array of rows of unequal length.

    Attributes:
      values: int32, all rows one after the other.
      offsets: int64, where each row starts in `values`, and the end; one more than there are rows.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(row)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """Returns the length of each row, int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> Ragged:
        """Returns a copy of some rows, in the order given."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        values = [self[int(row)] for row in rows] or [self.values[:0]]
        return Ragged(np.concatenate(values), offsets)


def write(
    folder: Path,
    key: Mapping[str, Any],
    examples: Iterable[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]],
    counts: Mapping[str, int] | None = None,
) -> None:
    """Writes a split so that `folder` is whole or not there at all.

    An existing folder is replaced.

    Args:
      folder: of the split.
      key: what the split was made from, kept in the manifest.
      examples: input ids, target ids and raw fields of each example.
      counts: what the texts lose as ids, kept in the manifest; read when all examples have been.

    Raises:
      OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent))
    try:
        _write_files(unfinished, key, examples, counts or {})
        if folder.exists():
            folder.rename(unfinished / "replaced")
        unfinished_files = unfinished / "files"
        sync_tree(unfinished_files)
        unfinished_files.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def problem(folder: Path, key: Mapping[str, Any]) -> str | None:
    """Returns the reason why `folder` cannot be used as the split of `key`, or None."""
    if not folder.is_dir():
        return "there is none"
    try:
        manifest = read_json(folder / "manifest.json")
        files = {name: (int(f["bytes"]), f["sha256"]) for name, f in manifest["files"].items()}
        recorded = manifest["key"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its manifest.json cannot be read ({type(error).__name__}: {error})"
    if recorded != dict(key):
        return "its manifest.json is that of another task, version, vocabulary or length"
    if set(files) != set(_FILES):
        return f"its manifest.json names the files {sorted(files)}"
    for name, (size, digest) in files.items():
        reason = _file_problem(folder / name, size, digest)
        if reason:
            return reason
    return None


def read(folder: Path) -> tuple[Ragged, Ragged]:
    """Returns memory-mapped ids of inputs and targets of a folder without a `problem`."""
    arrays = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in _FILES[:4]]
    inputs, input_offsets, targets, target_offsets = (np.asarray(array) for array in arrays)
    return Ragged(inputs, input_offsets), Ragged(targets, target_offsets)


def read_counts(folder: Path) -> dict[str, int]:
    """Reads the `coverage.Counter` of a folder without a `problem`."""
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["counts"]


def read_examples(folder: Path) -> list[dict[str, Any]]:
    """Reads the raw fields of every example of a folder without a `problem`."""
    return read_json_lines(folder / "examples.jsonl")


_FILES = (
    "inputs.npy",
    "inputs_offsets.npy",
    "targets.npy",
    "targets_offsets.npy",
    "examples.jsonl",
)


def _write_files(
    unfinished: Path,
    key: Mapping[str, Any],
    examples: Iterable[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]],
    counts: Mapping[str, int],
) -> None:
    folder = unfinished / "files"
    folder.mkdir()
    inputs, targets = [], []
    with open(folder / "examples.jsonl", "w", encoding="utf-8") as lines:
        for input_ids, target_ids, fields in examples:
            inputs.append(np.asarray(input_ids, np.int32))
            targets.append(np.asarray(target_ids, np.int32))
            lines.write(json.dumps(fields, ensure_ascii=False, sort_keys=True) + "\n")
    for name, rows in (("inputs", inputs), ("targets", targets)):
        np.save(folder / f"{name}.npy", np.concatenate([*rows, np.zeros(0, np.int32)]))
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        np.save(folder / f"{name}_offsets.npy", offsets)
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
        for name in _FILES
    }
    numbers = {"num_examples": len(inputs), "counts": dict(counts)}
    write_json(folder / "manifest.json", {"key": dict(key), **numbers, "files": files})


def _file_problem(path: Path, size: int, digest: str) -> str | None:
    try:
        actual = path.stat().st_size
        if actual != size:
            return f"{path.name} has {actual} bytes instead of {size}"
        if file_digest(path) != digest:
            return f"the checksum of {path.name} is wrong"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return None
