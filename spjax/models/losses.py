"""Cross-entropy of target tokens with z-loss and label smoothing, as in T5X (`losses.py`)."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from spjax.types import Array


def token_losses(
    logits_BMV: Array, targets_BM: Array, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> jax.Array:
    """Returns the loss of every target token.

    With smoothing s the target distribution has 1 - s on the true token and s / (V - 1) elsewhere,
    and the entropy of that distribution is subtracted, so that a perfect model has loss 0.

    Args:
      logits_BMV: float32.
      targets_BM: token ids.
      z_loss: weight of log(Z)^2, which keeps the logits' normalizer near 1.
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
