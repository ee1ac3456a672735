"""Worker processes on this machine, each on its own cores."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spjax import subprocesses

TRAIN = "spjax.studies.worker:train_folders"


def cores() -> list[int]:
    """Returns the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def has_accelerator() -> bool:
    """Returns whether this machine has an accelerator; does not start JAX."""
    devices = [path for name in ("nvidia[0-9]*", "accel[0-9]*") for path in Path("/dev").glob(name)]
    return bool(devices) and os.environ.get("JAX_PLATFORMS", "") != "cpu"


def keep_memory() -> None:
    """Lets training steps reuse memory on CPU; call before JAX starts its threads."""
    from spjax.training.host_memory import keep_freed_memory

    if not has_accelerator():
        keep_freed_memory()


def default_workers() -> int:
    """Returns one worker for each core; one in all where an accelerator would be shared."""
    return 1 if has_accelerator() else len(cores())


class _Process:
    """One worker process and the unread part of what it sent."""

    def __init__(self, popen: subprocess.Popen[bytes], events: int) -> None:
        assert popen.stdin is not None  # a pipe
        self.popen, self.stdin, self.events, self.unread = popen, popen.stdin, events, b""


class Local:
    """Runs gangs in `workers` processes that stay warm from one gang to the next.

    The processes die with the one that made this object (their standard input closes) and hold
    the study's lock as long as they live. What they print goes to `logs/worker_<i>.log`.
    """

    def __init__(self, workers: int, logs: Path, lock: int, train: str = TRAIN) -> None:
        """Args: number of processes; folder of the logs; descriptor of the lock; see `worker`."""
        self.workers, self.logs, self.lock, self.train = workers, logs, lock, train
        self._selector = selectors.DefaultSelector()
        self._processes: dict[int, _Process] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, worker: int) -> None:
        """Starts process number `worker`; it reports "ready" when it can take a gang."""
        worker_cores = cores()[worker :: self.workers] or [cores()[worker % len(cores())]]
        variables = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
        if self.workers > 1 and len(worker_cores) == 1:
            flags = os.environ.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
            variables["OMP_NUM_THREADS"] = "1"
        read, write = os.pipe()
        arguments = ["--events", str(write), "--train", self.train]
        if self.workers > 1:
            arguments += ["--cores", ",".join(map(str, worker_cores))]
        with open(self.logs / f"worker_{worker}.log", "ab") as log:
            popen = subprocesses.start(
                "spjax.studies.worker",
                arguments,
                variables=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(write, self.lock),
                start_new_session=True,  # Ctrl-C is for the parent alone
            )
        os.close(write)
        os.set_blocking(read, False)
        self._processes[worker] = _Process(popen, read)
        self._selector.register(read, selectors.EVENT_READ, worker)

    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Gives process number `worker` the gang whose runs are in `folders`."""
        order = json.dumps({"folders": [str(folder.absolute()) for folder in folders]})
        stdin = self._processes[worker].stdin
        try:
            stdin.write(order.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it died while idle; `events` reports that

    def events(self, timeout: float) -> list[tuple[int, dict[str, Any]]]:
        """Returns events as (worker, event), after waiting at most `timeout` seconds.

        Events have a "type": "ready", "progress" (step, steps, stage), "done", "failed" (message,
        and disk if the disk is why), or "died" (message), after which the process is gone.
        """
        result = []
        for key, _ in self._selector.select(timeout):
            worker = key.data
            process = self._processes[worker]
            chunk = os.read(process.events, 1 << 16)
            *lines, process.unread = (process.unread + chunk).split(b"\n")
            result += [(worker, json.loads(line)) for line in lines]
            if not chunk:
                self._selector.unregister(process.events)
                os.close(process.events)
                del self._processes[worker]
                process.stdin.close()
                result.append((worker, {"type": "died", "message": self._death(worker, process)}))
        return result

    def close(self) -> None:
        """Ends all processes at once; run folders stay usable whenever that happens."""
        for process in self._processes.values():
            process.popen.kill()
        for process in self._processes.values():
            process.popen.wait()
            process.stdin.close()
            self._selector.unregister(process.events)
            os.close(process.events)
        self._processes.clear()

    def _death(self, worker: int, process: _Process) -> str:
        code = process.popen.wait()
        log = self.logs / f"worker_{worker}.log"
        death = f"its process {subprocesses.describe_end(code)}; see {log}"
        if code < 0:
            return death
        tail = subprocesses.tail(log.read_text(encoding="utf-8", errors="replace"))
        return f"{death}:\n{textwrap.indent(tail, '  ')}"
