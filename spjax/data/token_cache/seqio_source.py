"""A user's own seqio task: its texts are written once, and are a task of files from then on."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from spjax import extras, subprocesses
from spjax.data.tasks.file_task import SPLITS, FileTask
from spjax.data.token_cache import cache
from spjax.files import default_cache_dir, sync_tree


def seqio_task(
    module: str,
    name: str,
    labels: Sequence[str] = (),
    metrics: Sequence[str] = (),
    input_length: int = 512,
    target_length: int = 64,
) -> FileTask:
    """Returns the task of a Python module that adds it to seqio's registry, as a task of files.

    The module is imported by a process of its own, once for each process that asks. The texts of
    its splits go to a folder of the cache that is named after their content, so that a task which
    has not changed is the same run again. Its metric functions are not used.

    Args:
      module: dotted name, found by PYTHONPATH or in the working directory (T5X's
        MIXTURE_OR_TASK_MODULE).
      name: of the task (T5X's MIXTURE_OR_TASK_NAME).
      labels: as of `FileTask`.
      metrics: as of `FileTask`.
      input_length: as of `FileTask`.
      target_length: as of `FileTask`.

    Raises:
      ValueError: seqio is not installed, the module cannot be imported, there is no such task, it
        has something else than texts, or as `FileTask`.
    """
    for value, what, macro in ((module, "module", "MODULE"), (name, "name", "NAME")):
        if not isinstance(value, str) or not re.fullmatch(r"[\w.]+", value):
            raise ValueError(
                f"the {what} of a seqio task is {value!r}; give it with "
                f"--gin.MIXTURE_OR_TASK_{macro}={what.upper()}."
            )
    folder = _exported(module, name)
    paths = {split: folder / f"{split}.jsonl" for split in SPLITS}
    files = {split: str(path) if path.is_file() else "" for split, path in paths.items()}
    return FileTask(
        files["train"],
        files["validation"],
        files["test"],
        labels=tuple(labels),
        metrics=tuple(metrics),
        input_length=input_length,
        target_length=target_length,
        name=name,
    )


@functools.cache
def _exported(module: str, name: str) -> Path:
    """Writes the texts of a task; returns their folder."""
    extras.require("tfds", f"the seqio task {name!r}", *extras.TFDS_PACKAGES)
    base = default_cache_dir().absolute() / "seqio"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=base) as temporary:
        written = Path(temporary) / "task"
        written.mkdir()
        subprocesses.run(
            "spjax.data.token_cache.seqio_export:export",
            [{"module": module, "name": name, "folder": str(written)}],
            f"reads the seqio task {name}",
            variables=cache.BUILDER_VARIABLES,
        )
        digest = hashlib.sha256()
        for path in sorted(written.iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        folder = base / f"{name}-{digest.hexdigest()[:16]}"
        if not folder.is_dir():
            sync_tree(written)
            shutil.move(written, folder)
    return folder
