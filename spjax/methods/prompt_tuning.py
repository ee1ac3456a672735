"""Prompt tuning (Lester, Al-Rfou & Constant 2021): trainable rows in the encoder's input."""

from __future__ import annotations

from typing import Any, Sequence

import flax.linen as nn
import jax

from spjax.methods.base import Encode, Method
from spjax.methods.initializers import SampledVocabulary, Uniform
from spjax.types import Tree


class PromptTuning(Method):
    """One array `[P, D]` beside a frozen model (section 2 of the paper).

    The rows take part in the encoder like embedded words: relative positions, masks and dropout
    follow from the stream. Besides the paper's place in front of the input, the released code's
    places after the first token and at the end (before EOS) can be chosen.

    Attributes:
      length: P.
      initializer: one of `spjax.methods.initializers`.
      place: "front", "after_first" or "end".
    """

    length: int = 100
    initializer: Any = SampledVocabulary()
    place: str = "front"

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        if type(self.length) is not int or self.length < 1:
            raise ValueError(
                f"PROMPT_LENGTH is {self.length!r}; it must be a whole number of at least 1."
            )
        if self.place not in ("front", "after_first", "end"):
            raise ValueError(
                f"PromptTuning.place is {self.place!r}; use 'front', 'after_first' or 'end'."
            )
        super().__post_init__()

    @property
    def prompt_length(self) -> int:
        """P."""
        return self.length

    @property
    def insertion(self) -> str:
        """The chosen place."""
        return self.place

    def resolve(self, labels: Sequence[str], encode: Encode) -> PromptTuning:
        """Encodes label words or text of the initializer."""
        return self.clone(initializer=self.initializer.resolve(labels, encode))

    def started(self) -> PromptTuning:
        """The same for every initializer."""
        return self.clone(initializer=Uniform())

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, jax.Array]:
        """The base as it is, and `prompt_PD`."""
        embedding_VD = base["token_embedder"]["embedding"]
        prompt_PD = self.param(
            "prompt", lambda rng: self.initializer(rng, self.length, embedding_VD)
        )
        return base, prompt_PD
