"""Wall times of a run: of training, evaluations and checkpoints apart, through interruptions."""

import dataclasses

import pytest

from spjax.files import read_json_lines
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training import loop, times

pytestmark = pytest.mark.usefixtures("few_examples")


class Clock:
    """A clock that is moved by what is timed."""

    def __init__(self, monkeypatch, **seconds):
        self.now = 0.0
        monkeypatch.setattr(times.time, "perf_counter", lambda: self.now)
        for name, cost in seconds.items():
            owner = loop.Gang if name == "train" else loop.Member
            monkeypatch.setattr(owner, name, self.timed(getattr(owner, name), cost))

    def timed(self, function, cost):
        def call(*args):
            self.now += cost
            return function(*args)

        return call


class Interruption(Exception):
    pass


def test_stages_are_apart(run, tmp_path, monkeypatch):
    clock = Clock(monkeypatch, train=3.0, stop_if_over=5.0, save=1.0)
    loop.train([dataclasses.replace(run, steps=6, eval_period=4, checkpoint_period=2)], [tmp_path])
    rows = read_json_lines(tmp_path / "times.jsonl")
    assert [(row["since"], row["step"]) for row in rows] == [(0, 2), (2, 4), (4, 6)]
    assert all(row["train_seconds"] % 3 == 0 and row["train_seconds"] for row in rows)
    assert [row["evaluation_seconds"] for row in rows] == [0, 5, 5]
    assert [row["checkpoint_seconds"] for row in rows] == [0, 1, 1]  # of the one before
    total = sum(row[f"{stage}_seconds"] for row in rows for stage in times.STAGES)
    assert total == clock.now - 1  # of the last checkpoint
    assert {row["runs"] for row in rows} == {1}


def test_runs_side_by_side_share_the_time(run, tmp_path, monkeypatch):
    Clock(monkeypatch, train=3.0)
    runs = [
        dataclasses.replace(run, seed=seed, steps=steps, eval_period=4)
        for seed, steps in ((0, 4), (1, 8))
    ]
    loop.train(runs, [tmp_path / "short", tmp_path / "long"])
    (short,) = read_json_lines(tmp_path / "short" / "times.jsonl")
    first, second = read_json_lines(tmp_path / "long" / "times.jsonl")
    assert short["train_seconds"] == first["train_seconds"] > 0 and first["runs"] == 2
    assert second["train_seconds"] == 2 * first["train_seconds"] and second["runs"] == 1


@pytest.mark.slow
def test_what_an_interruption_lost_does_not_count(run, tmp_path, monkeypatch):
    run = dataclasses.replace(run, steps=6, eval_period=2, method=PromptTuning(length=2))
    Clock(monkeypatch, train=3.0)
    with monkeypatch.context() as patch:
        save = loop.Member.save

        def stop(member, arrays):
            save(member, arrays)
            if member.standing.step == 4:
                raise Interruption

        patch.setattr(loop.Member, "save", stop)
        with pytest.raises(Interruption):
            loop.train([run], [tmp_path])
    with open(tmp_path / "times.jsonl", "a") as file:  # as of a checkpoint that was never finished
        file.write('{"step": 5, "since": 4, "train_seconds": 900}\n{"step": 6, "si')
    loop.train([run], [tmp_path])
    rows = read_json_lines(tmp_path / "times.jsonl")
    assert [(row["since"], row["step"]) for row in rows] == [(0, 2), (2, 4), (4, 6)]
    assert len({row["train_seconds"] for row in rows}) == 1
