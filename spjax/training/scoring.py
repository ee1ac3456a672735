"""Scores a finished run again, from its folder, or a stored prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from spjax.data import cache
from spjax.data.tasks import registry
from spjax.training import evaluation, loop, run_files
from spjax.training import step as steps
from spjax.training.prediction import Predictor
from spjax.training.run import Run


def score_folder(run: Run, folder: Path, split: str) -> dict[str, Any]:
    """What was scored, metrics of a run's best step in percent, and `score`, their mean.

    Args:
      run: what the folder's `config.gin` says.
      folder: of a finished run; nothing is written to it.
      split: "train", "validation" or "test".

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    member = loop.Member(run, folder)
    base = loop.base_of(run)
    state = jax.eval_shape(lambda: steps.init_state([run], [member.method], base))
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = loop.placement_of(run).one_of(like, base)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    found = checkpoints.latest(like)
    if found is None or found[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(found[1].best_step, like)
    program = steps.program_of(run, member.method)
    data = member.splits[split]
    texts = evaluation.predict(
        program.config, program.method, arrays["trainable"], base, member.words, data,
        member.layout, run.eval_batch_size,
    )  # fmt: skip
    scores = evaluation.score(run.task, texts, data.examples)
    return {"split": split, "step": found[1].best_step, **scores}


def score_prompt(
    predictor: Predictor,
    task: str,
    split: str,
    batch_size: int,
    target_length: int = 0,
    vocabulary: str = "",
) -> dict[str, float]:
    """Metrics of a predictor's first prompt on a split, in percent, and `score`, their mean.

    Args:
      predictor: the model and its prompt.
      task: name of a task.
      split: "train", "validation" or "test".
      batch_size: examples decoded at a time.
      target_length: most tokens of a target; 0 for the task's. Metrics read the whole text.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: an unknown task or split.
    """
    lengths = {
        "inputs": predictor.input_length,
        "targets": target_length or registry.get(task).target_length,
    }
    data = cache.load(task, split, lengths, vocabulary=vocabulary)
    texts = []
    for start in range(0, data.num_examples, batch_size):
        end = min(start + batch_size, data.num_examples)
        inputs = [data.inputs[i] for i in range(start, end)]
        answers = predictor.answer(inputs, [0] * len(inputs), range(start, end))
        texts += [answer.text for answer in answers]
    return evaluation.score(task, texts, data.examples)
