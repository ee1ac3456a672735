"""The shape of packed rows, chosen from the lengths of a gang's examples and for the device."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from spjax import partitioning
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.data.batching import packing
from spjax.models import T5Config, fused
from spjax.models.flops import forward_flops
from spjax.training.run import Run
from spjax.training.run_data import RunData

# On CPU an operation of attention takes the time of two of a projection (softmax and masks), and to
# compile one more shape as long as so many operations. A chunk has about so many positions, and
# such logits of attention, that what it keeps for the backward pass stays in the caches; reading
# the weights once more for another chunk takes as long as a row of so many positions. Elsewhere
# whole batches go at once.
_SCORE_WEIGHT = 2.0
_CPU_PROGRAM = 2.5e11
_CPU_LOGITS = 1 << 24  # bytes in a layer
_CPU_CHUNK = 64
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
    short = jax.default_backend() != "cpu" and operations < _SHORT_STEP
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
        return packing.plain(*longest, rows, model.placement.mesh.shape["data"])
    return fastest(
        batches,
        longest,
        model.config,
        steps=run.steps,
        limit=run.row_length,
        parts=run.microbatches,
        multiple=model.placement.mesh.shape["data"],
        unit=fused.MULTIPLE if run.attention == "cudnn" else 1,
    )


def fastest(
    batches: Sequence[tuple[np.ndarray, np.ndarray]],
    longest: tuple[int, int],
    config: T5Config,
    *,
    steps: int,
    limit: int = 1024,
    parts: int = 1,
    multiple: int = 1,
    unit: int = 1,
) -> tuple[packing.ChunkShape, ...]:
    """Returns the shapes in which some batches should train fastest on this kind of device.

    Args:
      batches: as for `packing.choose`, like `longest`, `limit`, `parts` and `multiple`.
      longest: encoder and decoder positions.
      config: of the model.
      steps: of the training, which has to be worth the compilations.
      limit: most positions of a row.
      parts: chunks of a batch, at the least.
      multiple: what the rows of a chunk are a multiple of.
      unit: what the length of a row is a multiple of.
    """
    on_cpu, at_once = jax.default_backend() == "cpu", partitioning.positions_at_once()

    def rows_at_once(length: int) -> int:
        logits = 4 * config.num_heads * length**2
        return min(round(at_once / length), _CPU_LOGITS // logits)

    def cost(inputs: int, targets: int) -> float:
        return 2 * steps * forward_flops(config, inputs, targets, _SCORE_WEIGHT)

    return packing.choose(
        batches,
        cost,
        longest=longest,
        limit=limit,
        parts=parts,
        multiple=multiple,
        unit=unit,
        rows_at_once=rows_at_once if at_once else None,
        program=_CPU_PROGRAM if on_cpu else 0.0,
        chunk=cost(_CPU_CHUNK, _CPU_CHUNK) if on_cpu else 0.0,
    )
