"""The part of a split that an evaluation scores: random, in proportion, of whole groups."""

import collections

import numpy as np
import pytest

from spjax import metrics
from spjax.data.token_cache import cache_files
from spjax.data.token_cache.cache import CachedSplit


@pytest.fixture
def split(tmp_path):
    """Writes examples with these targets; the input of example i is [i + 3, EOS]."""

    def write(targets, fields=lambda i: {}):
        examples = (
            (np.array([i + 3, 1]), np.array([7, 1]), {"targets_text": target, "n": i, **fields(i)})
            for i, target in enumerate(targets)
        )
        cache_files.write(tmp_path / "split", {"format": cache_files.FORMAT}, examples)
        parts = cache_files.read(tmp_path / "split")
        lengths = {"inputs": 2, "targets": 2}
        return CachedSplit("task", "validation", tmp_path / "split", lengths, *parts)

    return write


def test_every_target_keeps_its_share_however_the_file_is_sorted(split):
    whole = split(["no"] * 60 + ["yes"] * 30 + ["maybe"] * 10)
    part = whole.sample(20, 0)
    counts = collections.Counter(x["targets_text"] for x in part.examples)
    assert counts == {"no": 12, "yes": 6, "maybe": 2}
    assert [x["n"] + 3 for x in part.examples] == [part.inputs[i][0] for i in range(20)]
    assert len({x["n"] for x in part.examples}) == 20
    again, other = whole.sample(20, 0), whole.sample(20, 1)
    assert (again.rows == part.rows).all() and (other.rows != part.rows).any()
    assert whole.sample(100, 0) is whole and whole.sample(101, 0) is whole
    assert len(part.sample(5, 0).examples) == 5  # of a part


def test_every_example_is_drawn_equally_often(split):
    whole = split(["unanswerable"] * 30 + [f"text {i}" for i in range(30)])
    drawn = collections.Counter(n for s in range(400) for n in whole.sample(12, s).rows.tolist())
    often = np.array([drawn[i] for i in range(60)]) / 400
    assert abs(often - 0.2).max() < 0.08  # 4 standard deviations
    assert abs(often[:30].mean() - 0.2) < 0.02


@pytest.mark.parametrize("kind", ["multirc", "record"])
def test_answers_of_a_question_stay_together(split, kind):
    whole = split(
        ["True", "False", "True"] * 20,
        lambda i: {"idx": {"question": i // 3, "passage": 0, "query": i // 3}},
    )
    part = whole.sample(10, 0, metrics.GROUPS[kind])
    counts = collections.Counter(x["n"] // 3 for x in part.examples)
    assert counts.values() and set(counts.values()) == {3} and len(counts) == 3
    assert whole.sample(2, 0, metrics.GROUPS[kind]).num_examples == 3  # at least one question
