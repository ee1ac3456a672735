"""Text files that are there in full or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Writes a file by way of a temporary one beside it.

    Raises:
      OSError: it cannot be written; `filename` names the path, also where the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is met without a name
        raise
    finally:
        temporary.unlink(missing_ok=True)
