"""A penalty that pulls a prompt to the words of any text while it learns a task.

Khashabi et al. 2022, "Prompt Waywardness" (https://aclanthology.org/2022.naacl-main.266), find
prompts that solve a task and whose nearest words are an unrelated text. The loss and gamma are
those of google-research/prompt-tuning (`extended/train/wayward.py`): the mean over the rows of the
squared distance to the embedding of the row's own word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spjax.injection import Injection
from spjax.methods.base import UNKNOWN, apply_gang
from spjax.models import quantization
from spjax.types import Array, Tree
from spjax.vocabularies import vocabulary


@dataclasses.dataclass(frozen=True)
class Waywardness:
    """The text that a run's prompt is pulled to, and how hard.

    Attributes:
      text: anything; row i of the prompt is pulled to its i-th token.
      gamma: weight of the penalty in the loss.
    """

    text: str
    gamma: float = 0.01

    def __post_init__(self) -> None:
        """Checks type and range."""
        if not isinstance(self.text, str) or not self.text.strip():
            raise ValueError(
                f"Waywardness.text is {self.text!r}; give some words, at least as many tokens as "
                "the prompt has rows."
            )
        number = isinstance(self.gamma, (int, float)) and not isinstance(self.gamma, bool)
        if not number or not 0 <= self.gamma < float("inf"):
            raise ValueError(
                f"Waywardness.gamma is {self.gamma!r}; it must be a number of at least 0."
            )


@dataclasses.dataclass(frozen=True)
class Target:
    """A `Waywardness` in token ids; part of what a compiled step depends on."""

    tokens: tuple[int, ...]
    gamma: float


def target_of(run: Any) -> Target | None:
    """Returns the target of a run's prompt, None if it is free.

    Args:
      run: a `spjax.training.run.Run`.

    Raises:
      ValueError: the setting is of another kind, the method has no prompt, or the text has fewer
        tokens than the prompt has rows, or unknown ones.
    """
    wayward, length = run.waywardness, run.method.prompt_length
    if wayward is None:
        return None
    if not isinstance(wayward, Waywardness):
        raise ValueError(f"Run.waywardness is {wayward!r}; bind @Waywardness(), or leave it out.")
    if not length:
        raise ValueError(
            f"Run.waywardness pulls the rows of a prompt, and {run.method_name} has none. Use a "
            "method with a prompt."
        )
    tokens = tuple(vocabulary.load_vocabulary(run.resolved_vocabulary).encode(wayward.text))
    if len(tokens) < length:
        raise ValueError(
            f"the text of Waywardness has {len(tokens)} tokens, {wayward.text!r}, and the prompt "
            f"{length} rows. Give a longer text, or PROMPT_LENGTH {len(tokens)} or less."
        )
    if UNKNOWN in tokens[:length]:
        raise ValueError(
            f"the text of Waywardness, {wayward.text!r}, has pieces that the model's vocabulary "
            "lacks (<unk>); choose other words."
        )
    return Target(tokens, float(wayward.gamma))


def add_penalties(
    config: Any, trainables: Sequence[Tree], base: Tree, grads: Sequence[Tree], losses_N: Array
) -> tuple[Sequence[Tree], jax.Array]:
    """Adds the penalties to gradients and losses.

    Args:
      config: a `spjax.training.trainer.StepConfig` with a target.
      trainables: of each group, with a leading axis of its runs.
      base: the frozen weights.
      grads: of the losses, like `trainables`.
      losses_N: of the runs.
    """
    lengths = [
        method.prompt_length
        for method, trainable in zip(config.methods, trainables)
        for _ in range(jax.tree.leaves(trainable)[0].shape[0])
    ]

    def total(trainables: Sequence[Tree]) -> tuple[jax.Array, jax.Array]:
        injection = apply_gang(config.methods, trainables, base)[1]
        assert injection is not None  # as `target_of` demands prompts
        pull_N = penalties(config.wayward, lengths, injection, base)
        return jnp.sum(pull_N), pull_N

    more, pull_N = jax.grad(total, has_aux=True)(trainables)
    return jax.tree.map(jnp.add, grads, more), losses_N + pull_N


def penalties(
    target: Target, lengths: Sequence[int], injection: Injection, base: Tree
) -> jax.Array:
    """Returns the penalty of each run of a gang.

    Args:
      target: of all runs.
      lengths: rows of each run's prompt, in the order in which they stand in the injection.
      injection: the prompts.
      base: the frozen weights, with the embeddings of the words.

    Returns:
      penalties_N: gamma times the mean over the rows of |row - embedding of its word|^2, float32.

    Raises:
      ValueError: runs have other rows than one prompt each.
    """
    if injection.prompt_RD.shape[0] != sum(lengths):
        raise ValueError(
            "Run.waywardness pulls one prompt a run, and this method has prompts of single tasks. "
            "Train on one task, or with another method."
        )
    runs_R = np.repeat(np.arange(len(lengths)), lengths)
    words_R = np.concatenate([target.tokens[:length] for length in lengths])
    embedding_RD = quantization.take(base["token_embedder"]["embedding"], words_R)
    squares_R = jnp.sum(jnp.square(injection.prompt_RD - embedding_RD.astype(jnp.float32)), axis=1)
    sums_N = jax.ops.segment_sum(squares_R, runs_R, len(lengths))
    return target.gamma * sums_N / np.asarray(lengths, np.float32)
