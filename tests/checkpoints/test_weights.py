import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints import weights
from spjax.models import SIZES, get_size
from spjax.models.t5 import init_weights

SMALL = get_size("pocket_50k")
TREE = init_weights(SMALL, jax.random.key(0))
SHIPPED = sorted(path.stem for path in weights.SHIPPED.glob("*.safetensors"))


def test_round_trip(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, TREE, {"recipe": "x"}, dtype="float32")
    assert weights.digest(weights.read(path, SMALL)) == weights.digest(TREE)
    weights.save(path, TREE, {})
    halved = weights.read(path, SMALL)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(halved))
    exact = np.asarray(TREE["token_embedder"]["embedding"])
    rounded = exact.astype(jnp.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(halved["token_embedder"]["embedding"], rounded)


def test_scanned_layout(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, TREE, {}, dtype="float32")
    scanned = weights.read(path, dataclasses.replace(SMALL, scan_layers=True))
    assert weights.digest(trees.unstack_layers(scanned)) == weights.digest(TREE)


def test_another_size_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, TREE, {})
    with pytest.raises(ValueError, match="do not fit the model.*has shape"):
        weights.read(path, get_size("pocket_200k"))


def test_damaged_and_missing_files(tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(path, TREE, {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot read the weights"):
        weights.read(path, SMALL)
    with pytest.raises(ValueError, match="is not a .safetensors file"):
        weights.find("pocket_50k", str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match="no weights ship for 't5_1_1_xxl'"):
        weights.find("t5_1_1_xxl")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit_their_size(name):
    tree = weights.load(name)
    assert name in SIZES
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_shipped_weights_are_small_and_have_a_card():
    files = list(weights.SHIPPED.glob("*.safetensors"))
    assert {"pocket_50k", "pocket_200k", "pocket_800k"} <= set(SHIPPED)
    assert sum(path.stat().st_size for path in files) < 40e6
    assert all(path.with_suffix(".json").is_file() for path in files)
