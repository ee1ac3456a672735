"""Model sizes: one row for each of the five T5 1.1 models and the pocket ladder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from spjax import guesses

MOST_LAYERS = 1000  # of a stack


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Shape and arithmetic of a T5 model; field names follow T5X (`examples/t5/network.py`).

    Attributes:
      vocab_size: rows of the embedding table.
      emb_dim: width of the residual stream (D).
      num_heads: attention heads (H).
      head_dim: width of a head (K); `num_heads * head_dim` may differ from `emb_dim`.
      mlp_dim: width of the feed-forward layer (F).
      num_encoder_layers: encoder layers.
      num_decoder_layers: decoder layers.
      mlp_activations: `("gelu", "linear")` is T5 1.1's gated GELU, `("relu",)` is T5 1.0's.
      logits_via_embedding: tied output head, scaled by `1 / sqrt(emb_dim)` (T5 1.0).
      dropout_rate: used only where a call asks for dropout; masks are shared by all positions.
      dtype: of activations, "float32" or "bfloat16"; float16 overflows in T5 and is refused.
      attention: "xla", or "cudnn" for rows whose length is a multiple of `fused.MULTIPLE`; the
        relative bias then has no gradient.
      scan_layers: loop over stacked layers (fast to compile; slow on CPU) or unroll them.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    dropout_rate: float = 0.0
    dtype: str = "float32"
    attention: str = "xla"
    scan_layers: bool = False

    def __post_init__(self) -> None:
        """Checks what any model needs."""
        if problem := size_problem(dataclasses.asdict(self)):
            raise ValueError(f"there is no T5 of such a size: {problem}.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(
                f"dtype {self.dtype!r} is not supported: T5 overflows in float16. "
                "Use 'float32' or 'bfloat16'."
            )


# Far beyond any T5: what is larger was not meant, and would be counted up to before it fails.
_MOST = {
    "vocab_size": 1 << 24,
    "emb_dim": 1 << 17,
    "num_heads": 1 << 12,
    "head_dim": 1 << 14,
    "mlp_dim": 1 << 20,
    "num_encoder_layers": MOST_LAYERS,
    "num_decoder_layers": MOST_LAYERS,
}


def size_problem(sizes: Mapping[str, Any]) -> str:
    """Returns the reason why `T5Config`'s fields cannot have these sizes, or ""."""
    wrong = [
        f"{name}={sizes[name]!r} (from 1 to {most})"
        for name, most in _MOST.items()
        if not 1 <= sizes[name] <= most
    ]
    return "; ".join(wrong)


def _t5_1_1(emb_dim: int, heads: int, mlp_dim: int, layers: int) -> T5Config:
    return T5Config(32128, emb_dim, heads, 64, mlp_dim, layers, layers)


def _pocket(
    emb_dim: int, heads: int, head_dim: int, mlp_dim: int, layers: int, vocab_size: int = 1152
) -> T5Config:
    return T5Config(vocab_size, emb_dim, heads, head_dim, mlp_dim, layers, layers)


_graded = functools.partial(_pocket, vocab_size=512)


# Published sizes: Lester et al. 2021, Table 4, and `t5_1_1/{size}.gin` of T5X.
SIZES: dict[str, T5Config] = {
    "t5_1_1_small": _t5_1_1(512, 6, 1024, 8),
    "t5_1_1_base": _t5_1_1(768, 12, 2048, 12),
    "t5_1_1_large": _t5_1_1(1024, 16, 2816, 24),
    "t5_1_1_xl": _t5_1_1(2048, 32, 5120, 24),
    "t5_1_1_xxl": _t5_1_1(4096, 64, 10240, 24),
    "pocket_50k": _pocket(16, 2, 8, 32, 2),
    "pocket_200k": _pocket(48, 3, 16, 64, 2),
    "pocket_800k": _pocket(96, 4, 24, 160, 3),
    "pocket_3m": _pocket(160, 5, 32, 384, 4),
    "pocket_12m": _pocket(320, 10, 32, 768, 4),
    # Of the graded world: each 2.6 times the parameters of the one before, and 1.6 times as wide.
    "graded_50k": _graded(24, 2, 12, 48, 2),
    "graded_130k": _graded(40, 2, 20, 96, 2),
    "graded_350k": _graded(64, 4, 16, 128, 3),
    "graded_900k": _graded(96, 4, 24, 256, 3),
    "graded_2500k": _graded(160, 5, 32, 320, 4),
}


def get_size(name: str) -> T5Config:
    """Returns the configuration of a model size.

    Raises:
      ValueError: the name is unknown; the message lists those that are known.
    """
    if name not in SIZES:
        raise ValueError(
            f"unknown model size {name!r}; known sizes: {', '.join(SIZES)}."
            f"{guesses.did_you_mean(name, SIZES)}"
        )
    return SIZES[name]
