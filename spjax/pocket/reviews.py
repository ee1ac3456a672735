"""Genre: reviews of two clauses, with sentiment, rating, topic and advice."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket.drafts import Draft, Facet, body_first, query_first, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.lexicon import ASPECTS, BLAME, DISLIKING, LIKING, PEOPLE, PRAISE, REVIEWED

# The clause that counts is M, the other one O. They agree, or the connective says which counts.
_AGREE = ("{M} and {O}.", "{M}. {O}.", "{O} and {M}.")
_DIFFER = ("{O}, but {M}.", "although {O}, {M}.", "{M}, although {O}.")


class Review(NamedTuple):
    """text: the review; topic: what it is about; liked: whether its writer is content."""

    text: str
    topic: str
    liked: bool


def _clause(draws: Draws, subject: str, good: bool) -> str:
    """Draws `subject` (with article) praised or blamed; one clause in four by negation."""
    negated = draws.chance(0.25)
    if draws.chance(0.3):
        past, plain = draws.pick(LIKING if good != negated else DISLIKING)
        person = draws.pick(PEOPLE) if draws.chance(0.5) else "i"
        return f"{person} did not {plain} {subject}" if negated else f"{person} {past} {subject}"
    quality = draws.pick(PRAISE if good != negated else BLAME)
    if negated:
        return f"{subject} was not {quality}"
    return f"{subject} was {draws.pick(('', '', 'very ', 'really '))}{quality}"


def review(draws: Draws) -> Review:
    """Draws a review; in two of five the clauses disagree and the connective decides."""
    liked = draws.chance(0.5)
    topic = draws.pick(REVIEWED)
    differ = draws.chance(0.4)
    subjects = draws.shuffled((f"the {topic}", f"the {draws.pick(ASPECTS)}"))
    main = _clause(draws, subjects[0], liked)
    other = _clause(draws, subjects[1], liked != differ)
    text = draws.pick(_DIFFER if differ else _AGREE).replace("{M}", main).replace("{O}", other)
    return Review(text, topic, liked)


_FRONTS = (
    "positive or negative? review: {p}",
    "review: {p} sentiment:",
    "Sentence: {p} Sentiment:",
    "sentiment of this review: {p} answer:",
    "{p} positive or negative?",
)
_VERDICT_FRONTS = (
    "is the review positive? {} review: {p}",
    "{} the writer is happy. text: {p}",
    "Review: {p} is it positive? {}",
)


def _writers(draws: Draws, example: Review) -> list:
    liked = example.liked

    def sentiment() -> Facet:
        prompt = draws.pick(("sentiment:", "the sentence is", "this review is", "Sentiment:"))
        return prompt, "positive" if liked else "negative"

    def rating() -> Facet:
        return "rating:", "five stars" if liked else "one star"

    def topic() -> Facet:
        return draws.pick(("topic:", "this is about the")), example.topic

    def verdict_word() -> Facet:
        return "in a word:", "good" if liked else "bad"

    def advice() -> Facet:
        prompts = ("is it worth it? {}", "the writer would come again. {}", "do they like it? {}")
        return verdict(draws, prompts, liked)

    def checked() -> Facet:
        so = draws.chance(0.5)
        word = "positive" if liked == so else "negative"
        prompts = (f"is it {word}? {{}}", f"claim: the review is {word}. {{}}")
        return verdict(draws, prompts, so)

    return [sentiment, sentiment, rating, topic, verdict_word, advice, checked]


def write(draws: Draws) -> Draft:
    """Draws a review with facets after it, or with a heading before it."""
    example = review(draws)
    writers = _writers(draws, example)
    if draws.chance(0.55):
        return body_first(draws, example.text, writers)
    if draws.chance(0.7):
        word = "positive" if example.liked else "negative"
        front = (draws.pick(_FRONTS).format(p=example.text), word)
    else:
        prompt, answer = verdict(draws, _VERDICT_FRONTS, example.liked)
        front = (prompt.format(p=example.text), answer)
    return query_first(draws, example.text, front, writers)
