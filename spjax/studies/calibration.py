"""Measures the batch that fills a device, in a process of its own, and caches the measurements.

Chunks of packed rows go through the model, each twice as many as before, until throughput stops
rising or memory is full.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spjax import config, trees
from spjax.files import DamagedFile, default_cache_dir, read_json, write_json
from spjax.injection import Injection, padded
from spjax.training import trainer
from spjax.training.run import Run
from spjax.types import Batch, Tree

_log = logging.getLogger(__name__)

_RISE = 1.1  # what twice the rows must gain to be worth it
_EXAMPLE, _TARGETS = 64, 4  # positions of an example in the rows that are timed
_MOST = 1 << 20  # positions
_STEPS = 3


def rows_of(length: int, rows: int, vocabulary: int) -> Batch:
    """Returns random rows full of examples of one run."""
    rng = np.random.default_rng(0)
    count = max(1, length // _EXAMPLE)
    segments_L = np.minimum(np.arange(length) // _EXAMPLE + 1, count)
    segments_M = np.arange(count * _TARGETS) // _TARGETS + 1
    inputs_BL = rng.integers(3, vocabulary, (rows, length))
    targets_BM = rng.integers(3, vocabulary, (rows, len(segments_M)))
    slots_BL = np.where(np.arange(length) % _EXAMPLE < 8, np.arange(length) % _EXAMPLE, -1)
    zeros_BG = np.zeros((rows, count))
    parts = (
        inputs_BL,
        slots_BL + np.zeros_like(inputs_BL),
        segments_L + np.zeros_like(inputs_BL),
        targets_BM,
        segments_M + np.zeros_like(targets_BM),
        zeros_BG,
        zeros_BG,
    )
    return Batch(*(part.astype(np.int32) for part in parts))


def seconds_of(run: Run) -> Callable[[int, int], float]:
    """Returns a function that times the gradients of so many rows of some length, in seconds."""
    model = run.open_model()
    placement = model.placement
    step = trainer.step_config(run, model.config, [run.method], placement).of_model
    soft = padded(Injection(jnp.zeros((1, step.model.emb_dim)), np.zeros((1, 1), np.int32)))
    soft = jax.device_put(soft, placement.replicated)

    def measured(rows: int, length: int) -> float:
        batch = placement.put_batch(rows_of(length, rows, step.model.vocab_size))
        return least_seconds(step, soft, model.weights, batch)

    return measured


def least_seconds(step: trainer.StepConfig, soft: Injection, base: Tree, batch: Batch) -> float:
    """Returns the shortest time of a chunk's gradients, for one run with a prompt."""
    times = []
    totals_N, key = np.ones(1, np.float32), jax.random.key(0)
    for _ in range(1 + _STEPS):  # the first compiles
        grads = jax.tree.map(jnp.zeros_like, trees.split_floats(soft)[0])
        losses_N = jnp.zeros(1)
        start = time.perf_counter()
        jax.block_until_ready(
            trainer.add_gradients(step, soft, base, batch, totals_N, key, grads, losses_N)
        )
        times.append(time.perf_counter() - start)
    return min(times[1:])


def saturation(
    seconds: Callable[[int, int], float], length: int, multiple: int = 1
) -> tuple[int, list[tuple[int, float]]]:
    """Returns the positions beyond which throughput hardly rises, and the measurements.

    Args:
      seconds: time of so many rows of some length; raises `jax.errors.JaxRuntimeError` where
        memory does not suffice.
      length: positions of a row.
      multiple: devices that share rows.
    """
    rates: list[tuple[int, float]] = []
    rows = multiple
    while rows * length <= _MOST or not rates:
        try:
            took = seconds(rows, length)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or not rates:
                raise
            # Room for longer targets and texts than those that were timed.
            return max(rates[-1][0] // 2, multiple * length), rates
        rates.append((rows * length, rows * length / took))
        if len(rates) > 1 and rates[-1][1] < _RISE * rates[-2][1]:
            return rates[-2][0], rates
        rows *= 2
    return rates[-1][0], rates


def calibrate(run: Run) -> dict[str, Any]:
    """Returns `positions`, measurements and device; from the cache if measured before."""
    model = run.open_model()
    placement = model.placement
    step = trainer.step_config(run, model.config, [run.method], placement).of_model
    device, length = jax.devices()[0].device_kind, min(run.row_length, 512)
    facts = (
        device,
        jax.device_count(),
        jax.__version__,
        dataclasses.asdict(step.model),
        run.weights_dtype,
        run.num_partitions,
        str(run.logical_axis_rules),
        run.remat,
        length,
    )
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = default_cache_dir() / "calibration" / f"{digest}.json"
    if path.is_file():
        try:
            return read_json(path)
        except DamagedFile as error:
            _log.warning("%s; it is measured again.", error)
    positions, rates = saturation(seconds_of(run), length, placement.mesh.shape["data"])
    measured = {"positions": positions, "rates": rates, "device": device, "model": run.model}
    write_json(path, measured, indent=None)
    return measured


def calibrate_text(text: str) -> dict[str, Any]:
    """Returns the result of `calibrate` for the run of the text of a `config.gin`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.gin"
        path.write_text(text, encoding="utf-8")
        run = config.load_stored("Run", path)
    return calibrate(run)
