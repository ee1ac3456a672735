"""Runs that train side by side over one frozen model: which may, their arrays, their steps."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from spjax.checkpoints.frozen_model import FrozenModel
from spjax.data.batching import batching, packing
from spjax.training import losses, restored_optimizer, row_shapes, step_log, trainer
from spjax.training.member import Member
from spjax.training.run import Run
from spjax.training.step_log import Dispatch, StepLog
from spjax.training.waywardness import target_of
from spjax.types import Tree

# Settings in which the runs of a gang may differ.
_OF_EACH_RUN = frozenset(
    {
        *("task", "method", "seed", "input_length", "target_length", "contents", "waywardness"),
        *("steps", "batch_size", "patience", "eval_period", "checkpoint_period"),
        *("eval_batch_size", "eval_examples", "eval_seed", "eval_truncation", "num_beams"),
        *("log_period", "trackers", "stop_below"),
    }
)


def alone_because(run: Run) -> str:
    """Returns why a run cannot share a gang, "" if it can."""
    if run.dropout_rate > 0:
        return "runs with dropout train one by one, because masks are drawn for the whole batch"
    if run.method.changes_weights:
        return f"{run.method_name} changes the weights, so its runs train one by one"
    return ""


def gang_key(run: Run) -> str:
    """Returns a text that is equal for runs that may train in one gang."""
    if alone_because(run):
        return repr(run)
    settings = {
        field.name: getattr(run, field.name)
        for field in dataclasses.fields(run)
        if field.name not in _OF_EACH_RUN
    }
    settings["optimizer"] = dataclasses.replace(run.optimizer, learning_rate=1.0)
    settings["waywardness"] = target_of(run)
    settings["trained"] = run.method.trained
    return repr(settings)


def check_gang(runs: Sequence[Run]) -> None:
    """Checks that runs may train in one gang.

    Raises:
      ValueError: they may not.
    """
    if len(runs) == 1:
        return
    for reason in filter(None, map(alone_because, runs)):
        raise ValueError(f"{reason}; this gang has {len(runs)}.")
    if len({run.method.trained for run in runs}) > 1:
        raise ValueError(
            "the runs of a gang must all have something to train, or none of them; these differ: "
            f"{sorted({run.method_name for run in runs})}."
        )
    if len({gang_key(run) for run in runs}) > 1:
        raise ValueError(
            "the runs of a gang must share model, checkpoint, dtype, optimizer, loss and mesh; "
            f"these do not: {[f'{run.method_name} on {run.task}, seed {run.seed}' for run in runs]}"
            "."
        )


class Gang:
    """Arrays of runs that train side by side, and their steps.

    Attributes:
      members: group by group (`trainer.groups_of`), so in another order than they were given.
      model: the frozen model of all.
      config: of the step.
      step_log: of its updates.
    """

    def __init__(self, members: Sequence[Member], model: FrozenModel) -> None:
        groups = trainer.groups_of([member.method for member in members])
        self.members = [members[i] for group in groups for i in group]
        self._places = {
            members[i]: (g, index)
            for g, group in enumerate(groups)
            for index, i in enumerate(group)
        }
        self.model = model
        run, methods = members[0].run, [members[group[0]].method for group in groups]
        self.config = trainer.step_config(run, model.config, methods, model.placement)
        runs = [member.run for member in self.members]
        self._rates_N = jnp.asarray([r.optimizer.learning_rate for r in runs], jnp.float32)
        self._rng = jax.random.key(runs[0].seed)
        self._shapes = row_shapes.of_gang(runs[0], [m.data for m in self.members], model)
        self._steps_per_dispatch = row_shapes.steps_per_dispatch(
            self.config.model, self._shapes, runs[0].microbatches
        )
        try:
            states = tuple(self._open([members[i] for i in group]) for group in groups)
            shardings = model.placement.state(states, model.weights)
            self._states = jax.device_put(states, shardings)
            self.step_log = StepLog(self.members)
            self._is_first = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Flushes the files of all runs; an error of one is raised when all are closed."""
        with contextlib.ExitStack() as closing:
            for member in self.members:
                closing.callback(member.close)

    def wait_for_steps(self) -> None:
        """Waits for the updates that have been dispatched, and logs those that are to be logged."""
        self.step_log.wait()  # first, for each step to have the time at which it was over
        jax.block_until_ready(self._states)

    def wait_for_checkpoints(self) -> None:
        """Waits until the checkpoints of all runs are on disk.

        Called before the first of them has a result: a run that lost its last checkpoint after that
        would repeat steps in a gang of fewer runs, where sums are rounded in another order.
        """
        for member in self.members:
            if member.checkpoints is not None:
                member.checkpoints.wait()

    def _open(self, members: Sequence[Member]) -> trainer.TrainState:
        """Returns the state of a group, from the checkpoints of its runs where there are any."""
        base, placement = self.model.weights, self.model.placement
        runs = [member.run for member in members]
        state = trainer.init_state(
            [member.method for member in members],
            [run.seed for run in runs],
            runs[0].optimizer,
            base,
        )
        if runs[0].restore_optimizer:  # such a run is alone
            slots = restored_optimizer.restore(state.optimizer, runs[0].checkpoint)
            state = dataclasses.replace(state, optimizer=slots)
        state = jax.device_put(state, placement.state(state, base))
        arrays = [member.open(_arrays(state, i)) for i, member in enumerate(members)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        steps = jnp.asarray([member.standing.step for member in members], jnp.int32)
        active = jnp.asarray([member.active for member in members])
        return state.replace(step_N=steps, active_N=active, **stacked)

    @property
    def active(self) -> list[Member]:
        """Runs that still train."""
        return [member for member in self.members if member.active]

    def arrays(self, member: Member) -> Tree:
        """Returns trainable parameters and optimizer slots of a run."""
        group, index = self._places[member]
        return _arrays(self._states[group], index)

    def train(self) -> None:
        """Updates every active run up to the next event of any, or as far as one dispatch goes."""
        active, began = self.active, time.perf_counter()
        steps = min(m.schedule.steps_to_next(m.standing.step) for m in active)
        batches = [self._batch(active) for _ in range(min(steps, self._steps_per_dispatch))]
        with_norms = {
            number
            for number in range(len(batches))
            if any(m.schedule.logs_at(m.standing.step + number + 1) for m in active)
        }
        if self._is_first:  # the norms' program is compiled with the others
            with_norms.add(0)
        self._is_first = False
        self._states, stats = trainer.train_steps(
            self.config,
            self._states,
            self.model.weights,
            batches,
            self._rates_N,
            self._rng,
            self._steps_per_dispatch,
            with_norms,
        )
        starts = {member: member.standing.step for member in active}
        for member in active:
            member.standing.step += len(batches)
        chunks = [chunk for of_step, _ in batches for chunk in of_step]
        self.step_log.add(Dispatch(began, starts, len(batches), stats, *step_log.positions(chunks)))

    def _batch(self, active: Sequence[Member]) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """Returns the next chunks of rows of these runs, and the divisors of their losses."""
        numbers = {member: i for i, member in enumerate(self.members)}
        batches = {numbers[member]: next(member.batches) for member in active}
        totals_N = np.ones(len(self.members), np.float32)
        for i, batch in batches.items():  # of its own rows, whatever the others' targets are
            factor = self.config.loss_normalizing_factor
            totals_N[i] = losses.total(batch["target_segments_BM"], factor)
        return packing.pack(batching.gang(batches), self._shapes), totals_N

    def check(self, member: Member) -> bool:
        """Returns whether no step had to stop a run; marks one as diverged that was stopped."""
        group, index = self._places[member]
        if not self._states[group].active_N[index]:
            member.diverge(int(self._states[group].step_N[index]))
            return False
        return True

    def deactivate(self, member: Member) -> None:
        """Leaves a run's parameters as they are from now on."""
        group, index = self._places[member]
        state = self._states[group]
        state = state.replace(active_N=state.active_N.at[index].set(False))
        self._states = (*self._states[:group], state, *self._states[group + 1 :])


def _arrays(state: trainer.TrainState, index: int) -> Tree:
    arrays = {"trainable": state.trainable, "optimizer": state.optimizer}
    return jax.tree.map(lambda x: x[index], arrays)
