"""Tests of configuration that run in the clone find gin files by their relative names."""

import pytest

from tests.config.small_run import ROOT


@pytest.fixture
def in_clone(monkeypatch):
    monkeypatch.chdir(ROOT)
