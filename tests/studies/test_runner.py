"""The runner's promises, with a stand-in for training."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spjax.studies import folder as disk
from spjax.studies import runner
from tests.studies.fake_sweep import TRAIN, specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


def sweep(folder, plan, **options):
    return runner.sweep("fake", plan, folder, **{"workers": 2, "train": TRAIN, **options})


def start(folder, runs=12, steps=30, output=subprocess.DEVNULL):
    command = [sys.executable, "-m", "tests.studies.fake_sweep", str(folder), str(runs), str(steps)]
    return subprocess.Popen(command, stdout=output, text=True, start_new_session=True)


def owner(folder):
    lock = folder / ".lock"
    return int(lock.read_text() or 0) if lock.exists() else 0


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_runs_everything_once_and_then_nothing(tmp_path):
    plan = specs(5)
    first = sweep(tmp_path, plan)
    assert (first.finished, first.new, first.failed, first.stopped) == (5, 5, {}, "")
    csv = (tmp_path / "results.csv").read_text()
    assert csv.count("\n") == 1 + 6  # the run of two arms has two rows
    assert (tmp_path / "results.parquet").exists()
    again = sweep(tmp_path, plan)
    assert (again.finished, again.new) == (5, 0)
    assert (tmp_path / "results.csv").read_text() == csv
    assert "Nothing to do: 5 runs finished" in runner.report(again, plan, tmp_path)


def test_a_bigger_study_adds_only_the_new_runs(tmp_path):
    sweep(tmp_path, specs(2))
    assert sweep(tmp_path, specs(3)).new == 1


def test_a_damaged_or_foreign_result_is_not_a_result(tmp_path):
    plan = specs(3)
    sweep(tmp_path, plan)
    (plan[0].folder(tmp_path) / "result.json").write_text("{")
    (plan[1].folder(tmp_path) / "config.gin").write_text("steps = 31")
    (plan[1].folder(tmp_path) / "checkpoint.json").write_text('{"step": 31, "value": 0}')
    csv = (tmp_path / "results.csv").read_text()
    assert sweep(tmp_path, plan).new == 2
    assert (tmp_path / "results.csv").read_text() == csv


def test_killed_at_ten_random_moments_gives_the_same_table(tmp_path):
    sweep(tmp_path / "whole", specs(12, steps=200))
    rng = random.Random(0)
    kills = 0
    for _ in range(10):
        process = start(tmp_path / "killed", steps=200)
        wait_for(lambda: owner(tmp_path / "killed") == process.pid or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.6))
        process.kill()
        process.wait()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 8
    assert sweep(tmp_path / "killed", specs(12, steps=200)).finished == 12
    for name in ("results.csv", "results.parquet"):
        whole, killed = ((tmp_path / f / name).read_bytes() for f in ("whole", "killed"))
        assert whole == killed


def test_workers_die_with_their_parent(tmp_path):
    process = start(tmp_path, runs=8, steps=100_000)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.json"))) == 2)
    process.kill()
    process.wait()
    with disk.lock(tmp_path):  # the lock is free only when the workers are gone
        files = list(tmp_path.glob("runs/*/checkpoint.json"))
        before = [file.read_text() for file in files]
        time.sleep(0.2)
        assert [file.read_text() for file in files] == before


def test_a_second_sweep_on_the_same_folder_is_refused(tmp_path):
    with disk.lock(tmp_path):
        message = rf"another sweep \(process {os.getpid()}\) is running .* --output_dir"
        with pytest.raises(ValueError, match=message):
            sweep(tmp_path, specs(1))


def test_ctrl_c_stops_the_workers_and_says_how_to_continue(tmp_path):
    process = start(tmp_path, runs=8, steps=100_000, output=subprocess.PIPE)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.json"))) == 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "Stopped: interrupted." in output and "same command continues" in output
    with disk.lock(tmp_path):
        pass


def test_a_dying_worker_costs_its_run_and_no_other(tmp_path):
    plan = specs(6, fail={1: "crash", 2: "crash_once"})
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 5 and list(outcome.failed) == [plan[1].key]
    report = runner.report(outcome, plan, tmp_path)
    assert "5 of 6 runs finished" in report and f"FAILED {plan[1].key}" in report
    assert "SIGSEGV" in report and "2 attempts" in report


@pytest.mark.parametrize(
    "kind, message", [("raise", "this run cannot be trained"), ("forgets", "without the result")]
)
def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, kind, message):
    plan = specs(3, fail={1: kind})
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 2 and message in outcome.failed[plan[1].key]


def test_a_diverged_run_counts_and_is_named(tmp_path):
    plan = specs(2, fail={0: "diverge"})
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 2 and not outcome.failed
    assert "DIVERGED 000000000000" in runner.report(outcome, plan, tmp_path)


def test_a_full_disk_stops_the_sweep_and_keeps_what_is_finished(tmp_path):
    plan = specs(4, fail={3: "full"})
    outcome = sweep(tmp_path, plan, workers=1)
    assert outcome.finished == 3
    assert "cannot be written (No space left on device" in outcome.stopped


def test_a_worker_that_cannot_start_ends_the_sweep(tmp_path):
    outcome = sweep(tmp_path, specs(2), train="tests.studies.absent:train")
    assert "could not start" in outcome.stopped and "No module named" in outcome.stopped


def test_unwritable_output_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write to the output folder .*--output_dir"):
        sweep(tmp_path / "file" / "study", specs(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device; free some space"):
        disk.probe(tmp_path / "study")
    assert not list((tmp_path / "study").iterdir())


def test_gangs_share_a_call(tmp_path):
    assert sweep(tmp_path, specs(6), gang_width=4).finished == 6


def test_dry_run_shows_counts_and_time(tmp_path):
    plan = specs(5)
    text = runner.estimate(plan, tmp_path, 2)
    assert "5 runs, 0 finished; about 2 s left with 2 workers (30 GFLOP/s" in text
    assert not list(tmp_path.iterdir())
    sweep(tmp_path, plan)
    assert "5 runs, 5 finished; about 0 s left" in runner.estimate(plan, tmp_path, 2)
