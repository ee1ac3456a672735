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

from spjax import partitioning
from spjax.checkpoints.weights import weights as frozen
from spjax.injection import padded
from spjax.methods.base import Method, apply_gang, init_trainable
from spjax.models import T5, T5Config, fused
from spjax.models.losses import token_losses
from spjax.training import waywardness
from spjax.training.losses import imitation_losses, run_losses
from spjax.training.optimizers import Optimizer
from spjax.training.run import Run
from spjax.types import Array, Batch, Tree, per_segment


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
      remat: as in `Run`.
      placement: where weights, rows and state lie; None for wherever they are.
      wayward: what the prompts are pulled to.
    """

    config: T5Config
    methods: tuple[Method, ...]
    optimizer: Optimizer | None
    z_loss: float
    label_smoothing: float
    loss_normalizing_factor: float | str | None
    remat: bool = False
    placement: partitioning.Placement | None = None
    wayward: waywardness.Target | None = None

    @property
    def changes_weights(self) -> bool:
        """Whether its one run has weights of its own."""
        return bool(self.methods) and self.methods[0].changes_weights

    @property
    def of_the_model(self) -> Program:
        """What going through the model depends on.

        Methods that leave the weights alone differ in their soft tokens only, which are arguments:
        all of them, and all prompt lengths, share one compilation.
        """
        methods = self.methods if self.changes_weights else ()
        return dataclasses.replace(self, methods=methods, optimizer=None, wayward=None)


def program_of(
    run: Run, method: Method, placement: partitioning.Placement | None = None
) -> Program:
    """The program of a run whose method has been resolved, on a mesh."""
    config = frozen.config_of(run.model, run.checkpoint)
    fused.check(run.attention, config.num_heads, run.num_partitions)
    own = {"dropout_rate": run.dropout_rate, "attention": run.attention}
    config = partitioning.for_devices(dataclasses.replace(config, **own))
    optimizer = dataclasses.replace(run.optimizer, learning_rate=1.0)  # each run has its own
    loss = (run.z_loss, run.label_smoothing, run.loss_normalizing_factor)
    how = (run.remat, placement, waywardness.target_of(run))
    return Program(config, (method.without_initializer(),), optimizer, *loss, *how)


def groups_of(methods: Sequence[Method]) -> list[list[int]]:
    """Which runs of a gang have the same method but for its initial values, by their numbers."""
    found: dict[Method, list[int]] = {}
    for i, method in enumerate(methods):
        found.setdefault(method.without_initializer(), []).append(i)
    return list(found.values())


def init_state(runs: Sequence[Run], resolved: Sequence[Method], base: Tree) -> TrainState:
    """The state of a group at step 0.

    Args:
      runs: of the group.
      resolved: the method of each.
      base: the frozen weights.
    """
    return init_group(resolved, [run.seed for run in runs], runs[0].optimizer, base)


def init_group(
    methods: Sequence[Method], seeds: Sequence[int], optimizer: Optimizer, base: Tree
) -> TrainState:
    """The state at step 0 of runs whose methods, resolved, have trees of the same shapes."""
    own = [init_trainable(m, base, seed) for m, seed in zip(methods, seeds, strict=True)]
    trainable = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    slots = jax.vmap(optimizer.make(0.0).init)(trainable)
    steps_N = jnp.zeros(len(own), jnp.int32)
    return TrainState(trainable, slots, steps_N, jnp.ones(len(own), bool))


def soft_tokens(program: Program, trainables: Sequence[Tree], base: Tree) -> Any:
    """What the model is given of the trainable parameters, and gradients are taken of.

    Args:
      program: what is computed.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.

    Returns:
      The trainable trees themselves where they change the weights; else the `Injection` of all
      runs, with a table so large that the model's program serves all usual prompt lengths.
    """
    if program.changes_weights:
        return trainables
    injection = apply_gang(program.methods, trainables, base)[1]
    return None if injection is None else padded(injection)


def _floats(own: Any) -> tuple[list[jax.Array], Callable[[Sequence[jax.Array]], Any]]:
    """The leaves that have gradients, and how to put others in their places."""
    leaves, tree = jax.tree.flatten(own)
    real = [i for i, x in enumerate(leaves) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]

    def rebuild(values: Sequence[jax.Array]) -> Any:
        replaced = dict(zip(real, values, strict=True))
        return tree.unflatten([replaced.get(i, x) for i, x in enumerate(leaves)])

    return [leaves[i] for i in real], rebuild


def _laid(program: Program, own: Any, base: Tree) -> Any:
    """What `soft_tokens` gave, or its gradients, where they lie on the mesh."""
    if (place := program.placement) is None or place.alone:
        return own
    where = place.state(own, base) if program.changes_weights else place.everywhere
    return jax.lax.with_sharding_constraint(own, where)


def gang_losses(
    program: Program, own: Any, base: Tree, batch: Batch, totals_N: Array, rng: Array
) -> jax.Array:
    """Loss of each run on its own examples.

    Args:
      program: what is computed.
      own: from `soft_tokens`.
      base: the frozen weights.
      batch: rows of all runs, or some of them.
      totals_N: what each run's loss is divided by, of all its rows; see `losses.total`.
      rng: dropout key.

    Returns:
      losses_N, float32.
    """
    weights, injection = base, own
    if program.changes_weights:
        weights, injection = apply_gang(program.methods, own, base)
    use_dropout = program.config.dropout_rate > 0
    place = program.placement
    spread = None if place is None or place.alone else place.constrain
    model = functools.partial(
        T5(program.config, program.remat, spread).apply,
        {"params": weights},
        method=T5.with_hidden,
        rngs={"dropout": rng},
    )
    found = model(batch, injection, use_dropout)
    losses_BM = token_losses(found[0], batch.targets_BM, program.z_loss, program.label_smoothing)
    segments_BM = batch.target_segments_BM
    runs_BM = per_segment(batch.runs_BG, segments_BM)
    if injection is not None and injection.teacher_RD is not None:
        teacher = injection.replace(prompt_RD=injection.teacher_RD, teacher_RD=None)
        imitation_BM = imitation_losses(found, model(batch, teacher))
        losses_BM = losses_BM + jnp.asarray(injection.distill_N)[runs_BM] * imitation_BM
    return run_losses(losses_BM, segments_BM, runs_BM, totals_N, program.loss_normalizing_factor)


def add_gradients(
    program: Program,
    own: Any,
    base: Tree,
    chunk: Batch,
    totals_N: Array,
    rng: Array,
    sums: tuple[list[jax.Array], jax.Array],
) -> tuple[list[jax.Array], jax.Array]:
    """Adds what a chunk of rows gives to the gradients and losses of a batch.

    Args:
      program: what is computed.
      own: from `soft_tokens`.
      base: the frozen weights; nothing is differentiated with respect to them.
      chunk: rows of all runs.
      totals_N: as in `gang_losses`, of the whole batch.
      rng: dropout key of the chunk.
      sums: gradients of the sum of all runs' losses with respect to the float leaves of `own`,
        and losses_N, of the chunks before.
    """
    values, rebuild = _floats(own)

    def total(values: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        losses_N = gang_losses(program, rebuild(values), base, chunk, totals_N, rng)
        return jnp.sum(losses_N), losses_N

    grads, losses_N = jax.grad(total, has_aux=True)(values)
    grads = _floats(_laid(program, rebuild(jax.tree.map(jnp.add, sums[0], grads)), base))[0]
    return grads, sums[1] + losses_N


def start(
    program: Program, states: tuple[TrainState, ...], base: Tree, rng: Array
) -> tuple[Any, Array, tuple[list[jax.Array], jax.Array]]:
    """What goes through the model at this step, its dropout key, and sums of zeros."""
    own = soft_tokens(program, tuple(state.trainable for state in states), base)
    own = _laid(program, own, base)
    runs = sum(len(state.step_N) for state in states)
    zeros = _laid(program, jax.tree.map(jnp.zeros_like, own), base)
    zeros = _floats(zeros)[0]
    key = jax.random.fold_in(rng, states[0].step_N[0])
    return own, key, (zeros, jnp.zeros(runs, jnp.float32))


def advance(
    program: Program,
    states: tuple[TrainState, ...],
    base: Tree,
    sums: tuple[list[jax.Array], jax.Array],
    rates_N: Array,
) -> tuple[tuple[TrainState, ...], jax.Array]:
    """One step of every active run, from the gradients of its soft tokens or weights.

    Args:
      program: what is computed.
      states: of each group, before the step.
      base: the frozen weights.
      sums: from `add_gradients`, of all rows of the batch.
      rates_N: learning rate of each run.

    Returns:
      The states after the step, and losses_N before it. A run whose loss or parameters would no
      longer be finite keeps the state it had and is inactive from then on.
    """
    values, losses_N = sums
    trainables = tuple(state.trainable for state in states)

    def soft(trainables: Sequence[Tree]) -> list[jax.Array]:
        return _floats(soft_tokens(program, trainables, base))[0]

    (grads,) = jax.vjp(soft, trainables)[1](values)
    if program.wayward is not None:
        grads, losses_N = waywardness.pulled(program, trainables, base, grads, losses_N)

    def one(grad: Tree, own: TrainState, rate: Array, loss: Array) -> TrainState:
        if warmup := program.optimizer.warmup_steps:
            rate = rate * jnp.minimum(1.0, own.step_N.astype(jnp.float32) / warmup)
        updates, slots = program.optimizer.make(rate).update(grad, own.optimizer, own.trainable)
        moved = optax.apply_updates(own.trainable, updates)
        sound = jnp.isfinite(loss) & _all_finite(moved)
        new = TrainState(moved, slots, own.step_N + 1, own.active_N)
        go = own.active_N & sound
        return jax.tree.map(functools.partial(jnp.where, go), new, own).replace(active_N=go)

    ends = np.cumsum([len(state.step_N) for state in states])[:-1]
    groups = zip(grads, states, jnp.split(rates_N, ends), jnp.split(losses_N, ends), strict=True)
    new = tuple(jax.vmap(one)(*group) for group in groups)
    # What goes out lies as what came in, so that one compilation serves all steps.
    if (place := program.placement) is not None and not place.alone:
        new = jax.lax.with_sharding_constraint(new, place.state(new, base))
        losses_N = jax.lax.with_sharding_constraint(losses_N, place.everywhere)
    return new, losses_N


def _all_finite(tree: Tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


@functools.lru_cache(maxsize=8)
def compiled_gradients(program: Program) -> Callable[..., Any]:
    """`add_gradients` of `Program.of_the_model`, as one `jax.jit` program that reuses the sums."""
    return jax.jit(functools.partial(add_gradients, program), donate_argnums=(5,))


@functools.lru_cache(maxsize=32)
def _compiled_ends(program: Program) -> tuple[Callable[..., Any], Callable[..., Any]]:
    first = jax.jit(functools.partial(start, program))
    return first, jax.jit(functools.partial(advance, program), donate_argnums=(0,))


def update(
    program: Program,
    states: tuple[TrainState, ...],
    base: Tree,
    chunks: Sequence[Batch],
    totals_N: Array,
    rates_N: Array,
    rng: Array,
) -> tuple[tuple[TrainState, ...], jax.Array]:
    """One step of every active run, dispatched chunk by chunk; nothing waits for the device.

    Args:
      program: what is computed.
      states: of each group, before the step; their arrays are given up.
      base: the frozen weights.
      chunks: rows of all runs.
      totals_N: from `losses.total`, of each run's batch.
      rates_N: learning rate of each run.
      rng: key of the gang; the step's number and the chunk's are folded in here.

    Returns:
      As `advance`.
    """
    first, last = _compiled_ends(program)
    through = compiled_gradients(program.of_the_model)
    own, rng, sums = first(states, base, rng)
    for number, chunk in enumerate(chunks):
        key = jax.random.fold_in(rng, number) if program.config.dropout_rate else rng
        sums = through(own, base, chunk, totals_N, key, sums)
    return last(states, base, sums, rates_N)


def run(
    program: Program,
    states: tuple[TrainState, ...],
    base: Tree,
    batches: Sequence[tuple[Sequence[dict[str, Array]], Array]],
    rates_N: Array,
    rng: Array,
    at_once: int = 1,
) -> tuple[tuple[TrainState, ...], list[jax.Array]]:
    """A step of every active run for each of some batches.

    Args:
      program: what is computed.
      states: of each group, before the steps; their arrays are given up.
      base: the frozen weights.
      batches: of each step the chunks of rows, on the host, and what `losses.total` says.
      rates_N: learning rate of each run.
      rng: as `update`.
      at_once: so many batches go to the device in one dispatch, if there are as many and their
        chunks have the same sizes; else one after another.

    Returns:
      The states after the steps, and losses before them: losses_TN, or losses_N of each step.
    """
    sizes = {tuple(len(chunk["inputs_BL"]) for chunk in chunks) for chunks, _ in batches}
    stacked = 1 < at_once == len(batches) and len(sizes) == 1
    place = program.placement
    losses = []
    for chunks, totals in [_stack(batches)] if stacked else batches:
        rows = [Batch(**chunk) for chunk in chunks]
        rows = rows if place is None else [place.put_batch(own, stacked) for own in rows]
        steps = _compiled_updates(program) if stacked else functools.partial(update, program)
        states, found = steps(states, base, rows, totals, rates_N, rng)
        losses.append(found)
    return states, losses


def _stack(batches: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *own: np.stack(own), *batches)


@functools.lru_cache(maxsize=8)
def _compiled_updates(program: Program) -> Callable[..., Any]:
    """`update` for batches with a leading axis of steps, as a loop on the device."""

    def steps(
        states: Any, base: Tree, chunks_T: Any, totals_TN: Array, rates_N: Array, rng: Array
    ) -> Any:
        def one(states: Any, given: tuple[Any, Array]) -> Any:
            return update(program, states, base, *given, rates_N, rng)

        return jax.lax.scan(one, states, (chunks_T, totals_TN))

    return jax.jit(steps, donate_argnums=(0,))
