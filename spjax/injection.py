"""Soft tokens and other arrays of one run or of a gang, in the forms the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from spjax.types import Array, Batch, per_segment

SITES = ("encoder", "decoder", "cross")  # self-attention of both stacks, and of one to the other
PROMPT_SEES = ("all", "before", "itself")


class Soft(flax.struct.PyTreeNode):
    """Soft tokens and other arrays that one run adds to the forward pass of a frozen model.

    Attributes:
      prompt: float32 soft tokens for the slots, `[P, D]`, or `[S, P, D]` for prompts per task.
      prefix: for some of `SITES`, keys and values `[layers, P, H, K]` that every position of the
        run's examples may attend to as well.
      added: float32 `[P, D]`; row i mod P is added to the embedding of an example's token i.
      teacher: float32, with the shape of `prompt`; training imitates the model's answers under this
        prompt, which has no gradient.
      sees_text: whether slots attend to text.
      sees_prompt: which slots a slot attends to, one of `PROMPT_SEES`.
      distillation: weight of the imitation in the loss.
    """

    prompt: Any = None
    prefix: Mapping[str, tuple[Array, Array]] = flax.struct.field(default_factory=dict)
    added: Any = None
    teacher: Any = None
    sees_text: bool = flax.struct.field(default=True, pytree_node=False)
    sees_prompt: str = flax.struct.field(default="all", pytree_node=False)
    distillation: float = flax.struct.field(default=0.0, pytree_node=False)

    @property
    def sees(self) -> dict[str, Any]:
        """Returns the settings of what slots see that are not the default, by name."""
        everything = type(self)()
        return {
            name: getattr(self, name)
            for name in ("sees_text", "sees_prompt")
            if getattr(self, name) != getattr(everything, name)
        }

    def arrays(self) -> dict[str, Array]:
        """Returns its arrays by name, for example "prompt" and "prefix/cross/keys"."""
        prefix = {
            f"prefix/{site}/{name}": array
            for site, pair in self.prefix.items()
            for name, array in zip(("keys", "values"), pair)
        }
        both = {"prompt": self.prompt, "added": self.added, **prefix}
        return {name: array for name, array in both.items() if array is not None}

    @classmethod
    def of(cls, arrays: Mapping[str, Array], provenance: Mapping[str, str] | None = None) -> Soft:
        """Returns the inverse of `arrays` and of `sees`, without teachers.

        Args:
          arrays: by name.
          provenance: of a stored prompt, which may have the values of `sees` as text.

        Raises:
          ValueError: it has other values than `sees` can have.
        """
        sites = {name.split("/")[1] for name in arrays if name.startswith("prefix/")}
        prefix = {
            site: (arrays[f"prefix/{site}/keys"], arrays[f"prefix/{site}/values"]) for site in sites
        }
        facts = {"sees_text": "True", "sees_prompt": "all", **(provenance or {})}
        if facts["sees_text"] not in ("True", "False") or facts["sees_prompt"] not in PROMPT_SEES:
            raise ValueError(
                f"the provenance has sees_text={facts['sees_text']!r} and sees_prompt="
                f"{facts['sees_prompt']!r}; allowed are True or False, and one of "
                f"{', '.join(PROMPT_SEES)}."
            )
        return cls(
            arrays.get("prompt"),
            prefix,
            arrays.get("added"),
            sees_text=facts["sees_text"] == "True",
            sees_prompt=facts["sees_prompt"],
        )


class Prefix(flax.struct.PyTreeNode):
    """Keys and values of all runs at one site; a query sees those of its own run only.

    They are before the first position of each example, as if the text had been moved: key p of a
    run with P keys is P - p positions before it.

    Attributes:
      keys: `[layers, R, H, K]`.
      values: likewise.
      runs_R: int32, the run of each key.
      before_R: int32, the distance of each key from the start of an example, from 1.
    """

    keys: Array
    values: Array
    runs_R: Array
    before_R: Array


class Injection(flax.struct.PyTreeNode):
    """Soft tokens of all runs and tasks, in one table.

    Prompts of any lengths are concatenated, so unequal lengths cost no padding.

    Attributes:
      prompt_RD: float32, the soft tokens of all prompts; None if no run has any.
      offsets_NS: int32, the first row of the prompt of run n and task s; one column if no run has
        prompts of single tasks.
      prefix: of the sites where any run has one.
      bias_RD: rows of the input biases of all runs, one after the other; None if no run has any.
      bias_N2: int32, first row and number of rows of each run's bias (0 for none).
      sees_N2: int32, what slots of each run attend to: `sees_text`, and `sees_prompt` as its place
        in `PROMPT_SEES`; None where all see everything.
      teacher_RD: replaces `prompt_RD` for the answers to imitate; None if no run imitates.
      distill_N: float32, weight of the imitation in the loss of each run.
    """

    prompt_RD: Any
    offsets_NS: Any
    prefix: Mapping[str, Prefix] = flax.struct.field(default_factory=dict)
    bias_RD: Any = None
    bias_N2: Any = None
    sees_N2: Any = None
    teacher_RD: Any = None
    distill_N: Any = None


def prompt_rows(batch: Batch, injection: Injection) -> Array:
    """Returns the row of `injection.prompt_RD` at each input position, -1 where it is text.

    Args:
      batch: its slots count from the start of the segment's own prompt.
      injection: where each prompt starts in the table.

    Returns:
      rows_BL, int32.
    """
    runs_BL = per_segment(batch.runs_BG, batch.input_segments_BL)
    offsets_NS = jnp.asarray(injection.offsets_NS)
    if offsets_NS.shape[1] == 1:  # all tasks of a run have one prompt
        first_BL = offsets_NS[runs_BL, 0]
    else:
        tasks_BL = per_segment(batch.tasks_BG, batch.input_segments_BL)
        # A run with one prompt for more tasks than any other run has it in all columns.
        first_BL = offsets_NS[runs_BL, jnp.minimum(tasks_BL, offsets_NS.shape[1] - 1)]
    return jnp.where(batch.slots_BL >= 0, first_BL + batch.slots_BL, -1)


def bias_rows(batch: Batch, places_BL: Array, injection: Injection) -> Array:
    """Returns the row of `injection.bias_RD` added at each input position, -1 for none.

    Args:
      batch: runs and segments.
      places_BL: position of each token in its own segment, from 0.
      injection: where each bias starts in the table.

    Returns:
      rows_BL, int32.
    """
    own_BL2 = jnp.asarray(injection.bias_N2)[per_segment(batch.runs_BG, batch.input_segments_BL)]
    first_BL, count_BL = own_BL2[..., 0], own_BL2[..., 1]
    rows_BL = first_BL + places_BL % jnp.maximum(count_BL, 1)
    return jnp.where((count_BL > 0) & (batch.input_segments_BL > 0), rows_BL, -1)


def join(groups: Sequence[Soft]) -> Injection:
    """Joins the soft tokens of all runs into one injection.

    Args:
      groups: of runs with trees of equal shapes; every array has a leading axis of runs. A group
        without arrays is one run.

    Returns:
      An injection whose runs are those of the first group, then those of the second, and so on.
    """
    counts = [leaves[0].shape[0] if (leaves := jax.tree.leaves(soft)) else 1 for soft in groups]
    prompt_RD, offsets_NS = _join_prompts(groups, counts)
    bias_RD, bias_N2 = _join_biases(groups, counts)
    sees = [(int(soft.sees_text), PROMPT_SEES.index(soft.sees_prompt)) for soft in groups]
    sees_N2 = None if set(sees) == {(1, 0)} else np.repeat(np.asarray(sees, np.int32), counts, 0)
    sites = [site for site in SITES if any(site in soft.prefix for soft in groups)]
    prefix = {
        site: _join_prefixes([soft.prefix.get(site) for soft in groups], counts) for site in sites
    }
    teachers = _join_teachers(groups, counts)
    return Injection(prompt_RD, offsets_NS, prefix, bias_RD, bias_N2, sees_N2, *teachers)


def _join_prompts(groups: Sequence[Soft], counts: Sequence[int]) -> tuple[Any, Any]:
    tables, firsts, rows = [], [], 0
    tasks = max((soft.prompt.shape[1] for soft in groups if np.ndim(soft.prompt) == 4), default=1)
    for soft, runs in zip(groups, counts):
        own_N1 = np.full((runs, 1), rows, np.int32)
        if soft.prompt is not None:
            *lead, length, width = soft.prompt.shape
            number = int(np.prod(lead))
            tables.append(soft.prompt.reshape(number * length, width))
            own_N1 = rows + length * np.arange(number, dtype=np.int32).reshape(runs, -1)
            rows += number * length
        # Runs of fewer tasks have no examples of the rest.
        firsts.append(np.pad(own_N1, ((0, 0), (0, tasks - own_N1.shape[1])), mode="edge"))
    if not tables:
        return None, None
    return _concatenated(tables), np.concatenate(firsts)


def _join_teachers(groups: Sequence[Soft], counts: Sequence[int]) -> tuple[Any, Any]:
    """Returns a table like the prompts' table, 0 where a run imitates nothing."""
    if all(soft.teacher is None for soft in groups):
        return None, None
    prompts = [soft for soft in groups if soft.prompt is not None]
    tables = [
        jnp.zeros_like(soft.prompt) if soft.teacher is None else jax.lax.stop_gradient(soft.teacher)
        for soft in prompts
    ]
    weights = [0.0 if soft.teacher is None else soft.distillation for soft in groups]
    teacher_RD = _concatenated([table.reshape(-1, table.shape[-1]) for table in tables])
    return teacher_RD, np.repeat(np.asarray(weights, np.float32), counts)


def _join_biases(groups: Sequence[Soft], counts: Sequence[int]) -> tuple[Any, Any]:
    tables, spans, rows = [], [], 0
    for soft, runs in zip(groups, counts):
        length = 0 if soft.added is None else soft.added.shape[1]
        spans += [(rows + i * length, length) for i in range(runs)]
        if length:
            tables.append(soft.added.reshape(runs * length, -1))
            rows += runs * length
    return (_concatenated(tables), np.asarray(spans, np.int32)) if tables else (None, None)


def _join_prefixes(groups: Sequence[Any], counts: Sequence[int]) -> Prefix:
    """Joins prefixes `[N, layers, P, H, K]` of one site, None for groups without."""
    tables, owners, before, run = [], [], [], 0
    for pair, runs in zip(groups, counts):
        if pair is not None:
            length = pair[0].shape[2]
            owners.append(np.repeat(np.arange(run, run + runs, dtype=np.int32), length))
            before.append(np.tile(np.arange(length, 0, -1, dtype=np.int32), runs))
            tables.append([jnp.concatenate(list(x), axis=1) for x in pair])
        run += runs
    keys, values = (_concatenated(parts, axis=1) for parts in zip(*tables))
    return Prefix(keys, values, np.concatenate(owners), np.concatenate(before))


def _concatenated(parts: Sequence[Array], axis: int = 0) -> Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)


def padded(injection: Injection) -> Injection:
    """Pads the table of soft tokens to a power of two of rows, at least 256.

    So one compiled model serves prompts of all usual lengths. No slot refers to the padding.
    """
    if injection.prompt_RD is None:
        return injection
    rows = max(256, 1 << (injection.prompt_RD.shape[0] - 1).bit_length())
    more = rows - injection.prompt_RD.shape[0]
    prompt_RD, teacher_RD = (
        None if table is None else jnp.pad(table, ((0, more), (0, 0)))
        for table in (injection.prompt_RD, injection.teacher_RD)
    )
    return injection.replace(prompt_RD=prompt_RD, teacher_RD=teacher_RD)
