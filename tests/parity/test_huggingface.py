"""Logits of models that transformers saved, in transformers and in spjax.

Needs torch and transformers; tried with torch 2.13.0 and transformers 5.23.0.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.checkpoints.weights import convert, weights
from spjax.models import T5, T5Config
from spjax.models.t5 import init_weights
from spjax.types import Batch

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SHAPE = {
    "vocab_size": 64,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 3,
    "decoder_start_token_id": 0,
}
# Flan-T5 and the LM-adapted models have the shapes and the arithmetic of T5 1.1.
FAMILIES = {
    "v1.0": ("T5", {"feed_forward_proj": "relu"}),
    "v1.1": ("T5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": ("MT5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}


def save(family, folder, shards):
    """A random model of a family, saved by transformers."""
    torch.manual_seed(0)
    kind, changes = FAMILIES[family]
    config = getattr(transformers, f"{kind}Config")(**SHAPE, **changes)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    if changes.get("tie_word_embeddings") is False:
        # transformers 5 ties the head of a model that is made from its config alone.
        model.lm_head.weight = torch.nn.Parameter(torch.empty(64, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    model.save_pretrained(folder, **({"max_shard_size": "8KB"} if shards else {}))
    return getattr(transformers, f"{kind}ForConditionalGeneration")


def batch():
    """Rows of unequal length, padded at the end."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, 64, (4, 150)).astype("int32")
    targets = rng.integers(2, 64, (4, 7)).astype("int32")
    lengths = np.array([[150], [9], [64], [1]])
    segments = (np.arange(150)[None] < lengths).astype("int32")
    one = np.zeros((4, 1), "int32")
    ones = np.ones_like(targets)
    return Batch(inputs * segments, -np.ones_like(inputs), segments, targets, ones, one, one)


def hub_logits(model, rows):
    """Logits of a model of transformers."""
    moved = np.pad(rows.targets_BM[:, :-1], ((0, 0), (1, 0)))
    with torch.no_grad():
        return model(
            input_ids=torch.tensor(rows.inputs_BL).long(),
            attention_mask=torch.tensor(rows.input_segments_BL).long(),
            decoder_input_ids=torch.tensor(moved).long(),
        ).logits.numpy()


def own_logits(config, tree, rows):
    """Logits of the same model here."""
    with jax.default_matmul_precision("float32"):
        return np.asarray(T5(config).apply({"params": tree}, jax.tree.map(jnp.asarray, rows)))


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits(tmp_path, family, shards):
    model = save(family, tmp_path, shards).from_pretrained(tmp_path).eval()
    rows = batch()
    expected = hub_logits(model, rows)
    config = weights.config_of("auto", str(tmp_path))
    assert config.logits_via_embedding == (family == "v1.0")
    tree = weights.load("auto", str(tmp_path))
    difference = np.abs(own_logits(config, tree, rows) - expected).max()
    print(f"{family}: max |logit| {np.abs(expected).max():.3f}, difference {difference:.2e}")
    assert difference < 1e-4


@pytest.mark.parametrize("tied", [False, True], ids=["t5_1_1", "t5_1_0"])
def test_logits_of_what_is_written(tmp_path, tied):
    config = T5Config(64, 16, 3, 4, 24, 2, 3, logits_via_embedding=tied)
    if tied:
        config = dataclasses.replace(config, mlp_activations=("relu",))
    tree = init_weights(config, jax.random.key(0))
    weights.save(tmp_path / "w.safetensors", tree, {}, dtype="float32")
    folder = convert.convert(str(tmp_path / "w.safetensors"), tmp_path / "hf", "huggingface")
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    expected, found = hub_logits(model, batch()), own_logits(config, tree, batch())
    assert np.abs(expected).max() > 0.1
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("kind", ["whole", "sharded", "bfloat16", "before_1.6"])
def test_pickled_weights_are_those_of_safetensors(kind, tmp_path):
    save("v1.1", tmp_path, shards=False)
    expected = weights.digest(weights.load("auto", str(tmp_path)))
    file = tmp_path / "model.safetensors"
    tensors = safetensors_torch.load_file(file)
    if kind == "bfloat16":
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
        safetensors_torch.save_file(tensors, file, {"format": "pt"})
        expected = weights.digest(weights.load("auto", str(tmp_path)))
    file.unlink()
    if kind == "sharded":
        names = sorted(tensors)
        parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
        for part, some in parts.items():
            torch.save({name: tensors[name] for name in some}, tmp_path / part)
        places = {name: part for part, some in parts.items() for name in some}
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": places}))
    else:
        path = tmp_path / "pytorch_model.bin"
        torch.save(tensors, path, _use_new_zipfile_serialization=kind != "before_1.6")
    assert weights.digest(weights.load("auto", str(tmp_path))) == expected


def test_pickles_run_no_code(tmp_path):
    save("v1.1", tmp_path, shards=False)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"shared.weight": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="cannot read .*pytorch_model.bin: Weights only load failed"
    ):
        weights.load("auto", str(tmp_path))
    torch.save({"shared.weight": torch.ones(2, dtype=torch.int8)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="stored as int8"):
        weights.load("auto", str(tmp_path))
