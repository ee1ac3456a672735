"""Packing: several examples in a row, rows of one shape, in chunks of few sizes.

Packing changes the positions of examples, not the set of examples in a batch. Every segment of a
row keeps its own run and task, so its slots still point into its own prompt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from spjax.data.batching.batching import ROW_LENGTHS, HostBatch, smallest

_TARGETS = (4, 8, 16, 32, 64, 128, 256)
_POSITIONS_PER_SEGMENT = 8  # of a row; bounds G, which costs nothing, without looking at the texts
_SMALLEST_SHARE = 4  # of a big chunk in a small one


@dataclasses.dataclass(frozen=True)
class Rows:
    """The shape of packed rows.

    Attributes:
      length: L, positions of the encoder.
      target_length: M, positions of the decoder.
      segments: G, most examples in a row.
      chunks: rows that go through the model at a time: one number, or a big and a small one.
    """

    length: int
    target_length: int
    segments: int
    chunks: tuple[int, ...]

    def split(self, rows: int) -> list[int]:
        """Returns the chunks that hold a number of rows; small ones where they save a row."""
        big, small = self.chunks[0], self.chunks[-1]
        whole, left_over = divmod(rows, big)
        few = -(-left_over // small)
        if left_over and big - few * small < small:
            return [big] * (whole + 1)
        return [big] * whole + [small] * few


def assign_positions(
    lengths_N: np.ndarray, targets_N: np.ndarray, rows: Rows
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Assigns each example a position: the longest first, each in the first row with room.

    Args:
      lengths_N: encoder positions of each example, prompt included; at most `rows.length`.
      targets_N: decoder positions of each example; at most `rows.target_length`.
      rows: the shape.

    Returns:
      Row, first encoder position, first decoder position and segment (from 0) of each, int64.
    """
    inputs, targets = lengths_N.tolist(), targets_N.tolist()
    placed = np.zeros((4, len(inputs)), np.int64)
    used: list[list[int]] = []  # encoder positions, decoder positions, segments of each row
    for i in np.argsort(-lengths_N, kind="stable").tolist():
        x, y = inputs[i], targets[i]
        for number, row in enumerate(used):  # noqa: B007  (used below)
            if (
                row[0] + x <= rows.length
                and row[1] + y <= rows.target_length
                and row[2] < rows.segments
            ):
                break
        else:
            number, row = len(used), [0, 0, 0]
            used.append(row)
        placed[:, i] = number, *row
        row[0], row[1], row[2] = row[0] + x, row[1] + y, row[2] + 1
    return placed[0], placed[1], placed[2], placed[3]


def pack(batch: HostBatch, rows: Rows) -> list[HostBatch]:
    """Packs a batch of one example a row into fewer rows.

    Args:
      batch: as `batching.gang` makes it; every example starts at the first position of its row.
      rows: the shape.

    Returns:
      The chunks, each with as many rows as one of `rows.chunks`. Rows that are left over are
      empty: all their segments are 0.
    """
    real_BL, real_BM = batch["input_segments_BL"] > 0, batch["target_segments_BM"] > 0
    lengths_N, targets_N = real_BL.sum(axis=1), real_BM.sum(axis=1)
    row_N, start_N, target_start_N, segment_N = assign_positions(lengths_N, targets_N, rows)
    sizes = rows.split(int(row_N.max()) + 1)
    total = sum(sizes)

    def moved(
        names: Sequence[str], width: int, starts_N: np.ndarray, counts_N: np.ndarray
    ) -> dict[str, np.ndarray]:
        source = _ranges(np.arange(len(row_N)) * batch[names[0]].shape[1], counts_N)
        goal = _ranges(row_N * width + starts_N, counts_N)
        arrays = {}
        for name in names:
            arrays[name] = np.full(total * width, -1 if name == "slots_BL" else 0, np.int32)
            arrays[name][goal] = batch[name].reshape(-1)[source]
        segments = names[-1]
        arrays[segments][goal] = np.repeat(segment_N + 1, counts_N)
        return {name: array.reshape(total, width) for name, array in arrays.items()}

    inputs = ("inputs_BL", "slots_BL", "input_segments_BL")
    packed = moved(inputs, rows.length, start_N, lengths_N)
    targets = ("targets_BM", "target_segments_BM")
    packed |= moved(targets, rows.target_length, target_start_N, targets_N)
    for name in ("runs_BG", "tasks_BG"):
        packed[name] = np.zeros((total, rows.segments), np.int32)
        packed[name][row_N, segment_N] = batch[name][:, 0]
    ends = np.cumsum(sizes)
    return [
        {name: array[end - size : end] for name, array in packed.items()}
        for size, end in zip(sizes, ends.tolist())
    ]


def _ranges(starts_N: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """Concatenates `start, start + 1, ...` for each start, `count` numbers each."""
    before_N = np.cumsum(counts_N) - counts_N
    return np.arange(counts_N.sum()) + np.repeat(starts_N - before_N, counts_N)


def plain(length: int, target_length: int, rows: int, multiple: int = 1) -> Rows:
    """Returns the shape with one example a row, all rows at once.

    Args:
      length: room for the longest inputs and their prompt.
      target_length: room for the longest targets.
      rows: examples in a batch.
      multiple: what the rows of a chunk are a multiple of; those that are left over are empty.
    """
    room = smallest(ROW_LENGTHS, length, length)
    target_room = smallest(_TARGETS, target_length, target_length)
    return Rows(room, target_room, 1, (-(-rows // multiple) * multiple,))


def choose(
    batches: Sequence[tuple[np.ndarray, np.ndarray]],
    cost: Callable[[int, int], float],
    *,
    longest: tuple[int, int],
    limit: int,
    positions: int,
    parts: int = 1,
    multiple: int = 1,
    unit: int = 1,
    program: float = 0.0,
) -> Rows:
    """Returns the shape in which some batches cost least.

    Args:
      batches: encoder and decoder positions of the examples of some typical batches.
      cost: of a row with L encoder and M decoder positions, in all steps, in any unit.
      longest: encoder and decoder positions that any example may need.
      limit: most encoder positions of a row, unless the longest example needs more.
      positions: encoder positions in a chunk, about; 0 for whole batches at once.
      parts: least number of chunks of a batch.
      multiple: rows of a chunk are a multiple of this, the number of devices that share them.
      unit: row lengths are a multiple of this.
      program: cost of compiling one more size of chunk.
    """
    best, chosen = float("inf"), None
    most = max(longest[0], limit)
    totals = [(int(inputs.sum()), int(targets.sum())) for inputs, targets in batches]
    lengths = [n for n in ROW_LENGTHS if longest[0] <= n <= most and n % unit == 0]
    lengths = lengths or [-(-longest[0] // unit) * unit]
    for length in lengths:
        # Longer rows waste less at their end and cost more in attention.
        for target_length in sorted({max(longest[1], n) for n in _TARGETS}):
            shape = Rows(length, target_length, max(1, length // _POSITIONS_PER_SEGMENT), (1,))
            row = cost(length, target_length)
            least = [max(-(-x // length), -(-y // target_length)) for x, y in totals]
            if np.mean(least) * row + program >= best:
                continue  # not even without any waste
            counts = [int(assign_positions(*batch, shape)[0].max()) + 1 for batch in batches]
            for chunks in _chunks(max(counts), length, positions, parts, multiple):
                rows = dataclasses.replace(shape, chunks=chunks)
                padded = float(np.mean([sum(rows.split(count)) for count in counts]))
                price = padded * row + program * len(chunks)
                if price < best:
                    best, chosen = price, rows
    assert chosen is not None
    return chosen


def _chunks(
    rows: int, length: int, positions: int, parts: int, multiple: int
) -> list[tuple[int, ...]]:
    """Returns sizes of chunks to choose from, for batches of up to so many rows."""

    def rounded(number: float) -> int:
        return max(1, round(number / multiple)) * multiple

    in_parts = -(-rows // parts)
    big = -(-in_parts // multiple) * multiple
    if not positions:
        return [(big,)]
    if in_parts * length > positions:
        big = rounded(positions / length)
    small = rounded(big / _SMALLEST_SHARE)
    return [(big,)] if small == big else [(big,), (big, small)]
