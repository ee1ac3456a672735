"""Types shared by all packages: arrays, parameter trees, and batches of token ids with slots.

Dimension key, used as suffixes of array names all over the project: `B` batch, `L` input length,
`M` target length, `P` prompt length, `N` runs in a gang, `G` segments in a row, `S` tasks, `R` rank
or rows of a prompt table, `D` model, `H` heads, `K` head size, `F` mlp, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
Tree = Mapping[str, Any]


class Batch(flax.struct.PyTreeNode):
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


def per_segment(values_BG: Array, segments_BL: Array) -> Array:
    """Spreads a value per segment over the positions of that segment.

    Args:
      values_BG: one value for each segment of a row.
      segments_BL: segment numbers from 1; padding (0) gets the first segment's value.

    Returns:
      values_BL.
    """
    return jnp.take_along_axis(values_BG, jnp.maximum(segments_BL - 1, 0), axis=1)
