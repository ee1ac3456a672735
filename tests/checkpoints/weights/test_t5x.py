"""Checkpoints as T5X writes them, made here with its ingredients: msgpack, zarr and Orbax."""

import dataclasses
import functools
import http.server
import json
import shutil
import threading

import flax.serialization
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from spjax import trees
from spjax.checkpoints.weights import stored_array, t5x, weights
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes
from tests.t5x_files import write

CONFIG = T5Config(40, 8, 2, 3, 12, 2, 3)
SCANNED = dataclasses.replace(CONFIG, scan_layers=True)


def random_leaves(config=CONFIG):
    rng = np.random.default_rng(0)
    shapes = trees.flatten(weight_shapes(config))
    return {k: rng.normal(size=v.shape).astype("float32") for k, v in shapes.items()}


LEAVES = random_leaves()
PROMPT = np.random.default_rng(1).normal(size=(5, 8)).astype("float32")
EMBEDDING = "token_embedder/embedding"


def same(tree, leaves=LEAVES):
    found = trees.flatten(tree)
    assert found.keys() == leaves.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(np.asarray(array), leaves[name], err_msg=name)


@pytest.mark.parametrize("version", t5x.VERSIONS)
@pytest.mark.parametrize("driver, outside", [("file", False), ("gfile", True), ("gcs", True)])
def test_versions_and_drivers(tmp_path, version, driver, outside):
    same(weights.read(write(tmp_path / "c", LEAVES, version, driver, outside), CONFIG))


def test_old_bfloat16_is_read_by_its_bits(tmp_path):
    halved = {k: v.astype("bfloat16") for k, v in LEAVES.items()}
    path = write(tmp_path / "c", {k: v.view("uint16") for k, v in halved.items()}, version=2)
    same(weights.read(path, CONFIG, "bfloat16"), halved)
    same(weights.read(path, CONFIG), {k: v.astype("float32") for k, v in halved.items()})
    path = write(tmp_path / "d", {k: v.view("uint16") for k, v in halved.items()}, version=3)
    with pytest.raises(ValueError, match="stored as uint16; weights may be stored as"):
        weights.read(path, CONFIG)


def test_conversion_to_bfloat16_and_refusal_of_float16(tmp_path):
    path = write(tmp_path / "c", LEAVES)
    halved = {k: v.astype("bfloat16") for k, v in LEAVES.items()}
    same(weights.read(path, CONFIG, "bfloat16"), halved)
    with pytest.raises(ValueError, match="cannot be read as 'float16'.*overflows"):
        weights.read(path, CONFIG, "float16")


def scanned_as_t5x(leaves):
    """The names of `scalable_t5`: `encoder/encoder/...`, with the bias table in every layer."""
    result = {}
    for name, array in leaves.items():
        stack, _, rest = name.partition("/")
        if rest.startswith("layers/"):
            result[f"{stack}/{stack}/{rest.removeprefix('layers/')}"] = array
        elif rest.startswith("relpos_bias"):
            count = CONFIG.num_encoder_layers if stack == "encoder" else CONFIG.num_decoder_layers
            result[f"{stack}/{stack}/{rest}"] = np.stack([array] * count, axis=1)
        else:
            result[name] = array
    return result


@pytest.mark.parametrize("read_as", [CONFIG, SCANNED])
@pytest.mark.parametrize("stored_as", ["unrolled", "scanned", "scalable_t5"])
def test_layouts(tmp_path, stored_as, read_as):
    scanned = {k: np.asarray(v) for k, v in trees.flatten(trees.stack_layers(LEAVES)).items()}
    written = {"unrolled": LEAVES, "scanned": scanned, "scalable_t5": scanned_as_t5x(scanned)}
    path = write(tmp_path / "c", written[stored_as])
    same(weights.read(path, read_as), LEAVES if read_as == CONFIG else scanned)


def test_a_bias_table_per_layer_is_another_architecture(tmp_path):
    scanned = {k: np.asarray(v) for k, v in trees.flatten(trees.stack_layers(LEAVES)).items()}
    leaves = scanned_as_t5x(scanned)
    leaves["encoder/encoder/relpos_bias/rel_embedding"][0, 1] += 1
    with pytest.raises(ValueError, match="different tables of relative positions.*UMT5"):
        weights.read(write(tmp_path / "c", leaves), CONFIG)


def test_prompts_inside_are_separate(tmp_path):
    name = "encoder/prompt/prompt/prompt"
    path = write(tmp_path / "c", LEAVES | {name: PROMPT})
    same(weights.read(path, CONFIG))
    same(t5x.read_prompts(path), {name: PROMPT})
    assert t5x.read_prompts(write(tmp_path / "d", LEAVES)) == {}
    shutil.rmtree(path / "target.encoder.prompt.prompt.prompt")
    with pytest.raises(ValueError, match="cannot read the T5X checkpoint"):
        t5x.read_prompts(path)
    path = write(tmp_path / "e", LEAVES | {name: PROMPT})
    (path / "target.encoder.prompt.prompt.prompt" / "0.0").unlink()
    with pytest.raises(ValueError, match="cannot read the prompts of .*missing"):
        t5x.read_prompts(path)


@pytest.mark.parametrize("ocdbt", [True, False])
def test_orbax_layout(tmp_path, ocdbt):
    state = {"target": trees.unflatten(LEAVES), "state": {"step": np.int32(3)}}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as writer:
        writer.save(tmp_path / "checkpoint_3" / "state", state)
    same(weights.read(tmp_path / "checkpoint_3", CONFIG))
    halved = {k: v.astype("bfloat16") for k, v in LEAVES.items()}
    same(weights.read(tmp_path / "checkpoint_3" / "state", CONFIG, "bfloat16"), halved)
    assert weights.kind(str(tmp_path / "checkpoint_3")) == "t5x"


def test_orbax_of_parameters_alone(tmp_path):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        writer.save(tmp_path / "c", trees.unflatten(LEAVES))
    same(weights.read(tmp_path / "c", CONFIG))


def test_first_orbax_layout_with_placeholders(tmp_path):
    def change(index):
        target = trees.flatten(index["optimizer"]["target"])
        specs = {k for k in target if "/driver" in k or "/kvstore" in k or "/metadata" in k}
        names = {k for k in LEAVES if any(s.startswith(k + "/") for s in specs)}
        kept = {k: LEAVES[k] for k in LEAVES.keys() - names}
        links = {k: f"PLACEHOLDER://target.{k.replace('/', '.')}" for k in names}
        return {"_optimizer": {"target": trees.unflatten(kept | links)}, "params_axes": None}

    same(weights.read(write(tmp_path / "c", LEAVES, change=change), CONFIG))


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_a_url_is_read_like_a_folder(tmp_path):
    path = write(tmp_path / "c", LEAVES, driver="gcs", outside=True)
    handler = functools.partial(_Silent, directory=str(path))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        same(weights.read(f"http://localhost:{server.server_address[1]}", CONFIG))
        server.shutdown()


def test_on_a_mesh_devices_read_their_own_slices(tmp_path, monkeypatch):
    path = write(tmp_path / "c", LEAVES)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    replicated = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("model", None))
    places = jax.tree.map(
        lambda x: split if x.ndim == 2 and x.shape[0] % 2 == 0 else replicated,
        weight_shapes(CONFIG),
    )
    read, sizes = stored_array.StoredArray.read, []

    def spy(self, dtype="float32", index=None):
        result = read(self, dtype, index)
        sizes.append((self.shape, result.shape))
        return result

    monkeypatch.setattr(stored_array.StoredArray, "read", spy)
    tree = weights.read(path, CONFIG, sharding=places)
    same(tree)
    embedding = tree["token_embedder"]["embedding"]
    assert embedding.sharding == split
    assert embedding.addressable_shards[0].data.shape == (20, 8)
    # Two slices, each read once although two devices hold it.
    assert [part for whole, part in sizes if whole == (40, 8)] == [(20, 8), (20, 8)]
    same(weights.read(path, CONFIG, sharding=replicated))


def test_names_and_shapes_must_match(tmp_path):
    leaves = dict(LEAVES)
    leaves["decoder/extra/kernel"] = leaves.pop("decoder/logits_dense/kernel")
    path = write(tmp_path / "c", leaves)
    message = "missing: decoder/logits_dense/kernel; unexpected: decoder/extra/kernel"
    with pytest.raises(ValueError, match=message):
        weights.read(path, CONFIG)
    with pytest.raises(ValueError, match=r"has shape \(8, 12\), not \(8, 13\)"):
        weights.read(write(tmp_path / "d", LEAVES), dataclasses.replace(CONFIG, mlp_dim=13))
    del leaves["decoder/extra/kernel"], leaves["decoder/layers_1/mlp/wo/kernel"]
    with pytest.raises(ValueError, match="missing: decoder/layers_1/mlp/wo/kernel, decoder/logits"):
        weights.read(write(tmp_path / "e", leaves), SCANNED)


def change_spec(key, value):
    def change(index):
        spec = index["optimizer"]["target"]["token_embedder"]["embedding"]
        spec[key] = {**spec[key], **value} if isinstance(value, dict) else value
        return index

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda index: index | {"version": 4}, "has version 4 of the T5X format; supported are 0"),
        (lambda index: {"version": 3, "optimizer": {"state": {}}}, "has no `target`"),
        (change_spec("metadata", {"shape": [41, 8]}), r"\(40, 8\), but the index says \(41, 8\)"),
        (change_spec("driver", "n5"), "driver 'n5' and path"),
        (change_spec("kvstore", {"path": ""}), "path ''|path None"),
        (change_spec("kvstore", {"path": "target.none"}), "cannot read the T5X checkpoint"),
    ],
)
def test_damaged_index(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        weights.read(write(tmp_path / "c", LEAVES, change=change), CONFIG)


def test_unreadable_index(tmp_path):
    path = write(tmp_path / "c", LEAVES)
    data = (path / "checkpoint").read_bytes()
    (path / "checkpoint").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="the index .* is damaged"):
        weights.read(path, CONFIG)
    (path / "checkpoint").write_bytes(flax.serialization.msgpack_serialize({"target": {"a": 1}}))
    with pytest.raises(ValueError, match="a in the index .* neither an array .* but int"):
        weights.read(path, CONFIG)


def test_damaged_arrays(tmp_path):
    path = write(tmp_path / "c", LEAVES)
    chunk = path / "target.token_embedder.embedding" / "1.0"
    data = chunk.read_bytes()
    chunk.write_bytes(data[:20])
    with pytest.raises(ValueError, match="cannot read token_embedder/embedding of .* damaged"):
        weights.read(path, CONFIG)
    chunk.unlink()
    with pytest.raises(ValueError, match="chunk .* is missing"):
        weights.read(path, CONFIG)
    metadata = chunk.with_name(".zarray")
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"dtype": "<i4"}))
    with pytest.raises(ValueError, match="stored as int32"):
        weights.read(path, CONFIG)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a T5X checkpoint.*checkpoint_{step}"):
        t5x.open_arrays(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    message = r"a folder with pytorch_model.bin\).*Give a .safetensors file.*T5X.*Hugging Face"
    with pytest.raises(ValueError, match=message):
        weights.find("t5_1_1_small", str(tmp_path))
    with pytest.raises(ValueError, match="another kind of file"):
        weights.find("t5_1_1_small", str(tmp_path / "pytorch_model.bin"))
    with pytest.raises(ValueError, match=r"\(absent\)"):
        weights.find("t5_1_1_small", str(tmp_path / "none"))


def test_load_and_fingerprint_take_the_folder(tmp_path, monkeypatch):
    path = write(tmp_path / "c", LEAVES)
    monkeypatch.setattr(weights, "get_size", lambda name: CONFIG)
    same(weights.load("tiny", str(path)))
    before = weights.fingerprint("tiny", str(path))
    assert before == weights.fingerprint("tiny", str(shutil.copytree(path, tmp_path / "copy")))
    (path / "target.token_embedder.embedding" / "0.0").write_bytes(b"x")
    assert weights.fingerprint("tiny", str(path)) != before
    assert weights.fingerprint("tiny", "gs://bucket/c") != weights.fingerprint("tiny", "gs://b/d")
