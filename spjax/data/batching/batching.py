"""Batches from cached splits: shuffling, slots for the prompt, padding, exact resume.

A batch is a dict of int32 arrays with the fields of `spjax.types.Batch`, here with one example a
row. A row has `prompt_length + input_length` positions; the prompt takes up `prompt_length` of them
wherever it is inserted, so texts are never cut to make room for it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import grain
import numpy as np

from spjax.data.batching import slots
from spjax.data.token_cache.cache import CachedSplit

HostBatch = dict[str, np.ndarray]

INSERTIONS = ("front", "after_first", "end")
_ENDLESS = 2**31  # batches; Grain wants a length
# Rows are a little longer than they need to be so that tasks share compiled programs.
_MULTIPLES = {"inputs": 16, "targets": 4}
ROW_LENGTHS = (*range(16, 256, 16), *range(256, 320, 32), *range(320, 1025, 64))
_BEYOND = 256  # a multiple of longer ones
_MOST_LENGTHS, _SAVING = 4, 13 / 14  # of rows in an evaluation: each is a compilation


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of text and prompt in a row.

    Attributes:
      prompt_length: slots in each row; 0 for methods without soft tokens.
      insertion: "front", "after_first" (after the first token) or "end" (after the text, before
        its EOS); or a template, whose slots are in the ids of the splits
        (`spjax.data.batching.slots`).
      input_length: room for text, EOS included.
      target_length: room for the target, EOS included.
      tasks: names of tasks and their numbers in a batch's `tasks_BG`; 0 for those not named.
    """

    prompt_length: int
    insertion: str
    input_length: int
    target_length: int
    tasks: tuple[tuple[str, int], ...] = ()

    @property
    def row_length(self) -> int:
        """Returns the number of positions of an input row."""
        return self.prompt_length + self.input_length

    @property
    def inline(self) -> bool:
        """Returns whether the ids of the splits contain the slots."""
        return slots.is_template(self.insertion)

    @property
    def slots_beside(self) -> int:
        """Returns the number of slots that are added to the ids of the splits."""
        return 0 if self.inline else self.prompt_length


def make_layout(
    splits: Sequence[CachedSplit],
    *,
    prompt_length: int = 0,
    insertion: str = "front",
    input_length: int = 0,
    target_length: int = 0,
    row_length: int = 0,
    tasks: tuple[tuple[str, int], ...] = (),
) -> Layout:
    """Returns a layout with room for every example of some splits.

    Args:
      splits: the splits.
      prompt_length: slots in each row.
      insertion: one of `INSERTIONS`, or a template.
      input_length: room for text; 0 for the longest text rounded up to 16 (targets to 4), but at
        most what the splits were cut to.
      target_length: room for targets; likewise.
      row_length: the most positions a row may have; 0 for no limit.
      tasks: as in `Layout`.

    Raises:
      ValueError: an unknown insertion, a negative length, a length too short for the examples, or
        a prompt longer than the row allows.
    """
    inline = slots.is_template(insertion)
    if insertion not in INSERTIONS and not inline:
        raise ValueError(f"unknown insertion {insertion!r}; choose one of {', '.join(INSERTIONS)}")
    if prompt_length < 0:
        raise ValueError(f"the prompt length is {prompt_length}; it must be 0 or more")
    layout = Layout(
        prompt_length,
        insertion,
        _room(splits, "inputs", input_length, prompt_length if inline else 0),
        _room(splits, "targets", target_length),
        tasks,
    )
    if row_length and layout.row_length > row_length:
        raise ValueError(
            f"a prompt of {prompt_length} is longer than the row allows: with {layout.input_length}"
            f" tokens of text it needs {layout.row_length} positions, and a row has {row_length}; "
            f"use a prompt of at most {max(0, row_length - layout.input_length)}, or shorter inputs"
        )
    return layout


def train_iterator(
    splits: Sequence[CachedSplit],
    rates: Sequence[float],
    layout: Layout,
    *,
    batch_size: int,
    seed: int = 0,
    sample_splits: bool = False,
) -> grain.DatasetIterator:
    """Yields endless batches of one or more splits, each reshuffled in each of its epochs.

    The order depends only on the seed, the numbers of examples and the rates. Batches continue
    across the end of an epoch, so all are full. `get_state()` returns a small dict fit for JSON;
    after `set_state()` with it a new iterator continues with the next batch.

    Args:
      splits: what to train on.
      rates: of examples of each split, in proportion.
      layout: of the rows, as `make_layout` makes it for these splits.
      batch_size: examples in a batch.
      seed: of the order; 0 or more.
      sample_splits: whether each batch is of some of the splits only, see `few_streams`.

    Raises:
      ValueError: a split is empty, or a bad batch size or seed.
    """
    _check_batch_size(batch_size)
    for split in splits:
        if split.num_examples == 0:
            raise ValueError(f"the split {split.task}/{split.split} has no examples to train on")
    if seed < 0:
        raise ValueError(f"the seed of the data order is {seed}; it must be 0 or more")
    counts = [split.num_examples for split in splits]
    shares = _shares(rates)

    def batch(number: int) -> HostBatch:
        positions = np.arange(number * batch_size, (number + 1) * batch_size)
        few = sample_splits and len(splits) > 1
        places = few_streams(rates, seed, positions) if few else mixed(shares, seed, positions)
        parts = []
        for split, count, stream_places in zip(splits, counts, places):
            if len(stream_places):
                parts.append(rows(split, shuffled(count, seed, stream_places), layout))
        return parts[0] if len(parts) == 1 else _joined(parts)

    # Grain counts whole batches: shuffling and batching single examples in it takes 1 ms a batch.
    # No threads, since a batch takes less time than handing it over.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(grain.MapDataset.range(_ENDLESS).map(batch).to_iter_dataset(options))


def eval_batches(
    split: CachedSplit, layout: Layout, batch_size: int, *, positions: int = 0
) -> Iterator[tuple[HostBatch, np.ndarray]]:
    """Yields the examples of a split by length, so that few positions are padding.

    Args:
      split: what to evaluate.
      layout: of the rows; must have room for the split.
      batch_size: most rows in a batch.
      positions: of the encoder in a batch, about; 0 for as many as there are.

    Returns:
      An iterator of (batch, indices of its examples). Rows have one of a few lengths
      (`few_lengths`), and batches of one length have equally many rows; those beyond a batch's
      examples repeat the last of them, with nothing to predict (`target_segments_BM` is 0).

    Raises:
      ValueError: a bad batch size.
    """
    _check_batch_size(batch_size)
    lengths = split.inputs.lengths + layout.slots_beside
    order = np.argsort(lengths, kind="stable")

    def size_of(length: int) -> int:
        return min(batch_size, max(1, positions // length)) if positions else batch_size

    def batches() -> Iterator[tuple[HostBatch, np.ndarray]]:
        first = 0
        for length, count in few_lengths(lengths, size_of):
            alike, size = order[first : first + count], size_of(length)
            batch_layout = dataclasses.replace(layout, input_length=length - layout.prompt_length)
            for start in range(0, count, size):
                indices = alike[start : start + size]
                batch = rows(
                    split, np.pad(indices, (0, size - len(indices)), mode="edge"), batch_layout
                )
                batch["target_segments_BM"][len(indices) :] = 0
                yield batch, indices
            first += count

    return batches()


def smallest(sizes: Sequence[int], need: int, beyond: int) -> int:
    """Returns the first of some ascending sizes that suffices, `beyond` if none does."""
    return next((size for size in sizes if size >= need), beyond)


def few_lengths(lengths: np.ndarray, size_of: Callable[[int], int]) -> list[tuple[int, int]]:
    """Returns the row lengths that together waste least, each with its number of examples.

    A further length, up to four, is used where it saves a fourteenth of all positions.

    Args:
      lengths: positions that each example needs.
      size_of: rows in a batch of some length; the last batch of a length is filled up.

    Returns:
      Pairs (length, examples), shorter ones first.
    """
    beyond = np.minimum(-(-lengths // _BEYOND) * _BEYOND, max(lengths, default=0))
    needed = [smallest(ROW_LENGTHS, length, far) for length, far in zip(lengths, beyond)]
    values, counts = np.unique(np.asarray(needed, np.int64), return_counts=True)
    upto = np.cumsum(counts)

    def filled(ends: Sequence[int]) -> list[tuple[int, int]]:
        return list(zip(values[list(ends)].tolist(), np.diff(upto[list(ends)], prepend=0).tolist()))

    def cost(lengths_and_counts: list[tuple[int, int]]) -> int:
        return sum(-(-count // size_of(n)) * size_of(n) * n for n, count in lengths_and_counts)

    best = filled([len(values) - 1]) if len(values) else []
    for more in range(1, _MOST_LENGTHS):
        chosen = itertools.combinations(range(len(values) - 1), more)
        candidate = min(
            (filled([*ends, len(values) - 1]) for ends in chosen), key=cost, default=best
        )
        if cost(candidate) < _SAVING * cost(best):
            best = candidate
    return best


def gang(batches: Mapping[int, HostBatch]) -> HostBatch:
    """Joins the batches of several runs, run by run, into one; `runs_BG` has each row's run.

    Rows of unequal length are padded at the end to the longest.

    Args:
      batches: the batch of each run, by the run's number.
    """
    merged: HostBatch = {}
    for name in next(iter(batches.values())):
        width = max(batch[name].shape[1] for batch in batches.values())
        fill = -1 if name == "slots_BL" else 0
        parts = [_widen(batch[name], width, fill) for batch in batches.values()]
        merged[name] = np.concatenate(parts)
    sizes = [len(batch["runs_BG"]) for batch in batches.values()]
    runs_B1 = np.repeat(np.array(list(batches), np.int32), sizes)[:, None]
    merged["runs_BG"] = runs_B1 + np.zeros_like(merged["runs_BG"])
    return merged


def mixed(shares: Sequence[int], seed: int, positions: np.ndarray) -> list[np.ndarray]:
    """Returns, for each stream, its positions at some places of an endless mixed stream.

    The stream is made of blocks that hold `shares[i]` examples of stream i in random order.

    Args:
      shares: of each stream in a block, each at least 1.
      seed: of the order.
      positions: int64, places in the mixed stream.

    Returns:
      For each stream the places in it, int64, that stand at `positions`; all of them together are
      as many as `positions`.
    """
    if len(shares) == 1:
        return [positions]
    ends = np.cumsum(shares)
    size = int(ends[-1])
    blocks = positions // size
    places = np.empty_like(positions)
    for block in np.unique(blocks):
        inside = blocks == block
        order = _permutation(size, seed, int(block))
        places[inside] = order[positions[inside] - block * size]
    owners = np.searchsorted(ends, places, side="right")
    starts = ends - shares
    return [
        blocks[owners == i] * share + places[owners == i] - starts[i]
        for i, share in enumerate(shares)
    ]


def few_streams(rates: Sequence[float], seed: int, positions: np.ndarray) -> list[np.ndarray]:
    """Returns the same as `mixed`, with few streams in a batch (Wang et al. 2023).

    The number of streams is drawn uniformly, at least two, then the streams, by their rates; one of
    them gets the remainder of the batch. Some places of a stream are never used.

    Args:
      rates: how often each stream is drawn, in proportion.
      seed: of the draws.
      positions: int64, all those of a batch, in order.
    """
    rng = np.random.default_rng([seed, int(positions[0])])
    number = int(rng.integers(2, len(rates) + 1))
    shares = np.asarray(rates, np.float64) / np.sum(rates)
    chosen = rng.choice(len(rates), number, replace=False, p=shares)
    sizes = np.full(number, len(positions) // number)
    sizes[rng.integers(number)] += len(positions) % number
    counts = dict(zip(chosen.tolist(), sizes.tolist()))
    return [positions[: counts.get(i, 0)] for i in range(len(rates))]


def shuffled(count: int, seed: int, positions: np.ndarray) -> np.ndarray:
    """Returns the indices of the examples at some places of a split's endless stream.

    Args:
      count: examples in an epoch.
      seed: of the order.
      positions: int64, places in the stream.

    Returns:
      int64, as many indices below `count`.
    """
    epochs = positions // count
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        indices[inside] = _permutation(count, seed, int(epoch))[positions[inside] - epoch * count]
    return indices


def rows(split: CachedSplit, indices: np.ndarray, layout: Layout) -> HostBatch:
    """Makes one batch of the examples at `indices`.

    Args:
      split: the split.
      indices: int64 [B].
      layout: must have room for them, as from `make_layout`.

    Returns:
      The arrays of `spjax.types.Batch`, with G = 1, runs 0 and the task's number.
    """
    prompt = layout.slots_beside
    starts_B1 = split.inputs.offsets[indices][:, None]
    lengths_B1 = split.inputs.offsets[indices + 1][:, None] - starts_B1
    # Text before the prompt: none, the first token, or all but EOS; EOS always comes after it.
    before = {"front": 0, "after_first": 1, "end": layout.input_length}.get(layout.insertion, 0)
    before_B1 = np.minimum(before, lengths_B1 - 1)
    position_L = np.arange(layout.row_length)
    slots_BL = position_L - before_B1
    is_slot_BL = (slots_BL >= 0) & (slots_BL < prompt)
    text_BL = np.where(slots_BL < 0, position_L, position_L - prompt)
    real_BL = position_L < lengths_B1 + prompt
    target_starts_B1 = split.targets.offsets[indices][:, None]
    target_lengths_B1 = split.targets.offsets[indices + 1][:, None] - target_starts_B1
    target_M = np.arange(layout.target_length)
    target_real_BM = target_M < target_lengths_B1
    none_BG = np.zeros((len(indices), 1), np.int32)
    inputs_BL = _gather(split.inputs.values, starts_B1 + text_BL, real_BL & ~is_slot_BL)
    if layout.inline:
        is_slot_BL, slots_BL = inputs_BL < 0, -1 - inputs_BL
    return {
        "inputs_BL": np.maximum(inputs_BL, 0),
        "slots_BL": np.where(is_slot_BL, slots_BL, -1).astype(np.int32),
        "input_segments_BL": real_BL.astype(np.int32),
        "targets_BM": _gather(split.targets.values, target_starts_B1 + target_M, target_real_BM),
        "target_segments_BM": target_real_BM.astype(np.int32),
        "runs_BG": none_BG,
        "tasks_BG": none_BG + np.int32(dict(layout.tasks).get(split.task, 0)),
    }


def _gather(values: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns `values` at `places` where `wanted`, else 0; int32."""
    return np.where(wanted, values[np.where(wanted, places, 0)], 0).astype(np.int32)


def _joined(parts: Sequence[HostBatch]) -> HostBatch:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _shares(rates: Sequence[float]) -> list[int]:
    """Returns rates as whole numbers, scaled to ten thousandths if they are not."""
    if len(rates) == 1:
        return [1]
    if all(float(rate).is_integer() and rate >= 1 for rate in rates):
        return [int(rate) for rate in rates]
    return [max(1, round(10_000 * rate / sum(rates))) for rate in rates]


@functools.lru_cache(maxsize=256)  # two epochs of each task for each run of a gang
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _room(splits: Sequence[CachedSplit], feature: str, length: int, slots_among: int = 0) -> int:
    longest = max((int(getattr(s, feature).lengths.max(initial=1)) for s in splits), default=1)
    longest = max(longest - slots_among, 1)
    if length == 0:
        cut = max((split.lengths[feature] for split in splits), default=longest)
        multiple = _MULTIPLES[feature]
        return max(longest, min(-(-longest // multiple) * multiple, cut))
    if length < longest:
        raise ValueError(
            f"room for {length} {feature} is too little: the longest example has {longest} tokens; "
            f"give at least {longest}, or load the split with shorter lengths so that it is cut"
        )
    return length


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}; it must be 1 or more")


def _widen(array: np.ndarray, width: int, fill: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)
