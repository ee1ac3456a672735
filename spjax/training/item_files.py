"""Predictions of a run for each test example and the score of each item, in a file of the run."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax.files import DamagedFile, read_bytes, replacing

NAME = "test_items.json.gz"


def write(folder: Path, tasks: Mapping[str, tuple[Sequence[str], Sequence[float] | None]]) -> None:
    """Writes predictions and item scores of a run, in full or not at all.

    Args:
      folder: of the run.
      tasks: predicted texts by example and scores by item (`metrics.item_scores`), by task.
    """
    content = {name: {"predictions": list(p), "items": s} for name, (p, s) in tasks.items()}
    packed = gzip.compress(json.dumps(content, ensure_ascii=False).encode(), mtime=0)
    with replacing(folder / NAME) as temporary:
        temporary.write_bytes(packed)


def scores(folder: Path) -> list[float] | None:
    """Returns the item scores of a run in percent.

    Returns:
      None where the run has no such file, its task's metrics have no score for an item, or it has
      several tasks: its score is the mean over these, whatever their numbers of items.

    Raises:
      DamagedFile: the file is not what was written.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(gzip.decompress(read_bytes(path)))
        parts = [task["items"] for task in dict(content).values()]
        if len(parts) > 1 or None in parts:
            return None
        return [_checked(value) for part in parts for value in part]
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error}); delete it to go on without it") from error


def _checked(value: Any) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"an item has the score {value!r}")
    return float(value)
