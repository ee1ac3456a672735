"""Packed rows: the same examples, each whole, in chunks of few shapes."""

import numpy as np
import pytest

from spjax.data.batching import batching, chunk_shapes, packing
from spjax.data.batching.packing import ChunkShape


def batch_of(lengths, targets, prompt=2):
    """One example a row; example i has tokens 100 i + position, and belongs to run i."""
    width, target_width = max(lengths), max(targets)
    count = len(lengths)
    number_N1 = np.arange(count)[:, None]
    real_BL = np.arange(width) < np.array(lengths)[:, None]
    real_BM = np.arange(target_width) < np.array(targets)[:, None]
    slots = np.where(np.arange(width) < prompt, np.arange(width), -1) + np.zeros_like(number_N1)
    tokens = 100 * number_N1 + np.arange(width)
    return {
        "inputs_BL": np.where(real_BL, tokens, 0).astype(np.int32),
        "slots_BL": slots.astype(np.int32),
        "input_segments_BL": real_BL.astype(np.int32),
        "targets_BM": np.where(real_BM, 7 + number_N1, 0).astype(np.int32),
        "target_segments_BM": real_BM.astype(np.int32),
        "runs_BG": number_N1.astype(np.int32),
        "tasks_BG": number_N1.astype(np.int32) + 50,
    }


def examples(chunks):
    """Returns the ids of each segment, by its run."""
    found = {}
    for chunk in chunks:
        for row in range(len(chunk["inputs_BL"])):
            for segment in set(chunk["input_segments_BL"][row].tolist()) - {0}:
                own, out = (
                    chunk[f"{s}_segments_{d}"][row] == segment
                    for s, d in (("input", "BL"), ("target", "BM"))
                )
                assert (np.diff(np.flatnonzero(own)) == 1).all()
                run = int(chunk["runs_BG"][row, segment - 1])
                assert run not in found
                found[run] = (
                    chunk["inputs_BL"][row][own].tolist(),
                    chunk["slots_BL"][row][own].tolist(),
                    chunk["targets_BM"][row][out].tolist(),
                    int(chunk["tasks_BG"][row, segment - 1]),
                )
    return found


SHAPES = (ChunkShape(2, 12, 5, 4), ChunkShape(3, 6, 3, 1))


def test_every_example_is_whole_and_keeps_its_run_task_and_slots():
    lengths, targets = [9, 5, 3, 8, 4, 10, 5, 6], [1, 2, 3, 1, 2, 2, 1, 1]
    chunks = packing.pack(batch_of(lengths, targets), SHAPES)
    assert [chunk["inputs_BL"].shape for chunk in chunks] == [(2, 12), (2, 12), (3, 6)]
    for chunk, (rows, length, target_length, segments) in zip(
        chunks, [SHAPES[0], SHAPES[0], SHAPES[1]]
    ):
        widths = {name[-2:]: array.shape for name, array in chunk.items()}
        assert widths == {
            "BL": (rows, length),
            "BM": (rows, target_length),
            "BG": (rows, segments),
        }
    found = examples(chunks)
    assert sorted(found) == list(range(8))
    for i, (inputs, slots, outputs, task) in found.items():
        assert inputs == [100 * i + place for place in range(lengths[i])]
        assert slots == [0, 1] + [-1] * (lengths[i] - 2)
        assert outputs == [7 + i] * targets[i] and task == 50 + i


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        (ChunkShape(9, 8, 100, 99), 3),
        (ChunkShape(9, 8, 2, 99), 6),
        (ChunkShape(9, 8, 100, 1), 6),
    ],
)
def test_room_is_kept_in_positions_targets_and_segments(shape, rows):
    lengths, targets = np.array([4] * 6), np.array([2] * 6)
    (chunk,) = packing.assign_positions(lengths, targets, [shape])
    assert chunk.shape == shape and chunk.rows.max() + 1 == rows
    for row in range(rows):
        inside = chunk.rows == row
        assert (chunk.starts[inside] + 4).max() <= 8
        assert (chunk.target_starts[inside] + 2).max() <= 100
        assert sorted(chunk.segments[inside]) == list(range(inside.sum()))


def shapes_of(lengths, shapes, targets=1):
    """The shape and the lengths of each chunk."""
    lengths = np.array(lengths)
    chunks = packing.assign_positions(lengths, np.full(len(lengths), targets), shapes)
    return [(chunk.shape[:2], lengths[chunk.examples].tolist()) for chunk in chunks]


def test_a_chunk_has_the_shortest_rows_that_hold_the_longest_example_left():
    long, short = ChunkShape(1, 16, 4, 2), ChunkShape(2, 8, 2, 1)
    assert shapes_of([7, 15, 9, 8, 6], [short, long]) == [
        ((1, 16), [15]),
        ((1, 16), [9, 7]),
        ((2, 8), [8, 6]),
    ]


def test_the_last_chunk_has_the_fewest_positions_that_hold_what_is_left():
    shapes = [ChunkShape(8, 8, 2, 1), ChunkShape(2, 8, 2, 1), ChunkShape(2, 10, 2, 1)]
    assert shapes_of([5] * 9, shapes) == [((8, 8), [5] * 8), ((2, 8), [5])]
    assert shapes_of([5] * 2, shapes) == [((2, 8), [5] * 2)]
    assert shapes_of([5, 9], shapes) == [((2, 10), [9, 5])]
    assert shapes_of([], shapes) == []


def test_a_target_may_need_another_shape():
    shapes = [ChunkShape(2, 8, 2, 1), ChunkShape(2, 16, 4, 1)]
    assert shapes_of([8], shapes, targets=3) == [((2, 16), [8])]


def test_an_example_with_a_long_target_waits_for_a_shape_that_holds_it():
    shapes = [ChunkShape(3, 8, 2, 1), ChunkShape(2, 16, 4, 1)]
    chunks = packing.pack(batch_of([8, 7, 6], [1, 4, 1]), shapes)
    assert {run: outputs for run, (_, _, outputs, _) in examples(chunks).items()} == {
        0: [7],
        1: [8] * 4,
        2: [9],
    }


def test_short_examples_fill_what_long_ones_leave():
    assert shapes_of([12, 2, 5, 6, 4], [ChunkShape(2, 16, 9, 9)]) == [
        ((2, 16), [12, 6, 5, 4, 2]),
    ]


def test_rows_that_are_left_over_are_empty():
    chunks = packing.pack(batch_of([3], [1]), [ChunkShape(3, 4, 4, 2)])
    (chunk,) = chunks
    assert (chunk["input_segments_BL"][1:] == 0).all() and (chunk["slots_BL"][1:] == -1).all()
    assert (chunk["target_segments_BM"][1:] == 0).all()


def sampled(lengths, targets, batches=8, size=32):
    rng = np.random.default_rng(0)
    return [(rng.choice(lengths, size), rng.choice(targets, size)) for _ in range(batches)]


def chosen(batches, **options):
    longest = (max(x.max() for x, _ in batches), max(y.max() for _, y in batches))
    settings = {"longest": longest, "limit": 1024, "rows_at_once": lambda length: 2048 // length}
    return chunk_shapes.choose(
        batches, lambda x, y: x * (1 + x / 500) + 3 * y, **settings | options
    )


def computed(batches, shapes):
    chunks = [chunk.shape for b in batches for chunk in packing.assign_positions(*b, shapes)]
    return sum(shape.rows * shape.length for shape in chunks)


def test_the_cheapest_shapes_waste_little():
    batches = sampled(np.arange(60, 200), [2, 3])
    shapes = chosen(batches)
    real = sum(int(x.sum()) for x, _ in batches)
    assert real / computed(batches, shapes) > 0.85
    assert all(shape.rows * shape.length <= 2048 for shape in shapes)


def test_short_examples_have_short_rows_where_a_shape_pays():
    # Attention in rows for the longest example would cost the others a multiple.
    batches = sampled([60] * 30 + [1000], [2])
    few, many = chosen(batches, program=1e9), chosen(batches)
    assert len(few) == 1 and few[0].length >= 1000
    assert len(many) > 1 and min(shape.length for shape in many) <= 192


def test_a_shape_serves_devices_parts_and_the_longest_example():
    batches = sampled(np.arange(60, 200), [2, 3])
    assert all(shape.rows % 8 == 0 for shape in chosen(batches, multiple=8))
    at_once = {"rows_at_once": None}
    (whole,), (parts,) = chosen(batches, **at_once), chosen(batches, parts=4, **at_once)
    assert parts.length * parts.rows < whole.length * whole.rows / 3
    assert max(shape.length for shape in chosen(batches, longest=(2000, 300))) == 2000
    assert all(x.target_length >= 300 for x in chosen(batches, longest=(600, 300)))
    assert all(shape.length <= 200 for shape in chosen(batches, limit=192))


@pytest.mark.parametrize("size", [32, 512])
def test_devices_other_than_cpu_take_batches_whole(size):
    batches = sampled(np.arange(60, 200), [2, 3], size=size)
    (shape,) = chosen(batches, rows_at_once=None)
    assert all(len(packing.assign_positions(*batch, [shape])) == 1 for batch in batches)


def test_packing_takes_little_time(many_runs=16):
    import time

    rng = np.random.default_rng(0)
    batch = batch_of(rng.integers(20, 60, 32 * many_runs).tolist(), [3] * 32 * many_runs)
    shapes = [ChunkShape(8, 256, 64, 32), ChunkShape(2, 256, 64, 32), ChunkShape(16, 64, 8, 4)]
    packing.pack(batch, shapes)
    start = time.process_time()
    for _ in range(5):
        packing.pack(batch, shapes)
    assert (time.process_time() - start) / 5 < 0.05  # seconds; a gang's step takes far more


def test_gangs_of_unequal_rows_pack():
    parts = {1: batch_of([5, 3], [1, 1]), 4: batch_of([9], [2])}
    merged = batching.gang(parts)
    assert merged["runs_BG"][:, 0].tolist() == [1, 1, 4]
    assert sorted(
        examples(
            packing.pack({**merged, "runs_BG": np.arange(3)[:, None]}, [ChunkShape(1, 10, 4, 3)])
        )
    ) == [0, 1, 2]


def test_row_lengths_of_a_unit():
    for longest in (100, 1100):  # beyond the usual lengths too
        shapes = chosen(sampled([60, 70, longest], [4]), unit=128)
        assert all(shape.length % 128 == 0 for shape in shapes)
        assert max(shape.length for shape in shapes) >= longest
