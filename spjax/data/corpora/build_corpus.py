"""Tokenizes text with seqio, in a process of its own, because it imports TensorFlow.

`spjax.data.corpora.builders` starts several (`spjax.subprocesses.run`), each for a part of the
shards.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from spjax.data.corpora import corpus_files
from spjax.data.token_cache import seqio_vocabulary
from spjax.files import json_lines
from spjax.vocabularies.vocabulary import load_vocabulary

# More shards would be more open files while training.
MAX_SHARDS = 128
_ROWS_PER_CALL = 256
_RAISED_IN_TENSORFLOW = re.compile(r"ValueError: (.+)")


def register(spec: Mapping[str, Any]) -> seqio.Task:
    """Adds a corpus to seqio's registry; the feature `targets` holds the documents.

    Args:
      spec: `source` (`tfds:NAME`, `seqio:MODULE:TASK`, or a list of files), `task` (the name it
        gets, or has), `field`, `split`, and the path of the `vocabulary`.

    Raises:
      ValueError: there is no such source, or it has another vocabulary.
    """
    vocabulary = load_vocabulary(spec["vocabulary"])
    pieces = seqio_vocabulary.of(vocabulary)
    source = spec["source"]
    if isinstance(source, str) and source.startswith("seqio:"):
        importlib.import_module(source.split(":")[1])
        task = seqio.TaskRegistry.get(spec["task"])
        _check_vocabulary(task, pieces)
        return task
    name = spec["task"]
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    return seqio.TaskRegistry.add(
        name,
        source=_source(source, spec["split"], spec["field"]),
        preprocessors=[
            functools.partial(_only_text, field=spec["field"]),
            functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False),
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features={"targets": seqio.Feature(pieces, add_eos=True)},
    )


def shard_count(source: seqio.DataSource, split: str) -> int:
    """Returns the number of shards of a corpus: that of its source, up to `MAX_SHARDS`."""
    return max(min(len(source.list_shards(split)), MAX_SHARDS), 1)


def documents(
    source: seqio.DataSource, task: seqio.Task, split: str, index: int, raw: bool
) -> Iterator[np.ndarray]:
    """Yields the token ids of the documents of one shard, without EOS.

    Args:
      source: of the task, or seqio's cache of it.
      task: as made by `register`.
      split: of the source.
      index: of the shard.
      raw: whether the source gives text, which the task's preprocessors have yet to tokenize.
    """
    shard = seqio.ShardInfo(index, shard_count(source, split))
    dataset = source.get_dataset(split=split, shuffle=False, shard_info=shard)
    dataset = task.preprocess_precache(dataset) if raw else dataset
    # In batches, because fetching single documents takes longer than tokenizing them.
    dataset = dataset.map(lambda example: example["targets"]).ragged_batch(_ROWS_PER_CALL)
    for batch in dataset.prefetch(2):
        yield from np.split(batch.values.numpy(), batch.row_splits.numpy()[1:-1])


def build(request: Mapping[str, Any]) -> int:
    """Writes one worker's missing shards; returns their number.

    Args:
      request: `{"spec", "folder", "worker", "workers"}`, and `seqio_cache_dir` where Apache Beam
        has filled one. Every `workers`-th shard is this worker's.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the text cannot be found or used.
    """
    try:
        return _build(request)
    except (ValueError, tf.errors.OpError) as error:
        match = _RAISED_IN_TENSORFLOW.search(str(error))  # by a generator that it called
        raise ValueError(match[1] if match else str(error)) from error


def _build(request: Mapping[str, Any]) -> int:
    spec, folder, split = request["spec"], Path(request["folder"]), request["spec"]["split"]
    task = register(spec)
    source = task.source
    if cached := request.get("seqio_cache_dir"):
        seqio.add_global_cache_dirs([cached])
        source = task._get_cached_source(split)  # what `get_dataset` calls; it would go on to trim
    size, count, built = load_vocabulary(spec["vocabulary"]).size, _count(source, spec), 0
    corpus_files.drop_other_shards(folder, count)
    for index in range(request["worker"], count, request["workers"]):
        if not corpus_files.has_shard(folder, index, count):
            shard_documents = documents(source, task, split, index, raw=not cached)
            corpus_files.write_shard(folder, index, count, shard_documents, size)
            built += 1
    return built


def _count(source: seqio.DataSource, spec: Mapping[str, Any]) -> int:
    try:
        return shard_count(source, spec["split"])
    except Exception as error:  # TFDS's errors share no narrower base
        raise ValueError(
            f"cannot open the split {spec['split']!r} of {spec['source']!r}: "
            f"{str(error).splitlines()[0]}; prepare it (`tfds build NAME`) and say where with the "
            "environment variable TFDS_DATA_DIR, and check its name and split"
        ) from error


def texts(path: bytes, field: str) -> Iterator[dict[str, str]]:
    """Yields the documents of a file: lines, or a field of each JSON line; not empty ones.

    Raises:
      ValueError: a line cannot be used; says the file and the line.
    """
    name = path.decode()
    as_json = name.removesuffix(".gz").endswith((".jsonl", ".json", ".ndjson"))
    for text in _json_texts(name, field) if as_json else _plain_texts(name):
        if text.strip():
            yield {field: text}


def _plain_texts(name: str) -> Iterator[str]:
    for number, line in enumerate(_lines(name), 1):
        try:
            yield line.decode().strip()
        except ValueError as error:
            raise ValueError(f"{name}:{number}: {error}") from None


def _json_texts(name: str, field: str) -> Iterator[str]:
    for line in json_lines(_lines(name)):
        problem = line.problem
        if not problem and not isinstance(line.value, dict):
            problem = f"each line must be one JSON object, not a {type(line.value).__name__}"
        text = None if problem else line.value.get(field)
        if not problem and not isinstance(text, str):
            problem = f"the field {field!r} is {text!r}; it must be a text"
        if problem:
            raise ValueError(f"{name}:{line.number}: {problem}")
        yield str(text)


def _lines(name: str) -> Iterator[bytes]:
    try:
        with (gzip.open if name.endswith(".gz") else open)(name, "rb") as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{name} is damaged or cut off ({error}); get the file again") from None


def _only_text(dataset: tf.data.Dataset, field: str) -> tf.data.Dataset:
    known = dataset.element_spec
    if field not in known:
        raise ValueError(
            f"the records have no field {field!r}, only {', '.join(known)}; choose one with "
            "--text_field"
        )
    return dataset.map(lambda record: {"targets": record[field]})


def _source(source: str | list[str], split: str, field: str) -> seqio.DataSource:
    if isinstance(source, str):
        return seqio.TfdsDataSource(source.removeprefix("tfds:"), splits={split: split})
    signature = {field: tf.TensorSpec((), tf.string)}
    read = functools.partial(texts, field=field)

    def read_file(path: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(read, output_signature=signature, args=(path,))

    return seqio.FileDataSource(read_file, {split: source})


def _check_vocabulary(task: seqio.Task, wanted: seqio.Vocabulary) -> None:
    vocabulary = task.output_features["targets"].vocabulary
    alike = vocabulary == wanted
    if hasattr(wanted, "sp_model"):
        alike = getattr(vocabulary, "sp_model", None) == wanted.sp_model  # sentinels included
    if not alike:
        raise ValueError(
            f"the seqio task {task.name!r} has another vocabulary ({vocabulary.vocab_size} ids) "
            f"than {wanted}; give its own with --vocabulary"
        )
