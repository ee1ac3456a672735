"""A model's vocabulary is what its checkpoint says, or nothing."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import pytest
import safetensors.numpy
from sentencepiece import sentencepiece_model_pb2

from spjax import config
from spjax.api.models import find_vocabulary
from spjax.checkpoints import model_vocabulary
from spjax.checkpoints.weights import convert, weights
from spjax.models import get_size
from spjax.models.t5 import init_weights
from spjax.vocabularies import vocabulary

POCKET = vocabulary.load_vocabulary("pocket")


def checkpoint_with(rows: int, path: Path) -> str:
    """A tiny T5 whose embedding has some number of rows, as a Hugging Face folder."""
    size = dataclasses.replace(
        get_size("pocket_50k"), vocab_size=rows, emb_dim=8, mlp_dim=8, num_heads=2, head_dim=4
    )
    weights.save(path / "w.safetensors", init_weights(size, jax.random.key(0)), {}, "float32")
    folder = convert.convert(str(path / "w.safetensors"), path / "model", "huggingface")
    return str(folder)


def of(checkpoint: str) -> str:
    return model_vocabulary.of("auto", checkpoint)


def test_rows_decide_where_no_file_says_anything(tmp_path: Path, checkpoint: str) -> None:
    assert model_vocabulary.of("pocket_50k") == of(checkpoint) == "pocket"
    assert model_vocabulary.of("t5_1_1_small", "gs://no/such/checkpoint_1") == "t5"
    folder = checkpoint_with(32128, tmp_path)
    assert of(folder) == "t5"
    assert of(str(tmp_path / "w.safetensors")) == "t5"
    with pytest.raises(ValueError, match="has 32100 ids .* only 1152 rows.*--vocabulary=PATH"):
        find_vocabulary("t5", "auto", checkpoint)


@pytest.mark.parametrize("rows", [32000, 32256])
def test_other_rows_are_refused(rows: int, tmp_path: Path) -> None:
    folder = checkpoint_with(rows, tmp_path)
    message = f"no spiece.model beside .* {rows:,} rows .*32,100 of t5.*--vocabulary=PATH"
    for find in (lambda: of(folder), lambda: find_vocabulary("", "auto", folder)):
        with pytest.raises(ValueError, match=message):
            find()
    fits = rows >= 32100
    if fits:
        assert find_vocabulary("t5", "auto", folder).size == 32100
    gin = [
        f"gin_configs/{name}.gin"
        for name in ("models/t5_1_1", "runs/pocket", "methods/prompt_tuning")
    ]
    bindings = [
        "MODEL_SIZE = auto",
        f"INITIAL_CHECKPOINT_PATH = '{folder}'",
        "PROMPT_LENGTH = 2",
        "MIXTURE_OR_TASK_NAME = 'pocket_cb'",
    ]
    run = config.load("Run", gin, bindings)
    with pytest.raises(ValueError, match="--gin.Run.vocabulary=PATH"):
        _ = run.resolved_vocabulary
    named = config.load("Run", gin, [*bindings, "Run.vocabulary = t5"])
    assert named.resolved_vocabulary == "t5"
    assert "Run.vocabulary" not in config.config_str(run)
    assert "Run.vocabulary = 't5'" in config.config_str(named)
    assert config.run_key(named) != config.run_key(run)


def test_the_file_beside_has_to_fit_its_rows(tmp_path: Path) -> None:
    folder = Path(checkpoint_with(1152, tmp_path))
    shutil.copy(POCKET.path, folder / "spiece.model")
    assert of(str(folder)) == str(folder / "spiece.model")
    for rows, extra in ((1052, 0), (1280, 200)):  # tight, and more sentinels
        (tmp_path / f"{rows}").mkdir()
        other = Path(checkpoint_with(rows, tmp_path / f"{rows}"))
        shutil.copy(POCKET.path, other / "spiece.model")
        message = "only 1052 rows.*extra_ids" if not extra else "1,280 rows, more than rounding up"
        with pytest.raises(ValueError, match=message):
            of(str(other))
        (other / "tokenizer_config.json").write_text(f'{{"extra_ids": {extra}}}')
        vocabulary.load_vocabulary.cache_clear()
        assert find_vocabulary("", "auto", str(other)).size == 1052 + extra
        copied = convert.convert(str(other), tmp_path / f"copy{rows}", "huggingface")
        assert find_vocabulary("", "auto", str(copied)).size == 1052 + extra


def test_a_vocabulary_with_sentinels_of_its_own(tmp_path: Path) -> None:
    folder = Path(checkpoint_with(1152, tmp_path))
    model = sentencepiece_model_pb2.ModelProto.FromString(POCKET.path.read_bytes())
    for number in reversed(range(100)):
        model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=4)
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    words = find_vocabulary("", "auto", str(folder))
    assert words.sentinel(0) == 1151 and words.size == 1152
    assert words.encode("the bird") == POCKET.encode("the bird")


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"}, r"\(BertTokenizer\)"),
        ("vocab.json", {}, "vocab.json"),
        ("german.model", {}, "german.model"),
    ],
)
def test_other_tokenizers_are_named(name: str, content: dict, named: str, tmp_path: Path) -> None:
    folder = checkpoint_with(32128, tmp_path)
    Path(folder, name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"no spiece.model .* but .*{named}.*--vocabulary=PATH"):
        of(folder)


@pytest.mark.parametrize("key", ["eos_token_id", "pad_token_id", "decoder_start_token_id"])
def test_special_ids_of_the_config_are_compared(key: str, tmp_path: Path) -> None:
    folder = Path(checkpoint_with(32128, tmp_path))
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {key: 250}))
    with pytest.raises(ValueError, match=f"spjax cannot run: {key}=250"):
        weights._config.cache_clear()
        of(str(folder))


def test_other_relative_position_buckets_are_refused(tmp_path: Path) -> None:
    folder = Path(checkpoint_with(32128, tmp_path))
    tree = weights.load("auto", str(tmp_path / "w.safetensors"))
    table = tree["encoder"]["relpos_bias"]["rel_embedding"]
    tree["encoder"]["relpos_bias"]["rel_embedding"] = table[:, :16]
    weights.save(tmp_path / "other.safetensors", tree, {}, "float32")
    with pytest.raises(ValueError, match="has 16 buckets of relative positions .* with 32"):
        of(str(tmp_path / "other.safetensors"))
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    arrays[name] = arrays[name][:16].copy()
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"relative_attention_bias.weight of shape \(16, 2\)"):
        weights._config.cache_clear()
        of(str(folder))
