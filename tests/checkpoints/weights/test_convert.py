"""Frozen weights from one format to another."""

import json
import shutil

import flax.serialization
import jax
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints.weights import convert, weights
from spjax.cli import main
from spjax.models import T5Config, quantization
from spjax.models.t5 import weight_shapes
from spjax.vocabularies.vocabulary import load_vocabulary

V11 = T5Config(40, 8, 2, 3, 12, 2, 3)
V10 = T5Config(40, 8, 2, 4, 12, 2, 2, mlp_activations=("relu",), logits_via_embedding=True)


def random_tree(config):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), weight_shapes(config))


def stored(tmp_path, config):
    """A safetensors file with T5X's names."""
    path = tmp_path / "w.safetensors"
    weights.save(path, random_tree(config), {}, dtype="float32")
    return str(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [V11, V10], ids=["t5_1_1", "t5_1_0"])
def test_there_and_back(tmp_path, config, dtype):
    folder = convert.convert(stored(tmp_path, config), tmp_path / "hf", "huggingface", dtype)
    assert weights.kind(str(folder)) == "huggingface"
    assert weights.config_of("auto", str(folder)) == config
    expected = {k: v.astype(dtype) for k, v in trees.flatten(random_tree(config)).items()}
    found = trees.flatten(weights.load("auto", str(folder), dtype))
    for name, array in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array, err_msg=name)
    back = convert.convert(str(folder), tmp_path / "b.safetensors", "safetensors", dtype)
    assert weights.digest(weights.read(back, config, dtype)) == weights.digest(expected)


def t5x_folder(tmp_path, extra):
    """A T5X checkpoint whose arrays all stand in its index."""
    target = trees.flatten(random_tree(V11)) | extra
    index = {"version": 3, "optimizer": {"target": trees.unflatten(target), "state": {}}}
    (tmp_path / "checkpoint_5").mkdir()
    data = flax.serialization.msgpack_serialize(index)
    (tmp_path / "checkpoint_5" / "checkpoint").write_bytes(data)
    return str(tmp_path / "checkpoint_5")


def call(capsys, *args):
    code = main.main(("convert", *args))
    out, err = capsys.readouterr()
    return code, out.strip(), err


def test_the_command_tells_weights_from_prompts(capsys, tmp_path):
    prompt = {"encoder/prompt/prompt/prompt": np.ones((3, 8), "f")}
    source, out = t5x_folder(tmp_path, prompt), str(tmp_path / "a.safetensors")
    code, made, _ = call(capsys, source, out, "--format=safetensors")
    assert code == 0 and "prompt" in made or not convert.is_weights(made)
    code, made, _ = call(capsys, source, out, "--format=safetensors", "--dtype=int8")
    assert code == 0 and convert.is_weights(made)
    table = weights.load("auto", made, "int8")["token_embedder"]["embedding"]
    exact = quantization.quantize(random_tree(V11)["token_embedder"]["embedding"], -1)
    np.testing.assert_array_equal(table.values, exact.values)
    code, made, _ = call(capsys, made, str(tmp_path / "hf"), "--format=huggingface")
    assert code == 0 and weights.config_of("auto", made) == V11
    code, made, _ = call(capsys, made, str(tmp_path / "b.safetensors"), "--format=safetensors")
    assert code == 0 and convert.is_weights(made)


def test_mistakes(capsys, tmp_path):
    source = stored(tmp_path, V11)
    for args, message in [
        ((source, "x", "--format=peft"), "cannot be written as 'peft'; use one of safetensors, hu"),
        ((source, "x", "--format=huggingface", "--dtype=int8"), "no place for the scales of int8"),
        ((source, source + "/x", "--format=safetensors"), "cannot convert"),
        ((str(tmp_path / "no"), "x", "--format=safetensors", "--dtype=int8"), "(absent)"),
        ((str(tmp_path / "no"), "x", "--format=npy"), "cannot read"),
    ]:
        code, _, err = call(capsys, *args)
        assert code == 2 and message in err, err


def test_the_vocabulary_goes_along(tmp_path):
    source = stored(tmp_path, V11)
    (tmp_path / "spiece.model").write_bytes(load_vocabulary("pocket").path.read_bytes())
    assert weights.vocabulary_of(source) == str(tmp_path / "spiece.model")
    folder = convert.convert(source, tmp_path / "hf", "huggingface")
    assert weights.vocabulary_of(str(folder)) == str(folder / "spiece.model")
    (folder / "spiece.model").unlink()
    assert weights.vocabulary_of(str(folder)) == weights.vocabulary_of("") == ""


def test_mt5_and_flan_tell_their_shape(tmp_path):
    """The configurations that the hub has for them, of which no row of the table exists."""
    common = {"d_model": 512, "d_kv": 64, "num_layers": 8, "num_heads": 6, "d_ff": 1024}
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    for changes, config in [
        (
            {"model_type": "mt5", "vocab_size": 250112, **gated},
            T5Config(250112, 512, 6, 64, 1024, 8, 8),
        ),
        (
            {"model_type": "t5", "vocab_size": 32128, **gated, "num_decoder_layers": 8},
            T5Config(32128, 512, 6, 64, 1024, 8, 8),
        ),
        (
            {"model_type": "t5", "vocab_size": 32128, "num_heads": 8, "d_ff": 2048},
            T5Config(32128, 512, 8, 64, 2048, 8, 8, ("relu",), True),
        ),
    ]:
        folder = tmp_path / "m"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(common | changes))
        weights.safetensors_files.write(folder / "model.safetensors", {}, "float32", {})
        weights._config.cache_clear()
        assert weights.config_of("auto", str(folder)) == config
