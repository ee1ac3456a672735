"""Interpretation of prompts: norms, nearest words, clusters, label words, similarities.

`examine` returns all of it as plain JSON, which `prompt_page` formats. Embedding tables are read in
pieces, so that those of the largest models fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from spjax.checkpoints.prompts.prompt import Prompt

METRICS = ("cosine", "euclidean")
_CHUNK = 4096  # rows of the vocabulary at a time: 64 MiB as float32 at width 4096
_ROUNDING = 1e-6  # of a cosine in float32: a label must not come behind itself


class Pieces(Protocol):
    """Interface of a vocabulary; `spjax.vocabularies.vocabulary.Vocabulary` has it."""

    @property
    def size(self) -> int:
        """Returns the number of ids."""

    def piece(self, token: int) -> str:
        """Returns the spelling of the piece with this id."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without EOS."""


def nearest_words(
    rows_PD: np.ndarray, embedding_VD: np.ndarray, count: int, metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the vocabulary's nearest rows, by cosine (Lester et al. 2021, section 7) or distance.

    Args:
      rows_PD: the prompt.
      embedding_VD: the frozen model's embedding table, float32 or bfloat16.
      count: neighbors of each row; as many as there are words if it is more.
      metric: "cosine", or "euclidean" (the projection of Khashabi et al. 2022).

    Returns:
      Ids and cosines or distances `[P, count]`, nearest first; of equally near ones, the lower id.
      A row of zeros has cosine 0 to everything.

    Raises:
      ValueError: the two widths differ, or the metric is unknown.
    """
    _check(rows_PD, embedding_VD, metric)
    best = np.empty((rows_PD.shape[0], 0), np.float32)
    ids = np.empty(best.shape, np.int64)
    for start, near_PC in _nearness(rows_PD, embedding_VD, metric):
        chunk_ids = np.broadcast_to(np.arange(start, start + near_PC.shape[1]), near_PC.shape)
        best, ids = np.hstack([best, near_PC]), np.hstack([ids, chunk_ids])
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
    return ids, best if metric == "cosine" else -best


def ranks(rows_PD: np.ndarray, points_CD: np.ndarray, embedding_VD: np.ndarray) -> np.ndarray:
    """Ranks each point, from 1, among the words by cosine to each row.

    Args:
      rows_PD: the prompt.
      points_CD: for example the embeddings of label words.
      embedding_VD: the frozen model's embedding table.

    Returns:
      `[C, P]`: one more than the number of words that are nearer to the row.
    """
    own_CP = _unit(points_CD) @ _unit(rows_PD).T
    found_CP = np.ones(own_CP.shape, np.int64)
    for _, near_PV in _nearness(rows_PD, embedding_VD, "cosine"):
        found_CP += (near_PV[None] > own_CP[..., None] + _ROUNDING).sum(axis=2)
    return found_CP


def tightness(ids_PK: np.ndarray, embedding_VD: np.ndarray) -> np.ndarray:
    """Returns the mean cosine of all pairs of some words, for each row's cluster, `[P]`.

    Lester et al. 2021, section 7, see tight clusters around trained rows and none around random
    vectors.

    Args:
      ids_PK: neighbors of each row, at least two.
      embedding_VD: the frozen model's embedding table.
    """
    count = ids_PK.shape[1]
    words_PKD = np.stack([_unit(embedding_VD[ids]) for ids in ids_PK])
    pairs_P = np.square(words_PKD.sum(axis=1)).sum(axis=1) - count
    return pairs_P / (count * (count - 1))


def row_norms(rows_PD: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norm `[P]` of each row, in float64."""
    return np.sqrt(np.einsum("pd,pd->p", rows_PD, rows_PD, dtype=np.float64))


def rms(array: np.ndarray) -> float:
    """Returns the root mean square of all elements of a table, in pieces to save memory."""
    starts = range(0, array.shape[0], _CHUNK)
    total = sum(np.square(array[i : i + _CHUNK].astype(np.float64)).sum() for i in starts)
    return float(np.sqrt(total / array.size))


def row_cosines(rows_PD: np.ndarray) -> np.ndarray:
    """Returns the cosine of each pair of rows, `[P, P]`."""
    unit_PD = _unit(rows_PD)
    return unit_PD @ unit_PD.T


def similarities(prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    """Returns both similarities of prompts of Vu et al. 2022 (SPoT), section 4.2, `[S, S]`.

    Args:
      prompts: of any lengths, for one model.

    Returns:
      "average": the cosine of the mean rows. "per_token": the mean cosine of all pairs of a row of
      the one and a row of the other.

    Raises:
      ValueError: the prompts have different widths.
    """
    widths = sorted({prompt.soft_tokens_PD.shape[1] for prompt in prompts})
    if len(widths) > 1:
        raise ValueError(
            f"the prompts have rows of the widths {widths}; compare prompts of one model only."
        )
    means_SD = np.stack([prompt.soft_tokens_PD.mean(axis=0) for prompt in prompts])
    directions_SD = np.stack([_unit(prompt.soft_tokens_PD).mean(axis=0) for prompt in prompts])
    return {"average": row_cosines(means_SD), "per_token": directions_SD @ directions_SD.T}


def discretised(
    prompt: Prompt, embedding_VD: np.ndarray, vocabulary: Pieces, metric: str
) -> Prompt:
    """Replaces each row of a prompt by its nearest word, so by text that could be typed.

    Args:
      prompt: the prompt.
      embedding_VD: the frozen model's embedding table.
      vocabulary: spells the words, which the provenance keeps under "words".
      metric: one of `METRICS`.

    Raises:
      ValueError: as `nearest_words`.
    """
    ids = nearest_words(prompt.soft_tokens_PD, embedding_VD, 1, metric)[0][:, 0]
    known = {k: v for k, v in prompt.provenance.items() if not k.endswith("_score")}
    spelled = " ".join(_spell(token, vocabulary) for token in ids)
    facts = {**known, "discretised": metric, "words": spelled}
    return Prompt.from_array(
        embedding_VD[ids].astype(np.float32), facts, f"{prompt.origin}, discretized"
    )


def examine(
    prompt: Prompt,
    embedding_VD: np.ndarray | None = None,
    vocabulary: Pieces | None = None,
    neighbours: int = 5,
    metric: str = "cosine",
    labels: Sequence[str] = (),
    text: str = "",
) -> dict[str, Any]:
    """Describes a prompt, as plain JSON.

    Args:
      prompt: the prompt.
      embedding_VD: of the frozen model; None leaves the words out.
      vocabulary: the vocabulary; without one words are given as ids, and labels are left out.
      neighbours: words for each row.
      metric: one of `METRICS`.
      labels: words to look for among the neighbors; one of several pieces stands for the mean of
        their embeddings, as in class-label initialization.
      text: compared with the prompt: the number of rows whose nearest word is their token of it
        (Khashabi et al. 2022).

    Raises:
      ValueError: the prompt does not fit the embeddings, `neighbours` is below 1, a label has no
        tokens, or as `nearest_words`.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; it must be at least 1.")
    norms_P = row_norms(prompt.soft_tokens_PD)
    facts: dict[str, Any] = {
        "prompt": prompt.origin,
        "shape": list(prompt.soft_tokens_PD.shape),
        "provenance": dict(prompt.provenance),
        "row_norm": {name: float(getattr(norms_P, name)()) for name in ("min", "mean", "max")},
        "element_rms": rms(prompt.soft_tokens_PD),
        "row_cosine": _pairs(prompt.soft_tokens_PD),
    }
    if embedding_VD is None:
        return facts
    ids_PK, near_PK = nearest_words(prompt.soft_tokens_PD, embedding_VD, neighbours, metric)
    facts["embedding_rms"] = rms(embedding_VD)
    facts["metric"] = metric
    facts["rows"] = [
        {
            "norm": float(norm),
            "nearest": [[_spell(t, vocabulary), float(x)] for t, x in zip(ids, near)],
        }
        for norm, ids, near in zip(norms_P, ids_PK, near_PK)
    ]
    if ids_PK.shape[1] > 1:
        facts["cluster"] = _clusters(prompt.soft_tokens_PD, ids_PK, embedding_VD, metric)
    facts["shared"] = {_spell(t, vocabulary): rows for t, rows in _shared(ids_PK[:, 0]).items()}
    if labels and vocabulary is not None:
        facts["labels"] = _labels(
            prompt.soft_tokens_PD, labels, vocabulary, embedding_VD, neighbours
        )
    if text and vocabulary is not None:
        hits = [int(a == b) for a, b in zip(vocabulary.encode(text), ids_PK[:, 0])]
        facts["text"] = {"tokens": len(hits), "recovered": sum(hits)}
    return facts


def _clusters(
    rows_PD: np.ndarray, ids_PK: np.ndarray, embedding_VD: np.ndarray, metric: str
) -> dict[str, Any]:
    """Returns the tightness of each row's neighbors, and of as many random vectors."""
    random_PD = np.random.default_rng(0).normal(size=rows_PD.shape).astype(np.float32)
    random_PD *= rms(embedding_VD)  # distances depend on the size
    random_ids, _ = nearest_words(random_PD, embedding_VD, ids_PK.shape[1], metric)
    own_P = tightness(ids_PK, embedding_VD)
    return {
        "mean": float(own_P.mean()),
        "random_vectors": float(tightness(random_ids, embedding_VD).mean()),
        "rows": own_P.tolist(),
    }


def _shared(nearest_P: np.ndarray) -> dict[int, list[int]]:
    """Returns the words that are the nearest of several rows, with those rows."""
    rows: dict[int, list[int]] = {}
    for row, token in enumerate(nearest_P.tolist()):
        rows.setdefault(token, []).append(row)
    return {token: indices for token, indices in rows.items() if len(indices) > 1}


def _labels(
    rows_PD: np.ndarray,
    labels: Sequence[str],
    vocabulary: Pieces,
    embedding_VD: np.ndarray,
    neighbours: int,
) -> dict[str, Any]:
    """Returns for each label its best rank, the row of it, and the rows it is a neighbor of."""
    points = []
    for label in labels:
        if not (ids := vocabulary.encode(label)):
            raise ValueError(f"the label {label!r} has no tokens; give a list of words, A,B.")
        points.append(embedding_VD[ids].astype(np.float32).mean(axis=0))
    found_CP = ranks(rows_PD, np.stack(points), embedding_VD)
    return {
        label: {
            "rank": int(own_P.min()),
            "row": int(own_P.argmin()),
            "neighbour_of": np.flatnonzero(own_P <= neighbours).tolist(),
        }
        for label, own_P in zip(labels, found_CP)
    }


def _pairs(rows_PD: np.ndarray) -> dict[str, Any] | None:
    """Returns mean and largest cosine of two different rows; None for a single row."""
    if len(rows_PD) == 1:
        return None
    cosines_PP = row_cosines(rows_PD)
    first, second = np.triu_indices(len(rows_PD), 1)
    best = int(cosines_PP[first, second].argmax())
    return {
        "mean": float(cosines_PP[first, second].mean()),
        "max": float(cosines_PP[first, second].max()),
        "rows": [int(first[best]), int(second[best])],
    }


def _check(rows_PD: np.ndarray, embedding_VD: np.ndarray, metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; use one of {', '.join(METRICS)}.")
    if rows_PD.shape[1] != embedding_VD.shape[1]:
        raise ValueError(
            f"the prompt has width {rows_PD.shape[1]}, but the model's embeddings have "
            f"{embedding_VD.shape[1]}. Name the model that the prompt was trained with."
        )


def _nearness(
    rows_PD: np.ndarray, embedding_VD: np.ndarray, metric: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first id of each piece of the table, and cosines or negative distances."""
    directions_PD, wide_PD = _unit(rows_PD), rows_PD.astype(np.float64)
    for start in range(0, embedding_VD.shape[0], _CHUNK):
        chunk_CD = embedding_VD[start : start + _CHUNK]
        if metric == "cosine":
            yield start, directions_PD @ _unit(chunk_CD).T
            continue
        chunk_CD = chunk_CD.astype(np.float64)  # in float32 near words would differ by rounding
        squares_PC = np.square(wide_PD).sum(axis=1)[:, None] + np.square(chunk_CD).sum(axis=1)
        yield start, -np.sqrt(np.maximum(squares_PC - 2 * wide_PD @ chunk_CD.T, 0))


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
