"""What a run has made of the weights becomes a checkpoint that answers as the run does."""

import dataclasses

import numpy as np
import pytest

from spjax import cli, cli_prompts, config
from spjax.checkpoints import weights
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.models.decoding import Decoding
from spjax.training import loop, scoring
from spjax.training.optimizers import Adafactor
from spjax.training.prediction import Placed, Predictor

pytestmark = pytest.mark.usefixtures("few_examples")


def test_full_fine_tuning_is_exported(run, tmp_path, capsys):
    run = dataclasses.replace(
        run, method=FullFineTuning(), optimizer=Adafactor(0.01), steps=2, eval_period=2
    )
    folder = tmp_path / "run"
    loop.train([run], [folder])
    (folder / "config.gin").write_text(config.config_str(run))
    expected = weights.digest(scoring.weights_of(run, folder, loop.base_of(run)))
    assert expected != weights.digest(loop.base_of(run))
    for format, name in (("huggingface", "hf"), ("safetensors", "tuned.safetensors")):
        out = str(tmp_path / name)
        assert cli.main(["convert", str(folder), out, f"--format={format}"]) == 0
        made = weights.load("auto", out)
        assert weights.digest(made) == expected
    # A folder that can be opened without another word.
    words = cli_prompts.find_vocabulary("", "auto", str(tmp_path / "hf"))
    none = Placed(np.zeros((0, 16), np.float32))
    found = Predictor(weights.config_of("auto", str(tmp_path / "hf")), made, [none], words,
                      Decoding(), target_length=8)  # fmt: skip
    scores = scoring.score_prompt(found, run.task, "validation", 64, vocabulary=str(words.path))
    again = scoring.score_folder(run, folder, "validation")
    assert scores == {name: value for name, value in again.items() if name != "step"}
    capsys.readouterr()
    assert cli.main(["convert", str(folder), str(tmp_path / "x"), "--format=npy"]) == 2
    assert "weights cannot be written as 'npy'; use one of" in capsys.readouterr().err


def test_a_run_that_leaves_the_weights_alone_has_none(run, tmp_path, capsys):
    (tmp_path / "config.gin").write_text(config.config_str(run))
    (tmp_path / "result.json").write_text('{"method": "prompt_tuning"}')
    for flags in (["--format=huggingface"], ["--format=safetensors", "--dtype=bfloat16"]):
        assert cli.main(["convert", str(tmp_path), str(tmp_path / "x"), *flags]) == 2
        assert "(prompt_tuning) has left the weights of its model as" in capsys.readouterr().err


def test_shipped_weights_bring_their_vocabulary(tmp_path, capsys, checkpoint):
    source = str(weights.SHIPPED / "pocket_50k.safetensors")
    made = str(tmp_path / "hf")
    assert cli.main(["convert", source, made, "--format=huggingface"]) == 0
    assert cli_prompts.find_vocabulary("", "auto", made).size == 1152
    assert not capsys.readouterr().err
    made = str(tmp_path / "other")
    assert cli.main(["convert", checkpoint, made, "--format=huggingface"]) == 0
    assert f"no vocabulary lies beside {checkpoint}" in capsys.readouterr().err
    made = str(tmp_path / "with")
    flags = ["--format=huggingface", "--vocabulary=pocket"]
    assert cli.main(["convert", checkpoint, made, *flags]) == 0
    assert cli_prompts.find_vocabulary("", "auto", made).size == 1152
