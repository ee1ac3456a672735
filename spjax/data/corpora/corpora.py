"""Text corpora: tokenized on disk by processes with seqio, read without TensorFlow.

A corpus has a name, and a source: a TFDS dataset with a field of text, files (`.txt`, a document a
line; `.jsonl`; both also `.gz`), a dataset of Hugging Face, or any seqio task. `c4` and its
variants are known by name. It is at `corpora/NAME-SPLIT-VOCABULARY` in the cache folder; training
needs only that.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spjax import locks
from spjax.data.corpora import builders, corpus_files
from spjax.data.corpora.builders import STREAMED, Beam
from spjax.data.corpora.corpus_files import Corpus
from spjax.data.tasks import hub_datasets
from spjax.files import (
    DamagedFile,
    default_cache_dir,
    read_json,
    sync_folder,
    sync_tree,
    write_json,
)
from spjax.vocabularies.vocabulary import NAMES, Vocabulary, load_vocabulary

_log = logging.getLogger(__name__)

# T5 registers these (t5/data/tasks.py).
KNOWN = {
    "c4": "tfds:c4/en:2.2.0",
    "c4_noclean": "tfds:c4/en.noclean:2.2.0",
    "c4_realnewslike": "tfds:c4/en.realnewslike:2.2.0",
    "c4_webtextlike": "tfds:c4/en.webtextlike:2.2.0",
    "wikipedia": "tfds:wikipedia/20190301.en:1.0.0",
}
_SEQIO = "seqio"  # Beam's own cache, in the folder of the corpus until that is whole
_FILES = re.compile(r"\.(txt|jsonl|json|ndjson)(\.gz)?$")
_NAME = re.compile(r"\w+")
_SPLIT = re.compile(r"\w[\w\[\]:%+-]*")  # also a part of one, as TFDS writes it: train[:10%]
_TFDS = re.compile(r"[a-z0-9_]+(/[\w.-]+)?(:[\d.]+)?")


def parse(text: str) -> tuple[str, str | list[str]]:
    """Splits the text of a corpus into name and source.

    Args:
      text: a name of `KNOWN`, or `NAME=TFDS/CONFIG:VERSION`, `NAME=FILES` (a path or a pattern such
        as `news/*.jsonl.gz`), or `NAME=hf://datasets/ORG/DATASET` (or the folder of one), or
        `NAME=seqio:MODULE:TASK`.

    Returns:
      The name, and `tfds:...`, `seqio:...`, `hf:...` or the paths of the files.

    Raises:
      ValueError: an unknown name, no such file, or something that is no source.
    """
    name, sign, source = text.partition("=")
    if not _NAME.fullmatch(name) or not (source or not sign):
        raise ValueError(f"the corpus {text!r} is not of the form NAME=SOURCE; name it by a word.")
    if not sign:
        if name not in KNOWN:
            raise ValueError(
                f"unknown corpus {name!r}; the known ones are {', '.join(KNOWN)}. For another give "
                f"its source, {name}=FILES, {name}=TFDS/CONFIG:VERSION, "
                f"{name}=hf://datasets/ORG/NAME or {name}=seqio:MODULE:TASK."
            )
        return name, KNOWN[name]
    if re.fullmatch(r"seqio:[\w.]+:\w+", source):
        return name, source
    if hub_datasets.is_source(source):
        if hub_datasets.named_split(source) or hub_datasets.split_variants(source)[1]:
            raise ValueError(
                f"the source {source!r} of the corpus {name} has something after the dataset's "
                "name; leave that out, and give its split with --split."
            )
        is_hub = source.startswith(hub_datasets.PREFIX)
        return name, f"{STREAMED}{hub_datasets.pin(source) if is_hub else Path(source).absolute()}"
    paths = sorted(str(Path(path).absolute()) for path in glob.glob(source, recursive=True))
    if paths and all(_FILES.search(path) and Path(path).is_file() for path in paths):
        return name, paths
    if _FILES.search(source):
        raise ValueError(f"no file fits {source!r}, the source of the corpus {name}.")
    if not _TFDS.fullmatch(source):
        raise ValueError(
            f"the source {source!r} of the corpus {name} is none of: files ending with .txt or "
            ".jsonl (or .gz after that), a TFDS name (dataset/config:version), a dataset of "
            "Hugging Face (hf://datasets/ORG/NAME, or a folder), seqio:MODULE:TASK."
        )
    return name, f"tfds:{source}"


def folder_of(
    name: str, vocabulary: str, split: str = "train", cache_dir: Path | str | None = None
) -> Path:
    """Returns the folder of a corpus; each vocabulary (name or path) has its own."""
    base = default_cache_dir() if cache_dir is None else Path(cache_dir)
    for kind, text, allowed in (("name", name, _NAME), ("split", split, _SPLIT)):
        if not allowed.fullmatch(text):
            raise ValueError(
                f"{text!r} cannot be the {kind} of a corpus, since it names a folder; use letters, "
                "digits and underscores" + (", and [:%+] for a part." if kind == "split" else ".")
            )
    digest = load_vocabulary(vocabulary).fingerprint[:8]
    return base.absolute() / "corpora" / f"{name}-{split}-{digest}"


def load(
    name: str, vocabulary: str, split: str = "train", cache_dir: Path | str | None = None
) -> Corpus:
    """Opens a corpus that has been built.

    Args:
      name: of the corpus, or the path of its folder.
      vocabulary: name or path of the one it has to be tokenized with.
      split: of its source.
      cache_dir: `default_cache_dir()` by default.

    Raises:
      ValueError: it has not been built, is damaged, empty, or has another vocabulary.
    """
    is_path = os.sep in name
    folder = Path(name) if is_path else folder_of(name, vocabulary, split, cache_dir)
    source = name if name in KNOWN else "NAME=SOURCE" if is_path else f"{name}=SOURCE"
    command = f"build it with: spjax cache --corpus={source} --vocabulary={vocabulary}"
    if reason := corpus_files.problem(folder):
        raise ValueError(f"the corpus {name!r} cannot be read in {folder}: {reason}; {command}")
    corpus, loaded = Corpus(folder), load_vocabulary(vocabulary)
    if corpus.manifest["key"]["vocabulary"] != loaded.fingerprint:
        raise ValueError(
            f"the corpus in {folder} has another vocabulary than {loaded.path}; give the one it "
            f"was built with, or {command}"
        )
    if len(corpus) < 2:
        raise ValueError(f"the corpus in {folder} has {len(corpus)} documents; 2 are the least.")
    return corpus


def build(
    text: str,
    vocabulary: str,
    field: str = "text",
    split: str = "train",
    cache_dir: Path | str | None = None,
    num_workers: int = 1,
    beam: Beam | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Tokenizes a corpus with several processes; continues what an interrupted call has left.

    Args:
      text: as for `parse`.
      vocabulary: name or path.
      field: the records' text.
      split: of the source.
      cache_dir: `default_cache_dir()` by default.
      num_workers: processes, each with a part of the shards.
      beam: makes seqio's cache by Apache Beam first, which the processes then read.
      log: called with a line from time to time.

    Returns:
      The folder.

    Raises:
      ValueError: the source or the vocabulary cannot be used, the folder cannot be written, or
        another process is building it.
      RuntimeError: a process failed in an unforeseen way.
    """
    name, source = parse(text)
    loaded = load_vocabulary(vocabulary)
    folder = folder_of(name, vocabulary, split, cache_dir)
    spec = {
        "name": name,
        "source": source,
        "field": field,
        "split": split,
        "task": _task(folder, source),
        "vocabulary": vocabulary if vocabulary in NAMES else str(loaded.path.absolute()),
    }
    if beam and str(source).startswith(STREAMED):
        raise ValueError(
            f"Apache Beam does not read {source[len(STREAMED) :]!r}; leave out --beam."
        )
    key = _key(spec, loaded)
    with _owned(folder) as lock:
        if (reason := corpus_files.problem(folder)) and folder.exists():
            _log.warning("the corpus in %s is built again: %s", folder, reason)
        if reason is None:
            if corpus_files.read_manifest(folder)["key"] == key:
                _remove_seqio(folder)  # a call may have been killed right before
                log(f"Nothing to do: {describe(folder)}")
                return folder
            log(f"{folder} was made from something else; it is built again.")
        # Beam gives the documents in another order, so that its shards go with no others.
        unfinished = _unfinished(folder, {**key, "beam": bool(beam)})
        request = {"spec": spec, "folder": str(unfinished)}
        if beam:
            request["seqio_cache_dir"] = beam.cache(spec, unfinished / _SEQIO, log)
        elif not isinstance(source, str):
            num_workers = min(num_workers, len(source))
        builders.run_workers(request, num_workers, lock, log)
        corpus_files.finish(unfinished, key)
        shutil.rmtree(folder, ignore_errors=True)
        sync_tree(unfinished)
        unfinished.rename(folder)
        sync_folder(folder.parent)
        _remove_seqio(folder)
    log(describe(folder))
    return folder


def describe(folder: Path) -> str:
    """Describes a corpus in one line: folder and size."""
    manifest = corpus_files.read_manifest(folder)
    return (
        f"{folder} holds {manifest['documents']:,} documents, {manifest['tokens']:,} tokens in "
        f"{len(manifest['shards'])} shards."
    )


def _task(folder: Path, source: str | list[str]) -> str:
    """Returns the name of the seqio task, and of its cache folder: one for each corpus folder."""
    if isinstance(source, str) and source.startswith("seqio:"):
        return source.rpartition(":")[2]
    return "spjax_" + re.sub(r"\W", "_", folder.name)


def _remove_seqio(folder: Path) -> None:
    shutil.rmtree(folder / _SEQIO, ignore_errors=True)


def _key(spec: dict[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Returns what decides a corpus's content; of files, names, sizes and modification times."""
    source = spec["source"]
    if isinstance(source, str) and source.startswith(STREAMED):
        path = source.removeprefix(STREAMED)
        if not path.startswith(hub_datasets.PREFIX):
            source = [STREAMED, *hub_datasets.state_of_folder(path)]
    elif not isinstance(source, str):
        stats = [(path, os.stat(path)) for path in source]
        source = [[Path(path).name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    return {
        "format": corpus_files.FORMAT,
        "source": source,
        "field": spec["field"],
        "split": spec["split"],
        "vocabulary": vocabulary.fingerprint,
        "vocabulary_size": vocabulary.size,
    }


@contextlib.contextmanager
def _owned(folder: Path) -> Iterator[int]:
    """Holds the lock of a corpus and yields its descriptor; explains what cannot be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(folder.parent / f".{folder.name}.lock", patience=0.0) as lock:
            yield lock
    except locks.HeldError as error:
        raise ValueError(
            f"another process is building {folder} ({error}); wait until it is done, or end it."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error.strerror or str(error)) from error


def _unwritable(folder: Path, reason: str) -> ValueError:
    return ValueError(
        f"cannot build the corpus in {folder}: {reason}; what is built is kept, and the same "
        "command continues. Or give a folder that can be written and has room, with --cache_dir or "
        "the environment variable SPJAX_CACHE."
    )


def _unfinished(folder: Path, key: dict[str, Any]) -> Path:
    """Returns the folder in which a corpus grows: the interrupted one, or a new one."""
    # Not `.building-`, which a build of token caches in the same cache folder would remove.
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    try:
        known = read_json(unfinished / "key.json")
    except OSError:
        known = {}
    except DamagedFile as error:
        _log.warning("%s; the corpus is built from the beginning.", error)
        known = {}
    if known != json.loads(json.dumps(key)):
        shutil.rmtree(unfinished, ignore_errors=True)
        write_json(unfinished / "key.json", key, indent=None)
    for path in unfinished.glob(f"*{corpus_files.TEMPORARY}"):
        path.unlink()
    return unfinished
