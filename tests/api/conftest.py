"""A small model, a small task and a run of a second, for all tests of the Python API."""

import pytest

import spjax

SETTINGS = {"batch_size": 8, "eval_period": 2, "steps": 4}


def pairs(count, first=0):
    """(input, target) texts whose target is a word of the input."""
    words = ("good", "bad")
    return [(f"film {i} was {words[i % 2]}", words[i % 2]) for i in range(first, first + count)]


@pytest.fixture(scope="session")
def model():
    return spjax.load_model("pocket_50k")


@pytest.fixture(scope="session")
def task(shared_cache):
    held_out = {"validation": pairs(12, 100), "test": pairs(12, 200)}
    return spjax.load_task(pairs(40), labels=("bad", "good"), target_length=8, **held_out)


@pytest.fixture(scope="session")
def method():
    return spjax.PromptTuning(length=3)


@pytest.fixture(scope="session")
def trained(model, task, method, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "prompt"
    return spjax.train(model, task, method, output_dir=folder, **SETTINGS)
