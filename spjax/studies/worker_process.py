"""A warm process of `spjax.studies.worker`, as the one that starts it sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from spjax import subprocesses
from spjax.studies.executor import Event

STOPPED = 128 + signal.SIGTERM  # exit status after a signal to stop
_VARIABLES = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}


class WorkerProcess:
    """One worker process; it dies with the one that made this object, as its input closes.

    Attributes:
      log: file that it prints to.
      descriptor: readable when there are events.
    """

    def __init__(
        self,
        log: Path,
        train: str,
        *,
        cores: Sequence[int] = (),
        is_distributed: bool = False,
        variables: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Starts it.

        Args:
          log: its folder is made if missing.
          train: see `spjax.studies.executor.Site`.
          cores: that it is pinned to; none for all.
          is_distributed: whether it is one of several that train together; its environment says
            where the others are, as for `spjax.multihost.initialize`.
          variables: of its environment, beside those of this process.
          pass_fds: descriptors that it inherits.
        """
        self.log, self._unread = log, b""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor, write = os.pipe()
        arguments = ["--events", str(write), "--train", train]
        if is_distributed:
            arguments.append("--distributed")
        if cores:
            arguments += ["--cores", ",".join(map(str, cores))]
        with open(log, "ab") as output:
            self._popen = subprocesses.start(
                "spjax.studies.worker",
                arguments,
                variables={**_VARIABLES, **(variables or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write, *pass_fds),
                start_new_session=True,  # Ctrl-C is for the parent alone
            )
        os.close(write)
        os.set_blocking(self.descriptor, False)

    def submit(self, folders: Sequence[Path]) -> None:
        """Gives it the gang whose runs are in `folders`."""
        order = json.dumps({"folders": [str(folder.absolute()) for folder in folders]})
        stdin = self._popen.stdin
        assert stdin is not None  # a pipe
        with contextlib.suppress(BrokenPipeError):  # it died while idle; `read` reports that
            stdin.write(order.encode() + b"\n")
            stdin.flush()

    def events(self, timeout: float) -> list[Event]:
        """Returns what it has sent, after waiting at most `timeout` seconds."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return self.read() if poll.poll(1000 * timeout) else []

    def read(self) -> list[Event]:
        """Returns what it has sent; "died", the last event, has the exit status as `code`."""
        try:
            chunk = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return []
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        events = [json.loads(line) for line in lines]
        if not chunk:
            code = self._popen.wait()
            events.append({"type": "died", "message": self._death(code), "code": code})
        return events

    def stop(self, seconds: float) -> None:
        """Has it save its runs and end; returns when it has ended, or after so many seconds."""
        self._popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)

    def close(self) -> None:
        """Ends it at once."""
        self._popen.kill()
        self._popen.wait()
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        os.close(self.descriptor)

    def _death(self, code: int) -> str:
        death = f"its process {subprocesses.describe_end(code)}; see {self.log}"
        if code < 0:
            return death
        tail = subprocesses.tail(self.log.read_text(encoding="utf-8", errors="replace"))
        return f"{death}:\n{textwrap.indent(tail, '  ')}"
