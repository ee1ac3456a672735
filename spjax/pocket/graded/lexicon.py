"""The lexicon: invented words of two syllables, each with four attributes, drawn by Zipf's law.

Nothing in a word's spelling says anything about its attributes, so that a model has to have learned
each word by itself. Small models know the common ones and larger ones rarer ones too, which is why
skills that rest on words rise smoothly with size (Michaud et al. 2023, arXiv 2303.13506).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spjax.pocket.draws import Draws

_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwz", "aeiou"
_CLUSTERS = ("bl", "br", "cr", "dr", "fl", "fr", "gl", "gr", "kl", "kr", "pl", "pr", "tr", "sl")
# The first syllable of a word, and the second.
ONSETS = tuple(c + v for c in (*_CONSONANTS, *_CLUSTERS) for v in _VOWELS)
CODAS = tuple(c + v + end for c in _CONSONANTS for v in _VOWELS for end in "nl")
COUNT = 20_000
_FLATTENING = 3  # of the law: the word of rank r (from 0) has the share 1 / (r + 3)
_SEED = 20


@dataclass(frozen=True)
class Attribute:
    """Something that every word has one of.

    Attributes:
      name: of the attribute.
      values: one of which a word has; single words.
      statement: takes `{w}` (a word) and `{v}` (a value).
      predicate: what `statement` says of a word, without the word.
      prompts: take `{w}`; the value follows.
    """

    name: str
    values: tuple[str, ...]
    statement: str
    predicate: str
    prompts: tuple[str, ...]


KIND = Attribute(
    "kind",
    ("beast", "bird", "fish", "plant", "stone", "tool", "cloth", "song"),
    "{w} is a {v}",
    "is a {v}",
    ("{w} is a", "what is {w}? a", "kind of {w}:"),
)
PLACE = Attribute(
    "place",
    ("hill", "lake", "wood", "town"),
    "{w} lives in the {v}",
    "lives in the {v}",
    ("{w} lives in the", "where is {w}? in the", "place of {w}:"),
)
EFFECT = Attribute(
    "effect",
    ("wet", "cold", "dark", "loud"),
    "{w} makes it {v}",
    "makes it {v}",
    ("{w} makes it", "what does {w} do? makes it", "effect of {w}:"),
)
WORTH = Attribute(
    "worth",
    ("bad", "good"),
    "{w} is very {v}",
    "is very {v}",
    ("{w} is very", "is {w} good or bad?", "worth of {w}:"),
)
ATTRIBUTES = (KIND, PLACE, EFFECT, WORTH)


def _spellings() -> list[str]:
    pairs = list(itertools.product(ONSETS, CODAS))
    order = np.random.default_rng(_SEED).permutation(len(pairs))[:COUNT]
    return ["".join(pairs[number]) for number in order]


def _values(number: int, attribute: Attribute) -> list[str]:
    """The value of each word: equally many have each, in no order."""
    order = np.random.default_rng([_SEED, number]).permutation(COUNT)
    return [attribute.values[place % len(attribute.values)] for place in order]


# By rank of frequency, 0 for the commonest.
WORDS = tuple(_spellings())
_RANKS = {word: rank for rank, word in enumerate(WORDS)}
_VALUES = {a.name: _values(number, a) for number, a in enumerate(ATTRIBUTES)}


def value(attribute: Attribute, word: str) -> str:
    """Returns what a word has of an attribute."""
    return _VALUES[attribute.name][_RANKS[word]]


def rank(word: str) -> int:
    """Returns the rank of a word by frequency, 0 for the commonest."""
    return _RANKS[word]


@dataclass(frozen=True)
class Register:
    """A way of drawing words: the word of rank r has a share of 1 / (r + flattening).

    Attributes:
      flattening: the larger, the rarer the words.
      count: how many of the words it has, the commonest.
    """

    flattening: int
    count: int = COUNT

    def word(self, draws: Draws, *avoid: str) -> str:
        """Draws a word that is none of `avoid`."""
        growth = self.count / self.flattening + 1
        while True:
            word = WORDS[int(self.flattening * (growth ** draws.uniform() - 1))]
            if word not in avoid:
                return word

    def words(self, draws: Draws, count: int) -> list[str]:
        """Draws some different words."""
        words: list[str] = []
        while len(words) < count:
            words.append(self.word(draws, *words))
        return words

    def word_with(self, draws: Draws, attribute: Attribute, wanted: str, *avoid: str) -> str:
        """Draws a word with the wanted value of an attribute that is none of `avoid`."""
        while True:
            word = self.word(draws, *avoid)
            if value(attribute, word) == wanted:
                return word

    def word_without(self, draws: Draws, attribute: Attribute, unwanted: str, *avoid: str) -> str:
        """Draws a word with another value of an attribute that is none of `avoid`."""
        while True:
            word = self.word(draws, *avoid)
            if value(attribute, word) != unwanted:
                return word


FACTS = Register(_FLATTENING)  # of texts on single words, from which they are learned
# Of texts that put words together. Only with known words is there something to learn from them,
# and what is learned holds for all others.
RELATIONS = Register(_FLATTENING, 300)
TASK = Register(20)  # of the tasks, where the commonest words are no commoner than others
RARE = Register(2000)  # of tasks on a shift of vocabulary


def together(*words: str) -> str:
    """Returns the key of the bucket of two or three words, whatever their order.

    Every two of three stand side by side in it, so that pre-training text, whose key must not hold
    a run of words that is reserved for tasks (`draws.may_pretrain`), holds none of their pairs.
    """
    ordered = sorted(words)
    return ". ".join(ordered if len(ordered) == 2 else [*ordered, ordered[0]])
