"""Genre: entailment: events with consequences, reported beliefs, scenes."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket import lexicon, world
from spjax.pocket.drafts import Draft, Facet, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.world import Fact

ENTAILMENT, CONTRADICTION, NEUTRAL = "entailment", "contradiction", "neutral"
CLASSES = (ENTAILMENT, CONTRADICTION, NEUTRAL)

_GIVING = (
    "{a} gave {o} to {b}",
    "{a} sold {o} to {b}",
    "{a} lent {o} to {b}",
    "{b} took {o} from {a}",
    "{b} bought {o} from {a}",
)
_GOING = ("{a} went from {p} to {q}", "{a} left {p} and went to {q}", "{a} came to {q} from {p}")
_MOVING = ("{a} moved {o} from {p} to {q}", "{a} brought {o} to {q} from {p}")

_SURE = (
    "{a} knows that",
    "{a} remembers that",
    "it is true that",
    "{a} is glad that",
    "{a} saw that",
)
_UNSURE = ("{a} hopes that", "{a} thinks that", "maybe", "{a} asks if", "{a} dreams that")
_DENIED = (
    "it is false that",
    "it is a lie that",
    "nobody believes that",
    "it is not so that",
    "{a} was wrong to think that",
)


# Words that name somebody, something or some place.
_NAMING = frozenset(
    name.split()[-1] for name in (*lexicon.PEOPLE, *lexicon.OBJECTS, *lexicon.PLACES)
)


class Inference(NamedTuple):
    """A premise and a hypothesis with `relation`, one of CLASSES."""

    premise: str
    hypothesis: str
    relation: str


def _event(draws: Draws) -> tuple[str, list[str], list[str]]:
    """Draws a sentence, one that follows from it, and one that it excludes."""
    kind = draws.below(5)
    a, b = draws.sample(lexicon.PEOPLE, 2)
    if kind == 0:
        o = draws.pick(lexicon.OBJECTS)
        new, old = Fact(world.OWNER, o, b), Fact(world.OWNER, o, a)
        text = draws.pick(_GIVING).format(a=a, b=b, o=o)
    elif kind <= 2:
        p, q = draws.sample(lexicon.PLACES, 2)
        o = draws.pick(lexicon.OBJECTS)
        relation, subject = (world.WHEREABOUTS, a) if kind == 1 else (world.PLACE, o)
        new, old = Fact(relation, subject, q), Fact(relation, subject, p)
        text = draws.pick(_GOING if kind == 1 else _MOVING).format(a=a, o=o, p=p, q=q)
    elif kind == 3:
        more, less = draws.shuffled(draws.pick(lexicon.COMPARISONS))
        follows = [f"{b} is {less} than {a}", f"{a} is {more} than {b}"]
        return follows[1], follows[:1], [f"{b} is {more} than {a}", f"{a} is {less} than {b}"]
    else:
        noun = draws.pick(tuple(lexicon.KIND_OF))
        kind_word = lexicon.KIND_OF[noun]
        other = draws.other(tuple(lexicon.KINDS), kind_word)
        verb = draws.pick(("has", "found", "wants", "drew"))
        follows = [f"{a} {verb} {kind_word}"]
        return f"{a} {verb} a {noun}", follows, [f"the {noun} is {other}"]
    return (
        text,
        [world.state(draws, new), world.deny(old)],
        [world.state(draws, old), world.deny(new)],
    )


def event_inference(draws: Draws, relation: str) -> Inference:
    """Draws an event, a fact beside it in random order, and a hypothesis about the event."""
    text, follows, excluded = _event(draws)
    beside = world.random_fact(draws)
    words = text.split()
    while beside.value in text or beside.subject in text or beside.value in words:
        beside = world.random_fact(draws)
    stated = world.state(draws, beside)
    if relation == ENTAILMENT:
        # One in six repeats the other fact, so that neither sentence can be skipped.
        hypothesis = world.state(draws, beside) if draws.chance(1 / 6) else draws.pick(follows)
    elif relation == CONTRADICTION:
        hypothesis = draws.pick(excluded)
        if draws.chance(1 / 6):
            wrong = beside._replace(value=draws.other(beside.relation.values, beside.value))
            hypothesis = world.state(draws, wrong)
    else:
        hypothesis = _unrelated(draws, text, beside)
    return Inference(". ".join(draws.shuffled((text, stated))) + ".", hypothesis, relation)


def _unrelated(draws: Draws, text: str, beside: Fact) -> str:
    """Draws a statement on neither sentence, though it may name their people and things."""
    mentioned = [word for word in text.split() if word in lexicon.PEOPLE]
    compared = [pair for pair in lexicon.COMPARISONS if pair[0] in text or pair[1] in text]
    if compared and draws.chance(0.6):
        a, b = draws.shuffled(mentioned[:2])
        return f"{a} is {draws.pick(draws.other(lexicon.COMPARISONS, *compared))} than {b}"
    if draws.chance(0.4):
        named = set(text.split()) & _NAMING
        while True:
            hypothesis = world.unsaid(draws, [beside])
            if named.isdisjoint(hypothesis.split()):
                return hypothesis
    relation = draws.pick((world.JOB, world.DAY, world.PRICE, world.COLOUR))
    if relation is world.JOB and beside.relation is not world.JOB:
        return world.state(draws, Fact(relation, mentioned[0], draws.pick(relation.values)))
    subject = draws.other(relation.subjects, beside.subject)
    return world.state(draws, Fact(relation, subject, draws.pick(relation.values)))


def belief_inference(draws: Draws, relation: str) -> Inference:
    """Draws a sentence about knowing, hoping or being wrong, and a fact beside it.

    The hypothesis is the reported fact, its contrary, or about the fact beside it.
    """
    fact = world.random_fact(draws)
    other = draws.other(world.RELATIONS, fact.relation)
    beside = Fact(
        other,
        draws.other(other.subjects, fact.subject, fact.value),
        draws.other(other.values, fact.subject, fact.value),
    )
    contrary = draws.chance(0.25)
    if relation == NEUTRAL:
        pool = draws.pick((_UNSURE, _UNSURE, _SURE, _DENIED))
    else:
        pool = _SURE if (relation == ENTAILMENT) != contrary else _DENIED
    named = (fact.subject, fact.value, beside.subject, beside.value)
    speaker = draws.other(lexicon.PEOPLE, *named)
    report = f"{draws.pick(pool).format(a=speaker)} {world.state(draws, fact)}"
    hypothesis = world.deny(fact) if contrary else world.state(draws, fact)
    if relation == NEUTRAL:
        if pool is not _UNSURE:
            hypothesis = world.unsaid(draws, [fact])
    elif draws.chance(0.15):
        wrong = beside._replace(value=draws.other(other.values, beside.value))
        hypothesis = world.state(draws, beside if relation == ENTAILMENT else wrong)
    premise = ". ".join(draws.shuffled((report, world.state(draws, beside)))) + "."
    return Inference(premise, hypothesis, relation)


def scene_inference(draws: Draws, relation: str) -> Inference:
    """Draws a scene and a statement that it entails, excludes or leaves open."""
    facts = world.scene(draws, 2 + draws.below(2))
    if relation == NEUTRAL:
        hypothesis = world.unsaid(draws, facts)
    else:
        hypothesis = world.claim(draws, facts, relation == ENTAILMENT)
    return Inference(world.tell(draws, facts), hypothesis, relation)


SOURCES = (event_inference, belief_inference, scene_inference)

_THREE = (
    "hypothesis - {h}. this is",
    "Hypothesis: {h}. Label:",
    "so {h}? relation:",
    "{h}: entailment, contradiction or neutral?",
)
_TWO = ("does it follow that {h}? this is", "{h}: entailment or not_entailment?")
_MAYBE = ("so {h}? yes, no or maybe?", "is it sure that {h}? yes, no or maybe?")
_FOLLOWS = ("it follows that {h}. {}", "we know that {h}. {}")

_THREE_FRONTS = (
    "entailment, contradiction or neutral? premise: {p} hypothesis: {h}.",
    "premise: {p} hypothesis: {h}. relation:",
    "Hypothesis: {h}. Premise: {p} Label:",
    "entailment, contradiction or neutral? {h}. text: {p}",
    "entailment, contradiction or neutral? claim: {h}. premise: {p}",
)
_TWO_FRONTS = (
    "entailment or not_entailment? premise: {p} hypothesis: {h}.",
    "entailment or not_entailment? {h}. text: {p}",
    "does it follow? premise: {p} hypothesis: {h}. this is",
    "entailment or not_entailment? claim: {h}. premise: {p}",
)
_FOLLOWS_FRONTS = ("{} does it follow? premise: {p} hypothesis: {h}.", "{} {h}. text: {p}")


def _facet(draws: Draws, kind: str, example: Inference, front: bool) -> Facet:
    """Returns the hypothesis and its relation to the premise, in the words of that kind."""
    if kind == "three":
        prompt, answer = draws.pick(_THREE_FRONTS if front else _THREE), example.relation
    elif kind == "maybe":
        prompt = draws.pick(_MAYBE)
        prompt = f"{prompt} text: {example.premise}" if front else prompt
        answer = {ENTAILMENT: "yes", CONTRADICTION: "no", NEUTRAL: "maybe"}[example.relation]
    elif kind == "two":
        prompt = draws.pick(_TWO_FRONTS if front else _TWO)
        answer = ENTAILMENT if example.relation == ENTAILMENT else "not_entailment"
    else:
        prompts = _FOLLOWS_FRONTS if front else _FOLLOWS
        prompt, answer = verdict(draws, prompts, example.relation == ENTAILMENT)
    return prompt.format(p=example.premise, h=example.hypothesis), answer


def draw_relation(draws: Draws, two_way: bool) -> str:
    """Draws a class: each third, or entailment in half of the cases."""
    if not two_way:
        return draws.pick(CLASSES)
    return ENTAILMENT if draws.chance(0.5) else draws.pick(CLASSES[1:])


_KINDS = ("three", "three", "three", "maybe", "two", "two", "two", "follows")


def write(draws: Draws) -> Draft:
    """Draws a premise and one hypothesis, after it or before it."""
    kind = draws.pick(_KINDS)
    relation = draw_relation(draws, two_way=kind in ("two", "follows"))
    example = draws.pick(SOURCES)(draws, relation)
    front = draws.chance(0.6)
    facet = _facet(draws, kind, example, front)
    return Draft(example.premise, (facet,) if front else ((example.premise,), facet))
