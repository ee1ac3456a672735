"""Hugging Face folders, written here by name with safetensors and JSON; no torch is needed."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from spjax import trees
from spjax.checkpoints.weights import huggingface, safetensors_files, weights
from spjax.models import T5Config, get_size
from spjax.models.t5 import weight_shapes

V11 = T5Config(40, 8, 2, 3, 12, 2, 3)
V10 = dataclasses.replace(V11, mlp_activations=("relu",), logits_via_embedding=True)

ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
NAMES = {
    "token_embedder/embedding": "shared.weight",
    "decoder/logits_dense/kernel": "lm_head.weight",
    "encoder/encoder_norm/scale": "encoder.final_layer_norm.weight",
    "decoder/decoder_norm/scale": "decoder.final_layer_norm.weight",
}


def hf_name(name):
    """The Hugging Face name of one of our leaves."""
    if name in NAMES:
        return NAMES[name]
    stack, layer, *rest = name.split("/")
    if layer == "relpos_bias":
        return f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    block = f"{stack}.block.{layer.removeprefix('layers_')}.layer"
    last = 1 if stack == "encoder" else 2
    if rest[0].endswith("layer_norm"):
        place = last if "mlp" in rest[0] else int("cross" in rest[0])
        return f"{block}.{place}.layer_norm.weight"
    if rest[0] == "mlp":
        return f"{block}.{last}.DenseReluDense.{rest[1]}.weight"
    cross = rest[0] == "encoder_decoder_attention"
    module = "EncDecAttention" if cross else "SelfAttention"
    return f"{block}.{int(cross)}.{module}.{ATTENTION[rest[1]]}.weight"


def random_leaves(config):
    rng = np.random.default_rng(0)
    shapes = trees.flatten(weight_shapes(config))
    return {k: rng.normal(size=v.shape).astype("float32") for k, v in shapes.items()}


def tensors(leaves):
    turned = ("kernel", "rel_embedding")
    return {
        hf_name(k): np.ascontiguousarray(v.T if k.endswith(turned) else v)
        for k, v in leaves.items()
    }


def write(folder, config, arrays, **changes):
    gated = len(config.mlp_activations) == 2
    content = {
        "model_type": "t5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "num_heads": config.num_heads,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "tie_word_embeddings": config.logits_via_embedding,
        "relative_attention_num_buckets": 32,
        "layer_norm_epsilon": 1e-6,
    } | changes
    folder.mkdir(exist_ok=True)
    content = {k: v for k, v in content.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(content))
    safetensors.numpy.save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    return folder


def read(folder, config=None, dtype="float32", sharding=None):
    """The weights of a folder, by default as the model that it says it is."""
    return weights.read(folder, config or huggingface.read_config(folder), dtype, sharding)


def same(tree, leaves):
    found = trees.flatten(tree)
    assert found.keys() == leaves.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(np.asarray(array), leaves[name], err_msg=name)


@pytest.mark.parametrize("config", [V10, V11], ids=["v1.0", "v1.1"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path, config, dtype, monkeypatch):
    monkeypatch.setattr(safetensors_files, "BLOCK_BYTES", 100)  # a few rows at a time
    leaves = random_leaves(config)
    folder = write(tmp_path / "m", config, tensors(leaves))
    assert huggingface.read_config(folder) == config
    same(read(folder, dtype=dtype), {k: v.astype(dtype) for k, v in leaves.items()})


def test_scanned_and_on_a_mesh(tmp_path):
    leaves = random_leaves(V11)
    folder = write(tmp_path / "m", V11, tensors(leaves))
    scanned = dataclasses.replace(V11, scan_layers=True)
    expected = {k: np.asarray(v) for k, v in trees.flatten(trees.stack_layers(leaves)).items()}
    same(read(folder, scanned), expected)
    mesh = Mesh(np.array(jax.devices()[:4]), ("model",))
    shapes = weight_shapes(scanned)
    split, whole = (NamedSharding(mesh, PartitionSpec(*p)) for p in ((None, None, "model"), ()))
    places = jax.tree.map(lambda x: split if x.ndim == 3 and not x.shape[2] % 4 else whole, shapes)
    tree = read(folder, scanned, sharding=places)
    same(tree, expected)
    kernel = tree["encoder"]["layers"]["mlp"]["wi_0"]["kernel"]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(8, 2, 3)}


def test_shards(tmp_path):
    leaves = random_leaves(V11)
    arrays = tensors(leaves)
    folder = write(tmp_path / "m", V11, arrays)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {}}
    for i, part in enumerate((sorted(arrays)[::2], sorted(arrays)[1::2])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        safetensors.numpy.save_file({name: arrays[name] for name in part}, folder / file)
        index["weight_map"] |= dict.fromkeys(part, file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    same(read(folder), leaves)
    path.write_text(json.dumps({"weight_map": index["weight_map"] | {"x": file}}))
    with pytest.raises(ValueError, match="the shards in .* lack x, which"):
        read(folder)
    path.write_text("{}")
    with pytest.raises(ValueError, match="has no `weight_map`"):
        read(folder)
    path.write_text(json.dumps(index))
    (folder / file).unlink()
    with pytest.raises(ValueError, match="lacks model-00002-of-00002.safetensors, which"):
        read(folder)


def test_aliases_of_the_table_and_unused_tensors(tmp_path):
    leaves = random_leaves(V11)
    arrays = tensors(leaves)
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    arrays[unused] = np.zeros((32, 2), "f")
    arrays["encoder.embed_tokens.weight"] = arrays["shared.weight"]
    same(read(write(tmp_path / "m", V11, arrays)), leaves)
    del arrays["shared.weight"]
    same(read(write(tmp_path / "m", V11, arrays)), leaves)


def head_case(tmp_path, own_head, **changes):
    """(configuration, leaves that were read, what was stored) of one way to store the head."""
    leaves = random_leaves(V11)
    arrays = tensors(leaves)
    if not own_head:
        del arrays["lm_head.weight"]
    folder = write(tmp_path / "m", V11, arrays, **changes)
    return huggingface.read_config(folder), trees.flatten(read(folder)), leaves


@pytest.mark.parametrize(
    "own_head, changes, tied, scale",
    [
        (True, {"tie_word_embeddings": False}, False, 1.0),
        # transformers 5 writes this for an untied model.
        (True, {"tie_word_embeddings": True, "scale_decoder_outputs": False}, False, 1.0),
        (True, {"tie_word_embeddings": True, "scale_decoder_outputs": True}, False, 8**-0.5),
        (False, {"tie_word_embeddings": None}, True, None),
        (False, {"tie_word_embeddings": True, "scale_decoder_outputs": False}, False, 1.0),
        (True, {"model_type": "mt5", "tie_word_embeddings": None}, False, 1.0),
        (True, {"model_type": "mt5", "tie_word_embeddings": True}, False, 1.0),
    ],
)
def test_output_head(tmp_path, own_head, changes, tied, scale):
    config, read, leaves = head_case(tmp_path, own_head, **changes)
    name = "decoder/logits_dense/kernel"
    assert config.logits_via_embedding == tied == (name not in read)
    if not tied:
        head = leaves[name] if own_head else leaves["token_embedder/embedding"].T
        np.testing.assert_array_equal(read[name], head * np.float32(scale))


def test_a_head_that_equals_the_table_is_tied(tmp_path):
    leaves = random_leaves(V10)
    arrays = tensors(leaves)
    folder = write(tmp_path / "m", V10, arrays | {"lm_head.weight": arrays["shared.weight"]})
    assert huggingface.read_config(folder) == V10
    same(read(folder), leaves)


def test_published_sizes_are_rows_of_the_table(tmp_path):
    row = get_size("t5_1_1_xl")
    folder = write(tmp_path / "m", row, {"lm_head.weight": np.zeros((1, 1), "f")})
    assert huggingface.size_name(huggingface.read_config(folder)) == "t5_1_1_xl"
    mt5 = write(tmp_path / "m", row, {}, model_type="mt5", vocab_size=250112)
    config = huggingface.read_config(mt5)
    assert huggingface.size_name(config) is None and config.vocab_size == 250112


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "umt5"}, "model_type='umt5'"),
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj='gated-silu'"),
        ({"relative_attention_num_buckets": 16}, "relative_attention_num_buckets=16"),
        ({"d_ff": None}, "no number for d_ff"),
    ],
)
def test_other_models_are_refused(tmp_path, changes, message):
    folder = write(tmp_path / "m", V11, tensors(random_leaves(V11)), **changes)
    with pytest.raises(ValueError, match=f"a model that spjax cannot run: {message}"):
        read(folder)


def test_names_shapes_and_arithmetic_must_match(tmp_path):
    arrays = tensors(random_leaves(V11))
    lost, extra = "encoder.block.1.layer.1.DenseReluDense.wo.weight", "adapter.weight"
    changed = {k: v for k, v in arrays.items() if k != lost} | {extra: np.zeros(3, "f")}
    message = "missing: encoder/layers_1/mlp/wo/kernel; unexpected: adapter.weight"
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "m", V11, changed))
    del changed[extra], changed["lm_head.weight"]
    with pytest.raises(ValueError, match="missing: decoder/logits_dense/kernel, encoder/layers_1"):
        read(write(tmp_path / "m", V11, changed))
    folder = write(tmp_path / "m", V11, arrays)
    with pytest.raises(ValueError, match=r"has shape \(8, 12\), not \(8, 20\)"):
        read(folder, dataclasses.replace(V11, mlp_dim=20))
    with pytest.raises(ValueError, match="num_heads=2, not 3"):
        read(folder, dataclasses.replace(V11, num_heads=3, head_dim=2))
    with pytest.raises(ValueError, match="cannot be read as 'float16'"):
        read(folder, dtype="float16")


def test_damaged_folders(tmp_path):
    folder = write(tmp_path / "m", V11, tensors(random_leaves(V11)))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="cannot read the weights"):
        read(folder)
    path.unlink()
    with pytest.raises(ValueError, match="has none of model.safetensors, .*pytorch_model.bin"):
        read(folder)
    write(folder, V11, {"shared.weight": np.zeros((40, 8), "int8")})
    with pytest.raises(ValueError, match="stored as I8; weights may be stored as"):
        read(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="not a JSON object"):
        read(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read .*config.json"):
        read(folder)


def test_load_tells_the_folder_apart(tmp_path, monkeypatch):
    leaves = random_leaves(V11)
    folder = str(write(tmp_path / "m", V11, tensors(leaves)))
    monkeypatch.setattr(weights, "get_size", lambda name: V11)
    assert weights.kind(folder) == "huggingface"
    same(weights.load("tiny", folder), leaves)
