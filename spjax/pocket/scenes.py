"""Genre: scenes of two to four facts, with questions, claims, blanks and lists of answers."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket import world
from spjax.pocket.drafts import Draft, Facet, body_first, query_first, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.lexicon import PEOPLE
from spjax.pocket.world import Fact

_ASK_OPEN = ("question: {q}? answer:", "Question: {q}? Answer:", "Q: {q}? A:", "{q}?")
_ASK_TRUTH = ("question: {q}? {}", "{q}? {}", "Question: {q}? {} Answer:")
_CLAIM = ("claim: {q}. {}", "claim: {q}. {} verdict:", "it is said that {q}. {}")
_PROPOSED = (
    "question: {q}? answer: {a}. {}",
    "{q}? answer: {a}. {}",
    "Q: {q}? is it {a}? {}",
)
_BLANK = ("fill the blank: {q}. answer:", "query - {q}. answer:", "{q}. who is @placeholder?")
_DIALOGUE = "{a} asks {q}. {b} says"

# Query and passage in one text. `{}` is the heading, which may also be left out.
_TRUTH_FRONTS = (
    "{} question: {q}? passage: {p}",
    "{} Passage: {p} Question: {q}?",
    "{} {q}? text: {p}",
    "{} story: {p} question: {q}?",
    "{} text: {p} {q}?",
)
_CLAIM_FRONTS = ("{} claim: {q}. text: {p}", "{} text: {p} claim: {q}.", "{} Claim: {q}. {p}")
_PROPOSED_FRONTS = (
    "{} paragraph: {p} question: {q}? answer: {a}",
    "{} Question: {q}? Answer: {a}. Text: {p}",
    "{} is the answer right? {q}? {a}. {p}",
    "{} answer: {a} question: {q}? paragraph: {p}",
)
_OPEN_FRONTS = (
    "answer this. question: {q}? passage: {p}",
    "Passage: {p} Question: {q}? Answer:",
    "{q}? text: {p} answer:",
    "story: {p} question: {q}? answer:",
)
_BLANK_FRONTS = (
    "fill the blank. {q}. text: {p}",
    "reading comprehension. {q}. entities: {e} text: {p}",
    "reading and reasoning. passage: {p} {q}. who?",
    "passage: {p} entities: {e} query: {q}. answer:",
    "who is @placeholder? query: {q}. passage: {p}",
    "fill the blank. passage: {p} query: {q}.",
    "Query: {q}. Entities: {e}. Text: {p} answer:",
    "text: {p} {q}. who is @placeholder?",
)


# Relations under which two subjects may well have one value.
SHAREABLE = (world.OWNER, world.WHEREABOUTS, world.PLACE, world.COLOUR, world.JOB)
# Long scenes often hold a run of sentences reserved for tasks, so they are tried more often.
_COUNTS = (1, 1, 2, 2, 3, 3, 4, 4)


def passage(draws: Draws, counts: tuple[int, ...] = (2, 3, 4)) -> tuple[list[Fact], str]:
    """Draws facts, their number from `counts`, and the text that tells them."""
    facts = world.scene(draws, draws.pick(counts))
    return facts, world.tell(draws, facts)


def open_question(draws: Draws, facts: list[Fact]) -> tuple[str, str]:
    """Draws a question and its answer, asked for the value or for the subject."""
    fact = draws.pick([f for f in facts if f.holds])
    if draws.chance(0.6):
        return fact.relation.question.format(s=fact.subject), fact.value
    return fact.relation.reverse.format(v=fact.value), fact.subject


def ask_open(draws: Draws, facts: list[Fact]) -> Facet:
    """Draws an open question in one of its headings, and its answer."""
    question, answer = open_question(draws, facts)
    return draws.pick(_ASK_OPEN).format(q=question), answer


def blank(draws: Draws, facts: list[Fact]) -> tuple[str, str] | None:
    """Draws a statement with @placeholder for a person, and the person; None without people.

    The facts must not share values.
    """
    able = [f for f in facts if f.holds and f.relation in world.WITH_PEOPLE]
    if not able:
        return None
    fact = draws.pick(able)
    if fact.relation is world.OWNER:
        return world.state(draws, fact._replace(value="@placeholder")), fact.value
    return world.state(draws, fact._replace(subject="@placeholder")), fact.subject


def people_of(facts: list[Fact]) -> list[str]:
    """Returns the people of a scene in order of mention, without repetition."""
    named = [f.value if f.relation is world.OWNER else f.subject for f in facts]
    return [name for name in dict.fromkeys(named) if name in PEOPLE]


class Candidates(NamedTuple):
    """A question whose candidate answers are each right or wrong."""

    question: str
    answers: list[tuple[str, bool]]


def candidates(draws: Draws, facts: list[Fact]) -> Candidates:
    """Draws a question with two to four candidate answers, right and wrong, in random order.

    In a shared scene the question is which subjects have the value that two of them share.
    """
    held = [f for f in facts if f.holds]
    shared = [
        f
        for f in held
        if any(g.relation is f.relation and g.value == f.value and g is not f for g in held)
    ]
    fact = draws.pick(shared or held)
    relation = fact.relation
    if shared or draws.chance(0.4):
        right = [f.subject for f in held if f.relation is relation and f.value == fact.value]
        near = [f.subject for f in facts if f.relation is relation and f.subject not in right]
        question, pool = relation.reverse.format(v=fact.value), relation.subjects
    else:
        right = [fact.value]
        near = [f.value for f in held if f.relation is relation and f.value != fact.value]
        question, pool = relation.question.format(s=fact.subject), relation.values
    wrong = near[:1]
    if not wrong or draws.chance(0.5):
        wrong.append(draws.other(pool, *right, *near))
    marked = [(answer, True) for answer in right] + [(answer, False) for answer in wrong]
    return Candidates(question, draws.shuffled(marked))


def _truth(draws: Draws, facts: list[Fact]) -> Facet:
    so = draws.chance(0.5)
    prompt, answer = verdict(draws, _ASK_TRUTH, so)
    return prompt.format(q=world.ask(draws, facts, so)), answer


def _claimed(draws: Draws, facts: list[Fact]) -> Facet:
    so = draws.chance(0.5)
    prompt, answer = verdict(draws, _CLAIM, so)
    return prompt.format(q=world.claim(draws, facts, so)), answer


def verdict_on(draws: Draws, facts: list[Fact]) -> Facet:
    """Draws a question or a claim about the facts, and whether it is so."""
    return draws.pick((_truth, _claimed))(draws, facts)


def _writers(draws: Draws, facts: list[Fact]) -> list:
    """Returns functions that each write one facet about the facts."""

    def truth() -> Facet:
        return _truth(draws, facts)

    def claimed() -> Facet:
        return _claimed(draws, facts)

    def proposed() -> Facet:
        question, answers = candidates(draws, facts)
        so = draws.chance(0.5)
        prompt, answer = verdict(draws, _PROPOSED, so)
        candidate = draws.pick([a for a, right in answers if right == so])
        return prompt.format(q=question, a=candidate), answer

    def open_facet() -> Facet:
        if draws.chance(0.8):
            return ask_open(draws, facts)
        question, answer = open_question(draws, facts)
        a, b = draws.sample(PEOPLE, 2)
        return _DIALOGUE.format(a=a, b=b, q=question), answer

    def filled() -> Facet:
        example = blank(draws, facts)
        if example is None:
            return open_facet()
        return draws.pick(_BLANK).format(q=example[0]), example[1]

    def summary() -> Facet:
        fact = draws.pick([f for f in facts if f.holds])
        return f"what of {fact.subject}? summary:", world.state(draws, fact)

    return [truth, claimed, proposed, open_facet, filled, summary]


def _front(draws: Draws, facts: list[Fact], body: str) -> Facet:
    """Draws a text that holds a query and the body, and its answer."""
    kind = draws.below(8)
    if kind >= 6:
        example = blank(draws, facts)
        if example is not None:
            entities = ", ".join(draws.shuffled(people_of(facts)))
            front = draws.pick(_BLANK_FRONTS)
            return front.format(q=example[0], e=entities, p=body), example[1]
        kind = 5
    if kind == 5:
        question, answer = open_question(draws, facts)
        return draws.pick(_OPEN_FRONTS).format(q=question, p=body), answer
    so = draws.chance(0.5)
    if kind <= 1:
        prompt, answer = verdict(draws, _TRUTH_FRONTS, so)
        return prompt.format(q=world.ask(draws, facts, so), p=body), answer
    if kind == 2:
        prompt, answer = verdict(draws, _CLAIM_FRONTS, so)
        return prompt.format(q=world.claim(draws, facts, so), p=body), answer
    question, answers = candidates(draws, facts)
    candidate = draws.pick([a for a, right in answers if right == so])
    prompt, answer = verdict(draws, _PROPOSED_FRONTS, so)
    return prompt.format(q=question, a=candidate, p=body), answer


def write(draws: Draws) -> Draft:
    """Draws a scene with questions about it, after it or before it."""
    if draws.chance(0.25):
        facts = world.shared_scene(draws, draws.pick(SHAREABLE))
        body = world.tell(draws, facts)
        writers = _writers(draws, facts)
        # The single answer to an open question is not determined when two subjects share a value.
        writers = [w for w in writers if w.__name__ not in ("open_facet", "filled")]
        if draws.chance(0.5):
            return body_first(draws, body, writers)
        question, answers = candidates(draws, facts)
        so = draws.chance(0.5)
        candidate = draws.pick([a for a, right in answers if right == so])
        prompt, answer = verdict(draws, _PROPOSED_FRONTS, so)
        front = (prompt.format(q=question, a=candidate, p=body), answer)
        return query_first(draws, body, front, writers)
    facts, body = passage(draws, _COUNTS)
    writers = _writers(draws, facts)
    if draws.chance(0.5):
        return body_first(draws, body, writers)
    return query_first(draws, body, _front(draws, facts, body), writers)
