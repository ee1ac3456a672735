"""The process's standard streams and Ctrl-C, as every command needs them."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

from spjax.cli.exit_codes import INTERRUPTED

_FORCED_AT = 3  # the number of the Ctrl-C that does not wait for anything


def open_streams() -> None:
    """Makes standard input, output and errors usable, whatever the process was started with.

    A closed one is replaced by the null device, so that no other file gets its number. Texts are
    UTF-8 whatever the locale says, as all files are.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if number else "r"
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
            if opened == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  (stays)
            setattr(sys, name, stream)
        stream = getattr(sys, name)
        if number and hasattr(stream, "reconfigure"):  # a notebook's own have no such method
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def discard_output() -> None:
    """Sends what is still to be written to the null device; nobody reads it any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(null, stream.fileno())
    os.close(null)


@contextlib.contextmanager
def quiet_background() -> Iterator[None]:
    """Leaves errors to the main thread, which raises them too, instead of printing them twice.

    Orbax and TensorStore write in threads: of a full disk each of them logs and prints tracebacks.
    """
    from absl import logging

    before, verbosity = threading.excepthook, logging.get_verbosity()
    unraisable = sys.unraisablehook
    threading.excepthook = lambda args: None
    sys.unraisablehook = lambda args: None
    logging.set_verbosity(logging.FATAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
            yield
    finally:
        threading.excepthook, sys.unraisablehook = before, unraisable
        logging.set_verbosity(verbosity)


class Interrupts:
    """Ctrl-C as a context manager: the first raises KeyboardInterrupt, the third ends at once.

    The second is ignored, so that it does not cut off the end that the first has begun. Nothing is
    lost by the third: what is on disk bears that at any moment.

    Attributes:
      count: how many there were.
    """

    def __init__(self, ends_process: bool) -> None:
        """Says whether the process ends after the block, as that of a command does."""
        self.count, self.ends_process = 0, ends_process
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        # Not where it is ignored, as in the background of a shell, or somebody else handles it.
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the handler, unless the process is about to end after an interruption."""
        if self._before is None:
            return
        if self.count and self.ends_process:
            # Python takes handlers of its own away when it ends, and the next would be a signal.
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt
        if self.count >= _FORCED_AT:
            os._exit(INTERRUPTED)
