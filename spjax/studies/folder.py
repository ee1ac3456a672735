"""A study's folder on disk: its lock, what is finished in it, and whether it can be written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PROBE_BYTES = 1 << 20
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}
# How long a new sweep waits for a lock: its owner may be just gone, or gone with workers that
# have not noticed yet.
_OWNER_SECONDS, _WORKERS_SECONDS = 1.0, 10.0


def write(path: Path, text: str) -> None:
    """Writes a file so that it is there in full or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def result(folder: Path) -> dict[str, Any] | None:
    """The content of a run folder's `result.json`, None if it is missing or damaged."""
    try:
        content = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def config_text(folder: Path) -> str:
    """The content of a run folder's `config.gin`, "" if there is none."""
    try:
        return (folder / "config.gin").read_text()
    except OSError:
        return ""


def prepare(folder: Path, text: str) -> None:
    """Makes a run folder with its `config.gin`; clears it if it belongs to another run."""
    if folder.exists() and config_text(folder) != text:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "config.gin", text)


def probe(folder: Path) -> None:
    """Makes the folder and writes a megabyte to it.

    Raises:
      ValueError: the folder cannot be made or written.
    """
    path = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, "wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write to the output folder {folder}: {error.strerror}; free some space, "
            "change its permissions or choose another one with --output_dir."
        ) from error


def disk_problem(error: BaseException) -> str:
    """What the disk said, if `error` or its cause is about a full or read-only disk, else ""."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK_ERRORS:
            return f"{os.strerror(seen.errno)}: {seen.filename or ''}".rstrip(": ")
        # TensorStore reports a full disk as a ValueError.
        if os.strerror(errno.ENOSPC) in str(seen):
            return os.strerror(errno.ENOSPC)
        seen = seen.__cause__ or seen.__context__
    return ""


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Holds the study folder; yields the file descriptor, which workers inherit.

    Because workers share the lock, it is free only when the sweep and all of its workers are
    gone: nobody writes to a run folder that a new sweep has taken over.

    Raises:
      ValueError: another sweep is running in the folder.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        start = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode().strip()
                patience = _OWNER_SECONDS if _alive(owner) else _WORKERS_SECONDS
                if time.monotonic() - start > patience:
                    raise ValueError(
                        f"another sweep (process {owner or 'unknown'}) is running in {folder}; "
                        "wait for it, stop it, or choose another folder with --output_dir."
                    ) from None
                time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
