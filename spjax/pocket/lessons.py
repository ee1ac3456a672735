"""Lessons to learn first: to find an entry of a list, and to compare two statements.

Each is learned within minutes when it is trained alone and after the easier ones, and hardly at all
among all other documents: attention to the same word elsewhere, and to its neighbors, has to
exist before any answer can profit from it.
"""

from __future__ import annotations

from spjax.pocket import scenes, world
from spjax.pocket.drafts import Draft
from spjax.pocket.draws import Draws

_JOINTS = ("", " -", " :", " is", " has", " in the", " is in the", " lies in the")


def bare_list(draws: Draws) -> Draft:
    """Draws word pairs without grammar ("cup kitchen. hat garden.") and a look-up among them."""
    return _list(draws, joints=("",), articles=False)


def joined_list(draws: Draws) -> Draft:
    """Draws pairs with something between the words ("the cup - kitchen. hat is garden.")."""
    return _list(draws, _JOINTS, articles=True)


def _list(draws: Draws, joints: tuple[str, ...], articles: bool) -> Draft:
    relation, count = draws.pick(world.RELATIONS), 2 + draws.below(3)
    firsts = [_bare(subject) for subject in draws.sample(relation.subjects, count)]
    seconds = [_bare(value) for value in draws.sample(relation.values, count)]
    lines = []
    for first, second in zip(firsts, seconds):
        article = "the " if articles and draws.chance(0.3) else ""
        lines.append(f"{article}{first}{draws.pick(joints)} {second}.")
    index = draws.below(count)
    return Draft("", ((" ".join(lines),), (f"{firsts[index]}?", seconds[index])))


def _bare(text: str) -> str:
    return text.removeprefix("the ").removesuffix(" coins")


def told_list(draws: Draws) -> Draft:
    """Draws two or three facts under one relation in full sentences, and a question."""
    facts = world.alike(draws, 2 + draws.below(2), draws.pick(world.RELATIONS))
    body = world.tell(draws, facts)
    return Draft(body, ((body,), scenes.ask_open(draws, facts)))


def agreement(draws: Draws) -> Draft:
    """Draws a single fact and whether another statement agrees with it."""
    facts, body = scenes.passage(draws, counts=(1,))
    return Draft(body, ((body,), scenes.verdict_on(draws, facts)))
