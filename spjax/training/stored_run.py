"""A finished run read from its folder: its scores and its weights."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts import run_prompts
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.token_cache.cache import CachedSplit
from spjax.files import read_json
from spjax.inference import evaluation, prediction
from spjax.methods import PAPER_FULL
from spjax.methods.base import Method, apply_gang
from spjax.training import run_files, trainer, untrained
from spjax.training.run import Run
from spjax.training.run_data import RunData
from spjax.types import Tree

_log = logging.getLogger(__name__)


def score_folder(
    run: Run,
    folder: Path,
    split: str,
    num_partitions: int = 1,
    logical_axis_rules: Any = "data_parallel",
) -> dict[str, Any]:
    """Scores the best step of a finished run again, wherever it was trained.

    Args:
      run: the configuration in the folder's `config.gin`.
      folder: of a finished run; nothing is written to it.
      split: "train", "validation" or "test"; "" for the one that is reported.
      num_partitions: devices along the mesh axis `model`, here.
      logical_axis_rules: as in `Run`, here.

    Returns:
      `split`, `examples` (their number, of all tasks together), `step`, the metrics in percent and
      `score`, by which runs are compared.

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    run = dataclasses.replace(
        run,
        attention="xla",
        num_partitions=num_partitions,
        logical_axis_rules=logical_axis_rules,
    )
    data, model = RunData(run), run.open_model()
    for doubt in prediction.doubts(Prompt({}, provenance(run, folder), str(folder)), model):
        _log.warning("%s", doubt)
    split = split or data.final
    answer: Callable[[CachedSplit], list[str]]
    if run.method.trained:
        trainable, step = _best(run, data.method, folder, model)
        config = trainer.step_config(run, model.config, [data.method]).model
        answer = functools.partial(
            evaluation.predict,
            config,
            data.method.without_initializer(),
            trainable,
            model.weights,
            data.vocabulary,
            data.eval_layout,
            run.eval_batch_size,
            run.num_beams,
        )
    else:
        step, answer = 0, untrained.Untrained(run, data).answers(model.weights)
    scores = data.score(split, answer)
    return {"split": split, "examples": data.examples(split), "step": step, **scores}


def provenance(run: Run, folder: Path) -> dict[str, str]:
    """Returns the provenance of a run; that of full fine-tuning without frozen weights.

    Args:
      run: the configuration in the folder's `config.gin`.
      folder: of the run.
    """
    path = folder / run_prompts.RESULT_FILE
    result = read_json(path) if path.is_file() else {}
    facts = run_prompts.provenance(result, "", run.checkpoint)
    if run.method_name == PAPER_FULL:
        facts.pop("base_sha256", None)
    return facts


def weights_of(run: Run, folder: Path, model: FrozenModel) -> Tree:
    """Computes the weights of a finished run that changes them, at its best step.

    Args:
      run: the configuration in the folder's `config.gin`.
      folder: of the run.
      model: its frozen model.

    Raises:
      ValueError: the run has no checkpoint of its best step.
    """
    trainable, _ = _best(run, run.method, folder, model)
    weights, _ = jax.jit(apply_gang, static_argnums=0)(
        (run.method,), (jax.tree.map(lambda x: x[None], trainable),), model.weights
    )
    return weights


def _best(run: Run, method: Method, folder: Path, model: FrozenModel) -> tuple[Tree, int]:
    """Returns the trainable parameters of a run's best step, and that step."""
    state = jax.eval_shape(
        lambda: trainer.init_state(
            [method.without_initializer()], [run.seed], run.optimizer, model.weights
        )
    )
    like = {"trainable": state.trainable, "optimizer": state.optimizer}
    like = model.placement.of_single_run(like, model.weights)
    checkpoints = run_files.Checkpoints(folder, read_only=True)
    latest = checkpoints.latest(like)
    if latest is None or latest[1].best_step < 0:
        raise ValueError(f"{folder} has no checkpoint of a best step; train the run again.")
    arrays, _ = checkpoints.at(latest[1].best_step, like)
    return arrays["trainable"], latest[1].best_step
