"""The display of `spjax train`: a live bar on a terminal, else a few plain lines."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, TextIO

from spjax.studies import cost, live_display
from spjax.training.loop import Progress

_LINES = 10  # for all steps, beside those of stages
_LINE_SECONDS = 300.0  # after which there is a line anyway
_BASIS_SECONDS = 2.0  # of training, before a rate is shown


class TrainDisplay:
    """Shows stage, rate, time left and the last score; use as a context manager.

    Rate and time left come from the steps of this process, evaluations included. The time of
    compilation is not in them, and neither is shown before there are steps to measure.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        """Chooses between a live display and lines.

        Args:
          out: to write to; standard output by default.
        """
        self.out = sys.stdout if out is None else out
        self.live: Any = None
        self._until_exit = contextlib.ExitStack()
        self._last: Progress | None = None
        self._since = self._seconds = 0.0
        self._first_step: int | None = None
        self._shown_step, self._shown = 0, time.monotonic()

    def __enter__(self) -> TrainDisplay:
        if self.out.isatty():
            display = live_display.show(get_renderable=self._bar, refresh_per_second=4)
            self.live = self._until_exit.enter_context(display)
        return self

    def __exit__(self, *exception: object) -> None:
        self._until_exit.close()

    def __call__(self, progress: Progress) -> None:
        """Takes note of a report, and writes a line if one is due."""
        now, last = time.monotonic(), self._last
        # A run that begins is at step 0 when its programs are first compiled.
        if (
            progress.step
            and progress.stage == "compiling"
            and (not last or last.stage == "loading")
        ):
            self._print(f"resuming from step {progress.step}")
        if self._first_step is None and progress.stage == "training":
            self._first_step = progress.step
        elif last is not None and self._first_step is not None and last.stage != "compiling":
            self._seconds += now - self._since
        self._since, self._last = now, progress
        if self.live is None and self._is_due(now, last):
            self._shown_step, self._shown = progress.step, now
            self._print(self._text())

    def _print(self, line: str) -> None:
        """Writes a line, above the bar where there is one."""
        if self.live is None:
            print(line, file=self.out, flush=True)
        else:
            self.live.console.print(line)

    def rate(self) -> float | None:
        """Returns steps per second, None before there is a basis for it."""
        if self._last is None or self._first_step is None or self._seconds < _BASIS_SECONDS:
            return None
        return (self._last.step - self._first_step) / self._seconds or None

    def time_left(self) -> float | None:
        """Returns seconds until the last step, None before there is a basis for it."""
        rate = self.rate()
        if rate is None or self._last is None:
            return None
        return (self._last.steps - self._last.step) / rate

    def _is_due(self, now: float, last: Progress | None) -> bool:
        """Returns whether to print a line.

        One is due when a stage before the first step begins, at the first step, at every tenth of
        the steps, and after `_LINE_SECONDS` without one.
        """
        progress = self._last
        assert progress is not None  # since `__call__`
        begins = last is None or last.stage != progress.stage
        if not progress.step or (begins and progress.step == self._first_step):
            return begins
        if now - self._shown > _LINE_SECONDS:
            return True
        if progress.stage != "training":
            return False
        tenth = max(progress.steps / _LINES, 1)
        return progress.step // tenth > self._shown_step // tenth

    def _text(self) -> str:
        progress = self._last
        assert progress is not None  # since `__call__`
        if not progress.step:
            return progress.stage
        return ", ".join([f"{progress.stage} {progress.step}/{progress.steps}", *self._figures()])

    def _figures(self) -> list[str]:
        """Returns rate, time left and score, as far as they are known."""
        rate, left, figures = self.rate(), self.time_left(), []
        if rate is not None and left is not None:
            per_step = f"{1 / rate:.1f} s a step" if rate < 1 else f"{rate:.1f} steps/s"
            figures += [per_step, *([f"{cost.duration(left)} left"] if left else [])]
        scores = self._last.scores if self._last is not None else ()
        if scores:
            figures.append(f"validation score {', '.join(f'{score:.1f}' for score in scores)}")
        return figures

    def _bar(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table

        progress = self._last or Progress(0, 0, "starting")
        bar = ProgressBar(total=max(progress.steps, 1), completed=progress.step, width=20)
        row = Table.grid(padding=(0, 2))
        steps = f"{progress.step}/{progress.steps}" if progress.steps else ""
        self._spinner = getattr(self, "_spinner", None) or Spinner("dots")
        row.add_row(self._spinner, progress.stage, bar, steps, ", ".join(self._figures()))
        return row
