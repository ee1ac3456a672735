"""The processes that build a corpus: local ones with seqio, and Apache Beam before them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import extras, subprocesses
from spjax.data.corpora import corpus_files
from spjax.data.token_cache import cache
from spjax.files import DamagedFile, read_json, write_json

# Of the environment with Apache Beam; sentencepiece 0.2.3 demands protobuf 7.
BEAM_NEEDS = "apache-beam google-crc32c seqio tensorflow-text 'sentencepiece<0.2.3'"
STREAMED = "hf:"  # how the source of a corpus begins that `datasets` reads
_SECONDS_BETWEEN_NOTES = 30


def run_workers(
    request: Mapping[str, Any], count: int, lock: int, log: Callable[[str], None]
) -> None:
    """Runs `build_corpus` or `stream_corpus` in several processes until all shards are there.

    Args:
      request: its input, without the numbers of the worker.
      count: number of processes.
      lock: a file descriptor that locks the corpus as long as one of them lives.
      log: called with a line from time to time.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the text cannot be found or used, or seqio and TensorFlow are not installed.
      RuntimeError: a process failed in an unforeseen way.
    """
    is_streamed = str(request["spec"]["source"]).startswith(STREAMED)
    if is_streamed:
        extras.require("hf", "a corpus of Hugging Face", "datasets")
    else:
        extras.require("tfds", "building a corpus", *extras.TFDS_PACKAGES)
    noted = time.monotonic()

    def note_progress() -> None:
        nonlocal noted
        if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
            noted = time.monotonic()
            done = len(list(Path(request["folder"]).glob("shard-*.json")))
            log(f"{done} shards are done ...")

    subprocesses.run(
        f"spjax.data.corpora.{'stream_corpus' if is_streamed else 'build_corpus'}:build",
        [{**request, "worker": number, "workers": count} for number in range(count)],
        "builds the corpus",
        variables=cache.BUILDER_VARIABLES,
        pass_fds=(lock,),
        while_waiting=note_progress,
    )


def _sealed(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is cut short
        return None


class Beam:
    """An Apache Beam pipeline that fills seqio's cache of a corpus, which local processes read."""

    def __init__(self, python: str = "", options: Sequence[str] = (), cache_dir: str = "") -> None:
        """Sets the pipeline's interpreter, options and cache folder.

        Args:
          python: an interpreter with apache-beam; "" for this one.
          options: of the pipeline, such as `--runner=DataflowRunner`; DirectRunner by default.
          cache_dir: folder or URL of seqio's cache, which then stays; "" for one that is removed.
        """
        self.python, self.options = python or sys.executable, list(options)
        self.cache_dir = cache_dir

    def cache(self, spec: dict[str, Any], folder: Path, log: Callable[[str], None]) -> str:
        """Runs the pipeline unless it has run; returns the folder of seqio's caches.

        Raises:
          ValueError: that Python has no Apache Beam.
          RuntimeError: the pipeline failed in an unforeseen way.
        """
        where = self.cache_dir or str(folder)
        seal = folder.parent / "beam.json"  # a pipeline has no half: it is run again, or not at all
        local, task_folder = "://" not in where, Path(where) / spec["task"]
        there = not local or (task_folder / f"info.{spec['split']}.json").is_file()
        if there and _sealed_folder(seal) == where:
            return where
        if local and spec["task"].startswith("spjax_"):  # another's holds other splits too
            shutil.rmtree(task_folder, ignore_errors=True)
        corpus_files.drop_other_shards(folder.parent, 0)  # Beam gives another order each time
        options = self.options or ["--runner=DirectRunner"]
        log(f"caching {spec['name']} with Apache Beam ({' '.join(options)}) ...")
        request = {"spec": spec, "seqio_cache_dir": where, "pipeline_options": options}
        try:
            subprocesses.run(
                "spjax.data.corpora.beam:run",
                [request],
                "runs the Beam pipeline",
                python=self.python,
                variables=cache.BUILDER_VARIABLES,
            )
        except OSError as error:
            raise RuntimeError(f"the Beam pipeline failed: {error}") from error
        except RuntimeError as error:
            if "No module named 'apache_beam'" not in str(error):
                raise
            raise ValueError(
                f"{self.python} has no Apache Beam. It wants an older pyarrow and protobuf than "
                "spjax, so make an environment of its own (python -m venv beam; beam/bin/pip "
                f"install {BEAM_NEEDS}) and give --beam_python=beam/bin/python."
            ) from None
        write_json(seal, {"seqio_cache_dir": where})
        return where


def _sealed_folder(seal: Path) -> str:
    """Returns the cache folder of a finished pipeline, "" if there is none."""
    try:
        return str(read_json(seal).get("seqio_cache_dir", ""))
    except (OSError, DamagedFile):
        return ""
