"""Prefix tuning (Li & Liang 2021): trainable keys and values in every attention layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from spjax import validation
from spjax.injection import SITES, Soft
from spjax.methods.base import Method
from spjax.types import Tree

_MODULES = dict(zip(SITES, ("attention", "self_attention", "encoder_decoder_attention")))


class PrefixTuning(Method):
    """P keys and values for each layer of encoder, decoder and cross-attention.

    The three sites have parameters of their own (section 4.2 of the paper and its released code,
    `seq2seq/prefixTuning.py`). With `hidden` > 0 keys and values of a site come from P seed rows
    through an MLP with tanh (section 4.3), which is dropped after training; with 0 they are
    parameters themselves. Heads have the model's own size, also where H * K is not D.

    T5 has biases by relative position, the paper's BART has not: a prefix stands before the first
    position of the text, as if the text had been moved by P, so distances within the text stay as
    they are (so does T-Few's code). Departures from the released code: no dropout on the prefix,
    and direct parameters start from a narrow normal distribution.

    Attributes:
      length: P.
      hidden: width of the MLP, 0 for none.
      sites: some of "encoder", "decoder" and "cross".
      scale: standard deviation that direct parameters start with.
    """

    # Without and with an MLP, at all three sites.
    parameter_counts: ClassVar[tuple[str, ...]] = (
        "2 * P * H * K * (E + 2 * L)",
        "3 * (P * D + (D + 1) * M) + (M + 1) * 2 * H * K * (E + 2 * L)",
    )

    length: int = 100
    hidden: int = 512
    sites: Sequence[str] = SITES
    scale: float = 0.02

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        for name, least in (("length", 1), ("hidden", 0)):
            most = validation.MOST_POSITIONS
            validation.whole(f"PrefixTuning.{name}", getattr(self, name), least, most)
        validation.number("PrefixTuning.scale", self.scale, 0, validation.MOST_RATE, above=True)
        self.sites = (self.sites,) if isinstance(self.sites, str) else tuple(self.sites)
        if not self.sites or not set(self.sites) <= set(SITES):
            raise ValueError(
                f"PrefixTuning.sites is {self.sites!r}; use one or more of {', '.join(SITES)}."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, Soft]:
        """Returns the base, and keys and values `[layers, P, H, K]` of each site."""
        width = base["token_embedder"]["embedding"].shape[1]
        return base, Soft(prefix={site: self._pair(base, site, width) for site in self.sites})

    def _pair(self, base: Tree, site: str, width: int) -> tuple[jax.Array, jax.Array]:
        layers, heads, size = _shape(base, site)
        if not self.hidden:
            shape = (2, layers, self.length, heads, size)
            both = self.param(site, nn.initializers.normal(self.scale), shape)
            return both[0], both[1]
        seed_PD = self.param(f"{site}_seed", nn.initializers.normal(1.0), (self.length, width))
        hidden_PM = jnp.tanh(nn.Dense(self.hidden, name=f"{site}_in")(seed_PD))
        flat = nn.Dense(layers * 2 * heads * size, name=f"{site}_out")(hidden_PM)
        both = jnp.moveaxis(flat.reshape(self.length, layers, 2, heads, size), (2, 1), (0, 1))
        return both[0], both[1]


def _shape(base: Tree, site: str) -> tuple[int, int, int]:
    """Returns layers, heads and head size at one site of a model, stacked or not."""
    stack = base["encoder" if site == "encoder" else "decoder"]
    heads = stack["relpos_bias"]["rel_embedding"].shape[0]
    layer = stack["layers"] if "layers" in stack else stack["layers_0"]
    kernel = layer[_MODULES[site]]["key"]["kernel"]
    unrolled = sum(name.startswith("layers_") for name in stack)
    return unrolled or kernel.shape[1], heads, kernel.shape[-1] // heads
