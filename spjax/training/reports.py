"""Reports of training to its caller, which may end it: in all processes at the same step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from spjax.training.stop import StopRequested

T = TypeVar("T")
_SECONDS_BETWEEN_AGREEMENTS = 2.0


class Reports(Generic[T]):
    """Calls of `on_progress`, after which all processes of a run stop at the same step.

    One process stops at once. Several ask each other after a number of steps that takes about two
    seconds, because asking waits for the steps that the devices have been sent. That wait is a part
    of the time of these steps, which are sent in no time.
    """

    def __init__(self, on_progress: Callable[[T], None] | None) -> None:
        self._on_progress = on_progress
        self._is_alone = jax.process_count() == 1
        self._is_to_stop = False
        self._calls, self._period, self._asked = 0, 1, time.monotonic()
        self._seconds = _SECONDS_BETWEEN_AGREEMENTS  # of a call, as the last calls took

    def report(self, progress: T) -> None:
        """Calls `on_progress`.

        Raises:
          StopRequested: by it; where there are several processes `agree` raises it.
        """
        try:
            if self._on_progress is not None:
                self._on_progress(progress)
        except StopRequested:
            if self._is_alone:
                raise
            self._is_to_stop = True

    def agree(self) -> None:
        """Ends all processes if one is to stop; each calls this at the same steps.

        Raises:
          StopRequested: a process is to stop.
        """
        self._calls += 1
        if self._is_alone or self._calls < self._period:
            return
        answer = np.array([self._is_to_stop, self._seconds], np.float32)
        answers = multihost_utils.process_allgather(answer)
        if answers[:, 0].any():
            raise StopRequested
        now = time.monotonic()
        self._seconds, self._asked = (now - self._asked) / self._calls, now
        slowest = float(answers[:, 1].max())  # before these calls; the same in all processes
        longest = int(_SECONDS_BETWEEN_AGREEMENTS / max(slowest, 1e-6))
        self._calls, self._period = 0, max(1, min(longest, 2 * self._period))
