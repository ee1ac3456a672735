"""Scores a finished run again, from its folder, or a stored prompt."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from spjax.data import cache, slots
from spjax.data.cache import CachedSplit, Task
from spjax.data.tasks import registry
from spjax.data.tasks.info import TaskInfo
from spjax.methods.base import Method, apply_gang
from spjax.training import evaluation, loop, run_data, run_files, untrained
from spjax.training import step as steps
from spjax.training.prediction import Predictor
from spjax.training.run import Run
from spjax.types import Tree


def score_folder(run: Run, folder: Path, split: str) -> dict[str, Any]:
    """What was scored, metrics of a run's best step in percent, and `score`, their mean.

    `examples` says how many rows that are, of all its tasks together.

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
        count = member.tasks.examples(split)
        scores = member.tasks.score(split, answer)
        return {"split": split, "examples": count, "step": 0, **scores}
    trainable, step = _best(run, member.method, folder, base)
    program, tasks = steps.program_of(run, member.method), member.tasks

    answer = functools.partial(
        evaluation.predict, program.config, member.method.started(), trainable, base,
        tasks.words, tasks.layout, run.eval_batch_size,
    )  # fmt: skip
    split = split or tasks.final
    scores = tasks.score(split, answer)
    return {"split": split, "examples": tasks.examples(split), "step": step, **scores}


def score_prompt(predictor: Predictor, task: Task, *how: Any, **more: Any) -> dict[str, Any]:
    """As `score_prompts`, of the first prompt, and without the task's name."""
    (found,) = score_prompts(predictor, [task], *how, **more)
    return {name: value for name, value in found.items() if name != "task"}


def score_prompts(
    predictor: Predictor,
    tasks: Sequence[Task],
    split: str,
    batch_size: int,
    target_length: int = 0,
    vocabulary: str = "",
) -> list[dict[str, Any]]:
    """Task, split, examples, metrics in percent and `score` of each prompt on a task of its own.

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
    asked = [(n, i) for n, (_, data) in enumerate(sets) for i in range(data.num_examples)]
    asked.sort(key=lambda pair: pair[1])  # in turns, so that batches hold all tasks
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        inputs = [sets[n][1].inputs[i] for n, i in part]
        answers = predictor.answer(inputs, [n for n, _ in part], [i for _, i in part])
        for (n, _), answer in zip(part, answers, strict=True):
            texts[n].append(answer.text)
    return [
        {
            "task": info.name,
            "split": data.split,
            "examples": data.num_examples,
            **run_data.score(info, own, data.examples),
        }
        for (info, data), own in zip(sets, texts)
    ]


def labelled(
    predictor: Predictor,
    task: Task,
    split: str,
    target_length: int = 0,
    vocabulary: str = "",
    who: int = 0,
) -> tuple[TaskInfo, CachedSplit]:
    """A task and a split of it that can be scored, with the inputs as one prompt reads them.

    Arguments and errors are those of `score_prompts`; `who` is the prompt.
    """
    info = registry.get(task)
    split = split or run_data.transfer_split(info)
    if split in info.unlabelled:
        raise ValueError(
            f"the targets of {info.name}/{split} are not public, so it cannot be scored; choose "
            f"{' or '.join(info.labelled) or 'another task'}, or answer its texts with "
            "`spjax predict`."
        )
    lengths = {
        "inputs": predictor.most(who)[0],
        "targets": target_length or info.target_length,
    }
    data = cache.load(info, split, lengths, vocabulary=vocabulary)
    if slots.is_template(template := predictor.prompts[who].insertion):
        data = slots.place(data, template, predictor.words)
    return info, data


def weights_of(run: Run, folder: Path, base: Tree) -> Tree:
    """The weights of a finished run that changes them, at its best step.

    Args:
      run: what the folder's `config.gin` says.
      folder: of the run.
      base: its frozen weights.

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    trainable, _ = _best(run, run.method, folder, base)
    weights, _ = jax.jit(apply_gang, static_argnums=0)(
        (run.method,), (jax.tree.map(lambda x: x[None], trainable),), base
    )
    return weights


def _best(run: Run, method: Method, folder: Path, base: Tree) -> tuple[Tree, int]:
    """Trainable parameters of a run's best step, and that step."""
    state = jax.eval_shape(lambda: steps.init_state([run], [method.started()], base))
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = loop.placement_of(run).one_of(like, base)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    found = checkpoints.latest(like)
    if found is None or found[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(found[1].best_step, like)
    return arrays["trainable"], found[1].best_step
