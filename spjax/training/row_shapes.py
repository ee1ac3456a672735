"""The shape of packed rows, chosen from the lengths of a gang's examples and for the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spjax import platforms
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.data.batching import chunk_shapes, packing
from spjax.models import T5Config, fused
from spjax.models.flops import forward_flops
from spjax.training.run import Run
from spjax.training.run_data import RunData

# An accelerator is done with a step of so many operations before the host has sent the next one.
_SHORT_STEP = 1e12
_STEPS_PER_DISPATCH = 10


def steps_per_dispatch(
    config: T5Config, shapes: Sequence[packing.ChunkShape], parts: int = 1
) -> int:
    """Returns the number of steps to send to the device in one dispatch.

    One on CPU, which computes a loop over steps no faster, and for models whose steps are long
    enough: these compile the model once for gangs of all methods, where a loop over steps holds
    methods and optimizer too. One as well where batches go in parts, which is to save memory.
    """
    operations = max(
        2 * shape.rows * forward_flops(config, shape.length, shape.target_length)
        for shape in shapes
    )
    short = platforms.current() != "cpu" and operations < _SHORT_STEP
    return _STEPS_PER_DISPATCH if short and parts == 1 else 1


def of_gang(
    run: Run, tasks: Sequence[RunData], model: FrozenModel
) -> tuple[packing.ChunkShape, ...]:
    """Returns the shapes of the chunks of a gang.

    Args:
      run: the first of the gang.
      tasks: the data of each run.
      model: its mesh has the devices along `data` that divide the rows of a chunk.
    """
    batches_of_runs = zip(*(data.positions() for data in tasks))
    batches = [
        (
            np.concatenate([inputs for inputs, _ in batch]),
            np.concatenate([targets for _, targets in batch]),
        )
        for batch in batches_of_runs
    ]
    inputs, targets = zip(*(data.longest() for data in tasks))
    longest = (max(inputs), max(targets))
    if run.dropout_rate:  # masks belong to a row, so each example has its own
        rows = run.batch_size // run.microbatches
        return chunk_shapes.plain(*longest, rows, model.placement.mesh.shape["data"])
    return chunk_shapes.fastest(
        batches,
        longest,
        model.config,
        steps=run.steps,
        limit=run.row_length,
        parts=run.microbatches,
        multiple=model.placement.mesh.shape["data"],
        unit=fused.MULTIPLE if run.attention == "cudnn" else 1,
    )
