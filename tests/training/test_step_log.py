"""Rows of the training log: their period, their values, and their parts in other files."""

import dataclasses

import numpy as np
import pytest

from spjax import config
from spjax.files import read_json_lines
from spjax.training import loop
from spjax.training.optimizers import Adafactor
from spjax.training.stop import StopRequested

pytestmark = pytest.mark.usefixtures("few_examples")


def logged(folder):
    rows = read_json_lines(folder / "metrics.jsonl")
    return {row["step"]: row for row in rows if "train/loss" in row}


def test_rows_at_the_period_and_at_checkpoints(run, tmp_path):
    run = dataclasses.replace(run, steps=7, eval_period=6, log_period=2)
    loop.train([dataclasses.replace(run, log_period=1)], [tmp_path / "each"])
    loop.train([run], [tmp_path / "second"])
    each, second = logged(tmp_path / "each"), logged(tmp_path / "second")
    assert list(each) == [*range(1, 8)] and list(second) == [2, 4, 6, 7]
    for step, row in second.items():  # the mean since the row before; the others are of the step
        losses = [each[i]["train/loss"] for i in (step - 1, step) if step < 7 or i == step]
        assert row["train/loss"] == pytest.approx(np.mean(losses), rel=1e-6)
        assert row["train/gradient_norm"] == each[step]["train/gradient_norm"] > 0
    times = read_json_lines(tmp_path / "second" / "times.jsonl")
    assert [(row["since"], row["step"]) for row in times] == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert all(0 <= row["padding"] < 1 for row in times)
    assert all(row["examples_per_second"] > 0 for row in times)
    (fewest,) = loop.train([dataclasses.replace(run, log_period=0)], [tmp_path / "fewest"])
    assert list(logged(tmp_path / "fewest")) == [6, 7] and fewest["status"] == "finished"


def test_the_learning_rate_is_that_of_the_step(run, tmp_path):
    optimizer = Adafactor(0.4, warmup_steps=4)
    loop.train([dataclasses.replace(run, optimizer=optimizer, log_period=1)], [tmp_path])
    rates = [row["train/learning_rate"] for row in logged(tmp_path).values()]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4, 0.4], rtol=1e-6)


def test_the_log_changes_neither_numbers_nor_the_identity(run, tmp_path):
    often = dataclasses.replace(run, log_period=1, trackers=())
    assert config.run_key(often) == config.run_key(run)
    assert config.identity(config.config_str(often)) == config.identity(config.config_str(run))
    loop.train([run], [tmp_path / "usual"])
    loop.train([often], [tmp_path / "often"])
    prompts = [(tmp_path / name / "prompt.npy").read_bytes() for name in ("usual", "often")]
    assert prompts[0] == prompts[1] and not list((tmp_path / "often").glob("events*"))


@pytest.mark.parametrize("stop", [3, 5])
def test_an_interrupted_run_has_the_same_rows(run, tmp_path, monkeypatch, stop):
    """Stopped between two rows, and between checkpoints."""
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)
    run = dataclasses.replace(run, eval_period=6, log_period=2)
    loop.train([run], [tmp_path / "whole"])

    def on_progress(progress):
        if progress.step >= stop:
            raise StopRequested

    with pytest.raises(StopRequested):
        loop.train([run], [tmp_path / "cut"], on_progress)
    loop.train([run], [tmp_path / "cut"])
    rows = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert rows[0] == rows[1] and list(logged(tmp_path / "cut")) == [2, 4, 6]


def test_a_run_that_diverges_logs_no_step_after(run, tmp_path):
    optimizer = Adafactor(1.0)
    object.__setattr__(optimizer, "learning_rate", float("inf"))
    (result,) = loop.train(
        [dataclasses.replace(run, optimizer=optimizer, log_period=1)], [tmp_path]
    )
    assert result["status"] == "diverged" and not (tmp_path / "metrics.jsonl").exists()


def test_stages_begin_with_compiling(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.time, "monotonic", iter(range(10**6)).__next__)
    stages = []
    loop.train([run], [tmp_path], lambda progress: stages.append((progress.stage, progress.step)))
    assert stages[:2] == [("loading", 0), ("compiling", 0)]
    assert [step for stage, step in stages if stage == "compiling"] == [0, 3]
    assert [step for stage, step in stages if stage == "evaluating"] == [6]
