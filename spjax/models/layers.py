"""Layers of T5: projections, attention with keys and values as arguments, MLP, biases, masks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from spjax.injection import PROMPT_SEES
from spjax.models import fused, quantization
from spjax.models.sizes import T5Config

NEGATIVE = -1e10
BUCKETS = 32  # of relative positions
_FAR = 128  # from this distance on, all positions share a bucket
KeysValues = tuple[jax.Array, jax.Array]

_attention_init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
_dense_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Dense(nn.Module):
    """A bias-free projection with a two-dimensional kernel, which may be in int8.

    Attributes:
      features: output width.
      dtype: of the product.
      kernel_init: initializer.
    """

    features: int
    dtype: str
    kernel_init: nn.initializers.Initializer = _dense_init

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        """Maps `[..., in]` to `[..., features]`."""
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return quantization.dot(x, kernel, self.dtype)


class RMSNorm(nn.Module):
    """T5's layer norm: no mean, no bias, epsilon 1e-6, computed in float32."""

    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> jax.Array:
        """Normalizes the last axis."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
        return (x * scale.astype(jnp.float32)).astype(self.dtype)


def dropout(module: nn.Module, rate: float, x: Array, active: bool) -> jax.Array:
    """Applies T5X's dropout: one mask for all positions (axis -2), from the `dropout` stream."""
    if not active or rate == 0.0:
        return x
    shape = x.shape[:-2] + (1, x.shape[-1])
    keep = jax.random.bernoulli(module.make_rng("dropout"), 1.0 - rate, shape)
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


class Attention(nn.Module):
    """Multi-head attention; logits are not divided by sqrt(head_dim), as in T5."""

    config: T5Config

    def setup(self) -> None:
        """Creates the four projections."""
        c = self.config
        inner = c.num_heads * c.head_dim
        # T5 folds 1 / sqrt(head_dim) into the initial queries instead of scaling the logits.
        query_init = nn.initializers.variance_scaling(1.0 / c.head_dim, "fan_in", "normal")
        self.query = Dense(inner, c.dtype, query_init)
        self.key = Dense(inner, c.dtype, _attention_init)
        self.value = Dense(inner, c.dtype, _attention_init)
        self.out = Dense(c.emb_dim, c.dtype, _attention_init)

    def _heads(self, x: jax.Array) -> jax.Array:
        # Heads before positions: XLA's CPU products are twice as fast on this layout.
        c = self.config
        return x.reshape(*x.shape[:-1], c.num_heads, c.head_dim).swapaxes(1, 2)

    def keys_values(self, x_BLD: Array) -> KeysValues:
        """Returns keys and values `[B, H, L, K]` of the positions attended to."""
        return self._heads(self.key(x_BLD)), self._heads(self.value(x_BLD))

    def sources(self, x_BLD: Array, queries: int) -> KeysValues | jax.Array:
        """Returns keys and values for a few queries, or the input of their projections.

        A product with a key is (q Wk') x for a position x. With fewer queries than `head_dim`, as
        in cross-attention to short targets, it takes less to project each query to every head's
        view of x than every position to its key and value.

        Args:
          x_BLD: positions that may be attended to.
          queries: how many attend in each row, at most.
        """
        c = self.config
        quantized = isinstance(self.key.variables["params"]["kernel"], quantization.Quantized)
        few = queries * (c.emb_dim - c.head_dim) < c.emb_dim * c.head_dim
        return x_BLD if few and not quantized else self.keys_values(x_BLD)

    def _kernel(self, projection: Dense) -> jax.Array:
        """Returns a projection's kernel `[D, H, K]`."""
        c = self.config
        kernel = jnp.asarray(projection.variables["params"]["kernel"], c.dtype)
        return kernel.reshape(-1, c.num_heads, c.head_dim)

    def _logits(self, query_BHQK: jax.Array, sources: KeysValues | jax.Array) -> jax.Array:
        if isinstance(sources, tuple):
            return jnp.einsum("bhqk,bhlk->bhql", query_BHQK, sources[0])
        folded = jnp.einsum("bhqk,dhk->bhqd", query_BHQK, self._kernel(self.key))
        return jnp.einsum("bhqd,bld->bhql", folded, sources)

    def _mixed(self, weights_BHQL: jax.Array, sources: KeysValues | jax.Array) -> jax.Array:
        if isinstance(sources, tuple):
            return jnp.einsum("bhql,bhlk->bhqk", weights_BHQL, sources[1])
        mixed = jnp.einsum("bhql,bld->bhqd", weights_BHQL, sources)
        return jnp.einsum("bhqd,dhk->bhqk", mixed, self._kernel(self.value))

    def __call__(
        self,
        x_BQD: Array,
        sources: KeysValues | Array,
        bias: Array,
        use_dropout: bool,
        prefix: KeysValues | None = None,
    ) -> jax.Array:
        """Attends from Q positions to L positions, and to R rows of a prefix.

        Args:
          x_BQD: queries' inputs.
          sources: from `keys_values` or `sources`.
          bias: added to the logits, broadcastable to `[B, H, Q, R + L]`.
          use_dropout: whether attention weights are dropped.
          prefix: further keys and values `[R, H, K]`, the same for all rows of the batch; `bias`
            says which row may see which. None for none (R = 0).

        Returns:
          `[B, Q, D]`.
        """
        query = self._heads(self.query(x_BQD))
        if self._fused(query, sources, use_dropout) and prefix is None:
            keys, values = sources
            return self._joined(fused.attention(query, keys, values, bias))
        logits = self._logits(query, sources)
        if prefix is not None:
            # Products of their own: the table is not copied for each row of the batch.
            more_keys, more_values = (jnp.asarray(x, query.dtype) for x in prefix)
            more = jnp.einsum("bhqk,rhk->bhqr", query, more_keys)
            # Not left to the bias: keys of another run, which diverges, may outweigh it.
            seen = bias[..., : more_keys.shape[0]] > NEGATIVE / 2
            more = jnp.where(seen, more, jnp.zeros((), more.dtype))
            logits = jnp.concatenate([more, logits], axis=-1)
        weights = jax.nn.softmax(logits.astype(jnp.float32) + bias).astype(query.dtype)
        weights = dropout(self, self.config.dropout_rate, weights, use_dropout)
        if prefix is None:
            mixed = self._mixed(weights, sources)
        else:
            prefix_weights, weights = jnp.split(weights, [more_keys.shape[0]], axis=-1)
            mixed = self._mixed(weights, sources)
            mixed = mixed + jnp.einsum("bhqr,rhk->bhqk", prefix_weights, more_values)
        return self._joined(mixed)

    def _joined(self, mixed_BHQK: jax.Array) -> jax.Array:
        mixed_BQHK = mixed_BHQK.swapaxes(1, 2)
        return self.out(mixed_BQHK.reshape(*mixed_BQHK.shape[:-2], -1))

    def _fused(self, query: jax.Array, sources: KeysValues | jax.Array, use_dropout: bool) -> bool:
        """Returns whether to use cuDNN: mostly for self-attention of whole rows."""
        c, count = self.config, query.shape[2]
        dropped = use_dropout and c.dropout_rate > 0
        if c.attention != "cudnn" or dropped or not isinstance(sources, tuple):
            return False
        return count % fused.MULTIPLE == 0 and sources[0].shape[2] % fused.MULTIPLE == 0


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "linear": lambda x: x,
}


class Mlp(nn.Module):
    """T5's feed-forward block, gated where there are two activations."""

    config: T5Config

    @nn.compact
    def __call__(self, x_BLD: Array, use_dropout: bool) -> jax.Array:
        """Maps `[B, L, D]` to `[B, L, D]`."""
        c = self.config
        names = ["wi"] if len(c.mlp_activations) == 1 else ["wi_0", "wi_1"]
        parts = [
            _ACTIVATIONS[kind](Dense(c.mlp_dim, c.dtype, name=name)(x_BLD))
            for name, kind in zip(names, c.mlp_activations, strict=True)
        ]
        hidden = dropout(self, c.dropout_rate, functools.reduce(jnp.multiply, parts), use_dropout)
        return Dense(c.emb_dim, c.dtype, name="wo")(hidden)


class Embedder(nn.Module):
    """The embedding table, shared by encoder and decoder (and by the head where tied)."""

    config: T5Config

    def setup(self) -> None:
        """Creates `embedding` `[V, D]`."""
        shape = (self.config.vocab_size, self.config.emb_dim)
        init = nn.initializers.normal(stddev=1.0)
        self.embedding = self.param("embedding", init, shape, jnp.float32)

    def __call__(self, tokens: Array) -> jax.Array:
        """Embeds ids of any shape; not scaled, as in T5."""
        return quantization.take(self.embedding, tokens, self.config.dtype)

    def attend(self, x: Array) -> jax.Array:
        """Returns logits by the transposed table."""
        return quantization.dot(x, quantization.transpose(self.embedding), "float32")


def relative_buckets(distances: np.ndarray, bidirectional: bool) -> np.ndarray:
    """Returns T5's buckets of relative positions (32 buckets, maximum distance 128).

    Args:
      distances: integer array, key position minus query position.
      bidirectional: encoder (both directions) or decoder (past only).

    Returns:
      Bucket numbers in [0, 32), same shape.
    """
    buckets, max_distance, result = BUCKETS, _FAR, np.zeros_like(distances)
    n = -distances
    if bidirectional:
        buckets //= 2
        result = result + (n < 0) * buckets
        n = np.abs(n)
    else:
        n = np.maximum(n, 0)
    exact = buckets // 2
    scaled = np.log(np.maximum(n, 1) / exact) / math.log(max_distance / exact)
    far = np.minimum(exact + (scaled * (buckets - exact)).astype(np.int64), buckets - 1)
    return result + np.where(n < exact, n, far)


class RelativeBias(nn.Module):
    """Attention bias by relative position, shared by all layers of a stack."""

    config: T5Config
    bidirectional: bool

    def setup(self) -> None:
        """Creates the table."""
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
        shape = (self.config.num_heads, 32)
        self.table_HZ = self.param("rel_embedding", init, shape, jnp.float32)

    def __call__(self, length: int) -> jax.Array:
        """Returns the bias `[H, length, length]` (query, key), float32."""
        positions = np.arange(length)
        return self._biases(positions[None, :] - positions[:, None])

    def before(self, distances: Array) -> jax.Array:
        """Returns the bias `[B, H, Q, R]` of keys `distances` `[B, Q, R]` before the queries."""
        biases_HT = self._biases(-np.arange(_FAR + 1))
        return jnp.take(biases_HT, jnp.minimum(distances, _FAR), axis=1).swapaxes(0, 1)

    def _biases(self, distances: np.ndarray) -> jax.Array:
        buckets = relative_buckets(distances, self.bidirectional)
        table_HZ = self.table_HZ.astype(jnp.float32)
        return jnp.take(table_HZ, jnp.asarray(buckets, jnp.int32), axis=1)


def mask_bias(allowed: Array) -> jax.Array:
    """Returns 0 where attention is allowed and -1e10 elsewhere, with an axis for the heads."""
    return jnp.where(allowed, 0.0, NEGATIVE)[:, None].astype(jnp.float32)


def places_in_segments(segments_BL: Array) -> jax.Array:
    """Returns each position's distance from its segment's first, int32 `[B, L]`."""
    same_BLL = segments_BL[:, :, None] == segments_BL[:, None, :]
    places_L = jnp.arange(segments_BL.shape[1], dtype=jnp.int32)
    return places_L - jnp.argmax(same_BLL, axis=-1).astype(jnp.int32)


def seen_by_slots(slots_BL: Array, sees_BL2: Array) -> jax.Array:
    """Returns the attention mask of slots that see only a part of the stream.

    The choices are those of google-research/prompt-tuning (`extended/masks.py`); text sees all.

    Args:
      slots_BL: -1 where the position is text.
      sees_BL2: what slots of each position's run see, as `Injection.sees_N2` says it.

    Returns:
      bool `[B, L, L]` (query, key).
    """
    is_slot_BL = slots_BL >= 0
    places_L = jnp.arange(slots_BL.shape[1])
    rule_BL1 = sees_BL2[..., 1:]
    slot_to_slot = jnp.where(
        rule_BL1 == PROMPT_SEES.index("before"),
        places_L[None, :] <= places_L[:, None],
        (rule_BL1 == PROMPT_SEES.index("all")) | (places_L[None, :] == places_L[:, None]),
    )
    by_slot = jnp.where(is_slot_BL[:, None, :], slot_to_slot, sees_BL2[..., :1] > 0)
    return by_slot | ~is_slot_BL[:, :, None]
