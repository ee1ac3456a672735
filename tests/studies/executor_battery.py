"""Promises that every executor keeps, with a stand-in for training; pytest collects them where a
file imports them and has a fixture `executor`: a function that returns a new executor.
"""

import pytest

from spjax.studies import run_folder, runner
from spjax.studies.executors.local import Local
from tests.studies.fake_sweep import TRAIN, specs


def sweep(folder, plan, executor, **options):
    """Sweeps fake runs."""
    return runner.sweep("fake", plan, folder, executor=executor, train=TRAIN, **options)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The results.csv of eight runs with the local executor."""
    folder = tmp_path_factory.mktemp("local")
    sweep(folder, specs(8), Local(2))
    return (folder / "results.csv").read_bytes()


def test_the_same_study_gives_the_same_table(tmp_path, executor, table):
    plan = specs(8)
    outcome = sweep(tmp_path, plan, executor())
    assert (outcome.finished, outcome.failed, outcome.stopped) == (8, {}, "")
    assert (tmp_path / "results.csv").read_bytes() == table
    assert "Nothing to do: 8 runs" in runner.report(
        sweep(tmp_path, plan, executor()), plan, tmp_path
    )


def test_gangs_of_several_runs_and_runs_that_are_left(tmp_path, executor, table):
    sweep(tmp_path, specs(3), executor(), gang_width=2)
    assert sweep(tmp_path, specs(8), executor(), gang_width=4).new == 5
    assert (tmp_path / "results.csv").read_bytes() == table


def test_a_failure_and_a_crash_cost_no_other_run(tmp_path, executor):
    plan = specs(6, fail={1: "raise", 2: "crash", 4: "crash_once"})
    outcome = sweep(tmp_path, plan, executor())
    assert outcome.finished == 4 and set(outcome.failed) == {plan[1].key, plan[2].key}
    assert "this run cannot be trained" in outcome.failed[plan[1].key]
    report = runner.report(outcome, plan, tmp_path)
    assert "4 of 6 runs finished" in report and f"FAILED {plan[2].key}" in report
    assert "SIGSEGV" in report and "2 attempts" in report


def test_a_full_disk_stops_the_sweep(tmp_path, executor):
    (spec,) = plan = specs(1, fail={0: "full"})
    outcome = sweep(tmp_path, plan, executor())
    folder = spec.folder(tmp_path)
    assert outcome.stopped.startswith(f"{folder} cannot be written (No space left on device; ")
    assert "What was saved is kept: 0 of 1 runs" in runner.report(outcome, plan, tmp_path)


def test_nothing_holds_the_folder_afterwards(tmp_path, executor):
    sweep(tmp_path, specs(2), executor())
    with run_folder.lock(tmp_path):
        pass
