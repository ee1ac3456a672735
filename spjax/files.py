"""Files that are there in full or not at all, also after a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

# Of a folder that may be written but not read, and of file systems that cannot sync folders.
_NO_FOLDER_SYNC = {errno.EACCES, errno.EINVAL, errno.ENOTSUP}


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in full or not at all; missing folders are made.

    Raises:
      OSError: it cannot be written; `filename` names the path, also where the disk is full.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met without a name
        raise


def append_line(path: Path, line: str) -> None:
    """Appends a line to a text file and waits until it is on the disk.

    Raises:
      OSError: as for `write_text`.
    """
    try:
        with open(path, "a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")
            sync(file)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside `path` that becomes `path` when the block ends well.

    What was written there, a file or a folder, is on the disk before it gets its name. Two
    processes that write the same path at once do not meet. Missing folders are made.

    Raises:
      OSError: it cannot be written, or something stands there that is no file, such as a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, which a file would replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        sync_tree(temporary)
        os.replace(temporary, path)
    sync_folder(path.parent)


def sync(file: IO) -> None:
    """Waits until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_tree(path: Path) -> None:
    """Waits until a file, or a folder with everything in it, is on the disk."""
    if not path.is_dir():
        _sync_path(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            _sync_path(Path(folder) / name)
        sync_folder(Path(folder))


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that."""
    try:
        _sync_path(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
