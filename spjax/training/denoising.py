"""T5's two unsupervised objectives over tokenised documents, packed into rows.

Span corruption: Raffel et al. 2020, section 3.1.4. Prefix LM ("LM adaptation"): Lester et al. 2021,
section 3; Raffel et al. 2020, section 3.2.1.
"""

from __future__ import annotations

import dataclasses
from typing import Callable

import numpy as np

from spjax.types import Batch

EOS = 1
Example = tuple[np.ndarray, np.ndarray]


def span_corruption(
    tokens: np.ndarray,
    rng: np.random.Generator,
    first_sentinel: int,
    noise_density: float = 0.15,
    mean_span: float = 3.0,
) -> Example:
    """Replaces random spans by sentinels; the targets are the sentinels and what they hide.

    Args:
      tokens: one document, at least two tokens.
      rng: draws span lengths and places.
      first_sentinel: id of `<extra_id_0>`; the following ones count downwards.
      noise_density: share of tokens to hide.
      mean_span: mean length of a hidden span.

    Returns:
      inputs and targets, each ending with EOS.
    """
    length = len(tokens)
    hidden = min(max(round(length * noise_density), 1), length - 1)
    spans = min(max(round(hidden / mean_span), 1), hidden, length - hidden)
    noise = _partition(hidden, spans, rng)
    kept = _partition(length - hidden, spans, rng)
    inputs, targets, at = [], [], 0
    for i, (keep, hide) in enumerate(zip(kept, noise, strict=True)):
        inputs += [*tokens[at : at + keep], first_sentinel - i]
        targets += [first_sentinel - i, *tokens[at + keep : at + keep + hide]]
        at += keep + hide
    return np.array([*inputs, EOS], np.int32), np.array([*targets, EOS], np.int32)


def _partition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1 if parts > 1 else []
    return np.diff(np.concatenate([[0], cuts, [total]]).astype(np.int64))


def prefix_lm(
    tokens: np.ndarray,
    splits: np.ndarray,
    rng: np.random.Generator,
    at_split: float = 0.95,
    at_last: float = 0.9,
) -> Example:
    """Cuts a document in two: the first part is the input, the rest is the target.

    Args:
      tokens: one document, at least two tokens.
      splits: positions at which a cut leaves a predictable rest.
      rng: draws the cut.
      at_split: share of cuts that fall on one of `splits`, the others being uniform as in T5.
      at_last: share of those that fall on the last one, which leaves the shortest rest: what is
        predictable is then most of the loss.

    Returns:
      inputs and targets, each ending with EOS.
    """
    if len(splits) and rng.random() < at_split:
        cut = int(splits[-1] if rng.random() < at_last else splits[rng.integers(len(splits))])
    else:
        cut = int(rng.integers(1, len(tokens)))
    return (np.append(tokens[:cut], EOS).astype(np.int32),
            np.append(tokens[cut:], EOS).astype(np.int32))


@dataclasses.dataclass
class Rows:
    """Packs examples, in order, into rows of fixed size.

    Attributes:
      rows: rows in a batch.
      input_length: L.
      target_length: M.
    """

    rows: int
    input_length: int
    target_length: int

    def fill(self, example: Callable[[int], Example], start: int) -> tuple[Batch, int]:
        """Packs examples from number `start` on, each into the first row with room for it.

        Args:
          example: gives the inputs and targets of a numbered example; too long ones are cut.
          start: number of the first example.

        Returns:
          The batch, and the number of the first example that found no room.
        """
        inputs, targets = self._empty(self.input_length), self._empty(self.target_length)
        in_segments, out_segments = np.zeros_like(inputs), np.zeros_like(targets)
        used = np.zeros((self.rows, 2), np.int64)
        limit, number = (self.input_length, self.target_length), start
        while True:
            x, y = example(number)
            x, y = x[: self.input_length], y[: self.target_length]
            room = np.flatnonzero((used + (len(x), len(y)) <= limit).all(axis=1))
            if not len(room):
                break
            row = room[0]
            (i, j), segment = used[row], in_segments[row].max() + 1
            inputs[row, i : i + len(x)], in_segments[row, i : i + len(x)] = x, segment
            targets[row, j : j + len(y)], out_segments[row, j : j + len(y)] = y, segment
            used[row] += (len(x), len(y))
            number += 1
        one = np.zeros((self.rows, 1), np.int32)  # runs and tasks mean nothing here
        slots = np.full_like(inputs, -1)
        return Batch(inputs, slots, in_segments, targets, out_segments, one, one), number

    def _empty(self, length: int) -> np.ndarray:
        return np.zeros((self.rows, length), np.int32)
