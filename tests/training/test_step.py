"""The step of a gang: packed as unpacked, in chunks as at once, and nothing computed in vain."""

import dataclasses
import functools
import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import methods, partitioning, trees
from spjax.data.batching import batching, chunk_shapes, packing
from spjax.methods.initializers import Uniform
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.training import losses, trainer
from spjax.training.optimizers import Adafactor
from spjax.types import Batch

CONFIG = T5Config(64, 16, 4, 8, 32, 1, 1)
BASE = init_weights(CONFIG, jax.random.key(0))
LENGTHS = {0: [5, 9, 4, 7], 1: [6, 3, 8, 8]}  # text of each run's examples


def examples(prompt, lengths, seed):
    """One example a row, with the prompt in front."""
    rng = np.random.default_rng(seed)
    width, count = prompt + max(lengths), len(lengths)
    position = np.arange(width)
    real = (position < prompt + np.array(lengths)[:, None]).astype(np.int32)
    targets = rng.integers(1, 4, count)
    target_real = (np.arange(3) < targets[:, None]).astype(np.int32)
    zeros = np.zeros((count, 1), np.int32)
    return {
        "inputs_BL": (rng.integers(3, 60, (count, width)) * real).astype(np.int32),
        "slots_BL": np.where(position < prompt, position, -1).astype(np.int32) + zeros,
        "input_segments_BL": real,
        "targets_BM": (rng.integers(3, 60, (count, 3)) * target_real).astype(np.int32),
        "target_segments_BM": target_real,
        "runs_BG": zeros,
        "tasks_BG": zeros.copy(),
    }


def method_of(name, length):
    known = inspect.signature(methods.get(name)).parameters
    options = {"length": length, "initializer": Uniform(), "hidden": 5}
    return methods.get(name)(**{key: options[key] for key in options if key in known})


def gang(name, prompts, normalizer=None):
    own = [method_of(name, length) for length in prompts]
    groups = trainer.groups_of(own)
    state = []
    for group in groups:
        started = [own[i].init(jax.random.key(i), BASE)["params"] for i in group]
        trainable = jax.tree.map(lambda *x: jnp.stack(x), *started)
        slots = jax.vmap(Adafactor().make(0.0).init)(trainable)
        counts = jnp.zeros(len(group), jnp.int32)
        state.append(trainer.TrainState(trainable, slots, counts, jnp.ones(len(group), bool)))
    firsts = tuple(own[group[0]] for group in groups)
    program = trainer.StepConfig(CONFIG, firsts, Adafactor(1.0), 1e-2, 0.1, normalizer)
    batches = {i: examples(own[i].prompt_length, LENGTHS[i], i) for i in range(len(prompts))}
    totals = [losses.total(own["target_segments_BM"], normalizer) for own in batches.values()]
    batch, totals = batching.gang(batches), np.array(totals, np.float32)
    return program, tuple(state), batch, totals


@functools.cache
def gradients_of(name, prompts, normalizer, shapes):
    program, states, batch, totals = gang(name, prompts, normalizer)
    inputs, key, *sums = trainer.begin_step(program, states, BASE, jax.random.key(0))
    for chunk in packing.pack(batch, shapes):
        chunk = Batch(**chunk)
        sums = trainer.add_gradients(program.of_model, inputs, BASE, chunk, totals, key, *sums)
    return sums


TRAINED = [name for name in methods.names() if methods.get(name).trained]
PLAIN = chunk_shapes.plain(16, 4, 8)
PACKED = [
    (packing.ChunkShape(8, 32, 8, 4),),
    (packing.ChunkShape(2, 24, 12, 5), packing.ChunkShape(1, 16, 4, 2)),
]


@pytest.mark.slow
@pytest.mark.parametrize("shapes", PACKED)
@pytest.mark.parametrize("normalizer", [None, *losses.NORMALIZERS])
def test_packed_rows_give_the_gradients_of_single_ones(shapes, normalizer):
    alone = gradients_of("prompt_tuning", (3, 5), normalizer, PLAIN)
    packed = gradients_of("prompt_tuning", (3, 5), normalizer, shapes)
    grads_RD = np.asarray(alone[0].prompt_RD)
    assert np.abs(grads_RD[:8]).min() > 0 and (grads_RD[8:] == 0).all()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), alone, packed)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_packed_rows_of_every_method(name):
    alone = gradients_of(name, (3,), None, PLAIN)
    packed = gradients_of(name, (3,), None, PACKED[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), alone, packed)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_gradient_norms_are_those_of_what_is_trained(name):
    """Differentiated here in one piece, from the parameters to the loss."""
    program, states, batch, totals = gang(name, (3,))
    chunk = Batch(**packing.pack(batch, PLAIN)[0])
    inputs, key, *sums = trainer.begin_step(program, states, BASE, jax.random.key(0))
    sums = trainer.add_gradients(program.of_model, inputs, BASE, chunk, totals, key, *sums)
    norms_N = trainer.gradient_norms(program, states, BASE, *sums)

    def loss(trainables):
        inputs = trainer.model_inputs(program, trainables, BASE)
        return trainer.gang_losses(program, inputs, BASE, chunk, totals, key).sum()

    grads = jax.grad(loss)(tuple(state.trainable for state in states))
    squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(grads))
    assert norms_N.shape == (1,) and norms_N[0] == pytest.approx(squares**0.5, rel=1e-4)


def test_gradient_norms_of_a_gang_are_those_of_each_run():
    alone = [gradients_of("prompt_tuning", (3,), None, PLAIN)[0].prompt_RD[:3]]
    program, states, _, _ = gang("prompt_tuning", (3, 5))
    together = gradients_of("prompt_tuning", (3, 5), None, PLAIN)
    norms_N = trainer.gradient_norms(program, states, BASE, *together)
    alone.append(together[0].prompt_RD[3:8])
    np.testing.assert_allclose(norms_N, [np.linalg.norm(x) for x in alone], rtol=1e-5)


def test_runs_without_examples_stay_as_they_are():
    program, states, batch, _ = gang("prompt_tuning", (3, 5))
    mine = {name: array[:4] for name, array in batch.items()}
    states = (states[0], states[1].replace(active_N=jnp.zeros(1, bool)))
    before = np.asarray(states[1].trainable["prompt"])
    chunks = [Batch(**chunk) for chunk in packing.pack(mine, PACKED[0])]
    totals, rates = np.ones(2, np.float32), jnp.full(2, 0.1)
    new, stats = trainer.train_step(program, states, BASE, chunks, totals, rates, jax.random.key(0))
    assert stats.loss_N[0] > 0 and stats.loss_N[1] == 0 and stats.active_N.tolist() == [True, False]
    assert new[0].step_N[0] == 1
    np.testing.assert_array_equal(new[1].trainable["prompt"], before)


def test_prompt_lengths_share_the_program_of_the_model():
    short, long = gang("prompt_tuning", (1,))[0], gang("prompt_tuning", (100,))[0]
    assert short != long and short.of_model == long.of_model


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_no_gradient_of_a_frozen_weight_is_computed(name):
    """4 operations for each weight and position; 6 where a weight's own gradient is taken."""
    config = dataclasses.replace(CONFIG, emb_dim=64, mlp_dim=256, num_encoder_layers=4)
    base = init_weights(config, jax.random.key(0))
    method = method_of(name, 4)
    trainable = jax.tree.map(lambda x: x[None], method.init(jax.random.key(0), base)["params"])
    program = trainer.StepConfig(config, (method,), None, 0.0, 0.0, None)
    own = trainer.model_inputs(program, (trainable,), base)
    batch = Batch(**examples(4, [60] * 8, 0))
    sums = (jax.tree.map(jnp.zeros_like, trees.split_floats(own)[0]), jnp.zeros(1))
    args = (base, batch, np.ones(1, np.float32), jax.random.key(0))

    def flops(function, *args):
        return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]

    whole = flops(functools.partial(trainer.add_gradients, program.of_model), own, *args, *sums)
    forward = flops(functools.partial(trainer.gang_losses, program.of_model), own, *args)
    share = whole / forward
    assert share > 2.7 if name == "full_fine_tuning" else share < 2.4


@pytest.mark.parametrize("name", TRAINED)
def test_activations_may_be_bfloat16(name, monkeypatch):
    """Trained parameters, their gradients, losses and logits stay float32."""
    assert partitioning.for_devices(CONFIG) is CONFIG
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = partitioning.for_devices(CONFIG)
    assert config.dtype == "bfloat16"
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), init_weights(config, jax.random.key(0)))
    method = method_of(name, 4)
    program = trainer.StepConfig(config, (method,), Adafactor(0.3), 0.0, 0.0, None)
    state = jax.eval_shape(lambda: trainer.init_state([method], [0], Adafactor(0.3), base))
    batch = Batch(**examples(4, [60] * 8, 0))

    def one(states, base):
        inputs, key, *sums = trainer.begin_step(program, states, base, jax.random.key(0))
        totals = np.ones(1, np.float32)
        sums = trainer.add_gradients(program.of_model, inputs, base, batch, totals, key, *sums)
        return trainer.apply_gradients(program, states, base, *sums, np.ones(1, np.float32))

    (new,), stats = jax.eval_shape(one, (state,), base)
    assert stats.loss_N.dtype == stats.learning_rate_N.dtype == jnp.float32
    assert jax.tree.map(lambda x: x.dtype, new) == jax.tree.map(lambda x: x.dtype, state)


@pytest.mark.slow
def test_memory_of_a_step_serves_the_next(tmp_path):
    """Page faults of repeated steps, in a process of its own (the setting is for good)."""
    program = tmp_path / "steps.py"
    program.write_text(
        "import resource, sys, jax, jax.numpy as jnp\n"
        "from spjax.training.host_memory import keep_freed_memory\n"
        "assert sys.argv[1] == 'no' or keep_freed_memory()\n"
        "f = jax.jit(lambda x: jax.lax.cumsum(x, axis=0).sum())\n"
        "x = jnp.ones((4096, 4096))\n"
        "for _ in range(4): f(x).block_until_ready()\n"
        "count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "counts = [count()]\n"
        "for _ in range(8): f(x).block_until_ready(); counts.append(count())\n"
        # The least of a step: on a busy machine another thread's memory may be the free one.
        "print(min(after - before for before, after in zip(counts, counts[1:])))\n"
    )
    faults = [
        int(
            subprocess.run(
                [sys.executable, str(program), keep],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
            ).stdout
        )
        for keep in ("no", "yes")
    ]
    assert faults[1] < faults[0] / 2
