"""Workers of two processes, as on two machines: they train, stop and end together."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from spjax import config
from spjax.methods.prompt_tuning import PromptTuning
from spjax.studies import run_folder, worker
from spjax.studies.executor import TRAIN
from spjax.studies.worker_process import STOPPED, WorkerProcess
from spjax.training import loop
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run
from tests import cheap_compiling
from tests.studies.fake_sweep import TRAIN as FAKE
from tests.studies.fake_sweep import specs

ROOT = Path(__file__).parents[2]
SECONDS = 300


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name, value in cheap_compiling.environment(1).items():
        monkeypatch.setenv(name, value)


class Pair:
    """Two processes of one worker.

    Attributes:
      processes: by rank.
      events: of each.
    """

    def __init__(self, folder, train):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        join = {"JAX_COORDINATOR_ADDRESS": address, "JAX_PROCESS_COUNT": "2"}
        self.processes = [
            WorkerProcess(
                folder / f"{rank}.log",
                train,
                is_distributed=True,
                variables={**join, "JAX_PROCESS_ID": str(rank)},
            )
            for rank in range(2)
        ]
        self.events = [[], []]
        self.starts = [0, 0]
        self.wait_for("ready")

    def wait_for(self, kind, rank=None):
        """Waits until both processes, or one, have sent an event since the last gang came."""
        end = time.monotonic() + SECONDS
        ranks = (0, 1) if rank is None else (rank,)
        while not all(self.sent(x, kind) for x in ranks):
            logs = [process.log.read_text()[-3000:] for process in self.processes]
            assert time.monotonic() < end, (self.events, *logs)
            for i, process in enumerate(self.processes):
                if not self.sent(i, "died"):
                    self.events[i] += process.events(0.1)
        return [self.sent(x, kind)[-1] for x in ranks]

    def sent(self, rank, kind):
        events = self.events[rank][self.starts[rank] :]
        return [event for event in events if event["type"] == kind]

    def submit(self, folders):
        self.starts = [len(events) for events in self.events]
        for process in self.processes:
            process.submit(folders)

    def signal(self, rank, number):
        self.processes[rank]._popen.send_signal(number)

    def close(self):
        for process in self.processes:
            process.close()


@pytest.fixture
def pair(tmp_path):
    with contextlib.ExitStack() as closing:

        def begin(train):
            result = Pair(tmp_path / "logs", train)
            closing.callback(result.close)
            return result

        yield begin


@pytest.fixture
def fake(tmp_path):
    """Makes the folders of fake runs."""

    def make(*kinds, steps=30):
        plan = specs(len(kinds), steps=steps, fail=dict(enumerate(kinds)))
        for spec in plan:
            run_folder.prepare(spec.folder(tmp_path), spec.text)
        return [spec.folder(tmp_path) for spec in plan]

    return make


def test_both_processes_take_one_gang_after_the_other(pair, fake):
    pair = pair(FAKE)
    for folder in fake("none", "none"):
        pair.submit([folder])
        pair.wait_for("done")
        assert run_folder.result(folder)
    assert {event["type"] for event in pair.events[1]} == {"ready", "done"}


@pytest.mark.parametrize("kind", ["raise", "crash"])
def test_the_other_process_ends_after_a_failure(pair, fake, kind):
    """It would wait for ever; which of its libraries notices first does not matter."""
    pair = pair(FAKE)
    pair.submit(fake(kind))
    ends = pair.wait_for("died")
    assert all(end["code"] not in (0, STOPPED) for end in ends)
    failed = [event["message"] for event in pair.events[0] if event["type"] == "failed"]
    assert failed == ["ValueError: this run cannot be trained"] * (kind == "raise")
    assert not any(event["type"] == "failed" for event in pair.events[1])


@pytest.fixture
def run(checkpoint):
    return Run(
        "pocket_cb",
        "pocket_50k",
        PromptTuning(length=3),
        Adafactor(0.3),
        checkpoint,
        steps=12,
        eval_period=6,
        batch_size=8,
        eval_examples=8,
        eval_batch_size=8,
    )


def folders_of(runs, folder):
    """Returns the folders of runs, with their configurations."""
    paths = [folder / f"{i}" for i in range(len(runs))]
    for run, path in zip(runs, paths):
        run_folder.prepare(path, config.config_str(run))
    return paths


def check_equal(folders, alone, tries=1):
    """Compares results with those of one process that has as many devices."""
    for path, other in zip(folders, alone):
        first, second = (run_folder.result(x) for x in (path, other))
        assert first["steps"] == second["steps"] and first["best_step"] == second["best_step"]
        assert first["validation"] == second["validation"] and first["test"] == second["test"]
        prompts = [np.load(x / "prompt.npy") for x in (path, other)]
        np.testing.assert_allclose(*prompts, rtol=1e-5, atol=1e-6)
        assert len(list(path.glob("events*"))) == tries  # of the first process


@pytest.mark.slow
def test_a_gang_of_two_runs_has_the_results_of_one_process(pair, run, tmp_path):
    runs = [run, dataclasses.replace(run, seed=1)]
    alone = [tmp_path / f"alone{i}" for i in range(2)]
    loop.train(runs, alone)
    folders, pair = folders_of(runs, tmp_path), pair(TRAIN)
    pair.submit(folders)
    pair.wait_for("done")
    check_equal(folders, alone)


def checkpoints(folder):
    names = [path.name for path in folder.glob("checkpoints/*")]
    return sorted(int(name) for name in names if name.isdigit())  # others are unfinished


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_step_of_both(pair, run, tmp_path):
    run = dataclasses.replace(run, steps=20_000, eval_period=20_000)
    (folder,) = folders_of([run], tmp_path)
    pair = pair(TRAIN)
    pair.submit([folder])
    while not any(event["stage"] == "training" for event in pair.sent(0, "progress")):
        pair.events[0] += pair.processes[0].events(1.0)
    pair.signal(1, signal.SIGUSR2)
    ends = pair.wait_for("died")
    assert [end["code"] for end in ends] == [STOPPED, STOPPED], ends
    (step,) = checkpoints(folder)
    assert 0 < step < run.steps and not run_folder.result(folder)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_at_the_end_of_a_gang_ends_both(pair, fake, rank):
    """The second process waits there for the first one. Neither takes a next gang."""
    pair = pair(FAKE)
    (folder,) = fake("told" if rank == 0 else "none", steps=1000)
    pair.submit([folder])
    if rank:
        pair.wait_for("progress", 0)
        pair.signal(rank, signal.SIGUSR2)
    ends = pair.wait_for("died")
    assert [end["code"] for end in ends] == [STOPPED, STOPPED], ends
    assert run_folder.result(folder)
    assert not pair.sent(0, "done") and not pair.sent(1, "done")


def test_a_signal_after_the_end_of_a_gang_does_not_wait_for_the_others(monkeypatch):
    """They may be at the next gang already."""

    class ExitError(Exception):
        pass

    def end(status):
        raise ExitError(status)

    monkeypatch.setattr(worker._Stop, "listen", lambda stop: None)
    monkeypatch.setattr(worker.os, "_exit", end)
    monkeypatch.setattr(jax.distributed, "shutdown", pytest.fail)
    stop = worker._Stop()
    with pytest.raises(ExitError, match=str(STOPPED)), stop.after_gang(True):
        stop._handle(signal.SIGTERM, None)


def test_errors_that_say_that_another_process_has_ended():
    """Orbax's wait for the others ends with a TimeoutError."""
    outer = RuntimeError("a checkpoint was not written")
    outer.__cause__ = TimeoutError("Timed out while waiting for a barrier.")
    for error in (outer, ValueError("UNKNOWN: Gloo: connection closed"), TimeoutError()):
        assert worker._has_lost_another(error)
    assert not worker._has_lost_another(ValueError("UNKNOWN task"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other_and_others_go_on(pair, run, tmp_path, rank):
    run = dataclasses.replace(run, steps=200, checkpoint_period=20, eval_period=100)
    loop.train([run], [tmp_path / "alone"])
    (folder,) = folders_of([run], tmp_path)
    first = pair(TRAIN)
    first.submit([folder])
    end = time.monotonic() + SECONDS
    while not checkpoints(folder):
        assert time.monotonic() < end, first.events
        time.sleep(0.05)
    first.signal(rank, signal.SIGKILL)
    first.wait_for("died")
    assert not run_folder.result(folder)
    assert not any(event["type"] == "failed" for events in first.events for event in events)
    second = pair(TRAIN)
    second.submit([folder])
    second.wait_for("done")
    check_equal([folder], [tmp_path / "alone"], tries=2)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(steps) and os.listdir(folder).count("result.json") == 1
