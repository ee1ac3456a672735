"""Pre-training text of the graded world: short documents that end in an answer.

Each skill of the tasks occurs in several phrasings, none of them a task's. The words that are
labels of tasks occur as verdicts, announced by a heading ("True or False?"), so that a model has
written all of them before a prompt asks for one.
"""

from __future__ import annotations

from collections.abc import Iterator

from spjax.pocket.drafts import Draft, Facet
from spjax.pocket.draws import Draws
from spjax.pocket.graded import lexicon
from spjax.pocket.graded.lexicon import (
    ATTRIBUTES,
    EFFECT,
    FACTS,
    KIND,
    PLACE,
    RELATIONS,
    WORTH,
    Attribute,
)
from spjax.pocket.lexicon import MEN

# Verdicts on what is so and what is not, the common ones and those that are labels of tasks.
_VERDICTS = (("True", "False"), ("yes", "no"), ("right", "wrong"))
_LABELS = (
    ("entailment", "contradiction"),
    ("entailment", "not_entailment"),
    ("entailment", "neutral"),
    ("choice1", "choice2"),
    ("positive", "negative"),
)
UNCLEAR = "unclear"
# Sentences that words occur in, of one, two and three.
SETTINGS = {
    1: ("{0} came.", "{0} sat down."),
    2: ("{0} met {1}.", "{0} came. {1} came too.", "{0} saw {1}."),
    3: ("{0} met {1}. {2} came.", "{0}, {1} and {2} came.", "{0} saw {1} and {2}."),
}


def setting(draws: Draws, words: list[str]) -> str:
    """Draws sentences in which one to three words occur, in their order."""
    return draws.pick(SETTINGS[len(words)]).format(*words)


def _verdict(draws: Draws, prompts: tuple[str, ...], truth: bool) -> Facet:
    """Draws one of the prompts, whose `{}` becomes the heading, and the verdict."""
    good, bad = draws.pick(_VERDICTS if draws.chance(0.8) else _LABELS)
    return draws.pick(prompts).replace("{}", f"{good} or {bad}?"), good if truth else bad


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


def _statement(draws: Draws) -> tuple[str, bool, str]:
    """Draws a statement on one attribute of a word, whether it is so, and the word."""
    word, stated, truth = RELATIONS.word(draws), draws.pick(ATTRIBUTES), draws.chance(0.5)
    value = lexicon.value(stated, word)
    said = value if truth else draws.other(stated.values, value)
    return stated.statement.format(w=word, v=said), truth, word


def agreement(draws: Draws) -> Draft:
    """Draws a statement on one attribute of a word and whether it is so."""
    said, truth, word = _statement(draws)
    return _draft(_verdict(draws, (f"{said}. {{}}", f"{{}} {said}."), truth), word)


def plain_agreement(draws: Draws) -> Draft:
    """Draws the same in one form."""
    said, truth, word = _statement(draws)
    return _draft((f"{said}. yes or no?", "yes" if truth else "no"), word)


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


_ALL_IN_ALL = ("{p}. all in all:", "{p}. in the end it is", "{p}. good or bad?")


def opinion(draws: Draws) -> Draft:
    """Draws a phrase and its worth."""
    words = RELATIONS.words(draws, 1 + draws.below(3))
    written, worth = phrase(draws, words, len(words) == 2 and draws.chance(0.4))
    return _draft((draws.pick(_ALL_IN_ALL).format(p=written), worth), *words)


def _pair(draws: Draws, compared: Attribute) -> tuple[str, str, bool]:
    """Draws two words and whether they have the same value of an attribute."""
    first, truth = RELATIONS.word(draws), draws.chance(0.5)
    draw = RELATIONS.word_with if truth else RELATIONS.word_without
    return first, draw(draws, compared, lexicon.value(compared, first), first), truth


def likeness(draws: Draws) -> Draft:
    """Draws two words and whether they have the same value of an attribute."""
    compared = draws.pick((KIND, KIND, PLACE, WORTH))
    first, second, truth = _pair(draws, compared)
    prompts = (
        f"{first} and {second}: same {compared.name}? {{}}",
        f"{{}} same {compared.name} of {first} and {second}?",
    )
    return _draft(_verdict(draws, prompts, truth), first, second)


def plain_likeness(draws: Draws) -> Draft:
    """Draws two words and whether they are of one kind, in one form."""
    first, second, truth = _pair(draws, KIND)
    prompt = f"{first} and {second}: same kind? yes or no?"
    return _draft((prompt, "yes" if truth else "no"), first, second)


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


_WHICH = ("which {p}?", "who {p}?", "the one that {p}:")


def what_holds(draws: Draws) -> Attribute:
    """Draws what a selection goes by: in half of the cases worth, which has but two values."""
    return WORTH if draws.chance(0.5) else draws.pick(ATTRIBUTES)


def selection(draws: Draws) -> Draft:
    """Draws two or three people, and the one of whom something holds; or the place of a word."""
    asked = what_holds(draws)
    words, right, value = one_of(draws, RELATIONS, asked, 2 + draws.chance(0.4))
    question = draws.pick(_WHICH).format(p=asked.predicate.format(v=value))
    if len(words) == 2 and draws.chance(0.4):
        names = draws.pick((("first", "second"), ("choice1", "choice2")))
        listed = f"{names[0]}: {words[0]}. {names[1]}: {words[1]}."
        return _draft((f"{question} {listed}", names[words.index(right)]), *words)
    named = people(draws, words)
    listed = setting(draws, list(named.values()))
    parts = (question, listed) if draws.chance(0.5) else (listed, question)
    return _draft((" ".join(parts), list(named)[words.index(right)]), *words)


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


_EFFECTS = ("{s} it got", "{s} effect:", "effect of this: {s} it got")


def effect(draws: Draws) -> Draft:
    """Draws a sentence on two words and what followed, free or of two."""
    words = RELATIONS.words(draws, 2)
    sentence, cause = event(draws, words)
    follows = lexicon.value(EFFECT, cause)
    if draws.chance(0.5):
        return _draft((draws.pick(_EFFECTS).format(s=sentence), follows), *words)
    choices = draws.shuffled((follows, draws.other(EFFECT.values, follows)))
    return _draft((f"{sentence} it got {choices[0]} or {choices[1]}?", follows), *words)


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
    question = draws.pick(("what is {w} now? a", "now {w} is a"))
    return _draft((f"{passage} {question.format(w=asked)}", kind), *words)


def presence(draws: Draws) -> Draft:
    """Draws a passage of one or two words and whether another, or one of them, was there."""
    words = RELATIONS.words(draws, 2 + draws.below(2))
    there, truth = words[:-1], draws.chance(0.5)
    asked = draws.pick(there) if truth else words[-1]
    passage = setting(draws, there)
    prompts = (f"{passage} was {asked} there? {{}}", f"{{}} was {asked} there? {passage}")
    return _draft(_verdict(draws, prompts, truth), *words)


# Lessons come before all other documents, as in the other world: to know the words, to compare a
# word with a value, and two words. Comparing is learned in some hundred steps of one form, once the
# words are known, and hardly at all among all others.
LESSONS = (
    ((entry, 60), (attribute, 40)),
    ((plain_agreement, 80), (entry, 20)),
    ((plain_likeness, 60), (plain_agreement, 20), (entry, 20)),
)
# Genre and its share of the documents in percent.
GENRES = (
    (entry, 24),
    (attribute, 12),
    (agreement, 8),
    (opinion, 10),
    (likeness, 12),
    (selection, 18),
    (effect, 6),
    (change, 6),
    (presence, 4),
)


def samples(count: int) -> Iterator[str]:
    """Yields texts of all genres, as many of each, whatever their bucket."""
    draws = Draws(0, 0, 0)
    for write, _ in GENRES:
        for _ in range(count // len(GENRES)):
            yield " ".join(piece for part in write(draws).parts for piece in part)
