"""Answers to texts from stored prompts over a frozen model."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spjax.api.messages import python_messages, reword
from spjax.api.models import load_model
from spjax.api.stored_prompts import AnswerOptions, StoredPrompts
from spjax.api.tasks import Task, is_pairs, path_of_examples
from spjax.api.training import TrainedRun
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.tasks import file_task
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import TaskInfo
from spjax.inference import ensembles, scoring
from spjax.inference.prediction import Answer, Predictor
from spjax.models.decoding import Decoding

Text = str | Mapping[str, str]
Source = str | os.PathLike[str] | Prompt
_PAIR_FIELDS = ("labels", "metrics", "input_length", "target_length")


class TextPredictor:
    """A frozen model with one or more prompts, ready to answer texts.

    Attributes:
      names: of the prompts.
      stored: the prompts.
      options: how answers are chosen.
    """

    def __init__(
        self, stored: StoredPrompts, options: AnswerOptions, names: Sequence[str] = ()
    ) -> None:
        """Loads nothing; weights are read for the first answer."""
        self.stored, self.options = stored, options
        self.names = list(names) or stored.names

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The model and its prompts in terms of token ids."""
        return self.stored.predictor(self.options)

    @property
    def labels(self) -> tuple[str, ...]:
        """For decoding "rank", the labels of all prompts, in the order of `label_scores`."""
        return self.predictor.labels

    def predict(self, texts: Sequence[Text], prompt: Any = None) -> list[str]:
        """Answers texts, in their order.

        Args:
          texts: inputs as the task writes them; for a prompt with a template also mappings from
            field names to texts.
          prompt: name or position of the prompt, for all texts or one for each; may be left out
            where there is one prompt.

        Raises:
          ValueError: `texts` is no list of texts, or the prompt of a text is not known.
        """
        return [answer.text for answer in self.answer(texts, prompt)]

    def answer(self, texts: Sequence[Text], prompt: Any = None) -> list[Answer]:
        """Answers texts as `predict` does, with a score for each answer.

        The score is the log-probability of the label for decoding "rank", the score of the beam
        for "beam", and None for other decodings; `score` gives the log-probability of any text.
        """
        owners = self._owners(texts, prompt)
        answers: list[Answer] = []
        for part in self._parts(len(texts)):
            ids = self._encode(texts[part], owners[part])
            numbers = list(range(part.start, part.start + len(ids)))
            answers += self.predictor.answer(ids, owners[part], numbers)
        return answers

    def score(
        self, texts: Sequence[Text], answers: Sequence[str], prompt: Any = None
    ) -> np.ndarray:
        """Returns the log-probability of each answer as the whole output for its text, `[B]`.

        Raises:
          ValueError: there are not as many answers as texts, or as `predict`.
        """
        if isinstance(answers, str) or len(answers) != len(texts):
            raise ValueError(
                f"there are {len(texts)} texts and the answers are {answers!r}; give a list with "
                "one answer for each text."
            )
        owners = self._owners(texts, prompt)
        scores = [
            self.predictor.log_probabilities(
                self._encode(texts[part], owners[part]), owners[part], answers[part]
            )
            for part in self._parts(len(texts))
        ]
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def label_scores(self, texts: Sequence[Text], prompt: Any = None) -> np.ndarray:
        """Returns the log-probability of each of `labels` after each text, `[B, C]`.

        Raises:
          ValueError: decoding is not "rank", or as `predict`.
        """
        owners = self._owners(texts, prompt)
        scores = [
            self.predictor.label_scores(self._encode(texts[part], owners[part]), owners[part])
            for part in self._parts(len(texts))
        ]
        return np.concatenate(scores) if scores else np.zeros((0, len(self.labels)), np.float32)

    def evaluate(self, task: Any = None, split: str = "", ensemble: str = "") -> dict[str, Any]:
        """Scores the prompts on a task, as `spjax eval --prompt` does.

        Args:
          task: name of a task; path of a file, or rows in memory as `load_task` takes them, all of
            which are scored as the prompt's own task reads them; what `load_task` returns; a list
            of (input, target) pairs; or None for each prompt's own task.
          split: "train", "validation" or "test"; "" for the one that is reported.
          ensemble: "vote" or "mean" for what all prompts answer together.

        Returns:
          Task, split, number of examples, metrics in percent and `score`; of several prompts a
          list of these under `prompts`, and `mean_score`.

        Raises:
          ValueError: a task is not known or cannot be scored.
        """
        with python_messages():
            scored_task = self._task_of(task)
            return score_prompts(
                self.stored, self.options, self.names, scored_task, split, ensemble
            )

    def _task_of(self, task: Any) -> Any:
        """A task as `StoredPrompts.tasks` takes it."""
        if task is None:
            return ""
        if isinstance(task, Task):
            return task.source
        if isinstance(task, os.PathLike):
            return os.fspath(task)
        if isinstance(task, (str, FileTask, TaskInfo)):
            return task
        if not is_pairs(task):
            return path_of_examples(task, "task")  # rows, as the prompt's own task reads them
        trained = self.stored.trained_task()
        known = file_task.settings(trained) if trained else {}
        settings = {name: known[name] for name in _PAIR_FIELDS if name in known}
        if self.options.labels and not settings.get("labels"):
            settings |= {"labels": self.options.labels, "metrics": ()}
        return FileTask(test=path_of_examples(task, "task"), name="pairs", **settings)

    def _owners(self, texts: Sequence[Text], prompt: Any) -> list[int]:
        """The number of the prompt of each text."""
        if isinstance(texts, (str, Mapping)) or not isinstance(texts, Sequence):
            raise ValueError(f"texts is {texts!r}; give a list of texts, also for a single one.")
        if prompt is None:
            if len(self.names) > 1:
                raise ValueError(
                    f"there are {len(self.names)} prompts; say which one answers with prompt=, one "
                    f"of {', '.join(self.names)} or its position, for all texts or for each."
                )
            prompt = 0
        one_for_all = isinstance(prompt, (str, int))
        prompts = [prompt] * len(texts) if one_for_all else list(prompt)
        if len(prompts) != len(texts):
            raise ValueError(
                f"there are {len(texts)} texts and {len(prompts)} prompts for them; give one for "
                "each text, or one for all."
            )
        numbers = {**{i: i for i in range(len(self.names))}, **_positions(self.names)}
        if unknown := [name for name in prompts if name not in numbers]:
            raise ValueError(
                f"unknown prompt {unknown[0]!r}; the prompts are {', '.join(self.names)}, or their "
                f"positions from 0 to {len(self.names) - 1}."
            )
        return [numbers[name] for name in prompts]

    def _parts(self, count: int) -> list[slice]:
        """The texts of each batch."""
        size = self.options.batch_size
        return [slice(start, start + size) for start in range(0, count, size)]

    def _encode(self, texts: Sequence[Text], owners: Sequence[int]) -> list[list[int]]:
        pairs = zip(texts, owners, strict=True)
        return [self.predictor.encode(text, owner)[0] for text, owner in pairs]


def score_prompts(
    stored: StoredPrompts,
    options: AnswerOptions,
    names: Sequence[str],
    task: Any = "",
    split: str = "",
    ensemble: str = "",
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scores stored prompts on a split of a task, or each on its own.

    Args:
      stored: the prompts.
      options: how they answer.
      names: of the prompts, in the result.
      task: as `StoredPrompts.tasks` takes it.
      split: "" for the one that is reported.
      ensemble: "vote", "mean", or "" for none.
      columns: `template` and `target` of a file, in place of those of the prompts' tasks.

    Returns:
      As `TextPredictor.evaluate`.

    Raises:
      ValueError: a task is not known or cannot be scored.
    """
    if ensemble == "mean" and options.decoding.kind != "rank":
        raise ValueError(
            "--ensemble=mean averages the probabilities of labels; give --decoding=rank with it."
        )
    infos = stored.tasks(
        task, split=split, labels=options.labels, ensemble=ensemble, columns=columns or {}
    )
    predictor = stored.predictor(options, infos)
    vocabulary = str(predictor.vocabulary.path)
    arguments = (split, options.batch_size, options.target_length, vocabulary)
    if ensemble:
        scores = ensembles.score(predictor, ensemble, names, infos[0], *arguments)
        return {"task": infos[0].name, **scores}
    results = scoring.score_prompts(predictor, infos, *arguments)
    for scores, facts in zip(results, stored.provenance, strict=True):
        step = facts.get("step", "")
        scores |= {"step": int(step)} if step.isdecimal() else {}
    if len(results) == 1:
        return results[0]
    mean = sum(scores["score"] for scores in results) / len(results)
    named = [{"prompt": name, **scores} for name, scores in zip(names, results)]
    return {"prompts": named, "mean_score": mean}


def load_predictor(
    prompts: Source | Sequence[Source] | Mapping[str, Source],
    model: FrozenModel | str | None = None,
    *,
    decoding: str = "greedy",
    num_beams: int = 4,
    length_penalty: float = 0.6,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    labels: Sequence[str] = (),
    insertion: str = "",
    input_length: int = 0,
    target_length: int = 0,
    batch_size: int = 64,
) -> TextPredictor:
    """Loads prompts and the frozen model that they were trained with.

    Args:
      prompts: a run folder, a prompt file (npy, safetensors, T5X), a PEFT adapter, or a prompt in
        memory; several of them, as a list or by name, answer in the same batches.
      model: from `load_model`, or what it takes; None for the model that the prompts name.
      decoding: "greedy", "beam", "sample", or "rank", which chooses among labels.
      num_beams: for "beam".
      length_penalty: for "beam", T5X's alpha.
      temperature: for "sample".
      top_k: for "sample"; 0 for all tokens.
      seed: for "sample".
      labels: for "rank"; () for those of each prompt's task.
      insertion: "front", "after_first", "end" or a template; "" for where the prompt was trained.
      input_length: most tokens of an input, EOS included; 0 for that of each prompt's task.
      target_length: most tokens of an answer; likewise.
      batch_size: texts that are answered at once.

    Raises:
      ValueError: a prompt cannot be read, does not fit the model, or cannot answer beside others.
    """
    if isinstance(prompts, TrainedRun):
        prompts = prompts.folder
    if not isinstance(prompts, (str, os.PathLike, Prompt, Sequence, Mapping)):
        raise ValueError(f"prompts is {prompts!r}; give a path, a prompt, or several of them.")
    named = dict(prompts) if isinstance(prompts, Mapping) else {}
    is_one = isinstance(prompts, (str, os.PathLike, Prompt))
    sources = list(named.values()) or ([prompts] if is_one else list(prompts))  # type: ignore
    if not sources:
        raise ValueError("no prompt is given; give a path, or a list of paths.")
    if model is not None and not isinstance(model, FrozenModel):
        model = load_model(model)
    with python_messages():
        options = AnswerOptions(
            Decoding(decoding, num_beams, length_penalty, temperature, top_k, seed),
            (labels,) if isinstance(labels, str) else tuple(labels),
            insertion,
            input_length,
            target_length,
            batch_size,
        )
        folders = [x.folder if isinstance(x, TrainedRun) else x for x in sources]
        paths = [Path(x) if isinstance(x, os.PathLike) else x for x in folders]
        stored = StoredPrompts(paths, model=model, note=_warn)
        loaded = TextPredictor(stored, options, list(named))
        loaded.predictor  # noqa: B018  fails here, not at the first answer
    return loaded


def _warn(note: str) -> None:
    warnings.warn(reword(note), stacklevel=2)


def _positions(names: Sequence[str]) -> dict[Any, int]:
    return {name: i for i, name in enumerate(names)}
