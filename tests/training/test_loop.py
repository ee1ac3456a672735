import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from spjax.checkpoints.weights import weights
from spjax.inference import scoring
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import SampledVocabulary, Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training import (
    code_version,
    gang,
    item_files,
    loop,
    member,
    result,
    run_data,
    run_files,
    trainer,
)
from spjax.training.optimizers import Adafactor
from spjax.training.stop import StopRequested
from spjax.vocabularies import vocabulary

pytestmark = pytest.mark.usefixtures("few_examples")


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


class Interruption(Exception):
    pass


def interrupt_at(step):
    def on_progress(progress):
        if progress.step >= step and progress.stage == "training":
            raise Interruption

    return on_progress


@pytest.mark.slow
def test_a_run_folder(run, tmp_path):
    before = weights.digest(run.open_model().weights)
    (result,) = loop.train([run], [tmp_path])
    assert weights.digest(run.open_model().weights) == before
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "finished" and result["steps"] == 6
    assert result["trainable_parameters"] == 3 * 16
    assert result["stored_parameters"] == 3 * 16
    assert result["model_parameters"] == 49_472 and result["best_step"] in (3, 6)
    assert set(result["test"]) == {"mean_3class_f1", "accuracy", "score"}
    assert result["majority"]["accuracy"] == pytest.approx(33.3, abs=1)
    items = item_files.scores(tmp_path)
    assert np.mean(items) == pytest.approx(result["test"]["accuracy"]) and len(items) > 10
    prompt = np.load(tmp_path / "prompt.npy")
    assert prompt.shape == (3, 16) and prompt.dtype == np.float32
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"6", str(result["best_step"])}
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 49_472 * 2  # bytes: not even the smallest base in bfloat16 fits in there
    assert len(losses(tmp_path)) == 2 and list(tmp_path.glob("events*"))


def test_a_vocabulary_beside_the_weights_wins(run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    checkpoint = str(shutil.copy(run.checkpoint, folder / "w.safetensors"))
    run = dataclasses.replace(run, checkpoint=checkpoint, steps=1, eval_period=1)
    assert run.resolved_vocabulary == "pocket"
    shutil.copy(vocabulary.load_vocabulary("pocket").path, folder / "spiece.model")
    assert run.resolved_vocabulary == str(folder / "spiece.model")
    with pytest.raises(ValueError, match="w.safetensors has changed since the run was configured"):
        loop.train([run], [tmp_path / "run"])
    run = dataclasses.replace(run, contents=())  # as if it were configured now
    (result,) = loop.train([run], [tmp_path / "run"])
    assert result["status"] == "finished"
    assert run_data.RunData(run).vocabulary.path == folder / "spiece.model"
    bad = shutil.copytree(folder, tmp_path / "bad")
    (bad / "spiece.model").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="bad/spiece.model"):
        member.Member(dataclasses.replace(run, checkpoint=str(bad / "w.safetensors")), tmp_path)


def test_only_the_prompt_moves_and_it_does(run, tmp_path):
    method = run.method.resolve((), lambda text: [])
    one = member.Member(run, tmp_path)
    trained = gang.Gang([one], run.open_model())
    start = np.asarray(trained.arrays(one)["trainable"]["prompt"])
    assert jax.tree.map(np.shape, trained.arrays(one)["trainable"]) == {"prompt": (3, 16)}
    trained.train()
    assert np.abs(np.asarray(trained.arrays(one)["trainable"]["prompt"]) - start).min() > 0
    assert method.prompt_length == 3


@pytest.mark.parametrize("stop", [2, 4])
def test_resuming_gives_the_same_numbers(run, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)  # tell at each step
    (whole,) = loop.train([run], [tmp_path / "whole"])
    with pytest.raises(Interruption):
        loop.train([run], [tmp_path / "cut"], interrupt_at(stop))
    assert not (tmp_path / "cut" / "result.json").exists()
    (again,) = loop.train([run], [tmp_path / "cut"])
    for name in ("validation", "test", "best_step", "steps"):
        assert whole[name] == again[name]
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (
        tmp_path / "cut" / "metrics.jsonl"
    ).read_text()
    prompts = [np.load(tmp_path / name / "prompt.npy") for name in ("whole", "cut")]
    np.testing.assert_array_equal(*prompts)


@pytest.mark.parametrize("stop, dispatch", [(2, 2), (3, 1)])
def test_a_request_to_stop_saves_the_step_and_resuming_gives_the_same_numbers(
    run, tmp_path, monkeypatch, stop, dispatch
):
    """Also in a dispatch of several steps; a run is not saved without an evaluation that is due."""
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)
    monkeypatch.setattr(gang.row_shapes, "steps_per_dispatch", lambda *args: dispatch)
    loop.train([run], [tmp_path / "whole"])
    steps = []

    def on_progress(progress):
        if progress.step >= stop:
            steps.append(progress.step)
            raise StopRequested

    with pytest.raises(StopRequested):
        loop.train([run], [tmp_path / "cut"], on_progress)
    kept = {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()}
    assert str(steps[-1]) in kept and not (tmp_path / "cut" / "result.json").exists()
    loop.train([run], [tmp_path / "cut"])
    for name in ("metrics.jsonl", "prompt.npy"):
        undisturbed, stopped = (tmp_path / folder / name for folder in ("whole", "cut"))
        assert undisturbed.read_bytes() == stopped.read_bytes()


def test_a_result_names_the_code_of_all_processes_that_trained_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)
    for name, stop in (("resumed", 4), ("begun anew", 2)):  # the first checkpoint is at step 3
        with monkeypatch.context() as older, pytest.raises(Interruption):
            older.setattr(code_version, "digest", lambda: "0" * 64)
            loop.train([run], [tmp_path / name], interrupt_at(stop))
        (result,) = loop.train([run], [tmp_path / name])
        before = ["0" * 64] if name == "resumed" else []
        assert result["code_sha256"] == [*before, code_version.digest()]


@pytest.mark.slow
def test_a_gang_of_four_gives_each_run_its_own_losses(run, tmp_path):
    gang = [
        dataclasses.replace(
            run,
            seed=seed,
            steps=4,
            eval_period=2,
            task=task,
            optimizer=Adafactor(rate),
            method=PromptTuning(length=length, initializer=initializer),
        )
        for seed, task, rate, length, initializer in [
            (0, "pocket_cb", 0.3, 3, Uniform()),
            (1, "pocket_cb", 0.3, 5, SampledVocabulary(600)),
            (2, "pocket_copa", 0.05, 3, Uniform(0, 0.5)),
            (3, "pocket_copa", 0.3, 1, Uniform()),
        ]
    ]
    together = [tmp_path / f"gang{i}" for i in range(4)]
    loop.train(gang, together)
    for i, single in enumerate(gang):
        alone = tmp_path / f"alone{i}"
        loop.train([single], [alone])
        # Float32 sums over other row lengths: equal to 1e-5 of their size.
        np.testing.assert_allclose(losses(together[i]), losses(alone), rtol=1e-5)
        np.testing.assert_allclose(
            np.load(together[i] / "prompt.npy"), np.load(alone / "prompt.npy"), atol=1e-3
        )
    assert len({tuple(losses(folder)) for folder in together}) == 4


def infinite_rate():
    """An optimizer whose first update is not finite; its constructor would refuse the rate."""
    optimizer = Adafactor(1.0)
    object.__setattr__(optimizer, "learning_rate", float("inf"))
    return optimizer


def test_no_run_has_a_result_before_all_checkpoints_are_on_disk(run, tmp_path, monkeypatch):
    waited, on_disk = set(), []
    wait, write = run_files.Checkpoints.wait, result.write
    monkeypatch.setattr(run_files.Checkpoints, "wait", lambda x: (wait(x), waited.add(id(x))))
    monkeypatch.setattr(
        result, "write", lambda *args: (on_disk.append(len(waited)), write(*args))[1]
    )
    runs = [dataclasses.replace(run, seed=seed, steps=3) for seed in (0, 1)]
    loop.train(runs, [tmp_path / "a", tmp_path / "b"])
    assert on_disk == [2, 2]


def test_a_diverging_run_stops_alone(run, tmp_path):
    good = dataclasses.replace(run, steps=4, eval_period=2)
    bad = dataclasses.replace(good, optimizer=infinite_rate())
    results = loop.train([good, bad], [tmp_path / "good", tmp_path / "bad"])
    assert [r["status"] for r in results] == ["finished", "diverged"]
    assert "became NaN or infinite at step 1;" in results[1]["message"]
    assert results[1]["best_step"] == -1 and results[1]["test"] is None
    (alone,) = loop.train([good], [tmp_path / "alone"])
    np.testing.assert_allclose(losses(tmp_path / "good"), losses(tmp_path / "alone"), rtol=1e-5)
    assert alone["test"] == results[0]["test"]


def at_once(monkeypatch, count):
    """Dispatches as on an accelerator; returns a list that gets the losses of each dispatch."""
    known, found = trainer.train_steps, []

    def run(*args):
        states, stats = known(*args)
        found.extend(np.shape(own.loss_N) for own in stats)
        return states, stats

    monkeypatch.setattr(gang.row_shapes, "steps_per_dispatch", lambda *_: count)
    monkeypatch.setattr(trainer, "train_steps", run)
    return found


@pytest.mark.slow
def test_several_steps_in_one_dispatch(run, tmp_path, monkeypatch):
    """Of all methods: `mesh_cases.py`."""
    run = dataclasses.replace(run, steps=5, eval_period=5, dropout_rate=0.1)
    (one,) = loop.train([run], [tmp_path / "one"])
    found = at_once(monkeypatch, 2)
    (several,) = loop.train([run], [tmp_path / "several"])
    assert found == [(2, 1), (2, 1), (1,)]  # the last step is a single one
    np.testing.assert_allclose(*(losses(tmp_path / name) for name in ("one", "several")), rtol=1e-5)
    for name in ("steps", "best_step"):
        assert one[name] == several[name]
    prompts = [np.load(tmp_path / name / "prompt.npy") for name in ("one", "several")]
    np.testing.assert_allclose(*prompts, atol=1e-4)


def test_a_run_that_diverges_within_a_dispatch(run, tmp_path, monkeypatch):
    good = dataclasses.replace(run, steps=4, eval_period=4)
    bad = dataclasses.replace(good, optimizer=infinite_rate())
    loop.train([good], [tmp_path / "alone"])
    found = at_once(monkeypatch, 4)
    results = loop.train([good, bad], [tmp_path / "good", tmp_path / "bad"])
    assert found == [(4, 2)] and [r["status"] for r in results] == ["finished", "diverged"]
    assert "became NaN or infinite at step 1;" in results[1]["message"]
    np.testing.assert_allclose(losses(tmp_path / "good"), losses(tmp_path / "alone"), rtol=1e-5)


def test_patience_stops_early_and_the_earliest_best_step_counts(run, tmp_path, monkeypatch):
    patient = dataclasses.replace(run, steps=40, eval_period=2, patience=2, eval_examples=0)
    values = iter([10.0, 30.0, 30.0, 20.0, 99.0])
    monkeypatch.setattr(scoring, "score", lambda *_: {"score": next(values, 0.0)})
    (result,) = loop.train([patient], [tmp_path])
    assert result["best_step"] == 4 and result["steps"] == 8
    assert result["validation"] == {"score": 30.0}


@pytest.mark.slow
def test_full_fine_tuning_trains_a_copy(run, tmp_path):
    full = dataclasses.replace(run, method=FullFineTuning(), steps=3)
    before = weights.digest(run.open_model().weights)
    (result,) = loop.train([full], [tmp_path])
    assert weights.digest(run.open_model().weights) == before
    assert result["trainable_parameters"] == result["model_parameters"]
    assert result["stored_parameters"] == result["model_parameters"]
    assert not (tmp_path / "prompt.npy").exists()


def test_all_files_are_closed_when_one_cannot_be(run, tmp_path, monkeypatch):
    closed = []

    def close(files):
        closed.append(files)
        raise OSError("full")

    monkeypatch.setattr(run_files.Checkpoints, "close", close)
    folders, runs = [tmp_path / "a", tmp_path / "b"], [run, dataclasses.replace(run, seed=1)]

    def members():
        return [member.Member(*pair) for pair in zip(runs, folders, strict=True)]

    with pytest.raises(OSError, match="full"):
        gang.Gang(members(), run.open_model()).close()
    assert len(closed) == 2
    opened = member.Member.open

    def fails(one, arrays):
        if one.folder == folders[1]:
            raise ValueError("damaged")
        return opened(one, arrays)

    monkeypatch.setattr(member.Member, "open", fails)
    monkeypatch.setattr(run_files.Checkpoints, "close", lambda files: closed.append(files))
    with pytest.raises(ValueError, match="damaged"):
        gang.Gang(members(), run.open_model())
    assert len(closed) == 3


def test_gangs_that_do_not_fit(run, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    other = dataclasses.replace(run, z_loss=1e-4)
    with pytest.raises(ValueError, match="must share model, checkpoint, dtype, optimizer"):
        loop.train([run, other], folders)
    full = dataclasses.replace(run, method=FullFineTuning())
    with pytest.raises(ValueError, match="full_fine_tuning changes the weights"):
        loop.train([full, full], folders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pocket_bolq"}, "pocket_bolq"),
        ({"model": "pocket_51k"}, "unknown model size 'pocket_51k'"),
        ({"method": None}, "Run.method is None"),
        ({"steps": 0}, "Run.steps is 0; it must be a whole number of at least 1"),
        ({"steps": 10.5}, "Run.steps is 10.5; it must be a whole number"),
        ({"batch_size": True}, "Run.batch_size is True"),
        ({"patience": -1}, "Run.patience is -1"),
        ({"dropout_rate": 1.0}, "Run.dropout_rate is 1.0"),
        ({"z_loss": -1}, "Run.z_loss is -1"),
        ({"optimizer": 3}, "Run.optimizer is 3; bind one"),
        ({"row_length": 3}, "a prompt of 3 is longer than the row allows"),
        (
            {"loss_normalizing_factor": 0},
            "loss_normalizing_factor is 0; it must be a number above 0",
        ),
        ({"loss_normalizing_factor": "MEAN"}, "loss_normalizing_factor is 'MEAN'"),
        ({"attention": "flash"}, "Run.attention is 'flash'; use one of xla, cudnn"),
        ({"attention": "cudnn", "dropout_rate": 0.1}, "DROPOUT_RATE is 0.1. Use"),
        ({"attention": "cudnn", "method": FullFineTuning()}, "no gradient of the relative bias"),
    ],
)
def test_bad_settings(run, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(run, **change)


def test_a_pruned_run_stops_at_its_step_and_is_not_tested(run, tmp_path):
    """In a gang with one that goes on, which gets the numbers it has alone, and after a stop."""
    whole = dataclasses.replace(run, steps=6, eval_period=2, eval_examples=0)
    pruned = dataclasses.replace(whole, seed=7, stop_below=((2, 0.0), (4, 100.1)))
    alone = loop.train([whole], [tmp_path / "alone"])[0]
    left, right = loop.train([whole, pruned], [tmp_path / "a", tmp_path / "b"])
    assert left["validation"] == alone["validation"] and left["status"] == "finished"
    assert (right["status"], right["steps"]) == ("pruned", 4)
    assert right["test"] is None and right["transfer"] == {} and right["validation"]["score"] >= 0
    assert "stopped at step 4" in right["message"] and "below the 100.1" in right["message"]
    (tmp_path / "b" / "result.json").unlink()  # it was killed before its result was written
    again = loop.train([pruned], [tmp_path / "b"])[0]
    changing = {"seconds": 0, "content_sha256": ""}
    assert {**again, **changing} == {**right, **changing}
