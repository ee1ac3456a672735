"""Descriptions of tasks, in words, for `spjax tasks`."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from spjax import text_tables
from spjax.data import leaks
from spjax.data.batching import batching
from spjax.data.tasks import file_task, registry
from spjax.data.tasks.info import Mixture, TaskInfo
from spjax.data.token_cache import cache, coverage
from spjax.data.token_cache.cache_files import Ragged
from spjax.vocabularies.vocabulary import Vocabulary

_EXAMPLES = 3
_BARS, _BINS = 40, 10  # characters, rows
_TEXT = 600  # characters of a text that are shown
_ENDS = 24  # pieces shown at the start of a long text, and half as many at its end
_COMMONEST = 6  # targets


@dataclasses.dataclass(frozen=True)
class View:
    """Vocabulary, lengths and prompt of the model that is to read a task.

    Attributes:
      vocabulary: its vocabulary.
      prompt_length: number of soft tokens.
      insertion: their place, one of `batching.INSERTIONS`.
      input_length: the most input tokens; 0 for the task's.
      target_length: likewise.
    """

    vocabulary: Vocabulary
    prompt_length: int = 100
    insertion: str = "front"
    input_length: int = 0
    target_length: int = 0

    def lengths(self, info: TaskInfo) -> dict[str, int]:
        """Returns the most tokens of `inputs` and `targets`, EOS included."""
        lengths = info.lengths
        return {
            "inputs": self.input_length or lengths["inputs"],
            "targets": self.target_length or lengths["targets"],
        }


def listing(wanted: str = "") -> str:
    """Returns a table of the tasks and mixtures whose name or source contains a text.

    Raises:
      ValueError: there are none.
    """
    infos = [registry.get(name) for name in registry.names()]
    infos = [info for info in infos if wanted in info.name or wanted in info.source]
    mixtures = [name for name in registry.mixture_names() if wanted in name]
    if not infos and not mixtures:
        registry.get(wanted)  # whose message has a guess
    head = ("task", "answer", "/".join(file_task.SPLITS))
    rows = [(info.name, _answer(info, 26), _sizes(info)) for info in infos]
    tables = [text_tables.render([head, *rows])] if rows else []
    if mixtures:
        loaded = [registry.mixture(name) for name in mixtures]
        tables.append(
            text_tables.render([("mixture", "trained on", "also scored on"), *map(_mixed, loaded)])
        )
    return "\n\n".join(tables)


def facts(info: TaskInfo) -> str:
    """Describes a task, without its examples."""
    lengths = f"{info.input_length} input tokens, {info.target_length} target tokens"
    if info.t5_lengths:
        lengths += f" (T5: {info.t5_lengths[0]}, {info.t5_lengths[1]})"
    selection = f", compared by {info.selection}" if info.selection else ""
    rows = [
        ("source", _source(info)),
        ("answer", _answer(info)),
        ("metrics", ", ".join(info.metrics) + selection),
        ("most", lengths),
        ("vocabulary", f"{info.vocabulary} unless the model has its own"),
    ]
    if set(info.class_labels) - set(info.labels):
        rows.insert(2, ("class labels", ", ".join(info.class_labels)))
    return f"{info.name}\n" + text_tables.render([(f"  {name}", text) for name, text in rows])


def mixture_facts(mixture: Mixture) -> str:
    """Describes a mixture: its training tasks, their rates, and the tasks it is scored on."""
    total = sum(mixture.rates)
    shares = [_percent(rate, total) for rate in mixture.rates]
    rows = [("  trained on", "rate", "share")]
    rates = zip(mixture.trained, mixture.rates, shares)
    rows += [(f"  {info.name}", f"{rate:,}", share) for info, rate, share in rates]
    lines = [mixture.name, text_tables.render(rows), "  chosen by the mean score on"]
    lines += [f"  {info.name}" for info in mixture.scored]
    if mixture.transfer:
        lines += ["  and also scored on", *(f"  {info.name}" for info in mixture.transfer)]
    return "\n".join(lines)


def examples(info: TaskInfo) -> dict[str, list[tuple[str, str]]]:
    """Returns input and target texts of all splits, whole, as training and evaluation read them.

    Raises:
      ValueError: the records cannot be found or used.
    """
    if info.source.startswith(file_task.SOURCE) and not info.few_shot:  # spares TensorFlow
        records = {split: file_task.records(info.source, split) for split in info.splits}
        return {s: [(r["inputs"], r["targets"]) for r in rows] for s, rows in records.items()}
    cache.ensure([info])
    loaded = {split: cache.load(info, split).examples for split in info.splits}
    return {
        split: [(row["inputs_text"], row["targets_text"]) for row in rows]
        for split, rows in loaded.items()
    }


def describe(info: TaskInfo, splits: Mapping[str, Sequence[tuple[str, str]]], view: View) -> str:
    """Describes sizes, labels, lengths, losses (`coverage`) and three examples of a task.

    Args:
      info: the task.
      splits: what `examples` gives.
      view: of the model.
    """
    tokens = {
        split: [tuple(map(len, _ids(info, pair, view.vocabulary))) for pair in pairs]
        for split, pairs in splits.items()
    }
    head = ("  split", "examples", "in the table", "targets")
    told = [text_tables.render([head, *_split_rows(info, splits)])]
    lines = [coverage.line(info, *losses) for losses in _losses(info, splits, view)]
    told += ["\n".join(f"  {line}" for line in lines if line)] if any(lines) else []
    for index, feature in enumerate(("inputs", "targets")):
        lengths = {split: np.array([row[index] for row in rows]) for split, rows in tokens.items()}
        told.append("\n".join(_lengths(feature, lengths, view.lengths(info)[feature])))
    first = next((split for split in splits if splits[split]), "")
    for number, pair in enumerate(splits[first][:_EXAMPLES] if first else ()):
        told.append("\n".join(_shown(f"example {number + 1} of {first}", info, pair, view)))
    return "\n\n".join(told)


def check(info: TaskInfo, splits: Mapping[str, Sequence[tuple[str, str]]], view: View) -> None:
    """Raises the errors that a run on the task would raise about labels and token ids.

    Arguments are those of `describe`.

    Raises:
      ValueError: as `coverage.check_labels` and `coverage.check`.
    """
    most = view.lengths(info)["targets"]
    coverage.check_labels(info.labels, view.vocabulary, most, info.sentinel)
    for split, counts, lengths in _losses(info, splits, view):
        coverage.check(info, split, counts, lengths)


def _losses(
    info: TaskInfo, splits: Mapping[str, Sequence[tuple[str, str]]], view: View
) -> Iterator[tuple[str, coverage.Counts, Mapping[str, int]]]:
    """Yields for each split its name, its losses (`coverage`), and the lengths."""
    lengths = view.lengths(info)
    for split, pairs in splits.items():
        counter = coverage.Counter(info, split, view.vocabulary, lengths)
        for pair in pairs:
            fields = {"inputs_text": pair[0], "targets_text": pair[1]}
            inputs, targets = _cut_ids(info, pair, view)
            counter.add(inputs, targets, fields)
        yield split, counter.counts, lengths


def leak_report(splits: Mapping[str, Sequence[tuple[str, str]]], near: float = leaks.NEAR) -> str:
    """Describes in words the inputs that the splits of a task share.

    Raises:
      ValueError: as `leaks.check`.
    """
    report = leaks.check(splits, near)
    head = ("  examples of", "found in", "same input", "and same target", "nearly the same input")
    rows, alike = [], []
    for o in report.overlaps:
        again = "itself, again" if o.split == o.other else o.other
        counts = [f"{n:,} ({_percent(n, o.examples)})" for n in (o.same, o.same_target, o.near)]
        rows.append((f"  {o.split}", again, *counts))
        for pair in o.alike:
            alike.append(f"{o.split} and {again}, alike by {pair.likeness:.0%}:")
            both = dict.fromkeys((pair.first, pair.second))
            alike += [f"  {_short(text)}" for text in both]
    note = f"Nearly the same: at least {near:.0%} of the groups of {leaks.GROUP} words in common."
    if not report.complete:
        note += (
            "\nSome groups of words are in so many inputs that not all of these were compared: "
            "there may be more that are nearly the same."
        )
    return "\n".join(
        [text_tables.render([head, *rows]), "", note, *(["", *alike] if alike else [])]
    )


def _answer(info: TaskInfo, most: int = 0) -> str:
    if not info.labels:
        return "text"
    labels = ", ".join(info.labels)
    return f"{len(info.labels)} labels" if 0 < most < len(labels) else labels


def _source(info: TaskInfo) -> str:
    if not info.source.startswith(file_task.SOURCE):
        return info.source
    return " ".join(file_task.paths(info.source)) + f" (SHA-256 {info.version[:12]}...)"


def _expected(info: TaskInfo) -> dict[str, int]:
    """Returns the sizes of the splits that are known without reading them."""
    kind, _, name = info.source.partition(":")
    if kind == "pocket":
        from spjax.pocket import tasks  # here, because making the world's tables takes time

        return dict(tasks.TASKS[name].sizes)
    return {} if kind == "files" else dict(zip(info.splits, info.sizes))


def _sizes(info: TaskInfo) -> str:
    known = _expected(info)
    absent = {split: "?" if split in info.splits else "-" for split in file_task.SPLITS}
    return "/".join(f"{known[s]:,}" if s in known else absent[s] for s in file_task.SPLITS)


def _mixed(mixture: Mixture) -> tuple[str, ...]:
    trained = [info.name for info in mixture.trained]
    others = [info.name for info in mixture.transfer]
    counted = f"{len(others)} task{'s' * (len(others) > 1)}" if others else "-"
    return (mixture.name, _some(trained), counted)


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} tasks: {names[0]}, ..."


def _split_rows(
    info: TaskInfo, splits: Mapping[str, Sequence[tuple[str, str]]]
) -> Iterator[tuple[str, ...]]:
    table = _expected(info)
    for split, pairs in splits.items():
        expected = "-"
        if split in table:
            expected = f"{table[split]:,}"
        if split in info.unlabelled:
            targets = "not known"
        else:
            counts = collections.Counter(target for _, target in pairs)
            commonest = counts.most_common(_COMMONEST)
            parts = [f"{_short(t, 30)} {_percent(n, len(pairs))}" for t, n in commonest]
            more = len(counts) - len(commonest)
            targets = ", ".join(parts) + (f", {more:,} others" if more else "")
            if commonest and commonest[0][1] == 1:
                targets = f"{len(counts):,} different ones"
        yield (f"  {split}", f"{len(pairs):,}", expected, targets)


def _lengths(feature: str, lengths: Mapping[str, np.ndarray], most: int) -> list[str]:
    every = np.concatenate([np.zeros(0, np.int64), *lengths.values()])
    if not len(every):
        return [f"  {feature}: none"]
    shares = {split: _percent(int((n > most).sum()), len(n)) for split, n in lengths.items()}
    cut = [f"{split} {share}" for split, share in shares.items()]
    lines = [
        (
            f"  tokens of {feature}, EOS included: {every.min()} to {every.max()}, half of them "
            f"up to {int(np.median(every))}"
        ),
        f"  longer than {most} and cut: {', '.join(cut)}",
    ]
    low, high = int(every.min()), int(every.max())
    width = -(-(high - low + 1) // _BINS)
    counts = np.bincount((every - low) // width)
    for number, count in enumerate(counts):
        start = low + number * width
        span = f"{start}-{start + width - 1}" if width > 1 else f"{start}"
        bar = "#" * int(np.ceil(_BARS * count / counts.max()))
        lines.append(f"  {span:>11} {count:>9,} {bar}".rstrip())
    return lines


def _ids(
    info: TaskInfo, pair: tuple[str, str], vocabulary: Vocabulary
) -> tuple[list[int], list[int]]:
    """Returns token ids of input and target, uncut."""
    inputs, targets = vocabulary.encode(pair[0]), vocabulary.encode_target(pair[1], info.sentinel)
    return [*inputs, vocabulary.eos_id], [*targets, vocabulary.eos_id]


def _cut_ids(info: TaskInfo, pair: tuple[str, str], view: View) -> list[list[int]]:
    """Returns token ids of input and target as runs read them."""
    lengths = view.lengths(info)
    return [
        ids if len(ids) <= most else [*ids[: most - 1], view.vocabulary.eos_id]
        for ids, most in zip(
            _ids(info, pair, view.vocabulary), (lengths["inputs"], lengths["targets"])
        )
    ]


def _shown(title: str, info: TaskInfo, pair: tuple[str, str], view: View) -> Iterator[str]:
    """Describes an example by the row that batching makes of it."""
    vocabulary, lengths, cut = view.vocabulary, view.lengths(info), _cut_ids(info, pair, view)
    inputs, targets = (Ragged(np.array(ids, np.int32), np.array([0, len(ids)])) for ids in cut)
    split = cache.CachedSplit(info.name, "", Path(), lengths, inputs, targets)
    layout = batching.make_layout(
        [split], prompt_length=view.prompt_length, insertion=view.insertion
    )
    row = {name: array[0] for name, array in batching.rows(split, np.array([0]), layout).items()}
    used = int(row["input_segments_BL"].sum())
    stream = zip(row["inputs_BL"][:used], row["slots_BL"][:used])
    pieces = [vocabulary.piece(int(token)) if slot < 0 else int(slot) for token, slot in stream]
    yield title
    yield f"  input    {_short(pair[0], _TEXT)}"
    yield f"  encoder  {_pieces(pieces)}"
    yield f"           {view.prompt_length} rows of the prompt and {len(cut[0])} tokens"
    yield f"  target   {_short(pair[1], _TEXT)}"
    yield f"  decoder  {_pieces([vocabulary.piece(int(t)) for t in cut[1]])}"


def _pieces(pieces: Sequence[str | int]) -> str:
    """Joins pieces with spaces; runs of soft tokens are shortened: [0 ... 99]."""
    runs: list[list[str | int]] = []
    for piece in pieces:
        if runs and isinstance(piece, int) == isinstance(runs[-1][0], int):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    shortened: list[str | int] = []
    for run in runs:
        if isinstance(run[0], int):
            shortened.append(f"[{run[0]} ... {run[-1]}]" if len(run) > 1 else f"[{run[0]}]")
        elif len(run) > 2 * _ENDS:
            left_out = len(run) - _ENDS - _ENDS // 2
            shortened += [*run[:_ENDS], f"({left_out} more)", *run[-_ENDS // 2 :]]
        else:
            shortened += run
    return " ".join(map(str, shortened))


def _short(text: str, most: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]} ... ({len(text)} characters)"


def _percent(count: float, total: float) -> str:
    return f"{100 * count / total:.1f} %" if total else "-"
