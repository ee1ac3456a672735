"""Task records, field for field as TFDS has them, and the keys of their buckets."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from spjax.pocket import causes, inference, pronouns, reviews, scenes, senses, world
from spjax.pocket.draws import Draws

Fields = dict[str, Any]


class Drawn(NamedTuple):
    """records: one, or those of one MultiRC question, still without `idx`. key: decides the bucket.

    unit: what may occur only once in a task: the key, and what is asked about it.
    """

    records: list[Fields]
    key: str
    unit: str


def boolq(draws: Draws) -> Drawn:
    """Draws a yes-no question about a passage; label 1 (True) for yes."""
    facts, passage = scenes.passage(draws)
    truth = draws.chance(0.5)
    question = world.ask(draws, facts, truth)
    fields = {"question": question, "passage": passage, "label": int(truth)}
    return Drawn([fields], passage, passage + question)


def _nli(draws: Draws, sources: tuple, two_way: bool) -> Drawn:
    relation = inference.draw_relation(draws, two_way)
    made = draws.pick(sources)(draws, relation)
    label = inference.CLASSES.index(relation)
    fields = {
        "premise": made.premise,
        "hypothesis": made.hypothesis + ".",
        "label": min(label, 1) if two_way else label,
    }
    return Drawn([fields], made.premise, made.premise + made.hypothesis)


def cb(draws: Draws) -> Drawn:
    """Draws 0 entailment, 1 contradiction, 2 neutral; mostly about knowing or hoping."""
    sources = (inference.belief_inference,) * 2 + (inference.scene_inference,)
    return _nli(draws, sources, two_way=False)


def rte(draws: Draws) -> Drawn:
    """Draws 0 entailment, 1 not_entailment; mostly about the consequences of events."""
    sources = (inference.event_inference,) * 2 + (inference.scene_inference,)
    return _nli(draws, sources, two_way=True)


def copa(draws: Draws) -> Drawn:
    """Draws two events, one the cause or the effect; label 0 is choice1."""
    made = causes.choice(draws)
    first, second = (f"{choice}." for choice in made.choices)
    fields = {
        "premise": f"{made.premise}.",
        "choice1": first,
        "choice2": second,
        "question": made.asked,
        "label": made.answer,
    }
    return Drawn([fields], made.key, made.key + made.asked)


def multirc(draws: Draws) -> Drawn:
    """Draws one question with all its candidate answers; label 1 if the answer is right."""
    if draws.chance(0.6):
        facts = world.shared_scene(draws, draws.pick(scenes.SHAREABLE))
    else:
        facts = world.scene(draws, 3 + draws.below(2))
    paragraph = world.tell(draws, facts)
    question, answers = scenes.candidates(draws, facts)
    records = [
        {"paragraph": paragraph, "question": f"{question}?", "answer": answer, "label": int(right)}
        for answer, right in answers
    ]
    return Drawn(records, paragraph, paragraph)


def record(draws: Draws) -> Drawn:
    """Draws a passage that ends with its highlight, and a query with @placeholder for a person."""
    while True:
        facts = world.scene(draws, 2 + draws.below(3), draws.pick(world.WITH_PEOPLE))
        people = scenes.people_of(facts)
        made = scenes.blank(draws, facts)
        if len(people) > 1 and made is not None:
            break
    query, answer = made
    sentences = [world.state(draws, fact) for fact in facts]
    passage = ". ".join(sentences[:-1]) + f".\n@highlight\n{sentences[-1]}."
    fields = {
        "passage": passage,
        "query": f"{query}.",
        "entities": draws.shuffled(people),
        "answers": [answer],
    }
    return Drawn([fields], ". ".join(sentences) + ".", passage + query)


def wic(draws: Draws) -> Drawn:
    """Draws two sentences with one word; label 1 if its sense is the same. end is exclusive."""
    made = senses.pair(draws)
    spans = [re.search(rf"\b{made.word}\b", text).span() for text in made.sentences]
    fields: Fields = {"word": made.word}
    for number, (text, (start, end)) in enumerate(zip(made.sentences, spans), 1):
        fields |= {f"sentence{number}": f"{text}.", f"start{number}": start, f"end{number}": end}
    fields["label"] = int(made.senses[0] == made.senses[1])
    return Drawn([fields], made.key, made.key)


def wsc(draws: Draws) -> Drawn:
    """Draws a sentence, a candidate (span1) and a pronoun (span2); label 1 if they corefer.

    Span indices count words split at white space.
    """
    made = pronouns.reference(draws)
    right = draws.chance(0.5)
    candidate = made.referent if right else made.other
    words = made.text.split()
    fields = {
        "text": made.text,
        "span1_index": words.index(candidate.split()[0])
        if made.pronoun != "it"
        else (0 if made.text.startswith(candidate) else words.index(candidate.split()[1]) - 1),
        "span1_text": candidate,
        "span2_index": words.index(made.pronoun),
        "span2_text": made.pronoun,
        "label": int(right),
    }
    return Drawn([fields], made.text, made.text)


def sentiment(draws: Draws) -> Drawn:
    """Draws a review; label 1 positive, 0 negative."""
    made = reviews.review(draws)
    return Drawn([{"sentence": made.text, "label": int(made.liked)}], made.text, made.text)
