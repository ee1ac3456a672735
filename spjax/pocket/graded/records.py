"""Records of the graded tasks, field for field as TFDS has them, and probes of their skills.

Items mix easy and hard ones: common words and rare ones, one fact to know and two, one sentence and
more, what is known and what a passage says otherwise. Formats and labels never occur in
pre-training text; of two tasks the labels follow from a rule of the task's own, which a prompt has
to carry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from spjax.pocket.draws import Draws
from spjax.pocket.graded import lexicon, texts
from spjax.pocket.graded.lexicon import (
    EFFECT,
    KIND,
    TASK,
    WORTH,
    Attribute,
    Register,
    together,
)
from spjax.pocket.records import Drawn, Fields, Probe

# Words of the templates, which the vocabulary has to have.
HEADINGS = (
    *("passage", "question", "hypothesis", "premise", "choice1", "choice2", "paragraph", "answer"),
    *("query", "entities", "sentence", "sentence1", "sentence2", "word", "cause", "effect"),
    *("@placeholder", "because", "*he*", "may", "pass", "was", "fed", "with", "is"),
)
_ANY_NO = {("yes", "no"), ("no", "yes"), ("no", "no")}


def _rule(seed: int, *attributes: Attribute) -> dict[tuple[str, ...], bool]:
    """A rule that only one task has: for half of the combinations of values it says yes."""
    combinations = list(itertools.product(*(attribute.values for attribute in attributes)))
    permitted = set(Draws(2, seed).shuffled(combinations)[: len(combinations) // 2])
    return {values: values in permitted for values in combinations}


_PASS = _rule(0, KIND)
_FED = _rule(1, KIND)


def _drawn(fields: Fields, probe: Probe, words: list[str], *more: str, asked: str = "") -> Drawn:
    key = together(*words)
    return Drawn([fields], key, " ".join((key, *more)), (probe,), asked)


def _probe(text: str, *right: str) -> Probe:
    return Probe((text,), frozenset((answer,) for answer in right))


def sentiment(draws: Draws, register: Register = TASK) -> Drawn:
    """Draws a phrase of two or three words; label 1 positive, 0 negative."""
    words = register.words(draws, 2 + draws.chance(0.4))
    written, worth = texts.phrase(draws, words)
    fields = {"sentence": f"{written}.", "label": int(worth == "good")}
    return _drawn(fields, _probe(f"{written}. all in all:", worth), words, written)


def boolq(draws: Draws, register: Register = TASK) -> Drawn:
    """Draws a passage and whether one of its words may pass; label 1 (True) for yes.

    A rule says it for each of eight kinds; the passage may say that the word is of a new one.
    """
    words = register.words(draws, 2)
    asked = draws.pick(words)
    passage, kind = texts.kinds_now(draws, words, asked)
    label = _PASS[(kind,)]
    fields = {"passage": passage, "question": f"may {asked} pass", "label": int(label)}
    right = frozenset(values for values, may_pass in _PASS.items() if may_pass == label)
    probe = Probe((f"{passage} what is {asked} now? a",), right)
    return _drawn(fields, probe, words, passage, asked=asked)


def rte(draws: Draws, register: Register = TASK) -> Drawn:
    """Draws 0 entailment or 1 not_entailment: whether a word of the premise was fed.

    Another rule than that of BoolQ says it for each of eight kinds.
    """
    words = register.words(draws, 2)
    asked = draws.pick(words)
    premise = texts.setting(draws, words)
    fed = _FED[(lexicon.value(KIND, asked),)]
    fields = {"premise": premise, "hypothesis": f"{asked} was fed.", "label": int(not fed)}
    right = frozenset(values for values, is_fed in _FED.items() if is_fed == fed)
    probe = Probe((f"{asked} is a",), right)
    return _drawn(fields, probe, words, premise, asked=asked)


def cb(draws: Draws, register: Register = TASK) -> Drawn:
    """Draws 0 entailment, 1 contradiction, 2 neutral: what a phrase says of the worth of it all."""
    words = register.words(draws, 2)
    written, worth = texts.phrase(draws, words, undecided=draws.chance(0.7))
    said = draws.pick(WORTH.values)
    label = 2 if worth == texts.UNCLEAR else int(worth != said)
    fields = {"premise": f"{written}.", "hypothesis": f"it is {said}.", "label": label}
    return _drawn(fields, _probe(f"{written}. all in all:", worth), words, written, said)


# Tasks with a shift of genre and vocabulary, and the field of their records that becomes a note.
NOTED = {"boolq": "passage", "cb": "premise", "rte": "premise", "sentiment": "sentence"}


def in_notes(draws: Draws, draw: Callable[[Draws], Drawn], field: str) -> Drawn:
    """Draws a record with one of its fields as a note, which pre-training text has too."""
    drawn = draw(draws)
    (fields,) = drawn.records
    return drawn._replace(records=[{**fields, field: texts.note(draws, str(fields[field]))}])


def copa(draws: Draws) -> Drawn:
    """Draws two events, one the cause or the effect of the premise; label 0 is choice1."""
    words, label = TASK.words(draws, 2), draws.below(2)
    if draws.chance(0.5):
        premise, cause = texts.event(draws, words)
        follows = lexicon.value(EFFECT, cause)
        pair = (follows, draws.other(EFFECT.values, follows))
        choices = [f"it got {effect}." for effect in (pair[::-1] if label else pair)]
        probe, question = _probe(f"{premise} it got", follows), "effect"
    else:
        words, cause, follows = texts.one_of(draws, TASK, EFFECT, 2)
        label = words.index(cause)
        premise, question = f"it got {follows}.", "cause"
        choices = [f"{word} came." for word in words]
        listed = f"first: {words[0]}. second: {words[1]}."
        stated = EFFECT.predicate.format(v=follows)
        probe = _probe(f"which {stated}? {listed}", ("first", "second")[label])
    fields = {
        "premise": premise,
        "choice1": choices[0],
        "choice2": choices[1],
        "question": question,
        "label": label,
    }
    return _drawn(fields, probe, words, premise)


def multirc(draws: Draws) -> Drawn:
    """Draws a question on three words with three answers; label 1 if the answer is right.

    A wrong answer is of another kind, or was not there.
    """
    first = TASK.word(draws)
    kind = lexicon.value(KIND, first)
    others = [TASK.word(draws, first)]
    if draws.chance(0.7):
        others.append(TASK.word_with(draws, KIND, kind, first, *others))
    else:
        others.append(TASK.word_without(draws, KIND, kind, first, *others))
    words = draws.shuffled([first, *others])
    absent = TASK.word_with(draws, KIND, kind, *words)
    paragraph = texts.setting(draws, words)
    answers = [*words, absent] if draws.chance(0.5) else words
    records, probes = [], []
    for answer in draws.shuffled(answers):
        right = answer != absent and lexicon.value(KIND, answer) == kind
        records.append(
            {
                "paragraph": paragraph,
                "question": f"who is a {kind}?",
                "answer": f"{answer}.",
                "label": int(right),
            }
        )
        verdicts = frozenset({("yes", "yes")} if right else _ANY_NO)
        statements = f"{answer} is a {kind}.", f"{paragraph} was {answer} there?"
        probes.append(Probe(tuple(f"{text} {texts.YES_NO}" for text in statements), verdicts))
    return Drawn(records, together(*words), paragraph, tuple(probes))


def record(draws: Draws) -> Drawn:
    """Draws a passage that ends with its highlight, and a query with @placeholder for a person."""
    asked = texts.what_holds(draws)
    words, right, value = texts.one_of(draws, TASK, asked, 3)
    named = texts.people(draws, words)
    entities, people = list(named), list(named.values())
    answer, stated = entities[words.index(right)], asked.predicate.format(v=value)
    passage = texts.setting(draws, people[:2])
    fields = {
        "passage": f"{passage}\n@highlight\n{people[2]} came.",
        "query": f"@placeholder {stated}.",
        "entities": draws.shuffled(entities),
        "answers": [answer],
    }
    probe = _probe(f"{texts.setting(draws, people)} who {stated}?", answer)
    return _drawn(fields, probe, words, stated)


def wic(draws: Draws) -> Drawn:
    """Draws a word beside two others; label 1 if these are of one kind. end is exclusive."""
    word, first = TASK.words(draws, 2)
    kind, label = lexicon.value(KIND, first), draws.chance(0.5)
    draw = TASK.word_with if label else TASK.word_without
    second = draw(draws, KIND, kind, word, first)
    fields: Fields = {"word": word}
    for number, beside in enumerate((first, second), 1):
        fields |= {
            f"sentence{number}": f"{word} with {beside}.",
            f"start{number}": 0,
            f"end{number}": len(word),
        }
    fields["label"] = int(label)
    probe = _probe(f"{first} and {second}. same kind? {texts.YES_NO}", "yes" if label else "no")
    return _drawn(fields, probe, [word, first, second], word)


def wsc(draws: Draws) -> Drawn:
    """Draws a sentence, a candidate (span1) and a pronoun (span2); label 1 if they corefer.

    Span indices count words split at white space.
    """
    asked = texts.what_holds(draws)
    words, right, value = texts.one_of(draws, TASK, asked, 2)
    named = texts.people(draws, words)
    names, people = list(named), list(named.values())
    stated, label = asked.predicate.format(v=value), draws.chance(0.5)
    referent = words.index(right)
    candidate = names[referent if label else 1 - referent]
    met = draws.pick(("met", "saw"))
    text = f"{people[0]} {met} {people[1]} because he {stated}."
    fields = {
        "text": text,
        "span1_index": text.split().index(candidate),
        "span1_text": candidate,
        "span2_index": text.split().index("he"),
        "span2_text": "he",
        "label": int(label),
    }
    probe = _probe(f"{people[0]} {met} {people[1]}. who {stated}?", names[referent])
    return _drawn(fields, probe, words, text)
