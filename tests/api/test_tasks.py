"""Tasks by name, from files and from pairs."""

import json
from pathlib import Path

import pytest

import spjax
from spjax.data.tasks.file_task import FileTask
from tests.api.conftest import pairs


def test_a_shipped_task():
    task = spjax.load_task("pocket_cb")
    assert task.source == task.name == "pocket_cb"
    assert len(task.labels) == 3 and task.metrics and task.splits == ("train", "validation", "test")
    assert {"pocket_cb", "super_glue_boolq_v102"} <= set(spjax.list_tasks())
    assert spjax.load_task(task) == task


def test_a_file(tmp_path):
    path = tmp_path / "films.jsonl"
    rows = [{"text": text, "verdict": i % 2} for i, (text, _) in enumerate(pairs(60))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"template": "review: {text}", "target": "{verdict}"}
    task = spjax.load_task(path, labels=["good", "bad"], **columns)
    assert task.source == FileTask(str(path), labels=("good", "bad"), **columns)
    assert task.examples()[0] == ("review: film 0 was good", "good")


def test_pairs_are_a_file_named_by_their_content(shared_cache):
    task = spjax.load_task(pairs(60))
    path = Path(task.source.path)
    assert path.parent == shared_cache / "pairs" and path.stem == task.source.sha256
    assert task.name == "pairs" and task.metrics == ("squad",) and not task.labels
    assert spjax.load_task(list(pairs(60))) == task != spjax.load_task(pairs(61))
    both = [*task.examples("train"), *task.examples("validation"), *task.examples("test")]
    assert sorted(both) == sorted(pairs(60))


def test_pairs_with_splits(task):
    assert task.examples("validation") == pairs(12, 100)
    assert task.examples("test") == pairs(12, 200)
    assert task.labels == ("bad", "good") and task.metrics == ("accuracy",)


FEW = pairs(3)


@pytest.mark.parametrize(
    "task, options, message",
    [
        ("pocket_bc", {}, r"unknown task 'pocket_bc'. Did you mean .*spjax.list_tasks\(\) lists"),
        ("absent.jsonl", {}, "absent.jsonl"),
        ("pocket_cb", {"labels": ["a", "b"]}, "labels is given for the task 'pocket_cb', which"),
        ("pocket_cb", {"test": FEW}, "test is given for the task 'pocket_cb'"),
        ([], {}, "the list of examples is empty; give at least one"),
        (FEW, {}, "3 rows, too few to hold out 10% .*Give more rows, or files as validation and"),
        (["a", "b"], {}, "item 0 of path is 'a'; every item must be a pair of two texts"),
        ([("a", 1)], {}, r"item 0 of path is \('a', 1\)"),
        ([("a", "b", "c")], {}, "item 0 of path is"),
        (7, {}, "path is a int; give the name of a task, the path of a file, or a list"),
        ({"a": "b"}, {}, "path is a dict; give the name"),
        (FEW, {"test": 3.5}, "test is a float"),
        (FEW, {"validation": FEW, "test": FEW, "labels": ["god", "bad"]}, "must be god, bad"),
        (FEW, {"label": ["a"]}, "load_task has no option 'label'; a file or a list of pairs takes"),
        (FEW, {"validation": FEW, "test": FEW, "metrics": "acuracy"}, "acuracy"),
    ],
)
def test_mistakes(task, options, message):
    with pytest.raises(ValueError, match=message):
        spjax.load_task(task, **options)


def test_an_unknown_split(task):
    with pytest.raises(ValueError, match="pairs has no split 'dev'; it has train, validation"):
        task.examples("dev")
