"""The process that fills the token cache: `python -m spjax.data.build_cache` with a request.

The only program that imports TensorFlow. `spjax.data.cache` starts it, once for all the splits that
it misses, because starting TensorFlow takes longer than building a split.

Reads from standard input the JSON `[{"folder", "key", "task", "split", "lengths", "vocabulary"}]`
and writes to standard output, as its last line, the JSON `{"built": n}`, `{"error": message}` where
a folder cannot be written, or `{"invalid": message}` where the records cannot be used. Notices of
TensorFlow go to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any, Sequence

from spjax.data import cache_files
from spjax.data.tasks import registry


def build(request: Sequence[dict[str, Any]]) -> int:
    """Builds every cache folder of a request and gives their number.

    Raises:
      OSError: a folder cannot be written.
      ValueError: the records of a task cannot be found or used.
    """
    from spjax.data import seqio_tasks  # here, because it starts TensorFlow

    for wanted in request:
        task = seqio_tasks.build(
            registry.get(wanted["task"]),
            training=wanted["split"] == "train",
            vocabulary=wanted["vocabulary"],
        )
        examples = seqio_tasks.examples(task, wanted["split"], wanted["lengths"])
        cache_files.write(Path(wanted["folder"]), wanted["key"], examples)
    return len(request)


def main() -> int:
    """Answers the request on standard input; the exit status is 1 unless all was built."""
    try:
        answer = {"built": build(json.load(sys.stdin))}
    except OSError as error:
        answer = {"error": str(error)}
    except ValueError as error:
        traceback.print_exc()  # for the log; the message alone is for users
        answer = {"invalid": str(error)}
    print(json.dumps(answer), flush=True)
    return 0 if "built" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
