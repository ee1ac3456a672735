"""What a run writes for a whole split, by greedy generation."""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable

import jax

from spjax import trees
from spjax.data import batching
from spjax.data.cache import CachedSplit
from spjax.data.vocabulary import Vocabulary
from spjax.methods.base import Method, apply_gang
from spjax.models import T5, T5Config
from spjax.models.decoding import greedy
from spjax.training import mesh
from spjax.types import Batch, Tree


@functools.lru_cache(maxsize=8)
def _decoder(config: T5Config, method: Method, max_length: int) -> Callable[..., jax.Array]:
    model = T5(config)

    def decode(trainable: Tree, base: Tree, batch: Batch) -> jax.Array:
        stacked = jax.tree.map(lambda x: x[None], trainable)
        weights, injection = apply_gang([method], [stacked], base)
        return greedy(model, weights, batch, injection, max_length)

    return jax.jit(decode)


def predict(
    config: T5Config,
    method: Method,
    trainable: Tree,
    base: Tree,
    words: Vocabulary,
    layout: batching.Layout,
    batch_size: int,
    limit: int,
    split: CachedSplit,
) -> list[str]:
    """The texts that the model writes for the examples of a split, each decoded once.

    Args:
      config: of the frozen model; its dropout is not used.
      method: the run's, with its initial values left out.
      trainable: parameters of one run (no run axis).
      base: the frozen weights.
      words: the vocabulary of the split.
      layout: shape of the rows.
      batch_size: examples decoded at a time.
      limit: most examples, from the start of the split; 0 for all.
      split: what to read.

    Returns:
      One text per example, in order.
    """
    decode = _decoder(dataclasses.replace(config, dropout_rate=0.0), method, layout.target_length)
    texts = []
    for batch, _, count in batching.eval_batches(
        split, layout, batch_size, limit=limit
    ):
        ids = trees.to_host(decode(trainable, base, mesh.of(base).put_batch(Batch(**batch))))
        texts += [words.decode(row) for row in ids[:count].tolist()]
    return texts

