"""The training step of a gang: N runs that share one pass through a frozen model.

`train_step` reads top to bottom. Runs whose trainable trees have the same shapes are a group, and
its state has a leading axis of its runs. A prompt touches only its own examples, so the gradient of
the sum of all runs' losses with respect to one run's prompt is that run's own gradient. Loss and
optimizer are computed run by run.

A step is three compiled programs rather than one. The middle one goes through the frozen model and
takes soft tokens as an argument, so gangs of all methods and prompt lengths share its compilation.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from spjax import partitioning, trees
from spjax.injection import padded
from spjax.methods.base import Method, apply_gang, init_trainable
from spjax.models import T5, T5Config, fused
from spjax.models.losses import token_losses
from spjax.training import optimizers, waywardness
from spjax.training.losses import imitation_losses, run_losses
from spjax.training.optimizers import Optimizer
from spjax.training.run import Run
from spjax.training.step_stats import StepStats
from spjax.types import Array, Batch, Tree, per_segment


@flax.struct.dataclass
class TrainState:
    """Arrays of a group that training changes. Every leaf has a leading axis of its N runs.

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
class StepConfig:
    """Everything that the compiled step depends on.

    Attributes:
      model: configuration of the frozen model.
      methods: one for each group of the gang, without initializers.
      optimizer: its learning rate is not used, since rates are arguments.
      z_loss: as in `Run`.
      label_smoothing: as in `Run`.
      loss_normalizing_factor: as in `Run`.
      remat: as in `Run`.
      placement: sharding of weights, rows and state; None leaves them where they are.
      wayward: target that the prompts are pulled to.
    """

    model: T5Config
    methods: tuple[Method, ...] = ()
    optimizer: Optimizer | None = None
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    loss_normalizing_factor: float | str | None = None
    remat: bool = False
    placement: partitioning.Placement | None = None
    wayward: waywardness.Target | None = None

    @property
    def changes_weights(self) -> bool:
        """True if its one run has weights of its own."""
        return bool(self.methods) and self.methods[0].changes_weights

    @property
    def of_model(self) -> StepConfig:
        """Part that `add_gradients` depends on: the same for all soft tokens."""
        methods = self.methods if self.changes_weights else ()
        return dataclasses.replace(self, methods=methods, optimizer=None, wayward=None)

    @property
    def sharded_placement(self) -> partitioning.Placement | None:
        """The placement where the compiler has to be told of shardings; None on one device."""
        return None if self.placement is None or self.placement.is_single_device else self.placement


def step_config(
    run: Run,
    model: T5Config,
    methods: Sequence[Method],
    placement: partitioning.Placement | None = None,
) -> StepConfig:
    """Returns the configuration of the step of a run, or of a gang that shares its settings.

    Args:
      run: of the gang.
      model: configuration of its frozen model.
      methods: one for each group.
      placement: mesh and sharding rules.

    Raises:
      ValueError: the kind of attention cannot be used with this model and mesh.
    """
    fused.check(run.attention, model.num_heads, run.num_partitions)
    model = dataclasses.replace(model, dropout_rate=run.dropout_rate, attention=run.attention)
    return StepConfig(
        model=partitioning.for_devices(model),
        methods=tuple(method.without_initializer() for method in methods),
        optimizer=dataclasses.replace(run.optimizer, learning_rate=1.0),
        z_loss=run.z_loss,
        label_smoothing=run.label_smoothing,
        loss_normalizing_factor=run.loss_normalizing_factor,
        remat=run.remat,
        placement=placement,
        wayward=waywardness.target_of(run),
    )


def groups_of(methods: Sequence[Method]) -> list[list[int]]:
    """Groups runs whose methods are the same but for their initializers.

    Args:
      methods: of each run, resolved.

    Returns:
      Indices of the runs of each group.
    """
    groups: dict[Method, list[int]] = {}
    for i, method in enumerate(methods):
        groups.setdefault(method.without_initializer(), []).append(i)
    return list(groups.values())


def init_state(
    methods: Sequence[Method], seeds: Sequence[int], optimizer: Optimizer, base: Tree
) -> TrainState:
    """Returns the state of a group at step 0.

    Args:
      methods: of each run, resolved; their trees have the same shapes.
      seeds: of each run's initial values.
      optimizer: of all of them.
      base: the frozen weights.
    """
    trainables = [init_trainable(m, base, seed) for m, seed in zip(methods, seeds, strict=True)]
    trainable = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trainables)
    slots = jax.vmap(optimizer.make(0.0).init)(trainable)
    runs = len(trainables)
    return TrainState(trainable, slots, jnp.zeros(runs, jnp.int32), jnp.ones(runs, bool))


def train_step(
    config: StepConfig,
    states: tuple[TrainState, ...],
    base: Tree,
    chunks: Sequence[Batch],
    totals_N: Array,
    rates_N: Array,
    rng: Array,
    with_norms: bool = True,
) -> tuple[tuple[TrainState, ...], StepStats]:
    """Makes one step of every active run. Nothing waits for the device.

    Args:
      config: of the step.
      states: of each group, before the step; their arrays are donated.
      base: the frozen weights.
      chunks: rows of all runs, in parts that go through the model one after the other.
      totals_N: divisor of each run's loss, from `losses.total` of its whole batch.
      rates_N: learning rate of each run.
      rng: key of the gang; the numbers of the step and of the chunk are folded in here.
      with_norms: whether to compute `StepStats.gradient_norm_N`, which is NaN otherwise.

    Returns:
      The states after the step, and its figures. A run whose loss or parameters would no longer be
      finite keeps the state it had and is inactive from then on.
    """
    inputs, rng, grads, losses_N = begin_step(config, states, base, rng)
    for number, chunk in enumerate(chunks):
        key = jax.random.fold_in(rng, number) if config.model.dropout_rate else rng
        grads, losses_N = add_gradients(
            config.of_model, inputs, base, chunk, totals_N, key, grads, losses_N
        )
    norms_N: Array = np.full(len(losses_N), np.nan, np.float32)
    if with_norms:
        norms_N = gradient_norms(config, states, base, grads, losses_N)
    states, stats = apply_gradients(config, states, base, grads, losses_N, rates_N)
    return states, stats.replace(gradient_norm_N=norms_N)


@functools.partial(jax.jit, static_argnums=0)
def begin_step(
    config: StepConfig, states: tuple[TrainState, ...], base: Tree, rng: Array
) -> tuple[Any, Array, Any, jax.Array]:
    """Computes soft tokens from trainable parameters.

    Args:
      config: of the step.
      states: of each group.
      base: the frozen weights.
      rng: key of the gang.

    Returns:
      Model inputs from `model_inputs`, the key of this step, zero gradients of the float leaves of
      the inputs, and zero losses_N.
    """
    inputs = model_inputs(config, tuple(state.trainable for state in states), base)
    inputs = _constrain(config, inputs, base)
    grads = jax.tree.map(jnp.zeros_like, trees.split_floats(inputs)[0])
    runs = sum(len(state.step_N) for state in states)
    rng = jax.random.fold_in(rng, states[0].step_N[0])
    return inputs, rng, _constrain(config, grads, base), jnp.zeros(runs, jnp.float32)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(6, 7))
def add_gradients(
    config: StepConfig,
    inputs: Any,
    base: Tree,
    chunk: Batch,
    totals_N: Array,
    rng: Array,
    grads: Any,
    losses_N: Array,
) -> tuple[Any, jax.Array]:
    """Adds the gradients and losses of a chunk of rows to those of the chunks before.

    Args:
      config: `StepConfig.of_model`, so that gangs of different methods share a compilation.
      inputs: from `model_inputs`.
      base: the frozen weights; nothing is differentiated with respect to them.
      chunk: rows of all runs.
      totals_N: as in `train_step`.
      rng: dropout key of the chunk.
      grads: sum of gradients so far, of the float leaves of `inputs`; donated.
      losses_N: sum of losses so far; donated.
    """
    floats, others = trees.split_floats(inputs)

    def total_loss(floats: Any) -> tuple[jax.Array, jax.Array]:
        chunk_N = gang_losses(config, trees.merge(floats, others), base, chunk, totals_N, rng)
        return jnp.sum(chunk_N), chunk_N

    chunk_grads, chunk_N = jax.grad(total_loss, has_aux=True)(floats)
    grads = _constrain(config, jax.tree.map(jnp.add, grads, chunk_grads), base)
    return grads, losses_N + chunk_N


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def apply_gradients(
    config: StepConfig,
    states: tuple[TrainState, ...],
    base: Tree,
    grads: Any,
    losses_N: jax.Array,
    rates_N: Array,
) -> tuple[tuple[TrainState, ...], StepStats]:
    """Updates every active run from the gradients of its soft tokens or weights.

    Args:
      config: of the step.
      states: of each group, before the step; donated.
      base: the frozen weights.
      grads: from `add_gradients`, of all chunks.
      losses_N: likewise.
      rates_N: learning rate of each run.

    Returns:
      As `train_step`.
    """
    optimizer = config.optimizer
    assert optimizer is not None  # of `step_config`
    trainables = tuple(state.trainable for state in states)
    grads, losses_N = _parameter_gradients(config, trainables, base, grads, losses_N)

    def update(
        grad: Tree, state: TrainState, rate: Array, loss: Array
    ) -> tuple[TrainState, StepStats]:
        """Updates one run."""
        rate = optimizers.scheduled(optimizer, rate, state.step_N)
        updates, slots = optimizer.make(rate).update(grad, state.optimizer, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        updated = TrainState(trainable, slots, state.step_N + 1, state.active_N)
        active = state.active_N & jnp.isfinite(loss) & _all_finite(trainable)
        chosen = jax.tree.map(functools.partial(jnp.where, active), updated, state)
        return chosen.replace(active_N=active), StepStats(loss, rate, active)

    ends = np.cumsum([len(state.step_N) for state in states])[:-1]
    groups = zip(grads, states, jnp.split(rates_N, ends), jnp.split(losses_N, ends), strict=True)
    states, of_groups = zip(*(jax.vmap(update)(*group) for group in groups))
    stats = jax.tree.map(lambda *parts: jnp.concatenate(parts), *of_groups)
    placement = config.sharded_placement
    if placement is not None:  # as they came in, so that one compilation serves all steps
        states = jax.lax.with_sharding_constraint(states, placement.state(states, base))
        stats = jax.lax.with_sharding_constraint(stats, placement.replicated)
    return states, stats


@functools.partial(jax.jit, static_argnums=0)
def gradient_norms(
    config: StepConfig,
    states: tuple[TrainState, ...],
    base: Tree,
    grads: Any,
    losses_N: jax.Array,
) -> jax.Array:
    """Returns the 2-norm of each run's gradient: `[N]`, float32.

    A program of its own, since the compiler would round the update in another way if it had to give
    out the norms too.

    Args:
      config: of the step.
      states: of each group, before the step.
      base: the frozen weights.
      grads: as for `apply_gradients`.
      losses_N: likewise.
    """
    trainables = tuple(state.trainable for state in states)
    grads, _ = _parameter_gradients(config, trainables, base, grads, losses_N)
    norms_N = jnp.concatenate([jax.vmap(optax.global_norm)(group) for group in grads])
    placement = config.sharded_placement
    if placement is None:
        return norms_N
    return jax.lax.with_sharding_constraint(norms_N, placement.replicated)


def _parameter_gradients(
    config: StepConfig, trainables: Any, base: Tree, grads: Any, losses_N: jax.Array
) -> tuple[Any, jax.Array]:
    """Takes gradients from soft tokens back to what they are made of, and adds the penalties."""
    _, backward = jax.vjp(
        lambda trainables: trees.split_floats(model_inputs(config, trainables, base))[0], trainables
    )
    (grads,) = backward(grads)
    if config.wayward is not None:
        grads, losses_N = waywardness.add_penalties(config, trainables, base, grads, losses_N)
    return grads, losses_N


def model_inputs(config: StepConfig, trainables: Sequence[Tree], base: Tree) -> Any:
    """Returns what the model is given of the trainable parameters.

    Args:
      config: of the step.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.

    Returns:
      The trainable trees themselves where they change the weights; else the `Injection` of all
      runs, with a table so large that one compilation serves all usual prompt lengths.
    """
    if config.changes_weights:
        return trainables
    injection = apply_gang(config.methods, trainables, base)[1]
    return None if injection is None else padded(injection)


def gang_losses(
    config: StepConfig, inputs: Any, base: Tree, batch: Batch, totals_N: Array, rng: Array
) -> jax.Array:
    """Computes the loss of each run on its own examples.

    Args:
      config: of the step.
      inputs: from `model_inputs`.
      base: the frozen weights.
      batch: rows of all runs, or some of them.
      totals_N: as in `train_step`.
      rng: dropout key.

    Returns:
      losses_N, float32.
    """
    weights, injection = base, inputs
    if config.changes_weights:
        weights, injection = apply_gang(config.methods, inputs, base)
    placement = config.sharded_placement
    model = functools.partial(
        T5(config.model, config.remat, None if placement is None else placement.constrain).apply,
        {"params": weights},
        method=T5.with_hidden,
        rngs={"dropout": rng},
    )
    logits_BMV, hidden_BMD = model(batch, injection, config.model.dropout_rate > 0)
    losses_BM = token_losses(logits_BMV, batch.targets_BM, config.z_loss, config.label_smoothing)
    segments_BM = batch.target_segments_BM
    runs_BM = per_segment(batch.runs_BG, segments_BM)
    if injection is not None and injection.teacher_RD is not None:
        teacher = injection.replace(prompt_RD=injection.teacher_RD, teacher_RD=None)
        imitation_BM = imitation_losses((logits_BMV, hidden_BMD), model(batch, teacher))
        losses_BM = losses_BM + jnp.asarray(injection.distill_N)[runs_BM] * imitation_BM
    return run_losses(losses_BM, segments_BM, runs_BM, totals_N, config.loss_normalizing_factor)


def train_steps(
    config: StepConfig,
    states: tuple[TrainState, ...],
    base: Tree,
    batches: Sequence[tuple[Sequence[Mapping[str, Array]], Array]],
    rates_N: Array,
    rng: Array,
    steps_per_dispatch: int = 1,
    with_norms: Collection[int] = (),
) -> tuple[tuple[TrainState, ...], list[StepStats]]:
    """Moves batches to the devices and makes a step for each of them.

    Args:
      config: of the step.
      states: of each group, before the steps; their arrays are donated.
      base: the frozen weights.
      batches: for each step its chunks of rows, on the host, and totals_N.
      rates_N: learning rate of each run.
      rng: as in `train_step`.
      steps_per_dispatch: as many batches are sent to the device in one dispatch, if there are as
        many and their chunks have the same sizes; else one after another.
      with_norms: numbers of the steps, from 0, whose gradient norms are wanted; those of steps in
        one dispatch are always computed.

    Returns:
      The states after the steps, and the figures of these: one `StepStats` with a leading axis of
      steps, or one for each step.
    """
    sizes = {tuple(np.shape(chunk["inputs_BL"]) for chunk in chunks) for chunks, _ in batches}
    stacked = 1 < steps_per_dispatch == len(batches) and len(sizes) == 1
    stats = []
    for number, (chunks, totals) in enumerate([_stack(batches)] if stacked else batches):
        rows = [Batch(**chunk) for chunk in chunks]
        if config.placement is not None:
            rows = [config.placement.put_batch(chunk, stacked) for chunk in rows]
        arguments = (config, states, base, rows, totals, rates_N, rng)
        if stacked:
            states, of_step = _scan_steps(*arguments)
        else:
            states, of_step = train_step(*arguments, number in with_norms)
        stats.append(of_step)
    return states, stats


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _scan_steps(
    config: StepConfig,
    states: tuple[TrainState, ...],
    base: Tree,
    chunks_T: Sequence[Batch],
    totals_TN: Array,
    rates_N: Array,
    rng: Array,
) -> tuple[tuple[TrainState, ...], StepStats]:
    """`train_step` for batches with a leading axis of steps, as a loop on the device."""

    def step(states: Any, batch: tuple[Any, Array]) -> Any:
        return train_step(config, states, base, *batch, rates_N, rng)

    return jax.lax.scan(step, states, (chunks_T, totals_TN))


def _stack(batches: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)


def _constrain(config: StepConfig, inputs: Any, base: Tree) -> Any:
    """Constrains the sharding of `model_inputs`, or of their gradients."""
    placement = config.sharded_placement
    if placement is None:
        return inputs
    shardings = placement.state(inputs, base) if config.changes_weights else placement.replicated
    return jax.lax.with_sharding_constraint(inputs, shardings)


def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))
