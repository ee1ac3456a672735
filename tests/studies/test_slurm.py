"""The executor slurm with a stand-in for submitit and squeue; `tests/clusters` has a real Slurm."""

import json
import types
from pathlib import Path

import pytest

from spjax.cli import sweep as command
from spjax.studies import runner
from spjax.studies.executor import Site
from spjax.studies.executors import slurm
from spjax.studies.executors.slurm import Slurm
from spjax.studies.worker_process import STOPPED
from tests.studies import executor_battery
from tests.studies.fake_sweep import TRAIN, specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


class Killed(BaseException):
    """The end of a driver."""


class Cluster:
    """A queue that takes so many jobs of a user.

    Attributes:
      most: jobs in the queue.
      jobs: function and arguments of each job in the queue, by name.
      settings: of the last job array.
      late: whether the driver is killed and its jobs come to the queue with `arrive` alone.
    """

    def __init__(self):
        self.most, self.jobs, self.late, self.under_way = 1000, {}, False, {}
        self.settings = {}

    def submit(self, name, train, indices, gangs):
        jobs = {f"spjax-{name}_{i}": (train, i, gang) for i, gang in zip(indices, gangs)}
        if self.late:
            self.under_way |= jobs
            raise Killed
        self.jobs |= jobs

    def arrive(self):
        self.jobs |= self.under_way
        self.under_way = {}

    def run(self):
        """Runs all jobs to their ends."""
        while self.jobs:
            train, index, gang = self.jobs[next(iter(self.jobs))]
            train(index, gang)
            del self.jobs[next(iter(self.jobs))]


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()

    class FailedJobError(RuntimeError):
        pass

    class SlurmExecutor:
        def __init__(self, folder, max_num_timeout):
            self.name = folder.name

        def update_parameters(self, **values):
            cluster.settings = values

        def map_array(self, train, indices, gangs):
            if len(cluster.jobs) + len(gangs) > cluster.most:
                raise FailedJobError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
            cluster.submit(self.name, train, indices, gangs)

    core = types.SimpleNamespace(utils=types.SimpleNamespace(FailedJobError=FailedJobError))
    submitit = types.SimpleNamespace(SlurmExecutor=SlurmExecutor, core=core)
    monkeypatch.setattr("spjax.extras.import_module", lambda *names: submitit)
    monkeypatch.setattr(slurm, "_queue", lambda: dict.fromkeys(cluster.jobs, "PENDING"))
    return cluster


def opened(folder, **values):
    """Returns an executor that has eight gangs to submit, to a queue that takes three."""
    executor = Slurm(poll_seconds=0.01, **values)
    executor.open(Site(folder, 0, TRAIN))
    for i in range(8):
        executor.submit(i, [folder / "runs" / f"{i}"])
    return executor


def sweep(folder, plan):
    """Sweeps without waiting; returns the outcome and the report."""
    outcome = executor_battery.sweep(folder, plan, Slurm(wait=False))
    return outcome, runner.report(outcome, plan, folder)


def test_events_of_a_job_are_read_once_and_without_what_was_cut_off(tmp_path):
    job = slurm._Job(tmp_path, 3)
    assert job.read() == []
    file = tmp_path / "events_3.jsonl"
    file.write_text('{"type": "progress"}\n{"type": "pro{"type": "done"}\n{"type"')
    assert job.read() == [{"type": "progress"}] and job.told == []
    with open(file, "a") as more:
        more.write(': "failed", "message": "no memory"}\n')
    assert [event["type"] for event in job.read()] == ["failed"] and job.read() == []
    assert [event["type"] for event in job.told] == ["failed"]


def test_events_of_an_earlier_attempt_do_not_count(tmp_path):
    """Each process of a job has a file of its own, and begins it anew for what counts."""
    (tmp_path / "gangs.json").write_text('{"gangs": [["run"]]}')
    first, second = tmp_path / "events_0.jsonl", tmp_path / "events_0.1.jsonl"
    attempt, died = json.dumps(slurm._ATTEMPT), '{"type": "died", "message": "ended"}'
    first.write_text(f"{attempt}\n")
    second.write_text(f"{attempt}\n{died}\n")
    (tmp_path / "events_00.jsonl").write_text(f"{died}\n")  # of another job
    job = slurm._Job(tmp_path, 0, 2)
    assert job.failure(tmp_path) == "ended"
    with open(second, "a") as more:
        more.write(f"{attempt}\n")
    assert job.failure(tmp_path) == "" and slurm._Job(tmp_path, 0, 2).failure(tmp_path) == ""


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_that_lost_a_machine_is_waited_for_while_it_is_in_the_queue(tmp_path, nodes):
    """Slurm may put it back; its gang would then be in two jobs. An earlier call submitted it."""
    (tmp_path / "gangs.json").write_text(json.dumps({"gangs": [["run"]], "nodes": nodes}))
    executor, (job,) = Slurm(), slurm._read_jobs(tmp_path)
    executor._jobs[0] = job
    job.write({"type": "died", "message": "ended"})
    events = executor._look(0, {job.name: "RUNNING"})
    if nodes == 1:
        assert [event["type"] for event in events] == ["died"]
        return
    assert events == [] and executor._look(0, {job.name: "PENDING"}) == []
    job.write(slurm._ATTEMPT)
    job.write({"type": "progress", "step": 1})
    assert [event["type"] for event in executor._look(0, {job.name: "RUNNING"})] == ["progress"]
    job.write({"type": "died", "message": "again"})
    assert executor._look(0, {job.name: "COMPLETING"}) == []
    assert executor._look(0, {}) == [{"type": "died", "message": "again"}] and not executor._jobs


def test_a_look_at_a_job_does_not_list_the_folder_of_all(tmp_path, monkeypatch):
    """It has some files of each of a thousand jobs."""
    monkeypatch.setattr(Path, "glob", pytest.fail)
    monkeypatch.setattr(Path, "iterdir", pytest.fail)
    executor, job = Slurm(), slurm._Job(tmp_path, 0, 2)
    executor._jobs[0] = job
    (tmp_path / "events_0.1.jsonl").write_text('{"type": "died", "message": "ended"}\n')
    (event,) = executor._look(0, {})
    assert event["message"] == "ended"


def test_jobs_beyond_the_limit_of_a_user_wait_for_room(cluster, tmp_path):
    cluster.most = 3
    executor, gone = opened(tmp_path), 0
    for _ in range(200):
        assert len(cluster.jobs) <= 3
        events = executor.events(0.01)
        gone += sum(event["type"] == "died" for _, event in events)
        if len(cluster.jobs) == 3 or not executor._batch:
            cluster.jobs.clear()  # they have ended
        if gone == 8:
            break
    assert gone == 8 and not executor._batch
    assert len(list(tmp_path.glob("jobs/*/gangs.json"))) == len(list(tmp_path.glob("jobs/*")))


def test_no_wait_tells_which_gangs_were_not_submitted(cluster, tmp_path):
    cluster.most = 3
    events = opened(tmp_path, wait=False).events(0.01)
    kinds = [event["type"] for _, event in events]
    assert kinds == ["left"] * 3 + ["failed"] * 5
    assert "the same command submits it when there is room" in events[-1][1]["message"]


def test_a_limit_that_leaves_no_job_is_an_error(cluster, tmp_path):
    cluster.most = 0
    with pytest.raises(ValueError, match="did not take the jobs: .*QOSMaxSubmitJobPerUserLimit"):
        opened(tmp_path).events(0.01)


@pytest.mark.slow
def test_no_wait_reports_a_failure_once_and_then_tries_again(cluster, tmp_path):
    plan = specs(3, fail={0: "raise", 1: "crash_once"})
    outcome, report = sweep(tmp_path, plan)
    assert outcome.left == dict.fromkeys([spec.key for spec in plan], "PENDING")
    assert "3 runs wait or are trained without this process (3 PENDING)" in report
    cluster.run()
    outcome, report = sweep(tmp_path, plan)  # which has nothing else to do
    assert set(outcome.failed) == {plan[0].key, plan[1].key} and not outcome.left
    assert (outcome.finished, len(cluster.jobs)) == (1, 0)
    assert "this run cannot be trained" in outcome.failed[plan[0].key]
    assert "SIGSEGV" in outcome.failed[plan[1].key]
    assert "has failed, and the same command submits it again" in report
    outcome, _ = sweep(tmp_path, plan)
    assert set(outcome.left) == {plan[0].key, plan[1].key} and not outcome.failed
    assert not sweep(tmp_path, plan)[0].failed  # they wait: what has failed was reported
    cluster.run()
    outcome, _ = sweep(tmp_path, plan)
    assert set(outcome.failed) == {plan[0].key} and outcome.finished == 2


def test_no_wait_submits_what_is_missing_beside_a_failure(cluster, tmp_path):
    plan = specs(3, fail={0: "raise"})
    sweep(tmp_path, plan[:1])
    cluster.run()
    outcome, _ = sweep(tmp_path, plan)
    assert set(outcome.failed) == {plan[0].key}
    assert set(outcome.left) == {plan[1].key, plan[2].key} and len(cluster.jobs) == 2


def test_a_failure_that_a_driver_has_seen_is_not_reported_again(cluster, tmp_path, caplog):
    (spec,) = plan = specs(1, fail={0: "raise"})
    executor = Slurm(poll_seconds=0.01)
    executor.open(Site(tmp_path, 0, TRAIN))
    runner.run_folder.prepare(spec.folder(tmp_path), spec.text)
    executor.submit(0, [spec.folder(tmp_path)])
    assert executor.events(0.0) == []
    cluster.run()
    executor._looked = 0.0
    assert executor.events(0.0)[-1][1]["type"] == "failed"
    outcome, _ = sweep(tmp_path, plan)
    assert not outcome.failed and set(outcome.left) == {spec.key} and not caplog.text


class Planned:
    """A study of fake runs, in place of `PlannedStudy`."""

    study = None

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan

    def estimate(self):
        return "its estimate"

    def run(self, mirror):
        return executor_battery.sweep(self.folder, self.plan, Slurm(wait=False))

    def report(self, outcome):
        return runner.report(outcome, self.plan, self.folder)

    def following(self, outcome):
        return None


def test_the_exit_status_of_a_command_that_does_not_wait(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("spjax.api.studies.finish_study", lambda *args: "the table")
    planned = Planned(tmp_path, specs(2, fail={0: "raise"}))
    assert command._train(planned, None)[0] == 0
    assert "(2 PENDING)" in capsys.readouterr().out
    cluster.run()
    assert command._train(planned, None)[0] == 1
    assert f"FAILED {planned.plan[0].key}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("comes", ["before", "later", "never", "and begins before"])
def test_a_driver_that_is_killed_while_it_submits(cluster, tmp_path, comes):
    """No run is trained by two jobs, whenever the first array comes to the queue."""
    plan = specs(3)
    cluster.late = True
    with pytest.raises(Killed):
        sweep(tmp_path, plan)
    cluster.late, begins = False, comes == "and begins before"
    if "before" in comes:
        cluster.arrive()
    if begins:
        train, *_ = next(iter(cluster.jobs.values()))
        assert slurm._accept(Path(train.folder))  # the first thing that a job does
    outcome, _ = sweep(tmp_path, plan)
    assert len(outcome.left) == 3 and len(list(tmp_path.glob("jobs/*"))) == 2 - begins
    if comes == "later":
        cluster.arrive()
    cluster.run()
    assert sweep(tmp_path, plan)[0].finished == 3
    for spec in plan:
        assert len(list(spec.folder(tmp_path).glob("try*"))) == 1
    withdrawn = list(tmp_path.glob("jobs/*/withdrawn.json"))
    assert len(withdrawn) == (not begins)
    assert not any(list(path.parent.glob("events_*")) for path in withdrawn)


def test_a_job_on_two_machines_has_a_task_on_each(cluster, tmp_path):
    opened(tmp_path, nodes=2, gpus=4).events(0.01)
    assert (cluster.settings["nodes"], cluster.settings["ntasks_per_node"]) == (2, 1)
    assert cluster.settings["gpus_per_node"] == 4
    assert "--kill-on-bad-exit=1" in cluster.settings["srun_args"]
    assert {train.nodes for train, *_ in cluster.jobs.values()} == {2}
    opened(tmp_path / "other").events(0.01)
    assert "--kill-on-bad-exit=1" not in cluster.settings["srun_args"]


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Runs one task of a job on two machines, whose process sends an event and ends."""
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "gangs.json").write_text('{"gangs": [["run"]]}')
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: None)

    def run(rank, event):
        class Process:
            def __init__(self, log, train, is_distributed):
                assert is_distributed and log.name == ("worker_0.log", "worker_0.1.log")[rank]

            def events(self, timeout):
                return [event]

            def close(self):
                pass

        monkeypatch.setattr(slurm, "WorkerProcess", Process)
        monkeypatch.setenv("SLURM_PROCID", str(rank))
        status = 0
        try:
            slurm._Train(str(jobs), TRAIN, 60.0, nodes=2)(0, ["run"])
        except SystemExit as end:
            status = end.code
        lines = (jobs / ("events_0.jsonl", "events_0.1.jsonl")[rank]).read_text().splitlines()
        events = [json.loads(line) for line in lines]
        assert events[0] == slurm._ATTEMPT
        return status, [event for event in events if event != slurm._ATTEMPT]

    run.job = slurm._Job(jobs, 0, 2)
    return run


def test_the_first_task_speaks_for_all(task):
    assert task(1, {"type": "done"}) == (0, [])
    assert task(0, {"type": "done"}) == (0, [{"type": "done"}])


def test_a_problem_of_any_task_ends_the_job_and_is_told_once(task, tmp_path):
    status, (event,) = task(1, {"type": "died", "message": "ended", "code": -9})
    assert status == 1 and event["message"] == "process 1 of 2: ended"
    status, events = task(0, {"type": "failed", "message": "no data", "disk": ""})
    assert status == 1 and len(events) == 1
    assert task.job.failure(tmp_path) == "process 0 of 2: no data"  # why the other one has ended
    task.job.write(slurm._REPORTED)
    task(1, {"type": "died", "message": "ended", "code": 1})
    assert slurm._Job(task.job.folder, 0, 2).failure(tmp_path) == ""


def test_tasks_that_were_told_to_stop_leave_the_queue_to_the_first(task):
    stopped = {"type": "died", "message": "stopped", "code": STOPPED}
    assert task(1, stopped) == (0, [])  # an error would end the first one while it is at it
    assert task(0, stopped) == (STOPPED, [])
