"""A finished run goes on with more steps, to the numbers of a run of that length."""

from pathlib import Path

import numpy as np
import pytest

from spjax import config
from spjax.cli import main
from spjax.files import file_digest, read_json
from spjax.studies import run_folder
from spjax.training import code_version

ROOT = Path(__file__).parents[2]
FLAGS = [
    f"--gin_file={ROOT}/gin_configs/{name}.gin"
    for name in ("models/pocket", "runs/pocket", "methods/prompt_tuning")
]
FLAGS += [
    f"--gin.{text}"
    for text in (
        "MODEL_SIZE=pocket_50k",
        "MIXTURE_OR_TASK_NAME=pocket_cb",
        "PROMPT_LENGTH=2",
        "EVAL_PERIOD=2",
        "BATCH_SIZE=4",
        "Run.eval_examples=8",
        "LEARNING_RATE=1.0",
    )
]


def train(folder, steps, *more):
    named = (f"--gin.MODEL_DIR={folder}", f"--gin.TRAIN_STEPS={steps}")
    return main.main(["train", *FLAGS, *named, *more])


def result(folder):
    content = read_json(folder / "result.json")
    content.pop("seconds")
    content.pop("metrics_sha256")  # the log also has the shorter run's last evaluation
    return content


@pytest.mark.slow
def test_a_longer_run_names_the_code_of_the_shorter_one_too(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(code_version, "digest", lambda: "0" * 64)
        assert train(tmp_path, 2) == 0
    assert train(tmp_path, 4) == 0
    assert result(tmp_path)["code_sha256"] == ["0" * 64, code_version.digest()]


def test_a_longer_run_is_the_one_from_the_start(tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, 6) == 0
    # Its last evaluation, at step 3, is one that the longer run does not have.
    assert train(parts, 3) == 0
    shorter = result(parts)
    assert shorter["steps"] == 3
    assert train(parts, 6) == 0
    assert result(parts) == result(whole)
    assert result(parts)["config_sha256"] == file_digest(parts / "config.gin")
    assert (parts / "config.gin").read_text() == (whole / "config.gin").read_text()
    rows = [np.load(folder / "prompt.npy") for folder in (parts, whole)]
    np.testing.assert_array_equal(*rows)
    sides = [(folder / "prompt.npy.json").read_text() for folder in (parts, whole)]
    assert sides[0] == sides[1] and not (parts / run_folder.LONGER).exists()
    capsys.readouterr()
    assert train(parts, 6) == 0 and "Nothing to do" in capsys.readouterr().out
    assert train(parts, 3) == 2
    assert "it differs in Run.steps" in capsys.readouterr().err
    assert train(parts, 8, "--gin.SEED=1") == 2
    assert "it differs in Run.steps, Run.seed" in capsys.readouterr().err


def test_the_shorter_result_stays_until_the_longer_run_is_finished(tmp_path, monkeypatch, capsys):
    from spjax.training import loop

    assert train(tmp_path, 2) == 0
    before = (tmp_path / "config.gin").read_text(), (tmp_path / "result.json").read_text()

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_finish", stop)
    assert train(tmp_path, 4) == 130
    assert before == ((tmp_path / "config.gin").read_text(), (tmp_path / "result.json").read_text())
    assert not run_folder.metrics_problem(tmp_path, read_json(tmp_path / "result.json"))
    monkeypatch.undo()
    assert train(tmp_path, 4) == 0 and result(tmp_path)["steps"] == 4


def test_only_more_steps_go_on(tmp_path):
    text = "Run.task = 'a'\nRun.steps = 4\n"
    (tmp_path / "config.gin").write_text(text)
    assert run_folder.extends(tmp_path, text.replace("4", "5"))
    for other in (text, text.replace("4", "3"), text.replace("'a'", "'b'").replace("4", "5")):
        assert not run_folder.extends(tmp_path, other)
    assert config.differences(text, text.replace("4", "5")) == ["Run.steps"]
    assert not run_folder.extends(tmp_path / "absent", text)


@pytest.mark.parametrize("steps", [1_100_000, 1_150_000])
def test_steps_of_pre_training_are_not_counted(steps, tmp_path, capsys):
    code = f"--gin_file={ROOT}/gin_configs/runs/released_code.gin"
    flags = [code if "runs/pocket" in flag else flag for flag in FLAGS]
    more = [f"--gin.MODEL_DIR={tmp_path}", f"--gin.TRAIN_STEPS={steps}"]
    assert main.main(["train", *flags, *more]) == 2
    said = capsys.readouterr().err
    assert "counts the 1,100,000 steps of pre-training" in said
    assert f"Give TRAIN_STEPS = {max(steps - 1_100_000, 1)}" in said
