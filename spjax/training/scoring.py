"""Scores a finished run again, from its folder."""

from __future__ import annotations

from pathlib import Path

import jax

from spjax.training import evaluation, loop, run_files
from spjax.training import step as steps
from spjax.training.run import Run


def score_folder(run: Run, folder: Path, split: str) -> dict[str, float]:
    """Metrics of a run's best step on a split, in percent, and `score`, their mean.

    Args:
      run: what the folder's `config.gin` says.
      folder: of a finished run; nothing is written to it.
      split: "train", "validation" or "test".

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    member = loop.Member(run, folder)
    base = loop.load_base(run.model, run.checkpoint)
    state = jax.eval_shape(lambda: steps.init_state([run], [member.method], base))
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), like)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    found = checkpoints.latest(like)
    if found is None or found[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(found[1].best_step, like)
    program = steps.program_of(run, member.method)
    data = member.splits[split]
    texts = evaluation.predict(
        program.config, program.method, arrays["trainable"], base, data, member.layout,
        run.eval_batch_size,
    )  # fmt: skip
    return evaluation.score(run.task, texts, data.examples)
