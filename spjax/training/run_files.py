"""Files of a run: resumable checkpoints and logged metrics."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from spjax.files import append_line, json_lines, open_regular, write_text
from spjax.training.checkpoint_steps import SyncedPath, restore_newest
from spjax.training.schedule import Standing
from spjax.types import Tree


class Checkpoints:
    """Orbax checkpoints of one run: the latest, to go on from, and the best on validation.

    They hold the trainable parameters, the optimizer's slots and the `Standing`, never the base.
    """

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        keep = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(1),
                checkpoint_managers.BestN(get_metric_fn=lambda m: m["rank"], n=1),
                # The best at a period, for a longer run.
                checkpoint_managers.BestN(
                    get_metric_fn=lambda m: m.get("rank_at_period", m["rank"]), n=1
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            enable_async_checkpointing=not read_only,
            read_only=read_only,
            temporary_path_class=SyncedPath,
            # Several processes would take the same step of two runs of a gang for one.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                barrier_sync_key_prefix=str(folder.absolute())
            ),
        )
        self._manager = ocp.CheckpointManager((folder / "checkpoints").absolute(), options=options)

    def save(self, arrays: Tree, standing: Standing) -> None:
        """Writes a checkpoint in the background; one of the same step is left alone.

        An error of the one before is raised here, or by `at` and `close`.

        Args:
          arrays: trainable parameters and optimizer slots.
          standing: of the run.
        """
        # A new best is better than all before it, so its step serves as its rank. (Ranking by
        # score could keep another checkpoint than `best_step` where two scores almost tie.)
        rank = standing.step if standing.best_step == standing.step else -1
        if standing.step in self._manager.all_steps():
            return
        self._manager.save(
            standing.step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                standing=ocp.args.JsonSave(dataclasses.asdict(standing)),
            ),
            metrics={"rank": rank, "rank_at_period": -1 if standing.before_last else rank},
        )

    def latest(self, like: Tree) -> tuple[Tree, Standing] | None:
        """Returns arrays and standing of the last readable checkpoint, None if there is none.

        That is one whose best step, which the result is made from, can be read too.

        Args:
          like: arrays of the expected names and shapes.
        """

        def restore(step: int) -> tuple[Tree, Standing]:
            arrays, standing = self.at(step, like)
            if standing.best_step not in (-1, step):
                self.at(standing.best_step, like)
            return arrays, standing

        newest = restore_newest(self._manager, restore)
        return None if newest is None else newest[1]

    def at(self, step: int, like: Tree) -> tuple[Tree, Standing]:
        """Returns arrays and standing of a step that was kept."""
        self.wait()
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(like), standing=ocp.args.JsonRestore()
            ),
        )
        return restored.arrays, Standing(**restored.standing)

    def wait(self) -> None:
        """Waits for what is being written, and raises its error."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


class MetricsLog:
    """`metrics.jsonl` of one run."""

    def __init__(self, folder: Path, step: int) -> None:
        """Drops what was written after `step`."""
        self._path = folder / "metrics.jsonl"
        drop_after(self._path, step)

    def write(self, step: int, values: Mapping[str, float], is_synced: bool = True) -> None:
        """Appends one line.

        Args:
          step: of the run.
          values: by name.
          is_synced: as for `append_line`.
        """
        append_line(self._path, json.dumps({"step": step, **values}), is_synced)


def drop_after(path: Path, step: int) -> None:
    """Drops the lines of a log that were written after `step`, and one that was cut off."""
    if path.exists():
        with open_regular(path) as file:
            kept = [line.text.decode() for line in json_lines(file) if _step_of(line.value) <= step]
        write_text(path, "".join(text.rstrip("\n") + "\n" for text in kept))


def _step_of(row: Any) -> float:
    try:
        return float(row["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut off in the middle of a line
