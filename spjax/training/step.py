"""Train state and training step of a gang: N runs over one frozen model.

Runs whose trainable trees have the same shapes are a group, and its state has a leading axis of
its runs. A prompt touches only its own examples, so the gradient of the sum of all runs' losses
with respect to one run's prompt is that run's own gradient; loss and optimizer are computed run by
run.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from spjax.checkpoints import weights as frozen
from spjax.methods.base import Method, apply_gang, init_trainable
from spjax.models import T5, T5Config
from spjax.training import waywardness
from spjax.training.losses import run_losses, run_totals, token_losses
from spjax.training.mesh import Placement
from spjax.training.optimizers import Optimizer
from spjax.training.run import Run
from spjax.types import Array, Batch, Tree, microbatches, per_segment


@flax.struct.dataclass
class TrainState:
    """What training changes in a group. Every leaf has a leading axis of its N runs.

    Attributes:
      trainable: parameters of the method, float32.
      optimizer: optimizer slots.
      step_N: updates made.
      active_N: False once a run has stopped; its parameters then stay as they are.
    """

    trainable: Any
    optimizer: Any
    step_N: Array
    active_N: Array


@dataclasses.dataclass(frozen=True)
class Program:
    """What the compiled step depends on; runs that share it share a gang and its compilation.

    Attributes:
      config: of the frozen model.
      methods: resolved, one for each group of the gang.
      optimizer: with learning rate 0, since rates are arguments.
      z_loss: as in `Run`.
      label_smoothing: as in `Run`.
      loss_normalizing_factor: as in `Run`.
      microbatches: as in `Run`.
      remat: as in `Run`.
      placement: where weights, rows and state lie; None for wherever they are.
      wayward: what the prompts are pulled to.
    """

    config: T5Config
    methods: tuple[Method, ...]
    optimizer: Optimizer
    z_loss: float
    label_smoothing: float
    loss_normalizing_factor: float | str | None
    microbatches: int = 1
    remat: bool = False
    placement: Placement | None = None
    wayward: waywardness.Target | None = None


def program_of(run: Run, method: Method, placement: Placement | None = None) -> Program:
    """The program of a run whose method has been resolved, on a mesh."""
    config = frozen.config_of(run.model, run.checkpoint)
    config = dataclasses.replace(config, dropout_rate=run.dropout_rate)
    optimizer = dataclasses.replace(run.optimizer, learning_rate=0.0)
    loss = (run.z_loss, run.label_smoothing, run.loss_normalizing_factor)
    how = (run.microbatches, run.remat, placement)
    wayward = waywardness.target_of(run)
    return Program(config, (method.started(),), optimizer, *loss, *how, wayward)


def groups_of(methods: Sequence[Method]) -> list[list[int]]:
    """Which runs of a gang have the same method but for its initial values, by their numbers."""
    found: dict[Method, list[int]] = {}
    for i, method in enumerate(methods):
        found.setdefault(method.started(), []).append(i)
    return list(found.values())


def init_state(runs: Sequence[Run], resolved: Sequence[Method], base: Tree) -> TrainState:
    """The state of a group at step 0.

    Args:
      runs: of the group.
      resolved: the method of each.
      base: the frozen weights.
    """
    own = [init_trainable(m, base, r.seed) for r, m in zip(runs, resolved, strict=True)]
    trainable = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    slots = jax.vmap(runs[0].optimizer.make(0.0).init)(trainable)
    steps_N = jnp.zeros(len(runs), jnp.int32)
    return TrainState(trainable, slots, steps_N, jnp.ones(len(runs), bool))


def gang_losses(
    program: Program,
    trainables: Sequence[Tree],
    base: Tree,
    batch: Batch,
    rng: Array,
    totals_N: Array | None = None,
) -> jax.Array:
    """Loss of each run on its own examples.

    Args:
      program: what is computed.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.
      batch: rows of all runs.
      rng: dropout key.
      totals_N: as in `run_losses`.

    Returns:
      losses_N, float32.
    """
    weights, injection = apply_gang(program.methods, trainables, base)
    use_dropout = program.config.dropout_rate > 0
    place = program.placement
    spread = None if place is None or place.alone else place.constrain
    logits_BMV = T5(program.config, program.remat, spread).apply(
        {"params": weights}, batch, injection, use_dropout, rngs={"dropout": rng}
    )
    losses_BM = token_losses(
        logits_BMV, batch.targets_BM, program.z_loss, program.label_smoothing
    )
    losses_N = run_losses(
        losses_BM, *_segments_runs(batch), _count(trainables), program.loss_normalizing_factor,
        totals_N,
    )  # fmt: skip
    if program.wayward is None:
        return losses_N
    groups = zip(program.methods, trainables)
    lengths = [method.prompt_length for method, own in groups for _ in range(_count([own]))]
    pull_N = waywardness.penalties(program.wayward, lengths, injection, base)
    return losses_N + pull_N / program.microbatches  # whose losses are added up


def _count(trainables: Sequence[Tree]) -> int:
    return sum(jax.tree.leaves(trainable)[0].shape[0] for trainable in trainables)


def _segments_runs(batch: Batch) -> tuple[Array, Array]:
    return batch.target_segments_BM, per_segment(batch.runs_BG, batch.target_segments_BM)


def gradients(
    program: Program, trainables: Sequence[Tree], base: Tree, batch: Batch, rng: Array
) -> tuple[Sequence[Tree], jax.Array]:
    """Gradient of the sum of all runs' losses, and losses_N, in one go or in microbatches.

    Losses are normalised by totals of the whole batch, so that without dropout (whose masks are
    drawn for each microbatch) any number of microbatches gives the same gradient.

    Args:
      program: what is computed.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.
      batch: rows of all runs; their number is a multiple of `program.microbatches`.
      rng: dropout key.
    """

    def total(
        trainables: Sequence[Tree], part: Batch, rng: Array, totals_N: Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        losses_N = gang_losses(program, trainables, base, part, rng, totals_N)
        return jnp.sum(losses_N), losses_N

    gradient = jax.grad(total, has_aux=True)
    if program.microbatches == 1:
        return gradient(trainables, batch, rng)
    count, runs = program.microbatches, _count(trainables)
    totals_N = run_totals(*_segments_runs(batch), runs, program.loss_normalizing_factor)

    def add(sums: Any, item: tuple[Batch, Array]) -> tuple[Any, None]:
        part, number = item
        found = gradient(trainables, part, jax.random.fold_in(rng, number), totals_N)
        return jax.tree.map(jnp.add, sums, found), None

    parts = microbatches(batch, count)
    start = (jax.tree.map(jnp.zeros_like, trainables), jnp.zeros(runs, jnp.float32))
    return jax.lax.scan(add, start, (parts, jnp.arange(count, dtype=jnp.int32)))[0]


def update(
    program: Program,
    states: tuple[TrainState, ...],
    base: Tree,
    batch: Batch,
    rates_N: Array,
    rng: Array,
) -> tuple[tuple[TrainState, ...], jax.Array]:
    """One step of every active run.

    Args:
      program: what is computed.
      states: of each group, before the step.
      base: the frozen weights; nothing is differentiated with respect to them.
      batch: rows of all runs.
      rates_N: learning rate of each run.
      rng: key of the gang; the step number is folded in here.

    Returns:
      The states after the step, and losses_N before it. A run whose loss or parameters would no
      longer be finite keeps the state it had and is inactive from then on.
    """
    rng = jax.random.fold_in(rng, states[0].step_N[0])
    trainables = tuple(state.trainable for state in states)
    grads, losses_N = gradients(program, trainables, base, batch, rng)

    def advance(grad: Tree, own: TrainState, rate: Array, loss: Array) -> TrainState:
        if warmup := program.optimizer.warmup_steps:
            rate = rate * jnp.minimum(1.0, own.step_N.astype(jnp.float32) / warmup)
        updates, slots = program.optimizer.make(rate).update(grad, own.optimizer, own.trainable)
        moved = optax.apply_updates(own.trainable, updates)
        sound = jnp.isfinite(loss) & _all_finite(moved)
        new = TrainState(moved, slots, own.step_N + 1, own.active_N)
        go = own.active_N & sound
        return jax.tree.map(functools.partial(jnp.where, go), new, own).replace(active_N=go)

    ends = np.cumsum([len(state.step_N) for state in states])[:-1]
    own = zip(grads, states, jnp.split(rates_N, ends), jnp.split(losses_N, ends))
    new = tuple(jax.vmap(advance)(*group) for group in own)
    if (place := program.placement) is not None and not place.alone:
        # What goes out lies as what came in, so that one compilation serves all steps.
        new = jax.lax.with_sharding_constraint(new, place.state(new, base))
        losses_N = jax.lax.with_sharding_constraint(losses_N, place.everywhere)
    return new, losses_N


def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


@functools.lru_cache(maxsize=8)
def compiled_update(program: Program) -> Callable[..., tuple[tuple[TrainState, ...], jax.Array]]:
    """`update` as one `jax.jit` program whose states are donated."""
    return jax.jit(functools.partial(update, program), donate_argnums=(0,))
