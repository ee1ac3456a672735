"""Shapes of the chunks of packed batches, chosen by what they cost on this kind of device."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from spjax import partitioning, platforms
from spjax.data.batching.batching import ROW_LENGTHS, smallest
from spjax.data.batching.packing import ChunkShape, assign_positions
from spjax.models import T5Config
from spjax.models.flops import forward_flops

_TARGETS = (4, 8, 16, 32, 64, 128, 256)
_POSITIONS_PER_SEGMENT = 8  # of a row; bounds G, which costs nothing, without looking at the texts
_SMALL_SHARE = 4  # of the rows of a chunk in a small one
_MOST_SHAPES, _SAVING = 6, 0.99  # each is a compilation, and saves a hundredth at the least
_ENOUGH_EXAMPLES = 512  # to choose shapes by: a gang's batch may have thousands

Batches = Sequence[tuple[np.ndarray, np.ndarray]]

# On CPU an operation of attention takes the time of two of a projection (softmax and masks), and to
# compile one more shape as long as so many operations. A chunk has about so many positions, and
# such logits of attention, that what it keeps for the backward pass stays in the caches; reading
# the weights once more for another chunk takes as long as a row of so many positions. Elsewhere
# whole batches go at once.
_SCORE_WEIGHT = 2.0
_CPU_PROGRAM = 2.5e11
_CPU_LOGITS = 1 << 24  # bytes in a layer
_CPU_CHUNK = 64


def fastest(
    batches: Batches,
    longest: tuple[int, int],
    config: T5Config,
    *,
    steps: int,
    limit: int = 1024,
    parts: int = 1,
    multiple: int = 1,
    unit: int = 1,
) -> tuple[ChunkShape, ...]:
    """Returns the shapes in which some batches should train fastest on this kind of device.

    Args:
      batches: as for `choose`, like `longest`, `limit`, `parts` and `multiple`.
      longest: encoder and decoder positions.
      config: of the model.
      steps: of the training, which has to be worth the compilations.
      limit: most positions of a row.
      parts: chunks of a batch, at the least.
      multiple: what the rows of a chunk are a multiple of.
      unit: what the length of a row is a multiple of.
    """

    def cost(inputs: int, targets: int) -> float:
        return 2 * steps * forward_flops(config, inputs, targets, _SCORE_WEIGHT)

    on_cpu = platforms.current() == "cpu"
    return choose(
        batches,
        cost,
        longest=longest,
        limit=limit,
        parts=parts,
        multiple=multiple,
        unit=unit,
        rows_at_once=functools.partial(_rows_at_once, config) if on_cpu else None,
        program=_CPU_PROGRAM if on_cpu else 0.0,
        chunk=cost(_CPU_CHUNK, _CPU_CHUNK) if on_cpu else 0.0,
    )


def _rows_at_once(config: T5Config, length: int) -> int:
    """Returns the rows of some length in a chunk whose activations stay in a CPU's caches."""
    logits = 4 * config.num_heads * length**2
    return min(round(partitioning.positions_at_once() / length), _CPU_LOGITS // logits)


def plain(length: int, target_length: int, rows: int, multiple: int = 1) -> tuple[ChunkShape]:
    """Returns the shape with one example a row, all rows at once.

    Args:
      length: room for the longest inputs and their prompt.
      target_length: room for the longest targets.
      rows: examples in a batch.
      multiple: what the rows of a chunk are a multiple of; those that are left over are empty.
    """
    room = smallest(ROW_LENGTHS, length, length)
    target_room = smallest(_TARGETS, target_length, target_length)
    return (ChunkShape(-(-rows // multiple) * multiple, room, target_room, 1),)


def choose(
    batches: Batches,
    cost: Callable[[int, int], float],
    *,
    longest: tuple[int, int],
    limit: int,
    rows_at_once: Callable[[int], int] | None,
    parts: int = 1,
    multiple: int = 1,
    unit: int = 1,
    program: float = 0.0,
    chunk: float = 0.0,
) -> tuple[ChunkShape, ...]:
    """Returns the shapes of chunks in which some batches cost least.

    Args:
      batches: encoder and decoder positions of the examples of some typical batches.
      cost: of a row with L encoder and M decoder positions, in all steps, in any unit.
      longest: encoder and decoder positions that any example may need.
      limit: most encoder positions of a row, unless the longest example needs more.
      rows_at_once: most rows of some length in a chunk; None for whole batches at once, in one
        shape.
      parts: least number of chunks of a batch.
      multiple: rows of a chunk are a multiple of this, the number of devices that share them.
      unit: row lengths are a multiple of this.
      program: cost of compiling one more shape.
      chunk: cost of one more chunk in all steps, whatever its shape.
    """
    all_batches = batches
    batches = batches[: max(1, _ENOUGH_EXAMPLES // len(batches[0][0]))]
    lengths = [n for n in ROW_LENGTHS if n <= max(longest[0], limit) and n % unit == 0]
    if not lengths or lengths[-1] < longest[0]:
        lengths.append(-(-longest[0] // unit) * unit)

    def price(shapes: Sequence[ChunkShape]) -> float:
        row_costs = {
            shape: shape.rows * cost(shape.length, shape.target_length) for shape in shapes
        }
        total = sum(
            row_costs[x.shape] + chunk for b in batches for x in assign_positions(*b, shapes)
        )
        return total / len(batches) + program * len(shapes)

    candidates = [
        shape
        for length in lengths
        for target_length in _target_lengths(batches, length, longest[1])
        for shape in _shapes(batches, length, target_length, rows_at_once, parts, multiple)
    ]
    holding_all = [shape for shape in candidates if shape.length >= longest[0]]
    least = [
        np.mean([max(x.sum() / s.length, y.sum() / s.target_length) for x, y in batches])
        * cost(s.length, s.target_length)
        for s in holding_all
    ]
    best: float = float("inf")
    chosen: tuple[ChunkShape, ...] = ()
    for bound, shape in sorted(zip(least, holding_all)):
        if bound + program < best:  # it would be, without any waste
            best, chosen = min((best, chosen), (price([shape]), (shape,)))
    while rows_at_once and len(chosen) < _MOST_SHAPES:
        more = [(*chosen, shape) for shape in candidates if shape not in chosen]
        cheapest, shapes = min(((price(shapes), shapes) for shapes in more), default=(best, ()))
        if cheapest > _SAVING * best:
            break
        best, chosen = cheapest, shapes
    if rows_at_once:
        return chosen
    # As many rows as the largest of all batches needs, so that hardly any takes a second chunk.
    ((_, length, target_length, _),) = chosen
    return tuple(_shapes(all_batches, length, target_length, None, parts, multiple))


def _target_lengths(batches: Batches, length: int, longest: int) -> list[int]:
    """Returns decoder positions to choose from for rows of some length."""
    inputs, targets = (sum(int(part.sum()) for part in parts) for parts in zip(*batches))
    needed = max(longest, length * targets / inputs)  # where rows are full
    fewest = smallest(_TARGETS, longest, longest)
    return sorted(
        {fewest, *(smallest(_TARGETS, round(n), longest) for n in (needed, 1.5 * needed))}
    )


def _shapes(
    batches: Batches,
    length: int,
    target_length: int,
    rows_at_once: Callable[[int], int] | None,
    parts: int,
    multiple: int,
) -> list[ChunkShape]:
    """Returns the shapes of big and small chunks with rows of some length."""
    shape = ChunkShape(1 << 30, length, target_length, max(1, length // _POSITIONS_PER_SEGMENT))
    most = 1
    for inputs, targets in batches:
        fitting = inputs <= length
        if fitting.any():
            (chunk,) = assign_positions(inputs[fitting], targets[fitting], [shape])
            most = max(most, int(chunk.rows.max()) + 1)
    big = -(-most // parts)
    if not rows_at_once:
        return [shape._replace(rows=-(-big // multiple) * multiple)]
    at_once = max(1, rows_at_once(length))
    even = -(-most // -(-big // at_once))  # as many in each chunk of a batch
    big = min(big, at_once)
    sizes = {round(rows / multiple) for rows in (big, min(big, even), big / _SMALL_SHARE)}
    return [shape._replace(rows=max(1, size) * multiple) for size in sorted(sizes)]
