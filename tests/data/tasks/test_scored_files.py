"""A new file is scored whole, and read as the prompt's own task reads its files."""

import json

import pytest

from spjax.data.tasks import file_task, registry, scored_files
from spjax.data.tasks.file_task import FileTask

ROWS = [{"text": f"a {i} dog", "says": ("no", "yes")[i % 2]} for i in range(100)]
OWN = {"template": "text: {text}", "target": "{says}", "labels": ("no", "yes")}
OWN |= {"metrics": ("f1_with_invalid", "accuracy"), "input_length": 40, "target_length": 9}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def trained(tmp_path):
    source = registry.get(FileTask(write(tmp_path / "own.jsonl", ROWS), **OWN)).source
    return registry.outline(source)


def test_all_rows_are_read_as_the_own_task_does(trained, tmp_path):
    path = write(tmp_path / "new.jsonl", [{"text": "b", "says": i % 2} for i in range(7)])
    info = scored_files.task(path, trained)
    assert (info.name, info.splits, info.sizes) == ("new", ("test",), (7,))
    records = file_task.records(info.source, "test")
    assert [row["inputs"] for row in records] == ["text: b"] * 7
    assert [row["targets"] for row in records] == ["no", "yes"] * 3 + ["no"]
    for name in ("labels", "metrics", "lengths", "postprocess"):
        assert getattr(info, name) == getattr(trained, name)
    assert not scored_files.note(path, info, trained)
    with pytest.raises(ValueError, match="'new' has no training examples, only test"):
        registry.mixture(info)


def test_other_columns_than_those_of_the_own_task(trained, tmp_path):
    path = write(tmp_path / "new.jsonl", [{"body": "b", "verdict": "yes"}] * 3)
    columns = {"template": "text: {body}", "target": "{verdict}"}
    info = scored_files.task(path, trained, columns=columns)
    records = file_task.records(info.source, "test")
    assert [(row["inputs"], row["targets"]) for row in records] == [("text: b", "yes")] * 3
    assert info.labels == trained.labels
    with pytest.raises(ValueError, match="text"):
        scored_files.task(path, trained)


def test_a_sentinel_stays_with_the_prompt(tmp_path):
    source = registry.get(f"{write(tmp_path / 'own.jsonl', PLAIN)}:sentinel").source
    trained = registry.outline(source)
    assert trained.sentinel
    info = scored_files.task(write(tmp_path / "new.jsonl", PLAIN[:2]), trained)
    assert info.sentinel and info == registry.get(info.source)  # as the builder of caches reads it


PLAIN = [{"input": f"a {i} dog", "target": f"{i}"} for i in range(100)]


def test_the_own_file_is_told(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "own.jsonl"), "own.jsonl", "../" + f"{tmp_path.name}/own.jsonl"):
        assert scored_files.is_of(path, trained.source)
    for path in (str(tmp_path / "own.jsonl"), write(tmp_path / "copy.jsonl", ROWS)):
        info = scored_files.task(path, trained)
        assert info.sizes == (100,)
        assert "those of training among them" in scored_files.note(path, info, trained)


def test_what_a_task_of_the_table_says_is_kept(tmp_path):
    cb = registry.get("pocket_cb")
    rows = [{"input": "a", "target": label} for label in cb.labels]
    path = write(tmp_path / "new.jsonl", rows)
    info = scored_files.task(path, cb)
    assert (info.labels, info.metrics, info.sizes) == (cb.labels, cb.metrics, (3,))
    assert f"the labels {', '.join(cb.labels)}" in scored_files.note(path, info, cb)
    record = registry.get("pocket_record")  # whose metrics need several answers
    assert scored_files.task(path, record).metrics == ("squad",)
    info = scored_files.task(path, None)
    assert info.metrics == ("squad",) and "free text" in scored_files.note(path, info, None)
    assert scored_files.task(path, None, cb.labels).metrics == ("accuracy",)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"text": "b"}], "no field 'says', only 'text'.\nThe file is read with the template 'te"),
        ([{"text": "b", "says": "maybe"}], "'says' is 'maybe'; it must be no, yes or a number"),
        ([{"input": "b", "target": "no"}], "no field 'text', only 'input', 'target'"),
        ([], "has no rows; give at least one example"),
    ],
)
def test_rows_of_another_kind_are_refused(trained, rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        scored_files.task(write(tmp_path / "new.jsonl", rows), trained)


def test_variants_choose_nothing(trained):
    with pytest.raises(ValueError, match="nothing for ':n10' to choose. Give new.jsonl"):
        scored_files.task("new.jsonl:n10", trained)
