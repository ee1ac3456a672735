"""A task made of a user's own files: JSON lines, CSV or Parquet, or a dataset of Hugging Face.

Each row is an example. By default its columns are `input` and `target`; a template may put any
columns into a text, and the target may be one of a few labels, by word or by number.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import extras, validation
from spjax.data.tasks import file_rows, hub_datasets, row_texts
from spjax.data.tasks.formats import Format
from spjax.data.tasks.info import TaskInfo, not_drawn
from spjax.data.tasks.row_texts import BadRow, Template

SOURCE = "files:"  # how `TaskInfo.source` begins for these tasks
SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1  # share of the rows for validation, and for test, where these have no file
_POSTPROCESSORS = {  # what each metric compares
    "accuracy": "label",
    "f1_with_invalid": "label",
    "matthews_corrcoef": "label",
    "mean_3class_f1": "label",
    "squad": "qa",
    "rouge": "text",
    "bleu": "text",
    "pearson_corrcoef": "string_to_float",
    "spearman_corrcoef": "string_to_float",
}
_CORRELATIONS = ("pearson_corrcoef", "spearman_corrcoef")  # their targets are numbers
_METRIC_PACKAGES = {"rouge": "rouge_score", "bleu": "sacrebleu"}  # of the extra "tfds"
_CLASSES = {"f1_with_invalid": 2, "mean_3class_f1": 3}  # labels that a metric is for
_REPORTED = 10  # bad rows that are named
_PATH = re.compile(rf"(?i:(.+(?:{'|'.join(map(re.escape, file_rows.ENDINGS))})))((?::\w+)*)")


@dataclasses.dataclass(frozen=True)
class FileTask:
    """A task made of files; gin binds it as `Run.task = @FileTask()`.

    Attributes:
      path: file of the training examples, ending in .jsonl (or .json, .ndjson), .csv, .tsv or
        .parquet; variants may follow it, as in "data.jsonl:n100:seed1". "" for a task that has no
        training examples and can only be scored, on the files below; variants then follow `test`.
        A dataset of Hugging Face (`hub_datasets`) is "hf://datasets/ORGANIZATION/NAME:CONFIG", or
        a folder that `datasets` has saved or that holds data files. Then `validation` and `test`
        are by default its own splits, as far as it has them with labels, unless "#SPLIT" follows.
        Its revision is replaced by the commit.
      validation: file of the validation examples; "" to hold out 10 % of `path`, chosen by a hash
        of the input, so that equal inputs fall into the same split and stay there.
      test: likewise. Without `path` all rows of a file are its split.
      template: the input text; "{column}" stands for a column.
      target: likewise the target text.
      labels: if the target is one of some words, these in the order of their numbers. Then
        `target` is one column that holds the word or the number, from 0. For a column of classes
        of a dataset of Hugging Face they are the names of the classes, or a word for each.
      metrics: names in `spjax.metrics.METRICS`. With labels "accuracy" (the default),
        "f1_with_invalid" (of two), "matthews_corrcoef", "mean_3class_f1" (of three); without
        "squad" (exact match and word F1, the default), or "rouge" and "bleu", or
        "pearson_corrcoef" and "spearman_corrcoef" for numbers.
      input_length: the most input tokens, EOS included; longer texts are cut.
      target_length: likewise for targets.
      name: of the task in tables; that of the file by default.
      sha256: of the files' content. Filled in where it is "", and so written to a run's
        `config.gin`: a file that has changed since is refused.
    """

    path: str = ""
    validation: str = ""
    test: str = ""
    template: str = "{input}"
    target: str = "{target}"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    input_length: int = 512
    target_length: int = 64
    name: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        """Reads the files, so that a bad row raises before anything is trained.

        Raises:
          ValueError: a setting is not allowed, a file cannot be read, has bad rows, too few of
            them, or has changed.
        """
        validation.texts(self)
        for field in ("labels", "metrics"):
            value = getattr(self, field)
            texts = (value,) if isinstance(value, str) else tuple(value)
            object.__setattr__(self, field, texts)  # hashable, whatever gin gives
        for field in ("path", "validation", "test"):
            if hub_datasets.is_source(path := getattr(self, field)):
                object.__setattr__(self, field, hub_datasets.pin(path))
        if not self.labels:
            object.__setattr__(self, "labels", hub_datasets.classes(self._sources, self.target))
        _check(self)
        digest = _content(self).sha256
        if self.sha256 and self.sha256 != digest:
            raise ValueError(
                f"{' or '.join(dict.fromkeys(self._sources.values()))} has changed: its SHA-256 "
                f"is {digest} and was {self.sha256}. Give the old content, or use the new one in "
                "a new run."
            )
        object.__setattr__(self, "sha256", digest)

    def __str__(self) -> str:
        """Returns the task's name, variants included."""
        first = next(iter(self._sources.values()), "")
        stem = hub_datasets.stem(first) if hub_datasets.is_source(first) else Path(first).stem
        # It names the folder of a cache, where ".." would be the one above.
        stem = re.sub(r"[^\w.-]+|^\.+$", "_", stem)
        return (self.name or stem) + split_path(self.path or self.test)[1]

    @property
    def variants(self) -> list[str]:
        """Returns the part of the path after colons."""
        return split_path(self.path or self.test)[1].split(":")[1:]

    @property
    def _sources(self) -> dict[str, str]:
        """Returns files and datasets by split, without what is held out of the training file."""
        test = self.test if self.path else split_path(self.test)[0]
        paths = (split_path(self.path)[0], self.validation, test)
        sources = {split: os.path.expanduser(path) for split, path in zip(SPLITS, paths) if path}
        if (path := sources.get("train", "")) and hub_datasets.is_source(path):
            usable = hub_datasets.usable_splits(path, self.target)
            sources |= {split: path for split in SPLITS if split in usable and split not in sources}
        return {split: sources[split] for split in SPLITS if split in sources}


def is_path(name: str) -> bool:
    """Returns whether a task's name is a path, or a source that `info` returns.

    A folder needs a separator in it, as in "./data", so that no folder stands for a named task.
    """
    if name.startswith(SOURCE) or _PATH.fullmatch(name):
        return True
    return os.sep in name and hub_datasets.is_source(name)


def of(name: str) -> FileTask:
    """Returns the task of a path with variants, or of a source that `info` returned.

    Raises:
      ValueError: as `FileTask`.
    """
    if name.startswith(SOURCE):
        return FileTask(**_fields(name))
    return FileTask(name)


def info(task: FileTask) -> TaskInfo:
    """Returns the task's row, without its variants."""
    sizes = tuple(map(len, _content(task).records.values()))
    # Tokens of few examples are those of all.
    fields = dataclasses.asdict(task) | {"path": not_drawn(task.path)}
    return _info(str(task), fields, sizes)


def outline(source: str) -> TaskInfo:
    """Returns the row of a source whose files need not exist, without its variants."""
    fields = _fields(source)
    return _info(fields["name"] or fields["path"], fields, ())


def settings(info: TaskInfo) -> dict[str, Any]:
    """Returns a task's values of the fields of `FileTask` for reading and scoring rows.

    Of another kind of task these are labels and lengths, and the metrics if `FileTask` allows
    them.
    """
    names = ("labels", "metrics", "input_length", "target_length")
    if info.source.startswith(SOURCE):
        fields = _fields(info.source)
        return {name: fields[name] for name in (*names, "template", "target")}
    return {name: getattr(info, name) for name in names if name != "metrics" or _can_score(info)}


def _can_score(info: TaskInfo) -> bool:
    try:
        _check_metrics(info)
    except ValueError:
        return False
    return True


def variants(source: str) -> list[str]:
    """Returns the variants of a source, without those that draw training examples."""
    fields = _fields(source)
    return split_path(fields["path"] or fields["test"])[1].split(":")[1:]


def template(info: TaskInfo) -> str:
    """Returns the template for the rows of a task of files, "" for any other task."""
    return _fields(info.source)["template"] if info.source.startswith(SOURCE) else ""


def _fields(source: str) -> dict[str, Any]:
    """Returns the values of `FileTask` in a source.

    Raises:
      ValueError: it is damaged; one in the header of a stranger's file may be anything.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(FileTask)}
    try:
        fields = defaults | json.loads(source.removeprefix(SOURCE))
        wrong = [name for name, usual in defaults.items() if not _is_like(fields[name], usual)]
        wrong += ["metrics"] * (not {*fields["metrics"]} <= _POSTPROCESSORS.keys())
        wrong += fields.keys() - defaults.keys()
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            f"{source[:200]!r} is no task of files; take it out of the header that has it."
        ) from None
    if wrong:
        raise ValueError(
            f"a task of files has {wrong[0]} = {fields[wrong[0]]!r}, which FileTask does not take "
            f"(docs/tasks.md). It is damaged, or another version of spjax wrote it: {source[:200]}"
        )
    return fields


def _is_like(value: Any, usual: Any) -> bool:
    """Returns whether a value from JSON has the type of a default."""
    if isinstance(usual, tuple):
        return isinstance(value, list | tuple) and all(_is_like(x, "") for x in value)
    is_text = isinstance(value, str)
    return type(value) is type(usual) and not (is_text and not file_rows.is_utf8(value))


def paths(source: str) -> tuple[str, ...]:
    """Returns the files of a source."""
    fields = _fields(source)
    return tuple(filter(None, (fields["path"], fields["validation"], fields["test"])))


def _info(name: str, fields: Mapping[str, Any], sizes: tuple[int, ...]) -> TaskInfo:
    labels = tuple(fields["labels"])
    chosen = tuple(fields["metrics"]) or (("accuracy",) if labels else ("squad",))
    return TaskInfo(
        name=name,
        format=Format(
            "plain",
            labels,
            chosen,
            postprocess=_POSTPROCESSORS[chosen[0]],
        ),
        source=SOURCE + json.dumps(fields, ensure_ascii=False, sort_keys=True),
        version=fields["sha256"],
        input_length=fields["input_length"],
        target_length=fields["target_length"],
        vocabulary="t5",
        splits=SPLITS if fields["path"] else tuple(x for x in SPLITS[1:] if fields[x]),
        sizes=sizes,
    )


def records(source: str, split: str) -> Sequence[Mapping[str, Any]]:
    """Returns the examples of a split in the order of the file.

    Args:
      source: a task's.
      split: one of `SPLITS`.

    Returns:
      Texts `inputs` and `targets`, the number `label` (-1 without labels), and `idx`, the row's
      index in its file, from 0.
    """
    return _content(of(source)).records[split]


@dataclasses.dataclass(frozen=True)
class _Content:
    records: Mapping[str, Sequence[Mapping[str, Any]]]
    sha256: str


def split_path(path: str) -> tuple[str, str]:
    """Splits off the variants of a path, with the colon before them."""
    if hub_datasets.is_source(path):
        return hub_datasets.split_variants(path)
    match = _PATH.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def _check(task: FileTask) -> None:
    if not task._sources:
        raise ValueError(
            "FileTask.path has no value; give the file of your examples with --gin.TASK_FILE=PATH."
        )
    for field in ("template", "target"):
        if not Template(getattr(task, field), field).columns:
            raise ValueError(
                f"FileTask.{field} is {getattr(task, field)!r}, which names no column; write one "
                'in braces, as in "{text}".'
            )
    if task.labels and task.target != f"{{{Template(task.target, 'target').columns[0]}}}":
        raise ValueError(
            f"FileTask.target is {task.target!r}; with labels it must be one column and nothing "
            'else, as in "{target}".'
        )
    bad = [word for word in task.labels if not word.strip()]
    if bad or len(set(task.labels)) < len(task.labels):
        raise ValueError(f"FileTask.labels is {task.labels!r}; give different words, none empty.")
    _check_metrics(task)
    for field in ("input_length", "target_length"):
        # One token and EOS at the least.
        validation.whole(f"FileTask.{field}", getattr(task, field), 2, validation.MOST_POSITIONS)
    if not re.fullmatch(r"(?!\.+$)[\w.-]*", task.name):
        raise ValueError(
            f"FileTask.name is {task.name!r}; use letters, digits, underscores, dots and hyphens, "
            "and not dots alone."
        )


def _check_metrics(task: FileTask | TaskInfo) -> None:
    items = _POSTPROCESSORS.items()
    kinds = {name: kind for name, kind in items if (kind == "label") == bool(task.labels)}
    wrong = [name for name in task.metrics if name not in kinds]
    if wrong or len({kinds[name] for name in task.metrics}) > 1:
        which = "with labels" if task.labels else "without labels, either"
        groups = [", ".join(n for n in kinds if kinds[n] == kind) for kind in kinds.values()]
        allowed = "; or ".join(dict.fromkeys(groups))
        raise ValueError(f"FileTask.metrics is {task.metrics!r}; {which} {allowed}.")
    for name in task.metrics:
        if name in _METRIC_PACKAGES:
            extras.require("tfds", f"the metric {name!r}", _METRIC_PACKAGES[name])
        if _CLASSES.get(name, len(task.labels)) != len(task.labels):
            raise ValueError(
                f"FileTask.metrics has {name!r}, which is for {_CLASSES[name]} labels, but "
                f"FileTask.labels has {len(task.labels)}; use accuracy or matthews_corrcoef."
            )


def _content(task: FileTask) -> _Content:
    files: list[tuple[str, str, str]] = []
    words: dict[str, str] = {}
    for split, source in task._sources.items():
        path = source
        if hub_datasets.is_source(source):
            stored = hub_datasets.split_of(source, split)
            path = str(stored.path)
            columns = [*Template(task.template, "template").columns]
            stored.check_columns([*columns, *Template(task.target, "target").columns], source)
            named = hub_datasets.words(stored, source, task.target, task.labels)
            if words and named and {*named} != {*words}:
                raise ValueError(
                    f"{source} has the classes {', '.join(named)}, and the splits before it "
                    f"{', '.join(words)}; give datasets of the same classes."
                )
            words = words or named  # of a class by its name, whatever its number is elsewhere
        files.append((split, source, path))
    try:
        stats = [Path(path).stat() for _, _, path in files]
        stamps = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
    except OSError:
        stamps = ()  # reading it gives the message
    numeric = bool({*task.metrics}.intersection(_CORRELATIONS))
    answers = _Answers(task.target, task.labels, tuple(words.items()), numeric)
    return _read(tuple(files), task.template, answers, stamps)


@dataclasses.dataclass(frozen=True)
class _Answers:
    """Target, labels and their classes, by which the answer of a row is read.

    Attributes:
      target: the template of the target.
      labels: the allowed words.
      words: the label for each class of a dataset, where these are called otherwise.
      numeric: whether targets are numbers.
    """

    target: str
    labels: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    numeric: bool


@functools.lru_cache(maxsize=16)
def _read(
    files: tuple[tuple[str, str, str], ...],
    template: str,
    answers: _Answers,
    stamps: tuple[tuple[int, int], ...],
) -> _Content:
    """Reads all records.

    Args:
      files: split, name in messages, and path of each.
      template: of the inputs.
      answers: how to read these.
      stamps: modification times, so that changed files are read again.
    """
    del stamps
    named = tuple((split, name) for split, name, _ in files)
    records: dict[str, list[Any]] = {}
    problems: list[str] = []
    total, is_cut = 0, False
    inputs, targets = Template(template), Template(answers.target, "target")
    columns = dict.fromkeys([*inputs.columns, *targets.columns])
    for split, name, path in files:
        records[split] = []
        rows = list(file_rows.read(Path(path), tuple(columns)))
        file_rows.check_columns(name, rows, tuple(columns))
        total += len(rows)
        is_cut |= any(row.is_last for row in rows)
        for row in rows:
            example = row.problem or _example(row.fields, inputs, targets, answers)
            if isinstance(example, str):
                where = f" ({split}, row {row.location[1:]})" if name != path else row.location
                problems.append(f"{name}{where}: {example}")
            else:
                records[split].append({**example, "idx": len(records[split])})
    if problems:
        raise ValueError(_report(named, problems, 0 if is_cut else total))
    held_out = [split for split in SPLITS if split not in records] if "train" in records else []
    shared = records.get("train", [])
    if held_out:
        records |= {split: [] for split in ("train", *held_out)}
        for record in shared:
            records[_split_of(record["inputs"], held_out)].append(record)
    records = {split: records[split] for split in SPLITS if split in records}
    _check_sizes(named, {split: len(rows) for split, rows in records.items()}, len(shared))
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for _, _, path in files]
    joined = hashlib.sha256(" ".join(digests).encode()).hexdigest()
    return _Content(records, digests[0] if len(digests) == 1 else joined)


def _split_of(text: str, held_out: Sequence[str]) -> str:
    """Returns the split of an input; capitals and white space do not matter."""
    same = " ".join(text.lower().split())
    share = int.from_bytes(hashlib.sha256(same.encode()).digest()[:8]) / 2**64
    split = SPLITS[1 + int(share / HELD_OUT)] if share < 2 * HELD_OUT else "train"
    return split if split in held_out else "train"


def _check_sizes(files: tuple[tuple[str, str], ...], sizes: Mapping[str, int], rows: int) -> None:
    empty = [split for split, size in sizes.items() if not size]
    if empty:
        paths = dict(files)
        if empty[0] in paths and not (empty[0] == "train" and rows):
            raise ValueError(f"{paths[empty[0]]} has no rows; give at least one example.")
        raise ValueError(
            f"{paths['train']} has {rows} rows, too few to hold out {HELD_OUT:.0%} for each split "
            f"without a file: none is left for {' and '.join(empty)}. Give more rows, or files "
            "with --gin.VALIDATION_FILE=PATH and --gin.TEST_FILE=PATH."
        )


def _report(files: tuple[tuple[str, str], ...], problems: Sequence[str], total: int) -> str:
    """Returns the message on bad rows; `total` is 0 where not all rows were read."""
    names = ", ".join(dict.fromkeys(path for _, path in files))
    more = len(problems) - _REPORTED
    listed = [*problems[:_REPORTED], *([f"and {more} more"] if more > 0 else [])]
    first = f"{names}: {len(problems)} of {total} rows cannot be used; fix or remove them."
    if not total:
        first = f"{names} cannot be read to the end; fix or remove what is named."
    return "\n- ".join([first, *listed])


def _example(
    fields: Mapping[str, Any],
    template: Template,
    target: Template,
    answers: _Answers,
) -> dict[str, Any] | str:
    """Returns input, target and label of a row, or its error."""
    labels = answers.labels
    try:
        inputs = template.fill(fields)
        if not labels:
            answer = target.fill(fields, answers.numeric)
            if answers.numeric and not _is_number(answer):
                shown = file_rows.shown(answer)
                raise BadRow(f"the target is {shown}; for a correlation it must be a finite number")
            return {"inputs": inputs, "targets": answer, "label": -1}
        (column,) = target.columns
        content = row_texts.value(column, fields)
        number = row_texts.label(column, dict(answers.words).get(str(content), content), labels)
        return {"inputs": inputs, "targets": labels[number], "label": number}
    except BadRow as problem:
        return str(problem)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
