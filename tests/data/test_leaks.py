"""Duplicates are counted as a reader would count them, and near ones as all pairs show them."""

import itertools
import re

import numpy as np
import pytest

from spjax.data import leaks
from spjax.data.leaks import Alike, Overlap, Report


def groups(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    words += ["-"] * (leaks.GROUP - len(words)) if words else []
    return {tuple(words[i : i + leaks.GROUP]) for i in range(len(words) - leaks.GROUP + 1)}


def jaccard(first: str, second: str) -> float:
    either = groups(first) | groups(second)
    return len(groups(first) & groups(second)) / len(either) if either else 0.0


@pytest.mark.parametrize("near", [0.3, 0.5, 0.8, 1.0])
def test_every_pair_is_found(near: float) -> None:
    rng = np.random.default_rng(int(10 * near))
    for words in (2, 3, 5, 12):
        drawn = [rng.integers(0, words, rng.integers(0, 14)) for _ in range(60)]
        texts = list(dict.fromkeys(" ".join(f"w{word}" for word in row) for row in drawn))
        first, second, likeness, complete = leaks._near_pairs(texts, near)
        found = {(int(i), int(j)): v for i, j, v in zip(first, second, likeness)}
        places = itertools.combinations(range(len(texts)), 2)
        every = {(i, j): jaccard(texts[i], texts[j]) for i, j in places}
        assert complete
        assert found == pytest.approx({k: v for k, v in every.items() if v >= near - 1e-9})


LONG = "a long text of rather many words that is nearly the same as another one"
SPLITS = {
    "train": [("one", "a"), ("one", "a"), ("one", "b"), (LONG, "a"), ("", "a")],
    "validation": [("two", "a"), ("two", "b")],
    "test": [("one", "a"), ("one", "c"), (LONG + ".", "a"), (LONG + " here", "a"), ("...", "b")],
}


def between(report: Report, split: str, other: str) -> Overlap:
    return next(o for o in report.overlaps if (o.split, o.other) == (split, other))


def test_counts_and_examples() -> None:
    report = leaks.check(SPLITS)
    assert {
        (o.split, o.other): (o.examples, o.same, o.same_target, o.near) for o in report.overlaps
    } == {
        ("train", "train"): (5, 2, 1, 0),
        ("validation", "train"): (2, 0, 0, 0),
        ("validation", "validation"): (2, 1, 0, 0),
        ("test", "train"): (5, 2, 1, 2),
        ("test", "validation"): (5, 0, 0, 0),
        ("test", "test"): (5, 1, 0, 2),
    }
    found = between(report, "test", "train")
    assert found.alike[:2] == (Alike("one", "one", 1.0), Alike(LONG + ".", LONG, 1.0))
    assert found.alike[2].first == LONG + " here" and 0.9 < found.alike[2].likeness < 1
    assert report.complete and between(leaks.check(SPLITS, 1.0), "test", "train").near == 1


def test_splits_may_be_empty() -> None:
    assert between(leaks.check({"train": [], "test": []}), "test", "train").same == 0
    assert leaks.check({}).overlaps == ()


def test_what_is_not_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"the same words in all of the texts but {i}", "a") for i in range(50)]
    assert leaks.check({"train": rows}, 0.5).overlaps[0].near == 50
    monkeypatch.setattr(leaks, "_MOST_PAIRS", 100)
    assert not leaks.check({"train": rows}, 0.5).complete


@pytest.mark.parametrize("near", [0.0, 1.1])
def test_likeness_is_a_share(near: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        leaks.check(SPLITS, near)
