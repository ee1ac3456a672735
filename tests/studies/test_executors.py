"""Executors: their names, their settings, and the battery with those that need no cluster."""

import json
import platform
import resource
import signal
import types
from pathlib import Path

import pytest

from spjax import locks
from spjax.cli import main
from spjax.studies import devices, executors, run_folder, runner, worker
from spjax.studies.executor import Executor, settings
from spjax.studies.executors.local import Local
from spjax.studies.executors.ray import Ray
from spjax.studies.executors.slurm import Slurm
from spjax.studies.study import load_executor, load_study
from spjax.studies.worker_process import STOPPED, WorkerProcess
from tests.studies import executor_battery, fake_train
from tests.studies.executor_battery import *  # noqa: F403
from tests.studies.fake_sweep import TRAIN, specs

ROOT = Path(__file__).parents[2]
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
IN_PROCESS = '''
import dataclasses

from spjax.studies.executor import Executor, setting


@dataclasses.dataclass
class InProcess(Executor):
    """Trains in the calling process."""

    greeting: str = setting("hello", "printed at the start")

    def open(self, site):
        self.site, self.queue = site, []
        print(self.greeting)

    def size(self, gangs):
        return 1

    def start(self, worker):
        self.queue.append({"type": "ready"})

    def submit(self, worker, folders):
        from tests.studies import fake_train

        fake_train.train(folders, lambda progress: None)
        self.queue.append({"type": "done"})

    def events(self, timeout):
        events, self.queue = self.queue, []
        return [(0, event) for event in events]

    def close(self):
        pass
'''


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


@pytest.fixture
def executor():
    return lambda: Local(2)


@pytest.fixture
def in_process(tmp_path, monkeypatch):
    (tmp_path / "further").mkdir()
    (tmp_path / "further" / "in_process.py").write_text(IN_PROCESS)
    monkeypatch.setattr(executors, "__path__", [*executors.__path__, str(tmp_path / "further")])


@pytest.mark.usefixtures("in_process")
def test_the_file_name_of_an_executor_registers_it(tmp_path, table, capsys):
    assert "in_process" in executors.names() and executors.DEFAULT in executors.names()
    chosen = executors.get("in_process")
    executor_battery.sweep(tmp_path / "study", specs(8), chosen(greeting="good day"))
    assert (tmp_path / "study" / "results.csv").read_bytes() == table
    assert "good day" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main(["sweep", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--greeting VALUE printed at the start (in_process)" in text


def test_an_unknown_executor():
    with pytest.raises(ValueError, match="unknown executor 'pbs'; known executors: .*local"):
        executors.get("pbs")


@pytest.mark.parametrize("name", executors.names())
def test_settings_of_every_executor_are_checked_and_explained(name):
    executor = executors.get(name)
    assert executor().expected_workers() >= 1
    assert all(field.metadata["help"] for field in settings(executor).values())
    with pytest.raises(ValueError, match=f"{executor.__name__}.workers is -1; it must be 0 or"):
        executor(workers=-1)


def test_settings_come_from_gin_and_those_of_others_are_ignored(tmp_path):
    (tmp_path / "study.gin").write_text(
        'Study.name = "s"\nStudy.arms = [@a/Arm()]\na/Arm.name = "a"\na/Arm.gin_files = []\n'
        "Local.devices_per_worker = 2\nLocal.workers = 5\n"
    )
    files = [str(tmp_path / "study.gin")]
    bindings = ["Local.workers = 1", "TRAIN_STEPS = 3"]
    _, rest = load_study(files, bindings)
    assert rest == ["TRAIN_STEPS = 3"]
    executor = load_executor("local", files, bindings)
    assert executor == Local(1, devices_per_worker=2)
    assert load_executor("slurm", files).workers == 0
    with pytest.raises(ValueError, match="Local.workers is 'two'"):
        load_executor("local", files, ["Local.workers = 'two'"])
    with pytest.raises(ValueError, match="nothing uses the binding 'Local.workers'"):
        load_executor("ray", files, ["Local.workers = 1"])


@pytest.mark.parametrize(
    "text, minutes",
    [("90", 90), ("90:01", 91), ("1:30:00", 90), ("2-0", 2880), ("1-1:1", 1501), ("1-0:0:9", 1441)],
)
def test_time_limits_are_read_as_sbatch_does(text, minutes):
    assert Slurm(time=text)._minutes == minutes


def test_settings_that_slurm_cannot_have():
    for text in ("0", "1", "tomorrow", "1:2:3:4"):
        with pytest.raises(ValueError, match=f"Slurm.time is '{text}'; use minutes, HH:MM:SS"):
            Slurm(time=text)


@pytest.mark.parametrize("executor", [Ray, Slurm])
def test_workers_have_a_machine_or_several(executor):
    assert executor(nodes=2).nodes == 2
    with pytest.raises(ValueError, match=f"{executor.__name__}.nodes is 0; it must be 1 or more"):
        executor(nodes=0)


def test_several_machines_without_a_cluster(capsys):
    code = main.main(["sweep", "--gin_file=x.gin", "--nodes=2", "--dry_run"])
    error = capsys.readouterr().err
    assert code == 2 and "--nodes is no setting of the executor 'local', but of ray" in error


def test_a_flag_of_another_executor(capsys):
    code = main.main(["sweep", "--gin_file=x.gin", "--address=auto", "--dry_run"])
    error = capsys.readouterr().err
    assert code == 2 and "--address is no setting of the executor 'local', but of ray" in error


def test_a_worker_that_is_told_to_end_saves_its_runs_first(tmp_path):
    (spec,) = specs(1, steps=100_000)
    folder = spec.folder(tmp_path)
    run_folder.prepare(folder, spec.text)
    process = WorkerProcess(tmp_path / "log", TRAIN)
    try:
        events = []
        while not events or events[-1]["type"] != "progress":
            events += process.events(20)
            if events == [{"type": "ready"}]:
                process.submit([folder])
        process._popen.send_signal(signal.SIGUSR2)
        while events[-1]["type"] != "died":
            events += process.events(20)
    finally:
        process.close()
    assert events[-1]["code"] == STOPPED and (folder / "checkpoint.json").exists()
    assert not (folder / "result.json").exists() and (tmp_path / "log").read_text() == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.skipif(
    HUGE.exists() and "[always]" in HUGE.read_text(), reason="faults are those of huge pages"
)
def test_what_a_step_of_a_worker_frees_is_there_for_the_next(tmp_path, monkeypatch):
    """The thread that listens for orders must not have an arena of its own to share."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    process = WorkerProcess(tmp_path / "log", "tests.studies.fake_train:count_page_faults")
    try:
        events = []
        while not events or events[-1]["type"] not in ("done", "failed", "died"):
            events += process.events(20)
            if events == [{"type": "ready"}]:
                process.submit([tmp_path])
    finally:
        process.close()
    assert events[-1]["type"] == "done", events
    first, *later = json.loads((tmp_path / "result.json").read_text())["faults"]
    pages = (40 << 20) // resource.getpagesize()
    assert first > 0.9 * pages and max(later) < 0.1 * pages, (first, later)


def test_a_worker_that_is_told_to_end_as_a_gang_ends_takes_no_other(tmp_path):
    """The next gang would die with it, and have one try less."""
    plan = specs(3, fail={0: "told", 1: "crash_once", 2: "told"})
    outcome = executor_battery.sweep(tmp_path, plan, Local(1), gang_width=1)
    assert (outcome.finished, outcome.failed, outcome.stopped) == (3, {}, "")
    tries = [len(list(spec.folder(tmp_path).glob("try*"))) for spec in plan]
    assert tries == [1, 2, 1]


def test_a_run_is_trained_by_one_worker_at_a_time(tmp_path, monkeypatch):
    """A machine may have been taken for lost, or jobs of Slurm and local workers meet."""
    monkeypatch.setattr(worker, "_PATIENCE_SECONDS", 0.1)
    events, stop = [], types.SimpleNamespace(requested=False)
    with locks.hold(tmp_path / ".lock"):
        worker._work(pytest.fail, [tmp_path], lambda **event: events.append(event), stop)
    assert events[0]["type"] == "failed" and "is being trained elsewhere" in events[0]["message"]


def test_a_worker_that_cannot_start_leaves_the_runs_to_the_others(tmp_path):
    """A machine of a cluster may lack the shared folder."""

    class Partly(Local):
        def start(self, worker):
            self.broken = getattr(self, "broken", []) + ([worker] if worker == 1 else [])
            if worker != 1:
                super().start(worker)

        def events(self, timeout):
            broken, self.broken = self.broken, []
            died = {"type": "died", "message": "no folder", "lost": False}
            return [(worker, died) for worker in broken] or super().events(timeout)

    outcome = executor_battery.sweep(tmp_path, specs(6), Partly(2), gang_width=1)
    assert (outcome.finished, outcome.stopped) == (6, "")


def test_a_gang_on_lost_machines_is_tried_again_and_again(tmp_path, monkeypatch):
    """More often than one that ends its workers, but not for ever."""
    losses = []

    class Lost(Local):
        limit = 2

        def events(self, timeout):
            events = super().events(timeout)
            if len(losses) < self.limit and any(event["type"] == "progress" for _, event in events):
                losses.append(events[0][0])
                self._end(losses[-1])
                return [(losses[-1], {"type": "died", "message": "lost", "lost": True})]
            return events

    assert executor_battery.sweep(tmp_path / "a", specs(1, steps=60), Lost(1)).finished == 1
    assert len(losses) == 2
    monkeypatch.setattr(runner, "_LOSSES", 1)
    losses.clear()
    outcome = executor_battery.sweep(tmp_path / "b", specs(1, steps=60), Lost(1))
    assert list(outcome.failed.values()) == ["lost (1 attempts)"]


def test_each_worker_is_started_with_its_devices(tmp_path, monkeypatch):
    gpus = devices.Accelerators(devices.GPU, ["0", "1", "2", "3"])
    monkeypatch.setattr(devices, "accelerators", lambda: gpus)
    plan, train = specs(8), "tests.studies.fake_train:note_devices"
    executor = Local(devices_per_worker=2)
    runner.sweep("fake", plan, tmp_path, executor=executor, train=train, gang_width=1)
    seen = {(spec.folder(tmp_path) / "devices").read_text() for spec in plan}
    assert seen == {"0,1", "2,3"}


class Jobs(Executor):
    """Jobs that outlive the driver; the one that runs already is of no run of the study."""

    is_warm, outlives_driver = False, True

    def open(self, site):
        self.sent = [(0, {"type": "died", "message": "cancelled"})]

    def running(self):
        return [["0123456789ab"]]

    def size(self, gangs):
        return 1

    def start(self, worker):
        self.sent.append((worker, {"type": "ready"}))

    def submit(self, worker, folders):
        pass

    def events(self, timeout):
        sent, self.sent = self.sent, []
        if not sent:
            raise KeyboardInterrupt
        return sent

    def close(self):
        pass


def test_jobs_of_no_run_may_end_and_those_that_go_on_are_counted(tmp_path):
    plan = specs(3)
    outcome = runner.sweep("fake", plan, tmp_path, executor=Jobs(), train=TRAIN)
    assert (outcome.stopped, len(outcome.left)) == (runner.INTERRUPTED, 2)
    assert "2 runs wait or are trained without this process" in runner.report(
        outcome, plan, tmp_path
    )


class Restarting(Jobs):
    """A worker whose first gang fails, and which needs some time to take another one."""

    outlives_driver = False

    def open(self, site):
        self.sent, self.submitted, self.is_ready = [], 0, False

    def running(self):
        return []

    def start(self, worker):
        self.is_ready = True
        super().start(worker)

    def submit(self, worker, folders):
        assert self.is_ready
        self.submitted += 1
        if self.submitted == 1:
            self.is_ready = False
            failed = {"type": "failed", "message": "no data", "disk": "", "restarts": True}
            self.sent.append((worker, failed))
        else:
            fake_train.train(folders, lambda progress: None)
            self.sent.append((worker, {"type": "done"}))

    def events(self, timeout):
        sent, self.sent = self.sent, []
        if not sent:
            self.start(0)
        return sent


def test_a_worker_that_restarts_is_waited_for(tmp_path):
    plan = specs(3)
    outcome = runner.sweep("fake", plan, tmp_path, executor=Restarting(), train=TRAIN, gang_width=1)
    assert len(outcome.failed) == 1 and outcome.finished == 2 and not outcome.stopped
