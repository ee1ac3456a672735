"""Cross-entropy with z-loss and label smoothing, and its normalisation, as in T5X (`losses.py`)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from spjax.types import Array

NORMALIZERS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")


def token_losses(
    logits_BMV: Array, targets_BM: Array, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> jax.Array:
    """Loss of every target token.

    With smoothing s the target distribution has 1 - s on the true token and s / (V - 1) elsewhere,
    and the entropy of that distribution is subtracted, so that a perfect model has loss 0.

    Args:
      logits_BMV: float32.
      targets_BM: token ids.
      z_loss: weight of log(Z)^2, which keeps the logits' normaliser near 1.
      label_smoothing: s, from 0 to below 1.

    Returns:
      losses_BM, float32.
    """
    logits_BMV = logits_BMV.astype(jnp.float32)
    log_z_BM = jax.nn.logsumexp(logits_BMV, axis=-1)
    true_BM = jnp.take_along_axis(logits_BMV, targets_BM[..., None], axis=-1)[..., 0]
    loss_BM = log_z_BM - true_BM
    if label_smoothing:
        low = label_smoothing / (logits_BMV.shape[-1] - 1)
        high = 1.0 - label_smoothing
        rest_BM = jnp.sum(log_z_BM[..., None] - logits_BMV, axis=-1) - loss_BM
        entropy = -(high * math.log(high) + label_smoothing * math.log(low + 1e-20))
        loss_BM = high * loss_BM + low * rest_BM - entropy
    return loss_BM + z_loss * jnp.square(log_z_BM)


def run_losses(
    losses_BM: Array,
    segments_BM: Array,
    runs_BM: Array,
    runs: int,
    normalizer: float | str | None = None,
    totals_N: Array | None = None,
) -> jax.Array:
    """Loss of each run of a gang: its own tokens' losses, summed and normalised.

    Args:
      losses_BM: loss of every target token.
      segments_BM: 0 at padding, which counts for nothing.
      runs_BM: which run each token belongs to.
      runs: N.
      normalizer: None (sum over tokens, T5X's default), a number to divide by, or one of
        `NORMALIZERS`, as T5X's `LOSS_NORMALIZING_FACTOR`. The total of target tokens counts the
        padding of the rows as they are, which are trimmed to the longest target.
      totals_N: what to divide by where these rows are a part of a batch; None for `run_totals`
        of the rows themselves.

    Returns:
      losses_N.

    Raises:
      ValueError: the normalizer is unknown.
    """
    real_NBM = _own(runs_BM, runs) & (segments_BM > 0)
    if normalizer == "AVERAGE_PER_SEQUENCE":
        losses_BM = losses_BM * _sequence_weights(segments_BM)
    # Not a product with 0, which would carry one run's NaN into the others.
    losses_N = jnp.sum(jnp.where(real_NBM, losses_BM, 0.0), axis=(1, 2))
    if totals_N is None:
        totals_N = run_totals(segments_BM, runs_BM, runs, normalizer)
    return losses_N / totals_N


def run_totals(
    segments_BM: Array, runs_BM: Array, runs: int, normalizer: float | str | None = None
) -> jax.Array:
    """What the sum of each run's losses is divided by.

    Args:
      segments_BM: of the whole batch.
      runs_BM: as in `run_losses`.
      runs: N.
      normalizer: as in `run_losses`.

    Returns:
      totals_N, float32.

    Raises:
      ValueError: the normalizer is unknown.
    """
    if normalizer is None:
        return jnp.ones(runs, jnp.float32)
    if normalizer in NORMALIZERS:
        counted_NBM = _own(runs_BM, runs)
        weights_BM = jnp.ones(segments_BM.shape, jnp.float32)
        if normalizer != "NUM_TOTAL_TARGET_TOKENS":
            counted_NBM = counted_NBM & (segments_BM > 0)
        if normalizer == "AVERAGE_PER_SEQUENCE":
            weights_BM = _sequence_weights(segments_BM)
        return jnp.maximum(jnp.sum(jnp.where(counted_NBM, weights_BM, 0.0), axis=(1, 2)), 1.0)
    if isinstance(normalizer, (int, float)):
        return jnp.full(runs, normalizer, jnp.float32)
    raise ValueError(
        f"loss_normalizing_factor {normalizer!r} is unknown; use None, a number, or one of "
        f"{', '.join(NORMALIZERS)}."
    )


def _own(runs_BM: Array, runs: int) -> jax.Array:
    return runs_BM == jnp.arange(runs, dtype=runs_BM.dtype)[:, None, None]


def _sequence_weights(segments_BM: Array) -> jax.Array:
    """One over the number of positions of the same segment, for each position."""
    same_BMM = segments_BM[:, :, None] == segments_BM[:, None, :]
    return 1.0 / jnp.maximum(jnp.sum(same_BMM, axis=-1, dtype=jnp.float32), 1.0)
