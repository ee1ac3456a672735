"""Tasks by name, from files and from pairs."""

import decimal
import json
from pathlib import Path

import numpy as np
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


COLUMNS = {"template": "review: {text}", "target": "{verdict}"}
ROWS = [{"text": text, "verdict": word} for text, word in pairs(60)]


def test_rows_in_memory(shared_cache):
    """They are what the same rows in a file are."""
    task = spjax.load_task(ROWS, validation=ROWS[:4], labels=["good", "bad"], **COLUMNS)
    assert task.name == "rows" and Path(task.source.path).parent == shared_cache / "pairs"
    assert task.examples("validation")[1] == ("review: film 1 was bad", "bad")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    same = spjax.load_task(frame, validation=frame[:4], labels=["good", "bad"], **COLUMNS)
    assert [same.examples(split) for split in same.splits] == [
        task.examples(split) for split in task.splits
    ]


def test_values_of_rows_are_kept(shared_cache):
    """Ends of lines that only Unicode has, all digits, numbers and arrays of NumPy, dates."""
    text, number, day = "one\u2028two\x85three", 1 / 3, "2026-01-02T00:00:00"
    wanted = {"text": text, "number": number, "label": 1, "more": [1.0, 2.0], "day": day}
    wanted |= {"price": "1.50", "single": 3.8, "words": ["a", "b"]}
    columns = {"template": "{text}", "target": "{label}", "labels": ["no", "yes"]}
    row = {**wanted, "number": np.float64(number), "label": np.int64(1), "more": np.arange(1.0, 3)}
    row |= {"price": decimal.Decimal("1.50"), "single": np.float32(3.8)}
    row["words"] = np.array(["a", "b"], object)  # as pandas reads a list of Parquet
    examples = [[dict(row)] * 20]
    pandas = pytest.importorskip("pandas")
    row["single"] = 3.8  # a frame has its own digits
    examples.append(pandas.DataFrame([{**row, "day": pandas.Timestamp("2026-01-02")}] * 20))
    with pytest.raises(ValueError, match="there are no examples"):
        spjax.load_task(examples[1][:0])
    with pytest.raises(ValueError, match="path has two columns 'a'; rename or drop one"):
        spjax.load_task(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValueError, match="item 0 of path is .*inf.* JSON compliant"):
        spjax.load_task(pandas.DataFrame({"a": [np.inf]}))
    holes = [{"input": "a", "target": "b", "n": n} for n in (1.5, np.nan, None, pandas.NA)]
    task = spjax.load_task(pandas.DataFrame(holes), validation=holes[:1], test=holes[:1])
    lines = Path(task.source.path).read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines[:4]] == [1.5, None, None, None]
    for rows in examples:
        task = spjax.load_task(rows, validation=rows, test=rows, **columns)
        lines = Path(task.source.path).read_text().split("\n")[:-1]
        assert [json.loads(line) for line in lines] == [wanted] * 20
        assert task.examples() == [(text, "yes")] * 20


def test_a_dataset_in_memory(shared_cache, tmp_path):
    """Classes, splits and other words for classes are those of the same dataset in a folder."""
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    classes = datasets.ClassLabel(names=["good", "bad"])
    features = {"text": datasets.Value("string"), "verdict": classes}
    rows = [{"text": row["text"], "verdict": i % 2} for i, row in enumerate(ROWS)]
    dataset = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    alone = spjax.load_task(dataset, **COLUMNS)
    assert alone.name == "rows" and alone.labels == ("good", "bad")
    assert sum(len(alone.examples(split)) for split in alone.splits) == 60
    splits = datasets.DatasetDict(train=dataset, validation=dataset.select(range(8)))
    splits.save_to_disk(str(tmp_path / "films"))
    for words in ((), ("fine", "dull")):
        task = spjax.load_task(splits, labels=words, **COLUMNS)
        folder = spjax.load_task(tmp_path / "films", labels=words, **COLUMNS)
        assert task.labels == folder.labels == (words or ("good", "bad"))
        for split in task.splits:
            assert task.examples(split) == folder.examples(split)
    assert len(task.examples("validation")) == 8
    assert spjax.load_task(splits, labels=words, **COLUMNS) == task  # by its content
    with pytest.raises(ValueError, match="path is a IterableDataset, whose rows are not all there"):
        spjax.load_task(dataset.to_iterable_dataset(), **COLUMNS)


FEW = pairs(3)


@pytest.mark.parametrize(
    "task, options, message",
    [
        ("pocket_bc", {}, r"unknown task 'pocket_bc'. Did you mean .*spjax.list_tasks\(\) lists"),
        ("absent.jsonl", {}, "absent.jsonl"),
        ("me/films", {}, "so do the folder of a dataset, .* and hf://datasets/me/films"),
        ("films", {}, "and hf://datasets/ORGANIZATION/NAME"),
        ("pocket_cb", {"labels": ["a", "b"]}, "labels is given for the task 'pocket_cb', which"),
        ("pocket_cb", {"test": FEW}, "test is given for the task 'pocket_cb'"),
        ([], {}, "there are no examples; give at least one"),
        (FEW, {}, "3 rows, too few to hold out 10% .*Give more rows, or files as validation and"),
        (["a", "b"], {}, "item 0 of path is 'a'; every item must be a pair of two texts"),
        ([("a", 1)], {}, r"item 0 of path is \('a', 1\)"),
        ([("a", "b", "c")], {}, "item 0 of path is"),
        (7, {}, "path is a int; give the name of a task, the path of a file, a list of"),
        ([{"text": "a"}, "b"], {}, "item 1 of path is 'b'; every item must be a mapping from"),
        ([{"input": {1}}], {}, r"item 0 of path is .*\{1\} is a set. A value is a text, a number"),
        ([{"input": np.datetime64("2026-01-01", "ns")}], {}, "is a datetime64. A value is a text"),
        ([{"input": float("nan")}], {}, "item 0 of path is .*nan.*not JSON compliant.*None for"),
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
