"""A display that is redrawn on a terminal, above which warnings are printed."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def show(**options: Any) -> Iterator[Any]:
    """Shows a display of rich until the block ends, and removes it then.

    Handlers of logging that write to standard error, which keep the stream that they began with,
    write above the display in the meantime.

    Args:
      options: of `rich.live.Live`.

    Yields:
      the `Live`.
    """
    from rich.live import Live

    before = sys.stderr
    # A standard error that goes to a file keeps its warnings.
    with Live(transient=True, redirect_stderr=before.isatty(), **options) as live:
        handlers = [
            handler
            for handler in logging.getLogger().handlers
            if isinstance(handler, logging.StreamHandler) and handler.stream is before
        ]
        for handler in handlers:
            handler.setStream(sys.stderr)  # rich's, while the display is there
        try:
            yield live
        finally:
            for handler in handlers:
                handler.setStream(before)
