"""Facts and scenes: places, owners, colors, days and prices of people and things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from spjax.pocket import lexicon
from spjax.pocket.draws import Draws


@dataclass(frozen=True, eq=False)
class Relation:
    """A functional relation: a subject has one value, so another value contradicts it.

    Templates take `{s}` (subject) and `{v}` (value); none ends in punctuation.
    """

    subjects: tuple[str, ...]
    values: tuple[str, ...]
    statements: tuple[str, ...]
    denial: str
    question: str  # answered by the value
    reverse: str  # answered by the subject
    yes_no: str


RELATIONS = (
    PLACE := Relation(
        lexicon.OBJECTS,
        lexicon.PLACES,
        ("{s} is in {v}", "{s} lies in {v}", "you can find {s} in {v}"),
        "{s} is not in {v}",
        "where is {s}",
        "what is in {v}",
        "is {s} in {v}",
    ),
    OWNER := Relation(
        lexicon.OBJECTS,
        lexicon.PEOPLE,
        ("{v} has {s}", "{s} belongs to {v}", "{v} owns {s}"),
        "{v} does not have {s}",
        "who has {s}",
        "what does {v} have",
        "does {v} have {s}",
    ),
    COLOUR := Relation(
        lexicon.OBJECTS,
        lexicon.COLOURS,
        ("{s} is {v}", "the colour of {s} is {v}"),
        "{s} is not {v}",
        "what colour is {s}",
        "what is {v}",
        "is {s} {v}",
    ),
    WHEREABOUTS := Relation(
        lexicon.PEOPLE,
        lexicon.PLACES,
        ("{s} is in {v}", "{s} waits in {v}", "{s} stays in {v}"),
        "{s} is not in {v}",
        "where is {s}",
        "who is in {v}",
        "is {s} in {v}",
    ),
    JOB := Relation(
        lexicon.PEOPLE,
        lexicon.JOBS,
        ("{s} is a {v}", "{s} works as a {v}"),
        "{s} is not a {v}",
        "what is the job of {s}",
        "who is a {v}",
        "is {s} a {v}",
    ),
    DAY := Relation(
        lexicon.OCCASIONS,
        lexicon.DAYS,
        ("{s} is on {v}", "{s} starts on {v}"),
        "{s} is not on {v}",
        "when is {s}",
        "what is on {v}",
        "is {s} on {v}",
    ),
    PRICE := Relation(
        lexicon.OBJECTS,
        lexicon.PRICES,
        ("{s} costs {v}", "the price of {s} is {v}"),
        "{s} does not cost {v}",
        "what is the price of {s}",
        "what costs {v}",
        "does {s} cost {v}",
    ),
)
WITH_PEOPLE = (OWNER, WHEREABOUTS, JOB)
_ALIKE = 0.35  # share of scenes in which two facts or more are under one relation


class Fact(NamedTuple):
    """`subject` has `value` under `relation`; with `holds` False the text denies it."""

    relation: Relation
    subject: str
    value: str
    holds: bool = True


def state(draws: Draws, fact: Fact) -> str:
    """Draws one phrasing of the fact."""
    relation = fact.relation
    template = draws.pick(relation.statements) if fact.holds else relation.denial
    return template.format(s=fact.subject, v=fact.value)


def deny(fact: Fact) -> str:
    """Returns the contrary of a fact that holds."""
    return fact.relation.denial.format(s=fact.subject, v=fact.value)


def random_fact(draws: Draws) -> Fact:
    """Draws a fact about anything."""
    return _fact_under(draws, draws.pick(RELATIONS))


def _fact_under(draws: Draws, relation: Relation) -> Fact:
    return Fact(relation, draws.pick(relation.subjects), draws.pick(relation.values))


def scene(draws: Draws, count: int, relation: Relation | None = None) -> list[Fact]:
    """Draws `count` (1 to 4) facts, one of them under `relation`, in random order.

    In two scenes of three every fact has values of its own kind, so that a value says which fact
    it is of. In the others two or three facts are under one relation: there the subject decides.
    No subject has two facts under one relation and no value has two subjects under one relation.
    One such scene in four has a denied fact, if there is room.
    """
    relation = relation or draws.pick(RELATIONS)
    if count == 1:
        facts = [_fact_under(draws, relation)]
    elif draws.chance(_ALIKE):
        facts = alike(draws, 2 if count < 4 or draws.chance(0.5) else 3, relation)
        if len(facts) < count and draws.chance(0.25):
            facts.append(_denied(draws, facts))
        _add_unlike(draws, facts, count)
    else:
        facts = [_fact_under(draws, relation)]
        _add_unlike(draws, facts, count)
    return draws.shuffled(facts)


def alike(draws: Draws, count: int, relation: Relation) -> list[Fact]:
    """Draws `count` facts under one relation, with different subjects and values."""
    subjects, values = (draws.sample(all, count) for all in (relation.subjects, relation.values))
    return [Fact(relation, s, v) for s, v in zip(subjects, values)]


def _denied(draws: Draws, facts: list[Fact]) -> Fact:
    relation = facts[0].relation
    subject = draws.other(relation.subjects, *[f.subject for f in facts])
    return Fact(relation, subject, draws.other(relation.values, *[f.value for f in facts]), False)


def _add_unlike(draws: Draws, facts: list[Fact], count: int) -> None:
    """Adds facts until there are `count`, each with a new subject and a new kind of values."""
    while len(facts) < count:
        fact = random_fact(draws)
        if all(_unlike(fact, other) for other in facts):
            facts.append(fact)


def _unlike(one: Fact, other: Fact) -> bool:
    (subjects, values), (others, taken) = (
        (fact.relation.subjects, fact.relation.values) for fact in (one, other)
    )
    disjoint = values is not taken and values is not others and subjects is not taken
    return disjoint and one.subject != other.subject


def shared_scene(draws: Draws, relation: Relation) -> list[Fact]:
    """Draws three or four facts under one relation, two of which have the same value."""
    count = 3 + draws.below(2)
    subjects = draws.sample(relation.subjects, count)
    values = draws.sample(relation.values, count - 1)
    return draws.shuffled([Fact(relation, s, v) for s, v in zip(subjects, [values[0], *values])])


def tell(draws: Draws, facts: list[Fact]) -> str:
    """Writes the facts as a passage of sentences."""
    sentences = [state(draws, fact) for fact in facts]
    if len(sentences) > 1 and draws.chance(0.25):
        sentences[:2] = [f"{sentences[0]} and {sentences[1]}"]
    return ". ".join(sentences) + "."


def wrong_value(draws: Draws, facts: list[Fact], fact: Fact) -> str:
    """Draws another value than the fact's: mostly that of another fact of its relation."""
    relation, value = fact.relation, fact.value
    near = [f.value for f in facts if f.relation is relation and f.value != value and f.holds]
    if near and draws.chance(0.85):
        return draws.pick(near)
    return draws.other(relation.values, value, *near)


def ask(draws: Draws, facts: list[Fact], truth: bool) -> str:
    """Draws a yes-no question (no question mark) to which the facts answer `truth`."""
    fact = draws.pick([f for f in facts if f.holds])
    denied = [f for f in facts if not f.holds]
    value = fact.value
    if not truth:
        if denied and draws.chance(0.5):
            fact = denied[0]
            value = fact.value
        else:
            value = wrong_value(draws, facts, fact)
    return fact.relation.yes_no.format(s=fact.subject, v=value)


def claim(draws: Draws, facts: list[Fact], truth: bool) -> str:
    """Draws a statement that the facts make `truth`; one in five is phrased as a denial."""
    fact = draws.pick([f for f in facts if f.holds])
    denied = [f for f in facts if not f.holds]
    if denied and draws.chance(0.4):
        return state(draws, denied[0] if truth else denied[0]._replace(holds=True))
    wrong = fact._replace(value=wrong_value(draws, facts, fact))
    if draws.chance(0.2):
        return deny(wrong if truth else fact)
    return state(draws, fact if truth else wrong)


def unsaid(draws: Draws, facts: list[Fact]) -> str:
    """Draws a statement that the facts neither entail nor exclude."""
    fact = draws.pick(facts)
    known = {(id(f.relation), f.subject) for f in facts}
    if draws.chance(0.5):
        relations = [
            r
            for r in RELATIONS
            if r.subjects is fact.relation.subjects and (id(r), fact.subject) not in known
        ]
        if relations:
            relation = draws.pick(relations)
            guess = Fact(relation, fact.subject, draws.pick(relation.values))
            return deny(guess) if draws.chance(0.2) else state(draws, guess)
    relation = fact.relation
    subject = draws.other(relation.subjects, *[f.subject for f in facts])
    value = fact.value if draws.chance(0.5) else draws.pick(relation.values)
    guess = Fact(relation, subject, value)
    return deny(guess) if draws.chance(0.2) else state(draws, guess)
