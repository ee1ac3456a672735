"""Mesh, rules and memory savers of runs: the settings that a planner may choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from jax.sharding import AbstractMesh, AxisType, Mesh

from spjax import partitioning
from spjax.data.batching import chunk_shapes
from spjax.data.batching.packing import ChunkShape
from spjax.models import T5Config
from spjax.models.quantization import DTYPES
from spjax.studies import cost
from spjax.training.run import Run

_MOST_PARTS = 16  # microbatches


@dataclasses.dataclass(frozen=True)
class Setting:
    """Mesh, rules and memory savers of a gang.

    Attributes:
      data: devices along the mesh axis `data`.
      model: devices along `model`, `Run.num_partitions`.
      rules: `Run.logical_axis_rules`.
      microbatches: as in `Run`.
      remat: as in `Run`.
      weights_dtype: as in `Run`.
      runs: that train side by side.
    """

    data: int
    model: int = 1
    rules: Any = "data_parallel"
    microbatches: int = 1
    remat: bool = False
    weights_dtype: str = "float32"
    runs: int = 1

    @property
    def devices(self) -> int:
        """Devices of a run."""
        return self.data * self.model

    def applied(self, run: Run) -> Run:
        """Returns the run with these settings."""
        return dataclasses.replace(
            run,
            num_partitions=self.model,
            logical_axis_rules=self.rules,
            microbatches=self.microbatches,
            remat=self.remat,
            weights_dtype=self.weights_dtype,
        )

    def placement(self, mesh: Mesh | AbstractMesh | None = None) -> partitioning.Placement:
        """Returns mesh and rules; without a mesh one of no devices, for shapes alone."""
        if mesh is None:
            axes = (AxisType.Auto, AxisType.Auto)
            mesh = AbstractMesh((self.data, self.model), partitioning.MESH_AXES, axes)
        return partitioning.Placement(mesh, partitioning.rules_of(self.rules))  # type: ignore

    def bindings(self, run: Run) -> list[str]:
        """Returns the gin bindings by which a run gets these settings."""
        names = {
            "num_partitions": self.model,
            "logical_axis_rules": self.rules,
            "microbatches": self.microbatches,
            "remat": self.remat,
            "weights_dtype": self.weights_dtype,
        }
        return [f"Run.{k} = {v!r}" for k, v in names.items() if getattr(run, k) != v]

    def changes_numbers(self, run: Run) -> bool:
        """Returns whether a run with these settings is another one, with other numbers."""
        parts = run.dropout_rate > 0 and self.microbatches != run.microbatches
        return parts or self.weights_dtype != run.weights_dtype


def configured(run: Run, devices: int) -> Setting | None:
    """Returns what a run is configured for, None if its mesh does not divide the devices."""
    if devices % run.num_partitions:
        return None
    return Setting(
        devices // run.num_partitions,
        run.num_partitions,
        run.logical_axis_rules,
        run.microbatches,
        run.remat,
        run.weights_dtype,
    )


def alternatives(run: Run, devices: int) -> Iterator[Setting]:
    """Yields other settings for so many devices: meshes, rules, remat, microbatches and dtypes."""
    dtypes = [run.weights_dtype]
    if not run.method.changes_weights:
        dtypes = list(DTYPES[DTYPES.index(run.weights_dtype) :])
    parts = [n for n in range(1, _MOST_PARTS + 1) if run.batch_size % n == 0 and n & (n - 1) == 0]
    for model in (1 << i for i in range(devices.bit_length())):
        if devices % model:
            continue
        data = devices // model
        rules = ["data_parallel" if model == 1 else "tensor_parallel"] + ["fsdp"] * (data > 1)
        for dtype in dtypes:
            for rule in rules:
                for count in parts:
                    for remat in (False, True):
                        yield Setting(data, model, rule, count, remat, dtype)


def chunk_shape(
    run: Run, config: T5Config, setting: Setting, lengths: tuple[int, int], share: float = 1.0
) -> ChunkShape:
    """Returns the largest chunk of rows of a gang.

    Args:
      run: one of the gang.
      config: of its model.
      setting: that it trains in.
      lengths: the most tokens of an input, without prompt, and of a target.
      share: of these lengths that examples have; at most 1.
    """
    inputs, targets = (max(1, round(share * length)) for length in lengths)
    longest = (run.method.prompt_length + inputs, targets)
    examples = run.batch_size * setting.runs
    if run.dropout_rate:
        rows = run.batch_size // setting.microbatches
        return chunk_shapes.plain(*longest, rows, setting.data)[0]
    import numpy as np

    batch = tuple(np.full(examples, length) for length in longest)
    shapes = chunk_shapes.fastest(
        [batch],  # type: ignore[list-item]
        longest,
        config,
        steps=run.steps,
        limit=run.row_length,
        parts=setting.microbatches,
        multiple=setting.data,
    )
    return max(shapes, key=lambda shape: shape.rows * shape.length)


TYPICAL = cost.TYPICAL_SHARE
