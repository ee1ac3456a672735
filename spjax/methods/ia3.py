"""IA3 (Liu et al. 2022): trainable scales on keys, values and the MLP's hidden layer."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from spjax import trees
from spjax.methods.base import Method
from spjax.types import Tree


class IA3(Method):
    """Learned vectors that scale keys and values of all attentions, and each MLP's activations.

    The vectors start at 1 (section 3.3 of the paper). They are multiplied into the kernels: the
    columns of keys and values, the rows of the MLP's output. In a gated MLP that is the same as
    scaling either factor.
    """

    changes_weights: ClassVar[bool] = True
    parameter_counts: ClassVar[tuple[str, ...]] = ("2 * H * K * (E + 2 * L) + F * (E + L)",)

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, None]:
        """Returns the scaled weights, and no soft tokens."""
        weights = trees.flatten(base)
        shapes = {name: shape for name, leaf in weights.items() if (shape := _shape(name, leaf))}
        scales = self.param(
            "scales", lambda _: trees.unflatten({k: jnp.ones(s) for k, s in shapes.items()})
        )
        for name, scale in trees.flatten(scales).items():
            over_rows = name.endswith("wo/kernel")
            kernel = weights[name].astype(jnp.float32)
            weights[name] = kernel * (scale[..., None] if over_rows else scale)
        return trees.unflatten(weights), None

    def collapse(self, trainable: Tree, base: Tree) -> dict[str, jax.Array]:
        """Returns the vector of each kernel under its name."""
        del base
        return {f"ia3/{name}": leaf for name, leaf in trees.flatten(trainable["scales"]).items()}


def _shape(name: str, kernel: jax.Array) -> tuple[int, ...] | None:
    """Returns the shape of a kernel's scales, None if it has none; layers may be on axis 1."""
    if name.endswith(("key/kernel", "value/kernel")):
        return kernel.shape[1:]
    return kernel.shape[:-1] if name.endswith("wo/kernel") else None
