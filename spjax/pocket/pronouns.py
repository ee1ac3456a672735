"""Genre: sentences with a pronoun whose referent follows from the rest of the sentence."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket.drafts import Draft, Facet, body_first, query_first, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.lexicon import OBJECTS, PEOPLE, WOMEN

# (main clause, what is true of the first, what is true of the second)
TEMPLATES = (
    ("{a} thanked {b}", "was grateful", "had helped"),
    ("{a} helped {b}", "was kind", "needed help"),
    ("{a} envied {b}", "was poor", "was rich"),
    ("{a} lost to {b}", "was slow", "was fast"),
    ("{a} beat {b}", "was fast", "was slow"),
    ("{a} scolded {b}", "was strict", "had lied"),
    ("{a} praised {b}", "was friendly", "had worked well"),
    ("{a} feared {b}", "was weak", "was cruel"),
    ("{a} fed {b}", "could cook", "was hungry"),
    ("{a} taught {b}", "knew a lot", "wanted to learn"),
    ("{a} asked {b}", "wanted to learn", "knew a lot"),
    ("{a} carried {b}", "was strong", "was tired"),
    ("{a} visited {b}", "was worried", "was ill"),
    ("{a} followed {b}", "was lost", "knew the way"),
    ("{a} hid from {b}", "was afraid", "was angry"),
    ("{a} forgave {b}", "was kind", "was sorry"),
)
_CONTAINERS = ("the box", "the bag", "the basket", "the drawer")
_THINGS = (
    ("{a} did not fit in {b}", "was too big", "was too small"),
    ("{a} did not fit in {b}", "was too long", "was too short"),
)


class Reference(NamedTuple):
    """text: a sentence; pronoun: its he, she or it; predicate: what is said of the referent."""

    text: str
    pronoun: str
    predicate: str
    referent: str
    other: str

    @property
    def starred(self) -> str:
        """Returns the text with the pronoun between stars."""
        return self.text.replace(f" {self.pronoun} ", f" *{self.pronoun}* ")


def reference(draws: Draws) -> Reference:
    """Draws a sentence about two people (one in eight about two things).

    Of the sentences about people, half name a woman and a man; then the gender also identifies
    the referent.
    """
    second = draws.chance(0.5)
    if draws.chance(0.125):
        names = (draws.pick(OBJECTS), draws.pick(_CONTAINERS))
        clause, *predicates = draws.pick(_THINGS)
        pronoun = "it"
    else:
        first, other = draws.sample(PEOPLE, 2)
        names = (first, other)
        clause, *predicates = draws.pick(TEMPLATES)
        pronoun = "she" if names[second] in WOMEN else "he"
    predicate = predicates[second]
    text = f"{clause.format(a=names[0], b=names[1])} because {pronoun} {predicate}."
    return Reference(text, pronoun, predicate, names[second], names[not second])


_AFTER = (
    "who is *{r}*?",
    "who {d}?",
    "{r} stands for",
    "pronoun: {r}. name:",
    "the pronoun {r} means",
)
_FRONTS = (
    "who is *{r}*? {s}",
    "pronoun resolution. {s}",
    "commonsense. {s} who is it?",
    "who {d}? {t}",
    "{s} pronoun:",
    "replace the pronoun by a name. text: {s}",
    "{s} {r} is",
)
_CHECK = ("{r} is {c}. {{}}", "{c} {d}. {{}}", "{r} stands for {c}. {{}}")


def write(draws: Draws) -> Draft:
    """Draws a sentence with facets about its pronoun; one in three has stars around it."""
    example = reference(draws)

    def referent() -> Facet:
        prompt = draws.pick(_AFTER).format(r=example.pronoun, d=example.predicate)
        return prompt.replace(
            "who", "what"
        ) if example.pronoun == "it" else prompt, example.referent

    def other() -> Facet:
        return f"who is the other, not *{example.pronoun}*?", example.other

    def checked() -> Facet:
        so = draws.chance(0.5)
        candidate = example.referent if so else example.other
        prompt = draws.pick(_CHECK).format(r=example.pronoun, d=example.predicate, c=candidate)
        return verdict(draws, (prompt,), so)

    writers = [referent, checked, other]
    if draws.chance(0.5):
        body = example.starred if draws.chance(0.5) else example.text
        return body_first(draws, body, writers)._replace(key=example.text)
    prompt = draws.pick(_FRONTS).format(
        r=example.pronoun, d=example.predicate, s=example.starred, t=example.text
    )
    return query_first(draws, example.text, (prompt, example.referent), writers)
