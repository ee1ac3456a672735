"""Orbax checkpoints that survive a power cut: synced before they count, skipped where damaged."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orbax.checkpoint as ocp
from orbax.checkpoint.path import atomicity

from spjax import files, multihost

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Of Orbax and TensorStore where a file is empty, cut short or missing. Others, such as too little
# memory or a file that may not be opened, say nothing against the checkpoint.
_DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError)
# How TensorStore's ValueErrors begin where a file may not be opened or read at the moment.
_NO_DAMAGE = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")


class SyncedPath(atomicity.AtomicRenameTemporaryPath):
    """The unfinished folder of a step, which is on the disk before it gets the step's name.

    Orbax syncs only the chunks of arrays: after a power cut a renamed folder could have empty
    files.
    """

    async def finalize(self) -> None:
        """Syncs, renames, and syncs what Orbax writes at the last moment."""
        await asyncio.to_thread(files.sync_tree, Path(self.get()))
        await super().finalize()
        final = Path(self.get_final())
        await asyncio.to_thread(files.sync_tree, final)
        await asyncio.to_thread(files.sync_folder, final.parent)


def restore_newest(
    manager: ocp.CheckpointManager, restore: Callable[[int], T]
) -> tuple[int, T] | None:
    """Restores the newest checkpoint that can be read; sets those aside that cannot.

    They are moved beside the folder of checkpoints as `unreadable-checkpoint-STEP`, and a warning
    says which step training goes on from.

    Args:
      manager: of the checkpoints.
      restore: gives the content of a step, or raises an error.

    Returns:
      The step and its content; None if there is no checkpoint that can be read.

    Raises:
      Exception: of `restore`, where it says nothing against the checkpoint.
    """
    unreadable: list[tuple[int, str]] = []
    result = None
    for step in sorted(manager.all_steps(), reverse=True):
        problem = ""
        try:
            result = step, restore(step)
        except _DAMAGE as error:
            if str(error).startswith(_NO_DAMAGE):
                raise
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        if multihost.all_agree(not problem):
            break
        result = None
        unreadable.append((step, problem or "another process cannot read it"))
    for step, problem in unreadable:
        place = Path(manager.directory).parent / f"unreadable-checkpoint-{step}"
        if multihost.is_primary():
            shutil.rmtree(place, ignore_errors=True)
            os.replace(Path(manager.directory) / str(step), place)
            goes_on = f"goes on from step {result[0]}" if result else "begins anew"
            _log.warning(
                "the checkpoint of step %d in %s cannot be read (%s); it was moved to %s, and "
                "training %s",
                step,
                manager.directory,
                problem,
                place,
                goes_on,
            )
    if unreadable:
        multihost.barrier("unreadable")
        manager.reload()
    return result
