"""T5's two unsupervised objectives over tokenized documents, packed into rows.

Span corruption: Raffel et al. 2020, section 3.1.4. Prefix LM ("LM adaptation"): Lester et al. 2021,
section 3; Raffel et al. 2020, section 3.2.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

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
      tokens: one text.
      rng: draws span lengths and places.
      first_sentinel: id of `<extra_id_0>`; the following ones count downwards.
      noise_density: share of tokens to hide.
      mean_span: mean length of a hidden span.

    Returns:
      inputs and targets, each ending with EOS.
    """
    length = len(tokens)
    if length == 1:  # T5 hides the second token of a text that has none
        return _ended(tokens), _ended([first_sentinel])
    # In float32 as T5's, which rounds the half of a token up for some lengths from 190 on.
    wanted = int(np.round(np.float32(length) * np.float32(noise_density)))
    hidden = min(max(wanted, 1), length - 1)
    spans = min(max(round(hidden / mean_span), 1), hidden, length - hidden)
    noise = _partition(hidden, spans, rng)
    kept = _partition(length - hidden, spans, rng)
    inputs: list[Sequence[int] | np.ndarray] = []
    targets: list[Sequence[int] | np.ndarray] = []
    place = 0
    for number, (shown, masked) in enumerate(zip(kept.tolist(), noise.tolist())):
        start, end = place + shown, place + shown + masked
        sentinel = [first_sentinel - number]
        inputs += [tokens[place:start], sentinel]
        targets += [sentinel, tokens[start:end]]
        place = end
    return _joined(inputs), _joined(targets)


def _ended(tokens: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.append(tokens, EOS).astype(np.int32)


def _joined(parts: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    return np.concatenate([*parts, [EOS]]).astype(np.int32)


def most_spans(input_length: int, noise_density: float = 0.15, mean_span: float = 3.0) -> int:
    """Returns the most spans, and so sentinels, in a row of inputs of this length."""
    tokens = span_lengths(input_length, noise_density, mean_span)[0]
    return max(round(round(tokens * noise_density) / mean_span), 1)


def span_lengths(
    input_length: int, noise_density: float = 0.15, mean_span: float = 3.0
) -> tuple[int, int]:
    """Returns the tokens of text that fill a row of inputs, and the length of its targets.

    Args:
      input_length: L, EOS included.
      noise_density: as for `span_corruption`.
      mean_span: as for `span_corruption`.

    Returns:
      The most tokens of text whose corrupted inputs fit, and M of their targets, EOS included: 568
      and 114 for 512 (`random_spans_helper` of t5/data/preprocessors.py).
    """

    def lengths(text: int) -> tuple[int, int]:
        hidden = round(text * noise_density)
        spans = round(hidden / mean_span)
        return text - hidden + spans + 1, hidden + spans + 1

    text = input_length - 1
    while lengths(text + 1)[0] <= input_length:
        text += 1
    return text, lengths(text)[1]


def _partition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    cuts = np.zeros(0, np.int64)
    if parts > 1:
        cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
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
      tokens: one text.
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
        cut = int(rng.integers(1, len(tokens))) if len(tokens) > 1 else 0
    return _ended(tokens[:cut]), _ended(tokens[cut:])


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

    def fill(
        self,
        example: Callable[[int], Example],
        start: int,
        following: Callable[[int], int] = lambda number: number + 1,
    ) -> tuple[Batch, int]:
        """Packs examples from number `start` on, each into the first row with room for it.

        Args:
          example: gives the inputs and targets of a numbered example; too long ones are cut.
          start: number of the first example.
          following: the number after a number.

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
            number = following(number)
        one = np.zeros((self.rows, 1), np.int32)  # runs and tasks mean nothing here
        slots = np.full_like(inputs, -1)
        return Batch(inputs, slots, in_segments, targets, out_segments, one, one), number

    def _empty(self, length: int) -> np.ndarray:
        return np.zeros((self.rows, length), np.int32)
