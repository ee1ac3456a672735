"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def write_text(path: Path, text: str) -> None:
    """Writes a text file, in full or not at all; missing folders are made.

    Raises:
      OSError: it cannot be written; `filename` names the path, also where the disk is full.
    """
    try:
        with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            sync(file)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met without a name
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside `path` that becomes `path` when the block ends well.

    Two processes that write the same path at once do not meet. Missing folders are made.

    Raises:
      OSError: it cannot be written, or something stands there that is no file, such as a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, which a file would replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def sync(file: IO) -> None:
    """Waits until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())
