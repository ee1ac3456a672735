"""A bias on the encoder's input: the control with as many parameters as a prompt."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn

from spjax import validation
from spjax.injection import Soft
from spjax.methods.base import Method
from spjax.types import Tree


class InputBias(Method):
    """Vectors that are added to the embeddings of the text, instead of standing beside them.

    Vector i mod P is added to token i of each example, so one vector is a bias on every token, and
    as many vectors as the text has tokens are one for each position. No positions are added: a
    prompt with the same number of parameters owes any advantage over this to its own positions. The
    bias is initialized with 0, so training starts from the frozen model itself. The control is this
    project's own.

    Attributes:
      length: P.
    """

    parameter_counts: ClassVar[tuple[str, ...]] = ("P * D",)

    length: int = 100

    def __post_init__(self) -> None:
        """Checks the hyper-parameter."""
        validation.whole("InputBias.length", self.length, 1, validation.MOST_POSITIONS)
        super().__post_init__()

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, Soft]:
        """Returns the base as it is, and the vectors `[P, D]`."""
        width = base["token_embedder"]["embedding"].shape[1]
        bias_PD = self.param("bias", nn.initializers.zeros, (self.length, width))
        return base, Soft(added=bias_PD)
