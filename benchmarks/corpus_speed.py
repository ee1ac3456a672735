"""Speed at which the pocket world writes text: `python -m benchmarks.corpus_speed`.

Prints tokens per minute on one core, SentencePiece included, and the length of documents.
"""

from __future__ import annotations

import time

import numpy as np

from spjax.pocket import corpus
from spjax.vocabularies import vocabulary


def main(count: int = 40_000) -> None:
    """Writes `count` documents and prints the figures."""
    pieces = vocabulary.load_vocabulary("pocket")
    corpus.tokenized(1, 1000, pieces)  # makes the world's tables
    start = time.process_time()
    documents = corpus.tokenized(0, count, pieces)
    seconds = time.process_time() - start
    lengths = np.diff(documents.offsets)
    print(f"{len(documents.tokens) / seconds * 60 / 1e6:.1f} million tokens a minute (CPU time)")
    print(f"document length: mean {lengths.mean():.1f}, longest {lengths.max()} tokens")
    print(f"pieces in use: {len(np.unique(documents.tokens))}")


if __name__ == "__main__":
    main()
