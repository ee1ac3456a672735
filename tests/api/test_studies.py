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
        folder = Path("results/study")
        outcome = Outcome(failed={"key": "no memory"})

        def run(self):
            return self.outcome

        def report(self, outcome):
            return f"0 finished, failed: {outcome.failed}, left: {outcome.left}"

    monkeypatch.setattr(studies, "plan_study", lambda *args: Failing())
    with pytest.raises(RuntimeError, match="0 finished, failed: .*no memory"):
        spjax.sweep("study.gin")
    Failing.outcome = Outcome(left=3)  # in jobs that go on
    assert spjax.sweep("study.gin").report == "0 finished, failed: {}, left: 3"
