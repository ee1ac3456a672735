"""A study at a URL: a local working folder, and a mirror that threads keep up to date.

At the URL a study looks as it does on a disk, but for two things. `.lease` says who works there.
And a run's checkpoints, with the logs that belong to them, are one file,
`checkpoints-EPOCH-STEP.zip`, which one request writes in full or not at all; the greatest name
counts. The epoch is that of the lease, so that a late request of a process that has lost the lease
replaces no newer checkpoints. A run is finished when its `result.json` is there, which is uploaded
last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import re
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from spjax.files import default_cache_dir, file_digest, read_sums, write_text
from spjax.studies import results, run_folder
from spjax.studies.lease import Lease
from spjax.studies.plan import RunSpec
from spjax.studies.results import RUNS
from spjax.studies.search import VERSION_FILE
from spjax.studies.store import TRANSFER, Store, StoreError

RESULT, CHECKPOINTS = "result.json", "checkpoints"
# Of a run, beside its checkpoints: what its next steps are appended to or found by.
_LOGS = ("config.gin", "*.jsonl", "events.*", "trackers.json")
_LOCAL = (RUNS, "jobs", "logs")  # of a study's folder: not uploaded as they are
_LOOK_SECONDS = 2.0
_CHECKPOINT_SECONDS = 60.0  # between two archives of a run
_TABLE_SECONDS = 60.0
_LONGEST_WAIT = 60.0
_PATIENCE_SECONDS = 180.0  # at the end, without any success
_FILES_AT_ONCE = 2000
_log = logging.getLogger(__name__)


def working_folder(url: str, name: str) -> Path:
    """Returns the local folder of the study `name` at a URL, in the cache folder."""
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return default_cache_dir() / "studies" / digest / name


class Archive(NamedTuple):
    """The name of a run's checkpoints at a URL; later ones are greater."""

    epoch: int
    step: int

    def __str__(self) -> str:
        return f"{CHECKPOINTS}-{self.epoch}-{self.step}.zip"

    @classmethod
    def newest(cls, names: Iterable[str]) -> Archive | None:
        """Returns the greatest of the archives among file names, None if there is none."""
        return next(reversed(cls.all(names)), None)

    @classmethod
    def all(cls, names: Iterable[str]) -> list[Archive]:
        """Returns the archives among file names, in ascending order."""
        matches = (re.fullmatch(rf"{CHECKPOINTS}-(\d+)-(\d+)\.zip", name) for name in names)
        return sorted(cls(int(x[1]), int(x[2])) for x in matches if x)


class Mirror:
    """Keeps the folder of a study at a URL like the local one.

    Attributes:
      store: the folder at the URL.
      behind: the reason why it does not have everything, once the sweep has ended; else "".
    """

    def __init__(self, url: str, folder: Path, specs: Sequence[RunSpec]) -> None:
        self.store, self.folder, self.specs = Store(url), folder, specs
        self.lease = Lease(self.store)
        self.behind = ""
        self._mirrored: set[str] = set()  # keys of finished runs
        self._archives: dict[str, list[Archive]] = {}  # at the URL, in ascending order, by key
        self._archived: dict[str, tuple[int, ...]] = {}  # steps in the newest, by key
        # Versions of results here, and whether they count, by key.
        self._finished: dict[str, tuple[tuple[int, ...], bool]] = {}
        self._times: dict[str, float] = {}  # of archives by key, and of the table
        self._sums: dict[str, str] = {}  # of the table at the URL
        self._archiving = {spec.key: threading.Lock() for spec in specs}
        self._ended = threading.Event()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Mirror]:
        """Takes the lease and downloads; mirrors as long as the block runs; then uploads the rest.

        Raises:
          ValueError: another process works there, or the storage cannot be used.
          OSError: of the local disk.
        """
        run_folder.probe(self.folder)
        self.lease.acquire()
        with self.lease.kept():
            with run_folder.lock(self.folder):
                self._download()
            steps = (self._upload_results, self._upload_checkpoints)
            threads = [threading.Thread(target=self._repeat, args=(x,), daemon=True) for x in steps]
            for thread in threads:
                thread.start()
            try:
                yield self
                self._finish(threads)
            finally:
                self._ended.set()
                for thread in threads:
                    thread.join(_LOOK_SECONDS)

    def problem(self) -> str:
        """Returns why nothing more may be written, "" as long as it may."""
        if not self.lease.lost:
            return ""
        return f"the lease on {self.store.url} was lost to {self.lease.lost}"

    def _repeat(self, step: Callable[[], None]) -> None:
        """Calls a step again and again, less often while the storage does not answer."""
        wait, told = _LOOK_SECONDS, False
        while not self._ended.wait(wait) and not self.lease.lost:
            try:
                step()
            except Exception as error:
                if not told:
                    text = "%s. The sweep goes on; what is missing is uploaded later."
                    _log.warning(text, self._explain(error))
                wait, told = min(2 * wait, _LONGEST_WAIT), True
            else:
                if told:
                    _log.warning("uploads to %s work again.", self.store.url)
                wait, told = _LOOK_SECONDS, False

    def _upload(self, folder: Path, names: Iterable[str], under: str = "") -> None:
        """Uploads files, if nobody else can have the lease."""
        if not self.lease.is_current():
            reason = self.lease.problem or "the storage does not answer"
            unknown = f"the lease on {self.store.url} cannot be renewed: {reason}"
            raise StoreError(self.problem() or unknown)
        self.store.upload(folder, names, under)

    def _upload_results(self) -> None:
        """Uploads finished runs, and once in a while the table."""
        with _every_one() as attempt:
            for spec in self.specs:
                with attempt():
                    if spec.key in self._mirrored or not self._is_finished(spec):
                        continue
                    # Events are flushed a little later than the result.
                    path = spec.folder(self.folder) / RESULT
                    is_new = time.time() - path.stat().st_mtime < _LOOK_SECONDS
                    if self._ended.is_set() or not is_new:
                        self._upload_run(spec)
            with attempt():
                self._upload_tables_at_times()

    def _upload_tables_at_times(self) -> None:
        if time.monotonic() - self._times.get("", -_TABLE_SECONDS) > _TABLE_SECONDS:
            self._upload_tables()
            self._times[""] = time.monotonic()

    def _upload_run(self, spec: RunSpec) -> None:
        """Uploads a finished run, its result last.

        Raises:
          OSError: the local disk has no room for the archive. All else is uploaded.
        """
        folder, place = spec.folder(self.folder), _place(spec)
        problem: OSError | None = None
        try:
            self._upload_archive(spec)
        except OSError as error:
            if not run_folder.disk_problem(error):
                raise
            problem = error
        if not problem and self._archived.get(spec.key, ()) != _steps(folder):
            return  # one is being removed: next time
        self._upload(folder, [name for name in _file_names(folder) if name != RESULT], place)
        if problem:  # earlier checkpoints are not those of this result
            for old in self._archives.pop(spec.key, []):
                self.store.remove(f"{place}/{old}")
        self._upload(folder, [RESULT], place)
        if problem:
            raise problem
        self._mirrored.add(spec.key)

    def _upload_checkpoints(self, pause: float = _CHECKPOINT_SECONDS) -> None:
        """Uploads the checkpoints of runs that are not finished, where there are new ones."""
        with _every_one() as attempt:
            for spec in self.specs:
                is_due = time.monotonic() - self._times.get(spec.key, -pause) >= pause
                if is_due and spec.key not in self._mirrored and not self._is_finished(spec):
                    with attempt():
                        self._upload_archive(spec)

    def _upload_archive(self, spec: RunSpec) -> None:
        """Uploads what a run needs to go on, if that is new, and removes the archive before it.

        Checkpoints never change, and the newest is kept until there is a newer one. Logs are
        written before the checkpoint that they belong to; so they are read after it.
        """
        folder = spec.folder(self.folder)
        with self._archiving[spec.key]:
            steps = _steps(folder)
            if not steps or steps == self._archived.get(spec.key):
                return
            archive = Archive(self.lease.epoch, steps[-1])
            with self._temporary() as temporary:
                try:
                    for step in steps:
                        name = f"{CHECKPOINTS}/{step}"
                        shutil.copytree(folder / name, temporary / name, copy_function=_link)
                except OSError:
                    if _steps(folder) == steps:
                        raise
                if _steps(folder) != steps:  # one of them was removed, or is about to be
                    return
                _zip(temporary, folder, temporary / str(archive))
                self._upload(temporary, [str(archive)], _place(spec))
            before = [x for x in self._archives.get(spec.key, []) if x != archive]
            self._archives[spec.key], self._archived[spec.key] = [archive], steps
            self._times[spec.key] = time.monotonic()
            if self.lease.is_current():
                for old in before:
                    self.store.remove(f"{_place(spec)}/{old}")

    def _upload_tables(self) -> None:
        """Uploads the results table, if it is new and its parts belong together at the moment."""
        with self._temporary() as temporary:
            try:
                sums = read_sums(self.folder / results.SUMS)
                if sums is None or sums == self._sums:
                    return
                version = [VERSION_FILE] if (self.folder / VERSION_FILE).exists() else []
                for name in (results.STUDY_FILE, results.SUMS, *sums, *version):
                    shutil.copyfile(self.folder / name, temporary / name)
                if all(file_digest(temporary / name) == sums[name] for name in sums):
                    self._upload_study(temporary)
                    self._sums = sums
            except FileNotFoundError:
                pass  # it is being written

    def _upload_study(self, folder: Path) -> None:
        """Uploads the files of a study that belong to no run, the digests of its tables last."""
        names = [name for name in _file_names(folder) if name.partition("/")[0] not in _LOCAL]
        self._upload(folder, [name for name in names if name != results.SUMS])
        self._upload(folder, [name for name in names if name == results.SUMS])
        if results.SUMS not in names:  # the disk was full: those at the URL are of other tables
            self.store.remove(results.SUMS)
        if not (folder / results.ITEMS).exists():
            self.store.remove(results.ITEMS)

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        """Uploads what is missing, with patience, and says what could not be uploaded."""
        self._ended.set()
        for thread in threads:
            thread.join()
        if missing := self._missing():
            print(f"Uploading {missing} runs to {self.store.url} ...", flush=True)
        last, wait = time.monotonic(), _LOOK_SECONDS
        while not self.lease.lost:
            try:
                with _every_one() as attempt:
                    with attempt():
                        self._upload_results()
                    with attempt():
                        self._upload_checkpoints(0.0)
                    with attempt():
                        self._upload_study(self.folder)
                if not self._missing():
                    return
                reason = "they change while they are read"
            except Exception as error:
                reason = self._explain(error)
            if self._missing() != missing:  # it goes on
                missing, last, wait = self._missing(), time.monotonic(), _LOOK_SECONDS
            if time.monotonic() - last > _PATIENCE_SECONDS:
                self.behind = (
                    f"{self.store.url} is behind ({missing} finished runs are not there): "
                    f"{reason}. Nothing is lost: everything is in {self.folder}, and the same "
                    "command on this machine uploads it."
                )
                return
            _log.warning("%s. Trying again for some minutes ...", reason)
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        self.behind = f"{self.problem()}; this process has not written there since."

    def _explain(self, error: Exception) -> str:
        text = str(error).rstrip(".")
        if isinstance(error, StoreError):  # of the disk at the URL too
            return text
        if problem := run_folder.disk_problem(error):
            return run_folder.disk_message(problem, self.folder)
        return f"{type(error).__name__}: {text}"

    def _missing(self) -> int:
        """Returns the number of runs that are finished here and not at the URL."""
        rest = [spec for spec in self.specs if spec.key not in self._mirrored]
        return sum(self._is_finished(spec) for spec in rest)

    def _is_finished(self, spec: RunSpec) -> bool:
        """Returns whether a run is finished here; each version of its result is read once."""
        try:
            state = os.stat(spec.folder(self.folder) / RESULT)
        except FileNotFoundError:
            return False
        version = state.st_ino, state.st_mtime_ns, state.st_size
        if self._finished.get(spec.key, ((), False))[0] != version:
            self._finished[spec.key] = version, spec.result(self.folder) is not None
        return self._finished[spec.key][1]

    def _download(self) -> None:
        """Downloads finished runs, and the checkpoints of others that are ahead of those here."""
        for left in self.folder.glob(f"{TRANSFER}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        for name in self.store.files(TRANSFER):
            self.store.remove(name)
        if (began := self.store.read(VERSION_FILE)) is not None:
            write_text(self.folder / VERSION_FILE, began.decode(errors="replace"))
        present: dict[str, dict[str, int]] = {}
        for name, facts in self.store.files(RUNS).items():
            _, key, rest = [*name.split("/", 2), "", ""][:3]
            present.setdefault(key, {})[rest] = facts["size"]
        choices = {spec.key: self._choices(spec, present.get(spec.key, {})) for spec in self.specs}
        while wanted := {key: names.pop(0) for key, names in choices.items() if names}:
            print(f"Downloading {len(wanted)} runs from {self.store.url} ...", flush=True)
            batch: dict[str, list[str]] = {}
            for key, names in wanted.items():
                batch[key] = names
                if sum(map(len, batch.values())) >= _FILES_AT_ONCE:
                    self._download_runs(batch)
                    batch = {}
            self._download_runs(batch)
            done = self._mirrored | self._archived.keys()
            choices = {key: choices[key] for key in wanted if key not in done}

    def _choices(self, spec: RunSpec, names: Mapping[str, int]) -> list[list[str]]:
        """Returns what to download of a run: the first that is not damaged.

        Args:
          spec: of the run.
          names: of its files at the URL, with their sizes.
        """
        archives = self._archives[spec.key] = Archive.all(names)
        if spec.result(self.folder) is not None:
            folder = spec.folder(self.folder)
            steps = _steps(folder)
            has_checkpoints = not steps or bool(archives) and archives[-1].step >= steps[-1]
            if names.get(RESULT) == (folder / RESULT).stat().st_size and has_checkpoints:
                self._mirrored.add(spec.key)
                self._remove_older_archives(spec.key)
            return []
        files = [name for name in names if not Archive.newest([name])]
        last = max(_steps(spec.folder(self.folder)), default=-1)
        newer = itertools.takewhile(lambda x: x.step > last, reversed(archives))
        return [files] * (RESULT in names) + [[str(archive)] for archive in newer]

    def _remove_older_archives(self, key: str) -> None:
        """Removes archives that a killed process has left, once the newest is known to be whole."""
        for archive in self._archives[key][:-1]:
            self.store.remove(f"{RUNS}/{key}/{archive}")
        self._archives[key] = self._archives[key][-1:]

    def _download_runs(self, wanted: dict[str, list[str]]) -> None:
        """Downloads files of runs, and puts each folder that is whole in its place."""
        by_key = {spec.key: spec for spec in self.specs}
        with self._temporary() as temporary:
            names = [f"{RUNS}/{key}/{name}" for key in wanted for name in wanted[key]]
            self.store.download(names, temporary)
            for key in wanted:
                source, target = temporary / RUNS / key, by_key[key].folder(self.folder)
                archive = Archive.newest(wanted[key])
                if archive and not unpack(source / str(archive)):
                    continue
                if not archive and by_key[key].result(temporary) is None:
                    continue  # what is here, or the checkpoints at the URL, go on
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    shutil.rmtree(target)
                os.rename(source, target)
                if archive:
                    self._archived[key] = _steps(target)
                else:
                    self._mirrored.add(key)
                if archive in (None, *self._archives[key][-1:]):
                    self._remove_older_archives(key)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=f"{TRANSFER}.", dir=self.folder) as folder:
            yield Path(folder)


@contextlib.contextmanager
def _every_one() -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Gives contexts whose errors keep none of the next ones back; raises the first at the end."""
    errors: list[Exception] = []

    @contextlib.contextmanager
    def attempt() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            errors.append(error)

    yield attempt
    if errors:
        raise errors[0]


def unpack(archive: Path) -> bool:
    """Replaces an archive by what is in it; returns whether it could be read.

    Raises:
      OSError: of the disk.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            file.extractall(archive.parent)
    # Of other bits `zipfile` makes other methods, passwords, and places before the file's begin.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        _log.warning("%s is damaged and not used: %s", archive.name, error)
        return False
    archive.unlink()
    return True


def _place(spec: RunSpec) -> str:
    return f"{RUNS}/{spec.key}"


def _steps(folder: Path) -> tuple[int, ...]:
    """Returns the steps of a run's checkpoints, in ascending order."""
    try:
        return tuple(sorted(int(x) for x in os.listdir(folder / CHECKPOINTS) if x.isdecimal()))
    except FileNotFoundError:
        return ()


def _file_names(folder: Path) -> list[str]:
    """Returns the files in a folder, relative to it, without checkpoints and hidden ones."""
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [x for x in folders if x[0] != "." and "checkpoint" not in x]
        names += [Path(parent, x).relative_to(folder).as_posix() for x in files if x[0] != "."]
    return sorted(names)


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where the file system cannot do that."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _zip(snapshot: Path, folder: Path, archive: Path) -> None:
    """Writes an archive of a snapshot's checkpoints, and then of the present logs of its run."""
    with zipfile.ZipFile(archive, "w", strict_timestamps=False) as file:
        for path in sorted((snapshot / CHECKPOINTS).rglob("*")):
            file.write(path, path.relative_to(snapshot))
        for pattern in _LOGS:
            for path in sorted(folder.glob(pattern)):
                file.write(path, path.name)
