"""Facts of a prompt that are shared."""

import json

import pytest

from spjax.checkpoints.prompts.public_facts import public, task_fields
from spjax.checkpoints.weights import weights
from spjax.data.tasks import registry

DIGEST = weights.digest(weights.load("pocket_50k"))


@pytest.mark.parametrize(
    "facts, model",
    [
        ({"base_sha256": DIGEST}, "pocket_50k"),  # the same weights in a file of the user's
        ({"base_sha256": "0"}, "auto"),
        ({}, "auto"),
        ({"model": "t5_1_1_small"}, "t5_1_1_small"),  # for which no weights ship
    ],
)
def test_a_size_is_said_where_it_says_the_weights(facts, model):
    facts = {"model": "pocket_50k", "base_model": "/my/weights", "base_revision": "a", **facts}
    expected = {**facts, "model": model}
    del expected["base_model"], expected["base_revision"]
    assert public(facts) == expected
    named = {**facts, "base_model": "org/name"}
    assert public(named) == named


@pytest.mark.parametrize(
    "task", ["/home/me/x.jsonl", "../x.csv", "x.csv", 'files:{"path": "/x.jsonl"}']
)
def test_a_task_that_is_a_file_is_left_out(task):
    assert public({"task": task, "seed": "1"}) == {"seed": "1"}
    facts = public({"task": task, "task_file": 'files:{"path": "/x.jsonl"}'})
    assert facts.get("task", "x") in ("x", "x.jsonl", "x.csv")
    assert public({"task": "pocket_boolq:n100"}) == {"task": "pocket_boolq:n100"}


def test_digests_are_of_each_dtype():
    digests = weights.shipped_digests("pocket_50k")
    assert DIGEST in digests and len(digests) == 3 and not weights.shipped_digests("t5_1_1_small")
    assert weights.digest(weights.load("pocket_50k", dtype="bfloat16")) in digests


@pytest.mark.parametrize("text", ["files:7", "files:[1]", "files:{", "", 'files:{"labels": 3}'])
def test_what_is_no_task_of_files(text):
    facts = {"task_file": text}
    assert task_fields(facts) == {}
    assert json.loads(public(facts)["task_file"].partition(":")[2])["path"] == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"metrics": ["zzz"]},
        {"input_length": "x"},
        {"labels": [1]},
        {"labels": ["\ud800"]},
        {"name": None},
        {"evil": 1},
    ],
)
def test_a_task_of_files_that_cannot_be(fields):
    source = "files:" + json.dumps({"path": "x.jsonl", **fields})
    with pytest.raises(ValueError, match=f"a task of files has {next(iter(fields))} = "):
        registry.outline(source)
    with pytest.raises(ValueError, match="is no task of files"):
        registry.outline("files:[1]")


@pytest.mark.parametrize("path", ["~", "hf://datasets/../secret@" + "a" * 40, "hf://datasets/x"])
def test_paths_of_datasets_are_no_way_out(path):
    facts = public({"task_file": "files:" + json.dumps({"path": path})})
    kept = json.loads(facts["task_file"].partition(":")[2])["path"]
    assert kept in ("", "x", path.rpartition("/")[2])
    of_hub = "hf://datasets/org/name@v1:en#train"
    facts = public({"task_file": "files:" + json.dumps({"path": of_hub})})
    assert json.loads(facts["task_file"].partition(":")[2])["path"] == of_hub
