"""Datasets of Hugging Face as files of rows: from the hub, or from a folder of `datasets`.

The package `datasets` reads them once. Each split that a task uses is written as JSON lines to the
cache folder, classes by their names, and is a file of rows like any other from then on.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import extras, hub
from spjax.files import default_cache_dir, file_digest, read_json, replacing, write_json

PREFIX = hub.DATASETS
FORM = "hf://datasets/ORGANIZATION/NAME[@REVISION][:CONFIG][#SPLIT]"
_VARIANT = r":(?:sentinel|halves|balanced|n\d+|seed\d+)"
_END = rf"(?:#(?P<split>[^:#]+))?(?P<variants>(?:{_VARIANT})*)"
_HUB = re.compile(
    rf"(?P<base>{PREFIX}(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^:#]+))?"
    rf"(?:(?!{_VARIANT}(?:[:#]|$)):(?P<config>[^:#]+))?){_END}"
)
_FOLDER = re.compile(rf"(?P<base>[^#]*?){_END}")
# What `save_to_disk` writes into the folder of one dataset, and into that of several splits.
_SAVED_ONE, _SAVED_SEVERAL = "state.json", "dataset_dict.json"
_DATA = (".parquet", ".jsonl", ".json", ".csv", ".arrow")
_MOST_FILES = 10_000  # that are looked at for changes
_CATALOGUE = "splits.json"
_VERSION = 2  # of the files in the cache
_SPLITS = ("train", "validation", "test")  # that a task may have


@dataclasses.dataclass(frozen=True)
class Split:
    """A split of a dataset in the cache.

    Attributes:
      path: of its JSON lines; the class of a row that has none is null.
      labels: names of the classes, in the order of their numbers, by column.
      unlabelled: the columns of classes in which no row has one.
      left_out: types of the columns that a text cannot be made of, by column.
    """

    path: Path
    labels: Mapping[str, tuple[str, ...]]
    unlabelled: tuple[str, ...]
    left_out: Mapping[str, str]

    def check_columns(self, columns: Sequence[str], source: str) -> None:
        """Demands that no column is left out.

        Args:
          columns: that a template names.
          source: the dataset's name, for the message.

        Raises:
          ValueError: one is.
        """
        for column in columns:
            if column in self.left_out:
                raise ValueError(
                    f"the column {column!r} of {source} is of the type {self.left_out[column]}, "
                    "and templates take texts, numbers and classes; map the dataset to one with a "
                    "column of texts first."
                )


def is_source(path: str) -> bool:
    """Returns whether a path is a dataset of the hub, or a folder that `datasets` reads."""
    if path.startswith(PREFIX):
        return True
    match = _FOLDER.fullmatch(os.path.expanduser(path))
    return bool(match and match["base"] and _is_folder(Path(match["base"])))


def split_variants(path: str) -> tuple[str, str]:
    """Splits off the variants of a source, with the colon before them.

    Raises:
      ValueError: it names no dataset.
    """
    variants = _match(path)["variants"]
    return path.removesuffix(variants), variants


def named_split(path: str) -> str:
    """Returns the split that a source names itself, "" for none; raises as `split_variants`."""
    return _match(path)["split"] or ""


def stem(path: str) -> str:
    """Returns a name for the task of a source; raises as `split_variants`."""
    match = _match(path)
    if not path.startswith(PREFIX):
        return Path(match["base"]).absolute().name
    return "_".join(filter(None, (match["name"].partition("/")[2], match["config"])))


def pin(path: str) -> str:
    """Returns a source with a commit for its revision, which always means the same rows.

    A folder is returned as it is.

    Raises:
      ValueError: it names no dataset, or the hub cannot be asked for it.
    """
    match = _match(path)
    if not path.startswith(PREFIX) or hub.is_commit(match["revision"] or ""):
        return path
    commit = hub.dataset_commit(match["name"], match["revision"] or "")
    rest = path[match.end("revision" if match["revision"] else "name") :]
    return f"{PREFIX}{match['name']}@{commit}{rest}"


def split_names(path: str) -> tuple[str, ...]:
    """Returns the names of the splits that a dataset has.

    Raises:
      ValueError: `datasets` is not installed, or there is no such dataset or configuration.
    """
    folder = _cache_folder(path)
    if not (folder / _CATALOGUE).is_file():
        _load(path)
    return tuple(read_json(folder / _CATALOGUE)["splits"])


def split_of(path: str, default: str) -> Split:
    """Returns a split of a dataset, written to the cache if it is not there.

    Args:
      path: of the dataset, with a commit (`pin`).
      default: the split where the path names none; a dataset with one split means that.

    Raises:
      ValueError: as `split_names`, or it has no such split.
    """
    names, name = split_names(path), named_split(path) or default
    if name not in names and len(names) == 1 and not named_split(path):
        name = names[0]
    if name not in names:
        raise ValueError(
            f"{path} has no split {name!r}, only {', '.join(names)}; name one of them with a #, as "
            f"in {_match(path)['base']}#{names[0]}"
        )
    # A split's name may have characters that a file's must not.
    file = _cache_folder(path) / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.jsonl"
    facts_file = file.with_suffix(".json")
    facts = read_json(facts_file) if facts_file.is_file() else {}
    if not file.is_file() or not _is_whole(file, facts.get("sha256", ""), file.stat().st_mtime_ns):
        facts = _write(_load(path)[name], file, f"{_match(path)['base']}#{name}")
        write_json(facts_file, facts)
    labels = {column: tuple(words) for column, words in facts["labels"].items()}
    return Split(file, labels, tuple(facts["unlabelled"]), facts["left_out"])


def store(dataset: Any, argument: str) -> str:
    """Returns the folder of a dataset in memory, which is saved there if it is not yet.

    Args:
      dataset: a `Dataset` or `DatasetDict` of `datasets`.
      argument: what a caller calls it, for the message.

    Raises:
      ValueError: it is another kind of dataset.
    """
    library = extras.import_module("datasets", "hf", argument)
    if isinstance(dataset, library.Dataset):
        dataset = library.DatasetDict(train=dataset)
    if not isinstance(dataset, library.DatasetDict):
        raise ValueError(
            f"{argument} is a {type(dataset).__name__}, whose rows are not all there; give a "
            "Dataset or DatasetDict, or the name of a dataset of the hub."
        )
    content = hashlib.sha256()
    for name, split in dataset.items():
        plain = split.with_format(None)
        content.update(repr((name, plain.features)).encode())
        for row in plain.select_columns(_text_columns(plain)):
            content.update(json.dumps(row, default=str).encode() + b"\n")
    folder = default_cache_dir() / "datasets" / f"saved-{content.hexdigest()[:32]}"
    if not folder.is_dir():
        with replacing(folder) as unfinished:
            dataset.save_to_disk(str(unfinished))
    return str(folder)


def streamed(path: str, split: str, most: int) -> Any:
    """Opens a split as an `IterableDataset`, whose rows are read as they are needed.

    Args:
      path: of the dataset, with a commit (`pin`), without a split.
      split: its name, or a part of it where it is a folder of `save_to_disk`.
      most: shards that a folder of `save_to_disk` is cut into.

    Raises:
      ValueError: `datasets` is not installed, or there is no such dataset or split.
    """
    library, match = extras.import_module("datasets", "hf", path), _match(path)
    base = match["base"]
    try:
        if path.startswith(PREFIX):
            name, config, revision = _name(match), match["config"], match["revision"]
            return library.load_dataset(
                name, config, revision=revision, split=split, streaming=True
            )
        if any((Path(base) / name).is_file() for name in (_SAVED_ONE, _SAVED_SEVERAL)):
            saved = library.load_from_disk(base)
            if isinstance(saved, library.Dataset) and split != "train":
                raise ValueError("the folder holds one dataset, whose split is 'train'.")
            rows = saved if isinstance(saved, library.Dataset) else saved[split]
            return rows.to_iterable_dataset(num_shards=max(min(most, len(rows)), 1))
        return library.load_dataset(base, split=split, streaming=True)
    except Exception as error:  # those of `datasets` share no narrower base
        raise ValueError(
            f"cannot open the split {split!r} of {path}: {' '.join(str(error).split())} Check the "
            f"name, the split and the files; a dataset of the hub is written {FORM}."
        ) from error


def state_of_folder(path: str) -> list[list[Any]]:
    """Returns names, sizes and times of the files of a local dataset, which say if it changes."""
    base = Path(_match(path)["base"])
    files = [(file, file.stat()) for file in _files(base)]
    return [[str(file.relative_to(base)), s.st_size, s.st_mtime_ns] for file, s in files]


@functools.lru_cache(maxsize=64)
def _is_whole(file: Path, digest: str, modified: int) -> bool:
    del modified  # a part of the cache's key
    return file_digest(file) == digest


def usable_splits(path: str, target: str) -> tuple[str, ...]:
    """Returns the splits of a task in a dataset that names none, without those without classes.

    Args:
      path: of the dataset; one that names a split has no others.
      target: the template of the target.

    Raises:
      ValueError: as `split_names`.
    """
    if named_split(path):
        return ()
    column = _column(target)
    return tuple(
        name
        for name in _SPLITS
        if name in split_names(path) and column not in split_of(path, name).unlabelled
    )


def classes(sources: Mapping[str, str], target: str) -> tuple[str, ...]:
    """Returns the names of the classes that are the target, () where none are.

    Args:
      sources: files and datasets by split.
      target: the template of the target.

    Raises:
      ValueError: as `split_of`.
    """
    for split, source in sources.items():
        if is_source(source) and (names := split_of(source, split).labels.get(_column(target))):
            return names
    return ()


def words(split: Split, source: str, target: str, labels: Sequence[str]) -> dict[str, str]:
    """Returns the label for each class of a target that calls them otherwise, by class.

    Args:
      split: of a dataset.
      source: its name, for the message.
      target: the template of the target.
      labels: the words that a model answers with.

    Raises:
      ValueError: they are not as many, or some but not all of them are names of classes.
    """
    names = split.labels.get(_column(target), ())
    if not names or set(labels) == set(names):
        return {}
    if len(labels) != len(names) or {*labels} & {*names}:
        raise ValueError(
            f"FileTask.labels is {tuple(labels)!r}, and the classes of {source} are {names!r}; "
            "give these, or another word for each of them in their order, or no labels."
        )
    return dict(zip(names, labels))


def _column(target: str) -> str:
    """Returns the column that is the whole target, "" where there is none."""
    match = re.fullmatch(r"\{([^{}]+)\}", target)
    return match[1] if match else ""


def _match(path: str) -> re.Match[str]:
    pattern = _HUB if path.startswith(PREFIX) else _FOLDER
    if match := pattern.fullmatch(os.path.expanduser(path)):
        return match
    raise ValueError(f"{path!r} names no dataset of the Hugging Face hub; write {FORM}.")


def _is_folder(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    saved = any((folder / name).is_file() for name in (_SAVED_ONE, _SAVED_SEVERAL))
    near = [*folder.glob("*"), *(folder / "data").glob("*")]
    return saved or any(file.suffix.lower() in _DATA and file.is_file() for file in near)


def _files(folder: Path) -> list[Path]:
    paths = list(itertools.islice(folder.rglob("*"), _MOST_FILES + 1))
    if len(paths) > _MOST_FILES:
        raise ValueError(
            f"{folder} holds more than {_MOST_FILES:,} files and folders; give the folder of one "
            "dataset."
        )
    return sorted(path for path in paths if path.is_file())


def _cache_folder(path: str) -> Path:
    """Returns the folder for the splits of a dataset as it is now."""
    base = _match(path)["base"]
    state: list[Any] = [_VERSION, base]
    if not path.startswith(PREFIX):
        stats = [(file, file.stat()) for file in _files(Path(base))]
        state = [_VERSION, os.path.abspath(base)]
        state += [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]
    return default_cache_dir() / "datasets" / key


def _load(path: str) -> Mapping[str, Any]:
    """Opens a dataset with all its splits, and writes their names to the cache."""
    folder, base = _cache_folder(path), _match(path)["base"]
    splits = _opened(base, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _CATALOGUE, {"source": base, "splits": list(splits)})
    return splits


@functools.lru_cache(maxsize=4)
def _opened(path: str, folder: Path) -> Mapping[str, Any]:
    """Opens a dataset as it is now, which the name of its folder in the cache tells."""
    library = extras.import_module("datasets", "hf", path)
    match = _match(path)
    base = match["base"]
    try:
        if path.startswith(PREFIX):
            loaded = library.load_dataset(_name(match), match["config"], revision=match["revision"])
        elif any((Path(base) / name).is_file() for name in (_SAVED_ONE, _SAVED_SEVERAL)):
            loaded = library.load_from_disk(base)
        else:
            # Its own cache takes files that have changed for those that they were.
            loaded = library.load_dataset(base, cache_dir=str(folder / "loaded"))
    except Exception as error:  # those of `datasets` share no narrower base
        raise ValueError(
            f"cannot load {path}: {' '.join(str(error).split())} Check the name, the configuration "
            f"and the files; a dataset of the hub is written {FORM}."
        ) from error
    return {"train": loaded} if isinstance(loaded, library.Dataset) else dict(loaded)


def _name(match: re.Match[str]) -> str:
    """Returns the name of a dataset of the hub, which `datasets` takes for a folder's first.

    Raises:
      ValueError: there is such a folder.
    """
    name = match["name"]
    if os.path.exists(name):
        raise ValueError(
            f"{os.path.abspath(name)} is there, which `datasets` would read in its place. Write "
            f"./{name} for it, or start from another folder."
        )
    return name


def _text_columns(dataset: Any) -> list[str]:
    """Returns the columns of texts, numbers and classes."""
    return [
        column
        for column, feature in dataset.features.items()
        if type(feature).__name__ == "ClassLabel"
        or type(feature).__name__ == "Value"
        and feature.dtype not in ("binary", "large_binary")
    ]


def _write(dataset: Any, file: Path, source: str) -> dict[str, Any]:
    """Writes a split as JSON lines, only columns of texts, numbers and classes.

    Raises:
      ValueError: the number of a class is beyond their names.
    """
    kept = _text_columns(dataset)
    names = {
        column: list(feature.names)
        for column, feature in dataset.features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    without = dict.fromkeys(names, True)
    with replacing(file) as unfinished, open(unfinished, "w", encoding="utf-8") as lines:
        for place, row in enumerate(dataset.select_columns(kept)):
            for column, words in names.items():
                number = row[column]
                if number is not None and number >= len(words):
                    raise ValueError(
                        f"{source}, row {place}: {column!r} is the class {number}, and there are "
                        f"{len(words)}, from 0."
                    )
                # The hub's mark of a row without a class is -1.
                row[column] = words[number] if number is not None and number >= 0 else None
                without[column] &= row[column] is None
            lines.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    unlabelled = [column for column, empty in without.items() if empty]
    left_out = {c: str(feature) for c, feature in dataset.features.items() if c not in kept}
    facts = {"labels": names, "unlabelled": unlabelled, "left_out": left_out}
    return {"sha256": file_digest(file), **facts}
