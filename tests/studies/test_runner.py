"""The runner's promises, with a stand-in for training."""

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spjax.analysis import statistics
from spjax.studies import results, run_folder, runner
from spjax.studies.executors.local import Local
from spjax.studies.executors.slurm import Slurm
from spjax.training import item_files
from tests.studies.fake_sweep import TRAIN, specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


def sweep(folder, plan, workers=2, **options):
    executor = Local(workers)
    return runner.sweep("fake", plan, folder, executor=executor, **{"train": TRAIN, **options})


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


def test_a_bigger_study_adds_only_the_new_runs(tmp_path, caplog):
    sweep(tmp_path, specs(2))
    assert sweep(tmp_path, specs(3)).new == 1
    assert not caplog.text


def test_a_smaller_study_says_that_its_table_will_lack_runs(tmp_path, caplog):
    plan = specs(5)
    sweep(tmp_path, plan)
    text = (tmp_path / "results.csv").read_text()
    sweep(tmp_path, plan[:2])
    assert "has runs that this study does not have (3). They stay in" in caplog.text
    assert sweep(tmp_path, plan).new == 0 and (tmp_path / "results.csv").read_text() == text


def test_a_damaged_or_foreign_result_is_not_a_result(tmp_path):
    plan = specs(3)
    sweep(tmp_path, plan)
    (plan[0].folder(tmp_path) / "result.json").write_text("{")
    (plan[1].folder(tmp_path) / "config.gin").write_text("steps = 31")
    (plan[1].folder(tmp_path) / "checkpoint.json").write_text('{"step": 31, "value": 0}')
    csv = (tmp_path / "results.csv").read_text()
    assert sweep(tmp_path, plan).new == 2
    assert (tmp_path / "results.csv").read_text() == csv


def test_item_scores_are_kept_by_run(tmp_path, caplog):
    plan = specs(3)
    for number, spec in enumerate(plan[:2]):
        spec.folder(tmp_path).mkdir(parents=True)
        item_files.write(spec.folder(tmp_path), {"t": (["a", "b"], [100.0, 100.0 * number])})
    sweep(tmp_path, plan)
    items = statistics.load_items(tmp_path)
    assert {key: scores.tolist() for key, scores in items.items()} == {
        plan[0].key: [100, 0],
        plan[1].key: [100, 100],
    }
    # The score of several tasks is their mean, and no mean of all their items.
    several = {"t": (["a"], [100.0]), "u": (["a", "b"], [0.0, 0.0])}
    item_files.write(plan[0].folder(tmp_path), several)
    assert item_files.scores(plan[0].folder(tmp_path)) is None
    item_files.write(plan[0].folder(tmp_path), {"t": (["a", "b"], [100.0, 0.0])})
    (plan[1].folder(tmp_path) / item_files.NAME).write_bytes(b"no gzip")
    sweep(tmp_path, plan)
    assert list(statistics.load_items(tmp_path)) == [plan[0].key]
    assert f"{plan[1].key}/{item_files.NAME} is damaged" in caplog.text
    data = bytearray((tmp_path / "items.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "items.parquet").write_bytes(data)
    with pytest.raises(ValueError, match="items.parquet.*write it again with `spjax sweep`"):
        statistics.load_items(tmp_path)


def test_item_scores_of_runs_that_have_none_any_more_go(tmp_path):
    (spec,) = plan = specs(1)
    spec.folder(tmp_path).mkdir(parents=True)
    item_files.write(spec.folder(tmp_path), {"t": (["a"], [100.0])})
    sweep(tmp_path, plan)
    assert (tmp_path / results.ITEMS).is_file()
    (spec.folder(tmp_path) / item_files.NAME).unlink()
    sweep(tmp_path, plan)
    assert statistics.load_items(tmp_path) == {} and not (tmp_path / results.ITEMS).exists()
    assert "items" not in (tmp_path / results.SUMS).read_text()


def test_item_scores_are_read_once_as_long_as_they_stay(tmp_path, caplog, monkeypatch):
    plan, read = specs(2), []
    sweep(tmp_path, plan)
    item_files.write(plan[0].folder(tmp_path), {"t": (["a"], [100.0])})
    (plan[1].folder(tmp_path) / item_files.NAME).write_bytes(b"no gzip")
    scores_of = item_files.scores
    monkeypatch.setattr(
        item_files, "scores", lambda folder: read.append(folder) or scores_of(folder)
    )
    for _ in range(3):
        results.write("fake", plan, tmp_path)
    assert len(read) == 2 and len(caplog.records) == 1
    item_files.write(plan[0].folder(tmp_path), {"t": (["a"], [50.0])})
    results.write("fake", plan, tmp_path)
    assert len(read) == 3
    assert statistics.load_items(tmp_path)[plan[0].key].tolist() == [50.0]


@pytest.mark.slow
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
    with run_folder.lock(tmp_path):  # the lock is free only when the workers are gone
        files = list(tmp_path.glob("runs/*/checkpoint.json"))
        before = [file.read_text() for file in files]
        time.sleep(0.2)
        assert [file.read_text() for file in files] == before


def test_a_second_sweep_on_the_same_folder_is_refused(tmp_path):
    with run_folder.lock(tmp_path):
        message = rf"already at work in .* \(process {os.getpid()}\).* --output_dir or --gin.MODEL"
        with pytest.raises(ValueError, match=message):
            sweep(tmp_path, specs(1))


def test_ctrl_c_stops_the_workers_and_says_how_to_continue(tmp_path):
    process = start(tmp_path, runs=8, steps=100_000, output=subprocess.PIPE)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.json"))) == 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert "Stopped: interrupted." in output and "same command continues" in output
    with run_folder.lock(tmp_path):
        pass


def test_a_run_without_a_result_has_failed(tmp_path):
    plan = specs(3, fail={1: "forgets"})
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 2 and "without the result" in outcome.failed[plan[1].key]


def test_a_diverged_run_counts_and_is_named(tmp_path):
    plan = specs(2, fail={0: "diverge"})
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 2 and not outcome.failed
    assert "DIVERGED 000000000000" in runner.report(outcome, plan, tmp_path)


def test_another_folder_that_cannot_be_written_is_the_one_named(tmp_path):
    outcome = sweep(tmp_path, specs(1, fail={0: "cache"}))
    assert outcome.stopped.startswith("/the/cache/.lock cannot be opened (Permission denied)")
    assert str(tmp_path) not in outcome.stopped


def test_a_disk_that_is_full_at_the_end_is_told(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plan = specs(1)
    sweep(tmp_path, plan)
    monkeypatch.setattr(run_folder, "probe", lambda folder: None)
    monkeypatch.setattr(os, "fsync", full)
    outcome = sweep(tmp_path, plan)
    assert outcome.finished == 1
    assert outcome.stopped.startswith(f"{tmp_path / 'study.gin'} cannot be written (No space left")


def test_tensorstores_message_about_a_full_disk_is_understood(tmp_path):
    error = ValueError('error writing local file "/a/b/c": [OS error 28: No space left on device]')
    assert run_folder.disk_problem(error) == "No space left on device: /a/b/c"
    assert (
        run_folder.disk_problem(ValueError("No space left on device")) == "No space left on device"
    )
    message = run_folder.disk_message("No space left on device", tmp_path)
    assert message.startswith(f"the output folder {tmp_path} cannot be written (No space left on")
    assert run_folder.disk_problem(ValueError("other")) == ""
    assert run_folder.disk_message("No space left") == "a file cannot be written (No space left)"


def test_a_worker_reports_a_failure_that_it_cannot_log(tmp_path):
    """Its log is on the full disk too."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "spjax.studies.worker", "--events", str(write)]
    command += ["--train", "tests.studies.fake_train:fail"]
    with open("/dev/full", "wb") as log:
        worker = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[write],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    os.close(write)
    worker.stdin.write(json.dumps({"folders": [str(tmp_path)]}).encode() + b"\n")
    worker.stdin.flush()
    with open(read) as events:
        kinds = [json.loads(events.readline())["type"] for _ in range(2)]
    worker.stdin.close()
    worker.wait()
    assert kinds == ["ready", "failed"]


def test_only_another_runs_folder_is_cleared(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in (".lock", "thesis.txt", "sub/file"):
        (tmp_path / name).touch()
    run_folder.prepare(tmp_path, "one")
    run_folder.prepare(tmp_path, "one")
    names = {".lock", "thesis.txt", "sub", "config.gin"}
    assert {path.name for path in tmp_path.iterdir()} == names
    run_folder.prepare(tmp_path, "two")
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.gin"}
    assert run_folder.config_text(tmp_path) == "two"


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
        run_folder.probe(tmp_path / "study")
    assert not list((tmp_path / "study").iterdir())


def test_what_comes_before_the_workers_is_done_for_what_is_left(tmp_path):
    calls = []

    def prepare(left):
        assert not (tmp_path / "logs").exists() or len(calls) == 1
        calls.append([spec.key for spec in left])

    sweep(tmp_path, specs(2), prepare=prepare)
    sweep(tmp_path, specs(3), prepare=prepare)
    sweep(tmp_path, specs(3), prepare=prepare)
    assert calls == [["000000000000", "000000000001"], ["000000000002"]]


def test_a_folder_that_is_renamed_ends_the_sweep(tmp_path):
    def rename(left):
        (tmp_path / "study").rename(tmp_path / "other")

    with pytest.raises(ValueError, match="study was renamed or deleted .* with its new name"):
        sweep(tmp_path / "study", specs(2), prepare=rename)
    assert not list(tmp_path.glob("study/runs/*"))


def test_finished_runs_correct_the_estimate(tmp_path):
    plan = specs(5)  # each estimated at one second
    for spec in plan[:4]:
        run_folder.prepare(spec.folder(tmp_path), spec.text)
        (spec.folder(tmp_path) / "result.json").write_text('{"seconds": 8.0}')
    assert "scaled by 8.00 from 4 finished" in runner.estimate(plan, tmp_path, Local(1))


def test_dry_run_shows_counts_and_time(tmp_path):
    plan = specs(5)
    text = runner.estimate(plan, tmp_path, Local(2))
    assert "5 runs, 0 finished; about 2 s left with 2 workers (30 GFLOP/s" in text
    assert not list(tmp_path.iterdir())
    sweep(tmp_path, plan)
    assert "5 runs, 5 finished; about 0 s left" in runner.estimate(plan, tmp_path, Local(2))


def test_the_time_of_runs_that_may_stop_early_is_a_bound_until_some_have_finished(tmp_path, run):
    patient = dataclasses.replace(run, patience=2)
    plan = [dataclasses.replace(spec, run=patient) for spec in specs(5)]
    assert "; at most about 2 s left" in runner.estimate(plan, tmp_path, Local(2))
    run_folder.prepare(plan[0].folder(tmp_path), plan[0].text)
    (plan[0].folder(tmp_path) / "result.json").write_text('{"seconds": 0.5}')
    assert "; about 1 s left" in runner.estimate(plan, tmp_path, Local(2))


def test_an_absurd_estimate_points_to_the_plan_for_accelerators(tmp_path):
    month = [dataclasses.replace(spec, seconds=20 * 86400.0) for spec in specs(2)]
    assert "about 20 days left with 2 workers" in (
        text := runner.estimate(month, tmp_path, Local(2))
    )
    assert "spjax plan" not in text
    assert "`spjax plan STUDY.gin --topology=" in runner.estimate(month, tmp_path, Local(1))
    text = runner.estimate(month, tmp_path, Slurm(workers=1))
    assert "That is the time on CPU cores: `spjax plan" in text and "this machine" not in text
    run_folder.prepare(month[0].folder(tmp_path), month[0].text)
    took = json.dumps({"seconds": 60 * 86400.0})  # there, whatever its devices are
    (month[0].folder(tmp_path) / "result.json").write_text(took)
    text = runner.estimate(month, tmp_path, Slurm(workers=1))
    assert "about 60 days left" in text and "CPU" not in text and "this machine" not in text
