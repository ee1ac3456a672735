"""The version of the code that decides a run's numbers."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

# Commands, figures and the order of a sweep decide no numbers.
_OTHERS = frozenset({"analysis", "api", "cli", "studies"})


@functools.cache
def digest() -> str:
    """Returns the SHA-256 of the source files that training and scoring consist of."""
    root = Path(__file__).parents[1]
    paths = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in _OTHERS]
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.relative_to(root).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
