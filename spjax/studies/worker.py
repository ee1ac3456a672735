"""A worker process: trains the gangs it receives, one after the other, in one warm process.

Started by `spjax.studies.executors.local`. It reads one JSON object a line from standard input
({"folders": [...]}) and writes one a line to the descriptor named by `--events`. It ends when
standard input closes, which means that its parent has ended. Importing this module loads only
the standard library: the process is pinned to its cores before JAX counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from spjax.studies.executors import local

_PROGRESS_SECONDS = 0.5


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
    parser.add_argument("--train", default="spjax.studies.worker:train_folders")
    args = parser.parse_args(argv)
    if args.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in args.cores.split(",")})
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    events = os.fdopen(args.events, "w", buffering=1, encoding="utf-8")

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")

    local.keep_memory()
    module, _, name = args.train.partition(":")
    train = getattr(importlib.import_module(module), name)
    send(type="ready")
    while True:
        _work(train, [Path(folder) for folder in orders.get()["folders"]], send)


def _listen(orders: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(0)  # the main thread may be inside a long computation


def _work(train: Callable[..., Any], folders: list[Path], send: Callable[..., None]) -> None:
    from spjax.studies import run_folder

    last = 0.0

    def on_progress(progress: Any) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            send(
                type="progress",
                step=int(progress.step),
                steps=int(progress.steps),
                stage=str(progress.stage),
            )

    try:
        train(folders, on_progress)
        missing = [folder.name for folder in folders if run_folder.result(folder) is None]
        if missing:
            raise RuntimeError(f"training ended without the result of {', '.join(missing)}")
    except Exception as error:
        with contextlib.suppress(OSError):  # a full disk has no room for the log either
            traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        send(type="failed", message=message, disk=run_folder.disk_problem(error))
    else:
        send(type="done")


if __name__ == "__main__":
    main()
