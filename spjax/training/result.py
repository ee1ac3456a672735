"""The result of a run: what is scored at its end, and `result.json`, which is written last."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from spjax import multihost, trees
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts import prompt_files, run_prompts
from spjax.data.tasks import file_task
from spjax.data.token_cache.cache import CachedSplit
from spjax.files import file_digest, write_json
from spjax.inference import scoring
from spjax.injection import Soft
from spjax.methods.base import Method
from spjax.models import quantization
from spjax.training import item_files
from spjax.training.member import Member
from spjax.types import Tree

Answer = Callable[[CachedSplit], list[str]]


def facts(member: Member, model: FrozenModel) -> dict[str, Any]:
    """Returns the fields of `result.json` that need no further scoring."""
    run, standing, method = member.run, member.standing, member.method
    source = member.data.mixture.trained[0].source
    outputs, variables = jax.eval_shape(
        method.without_initializer().init_with_output, jax.random.key(0), model.weights
    )
    trained = variables.get("params", {})
    stored = jax.eval_shape(method.without_initializer().collapse, trained, model.weights)
    embedding_VD = quantization.dequantize(model.weights["token_embedder"]["embedding"])
    return {
        "task": str(run.task),
        **({"task_file": source} if file_task.is_path(source) else {}),
        "model": run.model,
        "method": run.method_name,
        "prompt_length": method.length_in_tables,
        **prompt_facts(method, outputs[1], member.data.fields),
        "seed": run.seed,
        "model_parameters": trees.count(model.weights),
        "trainable_parameters": trees.count(trained),
        # Without arrays of its own a method keeps all it has trained, in the checkpoint.
        "stored_parameters": trees.count(stored) or trees.count(trained),
        "base_sha256": model.digest,
        "vocabulary_sha256": model.vocabulary.fingerprint,
        "directory": os.getcwd(),  # relative paths in config.gin count from there
        "code_sha256": standing.code,
        "steps": standing.step,
        "best_step": standing.best_step,
        "validation": standing.best,
        "test": None,
        "examples": member.data.counts(),
        "transfer": {},
        "majority": member.data.majority(),
        "ceiling": member.data.mixture.ceiling,
        "status": member.status,
        "message": member.message,
        "embedding_rms": float(jnp.sqrt(jnp.mean(embedding_VD**2))),
    }


def prompt_facts(method: Method, soft: Soft | None, fields: Sequence[str]) -> dict[str, Any]:
    """Returns the facts without which a stored prompt would be used in another way than trained.

    Args:
      method: of the prompt.
      soft: its arrays, or their shapes; None for a method without any.
      fields: names of the fields in the training texts, where the method has a template.
    """
    return {
        "insertion": method.insertion,
        **({"fields": " ".join(fields)} if fields else {}),
        **(soft.sees if soft else {}),
    }


def score(member: Member, answer: Answer, result: dict[str, Any]) -> None:
    """Scores what chose nothing, and the whole validation set where a part of it chose.

    Args:
      member: a run with a best step.
      answer: gives the texts of the best step for a split.
      result: gets the scores.
    """
    if member.status == "pruned":  # no table has it among its scores
        return
    if member.data.final == "test":
        result["test"] = _score_test(member, answer)
    if member.run.eval_examples:
        result["validation"] = member.data.score("validation", answer)
    result["transfer"] = member.data.transfer(answer)


def _score_test(member: Member, answer: Answer) -> dict[str, float]:
    """Scores the test sets; predictions and scores of their items go to a file of the run."""
    written: dict[str, list[str]] = {}

    def answer_once(split: CachedSplit) -> list[str]:
        written[split.task] = answer(split)
        return written[split.task]

    scores = member.data.score("test", answer_once)
    if multihost.is_primary():
        items = {
            info.name: scoring.item_scores(
                info, written[info.name], member.data.split(info, "test").examples
            )
            for info in member.data.mixture.scored
        }
        item_files.write(member.folder, {name: (written[name], items[name]) for name in items})
    return scores


def save_tensors(member: Member, model: FrozenModel, trainable: Tree, result: Any) -> None:
    """Writes `prompt.npy`, or `tuned.safetensors`, with their provenance.

    Args:
      member: the run.
      model: its frozen model.
      trainable: parameters of the best step.
      result: from `facts`.
    """
    tensors = member.method.without_initializer().collapse(trainable, model.weights)
    if not tensors or not multihost.is_primary():
        return
    host: Mapping[str, Any] = jax.device_get(tensors)
    config = _config_file(member.folder)
    text = config.read_text(encoding="utf-8") if config else ""
    tasks = [info.name for info in member.data.mixture.trained]
    facts = run_prompts.provenance(result, text, model.checkpoint)
    prompt_files.write_run(member.folder, host, facts, tasks)


def write(member: Member, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes `result.json` once all other files are on disk, and returns its content."""
    result["seconds"] = seconds
    if multihost.is_primary():
        if (log := member.folder / "metrics.jsonl").is_file():
            result["metrics_sha256"] = file_digest(log)
        if config := _config_file(member.folder):
            result["config_sha256"] = file_digest(config)
        return write_json(member.folder / "result.json", result)
    return result


def _config_file(folder: Path) -> Path | None:
    paths = (folder / name for name in (run_prompts.LONGER_CONFIG_FILE, run_prompts.CONFIG_FILE))
    return next(filter(Path.is_file, paths), None)
