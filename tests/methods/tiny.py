"""A tiny model, a small instance of each method, and batches for their tests."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np

from spjax import methods
from spjax.methods.base import apply_gang, init_trainable
from spjax.models import T5, T5Config
from spjax.models.decoding import greedy
from spjax.models.t5 import init_weights
from spjax.types import Batch

CONFIG = T5Config(64, 16, 3, 8, 24, 1, 1)  # H * K is not D
BASE = jax.jit(lambda: init_weights(CONFIG, jax.random.key(0)))()
WORDS = {"good": (5, 6), "bad": (7,)}
LENGTH, TARGET = 14, 4
_SMALL = {"length": 3, "hidden": 5, "rank": 2}


def small(name, **settings):
    """A method with few parameters, where that can be set."""
    known = inspect.signature(methods.get(name)).parameters
    settings = {k: v for k, v in {**_SMALL, **settings}.items() if k in known}
    return methods.get(name)(**settings).resolve(("good", "bad"), WORDS.__getitem__)


def moved(method, seed):
    """Trainable parameters that are not those at the start, of which some are 0."""
    tree = jax.jit(functools.partial(init_trainable, method, seed=seed))(BASE)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), tree)


def stacked(*trees):
    """Several runs' parameters with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def rows(prompt_lengths, tasks=None, seed=0):
    """One row for each run, with its own number of slots before texts of unequal length."""
    rng, count = np.random.default_rng(seed), len(prompt_lengths)
    inputs = rng.integers(3, 60, (count, LENGTH))
    slots = np.full_like(inputs, -1)
    for row, length in enumerate(prompt_lengths):
        slots[row, :length] = np.arange(length)
    ends = np.asarray(prompt_lengths) + 3 + np.arange(count)
    segments = (np.arange(LENGTH) < ends[:, None]) * 1
    targets = rng.integers(3, 60, (count, TARGET))
    real = (np.arange(TARGET) < TARGET - np.arange(count)[:, None] % 3) * 1
    runs = np.arange(count)[:, None]
    tasks = np.zeros_like(runs) if tasks is None else np.asarray(tasks)[:, None]
    parts = (inputs, slots, segments, targets, real, runs, tasks)
    return Batch(*(np.asarray(part, np.int32) for part in parts))


def row(batch, i, run=0):
    """Row i alone."""
    one = jax.tree.map(lambda x: x[i : i + 1], batch)
    return one.replace(runs_BG=np.full_like(one.runs_BG, run))


def packed(batch):
    """All rows of a batch one after the other in a single row, without padding."""
    numbers = np.arange(1, len(batch.runs_BG) + 1, dtype=np.int32)[:, None]
    ins, outs = np.asarray(batch.input_segments_BL) > 0, np.asarray(batch.target_segments_BM) > 0
    return Batch(
        batch.inputs_BL[ins][None],
        batch.slots_BL[ins][None],
        (batch.input_segments_BL * numbers)[ins][None],
        batch.targets_BM[outs][None],
        (batch.target_segments_BM * numbers)[outs][None],
        batch.runs_BG.reshape(1, -1),
        batch.tasks_BG.reshape(1, -1),
    )


@functools.cache
def _forward(methods_of_groups):
    def logits(trainables, base, batch):
        weights, injection = apply_gang(methods_of_groups, trainables, base)
        return T5(CONFIG).apply({"params": weights}, batch, injection)

    return jax.jit(logits)


def forward(methods_of_groups, trainables, batch):
    """Teacher-forced logits of a gang, as NumPy."""
    return np.asarray(_forward(tuple(methods_of_groups))(tuple(trainables), BASE, batch))


@functools.cache
def _written(methods_of_groups):
    def ids(trainables, base, batch):
        weights, injection = apply_gang(methods_of_groups, trainables, base)
        return greedy(T5(CONFIG), weights, batch, injection, TARGET)

    return jax.jit(ids)


def written(methods_of_groups, trainables, batch):
    """Returns the ids that a gang writes greedily, as NumPy."""
    return np.asarray(_written(tuple(methods_of_groups))(tuple(trainables), BASE, batch))
