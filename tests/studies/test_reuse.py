"""Finished runs of another study are copied, and only those that are the same in everything."""

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from spjax.files import read_json, write_json
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.studies import results, reuse, run_folder, runner
from spjax.studies.executors.local import Local
from spjax.training import code_version
from tests.studies.fake_sweep import TRAIN, specs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


def sweep(folder, plan, *reused):
    return runner.sweep("fake", plan, folder, executor=Local(1), train=TRAIN, reused=reused)


@pytest.fixture
def other(tmp_path):
    """The folder of a study that has finished four runs."""
    sweep(tmp_path / "other", specs(4, steps=6))
    return tmp_path / "other"


def change(folder, **values):
    result = read_json(folder / "result.json")
    result.pop("content_sha256", None)
    write_json(folder / "result.json", result | values)


def test_equal_runs_are_copied_and_the_others_trained(other, tmp_path):
    plan = specs(6, steps=6)
    text = runner.estimate(plan, tmp_path / "new", Local(1), [other])
    assert "6 runs, 0 finished, 4 to be copied from other studies" in text
    outcome = sweep(tmp_path / "new", plan, other)
    assert (outcome.finished, outcome.new, len(outcome.reused)) == (6, 2, 4)
    report = runner.report(outcome, plan, tmp_path / "new")
    assert f"4 of them were copied from {other} (see reused.json in their folders)." in report
    for spec in plan[:4]:
        copied, source = spec.folder(tmp_path / "new"), spec.folder(other)
        for name in ("result.json", "config.gin", "checkpoint.json"):
            assert (copied / name).read_bytes() == (source / name).read_bytes()
        assert read_json(copied / reuse.NOTE)["from"] == str(source)
    rows = (tmp_path / "new" / "results.csv").read_text()
    sweep(tmp_path / "alone", plan)
    assert rows == (tmp_path / "alone" / "results.csv").read_text()
    again = sweep(tmp_path / "new", plan, other)
    assert (again.new, again.reused) == (0, {})
    # A copy of a copy says where the run was trained.
    sweep(tmp_path / "third", plan[:1], tmp_path / "new")
    note = read_json(plan[0].folder(tmp_path / "third") / reuse.NOTE)
    assert note["from"] == str(plan[0].folder(other))


def damage_metrics(folder):
    (folder / "metrics.jsonl").write_text("{}\n")
    change(folder, metrics_sha256="0" * 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: change(folder, code_sha256=["0" * 64]),
        lambda folder: change(folder, code_sha256=["0" * 64, code_version.digest()]),
        lambda folder: change(folder, code_sha256=[code_version.digest(), code_version.UNKNOWN]),
        lambda folder: change(folder, code_sha256=code_version.digest()),  # that ended it
        lambda folder: change(folder, code_sha256=None),
        lambda folder: change(folder, status="diverged"),
        lambda folder: change(folder, config_sha256="0" * 64),
        lambda folder: (folder / "result.json").unlink(),
        lambda folder: (folder / "result.json").write_text('{"status": "fin'),
        lambda folder: (folder / "config.gin").write_text("steps = 7\nseed = 0\nfail = none\n"),
        lambda folder: (folder / run_folder.LONGER).write_text("steps = 60\n"),
        damage_metrics,
    ],
)
def test_another_code_or_configuration_is_trained_again(other, tmp_path, damage):
    plan = specs(2, steps=6)
    damage(plan[0].folder(other))
    outcome = sweep(tmp_path / "new", plan, other)
    assert set(outcome.reused) == {plan[1].key} and (outcome.new, outcome.finished) == (1, 2)
    assert not (plan[0].folder(tmp_path / "new") / reuse.NOTE).exists()


@dataclasses.dataclass
class Mine:
    """A part of a run that is not spjax's, such as an initializer."""

    nested: tuple = ()


def test_runs_with_a_class_from_outside_are_trained_again(other, tmp_path, caplog):
    plan = specs(2, steps=6)
    within = PromptTuning(length=3, initializer=Uniform())
    parts = [(within,), (within, Mine())]
    plan = [dataclasses.replace(spec, run=Mine(part)) for spec, part in zip(plan, parts)]
    assert code_version.classes_outside(plan[0].run) == ["Mine"]
    assert code_version.classes_outside(within) == []
    plan[0] = dataclasses.replace(plan[0], run=within)
    assert set(reuse.find(plan, [other])) == {plan[0].key}
    assert "no version is recorded of Mine, which is not spjax's" in caplog.text


def test_a_full_disk_is_named_and_leaves_no_part_of_a_copy(other, tmp_path, monkeypatch):
    plan, copy_file = specs(2, steps=6), shutil.copy2
    last = f".{plan[1].key}.partial"

    def full(source, target):
        if last in str(target) and target.name == "result.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))
        return copy_file(source, target)

    monkeypatch.setattr(reuse.shutil, "copy2", full)
    outcome = sweep(tmp_path / "new", plan, other)
    assert outcome.stopped.startswith(f"{tmp_path / 'new' / 'runs' / last}")
    assert "No space left on device" in outcome.stopped
    assert [path.name for path in (tmp_path / "new" / "runs").iterdir()] == [plan[0].key]


def test_ctrl_c_leaves_no_part_of_a_copy(other, tmp_path, monkeypatch):
    def interrupt(folder):
        raise KeyboardInterrupt

    plan = specs(1, steps=6)
    monkeypatch.setattr(reuse, "sync_tree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "new", plan, other)
    assert not list((tmp_path / "new" / "runs").iterdir())


def test_parts_of_copies_go_in_a_sweep_that_copies_nothing(tmp_path):
    cut = tmp_path / "new" / "runs" / f".{'f' * 12}.partial"
    cut.mkdir(parents=True)
    sweep(tmp_path / "new", specs(1, steps=6))
    assert not cut.exists()


def test_another_key_is_another_run(other, tmp_path):
    """A key is a hash of the versions of data and weights too, which config.gin lacks."""
    plan = [dataclasses.replace(spec, key=spec.key[:-1] + "f") for spec in specs(2, steps=6)]
    assert not sweep(tmp_path / "new", plan, other).reused


def test_an_unfinished_run_and_a_copy_that_was_cut_off_are_replaced(other, tmp_path):
    (spec,) = plan = specs(1, steps=6)
    target = spec.folder(tmp_path / "new")
    run_folder.prepare(target, spec.text)
    (target / "checkpoint.json").write_text(json.dumps({"step": 3, "value": 1}))
    cut = target.with_name(f".{spec.key}.partial")
    cut.mkdir()
    (cut / "result.json").write_text("{}")
    outcome = sweep(tmp_path / "new", plan, other)
    assert set(outcome.reused) == {spec.key} and not cut.exists()
    assert read_json(target / "result.json") == read_json(spec.folder(other) / "result.json")


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="has no study.gin, so it is no study folder"):
        results.check_folder(tmp_path, results.RUNS)
    (tmp_path / "study.gin").touch()
    with pytest.raises(ValueError, match="has no folder runs, so no run can be reused"):
        results.check_folder(tmp_path, results.RUNS)
    with pytest.raises(ValueError, match="has no results.csv: none of its runs has finished yet"):
        results.check_folder(tmp_path)
    with pytest.raises(ValueError, match="study.gin is a file: give a folder that"):
        results.check_folder(tmp_path / "study.gin")


def test_the_version_of_the_code_is_that_of_what_decides_numbers(tmp_path, monkeypatch):
    first = code_version.digest()
    assert len(first) == 64 and first == code_version.digest()
    root = tmp_path / "spjax"
    for name in ("training/code_version.py", "models/t5.py", "analysis/claims.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    monkeypatch.setattr(code_version, "__file__", str(root / "training" / "code_version.py"))

    def digest():
        code_version.digest.cache_clear()
        return code_version.digest()

    before = digest()
    (root / "analysis" / "claims.py").write_text("x = 2\n")
    assert digest() == before
    (root / "models" / "t5.py").write_text("x = 2\n")
    assert digest() != before
    code_version.digest.cache_clear()


def test_a_line_says_why_runs_are_trained_again(other, tmp_path, caplog):
    plan = specs(3, steps=6)
    for spec in plan:
        change(spec.folder(other), code_sha256=["0" * 64])
    assert reuse.find(plan, [other]) == {}
    (record,) = caplog.records
    assert (
        "3 runs in" in record.getMessage() and "another version of the code" in record.getMessage()
    )
