"""Ends a process whose parent process has ended, perhaps killed."""

from __future__ import annotations

import os
import threading
import time

VARIABLE = "SPJAX_PARENT_PROCESS"
_POLL_SECONDS = 0.5
_ORPHANED = 3  # exit status


def exit_with_parent() -> None:
    """Starts a thread that ends this process once the parent named in the environment ends.

    Without that variable, as when a builder is started by hand, nothing is watched.
    """
    parent = os.environ.get(VARIABLE, "")
    if parent.isdigit():
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(_ORPHANED)  # the main thread may be inside a long call of TensorFlow
