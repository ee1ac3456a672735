"""The version of the code that decides a run's numbers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Commands, figures and the order of a sweep decide no numbers.
_OTHERS = frozenset({"analysis", "api", "cli", "studies"})
UNKNOWN = "unknown"


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


def with_present(earlier: Sequence[str]) -> list[str]:
    """Returns the digests of the processes that trained a run, this one included.

    Args:
      earlier: as a checkpoint has them; checkpoints of older versions of spjax have none, which
        counts as `UNKNOWN`.
    """
    return sorted({*(earlier or [UNKNOWN]), digest()})


def classes_outside(run: Any) -> list[str]:
    """Returns the names of the classes of a run's objects that no digest covers.

    These are methods, initializers and optimizers of files outside of spjax, as `spjax.add_methods`
    adds them. They may import any other file.

    Args:
      run: a `spjax.training.run.Run`.
    """
    root = Path(__file__).resolve().parents[1]
    return sorted({kind.__name__ for kind in _classes(run) if not _is_below(kind, root)})


def _classes(value: Any) -> Iterator[type]:
    """Yields the classes of a dataclass and of the dataclasses in its fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from _classes(getattr(value, field.name, None))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _classes(item)


def _is_below(kind: type, root: Path) -> bool:
    try:
        return Path(inspect.getfile(kind)).resolve().is_relative_to(root)
    except (TypeError, OSError):  # typed into a notebook
        return False
