import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.methods.base import Method
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.training import mesh, step
from spjax.training.optimizers import Adafactor
from spjax.types import Batch

TINY = T5Config(64, 16, 2, 8, 24, 1, 1)


def batch(rows=8):
    rng = np.random.default_rng(0)
    inputs = rng.integers(3, 60, (rows, 7)).astype(np.int32)
    slots = np.full_like(inputs, -1)
    slots[:, :2] = [0, 1]
    targets = rng.integers(3, 60, (rows, 3)).astype(np.int32)
    one, zero = np.ones_like, np.zeros((rows, 1), np.int32)
    return Batch(inputs, slots, one(inputs), targets, one(targets), zero, zero)


def one_step(grid):
    base = jax.device_put(init_weights(TINY, jax.random.key(0)), mesh.replicated(grid))
    method: Method = PromptTuning(length=2, initializer=Uniform())
    program = step.Program(TINY, method, Adafactor(0.0), 0.0, 0.0, None)
    trainable = jax.vmap(lambda k: method.init(k, base)["params"])(jax.random.split(jax.random.key(1), 1))
    state = step.TrainState(
        trainable,
        jax.vmap(Adafactor().make(0.0).init)(trainable),
        jnp.zeros(1, jnp.int32),
        jnp.ones(1, bool),
    )
    state = jax.device_put(state, mesh.replicated(grid))
    rates = jnp.full(1, 0.3)
    placed = mesh.put_batch(batch(), grid)
    return step.compiled_update(program)(state, base, placed, rates, jax.random.key(0)), placed


def test_rows_spread_over_devices_give_the_same_step():
    (alone, loss), _ = one_step(mesh.make_mesh(1))
    (spread, spread_loss), placed = one_step(mesh.make_mesh(4))
    assert len(placed.inputs_BL.sharding.device_set) == 4
    np.testing.assert_allclose(loss, spread_loss, rtol=1e-5)
    np.testing.assert_allclose(alone.trainable["prompt"], spread.trainable["prompt"], atol=1e-4)


def test_a_mesh_that_does_not_fit():
    with pytest.raises(ValueError, match="needs 10 devices, and there are 4"):
        mesh.make_mesh(5, 2)
    assert dict(mesh.make_mesh(2, 2).shape) == {"data": 2, "model": 2}


def test_rows_that_do_not_divide_are_replicated():
    placed = mesh.put_batch(batch(6), mesh.make_mesh(4))
    assert placed.inputs_BL.sharding.is_fully_replicated
