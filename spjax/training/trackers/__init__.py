"""Trackers, one file each; the name of the file is the name of the tracker.

See `spjax.training.tracker.Tracker`. Importing one of these modules loads no package of an extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spjax import extras, folder_registry

if TYPE_CHECKING:
    from spjax.training.tracker import Tracker


def names() -> tuple[str, ...]:
    """Returns the names of all trackers: the files of this folder."""
    return folder_registry.names(__path__)


def get(name: str) -> type[Tracker]:
    """Returns the class of a tracker.

    Args:
      name: file name without `.py`; the class has the same letters, in any case.

    Raises:
      ValueError: there is no such tracker; the message lists those there are.
    """
    chosen: type[Tracker] = folder_registry.get(__name__, name, names(), "tracker")
    return chosen


def check_installed(chosen: Sequence[str]) -> None:
    """Demands the packages of some trackers.

    Raises:
      ValueError: one is not installed; says how to install it.
    """
    for name in chosen:
        tracker = get(name)
        if tracker.extra:
            extras.require(tracker.extra, f"the tracker {name}", tracker.package)
