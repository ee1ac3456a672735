"""Tokenizes a dataset of Hugging Face as it is streamed, in a process of its own.

Needs no TensorFlow, and no room for the dataset itself. `spjax.data.corpora.builders` starts
several processes, each for a part of the shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax.data.corpora import corpus_files
from spjax.data.corpora.builders import STREAMED
from spjax.data.tasks import hub_datasets
from spjax.vocabularies.vocabulary import Vocabulary, load_vocabulary

_MAX_SHARDS = 128  # more would be more open files while training
_ROWS_PER_CALL = 256


def build(request: Mapping[str, Any]) -> int:
    """Writes one worker's missing shards; returns their number.

    Args:
      request: as of `build_corpus.build`, without `seqio_cache_dir`.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the text cannot be found or used.
    """
    spec, folder = request["spec"], Path(request["folder"])
    vocabulary, built = load_vocabulary(spec["vocabulary"]), 0
    path = spec["source"].removeprefix(STREAMED)
    dataset = hub_datasets.streamed(path, spec["split"], _MAX_SHARDS)
    count = max(min(dataset.num_shards, _MAX_SHARDS), 1)
    corpus_files.drop_other_shards(folder, count)
    for index in range(request["worker"], count, request["workers"]):
        if not corpus_files.has_shard(folder, index, count):
            rows = dataset.shard(num_shards=count, index=index) if count > 1 else dataset
            documents = _documents(rows, spec["field"], path, vocabulary)
            corpus_files.write_shard(folder, index, count, documents, vocabulary.size)
            built += 1
    return built


def _documents(rows: Any, field: str, source: str, vocabulary: Vocabulary) -> Iterator[np.ndarray]:
    """Yields the token ids of the documents of a shard, without EOS."""
    for batch in rows.iter(batch_size=_ROWS_PER_CALL):
        if field not in batch:
            raise ValueError(
                f"the rows of {source} have no field {field!r}, only {', '.join(batch)}; choose "
                "one with --text_field"
            )
        texts = batch[field]
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(
                f"the field {field!r} of {source} has {wrong[0]!r}; it must be a text, so choose "
                "another one with --text_field"
            )
        for ids in vocabulary.encode(texts):
            yield np.asarray(ids, np.int32)
