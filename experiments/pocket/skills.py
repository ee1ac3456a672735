"""Skills of each rung of a pocket ladder before any tuning: skill x size.

Prompt tuning elicits what a frozen model can do; it does not teach. Here the frozen models finish
texts of pre-training form that they have not seen, greedily. For the pocket world these are
documents up to their last answer; an answer counts if all of its words are right. For the graded
world they are the probes of the tasks' test records: a record counts if the answers lead to its
label. Beside them is what the commonest answer, or guessing, scores; and for the graded world the
share of words whose kind is known, by rank of frequency.

    python -m experiments.pocket.skills [MODEL=WEIGHTS.safetensors ...]

Without arguments it takes the shipped weights of all sizes. A minute on 2 CPU cores.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from spjax.checkpoints import model_vocabulary
from spjax.checkpoints.weights import recipes, weights
from spjax.models import T5, get_size
from spjax.models.decoding import greedy
from spjax.pocket import corpus
from spjax.pocket.draws import Draws, may_pretrain
from spjax.pocket.graded import lexicon
from spjax.pocket.records import Probe
from spjax.pocket.tasks import GRADED, NOTES, RARE, TASKS
from spjax.types import Batch
from spjax.vocabularies.vocabulary import load_vocabulary

VERDICTS = frozenset("True False yes no correct wrong".split())
SEED, LENGTH, ANSWER, COUNT = 77, 96, 8, 600
RANKS = (0, 100, 300, 1000, 3000, 10_000, lexicon.COUNT)


class Skill(NamedTuple):
    """A row of the table: texts with their right answers, and what guessing scores in percent."""

    name: str
    probes: Sequence[Probe]
    guessing: float


def _documents(write: Callable) -> Iterator[list[str]]:
    draws, written = Draws(0, SEED, 0), 0
    while written < COUNT:
        draft = write(draws)
        if may_pretrain(draft.key):
            written += 1
            yield [piece for part in draft.parts for piece in part]


def _one(text: str, answer: str) -> Probe:
    return Probe((text,), frozenset({(answer,)}))


def _commonest(probes: Sequence[Probe]) -> float:
    counts = Counter(min(probe.right) for probe in probes)
    return 100 * counts.most_common(1)[0][1] / len(probes)


def pocket_skills() -> list[Skill]:
    """Skills of the pocket world: documents up to the last answer, by genre and kind of answer."""
    probes: dict[str, list[Probe]] = {}
    for write, _ in corpus.GENRES:
        genre = write.__module__.rpartition(".")[2]
        for pieces in _documents(write):
            text, answer = " ".join(pieces[:-1]), pieces[-1]
            kind = "verdict" if answer in VERDICTS else "answer"
            if len(answer.split()) <= 3:
                probes.setdefault(f"{genre}, {kind}", []).append(_one(text, answer))
    return [Skill(name, pairs, _commonest(pairs)) for name, pairs in probes.items()]


def graded_skills() -> list[Skill]:
    """Skills of the graded world: the probes of each task, and words by rank of frequency."""
    skills = []
    for name, task in TASKS.items():
        if name.startswith(GRADED) and not name.endswith((NOTES, RARE)):
            records, labels = task.records("test"), len(task.labels) or 2
            guessing = 100 / labels
            if task.schema == "record":
                guessing = 100 * float(np.mean([1 / len(r["entities"]) for r in records]))
            skills.append(Skill(name, task.probes("test"), guessing))
    for first, end in itertools.pairwise(RANKS):
        words = lexicon.WORDS[first:end][:: max((end - first) // COUNT, 1)]
        probes = [_one(f"{word} is a", lexicon.value(lexicon.KIND, word)) for word in words]
        name = f"kind of words of rank {first:,} to {end - 1:,}"
        skills.append(Skill(name, probes, 100 / len(lexicon.KIND.values)))
    return skills


def write_answers(model: str, path: str, texts: Sequence[str]) -> list[str]:
    """Writes the greedy answer of a frozen model to each text."""
    words, network = load_vocabulary(model_vocabulary.of(model, path)), T5(get_size(model))
    base = weights.load(model, path)
    finish = jax.jit(lambda batch: greedy(network, base, batch, None, ANSWER))
    answers = []
    for start in range(0, len(texts), 100):
        ids = np.zeros((100, LENGTH), np.int32)
        for row, text in enumerate(texts[start : start + 100]):
            tokens = [*words.encode(text)[: LENGTH - 1], words.eos_id]
            ids[row, : len(tokens)] = tokens
        one = np.ones((100, 1), np.int32)
        batch = Batch(ids, np.full_like(ids, -1), (ids > 0).astype(np.int32), one, one, one, one)
        answers += [words.decode(row.tolist()) for row in np.asarray(finish(batch))]
    return answers[: len(texts)]


def score(model: str, path: str, skills: Sequence[Skill]) -> list[float]:
    """Share of right answers in percent, for each skill."""
    probes = [probe for skill in skills for probe in skill.probes]
    answers = iter(write_answers(model, path, [text for probe in probes for text in probe.texts]))
    hits = iter([tuple(itertools.islice(answers, len(p.texts))) in p.right for p in probes])
    return [100 * float(np.mean(list(itertools.islice(hits, len(s.probes))))) for s in skills]


def print_table(skills: Sequence[Skill], models: Sequence[tuple[str, str]]) -> None:
    """Prints the table as markdown, with a column for each model.

    Args:
      skills: its rows.
      models: name of the size, and path of the weights; "" for those that ship.
    """
    names = [model for model, _ in models]
    heads = [
        model
        if names.count(model) == 1
        else f"{model}, seed {recipes.model_name_and_seed(model, path).seed}"
        for model, path in models
    ]
    print("| skill | n | guessing |", " | ".join(heads), "|")
    print("| --- " * (len(models) + 3) + "|")
    columns = [score(model, path, skills) for model, path in models]
    for skill, *scores in zip(skills, *columns):
        shown = " | ".join(f"{value:.0f}" for value in scores)
        print(f"| {skill.name} | {len(skill.probes)} | {skill.guessing:.0f} | {shown} |")


def main(arguments: list[str]) -> None:
    """Prints a table for each world that the models are of."""
    shipped = [f"{path.stem}=" for path in weights.SHIPPED.glob("*.safetensors")]
    pairs = [text.split("=", 1) for text in arguments or shipped]
    chosen = sorted(((m, p) for m, p in pairs), key=lambda pair: get_size(pair[0]).emb_dim)
    graded = [(model, path) for model, path in chosen if model.startswith(GRADED)]
    if pocket := [(model, path) for model, path in chosen if not model.startswith(GRADED)]:
        print_table(pocket_skills(), pocket)
    if graded:
        print_table(graded_skills(), graded)


if __name__ == "__main__":
    main(sys.argv[1:])
