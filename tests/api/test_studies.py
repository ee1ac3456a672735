"""Studies from Python."""

from pathlib import Path

import pytest

import spjax
from spjax.api import studies
from spjax.studies.runner import Outcome


class Planned(Exception):
    pass


def test_paths_in_bindings_are_text(monkeypatch):
    texts = []

    def plan(files, bindings, *args):
        texts.extend(bindings)
        raise Planned

    monkeypatch.setattr(studies, "plan_study", plan)
    bindings = {"A": Path("x"), "B": [Path("x"), 1], "C": {"d": (Path("x"),)}}
    with pytest.raises(Planned):
        spjax.sweep("study.gin", bindings)
    assert texts == ["A = 'x'", "B = ['x', 1]", "C = {'d': ('x',)}"]


def test_a_study_without_a_finished_run_is_a_failure_at_run_time(monkeypatch):
    class Failing:
        def run(self, workers):
            return Outcome(failed={"key": "no memory"})

        def report(self, outcome):
            return f"0 finished, failed: {outcome.failed}"

    monkeypatch.setattr(studies, "plan_study", lambda *args: Failing())
    with pytest.raises(RuntimeError, match="0 finished, failed: .*no memory"):
        spjax.sweep("study.gin")
