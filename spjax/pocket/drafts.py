"""Drafts of documents: a text in pieces, cut where an answer starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from spjax.pocket.draws import Draws

# (prompt, answer): the answer ends the facet without a full stop, as a target does.
Facet = tuple[str, str]
FacetWriter = Callable[..., Facet]

# Pairs of words for "it is so" and "it is not so", with a heading that announces them.
VERDICTS = (
    ("True", "False", "true or false?"),
    ("True", "False", "decide True or False."),
    ("yes", "no", "yes or no?"),
    ("correct", "wrong", "correct or wrong?"),
)


class Draft(NamedTuple):
    """A document before its bucket is known.

    key: the text whose hash decides the bucket. parts: the first is the text, then come facets;
    each part is cut into pieces where an answer starts. Joined by single spaces they are the text.
    """

    key: str
    parts: tuple[tuple[str, ...], ...]


def verdict(draws: Draws, prompts: Sequence[str], truth: bool) -> Facet:
    """Draws one of the prompts, answered by True/False, yes/no or correct/wrong.

    A prompt with `{}` has the heading of its words put there.
    """
    good, bad, heading = draws.pick(VERDICTS)
    return draws.pick(prompts).replace("{}", heading), good if truth else bad


def body_first(draws: Draws, body: str, writers: Sequence[Callable[[], Facet]]) -> Draft:
    """Draws the body and one to three different facets about it."""
    count = min(len(writers), 1 + draws.below(3))
    facets = [writer() for writer in draws.sample(writers, count)]
    return Draft(body, ((body,), *facets))


def query_first(
    draws: Draws, body: str, front: Facet, writers: Sequence[Callable[[], Facet]]
) -> Draft:
    """Draws a text with query, body and answer, then at most one more facet."""
    more = [draws.pick(writers)()] if draws.chance(0.4) else []
    return Draft(body, (front, *more))
