"""The processes that build a corpus: local ones with seqio, and Apache Beam before them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from spjax import extras
from spjax.data.corpora import corpus_files
from spjax.data.token_cache import cache
from spjax.files import DamagedFile, read_json, write_json

# Of the environment with Apache Beam; sentencepiece 0.2.3 demands protobuf 7.
BEAM_NEEDS = "apache-beam google-crc32c seqio tensorflow-text 'sentencepiece<0.2.3'"
_SECONDS_BETWEEN_NOTES = 30


@dataclasses.dataclass(frozen=True)
class _Worker:
    """A process that builds a part of the shards, and its log files."""

    process: subprocess.Popen[str]
    out: TextIO
    err: TextIO

    def check(self) -> None:
        """Raises an error if the process has failed."""
        if not self.process.poll():
            return
        log, answer = _read(self.err), {}
        with contextlib.suppress(IndexError, ValueError):  # it died without an answer
            answer = json.loads(_read(self.out).splitlines()[-1])
        if "error" in answer:
            raise OSError(answer["error"])
        if "invalid" in answer:
            raise ValueError(answer["invalid"])
        raise RuntimeError(
            f"a process that tokenises ended with status {self.process.returncode}:\n{_tail(log)}"
        )

    def stop(self) -> None:
        """Ends the process, if it is running, and closes its files."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()


def run_workers(
    request: Mapping[str, Any], count: int, lock: int, log: Callable[[str], None]
) -> None:
    """Runs `spjax.data.corpora.build_corpus` in several processes until all shards are there.

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
    extras.require("tfds", "building a corpus", *extras.TFDS_PACKAGES)
    workers: list[_Worker] = []
    noted = time.monotonic()
    try:
        for number in range(count):
            workers.append(_start({**request, "worker": number, "workers": count}, lock))
        while any(worker.process.poll() is None for worker in workers):
            for worker in workers:
                worker.check()
            if time.monotonic() - noted > _SECONDS_BETWEEN_NOTES:
                noted = time.monotonic()
                done = len(list(Path(request["folder"]).glob("shard-*.json")))
                log(f"{done} shards are done ...")
            time.sleep(0.1)
        for worker in workers:
            worker.check()
    finally:
        for worker in workers:  # they live only after a failure or Ctrl-C
            worker.stop()


def _start(request: Mapping[str, Any], lock: int) -> _Worker:
    # Files, not pipes: nobody reads while they work. The worker closes them.
    out, err = (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        for _ in range(2)
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "spjax.data.corpora.build_corpus"],
        stdin=subprocess.PIPE,
        encoding="utf-8",
        stdout=out,
        stderr=err,
        env=cache.builder_environment(),
        pass_fds=(lock,),
    )
    assert process.stdin is not None  # it is a pipe
    with process.stdin as stream:
        stream.write(json.dumps(request))
    return _Worker(process, out, err)


def _read(file: TextIO) -> str:
    file.seek(0)
    return file.read()


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-20:])


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
          RuntimeError: the pipeline failed.
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
        done = subprocess.run(
            [self.python, "-m", "spjax.data.corpora.beam"],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=cache.builder_environment(),
        )
        if "No module named 'apache_beam'" in done.stderr:
            raise ValueError(
                f"{self.python} has no Apache Beam. It wants an older pyarrow and protobuf than "
                "spjax, so make an environment of its own (python -m venv beam; beam/bin/pip "
                f"install {BEAM_NEEDS}) and give --beam_python=beam/bin/python."
            )
        if done.returncode:
            raise RuntimeError(f"the Beam pipeline failed:\n{_tail(done.stderr)}")
        write_json(seal, {"seqio_cache_dir": where})
        return where


def _sealed_folder(seal: Path) -> str:
    """Returns the cache folder of a finished pipeline, "" if there is none."""
    try:
        return str(read_json(seal).get("seqio_cache_dir", ""))
    except (OSError, DamagedFile):
        return ""
