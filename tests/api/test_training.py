"""Runs that Python trains are those of the command line."""

import dataclasses
import json

import numpy as np
import pytest

import spjax
from spjax.cli import main
from spjax.config import method_defaults as defaults_of_methods
from spjax.training import loop
from tests.api.conftest import SETTINGS, pairs


def command(capsys, *args):
    assert main.main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


@pytest.fixture
def never_trains(monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *args: pytest.fail("trained"))


def test_a_run(trained, model):
    assert trained.status == "finished" and trained.message == ""
    assert set(trained.validation) == set(trained.test) == {"accuracy", "score"}
    assert [row["step"] for row in trained.metrics if "train/loss" in row] == [2, 4]
    assert trained.prompt.soft_tokens_PD.shape == (3, 16)
    assert trained.prompt.provenance["base_sha256"] == model.digest
    assert trained.config.steps == 4 and trained.config.method == spjax.PromptTuning(length=3)
    assert trained.best_step in (2, 4) and trained.prompt.tensors.keys() == {"prompt"}


def test_short_descriptions(trained):
    assert repr(trained).startswith(
        f"TrainedRun({str(trained.folder)!r}, 'finished', validation={{"
    )
    assert repr(trained.prompt) == f"Prompt(prompt [3, 16] from {trained.prompt.origin!r})"
    tensors = {f"lora/x{i}/a": trained.prompt.soft_tokens_PD for i in range(5)}
    assert ", lora/x2/a [3, 16], 2 more from 'memory')" in repr(type(trained.prompt)(tensors))


def test_names_of_the_trainer_of_transformers(model, task, method, tmp_path):
    for name, ours in (
        ("per_device_train_batch_size", "batch_size"),
        ("num_train_epochs", "steps"),
    ):
        with pytest.raises(ValueError, match=f"no setting '{name}'. Did you mean '{ours}'"):
            spjax.train(model, task, method, steps=1, output_dir=tmp_path / "x", **{name: 1})


def test_the_command_line_reads_it(trained, capsys):
    scores = json.loads(command(capsys, "eval", trained.folder))
    assert scores["score"] == trained.test["score"] == trained.evaluate()["score"]
    again = command(capsys, "train", f"--gin_file={trained.folder / 'config.gin'}")
    assert again.startswith(f"Nothing to do: the run in {trained.folder} is finished.")


def test_the_command_line_gives_the_same_numbers(model, method, tmp_path, capsys, monkeypatch):
    path, folder = tmp_path / "films.jsonl", tmp_path / "run"
    rows = [{"input": text, "target": target} for text, target in pairs(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = spjax.load_task(path, labels=("bad", "good"), target_length=8)
    here = spjax.train(model, own, method, output_dir=tmp_path / "python", **SETTINGS)
    command(
        capsys,
        "train",
        *(f"--gin_file=gin_configs/{x}.gin" for x in ("models/pocket", "runs/pocket")),
        *("--gin_file=gin_configs/methods/prompt_tuning.gin", "--gin.MODEL_SIZE=pocket_50k"),
        "--gin_file=gin_configs/tasks/file.gin",
        f"--gin.TASK_FILE={path}",
        "--gin.TASK_LABELS=('bad', 'good')",
        "--gin.FileTask.target_length=8",
        *("--gin.PROMPT_LENGTH=3", "--gin.INITIALIZER=@SampledVocabulary()"),
        *("--gin.TRAIN_STEPS=4", "--gin.BATCH_SIZE=8", "--gin.EVAL_PERIOD=2"),
        f"--gin.MODEL_DIR={folder}",
    )
    assert (folder / "config.gin").read_text() == (here.folder / "config.gin").read_text()
    there = spjax.load_run(folder)
    assert there.metrics == here.metrics and there.test == here.test
    assert np.array_equal(there.prompt.soft_tokens_PD, here.prompt.soft_tokens_PD)
    monkeypatch.setattr(loop, "train", lambda *args: pytest.fail("trained"))
    same = spjax.train(model, own, method, output_dir=folder, **SETTINGS)
    assert same.result == there.result


def test_a_finished_run_is_not_trained_again(trained, model, task, method, never_trains):
    again = spjax.train(model, task, method, output_dir=trained.folder, **SETTINGS)
    assert again.result == trained.result and again.config == trained.config
    assert spjax.load_run(trained.folder).result == trained.result


def test_an_interrupted_run_goes_on(trained, model, task, method, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(progress):
        if progress.step >= 2 and progress.stage == "training":
            raise Interrupted

    with pytest.raises(Interrupted), pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0)
        options = {"on_progress": interrupt, **SETTINGS}
        spjax.train(model, task, method, output_dir=tmp_path / "run", **options)
    with pytest.raises(ValueError, match="holds no finished run .no result.json.; train it with"):
        spjax.load_run(tmp_path / "run")
    run = spjax.train(model, task, method, output_dir=tmp_path / "run", **SETTINGS)
    assert run.metrics == trained.metrics
    assert np.array_equal(run.prompt.soft_tokens_PD, trained.prompt.soft_tokens_PD)


def test_the_optimizer_of_a_method_is_that_of_its_gin_file():
    from spjax.api.training import default_optimizer

    assert default_optimizer(spjax.PromptTuning()) == spjax.Adafactor(0.3)
    full = default_optimizer(spjax.FullFineTuning())
    assert full.learning_rate == 0.001 and full.multiply_by_parameter_scale
    assert default_optimizer(spjax.LoRA()).learning_rate == 0.003
    assert defaults_of_methods.method_defaults("nothing") == {}


OTHER = "holds another run .* PromptTuning.length; choose another folder with output_dir=FOLDER, or"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": spjax.PromptTuning}, r"class PromptTuning; give an object of it, Prom"),
        ({"method": "lora"}, "method is 'lora'; give an object of one of .*PromptTuning"),
        ({"optimizer": 0.1}, r"optimizer is 0.1; give spjax.Adafactor\(...\) or spjax.AdamW"),
        ({"batchsize": 4}, "no setting 'batchsize'. Did you mean 'batch_size'?"),
        ({"weights_dtype": "int8"}, "weights_dtype belongs to the model; give it to spjax"),
        ({"steps": 0}, "^steps is 0"),
        ({"batch_size": 0}, "^batch_size is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"model": "pocket"}, "unknown model 'pocket'"),
        ({"data": "pocket"}, "unknown task 'pocket'"),
        ({"method": spjax.PromptTuning(length=2)}, OTHER),
        ({"seed": 1}, "holds another run .* differs in seed; choose another"),
    ],
)  # fmt: skip
def test_mistakes(trained, model, task, method, changes, message):
    arguments = {"model": model, "data": task, "method": method, **SETTINGS, **changes}
    with pytest.raises(ValueError, match=message):
        spjax.train(output_dir=trained.folder, **arguments)


def test_an_output_folder_with_other_files(model, task, method, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds files that are no run's .thesis.tex.*output_dir="):
        spjax.train(model, task, method, output_dir=tmp_path, **SETTINGS)


def test_a_run_without_a_prompt(trained, tmp_path):
    (tmp_path / "result.json").write_bytes((trained.folder / "result.json").read_bytes())
    (tmp_path / "config.gin").write_bytes((trained.folder / "config.gin").read_bytes())
    with pytest.raises(ValueError, match="has left no prompt.npy: its method has no prompt"):
        spjax.load_run(tmp_path).prompt  # noqa: B018


def test_a_run_from_elsewhere_is_scored_here(trained):
    config = dataclasses.replace(
        trained.config, num_partitions=8, logical_axis_rules="tensor_parallel", attention="cudnn"
    )
    there = dataclasses.replace(trained, config=config)
    assert there.evaluate("test")["score"] == trained.test["score"]
