"""Turning an encoding into token ids."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from spjax.models.t5 import T5
from spjax.types import Array, Batch, Injection, Tree

EOS = 1


def greedy(
    model: T5, weights: Tree, batch: Batch, injection: Injection | None, max_length: int
) -> jax.Array:
    """The most probable token at each position, with a cache, until every row has ended.

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      max_length: most tokens to write, EOS included.

    Returns:
      ids `[B, max_length]`, int32; 0 after EOS.
    """
    params = {"params": weights}
    encoded_BLD, valid_BL = model.apply(params, batch, injection, method=T5.encode)
    cross, cached = model.apply(params, encoded_BLD, max_length, method=T5.start_decoding)
    rows = encoded_BLD.shape[0]

    def unfinished(carry: Any) -> jax.Array:
        index, _, ended_B, _, _ = carry
        return (index < max_length) & ~jnp.all(ended_B)

    def one(carry: Any) -> Any:
        index, tokens_B, ended_B, written_BM, cached = carry
        logits_BV, cached = model.apply(
            params, tokens_B, index, cross, cached, valid_BL, method=T5.decode_step
        )
        tokens_B = jnp.where(ended_B, 0, jnp.argmax(logits_BV, axis=-1)).astype(jnp.int32)
        written_BM = jax.lax.dynamic_update_slice_in_dim(
            written_BM, tokens_B[:, None], index, axis=1
        )
        return index + 1, tokens_B, ended_B | (tokens_B == EOS), written_BM, cached

    start = (
        jnp.int32(0),
        jnp.zeros(rows, jnp.int32),
        ~jnp.any(valid_BL, axis=1),
        jnp.zeros((rows, max_length), jnp.int32),
        cached,
    )
    return jax.lax.while_loop(unfinished, one, start)[3]


def label_scores(
    model: T5,
    weights: Tree,
    batch: Batch,
    injection: Injection | None,
    labels_CM: Array,
) -> jax.Array:
    """Log-probability of each label as the whole target (rank classification).

    Args:
      model: the network.
      weights: its parameters.
      batch: rows of one segment each; targets are not looked at.
      injection: the soft tokens.
      labels_CM: token ids of the C labels, EOS included, padded with 0.

    Returns:
      scores `[B, C]`: sums over the tokens of a label.
    """
    params = {"params": weights}
    encoded_BLD, valid_BL = model.apply(params, batch, injection, method=T5.encode)

    def score(label_M: Array) -> jax.Array:
        targets_BM = jnp.broadcast_to(label_M, (encoded_BLD.shape[0], label_M.shape[0]))
        real_BM = (targets_BM > 0).astype(jnp.int32)
        asked = batch.replace(targets_BM=targets_BM, target_segments_BM=real_BM)
        logits = model.apply(params, encoded_BLD, valid_BL, asked, method=T5.decode)
        log_probabilities = jax.nn.log_softmax(logits)
        own = jnp.take_along_axis(log_probabilities, targets_BM[..., None], axis=-1)[..., 0]
        return jnp.sum(own * real_BM.astype(own.dtype), axis=-1)

    return jax.vmap(score, out_axes=1)(jnp.asarray(labels_CM, jnp.int32))
