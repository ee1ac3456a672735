"""Progress of a sweep: a live table on a terminal, else a plain line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from spjax.studies import cost, live_display
from spjax.studies.plan import RunSpec, seconds

_PLAIN_SECONDS = (10.0, 300.0)  # between two lines, the least and the most
_PLAIN_SHARE = 0.05  # of the time since the start, between two lines
_LIVE_SECONDS = 0.5
_MOST_WORKERS = 16  # that are shown
_MOST_SHOWN = 4  # seeds, or scores, of a gang that are shown one by one


class Progress:
    """Counts and displays finished runs; use as a context manager.

    The time left is the estimated cost of what remains, scaled by how the estimates of this sweep
    have compared with the clock so far. There is none before a run has ended: until then
    compilation is most of what was measured.
    """

    def __init__(self, total: int, finished: int, cost_left: float) -> None:
        """Args: runs in all; finished before; estimated seconds of the rest."""
        self.total, self.finished = total, finished
        self.cost_left, self.cost_done, self.failed = cost_left, 0.0, 0
        self.current: dict[int, tuple[list[RunSpec], dict[str, Any]]] = {}
        self.start = self.shown = time.monotonic()
        self.out: TextIO = sys.stdout
        self.live: Any = None
        self._until_exit = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        if self.out.isatty():
            display = live_display.show(auto_refresh=False)
            self.live = self._until_exit.enter_context(display)
        return self

    def __exit__(self, *exception: object) -> None:
        self._until_exit.close()

    def begin(self, worker: int, gang: list[RunSpec]) -> None:
        """Notes that a worker has been given a gang."""
        self.current[worker] = (gang, {"stage": "starting", "step": 0, "steps": 0})

    def update(self, worker: int, event: dict[str, Any]) -> None:
        """Notes progress that a worker has sent."""
        if worker in self.current:
            self.current[worker] = (self.current[worker][0], event)

    def end(self, worker: int, state: str) -> None:
        """Notes that a worker's gang is over.

        Args:
          worker: its number.
          state: "done", "failed", "left" to others, or "again" for another try.
        """
        gang, _ = self.current.pop(worker)
        if state == "again":
            return
        self.cost_left -= seconds(gang)
        if state == "done":
            self.cost_done += seconds(gang)
            self.finished += len(gang)
        elif state == "failed":
            self.failed += len(gang)

    def show(self, force: bool = False) -> None:
        """Draws the display if it is due."""
        now = time.monotonic()
        if not force and now - self.shown < self._period(now):
            return
        self.shown = now
        if self.live is None:
            names = "; ".join(self._describe(worker) for worker in self._shown_workers())
            more = max(len(self.current) - _MOST_WORKERS, 0)
            names += f"; {more} more" if more else ""
            print(f"{self._summary()}. Now: {names or '-'}", file=self.out, flush=True)
        else:
            self.live.update(self._table(), refresh=True)

    def _period(self, now: float) -> float:
        """Returns the seconds between two displays: lines get fewer as a sweep gets longer."""
        least, most = _PLAIN_SECONDS
        share = _PLAIN_SHARE * (now - self.start)
        return _LIVE_SECONDS if self.live else min(max(least, share), most)

    def time_left(self) -> float | None:
        """Returns estimated seconds until the end, None before a run of this sweep has ended."""
        running = 0.0
        for gang, event in self.current.values():
            running += seconds(gang) * event["step"] / max(event["steps"], 1)
        done = self.cost_done + running
        elapsed = time.monotonic() - self.start
        if self.cost_done <= 0:
            return None
        return max(self.cost_left - running, 0.0) * elapsed / done

    def _summary(self) -> str:
        left = self.time_left()
        time_left = "" if left is None else f", {cost.duration(left)} left"
        failed = f", {self.failed} failed" if self.failed else ""
        elapsed = cost.duration(time.monotonic() - self.start)
        return f"{self.finished}/{self.total} runs finished{failed}, {elapsed} elapsed{time_left}"

    def _shown_workers(self) -> list[int]:
        """Returns some workers, those first that have begun."""
        waits = {worker: not event["steps"] for worker, (_, event) in self.current.items()}
        return sorted(sorted(waits, key=lambda worker: (waits[worker], worker))[:_MOST_WORKERS])

    def _describe(self, worker: int) -> str:
        from spjax.training.labels import title  # here, because it loads JAX

        gang, event = self.current[worker]
        seeds = list(dict.fromkeys(str(spec.labels["seed"]) for spec in gang))
        if len(seeds) == len(gang) <= _MOST_SHOWN:
            name = title(gang[0].labels, ",".join(seeds))
        else:
            name = f"{title(gang[0].labels)} and {len(gang) - 1} more"
        steps = f" {event['step']}/{event['steps']}" if event["step"] else ""
        return f"{name}: {event['stage']}{steps}{_validation(event.get('scores', ()))}"

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        rows = Table.grid(padding=(0, 2))
        whole = ProgressBar(total=max(self.total, 1), completed=self.finished, width=24)
        rows.add_row("sweep", whole, self._summary())
        for worker in self._shown_workers():
            event = self.current[worker][1]
            bar = ProgressBar(total=max(event["steps"], 1), completed=event["step"], width=24)
            rows.add_row(f"worker {worker}", bar, self._describe(worker))
        return rows


def _validation(scores: Sequence[float]) -> str:
    """Returns the last scores of a gang for display, "" before the first evaluation."""
    if not scores:
        return ""
    shown = ", ".join(f"{score:.1f}" for score in scores)
    if len(scores) > _MOST_SHOWN:
        shown = f"{min(scores):.1f} to {max(scores):.1f}"
    return f", validation score {shown}"
