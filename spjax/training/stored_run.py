"""A finished run read from its folder: its scores and its weights."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax

from spjax.inference import evaluation
from spjax.methods.base import Method, apply_gang
from spjax.training import loop, run_files, untrained
from spjax.training import step as steps
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
        evaluation.predict,
        program.config,
        member.method.without_initializer(),
        trainable,
        base,
        tasks.words,
        tasks.layout,
        run.eval_batch_size,
    )
    split = split or tasks.final
    scores = tasks.score(split, answer)
    return {"split": split, "examples": tasks.examples(split), "step": step, **scores}


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
    state = jax.eval_shape(lambda: steps.init_state([run], [method.without_initializer()], base))
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = loop.placement_of(run).one_of(like, base)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    found = checkpoints.latest(like)
    if found is None or found[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(found[1].best_step, like)
    return arrays["trainable"], found[1].best_step
