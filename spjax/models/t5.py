"""T5 as an encoder over a stream of text and soft tokens, and a decoder over the encoding.

Architecture: Raffel et al. 2020 with the changes of T5 1.1; parameter names and shapes are those
of T5X (`t5x/examples/t5/network.py`). Frozen weights and soft prompts are arguments of a call: the
model holds no prompt parameters of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from spjax.injection import Injection, bias_rows, prompt_rows
from spjax.models.layers import (
    NEGATIVE,
    Attention,
    Dense,
    Embedder,
    KeysValues,
    Mlp,
    RelativeBias,
    RMSNorm,
    dropout,
    mask_bias,
    places_in_segments,
    seen_by_slots,
)
from spjax.models.sizes import T5Config
from spjax.trees import stack_layers
from spjax.types import Batch, per_segment

Constrain = Callable[..., jax.Array]
Prefixes = tuple[KeysValues | None, KeysValues | None]  # of self- and cross-attention

EMBEDDING = "token_embedder/embedding"  # T5X's name of the table that all tokens are looked up in


class EncoderLayer(nn.Module):
    """Self-attention and MLP, each after a norm and added to the stream."""

    config: T5Config

    @nn.compact
    def __call__(
        self, x_BLD: Array, bias: Array, prefix: KeysValues | None, use_dropout: bool
    ) -> tuple[jax.Array, None]:
        """Returns the new stream (and nothing, for `scan`)."""
        c = self.config
        y = RMSNorm(c.dtype, name="pre_attention_layer_norm")(x_BLD)
        attention = Attention(c, name="attention")
        y = attention(y, attention.keys_values(y), bias, use_dropout, prefix)
        x_BLD = x_BLD + dropout(self, c.dropout_rate, y, use_dropout)
        y = RMSNorm(c.dtype, name="pre_mlp_layer_norm")(x_BLD)
        y = Mlp(c, name="mlp")(y, use_dropout)
        return x_BLD + dropout(self, c.dropout_rate, y, use_dropout), None


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and MLP."""

    config: T5Config

    def setup(self) -> None:
        """Creates the parts under T5X's names."""
        c = self.config
        self.pre_self_attention_layer_norm = RMSNorm(c.dtype)
        self.self_attention = Attention(c)
        self.pre_cross_attention_layer_norm = RMSNorm(c.dtype)
        self.encoder_decoder_attention = Attention(c)
        self.pre_mlp_layer_norm = RMSNorm(c.dtype)
        self.mlp = Mlp(c)

    def cross_keys_values(self, carry: Any, encoded_BLD: Array) -> tuple[Any, KeysValues]:
        """Returns keys and values of the encoding, computed once for decoding."""
        return carry, self.encoder_decoder_attention.keys_values(encoded_BLD)

    def cross_sources(self, encoded_BLD: Array, queries: int) -> KeysValues | jax.Array:
        """Returns sources for so few target positions; see `Attention.sources`."""
        if self.is_initializing():
            return self.encoder_decoder_attention.keys_values(encoded_BLD)
        return self.encoder_decoder_attention.sources(encoded_BLD, queries)

    def _block(
        self,
        x_BMD: Array,
        normed_BMD: Array,
        self_kv: KeysValues,
        cross: KeysValues | Array,
        biases: tuple[Array, Array],
        prefixes: Prefixes,
        use_dropout: bool,
    ) -> jax.Array:
        rate = self.config.dropout_rate
        y = self.self_attention(normed_BMD, self_kv, biases[0], use_dropout, prefixes[0])
        x_BMD = x_BMD + dropout(self, rate, y, use_dropout)
        y = self.pre_cross_attention_layer_norm(x_BMD)
        y = self.encoder_decoder_attention(y, cross, biases[1], use_dropout, prefixes[1])
        x_BMD = x_BMD + dropout(self, rate, y, use_dropout)
        y = self.mlp(self.pre_mlp_layer_norm(x_BMD), use_dropout)
        return x_BMD + dropout(self, rate, y, use_dropout)

    def __call__(
        self,
        x_BMD: Array,
        encoded_BLD: Array,
        biases: tuple[Array, Array],
        prefixes: Prefixes,
        use_dropout: bool,
    ) -> tuple[jax.Array, None]:
        """Computes all target positions at once (training)."""
        y = self.pre_self_attention_layer_norm(x_BMD)
        self_kv = self.self_attention.keys_values(y)
        cross = self.cross_sources(encoded_BLD, x_BMD.shape[1])
        return self._block(x_BMD, y, self_kv, cross, biases, prefixes, use_dropout), None

    def step(
        self,
        x_B1D: Array,
        cross: KeysValues | Array,
        cached: KeysValues,
        index: Array,
        biases: tuple[Array, Array],
        prefixes: Prefixes,
    ) -> tuple[jax.Array, KeysValues]:
        """Computes one position, with the keys and values `[B, H, M, K]` before it."""
        y = self.pre_self_attention_layer_norm(x_B1D)
        new = self.self_attention.keys_values(y)
        cached = jax.tree.map(
            lambda old, one: jax.lax.dynamic_update_slice_in_dim(old, one, index, axis=2),
            cached,
            new,
        )
        return self._block(x_B1D, y, cached, cross, biases, prefixes, False), cached


class Stack(nn.Module):
    """Common part of encoder and decoder: the loop over layers, bias table, final norm.

    Attributes:
      config: model configuration.
      decoder: whether this is the decoder.
      remat: as in `T5`.
      constrain: as in `T5`.
    """

    config: T5Config
    decoder: bool
    remat: bool = False
    constrain: Constrain | None = None

    def setup(self) -> None:
        """Creates the layers, unrolled under `layers_{i}` or stacked under `layers`."""
        c = self.config
        count = c.num_decoder_layers if self.decoder else c.num_encoder_layers
        kind: type[nn.Module] = DecoderLayer if self.decoder else EncoderLayer
        layer: Callable[..., Any] = _rematerialised(kind) if self.remat else kind
        self.relpos_bias = RelativeBias(c, bidirectional=not self.decoder)
        if c.scan_layers:
            self.layers = _scanned(layer, count, self.decoder)(c)
        else:
            self.blocks = [layer(c, name=f"layers_{i}") for i in range(count)]
        norm = RMSNorm(c.dtype, name="decoder_norm" if self.decoder else "encoder_norm")
        self.final_norm = norm
        if self.decoder and not c.logits_via_embedding:
            self.logits_dense = Dense(c.vocab_size, "float32")

    def run(self, x_BLD: Array, *shared: Any, prefix: Any, use_dropout: bool) -> jax.Array:
        """Applies dropout, all layers (layer i with row i of `prefix`), final norm, dropout."""
        rate = self.config.dropout_rate
        x_BLD = self._placed(dropout(self, rate, x_BLD, use_dropout))
        if self.config.scan_layers:
            x_BLD, _ = self.layers(x_BLD, *shared, prefix, use_dropout)
        else:
            for i, block in enumerate(self.blocks):
                x_BLD = self._placed(block(x_BLD, *shared, _layer(prefix, i), use_dropout)[0])
        return dropout(self, rate, self.final_norm(x_BLD), use_dropout)

    def _placed(self, x_BLD: jax.Array) -> jax.Array:
        return self.constrain(x_BLD, "batch", "length", "embed") if self.constrain else x_BLD

    def cross_sources(self, encoded_BLD: Array, queries: int) -> Any:
        """Returns every layer's cross-attention sources: a list, or stacked if scanned."""
        if self.config.scan_layers:
            return self.layers.cross_keys_values(None, encoded_BLD)[1]
        return [block.cross_sources(encoded_BLD, queries) for block in self.blocks]

    def step(
        self,
        x_B1D: Array,
        cross: Any,
        cached: Any,
        index: Array,
        biases: tuple[Array, Array],
        prefix: Any,
    ) -> tuple[jax.Array, Any]:
        """Runs one position through all layers; returns the normed stream and new cache."""
        if self.config.scan_layers:
            x_B1D, cached = self.layers.step(x_B1D, cross, cached, index, biases, prefix)
        else:
            new = []
            for i, (block, sources, kv) in enumerate(zip(self.blocks, cross, cached, strict=True)):
                x_B1D, kv = block.step(x_B1D, sources, kv, index, biases, _layer(prefix, i))
                new.append(kv)
            cached = new
        return self.final_norm(x_B1D), cached

    def head(self, y_BMD: Array) -> jax.Array:
        """Applies the untied output head, in float32."""
        return self.logits_dense(y_BMD)


def _layer(prefix: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], prefix)


def _tables(injection: Injection | None, site: str) -> tuple[Any, Any] | None:
    """Returns every layer's keys and values of a site's prefixes (`spjax.injection.SITES`)."""
    prefix = injection.prefix.get(site) if injection is not None else None
    return None if prefix is None else (prefix.keys, prefix.values)


def _rematerialised(layer: type[nn.Module]) -> Any:
    """Returns `layer` with only its inputs kept for the backward pass."""
    last = 4 if layer is EncoderLayer else 5  # `use_dropout`, counted from `self`
    return nn.remat(layer, static_argnums=(last,), methods=["__call__"])


def _scanned(layer: Any, count: int, decoder: bool) -> Any:
    """Returns `layer` looped over parameters stacked on axis 1, as in T5X's scanned T5."""
    broadcast, rngs = nn.broadcast, {"params": True, "dropout": True}
    shared = (broadcast,) * (2 if decoder else 1)
    calls = {"__call__": (*shared, 0, broadcast)}
    if decoder:
        calls["cross_keys_values"] = (broadcast,)
        calls["step"] = (0, 0, broadcast, broadcast, 0)
    methods = {
        name: {
            "variable_axes": {"params": 1},
            "split_rngs": rngs,
            "in_axes": axes,
            "length": count,
        }
        for name, axes in calls.items()
    }
    return nn.scan(layer, methods=methods)


class T5(nn.Module):
    """The whole model; call its methods through `T5(config).apply({"params": weights}, ...)`.

    Attributes:
      config: model configuration.
      remat: whether the backward pass recomputes each layer instead of keeping its activations.
      constrain: `constrain(x, *logical_axes)` constrains the sharding of the residual stream.
    """

    config: T5Config
    remat: bool = False
    constrain: Constrain | None = None

    @nn.nowrap
    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls a method with these parameters; a loop over layers stacks those that are not."""
        if self.config.scan_layers:
            variables = {**variables, "params": stack_layers(variables["params"])}
        return super().apply(variables, *args, **kwargs)

    def setup(self) -> None:
        """Creates the embedding and the two stacks."""
        c = self.config
        self.token_embedder = Embedder(c)
        self.encoder = Stack(c, False, self.remat, self.constrain)
        self.decoder = Stack(c, True, self.remat, self.constrain)

    def encode(
        self, batch: Batch, injection: Injection | None = None, use_dropout: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Encodes the stream of text and soft tokens.

        Args:
          batch: inputs, slots and segments; targets are not looked at.
          injection: the soft tokens; None when no slot is used.
          use_dropout: needs a `dropout` rng.

        Returns:
          encoded_BLD and valid_BL (bool, False at padding).
        """
        segments = jnp.asarray(batch.input_segments_BL)
        x_BLD = self._embedded(batch, injection)
        valid_BL = segments > 0
        allowed = (segments[:, :, None] == segments[:, None, :]) & valid_BL[:, None, :]
        if injection is not None and injection.sees_N2 is not None:
            sees_BL2 = jnp.asarray(injection.sees_N2)[per_segment(batch.runs_BG, segments)]
            allowed = allowed & seen_by_slots(jnp.asarray(batch.slots_BL), sees_BL2)
        bias = mask_bias(allowed) + self.encoder.relpos_bias(segments.shape[1])[None]
        bias = self._with_prefix(bias, "encoder", injection, batch.runs_BG, segments)
        prefix = _tables(injection, "encoder")
        return self.encoder.run(x_BLD, bias, prefix=prefix, use_dropout=use_dropout), valid_BL

    def _embedded(self, batch: Batch, injection: Injection | None) -> jax.Array:
        """Returns x_BLD: text with soft tokens in their slots and input biases added."""
        x_BLD = self.token_embedder(jnp.asarray(batch.inputs_BL))
        if injection is not None and injection.prompt_RD is not None:
            rows_BL = prompt_rows(batch, injection)
            soft_BLD = jnp.take(injection.prompt_RD, jnp.maximum(rows_BL, 0), axis=0)
            x_BLD = jnp.where((rows_BL >= 0)[..., None], soft_BLD.astype(x_BLD.dtype), x_BLD)
        if injection is not None and injection.bias_RD is not None:
            places_BL = places_in_segments(jnp.asarray(batch.input_segments_BL))
            rows_BL = bias_rows(batch, places_BL, injection)
            added_BLD = jnp.take(injection.bias_RD, jnp.maximum(rows_BL, 0), axis=0)
            added_BLD = added_BLD.astype(x_BLD.dtype)
            x_BLD = jnp.where((rows_BL >= 0)[..., None], x_BLD + added_BLD, x_BLD)
        return x_BLD

    def _with_prefix(
        self,
        bias: Array,
        site: str,
        injection: Injection | None,
        runs_BG: Any,
        segments: Array,
        first: Array | int = 0,
    ) -> Array:
        """Puts the bias of a prefix before `bias` of L keys, `[B, H, Q, R + L]`.

        Args:
          bias: broadcastable to `[B, H, Q, L]`.
          site: one of `spjax.injection.SITES`; cross-attention knows no positions.
          injection: the soft tokens.
          runs_BG: run of each segment.
          segments: of the Q queries.
          first: added to the place that each query has in its segment.
        """
        if injection is None or site not in injection.prefix:
            return bias
        prefix, runs_BQ = injection.prefix[site], per_segment(runs_BG, segments)
        more = mask_bias(runs_BQ[..., None] == jnp.asarray(prefix.runs_R))
        if site != "cross":
            stack = self.encoder if site == "encoder" else self.decoder
            places_BQ = places_in_segments(segments) + first
            more = more + stack.relpos_bias.before(places_BQ[..., None] + prefix.before_R)
        shape = jnp.broadcast_shapes(bias.shape[:3], more.shape[:3])
        parts = [jnp.broadcast_to(x, (*shape, x.shape[3])) for x in (more, bias)]
        return jnp.concatenate(parts, axis=-1)

    def decode(
        self,
        encoded_BLD: Array,
        valid_BL: Array,
        batch: Batch,
        injection: Injection | None = None,
        use_dropout: bool = False,
    ) -> jax.Array:
        """Returns logits_BMV of every target token, float32; arguments as `decode_hidden`."""
        return self._logits(
            self.decode_hidden(encoded_BLD, valid_BL, batch, injection, use_dropout)
        )

    def decode_hidden(
        self,
        encoded_BLD: Array,
        valid_BL: Array,
        batch: Batch,
        injection: Injection | None = None,
        use_dropout: bool = False,
    ) -> jax.Array:
        """Returns the last hidden layer at each target position given the tokens before it.

        Args:
          encoded_BLD: from `encode`.
          valid_BL: from `encode`.
          batch: targets and segments; input tokens are not looked at.
          injection: the soft tokens, of which the prefixes count here.
          use_dropout: needs a `dropout` rng.

        Returns:
          y_BMD, normed, which the output head reads.
        """
        segments = jnp.asarray(batch.target_segments_BM)
        y_BMD = self.token_embedder(shift_right(jnp.asarray(batch.targets_BM), segments))
        causal = jnp.tril(jnp.ones((segments.shape[1],) * 2, bool))
        same = (segments[:, :, None] == segments[:, None, :]) & causal
        self_bias = mask_bias(same) + self.decoder.relpos_bias(segments.shape[1])[None]
        sources = jnp.asarray(batch.input_segments_BL)
        cross = (segments[:, :, None] == sources[:, None, :]) & valid_BL[:, None, :]
        of = (injection, batch.runs_BG, segments)
        biases = (
            self._with_prefix(self_bias, "decoder", *of),
            self._with_prefix(mask_bias(cross), "cross", *of),
        )
        prefix = (_tables(injection, "decoder"), _tables(injection, "cross"))
        return self.decoder.run(y_BMD, encoded_BLD, biases, prefix=prefix, use_dropout=use_dropout)

    def _logits(self, y_BMD: Array) -> jax.Array:
        if self.config.logits_via_embedding:
            scaled = y_BMD.astype(jnp.float32) * self.config.emb_dim**-0.5
            return self.token_embedder.attend(scaled)
        return self.decoder.head(y_BMD)

    def start_decoding(self, encoded_BLD: Array, max_length: int) -> tuple[Any, Any]:
        """Returns cross-attention sources, and an empty cache for `max_length` positions."""
        c = self.config
        shape: tuple[int, ...] = (encoded_BLD.shape[0], c.num_heads, max_length, c.head_dim)
        if c.scan_layers:
            shape = (c.num_decoder_layers, *shape)
        empty = (jnp.zeros(shape, c.dtype), jnp.zeros(shape, c.dtype))
        cached = empty if c.scan_layers else [empty] * c.num_decoder_layers
        return self.decoder.cross_sources(encoded_BLD, max_length), cached

    def decode_step(
        self,
        tokens_B: Array,
        index: Array,
        cross: Any,
        cached: Any,
        valid_BL: Array,
        injection: Injection | None = None,
        runs_B1: Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Returns logits at position `index` given the token before it and the cache.

        Args:
          tokens_B: the tokens before (0 at the first position).
          index: scalar int32 position, from 0.
          cross: from `start_decoding`.
          cached: from `start_decoding` or the step before.
          valid_BL: which input positions may be attended to.
          injection: the soft tokens, of which the prefixes count here.
          runs_B1: run of each row; needed where there are prefixes.

        Returns:
          logits_BV and the new cache.
        """
        length = jax.tree.leaves(cached)[0].shape[-2]
        bias_HMM = self.decoder.relpos_bias(length)
        row_H1M = jax.lax.dynamic_slice_in_dim(bias_HMM, index, 1, axis=1)
        past = jnp.where(jnp.arange(length) <= index, 0.0, NEGATIVE)
        of = (injection, runs_B1, jnp.ones((len(tokens_B), 1), jnp.int32), index)
        biases = (
            self._with_prefix(row_H1M[None] + past, "decoder", *of),
            self._with_prefix(mask_bias(valid_BL[:, None, :]), "cross", *of),
        )
        prefix = (_tables(injection, "decoder"), _tables(injection, "cross"))
        x_B1D = self.token_embedder(tokens_B[:, None])
        y_B1D, cached = self.decoder.step(x_B1D, cross, cached, index, biases, prefix)
        return self._logits(y_B1D)[:, 0], cached

    def __call__(
        self, batch: Batch, injection: Injection | None = None, use_dropout: bool = False
    ) -> jax.Array:
        """Returns teacher-forced logits_BMV, float32."""
        return self.with_hidden(batch, injection, use_dropout)[0]

    def with_hidden(
        self, batch: Batch, injection: Injection | None = None, use_dropout: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """Returns teacher-forced logits_BMV, float32, and the hidden layer y_BMD below."""
        encoded_BLD, valid_BL = self.encode(batch, injection, use_dropout)
        y_BMD = self.decode_hidden(encoded_BLD, valid_BL, batch, injection, use_dropout)
        return self._logits(y_BMD), y_BMD


def shift_right(targets_BM: Array, segments_BM: Array) -> jax.Array:
    """Returns decoder inputs: targets moved right by one, 0 at the start of every segment."""
    moved = jnp.pad(targets_BM[:, :-1], ((0, 0), (1, 0)))
    same = segments_BM == jnp.pad(segments_BM[:, :-1], ((0, 0), (1, 0)))
    return jnp.where(same, moved, 0)


def init_weights(config: T5Config, rng: Array) -> Any:
    """Draws random weights with T5's initial scales.

    Args:
      config: model configuration.
      rng: a JAX key.

    Returns:
      The parameter tree, float32, under T5X's names.
    """
    return T5(config).init(rng, empty_batch())["params"]


def weight_shapes(config: T5Config) -> Any:
    """Returns names and shapes of the model's parameters, without allocating them."""
    return jax.eval_shape(lambda: init_weights(config, jax.random.key(0)))


def empty_batch(rows: int = 1, input_length: int = 2, target_length: int = 2) -> Batch:
    """Returns a batch of padding, for shapes."""
    inputs = jnp.zeros((rows, input_length), jnp.int32)
    targets = jnp.zeros((rows, target_length), jnp.int32)
    one = jnp.zeros((rows, 1), jnp.int32)
    return Batch(inputs, inputs - 1, inputs, targets, targets, one, one)
