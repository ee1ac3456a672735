"""Packed rows: the same examples, each whole, in chunks of few shapes."""

import numpy as np
import pytest

from spjax.data.batching import batching, packing


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


def test_every_example_is_whole_and_keeps_its_run_task_and_slots():
    lengths, targets = [9, 5, 3, 8, 4, 10], [1, 2, 3, 1, 2, 2]
    batch = batch_of(lengths, targets)
    rows = packing.Rows(12, 5, 4, (2, 1))
    chunks = packing.pack(batch, rows)
    assert [len(chunk["inputs_BL"]) for chunk in chunks] == [2, 2]
    assert {len(array[0]) for chunk in chunks for array in chunk.values()} == {12, 5, 4}
    found = examples(chunks)
    assert sorted(found) == list(range(6))
    for i, (inputs, slots, outputs, task) in found.items():
        assert inputs == [100 * i + place for place in range(lengths[i])]
        assert slots == [0, 1] + [-1] * (lengths[i] - 2)
        assert outputs == [7 + i] * targets[i] and task == 50 + i


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (packing.Rows(8, 100, 99, (1,)), 3),
        (packing.Rows(8, 2, 99, (1,)), 6),
        (packing.Rows(8, 100, 1, (1,)), 6),
    ],
)
def test_room_is_kept_in_positions_targets_and_segments(rows, count):
    lengths, targets = np.array([4] * 6), np.array([2] * 6)
    row, start, target_start, segment = packing.assign_positions(lengths, targets, rows)
    assert row.max() + 1 == count
    for own in range(count):
        inside = row == own
        assert (start[inside] + 4).max() <= 8 and (target_start[inside] + 2).max() <= 100
        assert sorted(segment[inside]) == list(range(inside.sum()))


def test_rows_that_are_left_over_are_empty():
    chunks = packing.pack(batch_of([3], [1]), packing.Rows(4, 4, 2, (3,)))
    (chunk,) = chunks
    assert (chunk["input_segments_BL"][1:] == 0).all() and (chunk["slots_BL"][1:] == -1).all()
    assert (chunk["target_segments_BM"][1:] == 0).all()


def test_chunks():
    rows = packing.Rows(4, 4, 2, (8, 2))
    assert rows.split(1) == [2] and rows.split(16) == [8, 8] and rows.split(11) == [8, 2, 2]


def sampled(lengths, targets, batches=8, size=32):
    rng = np.random.default_rng(0)
    return [(rng.choice(lengths, size), rng.choice(targets, size)) for _ in range(batches)]


def chosen(batches, **options):
    longest = (max(x.max() for x, _ in batches), max(y.max() for _, y in batches))
    settings = {"longest": longest, "limit": 1024, "positions": 2048}
    return packing.choose(batches, lambda x, y: x * (1 + x / 500) + 3 * y, **settings | options)


def test_the_cheapest_shape_wastes_little():
    batches = sampled(np.arange(60, 200), [2, 3])
    rows = chosen(batches)
    real = sum(int(x.sum()) for x, _ in batches)
    computed = rows.length * sum(
        sum(rows.split(int(packing.assign_positions(x, y, rows)[0].max()) + 1)) for x, y in batches
    )
    assert real / computed > 0.85 and rows.length * rows.chunks[0] < 2500


def test_a_shape_serves_devices_parts_and_the_longest_example():
    batches = sampled(np.arange(60, 200), [2, 3])
    assert all(size % 8 == 0 for size in chosen(batches, multiple=8).chunks)
    few = {"positions": 0, "program": 1e9}
    whole, parts = chosen(batches, **few), chosen(batches, parts=4, **few)
    assert len(whole.chunks) == len(parts.chunks) == 1
    assert parts.length * parts.chunks[0] < whole.length * whole.chunks[0] / 3
    assert chosen(batches, longest=(2000, 300)).length == 2000
    assert chosen(batches, longest=(600, 300)).target_length == 300
    assert chosen(batches, limit=192).length <= 200


def test_smaller_chunks_serve_batches_of_other_sizes():
    batches = sampled(np.arange(60, 200), [2, 3])
    assert len(chosen(batches, positions=0).chunks) == 1  # accelerators take batches whole
    big, small = chosen(batches, positions=1000).chunks
    assert small < big


@pytest.mark.parametrize(
    "rows, chunks",
    [(0, []), (3, [4]), (12, [4, 4, 4]), (13, [17]), (17, [17]), (18, [17, 4]), (33, [17, 17])],
)
def test_small_chunks_are_used_where_they_save_one(rows, chunks):
    assert packing.Rows(96, 8, 12, (17, 4)).split(rows) == chunks
    assert packing.Rows(96, 8, 12, (17,)).split(rows) == [17] * -(-rows // 17)


def test_packing_takes_little_time(many_runs=16):
    import time

    rng = np.random.default_rng(0)
    batch = batch_of(rng.integers(20, 60, 32 * many_runs).tolist(), [3] * 32 * many_runs)
    rows = packing.Rows(256, 64, 32, (8, 2))
    packing.pack(batch, rows)
    start = time.process_time()
    for _ in range(5):
        packing.pack(batch, rows)
    assert (time.process_time() - start) / 5 < 0.05  # seconds; a gang's step takes far more


def test_gangs_of_unequal_rows_pack():
    parts = {1: batch_of([5, 3], [1, 1]), 4: batch_of([9], [2])}
    merged = batching.gang(parts)
    assert merged["runs_BG"][:, 0].tolist() == [1, 1, 4]
    assert sorted(
        examples(
            packing.pack({**merged, "runs_BG": np.arange(3)[:, None]}, packing.Rows(10, 4, 3, (1,)))
        )
    ) == [0, 1, 2]


def test_row_lengths_of_a_unit():
    for longest in (100, 1100):  # beyond the usual lengths too
        found = chosen(sampled([60, 70, longest], [4]), unit=128)
        assert found.length % 128 == 0 and found.length >= longest
