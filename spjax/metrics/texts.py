"""Metrics of predicted texts: (targets, predictions) -> named values in percent."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Hashable, Sequence

import numpy as np

from spjax import extras

Scores = dict[str, float]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad(targets: Sequence[Sequence[str] | str], predictions: Sequence[str]) -> Scores:
    """Returns SQuAD's exact match and word F1, the best over each example's gold answers.

    Args:
      targets: the gold answers of each example, or a text that is the only one.
      predictions: a text for each example.
    """
    exact, f1 = [], []
    for answers, prediction in zip(targets, predictions):
        text = _normalize(prediction)
        golds = [
            _normalize(answer) for answer in ([answers] if isinstance(answers, str) else answers)
        ]
        exact.append(any(text == gold for gold in golds))
        f1.append(max(_word_f1(gold, text) for gold in golds))
    return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}


def squad_per_group(
    targets: Sequence[tuple[Hashable, Sequence[str]]], predictions: Sequence[str]
) -> Scores:
    """Returns `squad` over the first example of each group."""
    first: dict[Hashable, tuple[Sequence[str], str]] = {}
    for (group, answers), prediction in zip(targets, predictions):
        first.setdefault(group, (answers, prediction))
    answers_of, predicted = zip(*first.values())
    return squad(answers_of, predicted)


def words_in_place(targets: Sequence[str], predictions: Sequence[str]) -> Scores:
    """Returns the share of the targets' words that stand at the same place in the prediction."""
    pairs = [(target.split(), text.split()) for target, text in zip(targets, predictions)]
    right = sum(wanted == word for pair in pairs for wanted, word in zip(*pair))
    return {"words_in_place": 100 * right / sum(len(target) for target, _ in pairs)}


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> Scores:
    """Returns F1 of ROUGE-1, ROUGE-2 and ROUGE-Lsum of rouge-score, without stemming.

    As in T5, lines are sentences and " . " ends one. The values are means over examples, as of T5's
    `rouge_mean`; its older `rouge` takes the median of a thousand random resamplings, which
    differs in the second decimal from call to call.
    """
    rouge_scorer = extras.import_module("rouge_score.rouge_scorer", "tfds", "the metric 'rouge'")
    names = ("rouge1", "rouge2", "rougeLsum")
    scorer = rouge_scorer.RougeScorer(names)
    scores = [
        scorer.score(target=_sentences(target), prediction=_sentences(prediction))
        for target, prediction in zip(targets, predictions)
    ]
    return {name: 100 * float(np.mean([each[name].fmeasure for each in scores])) for name in names}


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> Scores:
    """Returns corpus BLEU of sacrebleu with T5's settings: `intl` tokenizer, cased."""
    sacrebleu = extras.import_module("sacrebleu", "tfds", "the metric 'bleu'")
    result = sacrebleu.corpus_bleu(
        list(predictions),
        [list(targets)],
        smooth_method="exp",
        force=False,
        lowercase=False,
        tokenize="intl",
        use_effective_order=False,
    )
    return {"bleu": float(result.score)}


def _sentences(text: str) -> str:
    return text.replace(" . ", " .\n")


def _normalize(text: str) -> str:
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _word_f1(gold: str, text: str) -> float:
    gold_words, predicted_words = gold.split(), text.split()
    common = sum((collections.Counter(gold_words) & collections.Counter(predicted_words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)
