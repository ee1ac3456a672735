"""P-tuning (Liu et al. 2021): a small network produces soft tokens anywhere in the text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import flax.linen as nn

from spjax import validation
from spjax.injection import Soft
from spjax.methods.base import Method
from spjax.types import Tree

ENCODERS = ("lstm", "mlp")


class PTuning(Method):
    """P seed vectors through an LSTM or an MLP; after training only its output is kept.

    The prompt encoder is the paper's (section 3.2): a bidirectional LSTM of two layers and an MLP
    with ReLU, or an MLP alone. Widths are those of Hugging Face PEFT: the LSTM has `hidden` units
    in each direction and its head is 2 M - 2 M - D, the MLP is M - M - D. Neither has dropout, and
    a gate of the LSTM has one bias where PyTorch adds two. The model stays frozen, which the
    paper's own experiments on SuperGLUE do not always do.

    Attributes:
      length: P, soft tokens in front of the text; not used with a template.
      template: slots among fields and words, as in `spjax.data.batching.slots`:
        "{p:3} {premise} ? {p:2} answer: {p:1} {hypothesis}"; "" for in front of the text.
      encoder: "lstm" or "mlp".
      hidden: M.
    """

    # With the LSTM and with the MLP.
    parameter_counts: ClassVar[tuple[str, ...]] = (
        "P * D + 8 * M * (D + M + 1) + 8 * M * (3 * M + 1) + (2 * M + 1) * (2 * M + D)",
        "P * D + (D + 1) * M + (M + 1) * (M + D)",
    )

    length: int = 100
    template: str = ""
    encoder: str = "lstm"
    hidden: int = 128

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        for name in ("length", "hidden"):
            most = validation.MOST_POSITIONS
            validation.whole(f"PTuning.{name}", getattr(self, name), 1, most)
        if self.encoder not in ENCODERS:
            raise ValueError(
                f"PTuning.encoder is {self.encoder!r}; use one of {', '.join(ENCODERS)}."
            )
        if self.template and not self.prompt_length:
            raise ValueError(
                f"PTuning.template is {self.template!r}; it has no rows of the prompt. Write them "
                "as {p:3}, or leave the template out."
            )
        super().__post_init__()

    @property
    def prompt_length(self) -> int:
        """Returns P: the soft tokens of the template, or `length`."""
        if not self.template:
            return self.length
        return sum(int(count) for count in re.findall(r"\{p:(\d+)\}", self.template))

    @property
    def length_in_tables(self) -> int:
        """Returns P, of the template too."""
        return self.prompt_length

    @property
    def insertion(self) -> str:
        """Returns the template, or "front"."""
        return self.template or "front"

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, Soft]:
        """Returns the base as it is, and the network's output, `[P, D]`."""
        width = base["token_embedder"]["embedding"].shape[1]
        shape = (self.prompt_length, width)
        x_PX: Any = self.param("seed", nn.initializers.normal(1.0), shape)
        if self.encoder == "lstm":
            for layer in range(2):
                x_PX = self._both_directions(layer)(x_PX)
            x_PX = nn.relu(nn.Dense(2 * self.hidden, name="head_0")(x_PX))
        else:
            for layer in range(2):
                x_PX = nn.relu(nn.Dense(self.hidden, name=f"head_{layer}")(x_PX))
        return base, Soft(prompt=nn.Dense(width, name="head_out")(x_PX))

    def _both_directions(self, layer: int) -> nn.Bidirectional:
        forward, backward = (
            nn.RNN(nn.OptimizedLSTMCell(self.hidden, parent=None), name=f"lstm_{layer}_{way}")
            for way in ("forward", "backward")
        )
        return nn.Bidirectional(forward, backward)
