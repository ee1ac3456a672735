"""Scores of hand-made cases, and the same as scikit-learn where it has the metric."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from spjax import metrics
from spjax.data.tasks import registry


def task(dataset: str) -> registry.TaskInfo:
    return registry.get(f"pocket_{dataset}")


def labelled(*targets: str) -> list[dict[str, Any]]:
    return [{"targets_text": target} for target in targets]


def test_labels_match_to_the_letter() -> None:
    examples = labelled("True", "True", "False", "False")
    scores = metrics.evaluate(task("boolq"), ["True", "true", "False ", "False"], examples)
    assert scores == {"accuracy": 50.0}


def test_prediction_that_is_no_label_is_wrong_for_every_label() -> None:
    assert metrics.evaluate(task("rte"), ["", "x"], labelled("entailment", "not_entailment")) == {
        "accuracy": 0.0
    }


def test_cb_by_hand() -> None:
    examples = labelled("entailment", "entailment", "contradiction", "contradiction")
    predictions = ["entailment", "contradiction", "contradiction", "gibberish"]
    scores = metrics.evaluate(task("cb"), predictions, examples)
    # F1: entailment 2/3, contradiction 2*1/(2+2), neutral absent counts as 0.
    assert scores == pytest.approx({"mean_3class_f1": 100 * (2 / 3 + 1 / 2) / 3, "accuracy": 50.0})
    assert metrics.score(scores) == pytest.approx((38.888889 + 50) / 2)


def multirc_example(question: int, target: str) -> dict[str, Any]:
    idx = {"paragraph": 0, "question": question, "answer": 0}
    return {"idx": idx, "targets_text": target}


def test_multirc_by_hand() -> None:
    examples = [
        multirc_example(0, "True"),
        multirc_example(0, "False"),
        multirc_example(1, "True"),
        multirc_example(1, "False"),
        multirc_example(2, "False"),
    ]
    predictions = ["True", "False", "True", "nonsense", "False"]
    scores = metrics.evaluate(task("multirc"), predictions, examples)
    # The nonsense counts as "True": two hits, one false alarm.
    assert scores == pytest.approx({"f1": 100 * 4 / 5, "exact_match": 100 * 2 / 3})


def record_example(query: int, *answers: str) -> dict[str, Any]:
    return {
        "idx": {"passage": 0, "query": query},
        "answers": list(answers),
        "targets_text": answers[0] if answers else "<unk>",
    }


def test_record_takes_the_best_answer_and_one_example_per_query() -> None:
    examples = [
        record_example(0, "the Red House", "Tom"),
        record_example(0, "the Red House", "Tom"),  # a second answer's copy; not counted
        record_example(1, "New York City"),
        record_example(2, "Ann"),
    ]
    scores = metrics.evaluate(task("record"), ["red house!", "wrong", "York", "Bob"], examples)
    assert scores == pytest.approx({"em": 100 / 3, "f1": 100 * (1 + 0.5 + 0) / 3})


def test_record_without_answers_scores_zero() -> None:
    assert metrics.evaluate(task("record"), ["Ann"], [record_example(0)]) == {"em": 0.0, "f1": 0.0}


@pytest.mark.parametrize(
    ("prediction", "referent", "names_it"),
    [
        ("Tom", "Tom", 1),
        ("the fuzzy bunny", "Bunny", 1),
        ("bunny", "that fuzzy bunny", 1),
        ("Bob", "Bob's hat", 0),
        ("Bob's hat", "his Bob's hat", 1),
        ("Ann", "Tom", 0),
        ("", "Tom", metrics.INVALID),
        (" the ", "Tom", metrics.INVALID),
    ],
)
def test_wsc(prediction: str, referent: str, names_it: int) -> None:
    for label in (0, 1):
        example = {"targets_text": referent, "label": label}
        assert metrics.wsc(prediction, example, ()) == (label, names_it)
        accuracy = metrics.evaluate(task("wsc"), [prediction], [example])["accuracy"]
        assert accuracy == (100.0 if names_it == label else 0.0)


def test_squad_drops_case_articles_and_punctuation() -> None:
    assert metrics.squad([["The U.S., today"]], ["  us   Today "]) == {"em": 100.0, "f1": 100.0}
    assert metrics.squad([["a b c d", "x"]], ["b b c"]) == {
        "em": 0.0,
        "f1": pytest.approx(100 * 2 * (2 / 3) * (2 / 3) / (4 / 3)),  # "a" goes as an article
    }


def test_score_is_the_mean_of_the_metrics() -> None:
    assert metrics.score({"em": 50.0, "f1": 70.0}) == 60.0


def test_majority_predicts_the_commonest_training_target() -> None:
    train, evaluation = labelled("True", "False", "False"), labelled("False", "True", "True")
    scores = metrics.majority(task("boolq"), train, evaluation)
    assert scores == {"accuracy": pytest.approx(100 / 3)}
    tie = labelled("neutral", "entailment")  # entailment is the first label, though seen later
    assert metrics.majority(task("cb"), tie, labelled("entailment"))["accuracy"] == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_same_as_scikit_learn(seed: int) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 3, 60), random.integers(-1, 3, 60)
    expected = sklearn_metrics.fbeta_score(
        truth, predicted, beta=1, labels=range(3), average="macro", zero_division=0
    )
    assert metrics.mean_3class_f1(truth, predicted)["mean_3class_f1"] == pytest.approx(
        100 * expected
    )
    expected = sklearn_metrics.accuracy_score(truth, predicted)
    assert metrics.accuracy(truth, predicted)["accuracy"] == pytest.approx(100 * expected)
    truth, predicted = truth % 2, predicted % 2
    expected = sklearn_metrics.f1_score(truth, predicted)
    assert metrics.f1_with_invalid(truth, predicted)["f1"] == pytest.approx(100 * expected)


def test_f1_of_a_class_that_never_occurs_is_zero() -> None:
    assert metrics.f1_with_invalid([0, 0], [0, 0]) == {"f1": 0.0}


@pytest.mark.parametrize("count", [0, 1])
def test_counts_must_agree(count: int) -> None:
    with pytest.raises(ValueError, match=f"0 predictions for {count} examples"):
        metrics.evaluate(task("boolq"), [], labelled("True")[:count])


def test_unknown_names_are_refused() -> None:
    info = task("boolq")
    other = dataclasses.replace(info, format=dataclasses.replace(info.format, metrics=("bleu",)))
    with pytest.raises(ValueError, match="unknown metric 'bleu'; the known ones are accuracy"):
        metrics.evaluate(other, ["True"], labelled("True"))
    other = dataclasses.replace(info, format=dataclasses.replace(info.format, postprocess="qa"))
    with pytest.raises(ValueError, match="unknown post-processor 'qa'"):
        metrics.evaluate(other, ["True"], labelled("True"))
