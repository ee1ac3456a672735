"""Logits of T5X's own network and of ours, for the same weights.

Needs an importable t5x, which is on no package index; tried with its source of April 2026.
"""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from spjax.models import T5, T5Config
from spjax.models.t5 import weight_shapes
from spjax.types import Batch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that t5x imports
    network = pytest.importorskip("t5x.examples.t5.network", exc_type=ImportError)

pytestmark = pytest.mark.filterwarnings("ignore")

V11 = T5Config(64, 16, 3, 4, 24, 2, 3)
V10 = dataclasses.replace(V11, mlp_activations=("relu",), logits_via_embedding=True)


@pytest.mark.parametrize("config", [V11, V10], ids=["t5_1_1", "t5_1_0"])
def test_logits(config):
    rng = np.random.default_rng(0)
    weights = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype("float32"), weight_shapes(config)
    )
    inputs = rng.integers(2, 64, (3, 140)).astype("int32")
    inputs *= np.arange(140)[None] < np.array([[140], [9], [64]])  # padding at the end
    targets = rng.integers(2, 64, (3, 7)).astype("int32")
    moved = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    same = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(network.T5Config)
        if hasattr(config, field.name) and field.name != "dtype"
    }
    theirs = network.Transformer(network.T5Config(**same))
    one, ones = np.zeros((3, 1), "int32"), np.ones_like(targets)
    batch = Batch(
        inputs, -np.ones_like(inputs), (inputs > 0).astype("int32"), targets, ones, one, one
    )
    with jax.default_matmul_precision("float32"), jax.numpy_dtype_promotion("standard"):
        expected = theirs.apply({"params": weights}, inputs, moved, targets, enable_dropout=False)
        found = T5(config).apply({"params": weights}, jax.tree.map(jax.numpy.asarray, batch))
    difference = np.abs(np.asarray(found) - np.asarray(expected)).max()
    print(f"max |logit| {np.abs(expected).max():.3f}, difference {difference:.2e}")
    assert difference < 1e-4
