"""Leaks between splits: inputs that occur more than once, exactly or nearly.

Near duplicates share most of their groups of three words. They are found without sampling: two
sets whose Jaccard index is at least t have one of their rarest elements in common (the prefix
filter of Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"), so only texts
that share such a group are compared.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

GROUP = 3  # words
NEAR = 0.8  # as Lee et al. 2022 (arXiv:2107.06499), who compare groups of five
_EXAMPLES = 3  # of each kind
_MOST_PAIRS = 10_000_000  # that are compared: some 10 s
_CHUNK = 50_000  # pairs compared at once


@dataclasses.dataclass(frozen=True)
class Alike:
    """Two similar inputs.

    Attributes:
      first: an input of the split that is checked.
      second: the similar input of the other split.
      likeness: share of their groups of words that are in both; 1.0 if the texts are equal.
    """

    first: str
    second: str
    likeness: float


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Number of a split's inputs that occur in another split, or again in itself.

    Attributes:
      split: whose examples are counted.
      other: the split that is searched. If it is `split`, every further copy of an input counts.
      examples: of `split`.
      same: those whose exact input is found.
      same_target: those of them that are found with the same target too.
      near: those whose input is not found, but one almost like it.
      alike: some of them, equal ones first.
    """

    split: str
    other: str
    examples: int
    same: int
    same_target: int
    near: int
    alike: tuple[Alike, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of `check`.

    Attributes:
      overlaps: of each split with itself and with every one before it.
      complete: whether all pairs that can be alike were compared; else `near` may be higher.
    """

    overlaps: tuple[Overlap, ...]
    complete: bool


def check(splits: Mapping[str, Sequence[tuple[str, str]]], near: float = NEAR) -> Report:
    """Compares splits with the training examples and with each other.

    Args:
      splits: input and target of each example, by the name of the split, training first.
      near: the likeness from which on inputs count as nearly equal.

    Raises:
      ValueError: `near` is not above 0 and at most 1.
    """
    if not 0 < near <= 1:
        raise ValueError(f"the least likeness is {near}; it must be above 0 and at most 1.")
    ids: dict[str, int] = {}
    numbers = {
        name: np.array([ids.setdefault(text, len(ids)) for text, _ in rows], np.int64)
        for name, rows in splits.items()
    }
    texts = list(ids)
    first, second, likeness, complete = _near_pairs(texts, near)
    # Both ways, so that each pair has its partner of the other split on the right.
    pairs = (
        np.concatenate([first, second]),
        np.concatenate([second, first]),
        np.concatenate([likeness, likeness]),
    )
    names = list(splits)
    overlaps = [
        _overlap(name, other, splits, numbers, texts, pairs)
        for i, name in enumerate(names)
        for other in names[: i + 1]
    ]
    return Report(tuple(overlaps), complete)


def _overlap(
    name: str,
    other: str,
    splits: Mapping[str, Sequence[tuple[str, str]]],
    numbers: Mapping[str, np.ndarray],
    texts: Sequence[str],
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Overlap:
    text_numbers, rows = numbers[name], splits[name]
    left, right, likeness = pairs
    there = np.zeros(len(texts), bool)
    there[numbers[other]] = True
    here = np.zeros(len(texts), bool)
    here[text_numbers] = True
    if name == other:
        counts = np.bincount(text_numbers, minlength=len(texts))
        again = counts > 1
        same, same_target = len(rows) - int(here.sum()), len(rows) - len(set(rows))
        again_left = there[left]
    else:
        again = here & there
        examples = set(splits[other])
        same, same_target = int(there[text_numbers].sum()), sum(row in examples for row in rows)
        again_left = ~there[left]  # what is found to the letter is not counted again
    fits = here[left] & there[right] & again_left
    is_near = np.zeros(len(texts), bool)
    is_near[left[fits]] = True
    copies = [Alike(texts[i], texts[i], 1.0) for i in np.flatnonzero(again)[:_EXAMPLES]]
    return Overlap(
        split=name,
        other=other,
        examples=len(rows),
        same=same,
        same_target=same_target,
        near=int(is_near[text_numbers].sum()),
        alike=(*copies, *_shown(texts, left[fits], right[fits], likeness[fits])),
    )


def _shown(
    texts: Sequence[str], left: np.ndarray, right: np.ndarray, likeness: np.ndarray
) -> list[Alike]:
    shown: dict[frozenset[int], Alike] = {}
    for k in np.argsort(-likeness, kind="stable"):
        i, j = int(left[k]), int(right[k])
        shown.setdefault(frozenset((i, j)), Alike(texts[i], texts[j], float(likeness[k])))
        if len(shown) == _EXAMPLES:
            break
    return list(shown.values())


def _near_pairs(
    texts: Sequence[str], near: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Returns places and similarity of pairs of different texts, and whether all were compared."""
    owner, group = _groups(texts)
    if not len(owner):
        return (*(np.zeros(0, np.int64),) * 2, np.zeros(0), True)
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    rank = np.empty(len(counts), np.int64)  # 0 for the rarest group
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    order = np.lexsort((rank[group], owner))
    owner, group = owner[order], group[order]
    sizes = np.bincount(owner, minlength=len(texts))
    position = np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]
    prefix = position <= sizes[owner] - np.ceil(near * sizes[owner] - 1e-9)
    prefix &= counts[group] > 1
    first, second, complete = _candidates(owner[prefix], group[prefix], sizes, near)
    shape = (len(texts), len(counts))
    table = sparse.csr_array((np.ones(len(owner), np.int32), (owner, group)), shape)
    common = np.zeros(len(first), np.int64)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        common[part] = table[first[part]].multiply(table[second[part]]).sum(axis=1)
    likeness = common / (sizes[first] + sizes[second] - common)
    keep = likeness >= near - 1e-9
    return first[keep], second[keep], likeness[keep], complete


def _groups(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns text and number of each group of words, every group once a text, by text."""
    known: dict[str, int] = {}
    word_ids: list[int] = []
    lengths = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        missing = [0] * (GROUP - len(words)) if words else []  # shorter texts are one group
        word_ids += [known.setdefault(word, len(known) + 1) for word in words] + missing
        lengths.append(len(words) + len(missing))
    ids = np.array(word_ids, np.uint64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    group = np.zeros(max(len(ids) - GROUP + 1, 0), np.uint64)
    for k in range(GROUP):  # beyond 2 million different words this is a hash
        group = group * np.uint64(len(known) + 1) + ids[k : k + len(group)]
    inside = owner[: len(group)] == owner[GROUP - 1 :] if len(group) else np.zeros(0, bool)
    owner, group = owner[: len(group)][inside], group[inside]
    order = np.lexsort((group, owner))
    owner, group = owner[order], group[order]
    new = np.ones(len(owner), bool)
    new[1:] = (owner[1:] != owner[:-1]) | (group[1:] != group[:-1])
    return owner[new], group[new]


def _candidates(
    owner: np.ndarray, group: np.ndarray, sizes: np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns pairs of texts with a common group and similar sizes, and whether all are there."""
    order = np.lexsort((sizes[owner], group))
    owner, group = owner[order], group[order]
    pairs = [np.zeros(0, np.int64)]
    at, total = np.arange(len(owner)), 0
    for step in range(1, len(owner)):
        at = at[at + step < len(owner)]
        # Sizes grow within a group, so that what does not fit now never will.
        fits = group[at] == group[at + step]
        fits &= near * sizes[owner[at + step]] <= sizes[owner[at]] + 1e-9
        at = at[fits]
        total += len(at)
        if not len(at) or total > _MOST_PAIRS:
            break
        low, high = np.sort([owner[at], owner[at + step]], axis=0)
        pairs.append(low * len(sizes) + high)
    both = np.unique(np.concatenate(pairs))
    return both // len(sizes), both % len(sizes), total <= _MOST_PAIRS
