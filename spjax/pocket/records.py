"""Task records, field for field as TFDS has them, and the keys of their buckets."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from spjax.pocket import causes, inference, pronouns, reviews, scenes, senses, world
from spjax.pocket.draws import Draws

Fields = dict[str, Any]


class Probe(NamedTuple):
    """Texts of pre-training form whose answers decide a record's label, and the right answers.

    The right ones are all those that lead to the label, one answer for each text.
    """

    texts: tuple[str, ...]
    right: frozenset[tuple[str, ...]]


class Drawn(NamedTuple):
    """records: one, or those of one MultiRC question, still without `idx`. key: decides the bucket.

    unit: what may occur only once in a task: the key, and what is asked about it. probes: of each
    record, in tasks that have them. asked: a word that alone decides the label, so that training
    data and the other splits may not share it, or "".
    """

    records: list[Fields]
    key: str
    unit: str
    probes: tuple[Probe, ...] = ()
    asked: str = ""


def boolq(draws: Draws) -> Drawn:
    """Draws a yes-no question about a passage; label 1 (True) for yes."""
    facts, passage = scenes.passage(draws)
    truth = draws.chance(0.5)
    question = world.ask(draws, facts, truth)
    fields = {"question": question, "passage": passage, "label": int(truth)}
    return Drawn([fields], passage, passage + question)


def _nli(draws: Draws, sources: tuple, two_way: bool) -> Drawn:
    relation = inference.draw_relation(draws, two_way)
    example = draws.pick(sources)(draws, relation)
    label = inference.CLASSES.index(relation)
    fields = {
        "premise": example.premise,
        "hypothesis": example.hypothesis + ".",
        "label": min(label, 1) if two_way else label,
    }
    return Drawn([fields], example.premise, example.premise + example.hypothesis)


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
    example = causes.choice(draws)
    first, second = (f"{choice}." for choice in example.choices)
    fields = {
        "premise": f"{example.premise}.",
        "choice1": first,
        "choice2": second,
        "question": example.question,
        "label": example.answer,
    }
    return Drawn([fields], example.key, example.key + example.question)


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
        example = scenes.blank(draws, facts)
        if len(people) > 1 and example is not None:
            break
    query, answer = example
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
    example = senses.pair(draws)
    word = re.compile(rf"\b{example.word}\b")
    spans = [next(word.finditer(text)).span() for text in example.sentences]
    fields: Fields = {"word": example.word}
    for number, (text, (start, end)) in enumerate(zip(example.sentences, spans), 1):
        fields |= {f"sentence{number}": f"{text}.", f"start{number}": start, f"end{number}": end}
    fields["label"] = int(example.senses[0] == example.senses[1])
    return Drawn([fields], example.key, example.key)


def wsc(draws: Draws) -> Drawn:
    """Draws a sentence, a candidate (span1) and a pronoun (span2); label 1 if they corefer.

    Span indices count words split at white space.
    """
    example = pronouns.reference(draws)
    right = draws.chance(0.5)
    candidate = example.referent if right else example.other
    words = example.text.split()
    fields = {
        "text": example.text,
        "span1_index": words.index(candidate.split()[0])
        if example.pronoun != "it"
        else (0 if example.text.startswith(candidate) else words.index(candidate.split()[1]) - 1),
        "span1_text": candidate,
        "span2_index": words.index(example.pronoun),
        "span2_text": example.pronoun,
        "label": int(right),
    }
    return Drawn([fields], example.text, example.text)


def sentiment(draws: Draws) -> Drawn:
    """Draws a review; label 1 positive, 0 negative."""
    example = reviews.review(draws)
    return Drawn(
        [{"sentence": example.text, "label": int(example.liked)}], example.text, example.text
    )
