"""The module for T5X without T5X; with it, see `tests/parity/test_t5x_integration.py`."""

import importlib
import sys

import pytest


def test_the_error_without_t5x(monkeypatch):
    monkeypatch.setitem(sys.modules, "t5x", None)
    monkeypatch.delitem(sys.modules, "spjax.integrations.t5x", raising=False)
    with pytest.raises(ValueError, match="needs T5X.*clone .*t5x and name the folder"):
        importlib.import_module("spjax.integrations.t5x")
