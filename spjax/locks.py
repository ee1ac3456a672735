"""Lock files that name their holder; a process and its children can hold one together."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # between two looks at every process's open files, which take a while
_NOTE_SECONDS, _SECONDS_BETWEEN_NOTES = 1.0, 30.0
# Children of a killed process notice that within a second; a stopped one may be continued.
_ORPHAN_SECONDS, _STOPPED_SECONDS = 10.0, 10.0

_log = logging.getLogger(__name__)


class HeldError(Exception):
    """A lock is held by others; the text names them: `process 12`, `process 12 (stopped)`."""


@contextlib.contextmanager
def hold(path: Path, patience: float = math.inf) -> Iterator[int]:
    """Holds a lock file, into which the number of this process is written.

    A wait of more than a second is told, with the processes that are waited for.

    Args:
      path: of the file; made if missing, and never removed.
      patience: seconds to wait. A killed owner's children are waited for 10 seconds at least.

    Yields:
      The file descriptor. The lock is free when it and those that children inherited are closed.

    Raises:
      HeldError: others hold it for longer than that, or are all stopped.
      OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(path, descriptor, patience)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(path: Path, descriptor: int, patience: float) -> None:
    start = running = time.monotonic()
    noted = looked = -math.inf
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        now = time.monotonic()
        if now - start >= min(_NOTE_SECONDS, patience) and now - looked >= _LOOK_SECONDS:
            looked = now
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            holders = _holders(path) or {owner: _state(owner)}
            told = ", ".join(_describe(*holder) for holder in holders.items())
            if set(holders.values()) - {"T"}:
                running = now
            orphaned = owner.isdigit() and not _state(owner)
            limit = max(patience, _ORPHAN_SECONDS) if orphaned else patience
            if now - start > limit or now - running > _STOPPED_SECONDS:
                raise HeldError(told)
            if now - noted > _SECONDS_BETWEEN_NOTES and now - start >= _NOTE_SECONDS:
                noted = now
                _log.warning("waiting for %s, held by %s", path, told)
        time.sleep(_POLL_SECONDS)


def _describe(pid: str, state: str) -> str:
    return f"process {pid or 'unknown'}" + (" (stopped)" if state == "T" else "")


def _state(pid: str) -> str:
    """Returns the letter of a process's state, "?" where it is unknown, "" if it is gone."""
    if not pid.isdigit():
        return ""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        letter = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2][1]
    except (OSError, IndexError):
        return "?"
    return "" if letter in "ZX" else letter.upper()  # a zombie holds nothing


def _holders(path: Path) -> dict[str, str]:
    """Returns processes that hold a lock, with their states; none where the system has no /proc."""
    file = os.stat(path)
    holders = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # another user's, or gone by now
            at = os.stat(link)
            if (at.st_dev, at.st_ino) == (file.st_dev, file.st_ino):
                pid = link.parts[2]
                # Those that only wait for it have it open too.
                if "FLOCK" in (link.parents[1] / "fdinfo" / link.name).read_text("utf-8"):
                    holders[pid] = _state(pid)
    return holders
