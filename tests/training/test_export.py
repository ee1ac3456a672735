"""Weights that a run has changed become a checkpoint that answers as the run does."""

import dataclasses

import jax
import numpy as np
import pytest

from spjax import config
from spjax.api.models import find_vocabulary
from spjax.checkpoints.weights import convert, weights
from spjax.cli import main
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.training import run_files, schedule, trainer


@pytest.mark.slow
def test_full_fine_tuning_is_exported(run, tmp_path, capsys):
    run = dataclasses.replace(run, method=FullFineTuning())
    folder, base, rng = tmp_path / "run", run.open_model().weights, np.random.default_rng(0)
    state = trainer.init_state([run.method], [run.seed], run.optimizer, base)
    trained = jax.tree.map(lambda x: x[0] + np.float32(rng.normal()), state.trainable)
    slots = jax.tree.map(lambda x: x[0], state.optimizer)
    checkpoints = run_files.Checkpoints(folder)
    standing = schedule.Standing(step=2, best_step=2, best={"score": 1.0})
    checkpoints.save({"trainable": trained, "optimizer": slots}, standing)
    checkpoints.close()
    (folder / "config.gin").write_text(config.config_str(run))
    (folder / "result.json").write_text('{"method": "full_fine_tuning"}')
    for format, name in (("huggingface", "hf"), ("safetensors", "tuned.safetensors")):
        out = str(tmp_path / name)
        assert main.main(["convert", str(folder), out, f"--format={format}"]) == 0
        assert weights.config_of("auto", out) == weights.config_of(run.model)
        assert weights.digest(weights.load("auto", out)) == weights.digest(trained)
    assert convert.is_weights(out)
    # A folder that can be opened without another word.
    assert find_vocabulary("", "auto", str(tmp_path / "hf")).size == 1152
    flags = ["--format=safetensors", "--vocabulary=pocket"]
    assert main.main(["convert", str(folder), str(tmp_path / "x"), *flags]) == 2
    assert "--vocabulary=pocket goes into a Hugging Face folder" in capsys.readouterr().err
    assert main.main(["convert", str(folder), str(tmp_path / "x"), "--format=npy"]) == 2
    assert "weights cannot be written as 'npy'; use one of" in capsys.readouterr().err


def test_a_run_that_leaves_the_weights_alone_has_none(run, tmp_path, capsys):
    (tmp_path / "config.gin").write_text(config.config_str(run))
    (tmp_path / "result.json").write_text('{"method": "prompt_tuning"}')
    for flags in (["--format=huggingface"], ["--format=safetensors", "--dtype=bfloat16"]):
        assert main.main(["convert", str(tmp_path), str(tmp_path / "x"), *flags]) == 2
        assert "(prompt_tuning) has left the weights of its model as" in capsys.readouterr().err


def test_shipped_weights_bring_their_vocabulary(tmp_path, capsys, checkpoint):
    source = str(weights.SHIPPED / "pocket_50k.safetensors")
    made = str(tmp_path / "hf")
    assert main.main(["convert", source, made, "--format=huggingface"]) == 0
    assert find_vocabulary("", "auto", made).size == 1152
    assert not capsys.readouterr().err
    table = weights.load("auto", checkpoint)
    table["token_embedder"]["embedding"] = table["token_embedder"]["embedding"][:1000]
    table["decoder"]["logits_dense"]["kernel"] = table["decoder"]["logits_dense"]["kernel"][
        :, :1000
    ]
    weights.save(tmp_path / "small.safetensors", table, {})
    other = str(tmp_path / "small.safetensors")
    assert main.main(["convert", other, str(tmp_path / "other"), "--format=huggingface"]) == 0
    assert "other gets no vocabulary: the vocabulary of" in capsys.readouterr().err
    assert not (tmp_path / "other" / weights.VOCABULARY).exists()
    made = str(tmp_path / "with")
    flags = ["--format=huggingface", "--vocabulary=pocket"]
    assert main.main(["convert", checkpoint, made, *flags]) == 0
    assert find_vocabulary("", "auto", made).size == 1152
