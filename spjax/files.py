"""Files that are there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def expanded(path: Any) -> Any:
    """A path in which a leading "~" is the home folder; what is no text stays as it is.

    The shell leaves "~" alone after a "=", as in `--gin.MODEL_DIR=~/runs`.
    """
    return os.path.expanduser(path) if isinstance(path, str) else path


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
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def sync(file: IO) -> None:
    """Waits until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())
