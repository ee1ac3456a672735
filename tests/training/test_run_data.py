"""Runs on mixtures, on variants of a task, and on tasks without test labels."""

import dataclasses

import numpy as np
import pytest

from spjax import metrics
from spjax.data import cache, vocabulary
from spjax.data.tasks import registry, tables
from spjax.methods.initializers import ClassLabels, SampledVocabulary
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training import loop, run_data, scoring
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

MIXTURES = {
    "pocket_mixture": {
        "rates": {"pocket_cb": 3, "pocket_copa": 1},
        "transfer": ("pocket_rte",),
    }
}


@pytest.fixture
def run(checkpoint, monkeypatch):
    monkeypatch.setattr(registry, "_mixtures", lambda: tables.mixtures() | MIXTURES)
    registry._named_mixture.cache_clear()
    yield Run(
        task="pocket_mixture",
        model="pocket_50k",
        method=PromptTuning(length=3, initializer=SampledVocabulary(600)),
        optimizer=Adafactor(0.3),
        checkpoint=checkpoint,
        steps=2,
        eval_period=1,
        batch_size=8,
        eval_examples=16,
        eval_batch_size=16,
    )
    registry._named_mixture.cache_clear()


def test_a_mixture_is_chosen_by_the_mean_of_its_tasks_and_transferred(run, tmp_path):
    (result,) = loop.train([run], [tmp_path])
    assert result["task"] == "pocket_mixture" and result["status"] == "finished"
    for split in ("validation", "test", "majority"):
        found = result[split]
        tasks = {name.partition("/")[0] for name in found} - {"score"}
        assert tasks == {"pocket_cb", "pocket_copa"}
        mean = np.mean([found[f"{task}/score"] for task in tasks])
        assert found["score"] == pytest.approx(mean)
    assert set(result["transfer"]) == {"pocket_rte"}
    assert set(result["transfer"]["pocket_rte"]) == {"accuracy", "score"}
    again = scoring.score_folder(run, tmp_path, "test")
    assert {name: again[name] for name in result["test"]} == result["test"]
    with pytest.raises(ValueError, match="'other' of pocket_cb cannot be scored; choose .*test"):
        scoring.score_folder(run, tmp_path, "other")


def test_a_mixture_s_batches_are_of_its_tasks(run):
    data = run_data.RunData(run)
    stream = data.batches()
    cb = cache.load("pocket_cb", "train")
    own = {tuple(row) for row in (cb.inputs[i].tolist() for i in range(cb.num_examples))}
    rows = [row for _ in range(10) for row in next(stream)["inputs_BL"]]
    mine = sum(tuple(row[3:][row[3:] > 0].tolist()) in own for row in rows)
    assert len(rows) == 80 and mine == 60


def test_class_labels_of_a_mixture_are_those_of_all_its_tasks(run):
    method = PromptTuning(length=8, initializer=ClassLabels())
    data = run_data.RunData(dataclasses.replace(run, method=method))
    assert data.mixture.class_labels == (
        "entailment", "contradiction", "neutral", "choice1", "choice2",
    )  # fmt: skip


def test_a_task_without_test_labels_is_scored_on_validation(run, tmp_path, monkeypatch):
    info = dataclasses.replace(registry.get("pocket_cb"), unlabelled=("test",))
    monkeypatch.setattr(registry, "_tasks", lambda: {"pocket_cb": info})
    run = dataclasses.replace(run, task="pocket_cb")
    (result,) = loop.train([run], [tmp_path])
    assert result["test"] is None and result["validation"]["score"] >= 0
    data = cache.load("pocket_cb", "validation")
    train = cache.load("pocket_cb", "train")
    expected = metrics.majority(info, train.examples, data.examples)
    assert expected.items() <= result["majority"].items()
    with pytest.raises(ValueError, match="'test' of pocket_cb cannot be scored; choose"):
        scoring.score_folder(run, tmp_path, "test")


def test_few_examples_are_a_seeded_part_and_grow(shared_cache):
    whole = cache.load("pocket_cb", "train")
    few, more, other, even = (
        cache.load(f"pocket_cb:{variant}", "train")
        for variant in ("n16", "n40", "n16:seed1", "n16:balanced")
    )
    assert few.num_examples == len(few.examples) == 16 and more.num_examples == 40
    for split in (few, other, even):
        for i, row in enumerate(split.rows):
            assert (split.inputs[i] == whole.inputs[row]).all()
            assert (split.targets[i] == whole.targets[row]).all()
            assert split.examples[i] == whole.examples[row]
    assert set(few.rows) < set(more.rows) and set(few.rows) != set(other.rows)
    targets = [example["targets_text"] for example in even.examples]
    assert sorted(targets.count(target) for target in set(targets)) == [5, 5, 6]
    assert cache.load("pocket_cb:n16", "validation").num_examples > 16
    with pytest.raises(ValueError, match="asks for 99999 examples and train has"):
        cache.load("pocket_cb:n99999", "train")


def test_sentinel_stands_before_the_target_and_is_taken_off_the_answer(shared_cache):
    plain, marked = cache.load("pocket_cb", "test"), cache.load("pocket_cb:sentinel", "test")
    first = vocabulary.load("pocket").sentinel(0)
    assert [first, *plain.targets[3]] == list(marked.targets[3])
    assert (plain.inputs[3] == marked.inputs[3]).all()
    info = registry.get("pocket_cb:sentinel")
    texts = [f"<extra_id_0> {example['targets_text']}" for example in marked.examples]
    assert run_data.score(info, texts, marked.examples)["score"] == 100
    assert run_data.score(registry.get("pocket_cb"), texts, plain.examples)["score"] < 50


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pocket_cb:shots", r"unknown variant 'shots' in 'pocket_cb:shots'; those known are :sent"),
        ("pocket_cb:seed1", r"draws no examples; say how many with :n<number>"),
        ("pocket_cb:n0", r"has no training examples to draw that many from"),
        ("pocket_cb:halves", r"has no validation split in TFDS that could be halved"),
    ],
)
def test_bad_variants(name, message):
    with pytest.raises(ValueError, match=message):
        registry.get(name)
