"""Slots, padding, order and resume of batches."""

import json
import time
from typing import Any

import numpy as np
import pytest

from spjax.data.batching import batching

ROWS = [[11, 12, 13, 1], [21, 1], [1]]
WAYS = {"prompt_length": 2, "input_length": 5}


def only(split: Any, insertion: str, **options: Any) -> dict[str, np.ndarray]:
    layout = batching.make_layout([split], insertion=insertion, **WAYS | options)
    return batching.rows(split, np.arange(len(ROWS)), layout)


@pytest.mark.parametrize(
    ("insertion", "inputs", "slots"),
    [
        (
            "front",
            [[0, 0, 11, 12, 13, 1, 0], [0, 0, 21, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]],
            [[0, 1, -1, -1, -1, -1, -1]] * 3,
        ),
        (
            "after_first",
            [[11, 0, 0, 12, 13, 1, 0], [21, 0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]],
            [[-1, 0, 1, -1, -1, -1, -1]] * 2 + [[0, 1, -1, -1, -1, -1, -1]],
        ),
        (
            "end",
            [[11, 12, 13, 0, 0, 1, 0], [21, 0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]],
            [
                [-1, -1, -1, 0, 1, -1, -1],
                [-1, 0, 1, -1, -1, -1, -1],
                [0, 1, -1, -1, -1, -1, -1],
            ],
        ),
    ],
)
def test_slots(
    insertion: str, inputs: list[list[int]], slots: list[list[int]], make_split: Any
) -> None:
    batch = only(make_split(ROWS), insertion)
    assert batch["inputs_BL"].tolist() == inputs
    assert batch["slots_BL"].tolist() == slots
    real = [[1] * 6 + [0], [1] * 4 + [0] * 3, [1] * 3 + [0] * 4]
    assert batch["input_segments_BL"].tolist() == real


def test_targets_runs_and_types(make_split: Any) -> None:
    batch = only(make_split(ROWS), "front", target_length=4)
    assert batch["targets_BM"].tolist() == [[50, 1, 0, 0], [51, 1, 0, 0], [52, 1, 0, 0]]
    assert batch["target_segments_BM"].tolist() == [[1, 1, 0, 0]] * 3
    assert batch["runs_BG"].tolist() == batch["tasks_BG"].tolist() == [[0]] * 3
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
    types = pytest.importorskip("spjax.types")
    types.Batch(**batch)


@pytest.mark.parametrize("insertion", batching.INSERTIONS)
def test_no_prompt_is_plain_text(insertion: str, make_split: Any) -> None:
    batch = only(make_split(ROWS), insertion, prompt_length=0)
    assert batch["inputs_BL"].tolist() == [[11, 12, 13, 1, 0], [21, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert (batch["slots_BL"] == -1).all()


def test_default_room_is_the_longest_rounded_up_but_not_above_the_cut(make_split: Any) -> None:
    split = make_split([[5] * 9 + [1], [1]])
    layout = batching.make_layout([split], prompt_length=3)
    assert (layout.input_length, layout.target_length, layout.row_length) == (16, 4, 19)
    split = make_split([[5] * 9 + [1], [1]], lengths={"inputs": 12, "targets": 2})
    layout = batching.make_layout([split])
    assert (layout.input_length, layout.target_length) == (12, 2)


def order(iterator: Any, batches: int) -> np.ndarray:
    """The examples in the order they come, told by their targets."""
    return np.concatenate([next(iterator)["targets_BM"][:, 0] - 50 for _ in range(batches)])


@pytest.fixture
def many(make_split: Any) -> Any:
    random = np.random.default_rng(0)
    return make_split([[*random.integers(3, 40, random.integers(0, 9)), 1] for _ in range(50)])


def iterator(split: Any, seed: int = 3, batch_size: int = 8, **options: Any) -> Any:
    layout = batching.make_layout([split], **{"prompt_length": 4} | options)
    return batching.train_iterator([split], [1], layout, batch_size=batch_size, seed=seed)


def test_epochs_are_permutations_that_differ(many: Any) -> None:
    seen = order(iterator(many), 25).reshape(4, 50)
    for epoch in seen:
        assert sorted(epoch) == list(range(50))
    assert len({tuple(epoch) for epoch in seen}) == 4


def test_order_depends_on_the_seed_alone(many: Any) -> None:
    reference = order(iterator(many), 20)
    assert (order(iterator(many), 20) == reference).all()
    assert (order(iterator(many, prompt_length=9, insertion="end"), 20) == reference).all()
    assert (order(iterator(many, batch_size=16), 10) == reference).all()
    assert (order(iterator(many, seed=4), 20) != reference).any()


@pytest.mark.parametrize("taken", [0, 1, 6, 7, 40])
def test_resume_goes_on_with_the_next_batch(taken: int, many: Any) -> None:
    first = iterator(many)
    for _ in range(taken):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    resumed = iterator(many)
    next(resumed)
    resumed.set_state(state)
    for _ in range(15):
        expected, found = next(first), next(resumed)
        assert expected.keys() == found.keys()
        assert all((expected[name] == found[name]).all() for name in expected)


def test_batch_larger_than_the_split_spans_epochs(make_split: Any) -> None:
    seen = order(iterator(make_split(ROWS), batch_size=7), 3)
    assert [sorted(seen[i : i + 3]) for i in range(0, 21, 3)] == [[0, 1, 2]] * 7


def mixture(splits: list[Any], rates: list[float], seed: int = 3) -> Any:
    layout = batching.make_layout(splits)
    return batching.train_iterator(splits, rates, layout, batch_size=10, seed=seed)


@pytest.fixture
def two(make_split: Any) -> list[Any]:
    """Splits of 30 and of 7 examples, told apart by their first input id."""
    return [make_split([[i, 1]] * count, name=f"t{i}") for i, count in ((8, 30), (9, 7))]


@pytest.mark.parametrize("rates", [[30, 10], [0.3, 0.1]])
def test_mixture_keeps_its_rates_and_each_split_its_epochs(rates: Any, two: list[Any]) -> None:
    stream = mixture(two, rates)
    batches = [next(stream) for _ in range(1000)]
    first = np.concatenate([batch["inputs_BL"][:, 0] for batch in batches])
    target = np.concatenate([batch["targets_BM"][:, 0] - 50 for batch in batches])
    assert (first == 9).sum() == 2500
    assert {(batch["inputs_BL"][:, 0] == 9).sum() for batch in batches} > {1, 2, 3, 4}
    for own, count in ((8, 30), (9, 7)):
        counts = np.bincount(target[first == own], minlength=count)
        assert counts.max() - counts.min() <= 1


def test_mixture_in_proportion_shows_every_example_once_a_block(two: list[Any]) -> None:
    stream = mixture(two, [30, 7])
    seen = [next(stream) for _ in range(37)]  # ten blocks of 37
    pairs = [
        (int(a), int(b))
        for batch in seen
        for a, b in zip(batch["inputs_BL"][:, 0], batch["targets_BM"][:, 0] - 50)
    ]
    assert sorted(pairs) == sorted(([(8, i) for i in range(30)] + [(9, i) for i in range(7)]) * 10)


def test_mixture_resumes_with_the_next_batch(two: list[Any]) -> None:
    first, second = mixture(two, [5, 2]), mixture(two, [5, 2])
    for _ in range(13):
        next(first)
    second.set_state(first.get_state())
    assert all((a == b).all() for a, b in zip(next(first).values(), next(second).values()))
    other = next(mixture(two, [5, 2], seed=4))
    assert (other["targets_BM"] != next(mixture(two, [5, 2]))["targets_BM"]).any()


def test_each_evaluation_sees_each_example_once_by_length(many: Any) -> None:
    layout = batching.make_layout([many], prompt_length=1)
    batches = list(batching.eval_batches(many, layout, 16))
    assert [len(indices) for _, indices in batches] == [16, 16, 16, 2]
    order = np.concatenate([indices for _, indices in batches])
    assert sorted(order.tolist()) == list(range(50))
    assert (np.diff(many.inputs.lengths[order]) >= 0).all()
    last = batches[-1][0]
    assert len(last["inputs_BL"]) == 16
    assert (last["target_segments_BM"][:2, 0] == 1).all()
    assert (last["target_segments_BM"][2:] == 0).all()
    assert (last["inputs_BL"][2:] == last["inputs_BL"][1]).all()
    for batch, indices in batches:
        lengths = batch["input_segments_BL"].sum(axis=1)[: len(indices)]
        assert (lengths == many.inputs.lengths[indices] + 1).all()


def test_evaluation_batches_of_few_positions(many: Any) -> None:
    layout = batching.make_layout([many], prompt_length=1)
    batches = list(batching.eval_batches(many, layout, 16, positions=64))
    order = np.concatenate([indices for _, indices in batches])
    assert sorted(order.tolist()) == list(range(50))
    for batch, indices in batches:
        assert batch["inputs_BL"].size <= max(64, batch["inputs_BL"].shape[1])
        assert 0 < len(indices) <= len(batch["inputs_BL"])
    assert len({batch["inputs_BL"].shape for batch, _ in batches}) <= 3


@pytest.mark.parametrize(
    ("lengths", "size", "expected"),
    [
        ([], 1, []),
        ([47, 30, 31], 1, [(32, 2), (48, 1)]),
        ([100, 300, 320], 1, [(112, 1), (320, 2)]),
        ([110, 112, 125, 126], 1, [(128, 4)]),  # 112 for two would save a sixteenth
        ([30, 100, 200], 1, [(32, 1), (112, 1), (208, 1)]),
        ([10, 100, 500, 1000], 1, [(112, 2), (512, 1), (1024, 1)]),
        (
            [10] * 90 + [60] * 40 + [120] * 40 + [240] * 39 + [250],
            1,
            [(16, 90), (64, 40), (128, 40), (256, 40)],
        ),
        ([30, 30, 30, 100], 4, [(112, 4)]),  # two batches would be filled up to four rows each
        ([30] * 8 + [100], 4, [(32, 8), (112, 1)]),
        ([2000], 1, [(2000, 1)]),
        ([1030, 1031, *[1279] * 4, 1999, 2000], 1, [(1280, 6), (2000, 2)]),
    ],
)
def test_evaluations_use_few_row_lengths(lengths, size, expected):
    assert batching.few_lengths(np.array(lengths, int), lambda length: size) == expected


def test_gang_keeps_every_run_s_rows(many: Any) -> None:
    short, long = iterator(many, seed=1), iterator(many, seed=2, prompt_length=7, batch_size=4)
    parts = [next(short), next(long)]
    merged = batching.gang(dict(enumerate(parts)))
    assert merged["runs_BG"].tolist() == [[0]] * 8 + [[1]] * 4
    width = parts[0]["inputs_BL"].shape[1]
    for name in ("inputs_BL", "slots_BL", "input_segments_BL"):
        assert (merged[name][:8, :width] == parts[0][name]).all()
        assert (merged[name][8:] == parts[1][name]).all()
    assert (merged["slots_BL"][:8, width:] == -1).all()
    assert (merged["input_segments_BL"][:8, width:] == 0).all()
    assert (merged["targets_BM"][8:] == parts[1]["targets_BM"]).all()


def test_batches_are_cheap(make_split: Any) -> None:
    split = make_split([[7] * 99 + [1]] * 500)
    stream = iterator(split, batch_size=32, prompt_length=100)
    next(stream)
    times = []
    for _ in range(50):
        start = time.process_time()
        next(stream)
        times.append(time.process_time() - start)
    assert min(times) < 5e-3  # seconds of CPU; about 0.3e-3 on a free core


def test_prompt_longer_than_the_row_allows(make_split: Any) -> None:
    split = make_split(ROWS)
    with pytest.raises(ValueError, match="a prompt of 100 is longer .* use a prompt of at most 59"):
        iterator(split, prompt_length=100, input_length=5, row_length=64)
    assert next(iterator(split, prompt_length=59, input_length=5, row_length=64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insertion": "back"}, "unknown insertion 'back'; choose one of front, after_first, end"),
        ({"prompt_length": -1}, "the prompt length is -1; it must be 0 or more"),
        ({"input_length": 3}, "room for 3 inputs is too little: the longest example has 4 tokens"),
        ({"target_length": 1}, "room for 1 targets is too little"),
        ({"batch_size": 0}, "the batch size is 0; it must be 1 or more"),
        ({"seed": -2}, "the seed of the data order is -2"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str, make_split: Any) -> None:
    with pytest.raises(ValueError, match=message):
        iterator(make_split(ROWS), **options)


def test_empty_split_is_refused(make_split: Any) -> None:
    with pytest.raises(ValueError, match="task/train has no examples to train on"):
        iterator(make_split([]))


def test_batches_of_few_splits() -> None:
    sizes = []
    for number in range(200):
        positions = np.arange(number * 10, number * 10 + 10)
        found = batching.few_streams([6, 3, 1], 5, positions)
        again = batching.few_streams([6, 3, 1], 5, positions)
        assert all(map(np.array_equal, found, again))
        assert all(np.isin(own, positions).all() for own in found)
        sizes.append([len(own) for own in found])
    counts = np.array(sizes)
    assert (counts.sum(axis=1) == 10).all()
    # Two or three streams, as many of each as goes.
    assert {tuple(sorted(row)) for row in sizes} == {(0, 5, 5), (3, 3, 4)}
    used = (counts > 0).mean(axis=0)
    assert used[0] > used[1] > used[2] > 0.5
