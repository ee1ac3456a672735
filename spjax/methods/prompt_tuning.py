"""Prompt tuning (Lester, Al-Rfou & Constant 2021): trainable soft tokens in the encoder's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from spjax import validation
from spjax.injection import PROMPT_SEES, Soft
from spjax.methods.base import Encode, Method
from spjax.methods.initializers import Initializer, SampledVocabulary, Uniform, check
from spjax.types import Tree


class PromptTuning(Method):
    """One array `[P, D]` beside a frozen model (section 2 of the paper).

    The encoder treats soft tokens like embedded words: relative positions, masks and dropout follow
    from the stream. Besides the paper's place in front of the input, there are the released code's
    places after the first token and at the end (before EOS), and its attention masks of soft tokens
    (`extended/masks.py`; text always attends to them).

    Attributes:
      length: P.
      initializer: one of `spjax.methods.initializers`.
      place: "front", "after_first" or "end".
      per_task: whether each task of a mixture has a prompt of its own.
      sees_text: whether soft tokens attend to the text.
      sees_prompt: the soft tokens that a soft token attends to: "all", "before" (itself
        and those before it) or "itself".
      tasks: S, filled in by `resolve`.
    """

    parameter_counts: ClassVar[tuple[str, ...]] = ("S * P * D",)  # S is 1 unless `per_task`

    length: int = 100
    initializer: Initializer = SampledVocabulary()
    place: str = "front"
    per_task: bool = False
    sees_text: bool = True
    sees_prompt: str = "all"
    tasks: int = 1

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        validation.whole("PROMPT_LENGTH", self.length, 1, validation.MOST_POSITIONS)
        check("INITIALIZER", self.initializer)
        if self.place not in ("front", "after_first", "end"):
            raise ValueError(
                f"PromptTuning.place is {self.place!r}; use 'front', 'after_first' or 'end'."
            )
        if self.sees_prompt not in PROMPT_SEES:
            raise ValueError(
                f"PromptTuning.sees_prompt is {self.sees_prompt!r}; use one of "
                f"{', '.join(PROMPT_SEES)}."
            )
        super().__post_init__()

    @property
    def prompt_length(self) -> int:
        """Returns P."""
        return self.length

    @property
    def without_identity(self) -> frozenset[str]:
        """Returns the fields left out of the run key while they have the default.

        So runs keep the keys that they had before these fields existed.
        """
        usual = {"per_task": False, "sees_text": True, "sees_prompt": "all", "tasks": 1}
        return frozenset(name for name, value in usual.items() if getattr(self, name) == value)

    @property
    def insertion(self) -> str:
        """Returns the chosen place."""
        return self.place

    def resolve(self, labels: Sequence[str], encode: Encode, tasks: int = 1) -> PromptTuning:
        """Encodes label words or text of the initializer, and counts the tasks."""
        initializer = self.initializer.resolve(labels, encode)
        return self.clone(initializer=initializer, tasks=tasks if self.per_task else 1)

    def without_initializer(self) -> PromptTuning:
        """Returns the same method for every initializer."""
        return self.clone(initializer=Uniform())

    @nn.compact
    def __call__(self, base: Tree) -> tuple[Tree, Soft]:
        """Returns the base, and `prompt_PD`, or `prompt_SPD` for prompts by task."""
        embedding_VD = base["token_embedder"]["embedding"]

        def one(rng: jax.Array) -> jax.Array:
            return self.initializer(rng, self.length, embedding_VD)

        def start(rng: jax.Array) -> jax.Array:
            if not self.per_task:
                return one(rng)
            return jnp.stack([one(key) for key in jax.random.split(rng, self.tasks)])

        prompt = self.param("prompt", start)
        return base, Soft(prompt=prompt, sees_text=self.sees_text, sees_prompt=self.sees_prompt)
