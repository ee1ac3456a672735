"""Programs lowered from shapes alone are those that training compiles."""

import dataclasses

import jax
import numpy as np
import pytest

from spjax import partitioning
from spjax.data.batching.packing import ChunkShape
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.models import quantization
from spjax.models.t5 import init_weights
from spjax.training import lowering, trainer
from spjax.types import Batch
from tests.methods.tiny import CONFIG

SHAPE = ChunkShape(4, 16, 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "int8"])
def test_a_program_lowered_from_shapes_takes_the_arrays_of_training(run, kind):
    if kind == "full":
        run = dataclasses.replace(run, method=FullFineTuning())
    run = dataclasses.replace(
        run,
        num_partitions=2,
        logical_axis_rules="fsdp",
        weights_dtype="int8" if kind == "int8" else "float32",
    )
    runs = 1 if kind == "full" else 2
    place = partitioning.make_placement(2, "fsdp")
    base = init_weights(CONFIG, jax.random.key(0))
    base = quantization.quantize_tree(base) if kind == "int8" else base
    step = lowering.step_shapes(run, CONFIG, place, SHAPE, runs)
    base = jax.device_put(base, jax.tree.map(lambda x: x.sharding, step.base))
    method = lowering.resolved(run.method)
    state = trainer.init_state([method] * runs, range(runs), run.optimizer, base)
    states = jax.device_put((state,), place.state((state,), base))
    key, totals_N = jax.random.key(0), np.ones(runs, np.float32)
    inputs, key, *sums = trainer.begin_step(step.config, states, base, key)
    batch = jax.tree.map(lambda x: np.zeros(x.shape, np.int32), lowering.batch_shapes(SHAPE))
    assert isinstance(batch, Batch)
    here = jax.device_put((totals_N, key), place.replicated)
    arguments = (inputs, base, place.put_batch(batch), *here, *sums)
    # Refused unless shapes, dtypes and shardings are the same.
    grads, losses_N = step.gradients().compile()(*arguments)
    states, _ = step.update().compile()(states, base, grads, losses_N, here[0])
    assert lowering.bytes_on_device(step.base) == sum(
        x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(base)
    )
    assert lowering.bytes_on_device(step.states) == sum(
        x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(states)
    )


def test_an_answer_is_lowered_as_the_evaluation_decodes(run):
    place = partitioning.make_placement(1)
    step = lowering.step_shapes(run, CONFIG, place, SHAPE)
    compiled = lowering.answers(run, step, place, 4, 16, 3).compile()
    (ids,) = jax.tree.leaves(compiled.out_info)
    assert ids.shape == (4, 8) and ids.dtype == np.int32  # room for 8 tokens
