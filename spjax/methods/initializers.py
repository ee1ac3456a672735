"""Where a prompt starts (Lester et al. 2021, section 3.2, and google-research/prompt-tuning)."""

from __future__ import annotations

import dataclasses
import functools
import logging
from pathlib import Path
from typing import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from spjax.files import open_regular
from spjax.methods.base import UNKNOWN, Encode
from spjax.models import quantization
from spjax.types import Array

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Independent uniform numbers.

    The paper draws from [-0.5, 0.5]; the released code's `uniform(0.5)` is [0, 0.5), because
    Flax's initializer is one-sided.

    Attributes:
      low: lower end.
      high: upper end.
    """

    low: float = -0.5
    high: float = 0.5

    def resolve(self, labels: Sequence[str], encode: Encode) -> Uniform:
        """Nothing depends on the task."""
        del labels, encode
        return self

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Draws a prompt `[length, D]`."""
        shape = (length, embedding_VD.shape[1])
        return jax.random.uniform(rng, shape, jnp.float32, self.low, self.high)


@dataclasses.dataclass(frozen=True)
class SampledVocabulary:
    """Embeddings of different words among the most frequent (`from_sample_of_embeddings`).

    Ids 0 to 2 (padding, EOS, unknown) can be drawn too, as in the released code.

    Attributes:
      population: ids below this are drawn from, since ids are ordered by frequency; 0 for the
        paper's 5,000 of T5's 32,128, and the same share of a smaller table.
    """

    population: int = 0

    def resolve(self, labels: Sequence[str], encode: Encode) -> SampledVocabulary:
        """Nothing depends on the task."""
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
    """Row i is the mean embedding of label i's tokens; further rows are sampled vocabulary.

    `from_embedded_list` of the released code: labels that find no row are dropped.

    Attributes:
      labels: the label words; empty for those of the task.
      population: of the sampled vocabulary.
      tokens: ids of each label, filled in by `resolve`.
    """

    labels: tuple[str, ...] = ()
    population: int = 0
    tokens: tuple[tuple[int, ...], ...] = ()

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
        words = tuple(self.labels) or tuple(labels)
        if not words:
            raise ValueError(
                "class-label initialisation needs label words, and the task has none. Set "
                "CLASS_LABELS to a list of words, or use another initializer."
            )
        tokens = tuple(tuple(encode(word)) for word in words)
        if () in tokens:
            empty = words[tokens.index(())]
            raise ValueError(f"the label word {empty!r} has no tokens; choose another word.")
        for i, (word, ids) in enumerate(zip(words, tokens)):
            _check_known(f"the label word {word!r}", ids)
            if ids in tokens[:i]:
                other = words[tokens.index(ids)]
                raise ValueError(
                    f"the label words {other!r} and {word!r} are the same tokens; choose others."
                )
        return dataclasses.replace(self, tokens=tokens)

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """A prompt `[length, D]`."""
        _tell_dropped(len(self.tokens), length, "label words")
        means = [
            jnp.mean(quantization.take(embedding_VD, np.array(ids)), axis=0) for ids in self.tokens
        ]
        return _fill(means, SampledVocabulary(self.population)(rng, length, embedding_VD))


@dataclasses.dataclass(frozen=True)
class Text:
    """One row for each token of a text; further rows are sampled vocabulary.

    `from_embedded_string` of the released code: the text is cut at the prompt's length.

    Attributes:
      text: for example a description of the task.
      population: of the sampled vocabulary.
      tokens: ids of the text, filled in by `resolve`.
    """

    text: str
    population: int = 0
    tokens: tuple[int, ...] = ()

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
        return dataclasses.replace(self, tokens=tokens)

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """A prompt `[length, D]`."""
        _tell_dropped(len(self.tokens), length, "tokens of the initial text")
        rows = list(quantization.take(embedding_VD, np.array(self.tokens)))
        return _fill(rows, SampledVocabulary(self.population)(rng, length, embedding_VD))


@dataclasses.dataclass(frozen=True)
class FromFile:
    """A prompt saved before: an `.npy` array `[P, D]` (with or without that extension).

    The prompt of a finished run as the start of another is prompt transfer (SPoT, Vu et al. 2022).

    Attributes:
      path: the file, or the folder of a run with one in it.
    """

    path: str

    def resolve(self, labels: Sequence[str], encode: Encode) -> FromFile:
        """Nothing depends on the task."""
        del labels, encode
        return self

    def __call__(self, rng: Array, length: int, embedding_VD: Array) -> jax.Array:
        """Reads the prompt.

        Raises:
          ValueError: the file is missing, is not an array, or has another shape.
        """
        del rng
        path = Path(self.path)
        path = path / "prompt.npy" if path.is_dir() else path
        return jnp.asarray(read_prompt(path, (length, embedding_VD.shape[1])))


def read_prompt(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Reads a `[P, D]` array of float32 from an `.npy` file.

    Args:
      path: the file.
      shape: the shape it must have.

    Raises:
      ValueError: the file is missing, is not an array, or has another shape.
    """
    try:
        with open_regular(path) as file:
            prompt = np.load(file, allow_pickle=False)
        if not isinstance(prompt, np.ndarray) or prompt.dtype.kind != "f":
            raise ValueError("it does not hold an array of floats")
    except (OSError, ValueError, EOFError, MemoryError, OverflowError) as error:
        raise ValueError(
            f"cannot read a prompt from {path}: {error}. Give an .npy file with an array [P, D]."
        ) from error
    if prompt.shape != shape:
        raise ValueError(
            f"the prompt in {path} has shape {prompt.shape}, but the run needs {shape} "
            "(PROMPT_LENGTH, width of the model)."
        )
    if not np.isfinite(prompt).all():
        raise ValueError(f"the prompt in {path} has NaN or infinite numbers; make it again.")
    return prompt.astype(np.float32)


def _check_known(what: str, ids: Sequence[int]) -> None:
    if UNKNOWN in ids:
        raise ValueError(
            f"{what} has pieces that the model's vocabulary lacks (<unk>); choose other words."
        )


@functools.cache  # once for all runs of a process
def _tell_dropped(count: int, length: int, what: str) -> None:
    if count > length:
        _log.warning("a prompt of %d rows starts with the first of %d %s", length, count, what)


def _fill(rows: list[Array], prompt_PD: jax.Array) -> jax.Array:
    rows = rows[: prompt_PD.shape[0]]
    return prompt_PD.at[: len(rows)].set(jnp.stack(rows).astype(jnp.float32))
