"""Runs a plan to its end, from whatever state the study's folder is in."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from spjax.files import write_text
from spjax.studies import cost, gang_widths, plan, results, reuse, run_folder, search
from spjax.studies.executor import TRAIN, Event, Executor, Site
from spjax.studies.plan import RunSpec
from spjax.studies.progress import Progress

_log = logging.getLogger(__name__)

INTERRUPTED = "interrupted"
_ATTEMPTS = 2  # a process may be killed for reasons outside the run
_LOSSES = 20  # of machines under one gang, which are replaced
_RESULTS_SECONDS = 30.0
_TICK_SECONDS = 0.5
_LONG = 30 * 24 * 3600.0  # seconds, of a sweep that this machine is not for


@dataclasses.dataclass
class Outcome:
    """Result of a sweep.

    Attributes:
      finished: runs with a result, from this sweep and earlier ones.
      new: number of them that this sweep added.
      reused: folders in other studies that finished runs were copied from, by run key.
      failed: error message by run key.
      left: states of the runs that go on without this process, by run key; "" where not known.
      stopped: the reason why the sweep stopped early, else "".
    """

    finished: int = 0
    new: int = 0
    reused: dict[str, Path] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    left: dict[str, str] = dataclasses.field(default_factory=dict)
    stopped: str = ""


def finished_keys(specs: Sequence[RunSpec], folder: Path) -> set[str]:
    """Returns the keys of the runs that have a result in the study's folder."""
    return {spec.key for spec in specs if spec.result(folder) is not None}


def _unfinished(specs: Sequence[RunSpec], done: set[str]) -> list[RunSpec]:
    return [spec for spec in specs if spec.key not in done]


def sweep(
    name: str,
    specs: Sequence[RunSpec],
    folder: Path,
    *,
    executor: Executor,
    gang_width: int = 0,
    study_text: str = "",
    prepare: Callable[[Sequence[RunSpec]], None] | None = None,
    train: str = TRAIN,
    reused: Sequence[Path] = (),
    stop_reason: Callable[[], str] | None = None,
) -> Outcome:
    """Trains the runs that are not finished and writes the results table.

    The process may be killed at any moment: a run is finished when its `result.json` is there,
    an unfinished one continues from its last checkpoint in the next sweep.

    Args:
      name: of the study.
      specs: its runs.
      folder: the study's folder; made if missing.
      executor: that trains them; it is closed at the end.
      gang_width: runs to train side by side; 0 for what `gang_widths.widths` finds.
      study_text: kept as `study.gin`.
      prepare: called with the runs that are left, if there are any, before a worker starts.
      train: dotted path "module:function" of what a worker calls with the run folders.
      reused: other study folders, whose finished runs are copied where they are the same.
      stop_reason: called all the time; a text that is not "" stops the sweep.

    Raises:
      ValueError: the folder cannot be written, or another sweep is at work in it; or as `prepare`
        and `Executor.open`.
    """
    run_folder.probe(folder)
    with run_folder.lock(folder) as lock:
        done = finished_keys(specs, folder)
        if dropped := results.other_keys(specs, folder):
            _log.warning(
                "results.csv in %s has runs that this study does not have (%d). They stay in "
                "its folder runs, but the table, figures and claims will be without them; to keep "
                "both, give this study another name (Study.name) or output_dir.",
                folder,
                len(dropped),
            )
        outcome = Outcome()
        try:
            outcome.reused = reuse.find(_unfinished(specs, done), reused)
            reuse.copy(outcome.reused, specs, folder)
            done |= set(outcome.reused)
            left = _unfinished(specs, done)
            write_text(folder / "study.gin", study_text)
            if left:
                with contextlib.closing(executor):
                    executor.open(Site(folder, lock, train))
                    work = _Work(name, specs, folder, lock, gang_width, prepare, stop_reason)
                    _train(work, left, executor, outcome)
            results.write(name, specs, folder)
        except OSError as error:
            if not (problem := run_folder.disk_problem(error)):
                raise
            outcome.stopped = outcome.stopped or run_folder.disk_message(problem, folder)
        outcome.finished = len(finished_keys(specs, folder))
        outcome.new = outcome.finished - len(done)
        return outcome


@dataclasses.dataclass(frozen=True)
class _Work:
    """Arguments of `sweep`, and the descriptor of the lock."""

    name: str
    specs: Sequence[RunSpec]
    folder: Path
    lock: int
    gang_width: int
    prepare: Callable[[Sequence[RunSpec]], None] | None
    stop_reason: Callable[[], str] | None


def _train(work: _Work, left: Sequence[RunSpec], executor: Executor, outcome: Outcome) -> None:
    """Trains the runs that are left, but for those that a worker is at already."""
    by_key = {spec.key: spec for spec in left}
    running = [[by_key[key] for key in keys if key in by_key] for keys in executor.running()]
    busy = {spec.key for gang in running for spec in gang}
    waiting = _unfinished(left, busy)
    if waiting and work.prepare is not None:
        work.prepare(waiting)
    pending = plan.gangs(waiting, _widths(waiting, work.gang_width, executor))
    first, count = len(running), executor.size(len(pending)) if pending else 0
    finished = len(work.specs) - len(left)
    with Progress(len(work.specs), finished, plan.seconds(left)) as progress:
        loop = _Loop(work, executor, progress, plan.Queue(pending), outcome)
        for worker, gang in enumerate(running):
            loop.ready.add(worker)
            if gang:  # else none of its runs is of this study any more
                loop.begin(worker, gang)
        loop.run(range(first, first + count))


def _widths(
    specs: Sequence[RunSpec], gang_width: int, executor: Executor
) -> Callable[[RunSpec], int]:
    if executor.measures:
        return gang_widths.widths(specs, gang_width, getattr(executor, "devices_per_worker", 1))
    if not gang_width:
        _log.info("gangs are not measured on a cluster; Study.gang_width sets their width")
    return lambda spec: gang_width or 1


def prepare_data(specs: Sequence[RunSpec]) -> None:
    """Finds the weights and builds the token caches of some runs, once for all workers.

    Raises:
      ValueError: there are no such weights, the package of a tracker is not installed, or as
        `run_data.prepare`.
    """
    from spjax.checkpoints.weights import weights
    from spjax.training import run_data, trackers

    runs = [spec.run for spec in specs]
    trackers.check_installed(sorted({name for run in runs for name in run.trackers}))
    for model, checkpoint in dict.fromkeys((run.model, run.checkpoint) for run in runs):
        weights.find(model, checkpoint)
    print("Preparing data ...", flush=True)
    run_data.prepare(runs)


class _Loop:
    """The dialogue between the queue and the workers."""

    def __init__(
        self,
        work: _Work,
        executor: Executor,
        progress: Progress,
        queue: plan.Queue,
        outcome: Outcome,
    ) -> None:
        self.work, self.folder = work, work.folder
        self.executor, self.progress, self.queue = executor, progress, queue
        self.outcome = outcome
        self.gangs: dict[int, list[RunSpec]] = {}
        self.groups: dict[int, tuple[Any, ...]] = {}
        self.ready: set[int] = set()
        self.attempts: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.starts: Counter[int] = Counter()  # that were lost, in a row
        self.working: set[int] = set()  # those that run or start
        self.written = time.monotonic()

    def run(self, workers: Iterable[int]) -> None:
        """Starts these workers and runs until all is done, or stopped."""
        try:
            for worker in workers:
                self.working.add(worker)
                self.executor.start(worker)
            while not self.outcome.stopped and (self.gangs or len(self.queue)):
                if run_folder.is_gone(self.folder, self.work.lock):  # before runs are put there
                    raise ValueError(run_folder.gone_message(self.folder))
                for worker, event in self.executor.events(_TICK_SECONDS):
                    self.handle(worker, event)
                if self.work.stop_reason is not None:
                    self.outcome.stopped = self.outcome.stopped or self.work.stop_reason()
                self.progress.show()
                if time.monotonic() - self.written > _RESULTS_SECONDS:
                    results.write(self.work.name, self.work.specs, self.folder)
                    self.written = time.monotonic()
        except KeyboardInterrupt:
            self.outcome.stopped = INTERRUPTED
        if not self.outcome.stopped:
            self.progress.show(force=True)
        elif self.executor.outlives_driver:
            self.outcome.left |= {spec.key: "" for gang in self.gangs.values() for spec in gang}

    def begin(self, worker: int, gang: list[RunSpec]) -> None:
        """Notes the gang that a worker is at."""
        self.ready.add(worker)
        self.working.add(worker)
        self.gangs[worker] = gang
        self.progress.begin(worker, gang)

    def handle(self, worker: int, event: Event) -> None:
        """Acts on one event of a worker."""
        kind = event["type"]
        if event.get("restarts"):
            self.ready.discard(worker)
        if kind == "progress":
            self.progress.update(worker, event)
        elif kind == "ready":
            self.ready.add(worker)
            del self.starts[worker]
            self.give(worker)
        elif kind == "died":
            self.died(worker, event["message"], event.get("lost", False))
        elif worker not in self.gangs:
            pass  # of a gang without a run of this study
        elif kind == "done":
            self.end(worker, "done")
            self.give(worker)
        elif kind == "failed":
            if event["disk"]:
                self.outcome.stopped = run_folder.disk_message(event["disk"], self.folder)
            self.fail(worker, event["message"])
            if worker in self.ready:
                self.give(worker)
        elif kind == "left":
            state = event.get("state", "")
            self.outcome.left |= {spec.key: state for spec in self.end(worker, "left")}

    def give(self, worker: int) -> None:
        """Hands the next gang to a free worker."""
        others = [self.groups[other] for other in self.gangs if other in self.groups]
        gang = self.queue.take(self.groups.get(worker), others if self.executor.is_warm else ())
        if gang is None:
            return
        folders = [spec.folder(self.folder) for spec in gang]
        for spec, folder in zip(gang, folders):
            run_folder.prepare(folder, spec.text)
        self.groups[worker] = gang[0].group
        self.begin(worker, gang)
        self.executor.submit(worker, folders)

    def end(self, worker: int, state: str) -> list[RunSpec]:
        """Takes a gang off a worker."""
        self.progress.end(worker, state)
        return self.gangs.pop(worker)

    def fail(self, worker: int, message: str) -> None:
        """Notes that a gang failed; a later sweep tries it again."""
        for spec in self.end(worker, "failed"):
            self.outcome.failed[spec.key] = message

    def died(self, worker: int, message: str, is_lost: bool) -> None:
        """Replaces a worker; its gang gets another chance, and many where its machine is lost."""
        self.working.discard(worker)
        if worker not in self.ready:
            self.starts[worker] += 1
            if not is_lost or self.starts[worker] == _LOSSES:
                problem = f"worker {worker} could not start: {message}"
                if self.working:  # on other machines, perhaps
                    _log.warning("%s; going on without it.", problem)
                else:
                    self.outcome.stopped = problem
                return
        self.ready.discard(worker)
        gang = self.gangs.get(worker, [])
        if gang and not _unfinished(gang, finished_keys(gang, self.folder)):
            self.end(worker, "done")  # it was told to stop, and had nothing left to save
        elif gang:
            key = gang[0].key
            counts, most = (self.losses, _LOSSES) if is_lost else (self.attempts, _ATTEMPTS)
            counts[key] += 1
            if counts[key] < most:
                self.queue.put_back(self.end(worker, "again"))
            else:
                self.fail(worker, f"{message} ({most} attempts)")
        if len(self.queue):
            self.working.add(worker)
            self.executor.start(worker)
        for idle in sorted(self.ready - self.gangs.keys()):
            self.give(idle)  # before there is room for a new worker


def report(outcome: Outcome, specs: Sequence[RunSpec], folder: Path) -> str:
    """Returns the text printed after a sweep: counts, failures, and how to continue."""
    names = {spec.key: spec for spec in specs}
    if outcome.stopped:
        lines = [
            f"Stopped: {outcome.stopped}.",
            (
                f"What was saved is kept: {outcome.finished} of {len(specs)} runs are finished in "
                f"{folder}; the same command continues with the rest."
            ),
        ]
    elif not (outcome.new or outcome.reused or outcome.failed or outcome.left):
        lines = [f"Nothing to do: {outcome.finished} runs finished in {folder}."]
    else:
        lines = [f"{outcome.finished} of {len(specs)} runs finished in {folder}."]
    if outcome.left:
        counts = Counter(state for state in outcome.left.values() if state)
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        lines.append(
            f"{len(outcome.left)} runs wait or are trained without this process"
            f"{f' ({states})' if states else ''}; the same command collects them, and starts "
            "again what is missing."
        )
    places = Counter(str(source.parent.parent) for source in outcome.reused.values())
    lines += [
        f"{count} of them were copied from {place} (see {reuse.NOTE} in their folders)."
        for place, count in places.items()
    ]
    for key, message in outcome.failed.items():
        labels = " ".join(f"{k}={v}" for k, v in names[key].labels.items())
        lines.append(f"FAILED {key} ({labels}): {message}")
    pruned = 0
    for spec in specs:
        result = spec.result(folder) or {}
        pruned += result.get("status") == search.PRUNED
        if result.get("status") == "diverged":
            labels = " ".join(f"{k}={v}" for k, v in spec.labels.items())
            lines.append(f"DIVERGED {spec.key} ({labels}): {result.get('message', '')}")
    if pruned:
        lines.append(f"{pruned} of them were pruned by a search (status in results.csv).")
    return "\n".join(lines)


def estimate(
    specs: Sequence[RunSpec],
    folder: Path,
    executor: Executor,
    reused: Sequence[Path] = (),
) -> str:
    """Returns the plan of a sweep as a table, with its estimated time.

    Finished runs of the folder correct the estimate of the rest. Those that would be copied from
    other study folders need no time.
    """
    workers = executor.expected_workers()
    done = finished_keys(specs, folder)
    measured = expected = 0.0
    for spec in specs:
        took = (spec.result(folder) or {}).get("seconds") if spec.key in done else None
        if took:
            measured, expected = measured + took, expected + spec.seconds
    scale = measured / expected if expected else 1.0
    copied = reuse.find(_unfinished(specs, done), reused)
    rest = _unfinished(specs, done | set(copied))
    left = scale * plan.seconds(rest) / max(workers, 1)
    basis = (
        f"scaled by {scale:.2f} from {len(done)} finished runs"
        if expected
        else f"{cost.FLOPS_PER_SECOND / 1e9:.0f} GFLOP/s and {cost.STEP_SECONDS * 1e3:.0f} ms a "
        f"step for each core, {cost.RUN_SECONDS:.0f} s a run, {cost.COMPILE_SECONDS:.0f} s to "
        "compile each shape"
    )
    planned = "`spjax plan STUDY.gin --topology=gpu:h100:8` says what accelerators would need."
    note = ""
    if executor.measures and left > _LONG:
        note = f" That is long for this machine: {planned}"
    elif not (executor.measures or expected):
        note = f" That is the time on CPU cores: {planned}"
    taken = f", {len(copied)} to be copied from other studies" if copied else ""
    # Until runs that stop early have shown how early, the estimate takes all of their steps.
    stops = any(getattr(spec.run, "patience", 0) for spec in rest)
    about = "at most about" if stops and not expected else "about"
    return (
        f"{plan.table(specs, done)}\n\n{len(specs)} runs, {len(done)} finished{taken}; {about} "
        f"{cost.duration(left)} left with {workers} worker{'s' * (workers > 1)} ({basis})."
        f"{note}"
    )
