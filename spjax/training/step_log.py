"""The log of training steps: loss, learning rate, gradient norm, speed and padding at a period.

Nothing here waits for the device between two checkpoints: a row is written once the device has
reported the step, a little later than it was dispatched. Loss (the mean since the row before),
learning rate and gradient norm go to `metrics.jsonl`, examples per second and the share of padding,
which depend on the machine and on the other runs of a gang, to `times.jsonl`; trackers get all.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from spjax.data.batching.batching import HostBatch
from spjax.training.member import Member
from spjax.training.step_stats import StepStats
from spjax.training.times import Stopwatch


@dataclasses.dataclass(frozen=True)
class Dispatch:
    """Steps that were sent to the device together.

    Attributes:
      began: time at which the host began to assemble them.
      starts: step of each run that trains, before them.
      steps: their number.
      stats: figures of each step, with or without a leading axis of steps.
      positions: encoder positions of all their rows.
      filled: those of them with a token or a soft token.
    """

    began: float
    starts: Mapping[Member, int]
    steps: int
    stats: Sequence[StepStats]
    positions: int
    filled: int

    def is_over(self) -> bool:
        """Returns whether the device has made the steps."""
        losses: list[Any] = [part.loss_N for part in self.stats]
        return all(loss_N.is_ready() for loss_N in losses)


def positions(chunks: Sequence[HostBatch]) -> tuple[int, int]:
    """Returns the number of encoder positions in some rows, and of those that are not padding."""
    segments = [chunk["input_segments_BL"] for chunk in chunks]
    return sum(x.size for x in segments), sum(int(np.count_nonzero(x)) for x in segments)


@dataclasses.dataclass
class _Window:
    """Steps and rows of a run since the last row of its log."""

    start: float | None = None
    steps: int = 0
    positions: int = 0
    filled: int = 0

    def speed(self, batch_size: int, now: float) -> dict[str, float]:
        """Returns examples per second, if there is a time to divide by, and share of padding."""
        values = {}
        if self.start is not None and self.steps and now > self.start:
            rate = batch_size * self.steps / (now - self.start)
            values["examples_per_second"] = round(rate, 3)
        if self.positions:
            values["padding"] = round(1 - self.filled / self.positions, 6)
        return values


class StepLog:
    """Rows of a gang's training steps.

    Attributes:
      stopwatch: divides the time of the process among its stages.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        """Starts the clock.

        Args:
          members: of the gang, in the order of its arrays.
        """
        self.stopwatch = Stopwatch()
        self._members = members
        self._pending: collections.deque[Dispatch] = collections.deque()
        self._windows = {member: _Window() for member in members}
        self._has_compiled = False

    def add(self, dispatch: Dispatch) -> None:
        """Takes note of steps, and writes what the device has reported of those before."""
        if self._has_compiled:  # the first steps say nothing about the speed
            for member in dispatch.starts:
                window = self._windows[member]
                window.start = dispatch.began if window.start is None else window.start
        self._pending.append(dispatch)
        while self._pending and self._pending[0].is_over():
            self._read(self._pending.popleft())

    def wait(self) -> None:
        """Waits for all steps and writes their rows; the clock of the speed stops."""
        while self._pending:
            self._read(self._pending.popleft())
        for window in self._windows.values():
            window.start, window.steps = None, 0

    def _read(self, dispatch: Dispatch) -> None:
        stats = [jax.tree.map(np.atleast_2d, part) for part in jax.device_get(dispatch.stats)]
        stats_TN = jax.tree.map(lambda *parts: np.concatenate(parts), *stats)
        now = time.perf_counter()
        for member, start in dispatch.starts.items():
            window, number = self._windows[member], self._members.index(member)
            if self._has_compiled:
                window.steps += dispatch.steps
            else:
                window.start = now
            window.positions += dispatch.positions
            window.filled += dispatch.filled
            of_member = jax.tree.map(lambda x, i=number: x[:, i].tolist(), stats_TN)
            self._log(member, start, of_member, now)
        self._has_compiled = True

    def _log(self, member: Member, start: int, stats: StepStats, now: float) -> None:
        """Notes the losses of a run, up to a step that had to stop it, and writes what is due."""
        norms: Any = stats.gradient_norm_N
        figures = zip(stats.active_N, stats.loss_N, stats.learning_rate_N, norms)
        for step, (is_active, loss, rate, norm) in enumerate(figures, start + 1):
            if not is_active:
                return
            losses = member.standing.losses
            losses.append(loss)
            if not member.schedule.logs_at(step):
                continue
            values = {
                "train/loss": float(np.mean(np.asarray(losses, np.float32))),
                "train/learning_rate": rate,
                "train/gradient_norm": norm,
            }
            losses.clear()
            speed = self._windows[member].speed(member.run.batch_size, now)
            self._windows[member] = _Window(now)
            is_saved = member.schedule.saves_at(step)
            if not is_saved:
                self.stopwatch.lap("train", [m.times for m in self._members if m.active])
            member.log_step(step, values, speed, is_saved)
