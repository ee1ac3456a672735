"""Requests to end training early, with what has been trained on disk."""

from __future__ import annotations

import signal
from types import FrameType

# Slurm, Kubernetes and cloud machines send one of these before they take a machine away.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class StopRequested(Exception):
    """Raised by `on_progress` of `spjax.training.loop.train`: save the runs, and end."""


class StopSignals:
    """Takes the signals of `STOP_SIGNALS` as requests to stop; use as a context manager.

    Only the main thread of a process can enter it, after `jax.distributed.initialize`, which takes
    SIGTERM for itself.

    Attributes:
      received: the last signal, None before the first one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number in self._before:
            self._restore(number)

    def _restore(self, number: int) -> None:
        handler = self._before[signal.Signals(number)]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raises `StopRequested` once a signal has come."""
        if self.received is not None:
            raise StopRequested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        # A second one of its kind ends the process at once; Slurm sends SIGTERM after SIGUSR2.
        self._restore(number)
