"""Tokenized splits on disk: built once in another process, read without TensorFlow.

A split's folder is named by a key made of everything its content depends on: the task's row, the
split, the lengths, the vocabulary's fingerprint, the layout of the files and the source code that
makes records and text (`source_fingerprint`). A change of any of them leads to another folder, so a
stale one is never read. Every file is checked against its size and SHA-256 when it is loaded; a
folder that fails is built again, with a warning.

Two versions are raised by hand: `version` of a task when records change that no code in this
package makes, and `cache_files.FORMAT` when the layout changes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spjax import locks, subprocesses, validation
from spjax.data.tasks import capacity_tasks, file_task, registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import FewShot, TaskInfo
from spjax.data.token_cache import cache_files, coverage, plain_tokens
from spjax.data.token_cache.cache_files import Ragged
from spjax.files import default_cache_dir
from spjax.vocabularies.vocabulary import load_vocabulary

Task = str | FileTask | TaskInfo

# Lengths for texts that are not cut.
UNCUT = {"inputs": validation.MOST_POSITIONS, "targets": validation.MOST_POSITIONS}

# Environment variables of a process that may import TensorFlow.
BUILDER_VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # The accelerator belongs to the training process.
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
}
_PACKAGE = Path(__file__).resolve().parents[2]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CachedSplit:
    """A tokenized split; token ids are memory-mapped.

    Attributes:
      task: name of the task.
      split: name of the split.
      folder: of its files.
      lengths: the most `inputs` and `targets` ids it was cut to.
      inputs: int32 input ids of each example, EOS last.
      targets: int32 target ids of each example, EOS last.
      rows: numbers of the examples in the folder's files; None for all of them.
    """

    task: str
    split: str
    folder: Path
    lengths: Mapping[str, int]
    inputs: Ragged
    targets: Ragged
    rows: np.ndarray | None = None

    @property
    def num_examples(self) -> int:
        """Returns the number of examples."""
        return len(self.inputs)

    @functools.cached_property
    def examples(self) -> list[dict[str, Any]]:
        """Returns raw fields by example: `inputs_text`, `targets_text`, `idx`, `label`, ..."""
        examples = cache_files.read_examples(self.folder)
        return examples if self.rows is None else [examples[row] for row in self.rows]

    def few(self, wanted: FewShot) -> CachedSplit:
        """Returns some of the examples; more of them with the same seed contain these.

        Raises:
          ValueError: there are not so many.
        """
        if wanted.examples > self.num_examples:
            raise ValueError(
                f"{self.task} asks for {wanted.examples} examples and {self.split} has "
                f"{self.num_examples}; ask for fewer with :n<number>"
            )
        order = np.random.default_rng(wanted.seed).permutation(self.num_examples)
        if wanted.balanced:  # all firsts of their target, then all seconds, ...
            seen: collections.Counter[str] = collections.Counter()
            turns = []
            for row in order:
                target = self.examples[row]["targets_text"]
                turns.append(seen[target])
                seen[target] += 1
            order = order[np.argsort(turns, kind="stable")]
        return self._at(np.sort(order[: wanted.examples]))

    def sample(
        self, most: int, seed: int, group: Callable[[Mapping[str, Any]], Any] | None = None
    ) -> CachedSplit:
        """Draws a random subset in which every target keeps its share of the split.

        Every example is in it with the same probability, so that its expected scores are those of
        the whole split.

        Args:
          most: examples, or fewer where the next group would be too many; the split itself if it
            has no more. A first group of more is taken all the same.
          seed: of the draw.
          group: a hashable key of an example; examples of one key come together or not at all.
        """
        if most >= self.num_examples:
            return self
        groups: dict[Any, list[int]] = {}
        for row, example in enumerate(self.examples):
            groups.setdefault(group(example) if group else row, []).append(row)
        members = list(groups.values())
        rng = np.random.default_rng(seed)
        alike: dict[str, list[int]] = {}
        for i in rng.permutation(len(members)).tolist():
            alike.setdefault(self.examples[members[i][0]]["targets_text"], []).append(i)
        turns = np.empty(len(members))
        for same in alike.values():  # evenly from 0 to 1, with a random start
            turns[same] = (np.arange(len(same)) + rng.random()) / len(same)
        chosen: list[int] = []
        for i in np.argsort(turns, kind="stable"):
            if not chosen or len(chosen) + len(members[i]) <= most:
                chosen += members[i]
        return self._at(np.sort(chosen))

    def _at(self, rows: np.ndarray) -> CachedSplit:
        inputs, targets = self.inputs.take(rows), self.targets.take(rows)
        # The rows of this split may be a part of it themselves.
        stored_rows = rows if self.rows is None else self.rows[rows]
        return dataclasses.replace(self, inputs=inputs, targets=targets, rows=stored_rows)


def load(
    task: Task,
    split: str,
    lengths: Mapping[str, int] | None = None,
    cache_dir: Path | str | None = None,
    *,
    vocabulary: str = "",
) -> CachedSplit:
    """Loads a tokenized split, which is built first where it is missing or damaged.

    Args:
      task: as `registry.get` takes it.
      split: `train`, `validation` or `test`.
      lengths: the most `inputs` and `targets` ids, EOS included; the task's own by default.
      cache_dir: `default_cache_dir()` by default.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: unknown task, split or vocabulary, bad lengths, a folder that cannot be written,
        records that cannot be found or used, or labels or texts of which the ids keep too little
        (`coverage`).
      RuntimeError: the building process failed in an unforeseen way.
    """
    info = registry.get(task)
    wanted = _wanted(info, split, lengths, _folder(cache_dir), vocabulary)
    _ensure([wanted], _folder(cache_dir))
    inputs, targets = cache_files.read(wanted.folder)
    loaded = CachedSplit(info.name, split, wanted.folder, wanted.lengths, inputs, targets)
    few = info.few_shot if split == "train" else None
    return loaded.few(few) if few else loaded


def ensure(
    tasks: Sequence[Task],
    lengths: Mapping[str, int] | None = None,
    cache_dir: Path | str | None = None,
    *,
    splits: Sequence[str] = (),
    vocabulary: str = "",
    num_workers: int = 1,
    eval_truncation: bool = True,
) -> None:
    """Builds the missing or damaged splits of several tasks.

    Args:
      tasks: as `registry.get` takes them, or names of mixtures; what a run on a mixture reads has
        the greatest lengths of its tasks.
      lengths: as for `load`.
      cache_dir: as for `load`.
      splits: names of splits; all by default.
      vocabulary: as for `load`.
      num_workers: processes that build side by side, each a part of the splits.
      eval_truncation: whether other splits than `train` are cut too, as for `Run`.

    Raises:
      ValueError: as for `load`.
      RuntimeError: as for `load`.
    """
    wanted = []
    member_lengths: Mapping[str, int] | None
    for task in dict.fromkeys(tasks):
        if registry.is_mixture(task):
            whole = registry.mixture(task)
            members, member_lengths = whole.tasks, lengths or whole.lengths
        else:
            members, member_lengths = (registry.get(task),), lengths
        wanted += [
            (
                info,
                split,
                member_lengths if eval_truncation or split == "train" else UNCUT,
                vocabulary,
            )
            for info in members
            for split in splits or info.splits
        ]
    ensure_all(wanted, cache_dir, num_workers)


def ensure_all(
    wanted: Iterable[tuple[Task, str, Mapping[str, int] | None, str]],
    cache_dir: Path | str | None = None,
    num_workers: int = 1,
) -> None:
    """Builds missing or damaged splits.

    Args:
      wanted: task, split, lengths and vocabulary of each cache, as for `load`.
      cache_dir: as for `load`.
      num_workers: as for `ensure`.

    Raises:
      ValueError: as for `load`.
      RuntimeError: as for `load`.
    """
    folder = _folder(cache_dir)
    splits = {
        request.folder: request
        for task, split, lengths, vocabulary in wanted
        for request in [_wanted(task, split, lengths, folder, vocabulary)]
    }
    _ensure(list(splits.values()), folder, num_workers)


def longest(
    wanted: Iterable[tuple[Task, str, Mapping[str, int] | None, str]],
    cache_dir: Path | str | None = None,
) -> dict[str, int] | None:
    """Returns the most input and target ids of some splits, None where one is not built.

    Args:
      wanted: as for `ensure_all`.
      cache_dir: as for `load`.

    Raises:
      ValueError: an unknown task, split or vocabulary, or bad lengths.
    """
    most = {"inputs": 0, "targets": 0}
    for task, split, lengths, vocabulary in wanted:
        request = _wanted(task, split, lengths, _folder(cache_dir), vocabulary)
        if request.problem:
            return None
        for name, ids in zip(most, cache_files.read(request.folder)):
            most[name] = max(most[name], int(ids.lengths.max(initial=1)))
    return most


@functools.cache
def source_fingerprint(source: str) -> str:
    """Returns the SHA-256 of the code that makes the records and texts of a source.

    Args:
      source: a task's `source`; for the pocket world all of `spjax/pocket` counts.
    """
    tasks = _PACKAGE / "data" / "tasks"
    plain = source.startswith(plain_tokens.SOURCES)
    tokenizer = "plain_tokens.py" if plain else "seqio_tasks.py"
    paths = [_PACKAGE / "data" / "token_cache" / tokenizer, *sorted(tasks.glob("templates*.py"))]
    if source.startswith(file_task.SOURCE):
        paths += [tasks / "file_task.py", tasks / "file_rows.py"]
    if source.startswith(capacity_tasks.SOURCE):
        paths += sorted(tasks.glob("capacity_*.py"))
    if source.startswith(("pocket:", capacity_tasks.SOURCE)):
        paths += sorted((_PACKAGE / "pocket").glob("*.py"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """A requested split, and everything it is made from."""

    info: TaskInfo
    split: str
    lengths: Mapping[str, int]
    vocabulary: str
    key: Mapping[str, Any]
    folder: Path

    @property
    def task(self) -> str:
        """Returns the task's name."""
        return self.info.name

    @property
    def problem(self) -> str | None:
        """Returns the reason why its folder cannot be used, or None."""
        return cache_files.problem(self.folder, self.key)


def _wanted(
    task: Task, split: str, lengths: Mapping[str, int] | None, cache_dir: Path, vocabulary: str
) -> _Wanted:
    info = registry.get(task).whole
    if split not in info.splits:
        raise ValueError(
            f"the task {info.name!r} has no split {split!r}; its splits are "
            f"{', '.join(info.splits)}"
        )
    lengths = _check_lengths(info.lengths if lengths is None else dict(lengths))
    vocabulary = vocabulary or info.vocabulary
    loaded = load_vocabulary(vocabulary)
    coverage.check_labels(info.labels, loaded, lengths["targets"], info.sentinel)
    key = {
        "format": cache_files.FORMAT,
        # Through JSON, so that it compares equal to what a manifest gives back.
        "task": json.loads(json.dumps(dataclasses.asdict(info))),
        "split": split,
        "lengths": lengths,
        "vocabulary": loaded.fingerprint,
        "source": source_fingerprint(info.source),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = cache_dir / info.name / f"{split}-{digest[:16]}"
    return _Wanted(info, split, lengths, vocabulary, key, folder)


def _check_lengths(lengths: dict[str, int]) -> dict[str, int]:
    if set(lengths) != {"inputs", "targets"} or any(length < 2 for length in lengths.values()):
        raise ValueError(
            f"lengths {lengths} are not usable; give 'inputs' and 'targets', each at least 2 "
            "(one token and EOS)"
        )
    return {feature: int(length) for feature, length in sorted(lengths.items())}


def _folder(cache_dir: Path | str | None) -> Path:
    return (default_cache_dir() if cache_dir is None else Path(cache_dir)).absolute()


def _ensure(wanted: Sequence[_Wanted], cache_dir: Path, num_workers: int = 1) -> None:
    _build(wanted, cache_dir, num_workers)
    for split in wanted:
        _tell_losses(split)


_told: set[Path] = set()  # folders whose losses have been logged


def _tell_losses(split: _Wanted) -> None:
    """Refuses an unlearnable split; logs once what its texts lose as ids."""
    counts = cache_files.read_counts(split.folder)
    coverage.check(split.info, split.split, counts, split.lengths)
    text = coverage.line(split.info, split.split, counts, split.lengths)
    if text and split.folder not in _told:
        _told.add(split.folder)
        _log.warning("%s", text)


def _build(wanted: Sequence[_Wanted], cache_dir: Path, num_workers: int) -> None:
    if not any(split.problem for split in wanted):
        return
    with _locked(cache_dir) as lock:
        # Another process may have built them while this one waited for the lock.
        missing = [(split, reason) for split in wanted if (reason := split.problem)]
        if not missing:
            return
        _remove_unfinished(cache_dir)
        for split, reason in missing:
            if split.folder.exists():
                _log.warning(
                    "the token cache %s/%s is built again: %s", split.task, split.split, reason
                )
        names = dict.fromkeys(split.task for split, _ in missing)
        _log.info("building token caches (some 10 s and up): %s", ", ".join(names))
        splits = [split for split, _ in missing]
        parts = [part for i in range(num_workers) if (part := splits[i::num_workers])]
        _run_builders(parts, cache_dir, lock)
    still = [f"{split.folder}: {reason}" for split, _ in missing if (reason := split.problem)]
    if still:
        raise RuntimeError("the token cache is damaged right after it was built: " + still[0])


@contextlib.contextmanager
def _locked(cache_dir: Path) -> Iterator[int]:
    """Holds the cache's lock; the file descriptor keeps it in child processes too."""
    with contextlib.ExitStack() as stack:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(locks.hold(cache_dir / ".lock"))
        except OSError as error:
            raise _unwritable(cache_dir, error.strerror or str(error)) from error
        except locks.HeldError as error:
            raise ValueError(
                f"the token cache in {str(cache_dir)!r} is locked by {error}; let it go on "
                "(kill -CONT PROCESS) or end it (kill -KILL PROCESS)"
            ) from None
        yield lock


def _remove_unfinished(cache_dir: Path) -> None:
    """Removes the folders of killed builders; the lock excludes running ones."""
    for folder in cache_dir.glob(f"*/{cache_files.TEMPORARY}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _run_builders(parts: Sequence[Sequence[_Wanted]], cache_dir: Path, lock: int) -> None:
    requests = [
        [
            {
                "task": _name(split.info),
                "split": split.split,
                "lengths": split.lengths,
                "vocabulary": split.vocabulary,
                "key": split.key,
                "folder": str(split.folder),
            }
            for split in part
        ]
        for part in parts
    ]
    try:
        subprocesses.run(
            "spjax.data.token_cache.build_cache:build",
            requests,
            "builds the token cache",
            variables=BUILDER_VARIABLES,
            pass_fds=(lock,),  # keeps the cache locked should this process be killed
        )
    except OSError as error:
        raise _unwritable(cache_dir, str(error)) from error


def _name(info: TaskInfo) -> str:
    return info.source if info.source.startswith(file_task.SOURCE) else info.name


def _unwritable(cache_dir: Path, reason: str) -> ValueError:
    return ValueError(
        f"cannot build the token cache in {str(cache_dir)!r}: {reason}; give a folder that can be "
        "written and has room, with cache_dir or the environment variable SPJAX_CACHE"
    )
