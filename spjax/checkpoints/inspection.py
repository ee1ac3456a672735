"""What a prompt is made of: norms, nearest words, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from spjax.checkpoints.prompts import Prompt

_CHUNK = 4096  # rows of the vocabulary at a time: 64 MiB as float32 at width 4096


class Pieces(Protocol):
    """What is needed of a vocabulary: `spjax.data.vocabulary.Vocabulary` has it."""

    size: int

    def piece(self, token: int) -> str:
        """How the piece with this id is spelled."""


def nearest_words(
    rows_PD: np.ndarray, embedding_VD: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The vocabulary's nearest rows by cosine (Lester et al. 2021, section 7).

    Args:
      rows_PD: the prompt.
      embedding_VD: the frozen model's embedding table, float32 or bfloat16.
      count: neighbours of each row; as many as there are words if it is more.

    Returns:
      Ids and cosines `[P, count]`, best first; of equal cosines, the lower id. A row of zeros
      has cosine 0 to everything.

    Raises:
      ValueError: the two widths differ.
    """
    if rows_PD.shape[1] != embedding_VD.shape[1]:
        raise ValueError(
            f"the prompt has width {rows_PD.shape[1]}, but the model's embeddings have "
            f"{embedding_VD.shape[1]}. Name the model that the prompt was trained with."
        )
    directions_PD = _unit(rows_PD)
    best = np.empty((rows_PD.shape[0], 0), np.float32)
    ids = np.empty(best.shape, np.int64)
    for start in range(0, embedding_VD.shape[0], _CHUNK):
        chunk_PC = directions_PD @ _unit(embedding_VD[start : start + _CHUNK]).T
        chunk_ids = np.broadcast_to(np.arange(start, start + chunk_PC.shape[1]), chunk_PC.shape)
        best, ids = np.hstack([best, chunk_PC]), np.hstack([ids, chunk_ids])
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
    return ids, best


def row_norms(rows_PD: np.ndarray) -> np.ndarray:
    """Euclidean norm `[P]` of each row, in float64."""
    return np.sqrt(np.einsum("pd,pd->p", rows_PD, rows_PD, dtype=np.float64))


def rms(array: np.ndarray) -> float:
    """Root mean square of all elements of a table, in pieces so that large ones fit."""
    starts = range(0, array.shape[0], _CHUNK)
    total = sum(np.square(array[i : i + _CHUNK].astype(np.float64)).sum() for i in starts)
    return float(np.sqrt(total / array.size))


def describe(
    prompt: Prompt,
    embedding_VD: np.ndarray | None = None,
    vocabulary: Pieces | None = None,
    neighbours: int = 5,
) -> str:
    """A page of plain text: shape, norms, provenance, and each row's nearest words.

    Args:
      prompt: what to describe.
      embedding_VD: of the frozen model; None leaves the words out.
      vocabulary: spells the words; without one they are given as ids.
      neighbours: words for each row.

    Raises:
      ValueError: the prompt does not fit the embeddings, or `neighbours` is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; it must be at least 1.")
    norms = row_norms(prompt.rows_PD)
    size = f"{rms(prompt.rows_PD):.4g}"
    if embedding_VD is not None:
        size += f" (the model's embeddings: {rms(embedding_VD):.4g})"
    length, width = prompt.rows_PD.shape
    facts = [
        ("prompt", prompt.origin),
        ("shape", f"{length} rows x {width}"),
        ("row norm", f"min {norms.min():.4g}, mean {norms.mean():.4g}, max {norms.max():.4g}"),
        ("element RMS", size),
        *(prompt.provenance.items() or [("provenance", "not recorded")]),
    ]
    text = _aligned(facts)
    if embedding_VD is None:
        return text
    ids, cosines = nearest_words(prompt.rows_PD, embedding_VD, neighbours)
    rows = [("row", "norm", "nearest words by cosine")]
    for i in range(length):
        words = [f"{_spell(t, vocabulary)} {c:.2f}" for t, c in zip(ids[i], cosines[i])]
        rows.append((str(i), f"{norms[i]:.4g}", *words))
    return f"{text}\n\n{_aligned(rows)}"


def _unit(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float32)
    # Scaling by the largest element first keeps the squares of any finite row in range.
    largest = np.max(np.abs(wide), axis=1, keepdims=True)
    wide /= np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(norms > 0, norms, 1)


def _spell(token: int, vocabulary: Pieces | None) -> str:
    if vocabulary is None:
        return str(token)
    if token >= vocabulary.size:  # the table is padded beyond the vocabulary
        return f"<unused {token}>"
    piece = vocabulary.piece(int(token))
    return piece if piece.isprintable() else ascii(piece)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell but for a line's last."""
    columns = max(map(len, rows))
    widths = [
        max((len(row[i]) for row in rows if i < len(row) - 1), default=0) for i in range(columns)
    ]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths)), row[-1]]) for row in rows
    )
