"""Generation of an answer to each example of a split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from spjax import partitioning, trees
from spjax.data.batching import batching
from spjax.data.token_cache.cache import CachedSplit
from spjax.injection import Injection, padded
from spjax.methods.base import Method, apply_gang
from spjax.models import T5, T5Config
from spjax.models.decoding import beam_search, greedy
from spjax.types import Batch, Tree
from spjax.vocabularies.vocabulary import Vocabulary


@functools.lru_cache(maxsize=32)
def decoder(config: T5Config, room: int, num_beams: int) -> Any:
    """Returns the compiled function that writes up to `room` tokens for each row of a batch.

    num_beams: of T5X's beam search; 0 for greedy decoding.
    """
    model = T5(config)

    def decode(
        weights: Tree, injection: Injection | None, batch: Batch, limit: jax.Array
    ) -> jax.Array:
        inputs = (model, weights, batch, injection, room)
        if num_beams:
            return beam_search(*inputs, num_beams, limit=limit)[0][:, 0]
        return greedy(*inputs, limit)

    return jax.jit(decode)


@functools.lru_cache(maxsize=32)
def _softener(method: Method) -> Callable[..., Injection]:
    def soft(stacked: Tree, base: Tree) -> Injection:
        injection = apply_gang([method], [stacked], base)[1]
        assert injection is not None  # of every method that leaves the weights alone
        return padded(injection)

    return jax.jit(soft)


def answer_room(targets: int) -> int:
    """Returns a rounded length for the cache of keys and values; tasks share compiled programs."""
    return max(8, 1 << (targets - 1).bit_length())


def predict(
    config: T5Config,
    method: Method,
    trainable: Tree,
    base: Tree,
    vocabulary: Vocabulary,
    layout: batching.Layout,
    batch_size: int,
    num_beams: int,
    split: CachedSplit,
) -> list[str]:
    """Generates a text for each example of a split.

    Args:
      config: of the frozen model; its dropout is not used.
      method: the run's, with its initial values left out.
      trainable: parameters of one run (no run axis).
      base: the frozen weights.
      vocabulary: of the split.
      layout: shape of the rows.
      batch_size: examples decoded at a time.
      num_beams: of T5X's beam search; 0 for greedy decoding.
      split: what to read.

    Returns:
      One text per example, in order.
    """
    stacked = jax.tree.map(lambda x: x[None], trainable)
    weights, injection = base, None
    if method.changes_weights:
        weights, injection = apply_gang([method], [stacked], base)
    else:
        injection = _softener(method)(stacked, base)
    room = answer_room(layout.target_length)
    decode = decoder(dataclasses.replace(config, dropout_rate=0.0), room, num_beams)
    max_length, place = np.int32(layout.target_length), partitioning.of(base)
    batches = batching.eval_batches(
        split, layout, batch_size, positions=partitioning.positions_at_once()
    )
    # Simulated devices share the host's threads: programs that are under way together, each waiting
    # for its own parts to meet, can take the threads from one another until XLA gives up.
    in_turn = not place.is_single_device and jax.default_backend() == "cpu"
    written = []
    for batch, indices in batches:
        ids = decode(weights, injection, place.put_batch(Batch(**batch)), max_length)
        written.append((jax.block_until_ready(ids) if in_turn else ids, indices))
    texts: dict[int, str] = {}
    for ids, indices in written:
        rows = trees.to_host(ids)[: len(indices)].tolist()
        texts |= {i: vocabulary.decode(row) for i, row in zip(indices.tolist(), rows)}
    return [texts[i] for i in range(len(texts))]
