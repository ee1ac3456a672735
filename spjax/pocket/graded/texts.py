"""Pre-training text of the graded world: short documents that end in an answer.

Each skill of the tasks has one form, none of them a task's. In two documents of five it is dressed:
its parts stand in another order, behind headings, beside something that does not matter. With
several forms of each skill, comparing two things stayed at chance for thousands of steps; without
dressing, what a model could do did not carry over to the formats of the tasks. The labels of the
tasks occur as names for a word's worth, so that a model has written all of them before a prompt
asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spjax.pocket.drafts import Draft, Facet
from spjax.pocket.draws import Draws
from spjax.pocket.graded import lexicon
from spjax.pocket.graded.lexicon import (
    ATTRIBUTES,
    EFFECT,
    FACTS,
    KIND,
    RELATIONS,
    WORTH,
    Attribute,
)
from spjax.pocket.lexicon import MEN

# Names for a good and a bad worth: the labels of the tasks and others.
_JUDGMENTS = (
    ("True", "False"),
    ("yes", "no"),
    ("entailment", "contradiction"),
    ("entailment", "not_entailment"),
    ("entailment", "neutral"),
    ("choice1", "choice2"),
    ("positive", "negative"),
)
YES_NO = "yes or no?"
UNCLEAR = "unclear"
# Headings of two choices.
_PAIRS = (("first", "second"), ("one", "two"), ("left", "right"))
# Every answer of one word. Of other words no model of this text has learned to begin with one.
ANSWERS = (
    *(value for asked in ATTRIBUTES for value in asked.values),
    *dict.fromkeys(name for names in _JUDGMENTS for name in names),
    UNCLEAR,
    *(heading for pair in _PAIRS for heading in pair),
    *MEN,
)
# Sentences that words occur in, of one, two and three.
SETTINGS = {
    1: ("{0} came.", "{0} sat down."),
    2: ("{0} met {1}.", "{0} came. {1} came too.", "{0} saw {1}."),
    3: ("{0} met {1}. {2} came.", "{0}, {1} and {2} came.", "{0} saw {1} and {2}."),
}


def setting(draws: Draws, words: list[str]) -> str:
    """Draws sentences in which one to three words occur, in their order."""
    return draws.pick(SETTINGS[len(words)]).format(*words)


_HEADINGS = ("text", "note", "line", "fact", "item", "part", "topic", "title")


def _dressed(draws: Draws, *parts: str, beside: str = "") -> str:
    """Joins the parts of a text, or dresses them.

    Args:
      draws: makes the choices.
      parts: in their plain order.
      beside: names to list in half of the dressed texts; "" for any.
    """
    if draws.chance(0.6):
        return " ".join(parts)
    listed = [*parts]
    if draws.chance(0.5):
        listed.append(beside or _two_names(draws))
    listed = draws.shuffled(listed)
    return _headed(draws, listed) if draws.chance(0.7) else " ".join(listed)


def note(draws: Draws, text: str) -> str:
    """Puts a text behind a heading, before or after two names behind another."""
    return _headed(draws, draws.shuffled([text, _two_names(draws)]))


def _two_names(draws: Draws) -> str:
    return ", ".join(draws.sample(MEN, 2)) + "."


def _headed(draws: Draws, parts: Sequence[str]) -> str:
    headings = draws.sample(_HEADINGS, 3)
    return " ".join(f"{heading}: {part}" for heading, part in zip(headings, parts))


def _draft(facet: Facet, *words: str) -> Draft:
    """Returns a document of one answer; a single word is knowledge, which no task reserves."""
    return Draft(lexicon.together(*words) if len(words) > 1 else "", (facet,))


def attribute(draws: Draws) -> Draft:
    """Draws a word and one of its attributes."""
    word, asked = FACTS.word(draws), draws.pick(ATTRIBUTES)
    return _draft((draws.pick(asked.prompts).format(w=word), lexicon.value(asked, word)), word)


def entry(draws: Draws) -> Draft:
    """Draws a word and all its attributes, in an order that begins anywhere.

    Four answers for the tokens of one: what a small model learns depends on how many of the tokens
    that it predicts follow from others.
    """
    word, first = FACTS.word(draws), draws.below(len(ATTRIBUTES))
    rotated = (*ATTRIBUTES[first:], *ATTRIBUTES[:first])
    return _draft((f"{word}:", " ".join(lexicon.value(a, word) for a in rotated)), word)


def judgment(draws: Draws) -> Draft:
    """Draws a word and which of two names its worth has."""
    word, (good, bad) = FACTS.word(draws), draws.pick(_JUDGMENTS)
    answer = good if lexicon.value(WORTH, word) == "good" else bad
    return _draft((_dressed(draws, f"{word}.", f"{good} or {bad}?"), answer), word)


def _verdict(truth: bool) -> str:
    return "yes" if truth else "no"


def agreement(draws: Draws) -> Draft:
    """Draws a statement on the kind of a word and whether it is so."""
    word, truth = RELATIONS.word(draws), draws.chance(0.5)
    kind = lexicon.value(KIND, word)
    said = KIND.statement.format(w=word, v=kind if truth else draws.other(KIND.values, kind))
    return _draft((_dressed(draws, f"{said}.", YES_NO), _verdict(truth)), word)


def phrase(draws: Draws, words: list[str], undecided: bool = False) -> tuple[str, str]:
    """Draws a phrase of one to three words, of which one counts, and its worth.

    "but" lets what follows it count and "though" what stands before it; "not" turns a word's worth
    around.

    Args:
      draws: makes the choices.
      words: in their order.
      undecided: whether two words are joined by "or": their worth, if it is the same.

    Returns:
      The phrase; "good", "bad" or, of an undecided one, "unclear".
    """
    turned = [draws.chance(0.25) for _ in words]
    parts = [f"not {word}" if turn else word for word, turn in zip(words, turned)]
    worths = [
        WORTH.values[(lexicon.value(WORTH, word) == "good") != turn]
        for word, turn in zip(words, turned)
    ]
    if len(words) == 1:
        return parts[0], worths[0]
    if undecided:
        return " or ".join(parts), worths[0] if worths[0] == worths[1] else UNCLEAR
    if len(words) == 2:
        last = draws.chance(0.5)
        return (" but " if last else " though ").join(parts), worths[last]
    if draws.chance(0.5):
        return f"{parts[0]} though {parts[1]} but {parts[2]}", worths[2]
    return f"{parts[0]} but {parts[1]} though {parts[2]}", worths[1]


def opinion(draws: Draws) -> Draft:
    """Draws a phrase and its worth."""
    words = RELATIONS.words(draws, 1 + draws.below(3))
    written, worth = phrase(draws, words, len(words) == 2 and draws.chance(0.4))
    return _draft((_dressed(draws, f"{written}.", "all in all:"), worth), *words)


def likeness(draws: Draws) -> Draft:
    """Draws two words and whether they are of one kind."""
    first, truth = RELATIONS.word(draws), draws.chance(0.5)
    draw = RELATIONS.word_with if truth else RELATIONS.word_without
    second = draw(draws, KIND, lexicon.value(KIND, first), first)
    text = _dressed(draws, f"{first} and {second}.", f"same kind? {YES_NO}")
    return _draft((text, _verdict(truth)), first, second)


def bare_list(draws: Draws) -> Draft:
    """Draws two names with a value each ("Ben bird. Carl fish."), and a look-up among them."""
    (first, second), values = draws.sample(MEN, 2), draws.sample(KIND.values, 2)
    answer = draws.below(2)
    text = f"{first} {values[0]}. {second} {values[1]}. {values[answer]}?"
    return _draft((text, (first, second)[answer]))


def _names(draws: Draws, names: Sequence[str]) -> str:
    return ", ".join(draws.shuffled(names)) + "."


def people_list(draws: Draws) -> Draft:
    """Draws the same in sentences, of kind or worth."""
    listed = what_holds(draws)
    names, values = draws.sample(MEN, 2), draws.sample(listed.values, 2)
    answer = draws.below(2)
    text = setting(draws, [f"{name} the {value}" for name, value in zip(names, values)])
    stated = listed.predicate.format(v=values[answer])
    question = f"who {stated}?"
    return _draft((_dressed(draws, text, question, beside=_names(draws, names)), names[answer]))


def people(draws: Draws, words: list[str]) -> dict[str, str]:
    """Draws a name for each word; returns "Carl the glefal" and the like by name, in their order.

    The name is one token, which a small model learns to write long before it copies two.
    """
    return {n: f"{n} the {word}" for n, word in zip(draws.sample(MEN, len(words)), words)}


def one_of(
    draws: Draws, register: lexicon.Register, asked: Attribute, count: int
) -> tuple[list[str], str, str]:
    """Draws two or three words, only one of which has a value; returns them, it and the value."""
    right = register.word(draws)
    value = lexicon.value(asked, right)
    words = [right]
    while len(words) < count:
        words.append(register.word_without(draws, asked, value, *words))
    return draws.shuffled(words), right, value


def what_holds(draws: Draws) -> Attribute:
    """Draws what a selection goes by: worth, which has but two values, or kind."""
    return WORTH if draws.chance(0.5) else KIND


def selection(draws: Draws) -> Draft:
    """Draws two or three people, and the one of whom something holds."""
    asked = what_holds(draws)
    words, right, value = one_of(draws, RELATIONS, asked, 2 + draws.chance(0.4))
    named = people(draws, words)
    question = f"who {asked.predicate.format(v=value)}?"
    names = list(named)
    body = setting(draws, list(named.values()))
    text = _dressed(draws, body, question, beside=_names(draws, names))
    return _draft((text, names[words.index(right)]), *words)


def position(draws: Draws) -> Draft:
    """Draws two words under a heading each, and the heading of which something holds."""
    asked = EFFECT if draws.chance(0.5) else what_holds(draws)
    words, right, value = one_of(draws, RELATIONS, asked, 2)
    question = f"which {asked.predicate.format(v=value)}?"
    pair = draws.pick(_PAIRS)
    text = _dressed(draws, question, _choices(pair, words))
    return _draft((text, pair[words.index(right)]), *words)


def _choices(headings: tuple[str, str], values: Sequence[str]) -> str:
    return " ".join(f"{heading}: {value}." for heading, value in zip(headings, values))


def event(draws: Draws, words: list[str]) -> tuple[str, str]:
    """Draws a sentence on two words, and the one whose effect follows."""
    first, second = words
    kind = draws.below(4)
    if kind == 0:
        return f"{first} came, not {second}.", first
    if kind == 1:
        return f"not {first} but {second} came.", second
    if kind == 2:
        return f"{first} brought {second}.", second
    return f"{first} came after {second} left.", first


def effect(draws: Draws) -> Draft:
    """Draws a sentence on two words and what followed, free or of two."""
    words = RELATIONS.words(draws, 2)
    sentence, cause = event(draws, words)
    follows = lexicon.value(EFFECT, cause)
    if draws.chance(0.6):
        return _draft((_dressed(draws, sentence, "it got"), follows), *words)
    values = draws.shuffled((follows, draws.other(EFFECT.values, follows)))
    pair = draws.pick(_PAIRS)
    text = _dressed(draws, sentence, f"it got {_choices(pair, values)}")
    return _draft((text, pair[values.index(follows)]), *words)


def kinds_now(draws: Draws, words: list[str], asked: str) -> tuple[str, str]:
    """Draws a passage that may give a word another kind, and the kind of the asked one."""
    sentences, kind = [], lexicon.value(KIND, asked)
    changed = draws.pick(words) if draws.chance(0.5) else ""
    for word in words:
        if word == changed:
            new = draws.other(KIND.values, lexicon.value(KIND, word))
            sentences.append(f"{word} is now a {new}.")
            kind = new if word == asked else kind
        else:
            sentences.append(f"{word} came.")
    return " ".join(sentences), kind


def change(draws: Draws) -> Draft:
    """Draws a passage of one to three words and the kind that one of them has now."""
    words = RELATIONS.words(draws, 1 + draws.below(3))
    asked = draws.pick(words)
    passage, kind = kinds_now(draws, words, asked)
    return _draft((_dressed(draws, passage, f"what is {asked} now? a"), kind), *words)


def presence(draws: Draws) -> Draft:
    """Draws a passage of one or two words and whether another, or one of them, was there."""
    words = RELATIONS.words(draws, 2 + draws.below(2))
    there, truth = words[:-1], draws.chance(0.5)
    asked = draws.pick(there) if truth else words[-1]
    passage = setting(draws, there)
    question = f"was {asked} there? {YES_NO}"
    return _draft((_dressed(draws, passage, question), _verdict(truth)), *words)


# Lessons come before all other documents, as in the other world: to look a value up in a list.
# Alone this is learned in some hundred steps, among all other documents not in thousands.
LESSONS = (
    ((bare_list, 100),),
    ((people_list, 60), (bare_list, 20), (entry, 20)),
)
# Genre and its share of the documents in percent.
GENRES = (
    (entry, 20),
    (attribute, 12),
    (judgment, 8),
    (agreement, 8),
    (opinion, 9),
    (likeness, 10),
    (people_list, 4),
    (selection, 12),
    (position, 6),
    (effect, 5),
    (change, 3),
    (presence, 3),
)


def samples(count: int) -> Iterator[str]:
    """Yields texts of all genres, as many of each, whatever their bucket."""
    draws = Draws(0, 0, 0)
    for write, _ in GENRES:
        for _ in range(count // len(GENRES)):
            yield " ".join(piece for part in write(draws).parts for piece in part)
