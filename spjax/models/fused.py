"""Attention by cuDNN's kernel, which keeps no logits for the backward pass."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from spjax import platforms

KINDS = ("xla", "cudnn")
MULTIPLE = 128  # of queries and keys: other lengths are not sound with a mask in all of cuDNN


def attention(query_BHQK: Array, keys_BHLK: Array, values_BHLK: Array, bias: Array) -> jax.Array:
    """Computes attention with T5's logits: not divided by sqrt(K), and a bias added.

    The bias has no gradient. Its largest value in each row is taken off first, which changes no
    weights, so that rows that see nothing stay finite and the others lose little in bfloat16.

    Args:
      query_BHQK: queries, bfloat16.
      keys_BHLK: keys.
      values_BHLK: values.
      bias: float32, broadcastable to `[B, H, Q, L]`; large and negative where nothing is seen.

    Returns:
      `[B, H, Q, K]`.
    """
    shape = (*query_BHQK.shape[:3], keys_BHLK.shape[2])
    bias = jax.lax.stop_gradient(bias - bias.max(axis=-1, keepdims=True))
    bias = jnp.broadcast_to(bias.astype(query_BHQK.dtype), shape)
    query, keys, values = (x.swapaxes(1, 2) for x in (query_BHQK, keys_BHLK, values_BHLK))
    mixed = jax.nn.dot_product_attention(
        query, keys, values, bias=bias, scale=1.0, implementation="cudnn"
    )
    return mixed.swapaxes(1, 2)


def check(kind: str, heads: int, partitions: int) -> None:
    """Raises ValueError unless cuDNN attention works on this device and mesh.

    Args:
      kind: one of `KINDS`.
      heads: of the model.
      partitions: devices that share the heads.
    """
    if kind == "xla":
        return
    if platforms.current() != "gpu":
        raise ValueError(
            "Run.attention is 'cudnn', which needs an NVIDIA GPU, and JAX runs on "
            f"{platforms.current()}. Use 'xla'."
        )
    if heads % partitions:
        raise ValueError(
            f"Run.attention is 'cudnn', and Run.num_partitions ({partitions}) does not divide the "
            f"{heads} heads of the model. Use a divisor, or 'xla'."
        )
