"""Several prompts of one task, asked together over one model (Lester et al. 2021, section 6).

Each example stands in the batch once for every prompt, so an ensemble of N costs one model and a
batch N times as large. The paper votes and says nothing of ties; here the summed log-probability of
the answers decides them.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from spjax.data.token_cache.cache import Task
from spjax.inference import scoring
from spjax.inference.prediction import Predictor, TokenIds

KINDS = ("vote", "mean")


def vote(texts: Sequence[str], scores: Sequence[float]) -> str:
    """Returns the text that most prompts wrote.

    Args:
      texts: of each prompt.
      scores: log-probability of each; of texts with equally many votes the one with the greatest
        sum wins, and of equal sums the first.
    """
    counts = collections.Counter(texts)
    sums: dict[str, float] = dict.fromkeys(texts, 0.0)
    for text, score in zip(texts, scores, strict=True):
        sums[text] += score
    return max(sums, key=lambda text: (counts[text], sums[text]))


def mean(scores_NC: np.ndarray) -> int:
    """Returns the label with the highest probability, averaged over the prompts.

    Args:
      scores_NC: log-probability of each label under each prompt; a prompt's probabilities are
        those among the labels, which sum to 1.
    """
    finest_N1 = scores_NC.max(axis=1, keepdims=True)
    chances_NC = np.exp(scores_NC - finest_N1)
    return int((chances_NC / chances_NC.sum(axis=1, keepdims=True)).mean(axis=0).argmax())


def answer(
    predictor: Predictor,
    inputs: Sequence[Sequence[TokenIds]],
    numbers: Sequence[int],
    kind: str,
) -> tuple[list[list[str]], list[str]]:
    """Answers inputs under each prompt and as an ensemble.

    Args:
      predictor: a model and the prompts; for "mean" it ranks labels.
      inputs: of each prompt, token ids of each example as `Predictor.encode` gives them for it.
      numbers: of each example, from which sampling draws.
      kind: one of `KINDS`.

    Returns:
      The texts of each prompt, and those of the ensemble.

    Raises:
      ValueError: an unknown kind, or "mean" without labels to rank.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown ensemble {kind!r}; use one of {', '.join(KINDS)}.")
    count, total = len(predictor.prompts), len(numbers)
    prompt_indices = np.repeat(np.arange(count), total).tolist()
    flat_inputs = [ids for prompt_inputs in inputs for ids in prompt_inputs]
    if kind == "mean":
        scores_NBC = predictor.label_scores(flat_inputs, prompt_indices).reshape(count, total, -1)
        texts_of_prompts = [
            [predictor.text(row.argmax(), n) for row in rows] for n, rows in enumerate(scores_NBC)
        ]
        together = [mean(scores_NBC[:, i]) for i in range(total)]
        return texts_of_prompts, [predictor.text(label, 0) for label in together]
    answers = predictor.answer(flat_inputs, prompt_indices, [*numbers] * count)
    texts_of_prompts = [
        [item.text for item in answers[n * total : (n + 1) * total]] for n in range(count)
    ]
    columns = [list(texts) for texts in zip(*texts_of_prompts)]
    scores = _scores_of_ties(predictor, inputs, columns)
    return texts_of_prompts, [vote(texts, scores[i]) for i, texts in enumerate(columns)]


def _scores_of_ties(
    predictor: Predictor,
    inputs: Sequence[Sequence[TokenIds]],
    columns: Sequence[Sequence[str]],
) -> list[Sequence[float]]:
    """Log-probabilities of the answers where votes are equal, zeros elsewhere."""
    count = len(predictor.prompts)
    scores: list[Sequence[float]] = [(0.0,) * count] * len(columns)
    tied = [i for i, texts in enumerate(columns) if _is_tied(texts)]
    if tied:
        tied_inputs = [prompt_inputs[i] for i in tied for prompt_inputs in inputs]
        texts = [text for i in tied for text in columns[i]]
        scores_of_texts = predictor.log_probabilities(
            tied_inputs, [*range(count)] * len(tied), texts
        )
        for i, row in zip(tied, scores_of_texts.reshape(len(tied), count).tolist()):
            scores[i] = row
    return scores


def _is_tied(texts: Sequence[str]) -> bool:
    votes = [count for _, count in collections.Counter(texts).most_common(2)]
    return len(votes) > 1 and votes[0] == votes[1]


def score(
    predictor: Predictor,
    kind: str,
    names: Sequence[str],
    task: Task,
    split: str,
    batch_size: int,
    target_length: int = 0,
    vocabulary: str = "",
    blocks: int = 0,
) -> dict[str, Any]:
    """Scores an ensemble and each of its prompts, in percent.

    Args:
      predictor: the model and its prompts.
      kind: one of `KINDS`.
      names: of the prompts.
      task: as of `scoring.score_prompt`, and so the following.
      split: name of the split.
      batch_size: rows answered at a time, each example having one for every prompt.
      target_length: most tokens of a target.
      vocabulary: name or path of another vocabulary.
      blocks: of consecutive examples, at most; the result has the scores without each of them
        under "left_out".

    Raises:
      ValueError: as `answer` and `scoring.score_prompt`.
    """
    labelled_splits = [
        scoring.labelled(predictor, task, split, target_length, vocabulary, n)
        for n in range(len(names))
    ]
    info, data = labelled_splits[0]
    texts_of_prompts: list[list[str]] = [[] for _ in predictor.prompts]
    together: list[str] = []
    stride = max(1, batch_size // len(texts_of_prompts))
    for start in range(0, data.num_examples, stride):
        numbers = range(start, min(start + stride, data.num_examples))
        inputs = [[split.inputs[i] for i in numbers] for _, split in labelled_splits]
        parts, texts = answer(predictor, inputs, numbers, kind)
        for all_texts, part in zip(texts_of_prompts, parts):
            all_texts += part
        together += texts
    alone = [scoring.score(info, texts, data.examples) for texts in texts_of_prompts]
    scores = [values["score"] for values in alone]
    result = {
        "split": data.split,
        "examples": data.num_examples,
        "prompts": [{"prompt": name, **values} for name, values in zip(names, alone, strict=True)],
        "mean_score": float(np.mean(scores)),
        "best_score": max(scores),
        "ensemble": {"kind": kind, **scoring.score(info, together, data.examples)},
    }
    if blocks > 1:
        each = [
            scoring.without_blocks(info, texts, data.examples, blocks)
            for texts in (together, *texts_of_prompts)
        ]
        result["left_out"] = {"ensemble": each[0], "prompts": each[1:]}
    return result
