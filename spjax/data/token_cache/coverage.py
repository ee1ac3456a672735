"""Losses between texts and token ids: pieces that a vocabulary lacks, and truncation.

Labels are checked before anything is tokenized, and the examples of a split are counted while it is
(the counts are kept in the token cache), so that every reader of a tokenized task is warned.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spjax import metrics
from spjax.data.tasks.info import TaskInfo
from spjax.vocabularies.vocabulary import Vocabulary, without_sentinel

Counts = Mapping[str, int]

LENGTHS = "TASK_FEATURE_LENGTHS (of a file, FileTask.input_length and FileTask.target_length)"
_OTHER_WORDS = "Choose other words, or a model whose vocabulary has them"
# Metrics that give credit for a part of the target.
_PARTIAL = frozenset({"rouge", "bleu", "words_in_place"})
# Post-processors of free text for which a prediction is as good as the target or not.
_EXACT = frozenset({"qa", "record", "string_to_float", "text"})


@functools.lru_cache(maxsize=256)
def check_labels(
    labels: tuple[str, ...], vocabulary: Vocabulary, most: int = 0, sentinel: bool = False
) -> None:
    """Checks that labels are different as token ids and can be decoded again.

    Args:
      labels: the words.
      vocabulary: the vocabulary.
      most: tokens of a target, EOS included; 0 for no limit.
      sentinel: whether a sentinel stands in front.

    Raises:
      ValueError: labels have no known pieces, are equal as ids, before or after they are cut, or do
        not come back from their ids.
    """
    whole = {label: tuple(vocabulary.encode_target(label, sentinel)) for label in labels}
    pieces = {label: " ".join(map(vocabulary.piece, ids)) for label, ids in whole.items()}
    room = most - 1 if most else max(map(len, whole.values()), default=0)  # beside EOS
    if pair := _equal(whole):
        raise ValueError(
            f"the labels {pair[0]!r} and {pair[1]!r} are the same tokens in the vocabulary "
            f"{vocabulary.path} ({pieces[pair[0]]}), so that no model can tell them apart. "
            f"{_OTHER_WORDS}."
        )
    if pair := _equal({label: ids[:room] for label, ids in whole.items()}):
        raise ValueError(
            f"the labels {pair[0]!r} and {pair[1]!r} are the same when they are cut to {most} "
            f"tokens, EOS included. {_more_room(whole)}"
        )
    for label, ids in whole.items():
        if vocabulary.unk_id in ids:
            raise ValueError(
                f"the label {label!r} is {pieces[label]} in the vocabulary {vocabulary.path}, so "
                f"that no answer can be right. {_OTHER_WORDS}."
            )
        if len(ids) > room:
            raise ValueError(
                f"the label {label!r} has {len(ids) + 1} tokens, EOS included, and a target has "
                f"room for {most}, so that no answer can be right. {_more_room(whole)}"
            )
        read = vocabulary.decode(ids)
        if (read := without_sentinel(read) if sentinel else read) != label:
            raise ValueError(
                f"the label {label!r} reads {read!r} once it has been tokens of the vocabulary "
                f"{vocabulary.path}, so that no answer can be right. Write it as it reads."
            )


def _equal(encoded: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """Returns the first two labels that are equal as ids."""
    seen: dict[tuple[int, ...], str] = {}
    for label, ids in encoded.items():
        if (other := seen.setdefault(ids, label)) != label:
            return other, label
    return None


def _more_room(encoded: Mapping[str, tuple[int, ...]]) -> str:
    return f"Allow at least {max(map(len, encoded.values())) + 1} target tokens with {LENGTHS}."


class Counter:
    """Counts what the examples of a split lose.

    Attributes:
      counts: `examples`; of inputs those `cut`, with an unknown piece (`unknown`) and those that
        have the ids of another text (`alike`); of targets, where they are known, those `cut`,
        `unknown`, and `lost`: no prediction of their ids scores as right.
    """

    def __init__(
        self, info: TaskInfo, split: str, vocabulary: Vocabulary, lengths: Mapping[str, int]
    ) -> None:
        names = (
            "inputs_cut",
            "inputs_unknown",
            "inputs_alike",
            "targets_cut",
            "targets_unknown",
            "targets_lost",
        )
        self.counts: dict[str, int] = dict.fromkeys(("examples", *names), 0)
        self._info, self._words, self._lengths = info, vocabulary, lengths
        self._has_targets = split in info.labelled
        self._exact = is_exact(info)
        self._texts: dict[bytes, bytes] = {}

    def watch(
        self, examples: Iterable[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, Mapping[str, Any]]]:
        """Yields tokenized examples unchanged, and counts their losses."""
        for inputs, targets, fields in examples:
            self.add(inputs, targets, fields)
            yield inputs, targets, fields

    def add(self, inputs: Any, targets: Any, fields: Mapping[str, Any]) -> None:
        """Counts an example.

        Args:
          inputs: ids, cut, EOS last.
          targets: likewise.
          fields: `inputs_text`, `targets_text`, and what the metrics of the task read.
        """
        counts, unknown, text = self.counts, self._words.unk_id, fields["inputs_text"]
        counts["examples"] += 1
        counts["inputs_cut"] += self._is_cut("inputs", inputs, text)
        counts["inputs_unknown"] += int(unknown in inputs)
        ids = np.asarray(inputs, np.int32).tobytes()
        same = _digest(" ".join(text.split()).encode("utf-8", "surrogatepass"))
        counts["inputs_alike"] += self._texts.setdefault(_digest(ids), same) != same
        if self._has_targets:
            text = fields["targets_text"]
            counts["targets_cut"] += self._is_cut("targets", targets, text)
            counts["targets_unknown"] += int(unknown in targets)
            read = without_sentinel(self._words.decode(targets))
            if self._exact and read != text and not _is_right(self._info, read, fields):
                counts["targets_lost"] += 1

    def _is_cut(self, feature: str, ids: Sequence[int], text: str) -> bool:
        most = self._lengths[feature]
        if len(ids) < most:
            return False
        sentinel = feature == "targets" and self._info.sentinel
        return len(self._words.encode_target(text, sentinel)) + 1 > most


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def is_exact(info: TaskInfo) -> bool:
    """Returns whether a free-text task gives no full credit for a part of the target."""
    return not info.labels and info.postprocess in _EXACT and not _PARTIAL & {*info.metrics}


def _is_right(info: TaskInfo, prediction: str, fields: Mapping[str, Any]) -> bool:
    kind = info.postprocess if info.postprocess in ("string_to_float", "text") else "qa"
    target, predicted = metrics.POSTPROCESSORS[kind](prediction, fields, ())
    if kind == "qa":
        return metrics.METRICS["squad"]([target], [predicted])["em"] > 0
    return target == predicted


def check(info: TaskInfo, split: str, counts: Counts, lengths: Mapping[str, int]) -> None:
    """Refuses a split in which no prediction can be right, or all inputs are the same.

    Args:
      info: the task.
      split: its name.
      counts: those of a `Counter`.
      lengths: the most tokens of `inputs` and `targets`.

    Raises:
      ValueError: it is such a split.
    """
    examples, name = counts.get("examples", 0), f"{info.name}/{split}"
    if examples and counts["targets_lost"] == examples:
        raise ValueError(
            f"none of the {examples:,} targets of {name} can ever be answered rightly: "
            f"{counts['targets_cut']:,} are longer than {lengths['targets']} tokens and cut, "
            f"{counts['targets_unknown']:,} hold pieces that the vocabulary lacks. Allow longer "
            f"targets with {LENGTHS}, choose metrics that count parts (rouge, bleu), or a model "
            "whose vocabulary has the script."
        )
    if examples > 1 and counts["inputs_alike"] == examples - 1:
        raise ValueError(
            f"all {examples:,} inputs of {name} are the same tokens, though not the same texts: "
            f"{counts['inputs_cut']:,} are longer than {lengths['inputs']} tokens and cut, "
            f"{counts['inputs_unknown']:,} hold pieces that the vocabulary lacks. Allow longer "
            f"inputs with {LENGTHS}, or choose a model whose vocabulary has the script."
        )


def line(info: TaskInfo, split: str, counts: Counts, lengths: Mapping[str, int]) -> str:
    """Describes the losses of a split in one line; "" if there are none.

    Arguments are those of `check`.
    """
    losses = []
    for feature in ("inputs", "targets"):
        one = feature[:-1]
        for kind, text in (
            ("cut", f"longer than {lengths[feature]} tokens and cut"),
            ("unknown", "with pieces that the vocabulary lacks (<unk>)"),
            ("alike", "the same tokens as another text"),
            ("lost", "that no answer can match"),
        ):
            if count := counts.get(f"{feature}_{kind}", 0):
                every = "ALL " if count == counts["examples"] else ""
                losses.append(f"{every}{count:,} {one if count == 1 else feature} {text}")
    if not losses:
        return ""
    return f"{info.name}/{split}, of {counts['examples']:,} examples: {'; '.join(losses)}."
