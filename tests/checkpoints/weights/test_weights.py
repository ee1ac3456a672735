import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from spjax import trees
from spjax.checkpoints.weights import shapes, weights
from spjax.models import SIZES, T5Config, get_size, quantization
from spjax.models.t5 import init_weights, weight_shapes

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
    pocket = {"pocket_50k", "pocket_200k", "pocket_800k", "pocket_3m"}
    graded = {"graded_50k", "graded_130k", "graded_350k", "graded_900k"}
    assert pocket | graded == set(SHIPPED)
    assert sum(path.stat().st_size for path in files) < 40e6
    assert all(path.with_suffix(".json").is_file() for path in files)


TINY = T5Config(40, 8, 2, 4, 12, 2, 2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The path of random weights of TINY, stored exactly, and the same tree in int8."""
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("float32"), weight_shapes(TINY))
    path = tmp_path_factory.mktemp("tiny") / "w.safetensors"
    weights.save(path, tree, {}, dtype="float32")
    return path, quantization.quantize_tree(tree)


def test_int8_is_read_written_and_read_again(tiny, tmp_path):
    path, expected = tiny
    found = weights.read(path, TINY, "int8")
    assert found["token_embedder"]["embedding"].values.dtype == jnp.int8
    assert weights.digest(found) == weights.digest(expected)
    weights.save(tmp_path / "w8.safetensors", found, {"a": "b"}, dtype="int8")
    assert weights.digest(weights.read(tmp_path / "w8.safetensors", TINY, "int8")) == (
        weights.digest(expected)
    )
    with safetensors.safe_open(str(tmp_path / "w8.safetensors"), "np") as file:
        assert file.get_slice("token_embedder/embedding").get_dtype() == "I8"
        assert file.metadata()["a"] == "b"
    back = weights.read(tmp_path / "w8.safetensors", TINY)  # as the numbers that int8 stands for
    kernel = expected["decoder"]["logits_dense"]["kernel"]
    np.testing.assert_array_equal(
        back["decoder"]["logits_dense"]["kernel"], quantization.dequantize(kernel)
    )
    scanned = weights.read(path, dataclasses.replace(TINY, scan_layers=True), "int8")
    stacked = scanned["encoder"]["layers"]["mlp"]["wo"]["kernel"]
    assert stacked.shape == (12, 2, 8) and stacked.scales.shape == (1, 2, 8)
    single = expected["encoder"]["layers_1"]["mlp"]["wo"]["kernel"]
    np.testing.assert_array_equal(stacked.values[:, 1], single.values)


@pytest.mark.parametrize("spec", [PartitionSpec("data", "model"), PartitionSpec(None, "data")])
def test_int8_on_a_mesh(tiny, spec):
    path, expected = tiny
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    places = jax.tree.map(
        lambda x: NamedSharding(mesh, spec if x.ndim == 2 else PartitionSpec()),
        weight_shapes(TINY),
    )
    found = weights.read(path, TINY, "int8", places)
    assert weights.digest(found) == weights.digest(expected)
    table = found["token_embedder"]["embedding"]
    assert table.values.sharding.spec == spec
    assert table.scales.sharding.spec == PartitionSpec(spec[0], None)


def test_float16_is_refused(tiny, tmp_path):
    message = "cannot be read as 'float16': allowed are 'float32', 'bfloat16', 'int8'.*overflows"
    with pytest.raises(ValueError, match=message):
        weights.read(tiny[0], TINY, "float16")
    with pytest.raises(ValueError, match="'float16'"):
        weights.save(tmp_path / "w", TREE, {}, dtype="float16")


def test_a_header_that_contradicts_itself(tiny, tmp_path):
    data = tiny[0].read_bytes()
    path = tmp_path / "w.safetensors"
    for damaged in (data.replace(b"[40, 8]", b"[41, 8]"), b"", b"{}", data + b"x"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot read the weights .* Copy or make"):
            weights.read(path, TINY)


def test_the_model_of_a_file(tiny):
    path = str(tiny[0])
    assert weights.config_of("auto", path) == TINY
    assert weights.config_of("pocket_50k", path) == get_size("pocket_50k")
    found = weights.load("auto", path)
    assert trees.flatten(found).keys() == trees.flatten(weight_shapes(TINY)).keys()
    with pytest.raises(ValueError, match="'auto' is the one that INITIAL_CHECKPOINT_PATH holds"):
        weights.config_of("auto")


@pytest.mark.parametrize("name", ["t5_1_1_small", "pocket_800k"])
@pytest.mark.parametrize("changes", [{}, {"mlp_activations": ("relu",), "num_decoder_layers": 3}])
def test_shapes_tell_the_model(name, changes):
    config = dataclasses.replace(get_size(name), logits_via_embedding=bool(changes), **changes)
    leaves = trees.flatten(weight_shapes(config))
    assert shapes.config(leaves, "here") == config
    del leaves["encoder/relpos_bias/rel_embedding"]
    with pytest.raises(
        ValueError, match="cannot determine the shape of the model in here.*rel_emb"
    ):
        shapes.config(leaves, "here")
