"""A worker process: trains the gangs it receives, one after the other, in one warm process.

Started by `spjax.studies.worker_process`. It reads one JSON object a line from standard input
({"folders": [...]}) and writes one a line to the descriptor named by `--events`. It ends when
standard input closes, which means that its parent has ended. After SIGTERM, SIGUSR1 or SIGUSR2, by
which schedulers announce that time is up, it saves its runs and ends with status 143. Importing
this module loads only the standard library: the process is pinned to its cores before JAX counts
them.

With `--distributed` it is one of several processes, each on a machine of its own, that get the same
orders and train together; the first writes the files. After anything but success such a process
ends, because the others may wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from spjax import locks
from spjax.studies import devices
from spjax.studies.executor import TRAIN
from spjax.studies.worker_process import STOPPED
from spjax.training.stop import STOP_SIGNALS, StopRequested

_PROGRESS_SECONDS = 0.5
# A worker on a lost machine, or of a driver that was killed, may need that long to end.
_PATIENCE_SECONDS = 60.0
# How errors of XLA begin, of whatever type, after another process has ended.
_BROKEN = tuple(
    f"{status}: "
    for status in (
        *("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL"),
        *("UNAVAILABLE", "UNKNOWN"),
    )
)
_LOST = 1  # exit status of one of several processes after a failure


def train_folders(folders: Sequence[Path], on_progress: Callable[[Any], None]) -> None:
    """Trains the runs of the `config.gin` files in these folders, as one gang.

    Raises:
      ValueError: a configuration does not parse, or the run refuses its data.
    """
    from spjax import config
    from spjax.training import loop

    runs = [config.load_stored("Run", folder / "config.gin") for folder in folders]
    loop.train(runs, folders, on_progress)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--cores", default="")
    parser.add_argument("--train", default=TRAIN)
    parser.add_argument("--distributed", action="store_true")
    args = parser.parse_args(argv)
    stop = _Stop()
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in args.cores.split(",")})
    devices.keep_memory()  # before there is another thread: its arena would give memory back
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    events = os.fdopen(args.events, "w", buffering=1, encoding="utf-8")

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")

    if args.distributed:
        from spjax import multihost

        multihost.initialize()
        multihost.barrier("ready")  # when the devices of all machines are known
        stop.listen()  # again: JAX takes SIGTERM for itself
    module, _, name = args.train.partition(":")
    train = getattr(importlib.import_module(module), name)
    send(type="ready")
    while True:
        folders = [Path(folder) for folder in orders.get()["folders"]]
        with stop.after_gang(args.distributed):
            _work(train, folders, send, stop, args.distributed)


class _Stop:
    """Signals to stop: they end an idle process, and a busy one when its runs are saved."""

    def __init__(self) -> None:
        self.requested = self._is_busy = False
        self.listen()

    def listen(self) -> None:
        """Handles the signals from now on."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)

    @contextlib.contextmanager
    def after_gang(self, is_distributed: bool) -> Iterator[None]:
        """Puts the end off until the block has ended; StopRequested ends all processes with it."""
        self._is_busy = True
        try:
            yield
        except StopRequested:
            if is_distributed:
                import jax

                with contextlib.suppress(RuntimeError):  # another one has ended already
                    jax.distributed.shutdown()  # waits for the others, which die with the first
            os._exit(STOPPED)  # Python's own end may abort while a thread reads standard input
        self._is_busy = False
        if self.requested:  # since the end of the gang; the others may have the next one already
            os._exit(STOPPED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._is_busy:
            os._exit(STOPPED)


def _listen(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(0)  # the main thread may be inside a long computation


def _work(
    train: Callable[..., Any],
    folders: list[Path],
    send: Callable[..., None],
    stop: _Stop,
    is_distributed: bool = False,
) -> None:
    """Trains a gang and tells of its end, unless this process ends with it.

    Raises:
      StopRequested: the process is to end, and takes no other gang.
    """
    from spjax.studies import run_folder

    last = 0.0

    def on_progress(progress: Any) -> None:
        nonlocal last
        if stop.requested:
            raise StopRequested
        is_stage = progress.stage == "compiling"  # nothing else comes before it has ended
        if is_stage or time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            send(
                type="progress",
                step=int(progress.step),
                steps=int(progress.steps),
                stage=str(progress.stage),
                scores=[float(score) for score in progress.scores],
            )

    try:
        if is_distributed:
            _train_together(train, folders, on_progress, stop)
        else:
            _train_alone(train, folders, on_progress)
            if stop.requested:
                raise StopRequested
    except StopRequested:
        raise
    except locks.HeldError as error:
        message = f"a run of the gang is being trained elsewhere ({error})"
        send(type="failed", message=message, disk="")
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk has no room for the log either
            traceback.print_exc()
        if is_distributed and _has_lost_another(error):
            os._exit(_LOST)
        message = f"{type(error).__name__}: {error}"
        send(type="failed", message=message, disk=run_folder.disk_problem(error))
    else:
        send(type="done")
        return
    if is_distributed:
        os._exit(_LOST)


def _has_lost_another(error: BaseException | None) -> bool:
    """Returns whether an error, or one that it came from, says that another process has ended.

    Orbax waits in vain for one, and raises TimeoutError.
    """
    while error is not None:
        if isinstance(error, TimeoutError) or str(error).startswith(_BROKEN):
            return True
        error = error.__cause__ or error.__context__
    return False


def _train_alone(
    train: Callable[..., Any], folders: Sequence[Path], on_progress: Callable[[Any], None]
) -> None:
    from spjax.studies import run_folder

    with contextlib.ExitStack() as held:
        for folder in folders:
            held.enter_context(locks.hold(folder / ".lock", _PATIENCE_SECONDS))
        train(folders, on_progress)
    missing = [folder.name for folder in folders if run_folder.result(folder) is None]
    if missing:
        raise RuntimeError(f"training ended without the result of {', '.join(missing)}")


def _train_together(
    train: Callable[..., Any],
    folders: Sequence[Path],
    on_progress: Callable[[Any], None],
    stop: _Stop,
) -> None:
    """Trains in all processes; returns when all have ended, in each.

    A request to stop that one of them has had by then is one of all.
    """
    from spjax import multihost

    if multihost.is_primary():
        _train_alone(train, folders, on_progress)
    else:
        train(folders, on_progress)
    multihost.barrier("gang")  # the first one may still write files, and a signal come meanwhile
    if not multihost.all_agree(not stop.requested):
        raise StopRequested


if __name__ == "__main__":
    main()
