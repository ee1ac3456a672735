"""Metrics of texts that a model wrote, and of stored prompts on a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spjax import metrics
from spjax.data.batching import slots
from spjax.data.tasks import registry
from spjax.data.tasks.formats import Format
from spjax.data.tasks.info import TaskInfo
from spjax.data.token_cache import cache
from spjax.data.token_cache.cache import CachedSplit, Task
from spjax.inference.prediction import Predictor
from spjax.vocabularies.vocabulary import without_sentinel

Scores = dict[str, float]


def score(info: TaskInfo, texts: Sequence[str], examples: Sequence[dict[str, Any]]) -> Scores:
    """Returns a task's metrics in percent, and `score`, by which runs are compared.

    Args:
      info: the task.
      texts: what the model wrote.
      examples: raw fields of the examples that it was written for.
    """
    values = metrics.evaluate(info, _answers(info, texts), examples)
    return {**values, "score": metrics.score(values, info.selection)}


def item_scores(
    info: TaskInfo, texts: Sequence[str], examples: Sequence[dict[str, Any]]
) -> list[float] | None:
    """Returns the score of each item, as `metrics.item_scores`, of what `score` takes."""
    return metrics.item_scores(info, _answers(info, texts), examples)


def _answers(info: TaskInfo, texts: Sequence[str]) -> list[str]:
    return [without_sentinel(text) for text in texts] if info.sentinel else list(texts)


def without_blocks(
    info: TaskInfo, texts: Sequence[str], examples: Sequence[dict[str, Any]], blocks: int
) -> list[float]:
    """Returns the scores without each block of consecutive examples, for a jackknife.

    Examples of a group, such as the questions about a passage, stand together, so that most groups
    are left out in one piece.

    Args:
      info: the task.
      texts: what the model wrote.
      examples: raw fields of the examples.
      blocks: their number, at most that of the examples.
    """
    edges = np.linspace(0, len(texts), min(blocks, len(texts)) + 1).round().astype(int)
    return [
        score(info, [*texts[:start], *texts[end:]], [*examples[:start], *examples[end:]])["score"]
        for start, end in zip(edges, edges[1:])
    ]


def averaged(scores: Mapping[TaskInfo, Scores]) -> Scores:
    """Merges scores of several tasks, adding the mean of `score`; those of one stay as they are.

    Parts of one dataset (MNLI matched and mismatched) count as one task together, so that the mean
    is that of GLUE and SuperGLUE as T5 takes it (compute_avg_glue in its evaluation/eval_utils.py).
    """
    if len(scores) == 1:
        return next(iter(scores.values()))
    datasets: dict[Format, list[float]] = {}
    for info, values in scores.items():
        datasets.setdefault(info.format, []).append(values["score"])
    mean = float(np.mean([np.mean(parts) for parts in datasets.values()]))
    named = {f"{info.name}/{k}": v for info, values in scores.items() for k, v in values.items()}
    return {**named, "score": mean}


def score_prompt(predictor: Predictor, task: Task, *settings: Any, **more: Any) -> dict[str, Any]:
    """Scores one prompt, as `score_prompts` does several, without the task's name."""
    (scores,) = score_prompts(predictor, [task], *settings, **more)
    return {name: value for name, value in scores.items() if name != "task"}


def score_prompts(
    predictor: Predictor,
    tasks: Sequence[Task],
    split: str,
    batch_size: int,
    target_length: int = 0,
    vocabulary: str = "",
) -> list[dict[str, Any]]:
    """Scores prompts, each on a task of its own.

    Examples of all of them stand in the same batches.

    Args:
      predictor: the model and its prompts.
      tasks: for each prompt, as `registry.get` takes it.
      split: "train", "validation" or "test"; "" for test, or validation if nobody knows the
        targets of the test split.
      batch_size: examples decoded at a time.
      target_length: most tokens of a target; 0 for the task's. Metrics read the whole text.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: an unknown task or split, or one whose targets are not known.
    """
    sets = [
        labelled(predictor, task, split, target_length, vocabulary, n)
        for n, task in enumerate(tasks)
    ]
    texts: list[list[str]] = [[] for _ in sets]
    examples = [(n, i) for n, (_, data) in enumerate(sets) for i in range(data.num_examples)]
    examples.sort(key=lambda pair: pair[1])  # in turns, so that batches hold all tasks
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        inputs = [sets[n][1].inputs[i] for n, i in part]
        answers = predictor.answer(inputs, [n for n, _ in part], [i for _, i in part])
        for (n, _), answer in zip(part, answers, strict=True):
            texts[n].append(answer.text)
    return [
        {
            "task": info.name,
            "split": data.split,
            "examples": data.num_examples,
            **score(info, answers, data.examples),
        }
        for (info, data), answers in zip(sets, texts)
    ]


def labelled(
    predictor: Predictor,
    task: Task,
    split: str,
    target_length: int = 0,
    vocabulary: str = "",
    prompt_index: int = 0,
) -> tuple[TaskInfo, CachedSplit]:
    """Returns a task and a labeled split of it, with inputs as a prompt reads them.

    Arguments and errors are those of `score_prompts`; `prompt_index` is that of the prompt.
    """
    info = registry.get(task)
    split = split or info.reported_split
    if split in info.unlabelled:
        raise ValueError(
            f"the targets of {info.name}/{split} are not public, so it cannot be scored; choose "
            f"{' or '.join(info.labelled) or 'another task'}, or answer its texts with "
            "`spjax predict`."
        )
    lengths = {
        "inputs": predictor.max_lengths(prompt_index)[0],
        "targets": target_length or info.target_length,
    }
    data = cache.load(info, split, lengths, vocabulary=vocabulary)
    if slots.is_template(template := predictor.prompts[prompt_index].insertion):
        data = slots.insert_slots(data, template, predictor.vocabulary)
    return info, data
