"""Genre: words with two meanings, separated by the words around them."""

from __future__ import annotations

from typing import NamedTuple

from spjax.pocket.drafts import Draft, verdict
from spjax.pocket.draws import Draws
from spjax.pocket.lexicon import PEOPLE

# word: (gloss, contexts) for each of its senses. {a} is a person.
SENSES = {
    "bank": (
        (
            "the side of a river",
            (
                "{a} sat on the bank of the river",
                "{a} swam to the bank",
                "grass grew on the bank of the river",
            ),
        ),
        (
            "a house for money",
            (
                "{a} took money from the bank",
                "the bank lent {a} money",
                "{a} brought coins to the bank",
            ),
        ),
    ),
    "bat": (
        (
            "an animal with wings",
            (
                "{a} saw a bat in the cave",
                "the bat flew over {a} at night",
                "a bat slept in the cave of {a}",
            ),
        ),
        (
            "a stick for a game",
            (
                "{a} hit the ball with the bat",
                "{a} used a new bat in the game",
                "the bat of {a} hit the ball",
            ),
        ),
    ),
    "spring": (
        (
            "a time of the year",
            (
                "{a} plants seeds in spring",
                "{a} waits for spring after winter",
                "the flowers of {a} grow in spring",
            ),
        ),
        (
            "water from the ground",
            (
                "{a} drank water from the spring",
                "{a} found a cold spring",
                "{a} washed in the spring",
            ),
        ),
    ),
    "ring": (
        (
            "gold for a finger",
            (
                "{a} wears a gold ring",
                "{a} got a ring at the wedding",
                "the ring fits the finger of {a}",
            ),
        ),
        (
            "the sound of a bell",
            (
                "{a} heard the ring of a bell",
                "the ring of the phone woke {a}",
                "{a} ran at the ring of the bell",
            ),
        ),
    ),
    "light": (
        (
            "what a lamp gives",
            (
                "{a} saw the light of a lamp",
                "{a} reads by the light of a candle",
                "the light of the sun woke {a}",
            ),
        ),
        (
            "not heavy",
            ("{a} has a light bag", "the bag of {a} is light", "{a} carries a light box"),
        ),
    ),
    "note": (
        (
            "a sound of music",
            (
                "{a} sang a high note",
                "{a} played a note on the drum",
                "the song of {a} has a low note",
            ),
        ),
        (
            "a short letter",
            ("{a} wrote a note", "{a} read the note on the door", "{a} sent a note to a friend"),
        ),
    ),
    "match": (
        (
            "a game of two teams",
            (
                "the team of {a} won the match",
                "{a} scored in the match",
                "{a} watched the match of the teams",
            ),
        ),
        (
            "a stick for fire",
            ("{a} lit a match", "{a} made a fire with a match", "the match burned {a}"),
        ),
    ),
    "bark": (
        (
            "the skin of a tree",
            (
                "{a} cut the bark of the tree",
                "the bark of the tree is brown",
                "{a} found bark in the wood",
            ),
        ),
        (
            "the sound of a dog",
            (
                "{a} heard the bark of a dog",
                "the bark of the dog woke {a}",
                "the dog of {a} has a loud bark",
            ),
        ),
    ),
    "star": (
        (
            "a light in the sky",
            (
                "{a} saw a star in the sky",
                "a star shone at night over {a}",
                "{a} looked up at a star",
            ),
        ),
        (
            "a famous person",
            ("{a} is a star of the film", "the star sang for {a}", "{a} met a famous star"),
        ),
    ),
    "wave": (
        (
            "moving water",
            ("a wave of the sea hit {a}", "the boat of {a} rode a wave", "{a} swam over the wave"),
        ),
        (
            "a sign of the hand",
            (
                "{a} gave a friend a wave",
                "{a} said goodbye with a wave",
                "{a} got a wave of the hand",
            ),
        ),
    ),
    "mouse": (
        (
            "a small animal",
            (
                "the cat of {a} caught a mouse",
                "a mouse ate the cheese of {a}",
                "{a} saw a mouse run",
            ),
        ),
        (
            "a part of a computer",
            (
                "{a} clicked with the mouse",
                "the computer of {a} has a mouse",
                "{a} bought a mouse for the computer",
            ),
        ),
    ),
    "fan": (
        (
            "a friend of a star",
            (
                "a fan asked {a} to sign a book",
                "{a} is a fan of the team",
                "a fan sang the song of {a}",
            ),
        ),
        (
            "a thing that makes wind",
            (
                "{a} turned on the fan",
                "the fan gives {a} cold wind",
                "the fan cools the room of {a}",
            ),
        ),
    ),
}
WORDS = tuple(SENSES)


class Pair(NamedTuple):
    """Two sentences with `word`, in the same sense or not; senses are the indices 0 and 1."""

    word: str
    sentences: tuple[str, str]
    senses: tuple[int, int]

    @property
    def key(self) -> str:
        """Returns the key of the bucket: the two sentences, whatever their order."""
        return ". ".join(self.sentences)


def pair(draws: Draws) -> Pair:
    """Draws two sentences from different contexts; in half of the pairs the senses agree."""
    word = draws.pick(WORDS)
    first = draws.below(2)
    second = first if draws.chance(0.5) else 1 - first
    one = draws.pick(SENSES[word][first][1])
    two = draws.other(SENSES[word][second][1], one)
    sentences = (one.format(a=draws.pick(PEOPLE)), two.format(a=draws.pick(PEOPLE)))
    return Pair(word, sentences, (first, second))


# The frames end where the verdict follows.
_PAIR_FRONTS = (
    "{{}} same meaning of {w}? {a}. {b}.",
    "{a}. {b}. same meaning of {w}? {{}}",
    "word: {w} sentence1: {a}. sentence2: {b}. {{}}",
    "{{}} word: {w}. {a}. {b}.",
    "Sentence1: {a}. Sentence2: {b}. Word: {w}. the same? {{}}",
    "{{}} is {w} the same in both? sentence1: {a}. sentence2: {b}.",
)
_MEANING = (
    "{s}. here {w} is",
    "what is {w}? {s}. meaning:",
    "word: {w}. sentence: {s}. meaning:",
    "{s}. meaning of {w}:",
    "define {w}. {s}.",
)
_CHECK = (
    "{s}. is {w} {g}? {{}}",
    "{{}} {w} means {g}. {s}.",
    "{s}. definition: {g}. word: {w}. {{}}",
)


def _meanings(draws: Draws, example: Pair) -> Draft:
    """Returns two sentences, each with the gloss of its sense, and whether they agree."""
    parts = [
        (
            f"{text}. {draws.pick(('here {w} is', 'meaning of {w}:')).format(w=example.word)}",
            SENSES[example.word][sense][0],
        )
        for text, sense in zip(example.sentences, example.senses)
    ]
    prompts = (f"same meaning of {example.word}? {{}}", f"word: {example.word}. the same? {{}}")
    parts.append(verdict(draws, prompts, example.senses[0] == example.senses[1]))
    return Draft(example.key, tuple(parts))


def write(draws: Draws) -> Draft:
    """Draws one sentence with the meaning of its word, or two to compare."""
    example = pair(draws)
    kind = draws.below(10)
    if kind < 5:
        prompt = draws.pick(_PAIR_FRONTS).format(
            w=example.word, a=example.sentences[0], b=example.sentences[1]
        )
        return Draft(
            example.key, (verdict(draws, (prompt,), example.senses[0] == example.senses[1]),)
        )
    if kind < 7:
        return _meanings(draws, example)
    word, text, sense = example.word, example.sentences[0], example.senses[0]
    if kind < 9:
        facet = (draws.pick(_MEANING).format(s=text, w=word), SENSES[word][sense][0])
    else:
        so = draws.chance(0.5)
        gloss = SENSES[word][sense if so else 1 - sense][0]
        facet = verdict(draws, (draws.pick(_CHECK).format(s=text, w=word, g=gloss),), so)
    return Draft("", (facet,))
