"""The programs of a training step, lowered from shapes alone: no weights, no data, no devices.

With a mesh of `jax.experimental.topologies` and `platforms.compiling_for`, they are compiled for
devices that are not there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from spjax.data.batching.packing import ChunkShape
from spjax.inference import evaluation
from spjax.methods.base import Method
from spjax.models import T5Config, quantization
from spjax.models.quantization import Quantized
from spjax.models.t5 import weight_shapes
from spjax.partitioning import Placement
from spjax.training import trainer
from spjax.training.run import Run
from spjax.trees import flatten, unflatten
from spjax.types import Batch, Tree

_LABELS = ("yes", "no")  # a method resolved with them has the shapes of any other


@dataclasses.dataclass(frozen=True)
class StepShapes:
    """Shapes and shardings of everything that a training step reads and writes.

    Attributes:
      config: of the step.
      base: the frozen weights.
      states: of each group, with trainable parameters and optimizer slots.
      inputs: soft tokens, or trainable parameters, that the model reads.
      sums: gradients and losses that are summed over chunks.
      batch: rows of a chunk.
      key: of dropout.
      rates: learning rate of each run.
    """

    config: trainer.StepConfig
    base: Tree
    states: Any
    inputs: Any
    sums: Any
    batch: Batch
    key: Any
    rates: Any

    def gradients(self) -> jax.stages.Lowered:
        """Returns the program that goes through the model and back."""
        arguments = (self.inputs, self.base, self.batch, self.rates, self.key, *self.sums)
        return trainer.add_gradients.lower(self.config.of_model, *arguments)

    def update(self) -> jax.stages.Lowered:
        """Returns the program of the optimizer."""
        arguments = (self.states, self.base, *self.sums, self.rates)
        return trainer.apply_gradients.lower(self.config, *arguments)


def step_shapes(
    run: Run, model: T5Config, placement: Placement, shape: ChunkShape, runs: int = 1
) -> StepShapes:
    """Returns the shapes of a training step.

    Args:
      run: one of the gang; all have its method.
      model: configuration of its frozen model.
      placement: mesh and sharding rules.
      shape: of a chunk of rows.
      runs: that train side by side.
    """
    method = resolved(run.method)
    config = trainer.step_config(run, model, [method], placement)
    unplaced = dataclasses.replace(config, placement=None)
    base, states, key, inputs, sums = _shapes(unplaced, run.weights_dtype, runs)
    here = placement.replicated
    inputs_at, grads_at = (
        placement.state(x, base) if config.changes_weights else here for x in (inputs, sums[0])
    )
    return StepShapes(
        config,
        _placed_weights(base, placement),
        _placed(states, placement.state(states, base)),
        _placed(inputs, inputs_at),
        (_placed(sums[0], grads_at), _placed(sums[1], here)),
        _placed(batch_shapes(shape), placement.sharding(("batch",), (shape.rows,))),
        _placed(key, here),
        _placed(jax.ShapeDtypeStruct((runs,), jnp.float32), here),
    )


@functools.lru_cache(maxsize=64)
def _shapes(config: trainer.StepConfig, dtype: str, runs: int) -> tuple[Any, ...]:
    """Returns weights, states, key, inputs and sums of a step, without shardings."""
    assert config.optimizer is not None  # of `step_config`
    (method,), optimizer = config.methods, config.optimizer
    is_unrolled = config.changes_weights
    stored = dataclasses.replace(config.model, scan_layers=False) if is_unrolled else config.model
    base = base_shapes(stored, dtype)
    one = jax.eval_shape(lambda base: (trainer.init_state([method], [0], optimizer, base),), base)
    states = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape[1:]), x.dtype), one)
    key = jax.eval_shape(lambda: jax.random.key(0))
    inputs, _, *sums = jax.eval_shape(
        lambda *arguments: trainer.begin_step(config, *arguments), states, base, key
    )
    return base, states, key, inputs, tuple(sums)


def resolved(method: Method) -> Method:
    """Returns a method whose parameters have their shapes, whatever its task is."""
    return method.resolve(_LABELS, lambda text: list(text.encode())).without_initializer()


@functools.lru_cache(maxsize=32)
def base_shapes(config: T5Config, dtype: str) -> Tree:
    """Returns shapes of frozen weights in some dtype, as they are loaded."""

    def leaf(name: str, x: jax.ShapeDtypeStruct) -> Any:
        axis = quantization.shared_axis(name)
        if dtype != "int8" or axis is None:
            kept = jnp.dtype("float32" if dtype == "int8" else dtype)
            return jax.ShapeDtypeStruct(x.shape, kept)
        axis = axis % len(x.shape)
        sizes = tuple(1 if i == axis else size for i, size in enumerate(x.shape))
        values: Any = jax.ShapeDtypeStruct(x.shape, jnp.int8)
        scales: Any = jax.ShapeDtypeStruct(sizes, jnp.float32)
        return Quantized(values, scales)

    return unflatten({name: leaf(name, x) for name, x in flatten(weight_shapes(config)).items()})


def _placed_weights(base: Tree, placement: Placement) -> Tree:
    """Returns the shapes of frozen weights with the shardings in which they are loaded."""

    def leaf(x: Any, sharding: NamedSharding) -> Any:
        if not isinstance(x, Quantized):
            return _placed(x, sharding)
        spec = [None if size == 1 else axis for size, axis in zip(x.scales.shape, sharding.spec)]
        scales = NamedSharding(sharding.mesh, PartitionSpec(*spec))
        return Quantized(_placed(x.values, sharding), _placed(x.scales, scales))

    places = flatten(placement.weights(base))
    return unflatten({name: leaf(x, places[name]) for name, x in flatten(base).items()})


def batch_shapes(shape: ChunkShape) -> Batch:
    """Returns the arrays of a chunk of rows."""
    rows, length, targets, segments = shape

    def ints(size: int) -> Any:
        return jax.ShapeDtypeStruct((rows, size), jnp.int32)

    inputs, outputs, of_segment = ints(length), ints(targets), ints(segments)
    return Batch(inputs, inputs, inputs, outputs, outputs, of_segment, of_segment)


def answers(
    run: Run, step: StepShapes, placement: Placement, rows: int, length: int, targets: int
) -> jax.stages.Lowered:
    """Returns the program that decodes a batch of the evaluation.

    Args:
      run: whose answers they are.
      step: of its training; the weights of a method that changes them are those of the base.
      placement: mesh and sharding rules.
      rows: examples in a batch.
      length: of a row.
      targets: most tokens of an answer.
    """
    config = dataclasses.replace(step.config.model, dropout_rate=0.0, attention="xla")
    batch = batch_shapes(ChunkShape(rows, length, targets, 1))
    batch = _placed(batch, placement.sharding(("batch",), (rows,)))
    inputs = None if run.method.changes_weights else step.inputs
    limit = _placed(jax.ShapeDtypeStruct((), jnp.int32), placement.replicated)
    decode = evaluation.decoder(config, evaluation.answer_room(targets), run.num_beams)
    return decode.lower(step.base, inputs, batch, limit)


def bytes_on_device(tree: Any) -> int:
    """Returns the bytes that a tree of placed shapes takes on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _itemsize(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
    )


def _itemsize(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).itemsize


def _placed(tree: Any, shardings: Any) -> Any:
    """Returns the shapes of a tree with shardings: a tree of them, or one for all leaves."""

    def one(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda x: one(x, shardings), tree)
    return jax.tree.map(one, tree, shardings)
