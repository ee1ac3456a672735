"""Scores of hand-made cases, and the same as scikit-learn, scipy and the official scripts give.

The official definitions (SQuAD v1.1's evaluate-v1.1.py, ReCoRD's, which scores a query as SQuAD's
does a question, and MultiRC's multirc_measures.py) are written out here once more.
"""

import collections
import dataclasses
import re
import string
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from spjax import metrics
from spjax.data.tasks import registry
from spjax.data.tasks.formats import FORMATS


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


def test_score_may_be_one_of_the_metrics() -> None:
    assert metrics.score({"em": 50.0, "f1": 70.0}, "f1") == 70.0
    assert metrics.score({"em": 50.0, "f1": 70.0}, selection="") == 60.0
    with pytest.raises(ValueError, match="no metric gives a value 'bleu'.*there are em, f1"):
        metrics.score({"em": 50.0, "f1": 70.0}, "bleu")


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
    other = dataclasses.replace(info, format=dataclasses.replace(info.format, metrics=("chrf",)))
    with pytest.raises(ValueError, match="unknown metric 'chrf'; the known ones are accuracy"):
        metrics.evaluate(other, ["True"], labelled("True"))
    other = dataclasses.replace(info, format=dataclasses.replace(info.format, postprocess="lower"))
    with pytest.raises(ValueError, match="unknown post-processor 'lower'"):
        metrics.evaluate(other, ["True"], labelled("True"))


# What the datasets beyond SuperGLUE need.


def of(dataset: str) -> Any:
    """A dataset's format, which says all that `evaluate` reads of a task."""
    return FORMATS[dataset]


def test_transfer_renames_predictions_only() -> None:
    examples = labelled("not_equivalent", "equivalent", "equivalent", "not_equivalent")
    predictions = ["not_duplicate", "duplicate", "not_duplicate", "equivalent"]
    scores = metrics.evaluate(of("mrpc_from_qqp"), predictions, examples)
    assert scores == pytest.approx({"f1": 50.0, "accuracy": 50.0})
    assert metrics.evaluate(of("mrpc"), predictions, examples)["accuracy"] == 0.0
    predictions = ["not_equivalent", "equivalent"]
    examples = labelled("not_duplicate", "duplicate")
    scores = metrics.evaluate(of("qqp_from_mrpc"), predictions, examples)
    assert scores == {"f1": 100.0, "accuracy": 100.0}


def test_an_invalid_prediction_counts_as_the_wrong_class() -> None:
    scores = metrics.evaluate(
        of("mrpc"), ["equivalent", "?", "?"], labelled("equivalent", "equivalent", "not_equivalent")
    )
    assert scores == pytest.approx({"f1": 50.0, "accuracy": 100 / 3})  # a hit, a miss, an alarm


@pytest.mark.parametrize(
    ("text", "number"),
    [("3.4", 3.4), (" 2 ", 2.0), ("1e1", 10.0), ("", -1.0), ("3,4", -1.0), ("five", -1.0)]
    + [("nan", -1.0), ("inf", -1.0), ("-Infinity", -1.0), ("1e999", -1.0)],
)
def test_what_is_no_number_is_minus_one(text: str, number: float) -> None:
    assert metrics.string_to_float(text, {"targets_text": "0.2"}, ()) == (0.2, number)


def test_stsb_by_hand() -> None:
    examples = labelled("1.0", "2.0", "3.0", "5.0")
    scores = metrics.evaluate(of("stsb"), ["1.0", "3.0", "2.0", "9"], examples)
    # Deviations -1.75 -0.75 0.25 2.25 and -2.75 -0.75 -1.75 5.25; ranks 1 2 3 4 and 1 3 2 4.
    pearson = 16.75 / np.sqrt(8.75 * 38.75)
    assert scores == pytest.approx({"pearson_corrcoef": 100 * pearson, "spearman_corrcoef": 80.0})


@pytest.mark.parametrize("predictions", [["0.1"] * 3, ["yes", "no", ""]])
def test_predicting_the_same_everywhere_correlates_with_nothing(predictions: list[str]) -> None:
    scores = metrics.evaluate(of("stsb"), predictions, labelled("0.2", "0.6", "0.4"))
    assert scores == {"pearson_corrcoef": 0.0, "spearman_corrcoef": 0.0}
    examples = labelled("acceptable", "unacceptable")
    scores = metrics.evaluate(of("cola"), ["acceptable", "acceptable"], examples)
    assert scores == {"matthews_corrcoef": 0.0}
    assert metrics.majority(of("stsb"), labelled("1.0"), labelled("1.0", "2.0")) == {
        "pearson_corrcoef": 0.0,
        "spearman_corrcoef": 0.0,
    }


def test_huge_numbers_do_not_overflow() -> None:
    values = metrics.pearson_corrcoef([0.0, 1.0, 2.0], [1e308, -1e308, 1e308])
    assert values["pearson_corrcoef"] == pytest.approx(0.0)


def test_matthews_by_hand() -> None:
    # 2 true and 1 false positives, 1 true and 1 false negatives: (2 - 1) / sqrt(3 * 3 * 2 * 2).
    values = metrics.matthews_corrcoef([1, 1, 0, 0, 1], [1, 1, 1, 0, 0])
    assert values == {"matthews_corrcoef": pytest.approx(100 / 6)}


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 2, 50), random.integers(-1, 2, 50)
    found = metrics.matthews_corrcoef(truth.tolist(), predicted.tolist())["matthews_corrcoef"]
    assert found == pytest.approx(100 * sklearn_metrics.matthews_corrcoef(truth, predicted))
    x = random.integers(0, 26, 50) / 5
    y = np.round(x + random.normal(0, 1, 50), 1)
    found = metrics.pearson_corrcoef(x, y)["pearson_corrcoef"]
    assert found == pytest.approx(100 * stats.pearsonr(x, y)[0])
    found = metrics.spearman_corrcoef(x, y)["spearman_corrcoef"]
    assert found == pytest.approx(100 * stats.spearmanr(x, y)[0])


WORDS = "the a An red Red house. house, U.S. isn't 1,000 -- caf\u00e9 \u201cred\u201d of".split()


def random_texts(random: np.random.Generator, count: int, longest: int = 6) -> list[str]:
    lengths = random.integers(0, longest, count)
    return [" ".join(random.choice(WORDS, length)) for length in lengths]


def official_words(text: str) -> list[str]:
    kept = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def official_squad(answers: list[str], prediction: str) -> tuple[float, float]:
    exact, f1 = [], []
    for answer in answers:
        said, gold = official_words(prediction), official_words(answer)
        exact.append(float(said == gold))
        same = sum((collections.Counter(said) & collections.Counter(gold)).values())
        f1.append(2 * same / (len(said) + len(gold)) if same else 0.0)
    return max(exact), max(f1)


@pytest.mark.parametrize("seed", range(5))
def test_squad_and_record_are_those_of_the_official_scripts(seed: int) -> None:
    random = np.random.default_rng(seed)
    predictions = random_texts(random, 40)
    answers = [random_texts(random, random.integers(1, 4)) for _ in predictions]
    rows = [official_squad(golds, said) for golds, said in zip(answers, predictions)]
    em, f1 = 100 * np.mean(rows, axis=0)
    examples = [{"answers": golds, "targets_text": golds[0]} for golds in answers]
    scores = metrics.evaluate(of("squad"), predictions, examples)
    assert scores == pytest.approx({"em": em, "f1": f1}) and 0 < em < f1
    examples = [
        {**example, "idx": {"passage": 0, "query": number // 2}}
        for number, example in enumerate(examples)
    ]
    em, f1 = 100 * np.mean(rows[::2], axis=0)  # a query's first example is the one that counts
    scores = metrics.evaluate(of("record"), predictions, examples)
    assert scores == pytest.approx({"em": em, "f1": f1})


@pytest.mark.parametrize("seed", range(5))
def test_multirc_is_that_of_the_official_script(seed: int) -> None:
    random = np.random.default_rng(seed)
    questions = random.integers(0, 15, 60)
    truth, said = random.integers(0, 2, 60), random.integers(0, 2, 60)
    said = np.where(random.random(60) < 0.7, truth, said)  # so that some questions are all right
    hits = np.sum(truth & said)
    precision, recall = hits / np.sum(said), hits / np.sum(truth)
    right = [np.array_equal(truth[questions == q], said[questions == q]) for q in set(questions)]
    words = np.array(["False", "True"])
    examples = [multirc_example(q, target) for q, target in zip(questions, words[truth])]
    scores = metrics.evaluate(of("multirc"), list(words[said]), examples)
    assert scores == pytest.approx(
        {"f1": 200 * precision * recall / (precision + recall), "exact_match": 100 * np.mean(right)}
    )


def test_an_answer_need_not_be_a_list() -> None:
    assert metrics.squad(["Red house"], ["the red house"]) == {"em": 100.0, "f1": 100.0}
    assert metrics.qa("x", {"targets_text": "y"}, ()) == (["y"], "x")


def test_texts_are_compared_as_they_are() -> None:
    scores = metrics.evaluate(of("dpr"), ["Tom", "tom", "Tom "], labelled("Tom", "Tom", "Tom"))
    assert scores == {"accuracy": pytest.approx(100 / 3)}


def overlap(target: list[Any], prediction: list[Any]) -> float:
    same = sum((collections.Counter(target) & collections.Counter(prediction)).values())
    return 2 * same / (len(target) + len(prediction)) if same else 0.0


def test_rouge_by_hand_and_by_definition() -> None:
    # T5 cuts at " . ", so that the longest common subsequence is found line by line: all four
    # words with the sentences the other way round, two of the four without the cut.
    values = metrics.rouge(["A b . c d . "], ["c d . a b . "])
    assert values["rouge1"] == values["rougeLsum"] == pytest.approx(100)
    assert metrics.rouge(["A b c d"], ["c d a b"])["rougeLsum"] == pytest.approx(50)
    assert metrics.rouge([""], [""]) == {"rouge1": 0.0, "rouge2": 0.0, "rougeLsum": 0.0}
    random = np.random.default_rng(0)
    targets, predictions = random_texts(random, 30, 12), random_texts(random, 30, 12)
    expected: dict[str, list[float]] = {"rouge1": [], "rouge2": []}
    for pair in zip(targets, predictions):
        words = [re.findall("[a-z0-9]+", text.lower()) for text in pair]
        expected["rouge1"].append(overlap(*words))
        expected["rouge2"].append(overlap(*(list(zip(each, each[1:])) for each in words)))
    values = metrics.rouge(targets, predictions)
    for name, found in expected.items():
        assert values[name] == pytest.approx(100 * np.mean(found))
    assert values == metrics.rouge(targets, predictions)


def test_bleu_by_hand() -> None:
    values = metrics.bleu(["the cat sat on a mat"], ["the cat sat on the mat"])
    assert values["bleu"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # One shorter word than the target: brevity costs exp(1 - 6 / 5).
    values = metrics.bleu(["the cat sat on a mat"], ["the cat sat on a"])
    assert values["bleu"] == pytest.approx(100 * np.exp(-0.2))
    assert metrics.bleu(["a b c d \u201d"], ["a b c d\u201d"])["bleu"] == pytest.approx(100)
    assert metrics.bleu(["A b c d"], ["a b c d"])["bleu"] < 100
    assert metrics.bleu(["a b c d"], [""])["bleu"] == 0.0


def test_generation_tasks_are_scored_as_wholes() -> None:
    examples = labelled("Da , a b c d .", "Nu .")
    scores = metrics.evaluate(of("wmt16_enro"), ["Da , a b c d .", "Nu ."], examples)
    assert scores == {"bleu": pytest.approx(100)}
    scores = metrics.evaluate(of("samsum"), ["Da , a b c d .", "Nu ."], examples)
    assert list(scores) == ["rouge1", "rouge2", "rougeLsum"]


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    code = "import sys, spjax.metrics; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"scipy", "sklearn", "nltk", "sacrebleu", "rouge_score", "tensorflow", "jax", "pandas"}
    assert not heavy & set(loaded)


def test_item_scores_of_classes_are_hits_whatever_the_metric() -> None:
    examples = labelled("entailment", "contradiction", "neutral")
    predictions = ["entailment", "neutral", "gibberish"]
    assert metrics.item_scores(task("cb"), predictions, examples) == [100, 0, 0]
    examples = [{"label": 1, "targets_text": "Ben"}, {"label": 0, "targets_text": "Ben"}]
    assert metrics.item_scores(task("wsc"), ["Ben", "Ben"], examples) == [100, 0]


def test_items_of_multirc_are_questions_and_of_record_queries() -> None:
    examples = [
        {"targets_text": text, "idx": {"question": question}}
        for question, text in ((0, "True"), (1, "True"), (0, "False"))
    ]
    predictions = ["True", "True", "True"]
    assert metrics.item_scores(task("multirc"), predictions, examples) == [50, 100]
    record = [
        {"answers": ["Ben", "Carl"], "targets_text": "Ben", "idx": {"passage": 0, "query": 0}}
    ]
    assert metrics.item_scores(task("record"), ["carl"], record) == [100]


@pytest.mark.parametrize("name", ["boolq", "copa", "rte", "sentiment", "wic", "record"])
def test_the_mean_over_items_is_the_score_where_the_metric_is_a_mean(name) -> None:
    info = task(name)
    examples = [
        {"targets_text": label, "answers": [label], "idx": {"passage": n, "query": n}}
        for n, label in enumerate((info.labels or ("Ben", "Carl")) * 3)
    ]
    predictions = [e["targets_text"] for e in examples[:4]] + ["x", "y"]
    items = metrics.item_scores(info, predictions, examples)
    values = metrics.evaluate(info, predictions, examples)
    assert np.mean(items) == pytest.approx(metrics.score(values, info.selection))


def test_summaries_have_no_item_scores() -> None:
    info = types.SimpleNamespace(metrics=("rouge",), postprocess="text", labels=(), rename=())
    assert metrics.item_scores(info, ["a"], labelled("a")) is None
