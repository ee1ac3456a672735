"""A seqio task of a user's own module: its texts, and a run on them."""

import json
import sys
from pathlib import Path

import pytest

from spjax.cli import main
from spjax.data.tasks import file_task, registry
from spjax.data.token_cache import seqio_source
from spjax.vocabularies import vocabulary

pytest.importorskip("seqio", reason="the extra tfds is not installed")

MODULE = """
import functools
import seqio
import tensorflow as tf

TEXTS = {
    "train": [(f"bird {i}", "red" if i % 2 else "blue") for i in range(60)],
    "validation": [(f"tree {i}", "red" if i % 2 else "blue") for i in range(10)],
}
VOCABULARY = seqio.SentencePieceVocabulary(PATH, extra_ids=100)

def dataset_fn(split, shuffle_files, seed=None):
    inputs, targets = map(list, zip(*TEXTS[split]))
    return tf.data.Dataset.from_tensor_slices({"inputs": inputs, "targets": targets})

@seqio.map_over_dataset
def ask(example):
    return {**example, "inputs": tf.strings.join(["is the ", example["inputs"], " red ?"])}

@seqio.map_over_dataset
def mark(example):
    return {**example, "targets": tf.concat([[0, 0], example["targets"]], axis=0)}

def add(name, *more, source=None):
    seqio.TaskRegistry.add(
        name,
        source=source or seqio.FunctionDataSource(dataset_fn, splits=["train", "validation"]),
        preprocessors=[
            ask,
            seqio.preprocessors.tokenize,
            *more,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={
            name: seqio.Feature(VOCABULARY, add_eos=True) for name in ("inputs", "targets")
        },
    )

add("birds")
add("marked", mark)
seqio.MixtureRegistry.add("both", ["birds", "marked"], default_rate=1.0)
"""


@pytest.fixture
def module(tmp_path, monkeypatch, vocabulary_path):
    """The name of a module in the working directory."""
    path = repr(str(vocabulary.load_vocabulary("pocket").path))
    (tmp_path / "own_tasks.py").write_text(MODULE.replace("PATH", path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    seqio_source._exported.cache_clear()
    yield "own_tasks"
    assert "own_tasks" not in sys.modules  # it was imported elsewhere
    seqio_source._exported.cache_clear()


@pytest.mark.slow
def test_its_texts_are_those_of_a_task_of_files(module, tmp_path):
    task = seqio_source.seqio_task(module, "birds", labels=["red", "blue"])
    info = registry.get(task)
    assert info.name == "birds" and info.labels == ("red", "blue")
    validation = file_task.records(info.source, "validation")
    assert [row["inputs"] for row in validation] == [f"is the tree {i} red ?" for i in range(10)]
    assert [row["targets"] for row in validation[:3]] == ["blue", "red", "blue"]
    # The task has no test split, so that this is held out of the training split.
    sizes = dict(zip(info.splits, info.sizes))
    assert sizes["validation"] == 10 and sizes["train"] + sizes["test"] == 60 and sizes["test"]
    seqio_source._exported.cache_clear()
    assert seqio_source.seqio_task(module, "birds", labels=["red", "blue"]) == task
    text = (tmp_path / "own_tasks.py").read_text().replace("tree", "house")
    (tmp_path / "own_tasks.py").write_text(text)
    seqio_source._exported.cache_clear()
    other = seqio_source.seqio_task(module, "birds", labels=["red", "blue"])
    assert other.validation != task.validation and other.sha256 != task.sha256
    assert len(list((tmp_path / "cache" / "seqio").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "name", "message"),
    [
        ("own_tasks", "bird", r"'own_tasks' adds no task 'bird' .*'birds', 'marked'"),
        ("own_tasks", "both", r"'both' is a mixture of seqio; name one of its tasks: \['birds'"),
        ("own_tasks", "marked", "'marked' has targets that no text is tokenized to"),
        ("no_tasks", "birds", "'no_tasks' .* cannot be imported: ModuleNotFoundError"),
        ("own-tasks", "birds", "module of a seqio task is 'own-tasks'; give it with --gin.MIX"),
    ],
)
def test_what_cannot_be_trained_on_is_said(module, asked, name, message):
    with pytest.raises(ValueError, match=message):
        seqio_source.seqio_task(asked, name)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["tasks/seqio", "runs/pocket"])
def test_it_trains_by_module_and_name(module, tmp_path, capsys, first, checkpoint):
    """The gin files may stand in any order."""
    names = {"models/pocket", "runs/pocket", "methods/prompt_tuning", "tasks/seqio"}
    files = [first, *sorted(names - {first})]
    settings = {
        "MIXTURE_OR_TASK_MODULE": module,
        "MIXTURE_OR_TASK_NAME": "birds",
        "TASK_LABELS": "('red', 'blue')",
        "MODEL_SIZE": "pocket_50k",
        "INITIAL_CHECKPOINT_PATH": checkpoint,
        "PROMPT_LENGTH": 2,
        "TRAIN_STEPS": 2,
        "EVAL_PERIOD": 2,
        "MODEL_DIR": tmp_path / "run",
    }
    arguments = [f"--gin_file=gin_configs/{name}.gin" for name in files]
    arguments += [f"--gin.{name}={value}" for name, value in settings.items()]
    assert main.main(["train", *arguments]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "birds" and result["status"] == "finished"
    stored = (tmp_path / "run" / "config.gin").read_text()
    assert "FileTask.name = 'birds'" in stored and "own_tasks" not in stored
