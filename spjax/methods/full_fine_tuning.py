"""Full fine-tuning ("model tuning" in Lester et al. 2021): every weight is trained."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax

from spjax.methods.base import Method
from spjax.models import quantization
from spjax.types import Tree


class FullFineTuning(Method):
    """Trains a copy of the base; the base itself does not change."""

    changes_weights: ClassVar[bool] = True
    parameter_counts: ClassVar[tuple[str, ...]] = ("W",)

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, None]:
        """Returns the trained weights, and no prompt.

        Raises:
          ValueError: the base is in int8, which has no gradient.
        """
        if quantization.is_quantized(base):
            raise ValueError(
                "full fine-tuning trains the weights, and this base is in int8, which has no "
                "gradient. Read the weights as 'float32' or 'bfloat16', or tune a prompt."
            )
        return {
            name: self.param(name, lambda _, part=part: part) for name, part in base.items()
        }, None

    def collapse(self, trainable: Tree, base: Tree) -> dict[str, jax.Array]:
        """Returns nothing: a copy of the whole model is kept in the checkpoint only."""
        del trainable, base
        return {}
