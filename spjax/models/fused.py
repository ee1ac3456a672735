"""Attention that keeps no logits: cuDNN's kernel, on devices where it agrees with ours."""

from __future__ import annotations

import functools
import logging

import jax
import jax.numpy as jnp

from spjax.types import Array

LEAST = 64  # queries, from which on a kernel without logits is used


def attention(query_BHQK: Array, keys_BHLK: Array, values_BHLK: Array, bias: Array) -> jax.Array:
    """Attention with T5's logits: not divided by sqrt(K), and a bias added.

    The bias has no gradient: cuDNN gives none for one that differs from row to row, as that of
    packed rows does. It is made once for all layers and passed in the dtype of the queries.

    Args:
      query_BHQK: queries, bfloat16.
      keys_BHLK: keys.
      values_BHLK: values.
      bias: broadcastable to `[B, H, Q, L]`, large and negative where attention is not allowed.

    Returns:
      `[B, H, Q, K]`.
    """
    shape = (*query_BHQK.shape[:3], keys_BHLK.shape[2])
    bias = jax.lax.stop_gradient(jnp.broadcast_to(bias, shape).astype(query_BHQK.dtype))
    heads_inside = (x.swapaxes(1, 2) for x in (query_BHQK, keys_BHLK, values_BHLK))
    mixed = jax.nn.dot_product_attention(
        *heads_inside, bias=bias, scale=1.0, implementation="cudnn"
    )
    return mixed.swapaxes(1, 2)


def plain(query_BHQK: Array, keys_BHLK: Array, values_BHLK: Array, bias: Array) -> jax.Array:
    """The same with logits, in XLA's own operations."""
    logits = jnp.einsum("bhqk,bhlk->bhql", query_BHQK, keys_BHLK)
    weights = jax.nn.softmax(logits.astype(jnp.float32) + bias).astype(query_BHQK.dtype)
    return jnp.einsum("bhql,bhlk->bhqk", weights, values_BHLK)


@functools.cache
def agrees(head_dim: int) -> bool:
    """Whether this device has the kernel, and it gives the outputs and gradients of `plain`.

    Tried once in a process, on rows of two segments. False on anything but a GPU.
    """
    if jax.default_backend() != "gpu":
        return False
    shape = (2, 2, 2 * LEAST, head_dim)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, ahead = (jax.random.normal(key, shape, jnp.bfloat16) / 4 for key in keys)
    segments = jnp.arange(shape[2]) < LEAST
    bias = jnp.where(segments[:, None] == segments[None, :], 0.0, -1e10)[None, None]

    def through(attend) -> list[jax.Array]:
        out, back = jax.vjp(lambda *qkv: attend(*qkv, bias), q, k, v)
        return [x.astype(jnp.float32) for x in (out, *back(ahead))]

    try:
        pairs = zip(jax.jit(through, static_argnums=0)(attention), through(plain))
        worst = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
    except Exception as error:  # of the compiler, the driver or cuDNN: whatever it is, go without
        logging.warning("cuDNN's attention is not used: %s", error)
        return False
    if not worst < 0.02:
        logging.warning("cuDNN's attention is not used: it is off by %.2g.", worst)
    return worst < 0.02
