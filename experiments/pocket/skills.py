"""Skills of each rung of the pocket ladder before any tuning: skill x size.

Prompt tuning elicits what a frozen model can do; it does not teach. Here the frozen models finish
documents of pre-training form that they have not seen, from the last answer on, greedily; an answer
counts if all of its words are right. Beside it: the share of the commonest answer.

    python -m experiments.pocket.skills [MODEL=WEIGHTS.safetensors ...]

Without arguments it takes the shipped weights of all sizes. A minute on 2 CPU cores.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator

import jax
import numpy as np

from spjax.checkpoints.weights import weights
from spjax.models import T5, get_size
from spjax.models.decoding import greedy
from spjax.pocket import corpus
from spjax.pocket.draws import Draws, may_pretrain
from spjax.types import Batch
from spjax.vocabularies import vocabulary

VERDICTS = frozenset("True False yes no correct wrong".split())
SEED, LENGTH, ANSWER, COUNT = 77, 96, 8, 600


def questions() -> dict[str, list[tuple[str, str]]]:
    """For each skill, texts up to the last answer, and that answer."""
    result: dict[str, list[tuple[str, str]]] = {}
    for write, _ in corpus.GENRES:
        genre = write.__module__.rpartition(".")[2]
        for pieces in _documents(write):
            text, answer = " ".join(pieces[:-1]), pieces[-1]
            kind = "verdict" if answer in VERDICTS else "answer"
            if len(answer.split()) <= 3:
                result.setdefault(f"{genre}, {kind}", []).append((text, answer))
    return result


def _documents(write: Callable) -> Iterator[list[str]]:
    draws, written = Draws(0, SEED, 0), 0
    while written < COUNT:
        draft = write(draws)
        if may_pretrain(draft.key):
            written += 1
            yield [piece for part in draft.parts for piece in part]


def accuracy(model: str, path: str, pairs: list[tuple[str, str]]) -> float:
    """Share of right answers in percent."""
    words, network = vocabulary.load_vocabulary("pocket"), T5(get_size(model))
    base = weights.load(model, path)
    finish = jax.jit(lambda batch: greedy(network, base, batch, None, ANSWER))
    right = []
    for start in range(0, len(pairs), 100):
        part = pairs[start : start + 100]
        ids = np.zeros((100, LENGTH), np.int32)
        for row, (text, _) in enumerate(part):
            tokens = [*words.encode(text)[: LENGTH - 1], words.eos_id]
            ids[row, : len(tokens)] = tokens
        one = np.ones((100, 1), np.int32)
        batch = Batch(ids, np.full_like(ids, -1), (ids > 0).astype(np.int32), one, one, one, one)
        written = np.asarray(finish(batch))
        right += [words.decode(w.tolist()) == a for w, (_, a) in zip(written, part)]
    return 100 * float(np.mean(right))


def main(arguments: list[str]) -> None:
    """Prints the table as markdown."""
    shipped = [f"{path.stem}=" for path in weights.SHIPPED.glob("*.safetensors")]
    chosen = dict(text.split("=", 1) for text in arguments or shipped)
    models = sorted(chosen, key=lambda name: get_size(name).emb_dim)
    print("| skill | n | commonest answer |", " | ".join(models), "|")
    print("| --- " * (len(models) + 3) + "|")
    for skill, pairs in questions().items():
        commonest = Counter(answer for _, answer in pairs).most_common(1)[0][1] / len(pairs)
        scores = [f"{accuracy(m, chosen[m], pairs):.0f}" for m in models]
        print(f"| {skill} | {len(pairs)} | {100 * commonest:.0f} |", " | ".join(scores), "|")


if __name__ == "__main__":
    main(sys.argv[1:])
