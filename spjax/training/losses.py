"""Losses of the runs of a gang and their normalization, as in T5X (`losses.py`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spjax import validation
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
    student_BMV, teacher_BMV = jax.nn.log_softmax(logits), jax.nn.log_softmax(their_logits)
    divergence_BM = jnp.sum(jnp.exp(teacher_BMV) * (teacher_BMV - student_BMV), axis=-1)
    return divergence_BM + jnp.mean(jnp.square(hidden - their_hidden), axis=-1)


def run_losses(
    losses_BM: Array,
    segments_BM: Array,
    runs_BM: Array,
    totals_N: Array,
    normalizer: float | str | None = None,
) -> jax.Array:
    """Returns the loss of each run: its own tokens' losses, summed and normalized.

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


def check_settings(
    prefix: str, z_loss: float, label_smoothing: float, normalizer: float | str | None
) -> None:
    """Checks the settings of a loss.

    Args:
      prefix: what the names of the settings begin with in messages, such as "Run.".
      z_loss: weight of log(Z)^2.
      label_smoothing: share of the target probability spread over other tokens.
      normalizer: as in `total`.

    Raises:
      ValueError: one is out of range or unknown.
    """
    validation.number(f"{prefix}label_smoothing", label_smoothing, 0, 1, below=True)
    validation.number(f"{prefix}z_loss", z_loss, 0, validation.MOST_RATE)
    name = f"{prefix}loss_normalizing_factor"
    if isinstance(normalizer, str) and normalizer not in NORMALIZERS:
        raise ValueError(
            f"{name} is {normalizer!r}; use None, a number, or one of {', '.join(NORMALIZERS)}."
        )
    if not isinstance(normalizer, str | None):
        validation.number(name, normalizer, 0, validation.MOST_STEPS, above=True)


def total(segments_BM: Array, normalizer: float | str | None = None) -> Any:
    """Returns the divisor of the sum of a run's losses.

    Args:
      segments_BM: of the run's whole batch, before it is packed; on the host or traced.
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
    array: Any = jnp if isinstance(segments_BM, jax.Array) else np
    if normalizer == "NUM_TOTAL_TARGET_TOKENS":
        return float(segments_BM.size)
    if normalizer == "NUM_REAL_TARGET_TOKENS":
        return array.maximum(array.sum(segments_BM > 0), 1)
    if normalizer == "AVERAGE_PER_SEQUENCE":
        before_BM = array.pad(segments_BM[:, :-1], ((0, 0), (1, 0)))
        starts_BM = (segments_BM > 0) & (segments_BM != before_BM)
        return array.maximum(array.sum(starts_BM), 1)
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
