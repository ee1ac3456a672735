"""Studies from Python."""

import contextlib
from pathlib import Path

import pytest

import spjax
from spjax.api import studies
from spjax.studies import run_folder
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

        def mirrored(self):
            return contextlib.nullcontext()

        def run(self, mirror):
            return self.outcome

        def following(self, outcome):
            return None

        def report(self, outcome):
            return f"0 finished, failed: {outcome.failed}, left: {outcome.left}"

    monkeypatch.setattr(studies, "plan_study", lambda *args: Failing())
    with pytest.raises(RuntimeError, match="0 finished, failed: .*no memory"):
        spjax.sweep("study.gin")
    Failing.outcome = Outcome(left={"key": "PENDING"})  # in jobs that go on
    assert spjax.sweep("study.gin").report == "0 finished, failed: {}, left: {'key': 'PENDING'}"


STUDY = ["experiments/pocket/quickstart.gin"]


def test_where_a_study_at_a_url_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path))

    def plan(output_dir, executor="local", working_dir=""):
        return studies.plan_study(STUDY, [], [], output_dir, (), executor, working_dir)

    one, other = plan("memory://b/one/"), plan("memory://b/other")
    assert one.url == "memory://b/one/quickstart" and one.folder.name == "quickstart"
    assert one.folder.is_relative_to(tmp_path) and one.folder != other.folder
    assert plan("memory://b/one").folder == one.folder
    assert plan("memory://b", "ray", tmp_path / "x").folder == tmp_path / "x" / "quickstart"
    assert plan("results").url == ""
    for arguments, message in {
        ("memory://b", "ray"): "'ray' a study at a URL needs --working_dir=FOLDER",
        ("memory://b", "slurm", "x"): "'slurm' trains on without this process",
        ("results", "local", "x"): "--working_dir=x is for an --output_dir that is a URL",
        ("http://a/b",): "a study cannot be written to http://a/b; use a local",
        ("hf://a/b",): "a study cannot be written to hf://a/b; use a local folder, gs://",
    }.items():
        with pytest.raises(ValueError, match=message):
            plan(*arguments)
    with pytest.raises(ValueError, match="runs of s3://b/a cannot be reused; copy the study"):
        studies.plan_study(STUDY, [], [], "results", ["s3://b/a"])


def test_other_commands_write_to_no_url():
    for url in ("gs://bucket/run", "s3://bucket/a/b", "memory://x"):
        with pytest.raises(ValueError, match=f"{url} is a URL, and .* Only `spjax sweep` takes"):
            run_folder.probe(Path(url))
    assert not Path("gs:").exists()
