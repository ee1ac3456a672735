"""Genre: chains of three events, the same in every story, with causes and effects to choose."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket.drafts import Draft, Facet, body_first, query_first, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.lexicon import PEOPLE

# Each event leads to the next one of its row. {a} is a person.
CHAINS = (
    ("{a} dropped the glass", "the glass broke", "{a} swept the floor"),
    ("{a} walked in the rain", "{a} got wet", "{a} changed clothes"),
    ("{a} ate no lunch", "{a} was hungry", "{a} ate a big dinner"),
    ("{a} ate old fish", "{a} felt sick", "{a} called a doctor"),
    ("{a} lost the key", "{a} could not open the door", "{a} climbed in by the window"),
    ("{a} studied hard", "{a} passed the test", "the teacher praised {a}"),
    ("{a} was lazy at school", "{a} failed the test", "{a} took the test again"),
    ("{a} let in the cold wind", "the room got cold", "{a} put on a coat"),
    ("{a} missed the bus", "{a} came late", "{a} said sorry"),
    ("{a} slipped on the ice", "{a} hurt a leg", "{a} could not walk"),
    ("{a} worked all week", "{a} earned money", "{a} bought a bike"),
    ("{a} shouted at night", "the baby woke up", "the baby cried"),
    ("{a} saw a ghost", "{a} screamed", "the neighbours came to help"),
    ("{a} fell in the mud", "{a} was dirty", "{a} took a bath"),
    ("{a} told a joke", "everybody laughed", "{a} felt proud"),
    ("{a} burned the toast", "smoke filled the kitchen", "{a} opened the window"),
    ("{a} watered the seeds", "the flowers grew", "bees came to the garden"),
    ("{a} stayed up all night", "{a} was sleepy", "{a} went to bed early"),
    ("{a} left the gate open", "the horse ran away", "{a} searched for the horse"),
    ("{a} won the race", "{a} got a prize", "{a} showed the prize to friends"),
    ("{a} broke the law", "the police caught {a}", "{a} went to prison"),
    ("{a} turned off the lamp", "the room was dark", "{a} lit a candle"),
    ("{a} lied to a friend", "the friend was angry", "{a} wrote a letter to the friend"),
    ("{a} cut the rope", "the boat drifted away", "{a} swam after the boat"),
)


class Choice(NamedTuple):
    """Two events, one the `question` ("cause" or "effect") of the premise; answer 0 or 1."""

    premise: str
    choices: tuple[str, str]
    question: str
    answer: int

    @property
    def key(self) -> str:
        """Returns the key of the bucket: the three events, whatever order and question."""
        return ". ".join((self.premise, *self.choices))


def choice(draws: Draws) -> Choice:
    """Draws a premise with its cause or effect beside a distractor about the same person.

    Where the premise has both, the distractor is in half of the cases the other one of them.
    """
    name = draws.pick(PEOPLE)
    row, position = draws.below(len(CHAINS)), draws.below(4)
    position = 1 if position == 3 else position
    chain = CHAINS[row]
    question = (
        ("effect", "cause")[draws.below(2)] if position == 1 else ("effect", "", "cause")[position]
    )
    right = chain[position + 1 if question == "effect" else position - 1]
    if position == 1 and draws.chance(0.5):
        wrong = chain[0 if question == "effect" else 2]
    else:
        wrong = draws.pick(CHAINS[draws.other(range(len(CHAINS)), row)])
    answer = draws.below(2)
    choices = (wrong, right) if answer else (right, wrong)
    first, second = (choice.format(a=name) for choice in choices)
    return Choice(chain[position].format(a=name), (first, second), question, answer)


_NAMES = (("choice1", "choice2"), ("1", "2"), ("first", "second"))
_FRONTS = (
    "premise: {p}. question: {q} {x}: {a}. {y}: {b}. answer:",
    "choose {x} or {y}. {p}. {q}? {x}: {a}. {y}: {b}.",
    "choose {x} or {y}. {x}: {a}. {y}: {b}. which is the {q}? {p}.",
    "{x} or {y}? the {q} of this: {p}. {x}: {a}. {y}: {b}.",
    "{x} or {y}? {x}: {a}. {y}: {b}. {q} of: {p}.",
    "question: {q} premise: {p}. {x} - {a}. {y} - {b}. the {q} is",
)
_FULL_FRONTS = (
    "what is the {q}? {p}. {a} or {b}? answer:",
    "{q}: {a} or {b}? premise: {p}.",
    "{p}. {q}? {a} or {b}?",
)
_LINKS = (
    "{p}. is this the {q}: {a}? {{}}",
    "{{}} {a} is the {q}. text: {p}.",
    "is the {q} right? {{}} {p}. {q}: {a}.",
)


def _choice_facet(draws: Draws, example: Choice) -> Facet:
    kind = draws.below(6)
    first, second = example.choices
    right = example.choices[example.answer]
    if kind < 3:
        x, y = names = _NAMES[0] if draws.chance(0.6) else draws.pick(_NAMES[1:])
        prompt = draws.pick(_FRONTS).format(
            p=example.premise, q=example.question, a=first, b=second, x=x, y=y
        )
        return prompt, names[example.answer]
    if kind < 5:
        front = draws.pick(_FULL_FRONTS)
        return front.format(p=example.premise, q=example.question, a=first, b=second), right
    so = draws.chance(0.5)
    candidate = right if so else example.choices[1 - example.answer]
    prompt = draws.pick(_LINKS).format(p=example.premise, q=example.question, a=candidate)
    return verdict(draws, (prompt,), so)


def _story(draws: Draws) -> Draft:
    """Draws two events told in a row, or one, with what was before and after."""
    name = draws.pick(PEOPLE)
    row = [event.format(a=name) for event in draws.pick(CHAINS)]
    position = draws.below(2)
    cause, effect = row[position], row[position + 1]
    if draws.chance(0.5):
        linked = draws.pick(("{c}, so {e}.", "{c}. so {e}.", "{e} because {c}."))
        body = linked.format(c=cause, e=effect)
        facets = (
            lambda: ("cause:", cause),
            lambda: ("effect:", effect),
            lambda: (f"what is the cause of this: {effect}?", cause),
            lambda: (f"what is the effect of this: {cause}?", effect),
        )
        return body_first(draws, body, facets)
    if draws.chance(0.5):
        front = (
            f"{draws.pick(('effect of', 'what happened next?', 'effect? premise:'))} {cause}.",
            effect,
        )
        return query_first(draws, cause, front, (lambda: ("who is it about?", name),))
    front = (
        f"{draws.pick(('cause of', 'what was the cause?', 'cause? premise:'))} {effect}.",
        cause,
    )
    return query_first(draws, effect, front, (lambda: ("who is it about?", name),))


def write(draws: Draws) -> Draft:
    """Draws a story, or a choice between two events. Only choices have buckets."""
    if draws.chance(0.3):
        draft = _story(draws)
        # Events by themselves are the knowledge of the world: no task consists of one.
        return draft._replace(key="")
    example = choice(draws)
    return Draft(example.key, (_choice_facet(draws, example),))
