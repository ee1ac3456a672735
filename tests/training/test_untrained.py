"""Runs without training: what the model reads, what its answers are scored, what is refused."""

import collections
import dataclasses
import json
import types

import numpy as np
import pandas as pd
import pytest

from spjax.analysis import statistics
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.tasks import registry
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.methods.hard_prompt import HardPrompt
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.studies import plan
from spjax.studies.study import Arm, Study
from spjax.training import loop, stored_run
from spjax.training.run_data import RunData
from spjax.training.untrained import Untrained

TEMPLATE = "read: {input} so it is"


@pytest.fixture
def hard(run):
    method = HardPrompt(template=TEMPLATE, demonstrations=6)
    return dataclasses.replace(run, method=method, seed=3, eval_batch_size=128)


def test_the_model_reads_demonstrations_and_input_in_the_template():
    method = HardPrompt(template=TEMPLATE)
    assert method.written("t", "a", [("b", "yes")]) == "read: b so it is yes read: a so it is"
    by_task = HardPrompt(template={"t": "{input}?", "default": "{input}."})
    assert by_task.written("t:sentinel", "a") == "a?" and by_task.written("u", "a") == "a."
    assert [
        m.variant for m in (method, by_task, HardPrompt(demonstrations=2, decoding="greedy"))
    ] == ["rank k=0 'read: {input} so it is'", "rank k=0 by task", "greedy k=2"]


@pytest.mark.slow
def test_a_run_is_scored_and_not_trained(hard, tmp_path):
    hard = dataclasses.replace(hard, method=HardPrompt(template=TEMPLATE, demonstrations=2))
    (result,) = loop.train([hard], [tmp_path])
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "finished" and result["steps"] == result["best_step"] == 0
    assert result["trainable_parameters"] == 0 and result["message"] == ""
    assert not (tmp_path / "checkpoints").exists()
    again = stored_run.score_folder(hard, tmp_path, "")
    assert again == {"split": "test", "examples": 500, "step": 0, **result["test"]}
    # By hand, for a few examples.
    tasks = RunData(hard)
    untrained = Untrained(hard, tasks)
    data = tasks.split(tasks.mixture.scored[0], "test")
    base = hard.open_model().weights
    answers = untrained.answer(base, data)
    assert len(answers) == data.num_examples == 500
    shown = untrained._shown["pocket_cb"]
    front = " ".join(f"read: {text} so it is {target}" for text, target in shown)
    labels = tasks.mixture.scored[0].labels
    soft_tokens = Prompt.from_array(_embedded(base, tasks.vocabulary, front))
    row = PreparedPrompt(soft_tokens, labels=labels)
    soft = Predictor(get_size("pocket_50k"), base, [row], tasks.vocabulary, Decoding("rank"))
    asked = [f"read: {data.examples[i]['inputs_text']} so it is" for i in range(40)]
    found = soft.answer([soft.encode(text)[0] for text in asked], [0] * 40)
    assert [answer.text for answer in found] == answers[:40]


def _embedded(base, words, text):
    """A text as soft tokens: rows of the embedding table."""
    return np.asarray(base["token_embedder"]["embedding"])[words.encode(text)]


def test_a_template_that_the_vocabulary_lacks_is_told(hard):
    hard = dataclasses.replace(hard, method=HardPrompt(template="Ω {input}"))
    assert "template of pocket_cb has pieces" in Untrained(hard, RunData(hard)).message


def test_demonstrations_are_balanced_and_drawn_by_the_seed(hard):
    tasks = RunData(hard)
    (shown,) = Untrained(hard, tasks)._shown.values()
    train = tasks.split(tasks.mixture.scored[0], "train").examples
    pairs = {(example["inputs_text"], example["targets_text"]) for example in train}
    assert len(shown) == 6 and set(shown) <= pairs
    assert set(collections.Counter(target for _, target in shown).values()) == {2}
    assert list(Untrained(hard, tasks)._shown.values()) == [shown]
    (other,) = Untrained(dataclasses.replace(hard, seed=4), tasks)._shown.values()
    assert set(other) != set(shown)


def test_demonstrations_of_a_part_of_the_training_examples(hard):
    few = dataclasses.replace(hard, task="pocket_cb:n9:balanced")
    tasks = RunData(few)
    train = tasks.split(tasks.mixture.scored[0], "train").examples
    (shown,) = Untrained(few, tasks)._shown.values()
    assert len(train) == 9 and len(shown) == 6
    assert set(shown) <= {(x["inputs_text"], x["targets_text"]) for x in train}


def test_demonstrations_are_cut_to_the_row(hard):
    tasks = RunData(hard)
    few = Untrained(dataclasses.replace(hard, row_length=120), tasks)
    (shown,), (every,) = few._shown.values(), Untrained(hard, tasks)._shown.values()
    assert 0 < len(shown) < 6 and shown == every[: len(shown)]
    assert f"{len(shown)} of 6 demonstrations of pocket_cb are shown" in few.message
    method, words = hard.method, tasks.vocabulary
    splits = [tasks.split(tasks.mixture.scored[0], name) for name in ("validation", "test")]
    texts = [example["inputs_text"] for split in splits for example in split.examples]
    lengths = [
        [len(words.encode(method.written("pocket_cb", text, every[:k]))) + 1 for text in texts]
        for k in (len(shown), len(shown) + 1)
    ]
    assert max(lengths[0]) <= 120 < max(lengths[1])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": HardPrompt(demonstrations=501)}, "501 demonstrations are asked for, and pock"),
        (
            {"method": HardPrompt(template="{input} " + 60 * "the "), "row_length": 60},
            "longest input of pocket_cb has .* tokens, and Run.row_length is 60",
        ),
        ({"method": HardPrompt(template={"x": "{input}"})}, "no template for pocket_cb, only for"),
    ],
)
def test_mistakes(hard, change, message):
    run = dataclasses.replace(hard, **change)
    with pytest.raises(ValueError, match=message):
        Untrained(run, RunData(run))


def test_free_text_has_no_labels_to_rank(hard):
    tasks = types.SimpleNamespace(mixture=registry.mixture("pocket_wsc"))
    with pytest.raises(ValueError, match="pocket_wsc has no labels to rank, its answers are free"):
        Untrained(hard, tasks)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"template": "no place"}, "template 'no place' must be a text in which {input} stands"),
        ({"template": {"t": 3}}, "the template 3 must be"),
        ({"demonstrations": -1}, "DEMONSTRATIONS is -1; it must be a whole number of at least 0"),
        ({"decoding": "beam"}, "DECODING is 'beam'; use 'rank' or 'greedy'"),
    ],
)
def test_bad_hyper_parameters(settings, message):
    with pytest.raises(ValueError, match=message):
        HardPrompt(**settings)


def test_a_sweep_has_them_as_an_arm():
    files = [f"gin_configs/{name}.gin" for name in ("models/pocket", "runs/pocket")]
    axes = {
        "TEMPLATE": ["{input}", "{input} answer:"],
        "DEMONSTRATIONS": [0, 2],
        "SEED": [0, 1],
        "MIXTURE_OR_TASK_NAME": ["pocket_cb", "pocket_rte"],
    }
    bindings = {"MODEL_SIZE": "pocket_50k"}
    arms = [Arm("design", [*files, "gin_configs/methods/hard_prompt.gin"], axes, bindings)]
    specs = plan.expand(Study("s", arms))
    assert len(specs) == 16 and all(spec.seconds < 15 for spec in specs)
    prompts = Arm(
        "prompts",
        [*files, "gin_configs/methods/prompt_tuning.gin"],
        {},
        {**bindings, "MIXTURE_OR_TASK_NAME": "pocket_cb"},
    )
    (trained,) = plan.expand(Study("t", [prompts]))
    assert {spec.gang for spec in specs}.isdisjoint({trained.gang})
    rows = [
        {
            **spec.labels,
            "arm": "design",
            "model_parameters": 1,
            "status": "finished",
            "test_score": 50.0 + spec.labels["seed"],
            "majority_score": 40.0,
            "ceiling": 100.0,
        }
        for spec in specs
    ]
    cells = statistics.suite(statistics.main_runs(pd.DataFrame(rows))).cells
    assert sorted(cells["line"]) == [
        "hard prompt rank k=0",
        "hard prompt rank k=0 '{input} answer:'",
        "hard prompt rank k=2",
        "hard prompt rank k=2 '{input} answer:'",
    ]
    assert set(cells["mean"]) == {50.5} and set(cells["seeds"]) == {2}
