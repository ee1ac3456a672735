"""Body of a process with 8 simulated devices: prints figures of every set of rules as JSON."""

import dataclasses
import functools
import gc
import inspect
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from spjax import methods, partitioning
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.training import trainer
from spjax.training.optimizers import AdamW
from spjax.trees import stack_layers
from spjax.types import Batch

TINY = T5Config(64, 16, 4, 8, 32, 1, 1)
# `prompt/all` below has fsdp over both axes.
CASES = {
    "prompt": [("data_parallel", 1), ("tensor_parallel", 4), ("fsdp", 1)],
    "full": [("tensor_parallel", 4), ("fsdp", 2)],
}
PAIRS = [["batch", "data"], ["mlp", "model"]]


def batch(rows=8):
    rng = np.random.default_rng(0)
    inputs = rng.integers(3, 60, (rows, 7)).astype(np.int32)
    slots = np.full_like(inputs, -1)
    slots[:, :2] = [0, 1]
    targets = rng.integers(3, 60, (rows, 3)).astype(np.int32)
    one, zero = np.ones_like, np.zeros((rows, 1), np.int32)
    runs = (np.arange(rows, dtype=np.int32) % 2)[:, None]
    return Batch(inputs, slots, one(inputs), targets, one(targets), runs, zero)


def two_steps(method, place, parts=1, remat=False, scan=False, runs=2):
    """Losses of two steps, and the share of the weights that is an argument on one device."""
    config = T5Config(64, 16, 4, 8, 32, 1, 1, scan_layers=scan)
    base = init_weights(TINY, jax.random.key(0))
    base = stack_layers(base) if scan else base
    base = jax.device_put(base, place.weights(base))
    keys = jax.random.split(jax.random.key(1), runs)
    own = [method.init(key, base)["params"] for key in keys]
    trainable = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    slots = jax.vmap(AdamW().make(0.0).init)(trainable)
    state = trainer.TrainState(trainable, slots, jnp.zeros(runs, jnp.int32), jnp.ones(runs, bool))
    states = jax.device_put((state,), place.state((state,), base))
    program = trainer.StepConfig(
        config, (method,), AdamW(1.0), 0.0, 0.0, "NUM_REAL_TARGET_TOKENS", remat, place
    )
    data = batch()
    if runs == 1:
        data = data.replace(runs_BG=np.zeros_like(data.runs_BG))
    totals = np.full(runs, data.targets_BM.size / runs, np.float32)
    size = len(data.inputs_BL) // parts
    chunks = [
        place.put_batch(jax.tree.map(lambda x: x[i : i + size], data))
        for i in range(0, len(data.inputs_BL), size)
    ]
    inputs, key, *sums = trainer.begin_step(program, states, base, jax.random.key(0))
    arguments = (program.of_model, inputs, base, chunks[0], totals, key, *sums)
    compiled = trainer.add_gradients.lower(*arguments).compile()
    kept = [] if method.changes_weights else [base]  # full fine-tuning never looks at the base
    soft = [inputs, sums] if method.changes_weights else []
    spread = jax.tree.leaves([soft, kept])
    table = 0 if method.changes_weights else inputs.prompt_RD.nbytes + sums[0].prompt_RD.nbytes
    losses = []
    for _ in range(2):
        before = jax.tree.map(lambda x: x.sharding, states)
        states, stats = trainer.train_step(
            program, states, base, chunks, totals, jnp.full(runs, 0.01), jax.random.key(0)
        )
        same = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), states, before)
        assert all(jax.tree.leaves(same)), "the state has moved"
        losses.append(np.asarray(stats.loss_N).tolist())
    return {
        "losses": losses,
        "argument_bytes": compiled.memory_analysis().argument_size_in_bytes,
        "expected_bytes": on_a_device(spread) + table,
        "share": on_a_device(spread) / sum(x.nbytes for x in spread),
    }


@functools.cache
def weights():
    return jax.jit(init_weights, static_argnums=0)(TINY, jax.random.key(0))


def losses_of(own, place):
    """Losses of three steps of a gang with one run for each method."""
    base = weights()
    starts = [jax.jit(method.init)(jax.random.key(1), base)["params"] for method in own]
    base = jax.device_put(base, place.weights(base))
    states = []
    for start in starts:
        trainable = jax.tree.map(lambda x: x[None], start)
        slots = jax.vmap(AdamW().make(0.0).init)(trainable)
        counts = jnp.zeros(1, jnp.int32), jnp.ones(1, bool)
        states.append(trainer.TrainState(trainable, slots, *counts))
    states = jax.device_put(tuple(states), place.state(tuple(states), base))
    program = trainer.StepConfig(TINY, tuple(own), AdamW(1.0), 0.0, 0.0, None, False, place)
    runs = (np.arange(8, dtype=np.int32) % len(own))[:, None]
    prompted = np.array([method.prompt_length > 0 for method in own])[runs]
    data = batch()
    data = data.replace(runs_BG=runs, slots_BL=np.where(prompted, data.slots_BL, -1))
    rates, totals_N = jnp.full(len(own), 0.01), np.ones(len(own), np.float32)
    chunk = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    found, at_once = [], 1 if place.is_single_device else 2
    for count in (2, 1):  # the third step starts from the state that the loop has left
        batches = [([chunk], totals_N)] * count
        states, stats = trainer.train_steps(
            program, states, base, batches, rates, jax.random.key(0), at_once
        )
        found += [np.atleast_2d(x.loss_N) for x in stats]
    return np.concatenate(found).tolist()


def of_every_method(alone, place):
    """Losses on one device and on all, of all methods that share a gang and of each other."""
    every = []
    for name in (name for name in methods.names() if methods.get(name).trained):
        known = inspect.signature(methods.get(name)).parameters
        small = {"length": 2, "hidden": 4, "initializer": Uniform()}
        every.append(methods.get(name)(**{k: small[k] for k in small if k in known}))
    gangs = [[method] for method in every if method.changes_weights]
    gangs.append([method for method in every if not method.changes_weights])
    return [[losses_of(own, alone), losses_of(own, place)] for own in gangs]


def on_a_device(arrays):
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)


def main():
    # What is compiled to be looked at is not compiled again to be run.
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    alone = partitioning.Placement(partitioning.make_mesh(1))
    prompt, full = PromptTuning(length=2, initializer=Uniform()), FullFineTuning()
    found = {}
    for name, method, runs in (("prompt", prompt, 2), ("full", full, 1)):
        found[f"{name}/alone"] = two_steps(method, alone, runs=runs)
        for rules, partitions in CASES[name]:
            place = partitioning.make_placement(partitions, rules)
            found[f"{name}/{rules}/{partitions}"] = two_steps(method, place, runs=runs)
    found["prompt/pairs/2"] = two_steps(prompt, partitioning.make_placement(2, PAIRS))
    found["prompt/all"] = two_steps(
        prompt, partitioning.make_placement(2, "fsdp"), 4, remat=True, scan=True
    )
    methods_found = of_every_method(alone, partitioning.make_placement(4, "tensor_parallel"))
    json.dump({"rules": found, "methods": methods_found}, sys.stdout)


if __name__ == "__main__":
    main()
