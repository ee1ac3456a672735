"""Fills the token cache, in a process of its own.

`spjax.data.token_cache.cache` starts it (`spjax.subprocesses.run`), once for all the splits that
are missing. It imports TensorFlow only if a split has records of TFDS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spjax import extras
from spjax.data.tasks import registry
from spjax.data.token_cache import cache_files, coverage, plain_tokens
from spjax.vocabularies.vocabulary import load_vocabulary


def build(request: Sequence[dict[str, Any]]) -> int:
    """Builds every cache folder of a request and returns their number.

    Args:
      request: `[{"folder", "key", "task", "split", "lengths", "vocabulary"}]`.

    Raises:
      OSError: a folder cannot be written.
      ValueError: the records of a task cannot be found or used.
    """
    for wanted in request:
        info, split = registry.get(wanted["task"]), wanted["split"]
        vocabulary, lengths = wanted["vocabulary"], wanted["lengths"]
        counter = coverage.Counter(info, split, load_vocabulary(vocabulary), lengths)
        examples = _tokenizer(info.source)(info, split, lengths, vocabulary)
        watched = counter.watch(examples)
        cache_files.write(Path(wanted["folder"]), wanted["key"], watched, counter.counts)
    return len(request)


def _tokenizer(source: str) -> Callable[..., Iterator[Any]]:
    """Returns the `examples` function of the module that reads a task's source."""
    if source.startswith(plain_tokens.SOURCES):
        return plain_tokens.examples
    extras.require("tfds", f"the source {source}", *extras.TFDS_PACKAGES)
    from spjax.data.token_cache import seqio_tasks  # here, because it starts TensorFlow

    return seqio_tasks.examples
