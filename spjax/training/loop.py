"""The training loop: a gang of runs over one frozen model, resumable at any moment."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from spjax import multihost, partitioning, trees
from spjax.checkpoints.prompts import prompts
from spjax.checkpoints.weights import weights
from spjax.data.batching import batching, packing
from spjax.data.tasks import file_task
from spjax.data.token_cache.cache import CachedSplit
from spjax.files import file_digest, write_json
from spjax.inference import evaluation
from spjax.models import quantization
from spjax.models.t5 import weight_shapes
from spjax.training import drift, host_memory, losses, row_shapes, run_files, untrained
from spjax.training import step as steps
from spjax.training.run import Run
from spjax.training.run_data import RunData
from spjax.types import Tree


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a caller is told while a gang trains.

    Attributes:
      step: updates made by the run that is furthest behind.
      steps: updates in all.
      stage: "loading", "training" or "evaluating".
      scores: the last validation score of each run, in percent.
    """

    step: int
    steps: int
    stage: str
    scores: tuple[float, ...] = ()


def base_of(run: Run) -> Tree:
    """The frozen weights of a run, read to where they lie and kept for the next runs."""
    return _base(run.model, run.checkpoint, run.weights_dtype, placement_of(run))


@functools.lru_cache(maxsize=2)
def _base(model: str, checkpoint: str, dtype: str, placement: partitioning.Placement) -> Tree:
    shapes = weight_shapes(weights.config_of(model, checkpoint))
    return weights.load(model, checkpoint, dtype, placement.weights(shapes))


@functools.lru_cache(maxsize=2)
def _digest(model: str, checkpoint: str, dtype: str, placement: partitioning.Placement) -> str:
    return weights.digest(_base(model, checkpoint, dtype, placement))


def placement_of(run: Run) -> partitioning.Placement:
    """The mesh and rules of a run.

    Raises:
      ValueError: they do not fit the devices.
    """
    return partitioning.make_placement(run.num_partitions, run.logical_axis_rules)


class Member:
    """One run of a gang: its data, its standing, its files."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder
        self.tasks = RunData(run)
        self.method = self.tasks.method
        self.standing, self.status, self.message = run_files.Standing(), "running", ""
        self.scores: dict[str, float] = {}
        self.log: run_files.MetricsLog | None = None
        self.checkpoints: run_files.Checkpoints | None = None

    def open(self, arrays: Tree) -> Tree:
        """Opens the files; returns the arrays to go on with, from a checkpoint if there is one."""
        self.start = None if self.method.changes_weights else arrays["trainable"]
        self.checkpoints = run_files.Checkpoints(self.folder)
        self.data = self.tasks.batches()
        if (found := self.checkpoints.latest(arrays)) is not None:
            arrays, self.standing = found
            if self.standing.step < self.run.steps:
                self.standing = self.standing.without_last()
            self.data.set_state(self.standing.data)
            if self._exhausted():
                self.status = "finished"
        if multihost.is_primary():
            self.log = run_files.MetricsLog(self.folder, self.standing.step)
        return arrays

    def write(self, values: dict[str, float]) -> None:
        """Logs values of this step, in one process of all."""
        if self.log:
            self.log.write(self.standing.step, values)

    @property
    def active(self) -> bool:
        """Whether the run still trains."""
        return self.status == "running"

    def _exhausted(self) -> bool:
        run, standing = self.run, self.standing
        impatient = 0 < run.patience <= standing.stale
        return standing.step >= run.steps or impatient

    def until_due(self) -> int:
        """Steps to the next evaluation, checkpoint or the end."""
        run, done = self.run, self.standing.step
        periods = filter(None, (run.eval_period, run.checkpoint_period))
        return min(run.steps - done, *(period - done % period for period in periods))

    def due(self) -> tuple[bool, bool]:
        """Whether an evaluation, and whether a checkpoint, is due at this step."""
        run, done = self.run, self.standing.step
        evaluate = done % run.eval_period == 0 or done == run.steps
        return evaluate, evaluate or bool(
            run.checkpoint_period and done % run.checkpoint_period == 0
        )

    def evaluated(self, scores: dict[str, float]) -> None:
        """Takes note of validation scores: best so far or not, time to stop or not."""
        self.scores = scores
        standing = self.standing
        at_period = standing.step % self.run.eval_period == 0
        names = ("best_step", "best", "stale")
        before = {name: getattr(standing, name) for name in names}
        standing.before_last = None if at_period else before
        if standing.best_step < 0 or scores["score"] > standing.best["score"]:
            standing.best_step, standing.best, standing.stale = standing.step, scores, 0
        else:
            standing.stale += 1
        if self._exhausted():
            self.status = "finished"

    def save(self, arrays: Tree) -> None:
        """Writes a checkpoint."""
        self.standing.data = self.data.get_state()
        self.checkpoints.save(arrays, self.standing)

    def close(self) -> None:
        """Flushes the files; an error of one leaves none of them open."""
        with contextlib.ExitStack() as closing:
            for files in filter(None, (self.checkpoints, self.log)):
                closing.callback(files.close)


class Gang:
    """Runs that train side by side over one frozen model.

    Attributes:
      members: group by group (`step.groups_of`), so not in the order they were given.
    """

    def __init__(self, runs: Sequence[Run], folders: Sequence[Path]) -> None:
        given = [Member(r, f) for r, f in zip(runs, folders, strict=True)]
        groups = steps.groups_of([member.method for member in given])
        self.members = [given[i] for group in groups for i in group]
        self.order = list(np.argsort([i for group in groups for i in group]))
        self._places = [(g, i) for g, group in enumerate(groups) for i in range(len(group))]
        self.program = _common_program(self.members, [given[group[0]] for group in groups])
        runs = [member.run for member in self.members]
        self.placement = placement_of(runs[0])
        self.base = base_of(runs[0])
        self.rates_N = jnp.asarray([r.optimizer.learning_rate for r in runs], jnp.float32)
        self.rng = jax.random.key(runs[0].seed)
        tasks = [member.tasks for member in self.members]
        self.rows = row_shapes.of_gang(runs[0], tasks, self.placement)
        self.at_once = row_shapes.steps_at_once(
            self.program.config, self.rows, runs[0].microbatches
        )
        self.losses: list[list[jax.Array]] = [[] for _ in runs]
        try:
            states = tuple(self._start([given[i] for i in group]) for group in groups)
            self.states = jax.device_put(states, self.placement.state(states, self.base))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Flushes the files of all runs; an error of one is raised when all are closed."""
        with contextlib.ExitStack() as closing:
            for member in self.members:
                closing.callback(member.close)

    def _start(self, members: Sequence[Member]) -> steps.TrainState:
        """The state of a group, from the checkpoints of its runs where there are any."""
        runs = [member.run for member in members]
        state = steps.init_state(runs, [member.method for member in members], self.base)
        state = jax.device_put(state, self.placement.state(state, self.base))
        own = [member.open(_arrays(state, i)) for i, member in enumerate(members)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
        counts = jnp.asarray([member.standing.step for member in members], jnp.int32)
        active = jnp.asarray([member.active for member in members])
        return state.replace(step_N=counts, active_N=active, **stacked)

    def _own(self, i: int) -> dict[str, Any]:
        """What training changes of run i."""
        group, place = self._places[i]
        return _arrays(self.states[group], place)

    def train(self) -> None:
        """Updates of every active run, as many as go in one dispatch; the others take no part."""
        active = [i for i, member in enumerate(self.members) if member.active]
        count = min(self.members[i].until_due() for i in active)
        batches = [self._batch(active) for _ in range(min(count, self.at_once))]
        self.states, found = steps.run(
            self.program, self.states, self.base, batches, self.rates_N, self.rng, self.at_once
        )
        for i in active:
            self.members[i].standing.step += len(batches)
            self.losses[i].extend(found)

    def _batch(self, active: Sequence[int]) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
        """The next chunks of rows of these runs, and what the loss of each run is divided by."""
        batches = {i: next(self.members[i].data) for i in active}
        totals_N = np.ones(len(self.members), np.float32)
        for i, batch in batches.items():  # of its own rows, whatever the others' targets are
            factor = self.program.loss_normalizing_factor
            totals_N[i] = losses.total(batch["target_segments_BM"], factor)
        return packing.pack(batching.gang(batches), self.rows), totals_N

    def check_losses(self, i: int) -> None:
        """Logs run i's mean loss since the last check; notes whether the step had to stop it."""
        member, since = self.members[i], jax.device_get(self.losses[i])
        self.losses[i] = []
        group, place = self._places[i]
        if bool(self.states[group].active_N[place]):
            own = [found.reshape(-1, len(self.members))[:, i] for found in since]
            mean = float(np.mean(np.concatenate(own)))
            member.write({"train/loss": mean})
            return
        member.standing.step = int(self.states[group].step_N[place])
        member.status = "diverged"
        member.message = (
            "the loss or the parameters became NaN or infinite at step "
            f"{member.standing.step + 1}; the last good checkpoint is kept in "
            f"{member.folder / 'checkpoints'}. Lower LEARNING_RATE "
            f"({member.run.optimizer.learning_rate})."
        )

    def _deactivate(self, i: int) -> None:
        group, place = self._places[i]
        state = self.states[group]
        state = state.replace(active_N=state.active_N.at[place].set(False))
        self.states = (*self.states[:group], state, *self.states[group + 1 :])

    def evaluate(self, i: int) -> None:
        """Scores run i on the validation examples that it is chosen by."""
        member = self.members[i]
        trainable = self._own(i)["trainable"]
        scores = member.tasks.evaluate(self._answers(i, trainable))
        member.evaluated(scores)
        named = {f"validation/{name}": value for name, value in scores.items()}
        member.write(named | drift.drift(member.start, trainable))
        if not member.active:
            self._deactivate(i)

    def _answers(self, i: int, trainable: Tree) -> Callable[[CachedSplit], list[str]]:
        """What run i writes for a split with these parameters."""
        member = self.members[i]
        tasks, batch_size = member.tasks, member.run.eval_batch_size
        return functools.partial(
            evaluation.predict,
            self.program.config,
            member.method.without_initializer(),
            trainable,
            self.base,
            tasks.words,
            tasks.layout,
            batch_size,
        )

    def finish(self, i: int, seconds: float) -> dict[str, Any]:
        """Scores the best checkpoint of run i on what chose nothing, and writes its result."""
        member = self.members[i]
        result = _facts(member, self.base)
        if member.standing.best_step >= 0:
            like = self._own(i)
            arrays, _ = member.checkpoints.at(member.standing.best_step, like)
            _report(member, self._answers(i, arrays["trainable"]), result)
            tensors = member.method.without_initializer().collapse(arrays["trainable"], self.base)
            if tensors and multihost.is_primary():
                _save_tensors(member, jax.device_get(tensors), result)
        return _finished(member, result, seconds)


def _report(
    member: Member, answer: Callable[[CachedSplit], list[str]], result: dict[str, Any]
) -> None:
    """Scores what chose nothing, and the whole validation set where a part of it chose."""
    if member.tasks.final == "test":
        result["test"] = member.tasks.score("test", answer)
    if member.run.eval_examples:
        result["validation"] = member.tasks.score("validation", answer)
    result["transfer"] = member.tasks.transfer(answer)


def _finished(member: Member, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes the result, last of all files."""
    if member.checkpoints is not None:
        member.checkpoints.wait()
    result["seconds"] = seconds
    if multihost.is_primary():
        if (log := member.folder / "metrics.jsonl").is_file():
            result["metrics_sha256"] = file_digest(log)
        if config := _config_file(member):
            result["config_sha256"] = file_digest(config)
        return write_json(member.folder / "result.json", result)
    return result


def _score_untrained(run: Run, folder: Path) -> dict[str, Any]:
    """The result of a run whose method has nothing to train."""
    started, member = time.monotonic(), Member(run, folder)
    asked = untrained.Untrained(run, member.tasks)
    base = base_of(run)
    answer = asked.answers(base)
    scores = member.tasks.evaluate(answer)
    member.standing = run_files.Standing(best_step=0, best=scores)
    member.status, member.message = "finished", asked.message
    result = _facts(member, base)
    _report(member, answer, result)
    return _finished(member, result, time.monotonic() - started)


def _arrays(state: steps.TrainState, i: int) -> dict[str, Any]:
    own = {"trainable": state.trainable, "optimizer": state.optimizer}
    return jax.tree.map(lambda x: x[i], own)


def _common_program(members: Sequence[Member], firsts: Sequence[Member]) -> steps.Program:
    """The program of a gang, whose groups have the methods of `firsts`."""
    alone = [steps.program_of(m.run, m.method, placement_of(m.run)) for m in members]
    methods = tuple(member.method.without_initializer() for member in firsts)
    programs = {dataclasses.replace(program, methods=methods) for program in alone}
    bases = {(m.run.model, m.run.checkpoint, m.run.weights_dtype) for m in members}
    if len(programs) > 1 or len(bases) > 1:
        raise ValueError(
            "the runs of a gang must share model, checkpoint, dtype, optimizer, loss and mesh; "
            f"these do not: {[str(member.folder) for member in members]}."
        )
    if len(members) > 1 and members[0].run.dropout_rate > 0:
        raise ValueError(
            "runs with dropout train one by one, because masks are drawn for the whole batch; "
            f"this gang has {len(members)}."
        )
    changing = [m.run.method_name for m in members if m.method.changes_weights]
    if len(members) > 1 and changing:
        raise ValueError(
            f"{changing[0]} changes the weights, so its runs train one by one; this gang has "
            f"{len(members)}."
        )
    return programs.pop()


def _config_file(member: Member) -> Path | None:
    paths = (member.folder / name for name in (prompts.RUN_LONGER, prompts.RUN_CONFIG))
    return next(filter(Path.is_file, paths), None)


def _save_tensors(member: Member, tensors: Mapping[str, Any], result: dict[str, Any]) -> None:
    config = _config_file(member)
    text = config.read_text(encoding="utf-8") if config else ""
    facts = prompts.provenance_of_run(result, text)
    tasks = [info.name for info in member.tasks.mixture.trained]
    prompts.write_run(member.folder, tensors, facts, tasks)


def _facts(member: Member, base: Tree) -> dict[str, Any]:
    run, standing = member.run, member.standing
    source = member.tasks.mixture.trained[0].source
    made = jax.eval_shape(
        member.method.without_initializer().init_with_output, jax.random.key(0), base
    )
    (_, soft), trainable = made[0], made[1].get("params", {})
    fields = member.tasks.fields
    return {
        "task": str(run.task),
        **({"task_file": source} if file_task.is_path(source) else {}),
        "model": run.model,
        "method": run.method_name,
        "prompt_length": member.method.length_in_tables,
        "insertion": member.method.insertion,
        **({"fields": " ".join(fields)} if fields else {}),
        **(soft.sees if soft else {}),
        "seed": run.seed,
        "model_parameters": trees.count(base),
        "trainable_parameters": trees.count(trainable),
        "base_sha256": _digest(run.model, run.checkpoint, run.weights_dtype, placement_of(run)),
        "steps": standing.step,
        "best_step": standing.best_step,
        "validation": standing.best,
        "test": None,
        "transfer": {},
        "majority": member.tasks.majority(),
        "ceiling": member.tasks.mixture.ceiling,
        "status": member.status,
        "message": member.message,
        "embedding_rms": float(jnp.sqrt(jnp.mean(_embedding(base) ** 2))),
    }


def _embedding(base: Tree) -> jax.Array:
    return quantization.dequantize(base["token_embedder"]["embedding"])


def train(
    runs: Sequence[Run],
    folders: Sequence[Path],
    on_progress: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Trains a gang of runs (often of one) to the end and writes their folders.

    A run whose folder holds checkpoints continues from the last one, with the numbers it would
    have had without the interruption (in a gang of other runs, but for the order of sums).
    `result.json` is written last.

    Args:
      runs: must share model, checkpoint, optimizer (but for the rate) and loss.
      folders: one for each run; made if missing.
      on_progress: told a few times a second at the most.

    Returns:
      The content of each `result.json`. A run whose loss became NaN has status "diverged" and the
      message says at which step.

    Raises:
      ValueError: the runs do not fit together, or their data or weights cannot be read.
    """
    tell = on_progress if on_progress and multihost.is_primary() else lambda progress: None
    total = max(run.steps for run in runs)
    tell(Progress(0, total, "loading"))
    partitioning.keep_compiled_programs()
    host_memory.release_programs()
    multihost.barrier("start")  # the one that leads may have had to prepare the folders
    for run, folder in zip(runs, folders, strict=True):
        run.check_contents()
        folder.mkdir(parents=True, exist_ok=True)
    if len({run.method.trained for run in runs}) > 1:
        raise ValueError(
            "the runs of a gang must all have something to train, or none of them; these differ: "
            f"{sorted({run.method_name for run in runs})}."
        )
    if not runs[0].method.trained:
        return [_score_untrained(run, folder) for run, folder in zip(runs, folders, strict=True)]
    started, told = time.monotonic(), 0.0
    gang = Gang(runs, folders)
    try:
        while any(member.active for member in gang.members):
            gang.train()
            for i, member in enumerate(gang.members):
                if member.active and any(member.due()):
                    tell(_progress(gang, total, "evaluating"))
                    _at_boundary(gang, i)
            if time.monotonic() - told > 0.3:
                told = time.monotonic()
                tell(_progress(gang, total, "training"))
        results = []
        for i in range(len(runs)):  # of the time of all, each has its share
            results.append(gang.finish(i, (time.monotonic() - started) / len(runs)))
        return [results[i] for i in gang.order]
    finally:
        gang.close()


def _at_boundary(gang: Gang, i: int) -> None:
    member = gang.members[i]
    evaluate, save = member.due()
    gang.check_losses(i)
    if member.status == "diverged":
        return
    if evaluate:
        gang.evaluate(i)
    if save:
        member.save(gang._own(i))


def _progress(gang: Gang, total: int, stage: str) -> Progress:
    active = [m for m in gang.members if m.active] or gang.members
    done = min(member.standing.step for member in active)
    scores = tuple(m.scores["score"] for m in gang.members if m.scores)
    return Progress(done, total, stage, scores)
