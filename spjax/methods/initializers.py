"""Initial values of a prompt (Lester et al. 2021, section 3.2, google-research/prompt-tuning)."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from spjax import validation
from spjax.checkpoints.prompts import prompt_files
from spjax.files import expanded
from spjax.methods.base import UNKNOWN, Encode
from spjax.models import quantization
from spjax.types import Array

_log = logging.getLogger(__name__)


@runtime_checkable
class Initializer(Protocol):
    """Interface of the initializers below, and of any other that a method can use."""

    def resolve(self, labels: Sequence[str], encode: Encode) -> Initializer:
        """Fills in what depends on the task and the vocabulary."""

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Draws a prompt `[length, D]`."""


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Draws independent uniform numbers.

    The paper draws from [-0.5, 0.5]; the released code's `uniform(0.5)` is [0, 0.5), because
    Flax's initializer is one-sided.

    Attributes:
      low: lower end.
      high: upper end.
    """

    low: float = -0.5
    high: float = 0.5

    def __post_init__(self) -> None:
        """Checks the bounds."""
        for name in ("low", "high"):
            most = validation.MOST_RATE
            validation.number(f"Uniform.{name}", getattr(self, name), -most, most)
        if self.low > self.high:
            raise ValueError(f"Uniform.low is {self.low}, above Uniform.high ({self.high}).")

    def resolve(self, labels: Sequence[str], encode: Encode) -> Uniform:
        """Returns itself: nothing depends on the task."""
        del labels, encode
        return self

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Draws a prompt `[length, D]`."""
        shape = (length, embedding_VD.shape[1])
        return jax.random.uniform(rng, shape, jnp.float32, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class SampledVocabulary:
    """Samples embeddings of different frequent words (`from_sample_of_embeddings`).

    Ids 0 to 2 (padding, EOS, unknown) can be drawn too, as in the released code.

    Attributes:
      population: ids below this are drawn from, since ids are ordered by frequency; 0 for the
        paper's 5,000 of T5's 32,128, and the same share of a smaller table.
    """

    population: int = 0

    def __post_init__(self) -> None:
        """Checks the number."""
        validation.whole("SampledVocabulary.population", self.population)

    def resolve(self, labels: Sequence[str], encode: Encode) -> SampledVocabulary:
        """Returns itself: nothing depends on the task."""
        del labels, encode
        return self

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Draws a prompt `[length, D]`; words repeat only if there are fewer than `length`."""
        rows = embedding_VD.shape[0]
        population = min(self.population or max(5000 * min(rows, 32128) // 32128, 1), rows)
        ids = jax.random.choice(rng, population, (length,), replace=length > population)
        return quantization.take(embedding_VD, ids)


@dataclasses.dataclass(frozen=True)
class ClassLabels:
    """Soft token i is the mean embedding of label i's tokens; more are sampled vocabulary.

    `from_embedded_list` of the released code: labels beyond the prompt's length are dropped.

    Attributes:
      labels: the label words; empty for those of the task.
      population: of the sampled vocabulary.
      tokens: ids of each label, filled in by `resolve`.
    """

    labels: tuple[str, ...] = ()
    population: int = 0
    tokens: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        """Checks the words and the number."""
        validation.texts(self)
        validation.whole("ClassLabels.population", self.population)
        if not all(self.tokens):
            raise ValueError(
                f"ClassLabels.tokens is {self.tokens!r}; leave it out, since it is filled in."
            )

    def resolve(self, labels: Sequence[str], encode: Encode) -> ClassLabels:
        """Encodes the labels.

        Raises:
          ValueError: there are no labels, they are no list, one has no tokens or unknown ones, or
            two have the same.
        """
        if isinstance(self.labels, str):
            raise ValueError(
                f"CLASS_LABELS is the text {self.labels!r}; give a list of words, ['yes', 'no']."
            )
        texts = tuple(self.labels) or tuple(labels)
        if not texts:
            raise ValueError(
                "class-label initialization needs label words, and the task has none. Give a task "
                "of files its labels (TASK_LABELS, or labels= in Python), set CLASS_LABELS to a "
                "list of words, or start from words of the vocabulary (--gin_file="
                "gin_configs/prompts/sampled_vocabulary.gin, or SampledVocabulary() in Python)."
            )
        tokens = tuple(tuple(encode(word)) for word in texts)
        if () in tokens:
            empty = texts[tokens.index(())]
            raise ValueError(f"the label word {empty!r} has no tokens; choose another word.")
        for i, (word, ids) in enumerate(zip(texts, tokens)):
            _check_known(f"the label word {word!r}", ids)
            if ids in tokens[:i]:
                other = texts[tokens.index(ids)]
                raise ValueError(
                    f"the label words {other!r} and {word!r} are the same tokens; choose others."
                )
        _check_derived("ClassLabels", self.tokens, tokens)
        return dataclasses.replace(self, tokens=tokens)

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Returns a prompt `[length, D]`."""
        _tell_dropped(len(self.tokens), length, "label words")
        means = [
            jnp.mean(quantization.take(embedding_VD, np.array(ids)), axis=0) for ids in self.tokens
        ]
        return _fill(means, SampledVocabulary(self.population)(rng, length, embedding_VD))


@dataclasses.dataclass(frozen=True)
class Text:
    """One soft token for each token of a text; more are sampled vocabulary.

    `from_embedded_string` of the released code: the text is cut at the prompt's length.

    Attributes:
      text: for example a description of the task.
      population: of the sampled vocabulary.
      tokens: ids of the text, filled in by `resolve`.
    """

    text: str
    population: int = 0
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks the text and the number."""
        validation.texts(self)
        validation.whole("Text.population", self.population)

    def resolve(self, labels: Sequence[str], encode: Encode) -> Text:
        """Encodes the text.

        Raises:
          ValueError: the text has no tokens, or unknown ones.
        """
        del labels
        tokens = tuple(encode(self.text))
        if not tokens:
            raise ValueError(f"the initial text {self.text!r} has no tokens; give some words.")
        _check_known(f"the initial text {self.text!r}", tokens)
        _check_derived("Text", self.tokens, tokens)
        return dataclasses.replace(self, tokens=tokens)

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Returns a prompt `[length, D]`."""
        _tell_dropped(len(self.tokens), length, "tokens of the initial text")
        rows = list(quantization.take(embedding_VD, np.array(self.tokens)))
        return _fill(rows, SampledVocabulary(self.population)(rng, length, embedding_VD))


@dataclasses.dataclass(frozen=True)
class FromFile:
    """A saved prompt, in any format of `spjax.checkpoints.prompts.prompt_files.read_soft_tokens`.

    The prompt of a finished run as the start of another is prompt transfer (SPoT, Vu et al. 2022).

    Attributes:
      path: a file or folder: `.npy`, safetensors, an adapter of PEFT, a checkpoint of T5X, or the
        folder of a run.
    """

    path: str

    def __post_init__(self) -> None:
        """Expands "~"."""
        validation.texts(self)
        object.__setattr__(self, "path", expanded(self.path))

    @property
    def paths(self) -> tuple[str, ...]:
        """Returns the path of the file."""
        return (self.path,)

    def resolve(self, labels: Sequence[str], encode: Encode) -> FromFile:
        """Returns itself: nothing depends on the task."""
        del labels, encode
        return self

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Reads the prompt.

        Raises:
          ValueError: nothing there is a prompt, or it has another shape.
        """
        del rng
        width = embedding_VD.shape[1]
        return jnp.asarray(
            prompt_files.read_soft_tokens(self.path, width=width, length=length).soft_tokens_PD
        )


def check(name: str, value: Any) -> None:
    """Demands an initializer.

    Args:
      name: of the setting, such as "INITIALIZER".
      value: what was set.

    Raises:
      ValueError: it is something else.
    """
    known = (Uniform, SampledVocabulary, ClassLabels, Text, FromFile)
    if not (callable(value) and hasattr(value, "resolve")) or isinstance(value, type):
        listed = ", ".join(f"@{kind.__name__}()" for kind in known)
        raise ValueError(f"{name} is {value!r:.60}; bind an initializer: one of {listed}.")


def _check_derived(name: str, given: Sequence[Any], tokens: Sequence[Any]) -> None:
    """Refuses tokens that were given and are not those of the words."""
    if given and _as_lists(given) != _as_lists(tokens):
        raise ValueError(
            f"{name}.tokens is {given!r}, and the words are {tuple(tokens)!r} in this vocabulary; "
            "leave it out, since it is filled in."
        )


def _as_lists(values: Any) -> Any:
    return [*map(_as_lists, values)] if isinstance(values, (list, tuple)) else values


def _check_known(what: str, ids: Sequence[int]) -> None:
    if UNKNOWN in ids:
        raise ValueError(
            f"{what} has pieces that the model's vocabulary lacks (<unk>); choose other words."
        )


@functools.cache  # once for all runs of a process
def _tell_dropped(count: int, length: int, what: str) -> None:
    if count > length:
        _log.warning("a prompt of %d rows starts with the first of %d %s", length, count, what)


def _fill(rows: Sequence[Array], prompt_PD: jax.Array) -> jax.Array:
    rows = rows[: prompt_PD.shape[0]]
    return prompt_PD.at[: len(rows)].set(jnp.stack(rows).astype(jnp.float32))
