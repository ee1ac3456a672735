"""Losses of the runs of a gang and their normalisation, as in T5X (`losses.py`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from spjax.types import Array

NORMALIZERS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")


def imitation_losses(student: tuple[Array, Array], teacher: tuple[Array, Array]) -> jax.Array:
    """Returns the distance of a student's answers from a teacher's, at every target token.

    The divergence KL(teacher || student) of the next token, and the mean squared difference of the
    last hidden layer (Wang et al. 2023, section 3.1; which layers it means is not said there).

    Args:
      student: logits_BMV and y_BMD.
      teacher: likewise; it gets no gradient.

    Returns:
      losses_BM, float32.
    """
    logits, hidden = (x.astype(jnp.float32) for x in student)
    their_logits, their_hidden = (jax.lax.stop_gradient(x).astype(jnp.float32) for x in teacher)
    own, wanted = jax.nn.log_softmax(logits), jax.nn.log_softmax(their_logits)
    divergence_BM = jnp.sum(jnp.exp(wanted) * (wanted - own), axis=-1)
    return divergence_BM + jnp.mean(jnp.square(hidden - their_hidden), axis=-1)


def run_losses(
    losses_BM: Array,
    segments_BM: Array,
    runs_BM: Array,
    totals_N: Array,
    normalizer: float | str | None = None,
) -> jax.Array:
    """Returns the loss of each run: its own tokens' losses, summed and normalised.

    Args:
      losses_BM: loss of every target token.
      segments_BM: 0 at padding, which counts for nothing.
      runs_BM: which run each token belongs to.
      totals_N: what to divide by, of the whole batch, of which these rows may be a part.
      normalizer: as in `total`.

    Returns:
      losses_N.
    """
    real_NBM = _own(runs_BM, len(totals_N)) & (segments_BM > 0)
    if normalizer == "AVERAGE_PER_SEQUENCE":
        losses_BM = losses_BM * _sequence_weights(segments_BM)
    # Not a product with 0, which would carry one run's NaN into the others.
    return jnp.sum(jnp.where(real_NBM, losses_BM, 0.0), axis=(1, 2)) / totals_N


def total(segments_BM: np.ndarray, normalizer: float | str | None = None) -> float:
    """Returns the divisor of the sum of a run's losses.

    Args:
      segments_BM: of the run's whole batch, before it is packed.
      normalizer: None (sum over tokens, T5X's default), a number to divide by, or one of
        `NORMALIZERS`, as T5X's `LOSS_NORMALIZING_FACTOR`. The total of target tokens counts the
        padding of the rows as they are, which are trimmed to the longest target.

    Raises:
      ValueError: the normalizer is unknown.
    """
    if normalizer is None:
        return 1.0
    if isinstance(normalizer, (int, float)):
        return float(normalizer)
    if normalizer == "NUM_TOTAL_TARGET_TOKENS":
        return float(segments_BM.size)
    if normalizer == "NUM_REAL_TARGET_TOKENS":
        return float(max(int(np.sum(segments_BM > 0)), 1))
    if normalizer == "AVERAGE_PER_SEQUENCE":
        return float(max(sum(len(set(row) - {0}) for row in segments_BM.tolist()), 1))
    raise ValueError(
        f"loss_normalizing_factor {normalizer!r} is unknown; use None, a number, or one of "
        f"{', '.join(NORMALIZERS)}."
    )


def _own(runs_BM: Array, runs: int) -> jax.Array:
    return runs_BM == jnp.arange(runs, dtype=runs_BM.dtype)[:, None, None]


def _sequence_weights(segments_BM: Array) -> Array:
    """One over the number of positions of the same segment, for each position."""
    same_BMM = segments_BM[:, :, None] == segments_BM[:, None, :]
    return 1.0 / same_BMM.sum(axis=-1).clip(1).astype(np.float32)
