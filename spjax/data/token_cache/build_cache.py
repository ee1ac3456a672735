"""The process that fills the token cache: `python -m spjax.data.token_cache.build_cache`.

`spjax.data.token_cache.cache` starts it, once for all the splits that are missing. It imports
TensorFlow only if a split has records of TFDS.

Reads from standard input the JSON `[{"folder", "key", "task", "split", "lengths", "vocabulary"}]`
and writes to standard output, as its last line, the JSON `{"built": n}`, `{"error": message}` where
a folder cannot be written, or `{"invalid": message}` where the records cannot be used. Notices of
TensorFlow go to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spjax import extras, subprocesses
from spjax.data.tasks import registry
from spjax.data.token_cache import cache_files, coverage, plain_tokens
from spjax.vocabularies.vocabulary import load_vocabulary


def build(request: Sequence[dict[str, Any]]) -> int:
    """Builds every cache folder of a request and returns their number.

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


def main() -> int:
    """Answers the request on standard input; the exit status is 1 unless all was built."""
    subprocesses.exit_with_parent()
    try:
        answer: dict[str, Any] = {"built": build(json.load(sys.stdin))}
    except OSError as error:
        answer = {"error": str(error)}
    except ValueError as error:
        traceback.print_exc()  # for the log; the message alone is for users
        answer = {"invalid": str(error)}
    print(json.dumps(answer), flush=True)
    return 0 if "built" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
