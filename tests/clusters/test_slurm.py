"""The executor slurm on a real Slurm cluster of two simulated machines."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spjax.studies import runner
from spjax.studies.executors.slurm import Slurm, _queue
from tests import kill_battery
from tests.clusters import slurm_cluster
from tests.studies import executor_battery
from tests.studies.executor_battery import *  # noqa: F403
from tests.studies.fake_sweep import specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory):
    """Starts the cluster for this file."""
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_cluster.cluster(folder) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with slurm_cluster.without_delays():
            yield folder


@pytest.fixture
def executor(cluster):
    yield lambda **options: Slurm(**{"time": "5", "poll_seconds": 0.5, **options})
    wait_for(lambda: not _queue())


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def steps(folder):
    """Returns the steps of the checkpoints of fake runs."""
    return [json.loads(p.read_text())["step"] for p in folder.glob("runs/*/checkpoint.json")]


def scancel(*flags):
    subprocess.run(["scancel", f"--user={os.environ.get('USER') or 'root'}", *flags], check=True)


def test_the_driver_may_leave_and_a_cancelled_job_is_submitted_again(tmp_path, executor, table):
    outcome = executor_battery.sweep(tmp_path, specs(8), executor(wait=False, workers=2))
    assert len(outcome.left) == 8 and not outcome.failed
    report = runner.report(outcome, specs(8), tmp_path)
    assert "8 runs wait or are trained without this process" in report
    again = executor_battery.sweep(tmp_path, specs(8), executor(wait=False))
    assert len(again.left) == 8 - again.finished  # the same jobs: none was submitted twice
    assert len(list(tmp_path.glob("jobs/*"))) == 1
    wait_for(lambda: list(tmp_path.glob("runs/*/result.json")))
    scancel("--state=PENDING")
    wait_for(lambda: not _queue())
    last = executor_battery.sweep(tmp_path, specs(8), executor())
    assert last.finished == 8 and 0 < last.new < 8 and len(list(tmp_path.glob("jobs/*"))) == 2
    assert (tmp_path / "results.csv").read_bytes() == table


@pytest.mark.parametrize("limit, count", [("5", 3000), ("2", 50_000)])
def test_a_job_whose_time_is_up_saves_its_run_and_goes_on(tmp_path, executor, limit, count):
    """The signal comes from `scancel`, and then from Slurm, as a run takes longer than its job."""
    _, spec = specs(2, steps=count)  # two milliseconds a step at least
    executor_battery.sweep(tmp_path, [spec], executor(wait=False, time=limit))
    wait_for(lambda: steps(tmp_path))
    if limit == "5":
        scancel("--signal=USR2")
    outputs = tmp_path / "jobs"
    wait_for(lambda: any("Requeued job" in p.read_text() for p in outputs.glob("*/*.out")))
    (saved,) = steps(tmp_path)
    assert 0 < saved < count
    assert executor_battery.sweep(tmp_path, [spec], executor(time=limit)).finished == 1
    value = pow(16807, count, 2147483647)  # what a run that was not interrupted comes to
    assert spec.result(tmp_path)["test"]["score"] == value % 1000 / 10
    assert len(list(outputs.glob("*"))) == 1


def test_failures_of_jobs_that_nobody_waited_for(tmp_path, executor):
    plan = specs(4, fail={0: "raise", 1: "crash"})
    outcome = executor_battery.sweep(tmp_path, plan, executor(wait=False))
    assert len(outcome.left) == 4 and set(outcome.left.values()) <= {"PENDING", "RUNNING"}
    wait_for(lambda: not _queue())
    outcome = executor_battery.sweep(tmp_path, plan, executor(wait=False))
    assert set(outcome.failed) == {plan[0].key, plan[1].key} and not outcome.left
    report = runner.report(outcome, plan, tmp_path)
    assert "2 of 4 runs finished" in report and "SIGSEGV" in report
    assert "this run cannot be trained" in report
    outcome = executor_battery.sweep(tmp_path, plan, executor(wait=False))
    assert set(outcome.left) == {plan[0].key, plan[1].key} and not outcome.failed


SLOW_SBATCH = """#!/bin/sh
touch {folder}/under_way
sleep 15
exec {sbatch} "$@"
"""
DRIVER = """
import pathlib, sys
from spjax.studies.executors.slurm import Slurm
from tests.studies import executor_battery
from tests.studies.fake_sweep import specs
executor_battery.sweep(pathlib.Path(sys.argv[1]), specs(3), Slurm(wait=False, time="5"))
"""


def test_a_driver_that_is_killed_while_sbatch_is_under_way(tmp_path, executor):
    """The array comes to the queue after the next driver has submitted its gangs again.

    Its jobs wait a minute for a file that submitit would have renamed, and end.
    """
    slow = tmp_path / "bin" / "sbatch"
    slow.parent.mkdir()
    slow.write_text(SLOW_SBATCH.format(folder=tmp_path, sbatch=shutil.which("sbatch")))
    slow.chmod(0o755)
    study, place = tmp_path / "study", {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(study)], env=place)
    wait_for((tmp_path / "under_way").exists)
    driver.kill()
    driver.wait()
    outcome = executor_battery.sweep(study, specs(3), executor(wait=False))
    assert len(outcome.left) == 3 and len(list(study.glob("jobs/*"))) == 2
    (withdrawn,) = study.glob("jobs/*/withdrawn.json")
    wait_for(lambda: list(withdrawn.parent.glob("*.out")))  # its jobs have begun
    wait_for(lambda: not _queue(), 300)
    assert executor_battery.sweep(study, specs(3), executor(wait=False)).finished == 3
    assert not list(withdrawn.parent.glob("events_*"))
    tries = [len(list(spec.folder(study).glob("try*"))) for spec in specs(3)]
    assert tries == [1, 1, 1]


def test_a_run_of_two_tasks_gives_the_row_of_one_process(sweeps, tmp_path):
    """`scripts/launch/slurm_train.sbatch`, with both tasks on this machine and without GPUs."""
    sweeps = sweeps(seeds=1)
    sweeps.run("local", "--workers=1")
    text = (ROOT / "scripts" / "launch" / "slurm_train.sbatch").read_text()
    assert "#SBATCH --gpus-per-node=8\n" in text and ".venv/bin/spjax" in text
    text = text.replace("#SBATCH --gpus-per-node=8\n", "")
    script = tmp_path / "train.sbatch"
    script.write_text(text.replace(".venv/bin/spjax", str(Path(sys.executable).parent / "spjax")))
    place = ["--nodes=1", "--ntasks-per-node=2", "--cpus-per-task=1", "--time=10"]
    for config in tmp_path.glob("local/study/runs/*/config.gin"):
        folder = tmp_path / "two" / "study" / "runs" / config.parent.name
        output = tmp_path / f"{config.parent.name}.out"
        command = ["sbatch", "--wait", f"--output={output}", *place, str(script)]
        command += [f"--gin_file={config}", f"--gin.MODEL_DIR={folder}"]
        done = subprocess.run(command, env=sweeps.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + output.read_text()
        assert output.read_text().count('"status": "finished"') == 1  # the first task's
        compare_prompts(config.parent, folder)
    assert "Nothing to do: 2 runs finished" in sweeps.run("two", "--workers=1")
    sweeps.check_ending("two")


def compare_prompts(*folders):
    """Compares prompts whose sums were made in another order."""
    prompts = [np.load(folder / "prompt.npy") for folder in folders]
    np.testing.assert_allclose(*prompts, rtol=1e-4, atol=1e-4)


def test_failures_on_two_machines(tmp_path, executor):
    """A run that cannot be trained is tried once, and one that ends its process twice."""
    plan = specs(2, fail={0: "raise", 1: "crash_once"})
    outcome = executor_battery.sweep(tmp_path, plan, executor(nodes=2))
    assert (outcome.finished, outcome.stopped) == (1, "")
    assert list(outcome.failed) == [plan[0].key]
    assert "ValueError: this run cannot be trained" in outcome.failed[plan[0].key]
    assert [len(list(spec.folder(tmp_path).glob("try*"))) for spec in plan] == [1, 2]
    assert list(tmp_path.glob("jobs/*/worker_0.1.log"))


TWO = ("--executor=slurm", "--nodes=2", "--time=10", "--gin.Slurm.poll_seconds=1")


def processes_of(sweeps, folder):
    """Returns the worker processes of a study's jobs, by rank."""
    place = str(folder).encode()
    ranks = {}
    for pid in kill_battery.living(sweeps.mark):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            output = os.readlink(f"/proc/{pid}/fd/1").encode()
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"spjax.studies.worker" in command and output.startswith(place):
            (rank,) = (x for x in variables if x.startswith(b"SLURM_PROCID="))
            ranks[int(rank.partition(b"=")[2])] = pid
    return ranks


def test_runs_over_two_machines(sweeps):
    """A process of the first job is killed, and the second try goes on; two runs in a gang."""
    sweeps = sweeps(seeds=1, steps=60)
    sweeps.run("local", "--workers=1")
    folder = sweeps.folder / "two" / "study"
    process = sweeps.start("two", *TWO, "--gin.Study.gang_width=2")
    sweeps.wait_for(lambda: list(folder.glob("runs/*/checkpoints/10")), process)
    os.kill(processes_of(sweeps, folder)[1], signal.SIGKILL)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0 and "2 of 2 runs finished" in output, output
    assert len(list(folder.glob("jobs/*"))) == 2
    (events,) = [x for x in folder.glob("jobs/*/events_0.1.jsonl") if "died" in x.read_text()]
    assert "process 1 of 2: its process was ended by SIGKILL" in events.read_text()
    for run in folder.glob("runs/*"):
        compare_prompts(run, sweeps.folder / "local" / "study" / "runs" / run.name)
        assert len(list(run.glob("events*"))) == 2  # of the first process of each try
    wait_for(lambda: not _queue())
    sweeps.check_ending("two")


def test_a_job_on_two_machines_is_put_back_once(sweeps):
    """By the signal to all of its processes, which save the same step."""
    sweeps = sweeps(seeds=1, steps=2000)
    folder = sweeps.folder / "two" / "study"
    process = sweeps.start("two", *TWO, "--gin.Study.gang_width=2")
    sweeps.wait_for(lambda: list(folder.glob("runs/*/checkpoints/20")), process)
    scancel("--signal=USR2", "--state=RUNNING")
    sweeps.wait_for(lambda: put_back(folder), process)
    sweeps.kill(process)
    (saved,) = {newest(run) for run in folder.glob("runs/*")}
    assert 0 < saved < 2000
    (job,) = folder.glob("jobs/*")
    assert not any("died" in path.read_text() for path in job.glob("events_0.*"))
    sweeps.wait_for(lambda: min(map(newest, folder.glob("runs/*"))) > saved)  # it goes on
    assert put_back(folder) == 1
    scancel()
    wait_for(lambda: not _queue())


def put_back(folder):
    """Returns how often jobs of a study were put back into the queue."""
    outputs = folder.glob("jobs/*/*.out")
    return sum(path.read_text().count("Requeued job") for path in outputs)


def newest(run):
    return max(int(path.name) for path in run.glob("checkpoints/[0-9]*") if path.name.isdigit())


def test_more_machines_than_the_cluster_has(tmp_path, executor):
    outcome = executor_battery.sweep(tmp_path, specs(2), executor(nodes=5, wait=False))
    assert set(outcome.left.values()) == {"PENDING"}
    scancel()


def test_settings_that_slurm_refuses(tmp_path, executor):
    with pytest.raises(ValueError, match="sbatch did not take the jobs: (.|\n)*invalid partition"):
        executor_battery.sweep(tmp_path, specs(2), executor(partition="absent"))


def test_real_runs_with_cancelled_jobs_and_a_killed_driver(sweeps):
    """Jobs that wait are cancelled, and the driver is killed."""
    sweeps = sweeps(seeds=3, steps=60)
    sweeps.run("local", "--workers=2")
    flags = ("--executor=slurm", "--time=2", "--gin.Slurm.poll_seconds=1")
    process = sweeps.start("slurm", *flags)
    sweeps.wait_for(lambda: sweeps.finished("slurm") >= 1, process)
    sweeps.kill(process)
    scancel("--state=PENDING")
    assert "6 of 6 runs finished" in sweeps.run("slurm", *flags)
    wait_for(lambda: not _queue())
    sweeps.check_ending("slurm")
