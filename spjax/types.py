"""What passes between the rooms: batches of token ids with slots, and injected prompts.

Dimension key, used as suffixes of array names all over the project: `B` batch, `L` input length,
`M` target length, `P` prompt length, `N` runs in a gang, `G` segments in a row, `S` tasks, `R` rows
of prompt, `D` model, `H` heads, `K` head size, `F` mlp, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
Tree = Mapping[str, Any]


@flax.struct.dataclass
class Batch:
    """Rows of one or more segments; all arrays are int32.

    Attributes:
      inputs_BL: encoder token ids; whatever stands at a slot is ignored.
      slots_BL: -1 where the position is text, else the row of the segment's own prompt.
      input_segments_BL: 0 for padding, else the number (from 1) of the segment in its row.
      targets_BM: decoder token ids to predict, including EOS.
      target_segments_BM: like `input_segments_BL`.
      runs_BG: index of the run that segment g + 1 of the row belongs to.
      tasks_BG: index of the task that segment g + 1 of the row belongs to.
    """

    inputs_BL: Array
    slots_BL: Array
    input_segments_BL: Array
    targets_BM: Array
    target_segments_BM: Array
    runs_BG: Array
    tasks_BG: Array


@flax.struct.dataclass
class Injection:
    """Soft tokens of all runs and tasks as one table of rows.

    Prompts of any lengths stand one after the other, so unequal lengths cost no padding.

    Attributes:
      prompt_RD: float32 rows of every prompt.
      offsets_NS: int32, the first row of the prompt of run n and task s.
    """

    prompt_RD: Array
    offsets_NS: Array


def per_segment(values_BG: Array, segments_BL: Array) -> Array:
    """Spreads a value per segment over the positions of that segment.

    Args:
      values_BG: one value for each segment of a row.
      segments_BL: segment numbers from 1; padding (0) gets the first segment's value.

    Returns:
      values_BL.
    """
    return jnp.take_along_axis(values_BG, jnp.maximum(segments_BL - 1, 0), axis=1)


def microbatches(batch: Batch, count: int) -> Batch:
    """The rows of a batch in `count` parts, along a new leading axis.

    Every count-th row, not a run of them: rows that lie on a device are then spread over all parts,
    and none moves to another device.

    Args:
      batch: a multiple of `count` rows.
      count: of parts.
    """
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1), batch)


def prompt_rows(batch: Batch, injection: Injection) -> Array:
    """Rows of `injection.prompt_RD` that belong at each input position, -1 where it is text.

    Args:
      batch: its slots count from the start of the segment's own prompt.
      injection: where each prompt starts in the table.

    Returns:
      rows_BL, int32.
    """
    runs_BL = per_segment(batch.runs_BG, batch.input_segments_BL)
    tasks_BL = per_segment(batch.tasks_BG, batch.input_segments_BL)
    first_BL = jnp.asarray(injection.offsets_NS)[runs_BL, tasks_BL]
    return jnp.where(batch.slots_BL >= 0, first_BL + batch.slots_BL, -1)


def join_prompts(groups: Sequence[Array]) -> Injection:
    """The injection of runs of one task, in groups whose prompts have the same length.

    Args:
      groups: prompts_NPD, one prompt for each run of a group.

    Returns:
      An injection whose runs are those of the first group, then those of the second, and so on.
    """
    tables, firsts, rows = [], [], 0
    for prompts_NPD in groups:
        runs, length, width = prompts_NPD.shape
        tables.append(prompts_NPD.reshape(runs * length, width))
        firsts.append(rows + length * np.arange(runs, dtype=np.int32))
        rows += runs * length
    prompt_RD = tables[0] if len(tables) == 1 else jnp.concatenate(tables)
    return Injection(prompt_RD, np.concatenate(firsts)[:, None])


def padded(injection: Injection) -> Injection:
    """The same soft tokens in a table of a power of two of rows, at least 256.

    So one compiled model serves prompts of all usual lengths. Nothing points to the rows added.
    """
    rows = max(256, 1 << (injection.prompt_RD.shape[0] - 1).bit_length())
    more = rows - injection.prompt_RD.shape[0]
    return injection.replace(prompt_RD=jnp.pad(injection.prompt_RD, ((0, more), (0, 0))))
