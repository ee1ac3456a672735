"""Warnings are printed above a display that is redrawn, not into its lines."""

import io
import logging
import sys

import pytest
from rich.console import Console

from spjax.studies import live_display


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_of_standard_error_keeps_its_warnings(monkeypatch):
    terminal, stderr = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    console = Console(file=terminal, force_terminal=True, width=80)
    handler, log = logging.StreamHandler(stderr), logging.getLogger("spjax.some")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with live_display.show(console=console, auto_refresh=False) as live:
        live.update("the bar", refresh=True)
        log.warning("inside")
        print("printed", file=sys.stderr)
    assert stderr.getvalue() == "inside\nprinted\n" and "inside" not in terminal.getvalue()


def test_warnings_are_printed_above_it(monkeypatch):
    terminal, stderr = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    handler, log = logging.StreamHandler(stderr), logging.getLogger("spjax.some")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    console = Console(file=terminal, force_terminal=True, width=80)
    with (
        pytest.raises(KeyboardInterrupt),
        live_display.show(console=console, auto_refresh=False) as live,
    ):
        live.update("the bar", refresh=True)
        log.warning("before the end")
        raise KeyboardInterrupt
    log.warning("after it")
    assert "before the end\n" in terminal.getvalue() and "the bar" in terminal.getvalue()
    assert stderr.getvalue() == "after it\n" and sys.stderr is stderr
