"""Distance of trained parameters from their start."""

from __future__ import annotations

import jax
import optax

from spjax.types import Tree


def drift(start: Tree | None, now: Tree) -> dict[str, float]:
    """Returns the norms that a run logs at each evaluation.

    Args:
      start: the trainable parameters at step 0; None where nobody kept them.
      now: what they are.

    Returns:
      "trainable/norm", the Euclidean norm of all of them together, and "trainable/drift", that of
      the difference from the start; nothing without a start.
    """
    if start is None:
        return {}
    moved = jax.tree.map(lambda a, b: a - b, now, start)
    norms = jax.device_get((optax.global_norm(now), optax.global_norm(moved)))
    return dict(zip(("trainable/norm", "trainable/drift"), map(float, norms)))
