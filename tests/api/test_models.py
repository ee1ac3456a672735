"""Models by name, path and URL."""

import shutil

import jax
import numpy as np
import pytest

import spjax
from spjax.api.models import run_settings
from spjax.checkpoints import frozen_model, model_vocabulary
from spjax.checkpoints.weights import weights


def test_a_size(model):
    assert model.name == "pocket_50k" and model.checkpoint == "" and model.dtype == "float32"
    assert model.config.emb_dim == 16 and len(model.digest) == 64
    assert model.vocabulary.decode(model.vocabulary.encode("the old tree")) == "the old tree"


def test_a_file_and_a_folder(model, tmp_path):
    file = tmp_path / "weights.safetensors"
    shutil.copy(weights.find("pocket_50k"), file)
    own = spjax.load_model(file)
    assert own.name == "auto" and own.config == model.config and own.digest == model.digest
    sized = spjax.load_model("pocket_50k", checkpoint=file)
    assert sized.name == "pocket_50k" and sized.checkpoint == str(file)


def test_dtype_and_mesh(model):
    small = spjax.load_model("pocket_50k", dtype="int8")
    kinds = {leaf.dtype for leaf in jax.tree.leaves(small.weights)}
    assert np.dtype("int8") in kinds and small.digest != model.digest
    spread = spjax.load_model("pocket_50k", num_partitions=2, logical_axis_rules="fsdp")
    assert dict(spread.placement.mesh.shape) == {"data": 2, "model": 2}
    assert spread.digest == model.digest


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("pocket_51k", {}, "unknown model 'pocket_51k': neither a known size .*pocket_50k.* nor"),
        ("google/flan-t5-base", {}, r"Did you mean 'hf://google/flan-t5-base'\?$"),
        ("absent/folder", {}, "unknown model 'absent/folder': neither a known size"),
        (
            "t5_1_1_base",
            {},
            "no weights ship for 't5_1_1_base'.*Give its checkpoint as checkpoint=",
        ),
        ("typo", {"checkpoint": "x"}, "'x' is given for the model 'typo', which is no known size"),
        ("pocket_50k", {"dtype": "float16"}, "float16"),
        ("pocket_50k", {"checkpoint": "absent"}, "the checkpoint 'absent' .absent. is not a"),
        ("pocket_50k", {"num_partitions": 2}, "^num_partitions is 2, and no rule of"),
        ("pocket_50k", {"vocabulary": "absent.model"}, "absent.model"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ValueError, match=message):
        spjax.load_model(name, **options)


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="the checkpoint .* is not a .safetensors file or another"):
        spjax.load_model(tmp_path)


def test_words_of_messages_are_not_cut_apart():
    from spjax.api.messages import reword

    command = "train it with `spjax train --gin_file=/r/config.gin` and another MODEL_DIR"
    assert reword(command).endswith("`spjax train --gin_file=/r/config.gin` and another output_dir")
    assert reword("EVAL_BATCH_SIZE and BATCH_SIZE") == "EVAL_BATCH_SIZE and batch_size"


def test_a_model_is_found_again_however_it_is_spelled(model):
    from spjax import partitioning

    path = model.vocabulary.path
    rules = partitioning.rules_of("data_parallel")
    for settings in ({"vocabulary": path}, {"logical_axis_rules": rules}):
        assert spjax.load_model("pocket_50k", **settings) is model
    spelled = spjax.load_model("pocket_50k", vocabulary=path, dtype="bfloat16")
    settings = run_settings(spelled)
    dtype = settings.pop("weights_dtype")
    assert frozen_model.open_shared(settings.pop("model"), dtype=dtype, **settings) is spelled


def test_a_vocabulary_that_only_the_caller_knows(model, monkeypatch):
    def refuse(*args):
        raise ValueError("the vocabulary cannot be determined")

    path = model.vocabulary.path
    monkeypatch.setattr(model_vocabulary, "of", refuse)
    spelled = spjax.load_model("pocket_50k", vocabulary=path)
    assert run_settings(spelled)["vocabulary"] == str(path)
