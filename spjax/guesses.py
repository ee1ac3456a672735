"""Guesses at what a misspelt name may have meant."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Returns the known name most like a name, "" if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a sentence, after a space, that suggests a known name; "" if none is like it."""
    close = closest(name, known)
    return f" Did you mean {close!r}?" if close else ""


def did_you_mean_path(path: str | os.PathLike[str]) -> str:
    """Returns a sentence, after a space, that suggests a path beside one that is not there."""
    path = Path(path)
    try:
        close = closest(path.name, sorted(other.name for other in path.parent.iterdir()))
    except OSError:
        return ""
    return f" Did you mean {str(path.with_name(close))!r}?" if close else ""
