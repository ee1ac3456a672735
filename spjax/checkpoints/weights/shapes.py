"""The model configuration of a checkpoint, derived from names and shapes of its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spjax.checkpoints.weights import lazy
from spjax.checkpoints.weights.stored_array import StoredArray
from spjax.models import T5Config
from spjax.models.layers import BUCKETS
from spjax.models.sizes import size_problem
from spjax.models.t5 import EMBEDDING

_TABLE = "encoder/relpos_bias/rel_embedding"
_QUERY = "encoder/layers_0/attention/query/kernel"
_WO = "encoder/layers_0/mlp/wo/kernel"


def config(leaves: Mapping[str, StoredArray], source: str) -> T5Config:
    """Returns the configuration of a T5 whose arrays have T5X's names.

    Two projections into the feed-forward layer mean T5 1.1's gated GELU, one T5 1.0's ReLU, and no
    separate matrix for the logits the tied and scaled head of T5 1.0. These rules fit all published
    T5s.

    Args:
      leaves: stored arrays, layers scanned or unrolled.
      source: where they are, for messages.

    Raises:
      ValueError: an array is missing without which the shape cannot be determined.
    """
    unrolled = lazy.unroll(leaves)
    needed = (EMBEDDING, _TABLE, _QUERY, _WO)
    if lost := [name for name in needed if len(getattr(unrolled.get(name), "shape", ())) != 2]:
        raise ValueError(
            f"cannot determine the shape of the model in {source}: it has no matrix "
            f"{', '.join(lost)}. Name the model's size instead of 'auto', if it is a T5."
        )
    vocab_size, emb_dim = unrolled[EMBEDDING].shape
    num_heads, buckets = unrolled[_TABLE].shape
    if buckets != BUCKETS:
        raise ValueError(
            f"the model in {source} has {buckets} buckets of relative positions ({_TABLE}), and "
            f"spjax computes with {BUCKETS}, as every published T5 does. Use another checkpoint."
        )
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "emb_dim": emb_dim,
        "num_heads": num_heads,
        "head_dim": unrolled[_QUERY].shape[1] // max(1, num_heads),
        "mlp_dim": unrolled[_WO].shape[0],
        "num_encoder_layers": _count(unrolled, "encoder"),
        "num_decoder_layers": _count(unrolled, "decoder"),
    }
    if problem := size_problem(sizes):
        raise ValueError(f"the model in {source} is no T5: {problem}. Check the checkpoint.")
    return T5Config(
        **sizes,
        mlp_activations=("relu",) if _is_plain(unrolled) else ("gelu", "linear"),
        logits_via_embedding="decoder/logits_dense/kernel" not in unrolled,
    )


def _count(leaves: Mapping[str, StoredArray], stack: str) -> int:
    return len({name.split("/")[1] for name in leaves if name.startswith(f"{stack}/layers_")})


def _is_plain(leaves: Mapping[str, StoredArray]) -> bool:
    return _WO.replace("/wo/", "/wi/") in leaves
