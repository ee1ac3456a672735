"""LoRA (Hu et al. 2022): a trainable low-rank change of some kernels of a frozen model."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from spjax import trees, validation
from spjax.methods.base import Method
from spjax.types import Array, Tree

KERNELS = ("query", "key", "value", "out", "wi", "wi_0", "wi_1", "wo")
# The released code's initial values: uniform within 1 / sqrt(fan in).
_start_a = functools.partial(
    nn.initializers.variance_scaling, 1 / 3, "fan_in", "uniform", in_axis=0
)


class LoRA(Method):
    """Adds scale * A B to some kernels W, with A `[in, R]` random and B `[R, out]` 0 at the start.

    `scale` is `alpha / rank` (section 4.1), or `alpha / sqrt(rank)` for rsLoRA (Kalajdzievski
    2023). No dropout on the input of A, which the released code has as an option. The sum is
    formed in each step in float32; nothing is merged into the base.

    Each changed kernel has R times the sum of its width and height as parameters.

    Attributes:
      rank: R.
      alpha: of the scale.
      kernels: which are changed, in all layers: some of `KERNELS`.
      rslora: whether the scale falls with the root of the rank only.
    """

    changes_weights: ClassVar[bool] = True
    # With the default kernels.
    parameter_counts: ClassVar[tuple[str, ...]] = ("2 * R * (D + H * K) * (E + 2 * L)",)

    rank: int = 8
    alpha: float = 8.0
    kernels: Sequence[str] = ("query", "value")
    rslora: bool = False

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        validation.whole("LoRA.rank", self.rank, 1, validation.MOST_POSITIONS)
        validation.number("LoRA.alpha", self.alpha, 0, validation.MOST_RATE, above=True)
        self.kernels = (self.kernels,) if isinstance(self.kernels, str) else tuple(self.kernels)
        if not self.kernels or not set(self.kernels) <= set(KERNELS):
            raise ValueError(
                f"LoRA.kernels is {self.kernels!r}; use one or more of {', '.join(KERNELS)}."
            )
        super().__post_init__()

    @property
    def variant(self) -> str:
        """Returns the kernels unless they are the default ones, with "rslora" for its scale."""
        changed = () if self.kernels == LoRA.kernels else self.kernels
        return " ".join((*changed, *(("rslora",) if self.rslora else ())))

    @property
    def scale(self) -> float:
        """Returns the factor of A B."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, None]:
        """Returns the changed weights, and no soft tokens."""
        weights = trees.flatten(base)
        kernels = {name: leaf for name, leaf in weights.items() if _kernel_of(name) in self.kernels}
        factors = self.param("factors", lambda rng: trees.unflatten(self._start(rng, kernels)))
        factors = trees.flatten(factors)
        for name, kernel in kernels.items():
            a, b = factors[f"{name}/a"], factors[f"{name}/b"]
            change = self.scale * (a @ b if a.ndim == 2 else jnp.einsum("ilr,rlo->ilo", a, b))
            weights[name] = kernel.astype(jnp.float32) + change
        return trees.unflatten(weights), None

    def _start(self, rng: Array, kernels: dict[str, Array]) -> dict[str, jax.Array]:
        """Returns initial A and B of each kernel; layers stacked on axis 1 stay stacked."""
        factors = {}
        for name, kernel_rng in zip(kernels, jax.random.split(rng, len(kernels))):
            first, *layers, last = kernels[name].shape
            start = _start_a(batch_axis=range(1, 1 + len(layers)))  # no part of fan in
            factors[f"{name}/a"] = start(kernel_rng, (first, *layers, self.rank), jnp.float32)
            factors[f"{name}/b"] = jnp.zeros((self.rank, *layers, last), jnp.float32)
        return factors

    def collapse(self, trainable: Tree, base: Tree) -> dict[str, jax.Array]:
        """Returns A and B of each kernel under its name, the scale multiplied into B."""
        del base
        factors = trees.flatten(trainable["factors"])
        return {
            f"lora/{name}": leaf * self.scale if name.endswith("/b") else leaf
            for name, leaf in factors.items()
        }


def _kernel_of(name: str) -> str:
    *_, module, leaf = name.split("/")
    return module if leaf == "kernel" else ""
