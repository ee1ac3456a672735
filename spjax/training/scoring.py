"""Scores a finished run again, from its folder, or a stored prompt."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax

from spjax.data import cache, slots
from spjax.data.cache import CachedSplit
from spjax.data.tasks import registry
from spjax.data.tasks.info import TaskInfo
from spjax.training import evaluation, loop, run_data, run_files, untrained
from spjax.training import step as steps
from spjax.training.prediction import Predictor
from spjax.training.run import Run


def score_folder(run: Run, folder: Path, split: str) -> dict[str, Any]:
    """What was scored, metrics of a run's best step in percent, and `score`, their mean.

    Args:
      run: what the folder's `config.gin` says.
      folder: of a finished run; nothing is written to it.
      split: "train", "validation" or "test"; "" for the one that is reported.

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    member = loop.Member(run, folder)
    base = loop.base_of(run)
    if not run.method.trained:
        split = split or member.tasks.final
        answer = untrained.Untrained(run, member.tasks).answers(base)
        return {"split": split, "step": 0, **member.tasks.score(split, answer)}
    state = jax.eval_shape(lambda: steps.init_state([run], [member.method], base))
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = loop.placement_of(run).one_of(like, base)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    found = checkpoints.latest(like)
    if found is None or found[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(found[1].best_step, like)
    program, tasks = steps.program_of(run, member.method), member.tasks

    answer = functools.partial(
        evaluation.predict, program.config, member.method.started(), arrays["trainable"], base,
        tasks.words, tasks.layout, run.eval_batch_size, 0,
    )  # fmt: skip
    split = split or tasks.final
    scores = tasks.score(split, answer)
    return {"split": split, "step": found[1].best_step, **scores}


def score_prompt(
    predictor: Predictor,
    task: str,
    split: str,
    batch_size: int,
    target_length: int = 0,
    vocabulary: str = "",
) -> dict[str, Any]:
    """The split, metrics of a predictor's first prompt on it in percent, and `score`.

    Args:
      predictor: the model and its prompt.
      task: name of a task.
      split: "train", "validation" or "test"; "" for test, or validation if nobody knows the
        targets of the test split.
      batch_size: examples decoded at a time.
      target_length: most tokens of a target; 0 for the task's. Metrics read the whole text.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: an unknown task or split, or one whose targets are not known.
    """
    info, data = labelled(predictor, task, split, target_length, vocabulary)
    texts = []
    for start in range(0, data.num_examples, batch_size):
        end = min(start + batch_size, data.num_examples)
        inputs = [data.inputs[i] for i in range(start, end)]
        answers = predictor.answer(inputs, [0] * len(inputs), range(start, end))
        texts += [answer.text for answer in answers]
    return {"split": data.split, **run_data.score(info, texts, data.examples)}


def labelled(
    predictor: Predictor, task: str, split: str, target_length: int = 0, vocabulary: str = ""
) -> tuple[TaskInfo, CachedSplit]:
    """A task and a split of it that can be scored; arguments and errors as of `score_prompt`."""
    info = registry.get(task)
    split = split or run_data.transfer_split(info)
    if split in info.unlabelled:
        raise ValueError(
            f"the targets of {info.name}/{split} are not public, so it cannot be scored; choose "
            f"{' or '.join(info.labelled) or 'another task'}, or answer its texts with "
            "`spjax predict`."
        )
    lengths = {
        "inputs": predictor.input_length,
        "targets": target_length or info.target_length,
    }
    data = cache.load(info, split, lengths, vocabulary=vocabulary)
    if slots.is_template(template := predictor.prompts[0].insertion):
        data = slots.place(data, template, predictor.words)
    return info, data
