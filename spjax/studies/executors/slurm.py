"""Workers in jobs of Slurm, submitted with submitit; needs the extra `slurm`."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from spjax.files import append_line, read_json, write_json
from spjax.studies.executor import Event, Executor, Site, setting
from spjax.studies.worker_process import STOPPED, WorkerProcess

_log = logging.getLogger(__name__)
_NAME = "spjax-"  # beginning of the names of job arrays
_GANGS = "gangs.json"
# Names of that file until an array is known to be in the queue, and of one that trains nothing.
_PROPOSED, _WITHDRAWN = "proposed.json", "withdrawn.json"
_MOST_JOBS = 1000  # of an array; Slurm's MaxArraySize is 1001 by default
_MOST_TIMEOUTS = 1000
_SIGNAL_SECONDS = 120  # before the end of a job's time, to save its runs in
_LEAST_MINUTES = 2  # Slurm may send the signal up to a minute early
_REQUEUE_SECONDS = 15  # of these, to put the job back into the queue
_PROGRESS_SECONDS = 5.0
_SIGNALS = (-signal.SIGUSR1, -signal.SIGUSR2, -signal.SIGTERM)  # before the worker handles them
# What sbatch says where a user, account or quality of service has its number of jobs, as in
# QOSMaxSubmitJobPerUserLimit and AssocGrpSubmitJobsLimit.
_LIMIT = "SubmitJob"
_REPORTED: Event = {"type": "reported"}  # after a failure
_ATTEMPT: Event = {"type": "attempt"}  # before all other events each time that a job is started
_ENDED = "ENDED"  # in place of a state in the queue
_MISSES = 2  # times in a row that a job is not in the queue, before it counts as gone


@dataclasses.dataclass
class Slurm(Executor):
    """Runs each gang in a job of its own; jobs are submitted together, as job arrays.

    This process may end at any time: the same command finds the jobs that wait or run, collects
    what is finished, and submits what is missing. A job whose time is up, or that is preempted,
    saves its runs and is put back into the queue. The folder `jobs` in the study's folder has what
    jobs print.
    """

    workers: int = setting(0, "jobs of an array that run at the same time; 0 for no limit")
    partition: str = setting("", "partition of the cluster; empty for its default")
    account: str = setting("", "account that is charged")
    time: str = setting("24:00:00", "limit of each job, as sbatch reads it; longer gangs go on")
    nodes: int = setting(1, "machines of each job, whose processes train together")
    cpus: int = setting(1, "cores of each job, on each of its machines")
    gpus: int = setting(0, "GPUs of each job, on each of its machines")
    memory_gb: float = setting(
        0.0, "memory of each job in GB, on each of its machines; 0 for the cluster's default"
    )
    wait: bool = setting(True, "stay until all jobs have ended; otherwise submit them and end")
    poll_seconds: float = setting(10.0, "seconds between two looks at the queue")
    options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"help": 'further options of sbatch, such as {"qos": "high"}; in gin alone'},
    )
    is_warm: ClassVar[bool] = False
    outlives_driver: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        self._minutes = _minutes(self.time)
        self._jobs: dict[int, _Job] = {}
        self._failures: list[tuple[int, Event]] = []  # of earlier jobs
        self._ready: list[int] = []
        self._batch: list[tuple[int, Sequence[Path]]] = []
        self._looked = 0.0
        self._most, self._is_full = _MOST_JOBS, False

    def open(self, site: Site) -> None:
        """Looks for jobs that an earlier call has submitted: in the queue, and for failures.

        Failures that no call has reported yet are reported where this one does not wait, and then
        not submitted in this call. Where it waits they are warned of, and tried again.
        """
        from spjax import extras

        self._submitit = extras.import_module("submitit", "slurm", "the executor slurm")
        self._site, self._folder = site, site.folder.absolute() / "jobs"
        _withdraw_proposed(self._folder)  # before the queue, in which those that have begun are
        queue = _queue()
        earlier = sorted(self._folder.glob(f"*/{_GANGS}"))
        jobs = [job for path in earlier for job in _read_jobs(path.parent)]
        queued = [job for job in jobs if job.name in queue]
        self._jobs = dict(enumerate(queued))
        busy = {key for job in queued for key in job.gang()}
        for job in jobs:
            if job.name in queue or not (message := job.failure(site.folder)):
                continue
            job.write(_REPORTED)
            if self.wait:
                _log.warning("an earlier job, %s, has failed: %s", job.name, message)
            elif busy.isdisjoint(job.gang()):  # else it has been submitted again
                busy.update(job.gang())
                worker = len(self._jobs)
                self._jobs[worker] = job
                told = (
                    f"job {job.name} has failed, and the same command submits it again: {message}"
                )
                self._failures.append((worker, _failed(told)))

    def running(self) -> list[list[str]]:
        """Returns the gangs of jobs that wait or run, or whose failure is to be reported."""
        return [job.gang() for job in self._jobs.values()]

    def size(self, gangs: int) -> int:
        """Returns a worker for each gang: a worker is a job."""
        return gangs

    def start(self, worker: int) -> None:
        """Takes note of a job to come."""
        self._jobs.pop(worker, None)
        self._ready.append(worker)

    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Takes note of a gang; those that come together become a job array."""
        self._batch.append((worker, folders))

    def events(self, timeout: float) -> list[tuple[int, Event]]:
        """Submits what has come, and looks at the files of jobs and at the queue now and then."""
        if self._ready:
            ready, self._ready = self._ready, []
            return [(worker, {"type": "ready"}) for worker in ready]
        if self._is_full and time.monotonic() - self._looked >= self.poll_seconds:
            self._is_full = False
        while self._batch and not self._is_full:
            self._submit_some()
        if not self.wait:
            return self._last_events()
        if time.monotonic() - self._looked < self.poll_seconds:
            time.sleep(timeout)
            return []
        self._looked = time.monotonic()
        queue = self._queue_or_guess()
        return [(worker, x) for worker in list(self._jobs) for x in self._look(worker, queue)]

    def close(self) -> None:
        """Leaves all jobs as they are."""

    def _last_events(self) -> list[tuple[int, Event]]:
        """Returns what becomes of each gang when this process does not wait."""
        failures, self._failures = self._failures, []
        for worker, _ in failures:
            del self._jobs[worker]  # it may have another gang in the next call
        queue = self._queue_or_guess()
        left: list[tuple[int, Event]] = [
            (worker, {"type": "left", "state": queue.get(job.name, _ENDED)})
            for worker, job in self._jobs.items()
        ]
        problem = _failed(
            "the cluster takes no more jobs for now, so this one is not submitted; the same "
            "command submits it when there is room"
        )
        return left + failures + [(worker, problem) for worker, _ in self._batch]

    def _queue_or_guess(self) -> dict[str, str]:
        """Returns the queue; where it cannot be read, all jobs are taken to be in it."""
        try:
            return _queue()
        except ValueError as error:  # the controller may be starting again
            _log.warning("%s", error)
            return {job.name: "UNKNOWN" for job in self._jobs.values()}

    def _look(self, worker: int, queue: Mapping[str, str]) -> list[Event]:
        job = self._jobs[worker]
        events = [event for event in job.read() if event["type"] == "progress"]
        job.misses = 0 if job.name in queue else job.misses + 1
        end = _end(job.told)
        # A job of several machines that has lost one may be put back into the queue by Slurm.
        if end and (end["type"] == "done" or job.nodes == 1 or job.misses):
            events.append(end)
            del self._jobs[worker]
            if end["type"] != "done":
                job.write(_REPORTED)
        elif job.misses >= _MISSES:
            del self._jobs[worker]
            message = f"its job {job.name} is no longer in the queue of Slurm; see {job.folder}"
            events.append({"type": "died", "message": message})
        return events

    def _submit_some(self) -> None:
        """Submits the first of the gangs that have come, or notes how many the cluster may take.

        Raises:
          ValueError: it takes none, and none of this study's jobs is there that will make room.
        """
        batch = self._batch[: self._most]
        try:
            self._submit(batch)
        except _LimitError as error:
            if len(batch) > 1:
                self._most = len(batch) // 2
            elif self._jobs:
                self._is_full = True
                if self.wait:
                    _log.info(
                        "the cluster takes no more jobs for now; %d wait here", len(self._batch)
                    )
            else:
                raise ValueError(str(error)) from error
            return
        self._batch = self._batch[len(batch) :]
        self._most = min(2 * self._most, _MOST_JOBS)

    def _submit(self, batch: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """Submits a job array whose name is in the study's folder before it is in the queue.

        This process may end before it knows whether the array is in the queue. So its gangs are
        proposed first. A job of the array that begins, or the next call, renames the file, and who
        comes second does nothing.
        """
        folder = self._folder / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        gangs = [[str(path.absolute()) for path in folders] for _, folders in batch]
        write_json(folder / _PROPOSED, {"gangs": gangs, "nodes": self.nodes})
        executor = self._submitit.SlurmExecutor(folder, max_num_timeout=_MOST_TIMEOUTS)
        signal_seconds = min(_SIGNAL_SECONDS, 15 * self._minutes)
        srun = [f"--cpus-per-task={self.cpus}"] if self.cpus else []
        if self.nodes > 1:
            srun.append("--kill-on-bad-exit=1")  # a process that is left alone may wait for ever
        values = {
            "job_name": _NAME + folder.name,
            "partition": self.partition or None,
            "account": self.account or None,
            "time": self._minutes,
            "cpus_per_task": self.cpus or None,
            "gpus_per_node": self.gpus or None,
            "mem": f"{self.memory_gb * 1024:.0f}MB" if self.memory_gb else None,
            "array_parallelism": self.workers or len(batch),
            "nodes": self.nodes,
            "ntasks_per_node": 1,
            "srun_args": srun,
            "signal_delay_s": signal_seconds,
            "additional_parameters": {"requeue": True, **self.options},
        }
        executor.update_parameters(**{name: x for name, x in values.items() if x is not None})
        save_seconds = signal_seconds - _REQUEUE_SECONDS
        train = _Train(str(folder), self._site.train, save_seconds, self.nodes)
        try:
            executor.map_array(train, range(len(batch)), gangs)
        except self._submitit.core.utils.FailedJobError as error:
            problem = f"sbatch did not take the jobs: {error}"
            shutil.rmtree(folder)  # no job has its name
            if _LIMIT in str(error):
                raise _LimitError(problem) from error
            raise ValueError(problem) from error
        _accept(folder)
        for i, (worker, _) in enumerate(batch):
            self._jobs[worker] = _Job(folder, i, self.nodes)


def _end(events: Sequence[Event]) -> Event | None:
    """Returns the end of a gang, if it has ended: a failure is why other processes died."""
    for kind in ("done", "failed", "died"):
        for event in events:
            if event["type"] == kind:
                return event
    return None


class _LimitError(Exception):
    """The cluster takes no more jobs of this user for now."""


def _failed(message: str) -> Event:
    return {"type": "failed", "message": message, "disk": ""}


def _accept(folder: Path) -> bool:
    """Makes a proposed job array a submitted one; returns False where it has been withdrawn."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(folder / _PROPOSED, folder / _GANGS)
    return (folder / _GANGS).exists()


def _withdraw_proposed(jobs: Path) -> None:
    """Withdraws the job arrays whose driver ended while it submitted them, unless they have begun.

    `sbatch` may still be under way, and without their driver such jobs may lack files. Those that
    come to the queue end without training, and their gangs are submitted in another array.
    """
    for path in sorted(jobs.glob(f"*/{_PROPOSED}")):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, path.with_name(_WITHDRAWN))


class _Job:
    """A job, as the process that waits for it sees it.

    Attributes:
      misses: times in a row that it was not in the queue.
    """

    def __init__(self, folder: Path, index: int, nodes: int = 1) -> None:
        self.folder, self.index, self.nodes, self.misses = folder, index, nodes, 0
        self.name = f"{_NAME}{folder.name}_{index}"
        self._of_files: dict[Path, list[Event]] = {}  # of the present attempt, by process
        self._read: Counter[Path] = Counter()

    @property
    def told(self) -> list[Event]:
        """Events but progress of its present attempt, of all its processes."""
        return [event for events in self._of_files.values() for event in events]

    def gang(self) -> list[str]:
        """Returns the names of the run folders."""
        gangs = read_json(self.folder / _GANGS)["gangs"]
        return [Path(path).name for path in gangs[self.index]]

    def read(self) -> list[Event]:
        """Returns what its processes have written since the last call."""
        new: list[Event] = []
        for rank in range(self.nodes):
            path = _events_file(self.folder, self.index, rank)
            try:
                with open(path, "rb") as file:
                    file.seek(self._read[path])
                    text = file.read()
            except FileNotFoundError:
                continue
            lines = text[: text.rfind(b"\n") + 1]  # the last may be cut off
            self._read[path] += len(lines)
            for line in lines.splitlines():
                with contextlib.suppress(ValueError):  # a line that a killed job has cut off
                    new.append(event := json.loads(line))
                    if event == _ATTEMPT:
                        self._of_files[path] = []
                    elif event["type"] != "progress":
                        self._of_files.setdefault(path, []).append(event)
        return new

    def write(self, event: Event) -> None:
        """Adds an event to what the job has written."""
        append_line(_events_file(self.folder, self.index), json.dumps(event))

    def failure(self, study_folder: Path) -> str:
        """Returns a failure that is not reported, and after which the runs are not finished."""
        folders = (study_folder / "runs" / key for key in self.gang())
        if all((folder / "result.json").exists() for folder in folders):
            return ""
        self.read()
        end = _end(self.told)
        is_new = end is not None and end["type"] != "done" and _REPORTED not in self.told
        return end["message"] if end and is_new else ""


class _Train:
    """The function of a job: trains a gang in a worker process; submitit pickles it.

    A job of several machines calls it on each of them. The first process then speaks for all, and
    the others tell of their failures alone.
    """

    def __init__(self, folder: str, train: str, save_seconds: float, nodes: int) -> None:
        self.folder, self.train, self.save_seconds = folder, train, save_seconds
        self.nodes = nodes
        self._process: WorkerProcess | None = None

    def __call__(self, index: int, folders: Sequence[str]) -> None:
        """Trains a gang, and writes its events to a file of this process in the study's folder."""
        if not _accept(Path(self.folder)):
            print("The driver ended while it submitted this job; another one has its runs.")
            return
        rank = int(os.environ["SLURM_PROCID"]) if self.nodes > 1 else 0
        events = _events_file(Path(self.folder), index, rank)
        append_line(events, json.dumps(_ATTEMPT))
        name = f"worker_{index}.{rank}.log" if rank else f"worker_{index}.log"
        process = self._process = WorkerProcess(
            Path(self.folder) / name, self.train, is_distributed=self.nodes > 1
        )
        told = 0.0
        try:
            while True:
                for event in process.events(60.0):
                    if event["type"] == "ready":
                        process.submit([Path(folder) for folder in folders])
                        continue
                    if event.get("code") in (STOPPED, *_SIGNALS):
                        if rank:  # to fail now would end the first one
                            return
                        time.sleep(5)  # `checkpoint` is about to be called, if there is a requeue
                        raise SystemExit(STOPPED)
                    if event["type"] == "progress":
                        if time.monotonic() - told < _PROGRESS_SECONDS:
                            continue
                        told = time.monotonic()
                    is_problem = event["type"] in ("failed", "died")
                    if is_problem and self.nodes > 1:
                        event["message"] = f"process {rank} of {self.nodes}: {event['message']}"
                    if is_problem or not rank:
                        append_line(events, json.dumps(event))
                    if is_problem and self.nodes > 1:
                        raise SystemExit(1)  # Slurm ends the others
                    if is_problem or event["type"] == "done":
                        return
        finally:
            process.close()

    def checkpoint(self, index: int, folders: Sequence[str]) -> Any:
        """Has the worker save its runs; returns what the job does when it is started again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.stop(self.save_seconds)
        train = _Train(self.folder, self.train, self.save_seconds, self.nodes)
        return DelayedSubmission(train, index, folders)


def _events_file(folder: Path, index: int, rank: int = 0) -> Path:
    return folder / (f"events_{index}.{rank}.jsonl" if rank else f"events_{index}.jsonl")


def _read_jobs(folder: Path) -> list[_Job]:
    """Returns the jobs of an array that an earlier call has submitted, with settings of its own."""
    content = read_json(folder / _GANGS)
    nodes = content.get("nodes", 1)  # which was not written before there were several
    return [_Job(folder, i, nodes) for i in range(len(content["gangs"]))]


def _queue() -> dict[str, str]:
    """Returns the states of spjax's jobs of this user that wait or run, by name and index.

    Raises:
      ValueError: there is no `squeue`, or it failed.
    """
    command = [
        "squeue",
        "--noheader",
        "--array",
        f"--user={getpass.getuser()}",
        "--format=%i %T %j",
    ]
    try:
        output = subprocess.run(
            command, check=True, capture_output=True, text=True, encoding="utf-8"
        ).stdout
    except FileNotFoundError:
        raise ValueError(
            "there is no command squeue: call `spjax sweep --executor=slurm` on a machine from "
            "which jobs are submitted to Slurm."
        ) from None
    except subprocess.CalledProcessError as error:
        raise _explained(error, "the queue of Slurm cannot be read") from error
    jobs = (line.split(" ", 2) for line in output.splitlines())
    return {
        f"{name}_{number.partition('_')[2] or 0}": state
        for number, state, name in jobs
        if name.startswith(_NAME)
    }


def _explained(error: subprocess.CalledProcessError, problem: str) -> ValueError:
    output = error.stderr or error.output or ""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    return ValueError(f"{problem}: {text.strip() or error}")


def _minutes(time: str) -> int:
    """Returns the minutes of a limit: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.

    Raises:
      ValueError: it is another text, or too short.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if match:
        days, *rest = match.groups()
        parts = [int(part) for part in rest if part is not None]
        if days is not None or len(parts) == 3:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        else:
            hours, minutes, seconds = 0, *(*parts, 0)[:2]
        total = 1440 * int(days or 0) + 60 * hours + minutes + (seconds > 0)
        if total >= _LEAST_MINUTES:
            return total
    raise ValueError(
        f"Slurm.time is {time!r}; use minutes, HH:MM:SS or D-HH:MM:SS, such as 24:00:00, and "
        f"{_LEAST_MINUTES} minutes or more: a job needs some before it is told to save its runs."
    )
