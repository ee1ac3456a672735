"""Packing: several examples in a row, rows in chunks of few shapes.

Packing changes the positions of examples, not the set of examples in a batch. Every segment of a
row keeps its own run and task, so its slots still point into its own prompt.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spjax.data.batching.batching import HostBatch


class ChunkShape(NamedTuple):
    """Shape of a chunk: rows that go through the model together, by one compiled program.

    Attributes:
      rows: B.
      length: L, positions of the encoder.
      target_length: M, positions of the decoder.
      segments: G, most examples in a row.
    """

    rows: int
    length: int
    target_length: int
    segments: int


class Chunk(NamedTuple):
    """Examples of a batch that share a chunk, and their positions in it; all int64 `[N]`.

    Attributes:
      shape: of the chunk.
      examples: their numbers in the batch.
      rows: row of each.
      starts: first encoder position of each.
      target_starts: first decoder position of each.
      segments: segment of each, from 0.
    """

    shape: ChunkShape
    examples: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    target_starts: np.ndarray
    segments: np.ndarray


def assign_positions(
    lengths_N: np.ndarray, targets_N: np.ndarray, shapes: Sequence[ChunkShape]
) -> list[Chunk]:
    """Assigns each example a position in a chunk, the longest first.

    A chunk has the shortest rows that hold the longest example left, or, where one chunk holds all
    that is left, the least positions. Each example goes into the first row with room.

    Args:
      lengths_N: encoder positions of each example, prompt included.
      targets_N: decoder positions of each example.
      shapes: that chunks may have; one of them holds any example.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    lengths, targets = lengths_N[order_N].tolist(), targets_N[order_N].tolist()
    shapes = sorted(shapes, key=lambda shape: (shape.length, -shape.rows))
    remaining, chunks = list(range(len(lengths))), []
    while remaining:
        fitting = [
            shape
            for shape in shapes
            if lengths[remaining[0]] <= shape.length
            and targets[remaining[0]] <= shape.target_length
        ]
        total, count = sum(lengths[i] for i in remaining), len(remaining)
        holding = [
            shape
            for shape in fitting
            if total <= shape.rows * shape.length and count <= shape.rows * shape.segments
        ]
        for shape in sorted(holding, key=_positions):
            placed, left_over = _fill(shape, remaining, lengths, targets)
            if not left_over:
                break
        else:
            shape = fitting[0]
            placed, left_over = _fill(shape, remaining, lengths, targets)
        columns = np.array(placed, np.int64).T
        chunks.append(Chunk(shape, order_N[columns[0]], *columns[1:]))
        remaining = left_over
    return chunks


def _positions(shape: ChunkShape) -> int:
    return shape.rows * (shape.length + shape.target_length)


def _fill(
    shape: ChunkShape, remaining: list[int], lengths: list[int], targets: list[int]
) -> tuple[list[tuple[int, int, int, int, int]], list[int]]:
    """Puts examples into a chunk, each in the first row with room.

    Args:
      shape: of the chunk.
      remaining: examples to choose from, the longest first.
      lengths: encoder positions of all examples, the longest first.
      targets: decoder positions of all examples.

    Returns:
      Example, row, first encoder position, first decoder position and segment of each that found
      room, and the examples that did not.
    """
    used: list[list[int]] = []  # encoder positions, decoder positions, segments of each row
    placed, left_over = [], []
    at = 0
    while at < len(remaining):
        i = remaining[at]
        x, y = lengths[i], targets[i]
        if y > shape.target_length:
            left_over.append(i)
            at += 1
            continue
        for number, row in enumerate(used):  # noqa: B007  (used below)
            if (
                row[0] + x <= shape.length
                and row[1] + y <= shape.target_length
                and row[2] < shape.segments
            ):
                break
        else:
            if len(used) == shape.rows:
                # On to the first example that is short enough for some row.
                room = shape.length - min(row[0] for row in used)
                after = at + 1
                if x > room:
                    after = bisect.bisect_left(
                        remaining, -room, lo=after, key=lambda i: -lengths[i]
                    )
                left_over += remaining[at:after]
                at = after
                continue
            number, row = len(used), [0, 0, 0]
            used.append(row)
        placed.append((i, number, row[0], row[1], row[2]))
        row[0], row[1], row[2] = row[0] + x, row[1] + y, row[2] + 1
        at += 1
    return placed, left_over


def pack(batch: HostBatch, shapes: Sequence[ChunkShape]) -> list[HostBatch]:
    """Packs a batch of one example a row into fewer rows.

    Args:
      batch: as `batching.gang` makes it; every example starts at the first position of its row.
      shapes: that chunks may have.

    Returns:
      For each chunk its arrays. Rows that are left over are empty: all their segments are 0.
    """
    real_BL, real_BM = batch["input_segments_BL"] > 0, batch["target_segments_BM"] > 0
    lengths_N, targets_N = real_BL.sum(axis=1), real_BM.sum(axis=1)
    packed = []
    for shape, examples_N, rows_N, *starts, segments_N in assign_positions(
        lengths_N, targets_N, shapes
    ):
        arrays = {}
        for names, width, starts_N, counts_N in (
            (("inputs_BL", "slots_BL", "input_segments_BL"), shape.length, starts[0], lengths_N),
            (("targets_BM", "target_segments_BM"), shape.target_length, starts[1], targets_N),
        ):
            counts_N = counts_N[examples_N]
            source = _ranges(examples_N * batch[names[0]].shape[1], counts_N)
            goal = _ranges(rows_N * width + starts_N, counts_N)
            for name in names:
                array = np.full(shape.rows * width, -1 if name == "slots_BL" else 0, np.int32)
                array[goal] = batch[name].reshape(-1)[source]
                arrays[name] = array.reshape(shape.rows, width)
            arrays[names[-1]].reshape(-1)[goal] = np.repeat(segments_N + 1, counts_N)
        for name in ("runs_BG", "tasks_BG"):
            arrays[name] = np.zeros((shape.rows, shape.segments), np.int32)
            arrays[name][rows_N, segments_N] = batch[name][examples_N, 0]
        packed.append(arrays)
    return packed


def _ranges(starts_N: np.ndarray, counts_N: np.ndarray) -> np.ndarray:
    """Concatenates `start, start + 1, ...` for each start, `count` numbers each."""
    before_N = np.cumsum(counts_N) - counts_N
    return np.arange(counts_N.sum()) + np.repeat(starts_N - before_N, counts_N)
