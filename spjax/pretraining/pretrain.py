"""Pre-training by T5's recipe: span corruption, then LM adaptation (prefix LM).

Over a corpus it goes on from a checkpoint or from random weights, with T5's own objectives, and
keeps the weights after chosen steps: Lester et al. 2021 adapt T5 1.1 for 100,000 steps, 10 % of its
pre-training, and compare with 10,000 and 50,000.

For the pocket ladder it is T5's recipe in miniature. The adaptation may be a larger share
(`adaptation_steps`); the weights after 0, 1, 5, 10, 50 and 100 % are kept beside the last ones.

Its first steps are lessons, documents of one simple kind alone, cut at the answer: attention to the
same word elsewhere and to its neighbors arises there in minutes, among all other documents hardly.

Its last steps put words in no order before the text. T5 has seen 512 positions and these rows have
64, so that without them a prompt of 100 would lie where no attention bias was ever trained.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from spjax import multihost, partitioning, trees
from spjax.checkpoints.weights import weights
from spjax.files import append_line, write_json
from spjax.models import T5
from spjax.models.losses import token_losses
from spjax.models.t5 import init_weights, weight_shapes
from spjax.pretraining import data
from spjax.pretraining.data import Batches, CorpusBatches, Documents, Shuffled
from spjax.pretraining.recipe import Pretrain
from spjax.training.checkpoint_steps import SyncedPath, restore_newest
from spjax.training.run_files import drop_after
from spjax.types import Batch, Tree

KEPT_PERCENT = (0, 1, 5, 10, 50, 100)  # of the generated worlds' models
Sums = TypeVar("Sums")


def make_batches(
    config: Pretrain, documents: Documents | Shuffled, lessons: Sequence[Documents] = ()
) -> Batches | CorpusBatches:
    """Returns the batches of a recipe, by the step and the number of their first text.

    Raises:
      ValueError: the corpus has more ids than the model.
    """
    rows = config.size().vocab_size
    if not isinstance(documents, Shuffled):
        return Batches(config, documents, lessons, rows)
    if documents.vocabulary_size > rows:
        raise ValueError(
            f"the corpus {config.corpus!r} has {documents.vocabulary_size} ids and the embedding "
            f"of {config.model} only {rows} rows. Choose a corpus with the model's vocabulary."
        )
    return CorpusBatches(config, documents)


def loss_and_accuracy(
    model: T5, params: Tree, batch: Batch, total: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Computes mean loss and accuracy over real target tokens.

    Args:
      model: what computes them.
      params: its weights.
      batch: rows.
      total: how many target tokens there are, where these rows are a part of a batch.
    """
    logits = model.apply({"params": params}, batch)
    real = (batch.target_segments_BM > 0).astype(jnp.float32)
    losses = token_losses(logits, batch.targets_BM, z_loss=1e-4)
    hits = (jnp.argmax(logits, -1) == batch.targets_BM).astype(jnp.float32)
    total = jnp.sum(real) if total is None else total
    return jnp.sum(losses * real) / total, jnp.sum(hits * real) / total


def make_step(config: Pretrain) -> Callable[..., Any]:
    """Returns the compiled training step: params, optimizer state, batch to the same and figures.

    They are the loss before the update, and the norm of the parameters after it.
    """
    model, optimizer, place = _network(config), config.optimizer(), config.placement()

    def step(params: Tree, state: Any, batch: Batch) -> tuple[Tree, Any, tuple[jax.Array, ...]]:
        grads, loss = _gradients(config, model, params, batch)
        updates, state = optimizer.update(grads, state, params)
        new = optax.apply_updates(params, updates), state
        if not place.is_single_device:
            # What goes out lies as what came in, so that one compilation serves all steps.
            new = jax.lax.with_sharding_constraint(new, _places(place, *new, sharding_only=True))
        return *new, (loss, optax.global_norm(new[0]))

    return jax.jit(step, donate_argnums=(0, 1))


def _network(config: Pretrain) -> T5:
    place = config.placement()
    return T5(config.size(), config.remat, None if place.is_single_device else place.constrain)


def _gradients(config: Pretrain, model: T5, params: Tree, batch: Batch) -> tuple[Tree, jax.Array]:
    """Gradient and loss, in one go or in microbatches that are added up."""

    def gradient(part: Batch, total: jax.Array | None = None) -> tuple[Tree, jax.Array]:
        loss_and_gradient = jax.value_and_grad(
            lambda p: loss_and_accuracy(model, p, part, total), has_aux=True
        )
        (loss, _), grads = loss_and_gradient(params)
        return grads, loss

    start = jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.float32)
    return _summed(config, batch, gradient, start)


def _summed(config: Pretrain, batch: Batch, compute: Callable[..., Sums], start: Sums) -> Sums:
    """Sums `compute(part, total)` over the microbatches of a batch."""
    count = config.microbatches
    if count == 1 or batch.inputs_BL.shape[0] % count:  # long rows are few
        return compute(batch)
    total = jnp.sum((batch.target_segments_BM > 0).astype(jnp.float32))

    def add(sums: Sums, part: Batch) -> tuple[Sums, None]:
        return jax.tree.map(jnp.add, sums, compute(part, total)), None

    # Every count-th row, not a run of them: rows that lie on a device are then spread over all
    # parts, and none moves to another device.
    parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), batch)
    return jax.lax.scan(add, start, parts)[0]


def _places(
    place: partitioning.Placement, params: Tree, state: Any, sharding_only: bool = False
) -> Any:
    """Shapes and shardings of parameters and optimizer slots; slots lie like their parameters."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), (params, state))
    placed = place.of_single_run(one, params)
    return jax.tree.map(lambda x: x.sharding, placed) if sharding_only else placed


def pretrain(
    config: Pretrain,
    documents: Documents | Shuffled,
    lessons: Sequence[Documents],
    held_out: Documents | Shuffled,
    folder: Path,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains a model, continuing an interrupted run in `folder`.

    Args:
      config: the recipe.
      documents: what to train on.
      lessons: documents of each lesson.
      held_out: other documents, for the reported losses.
      folder: gets `checkpoints/`, `log.jsonl`, `{model}.safetensors`, `{model}.json` (the card's
        figures), and what is kept on the way: `{model}-{step}.safetensors` after the steps of
        `keep`, of a generated world `{model}-lm{00,01,05,10,50,100}.safetensors` after that
        percentage of adaptation, counted in span-corruption steps as in the paper, as far as it
        goes. A corpus's are float32, and
        `corpus.json` says by which build of it they were made.
      log: gets a line now and then.

    Returns:
      The card's figures.

    Raises:
      FloatingPointError: the loss or the weights became NaN; the last checkpoint stays.
      ValueError: the checkpoint, the corpus and the model do not fit together, or the corpus is
        another than the one that the run was begun with.
    """
    batches = make_batches(config, documents, lessons)
    folder, leads = folder.absolute(), multihost.is_primary()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False, temporary_path_class=SyncedPath
    )
    manager = ocp.CheckpointManager(folder / "checkpoints", options=options)
    step, params, state, number = _start(config, manager)
    if step:
        log(f"{config.model}: continuing from step {step}")
    if isinstance(documents, Shuffled):
        corpus = documents.corpus.fingerprint
        data.check_same_corpus(config.corpus, corpus, folder, step)
    if leads:
        drop_after(folder / "log.jsonl", step)
    train_step, put = make_step(config), config.placement().put_batch
    clock, tokens, losses = time.monotonic(), 0, []
    while step < config.steps:
        _keep(config, step, params, folder)
        batch, number = batches(step, number)
        tokens += int((batch.input_segments_BL > 0).sum() + (batch.target_segments_BM > 0).sum())
        params, state, figures = train_step(params, state, put(batch))
        losses.append(figures)
        step += 1
        saves = step % config.checkpoint_period == 0
        # At checkpoints too, so that a run which goes on from one writes the same lines.
        reports = step % 100 == 0 or step == config.steps or step in config.keep or saves
        if reports or _kept(config, step):
            mean = _mean(config, losses, step)  # nothing is kept of what has become NaN
        if reports:
            seconds = time.monotonic() - clock
            line = {"step": step, "loss": round(mean, 4), "tokens": tokens}
            if leads:
                append_line(folder / "log.jsonl", json.dumps(line))
            left = (config.steps - step) * seconds / len(losses)
            log(
                f"{config.model} {step}/{config.steps} loss {mean:.3f} "
                f"{tokens / seconds:.0f} tokens/s, {left / 60:.1f} min left"
            )
            clock, tokens, losses = time.monotonic(), 0, []
        if saves:
            saved = {"params": params, "state": state, "number": number}
            manager.save(step, args=ocp.args.StandardSave(saved))
    manager.close()
    _keep(config, step, params, folder)
    card = {**dataclasses.asdict(config), "documents_seen": batches.documents_seen(number)}
    if isinstance(documents, Shuffled):
        card["corpus_fingerprint"] = corpus
    return _finish(config, params, held_out, folder, card)


def _start(config: Pretrain, manager: ocp.CheckpointManager) -> tuple[int, Tree, Any, int]:
    """Steps made, parameters, optimizer state, and the number of the next text."""
    size, place, optimizer = config.size(), config.placement(), config.optimizer()
    shapes = weight_shapes(size)
    slots = jax.eval_shape(optimizer.init, shapes)
    params, state = _places(place, shapes, slots)
    like = ocp.args.StandardRestore({"params": params, "state": state, "number": 0})
    newest = restore_newest(manager, lambda step: manager.restore(step, args=like))
    if newest is not None:
        step, saved = newest
        return step, saved["params"], saved["state"], int(saved["number"])
    if config.checkpoint:
        params = weights.load(config.model, config.checkpoint, "float32", place.weights(shapes))
    else:
        params = init_weights(size, jax.random.key(config.seed))
    where = _places(place, shapes, slots, sharding_only=True)
    params, state = jax.device_put((params, optimizer.init(params)), where)
    return 0, params, state, 0


def _mean(config: Pretrain, figures: Sequence[tuple[jax.Array, ...]], step: int) -> float:
    """Mean of the last losses, up to `step`; these and the norms must be finite."""
    values = np.asarray(jax.device_get(figures))
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise FloatingPointError(
            f"{('the loss', 'the norm of the weights')[column]} of {config.model} became "
            f"{values[row, column]} at step {step - len(figures) + row + 1}; lower learning_rate "
            f"({config.learning_rate}). The last checkpoint is kept."
        )
    return float(np.mean(values[:, 0]))


def _kept(config: Pretrain, step: int) -> list[str]:
    """Names of the weights to keep after a step."""
    names = [f"{config.model}-{step}"] if step in config.keep else []
    if not config.corpus:
        names += [
            f"{config.model}-lm{percent:02d}"
            for percent in KEPT_PERCENT
            if step == config.span_steps * (100 + percent) // 100
        ]
    return names


def _keep(config: Pretrain, step: int, params: Tree, folder: Path) -> None:
    for name in _kept(config, step):
        about = {"recipe": json.dumps(dataclasses.asdict(config)), "step": str(step)}
        _save(config, folder / f"{name}.safetensors", params, about)


def _save(config: Pretrain, path: Path, params: Tree, about: dict[str, str]) -> None:
    params = jax.tree.map(trees.to_host, params)  # every process has to send its part
    if multihost.is_primary():
        weights.save(path, params, about, "float32" if config.corpus else "bfloat16")


def _finish(
    config: Pretrain,
    params: Tree,
    held_out: Documents | Shuffled,
    folder: Path,
    card: dict[str, Any],
) -> dict[str, Any]:
    embedding = params["token_embedder"]["embedding"]
    card["embedding_rms"] = float(jnp.sqrt(jnp.mean(jnp.square(embedding))))
    # Before the evaluation, which may fail, and without its figures.
    about = {"recipe": json.dumps(card, indent=2, sort_keys=True)}
    _save(config, folder / f"{config.model}.safetensors", params, about)
    card |= held_out_losses(config, params, held_out)
    if multihost.is_primary():
        return write_json(folder / f"{config.model}.json", card)
    return card


def held_out_losses(
    config: Pretrain, params: Tree, held_out: Documents | Shuffled
) -> dict[str, float]:
    """Computes loss and accuracy per token on held-out documents, for each objective."""
    model = _network(config)
    result: dict[str, float] = {}

    @jax.jit
    def evaluate(params: Tree, batch: Batch) -> tuple[jax.Array, jax.Array]:
        figures = functools.partial(loss_and_accuracy, model, params)
        return _summed(config, batch, figures, (jnp.zeros(()), jnp.zeros(())))

    batches, put = make_batches(config, held_out), config.placement().put_batch
    stages: dict[str, list[int]] = {"span_corruption": [], "prefix_lm": [], "long_lm": []}
    for step in range(config.steps):
        stages[config.stage(step)].append(step)
    for name, steps in stages.items():
        if not steps:
            continue
        values, number = [], 0
        for step in steps[:4]:
            batch, number = batches(step, number)
            values.append(evaluate(params, put(batch)))
        loss, accuracy = np.mean(np.asarray(values), axis=0)
        result |= {f"{name}_loss": float(loss), f"{name}_accuracy": float(accuracy)}
    return result
