"""Local copies of studies, runs and prompts at URLs, for reading."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax import hub, locks
from spjax.checkpoints import remote
from spjax.checkpoints.prompts import run_prompts
from spjax.files import (
    DamagedFile,
    default_cache_dir,
    file_digest,
    read_json,
    read_sums,
    write_json,
)
from spjax.studies import results
from spjax.studies.lease import FOLDER as LEASE_FOLDER
from spjax.studies.mirror import CHECKPOINTS, Archive, unpack
from spjax.studies.store import TRANSFER, Store, StoreError

_ATTEMPTS, _WAIT_SECONDS = 3, 1.0
_INDEX = ".copy.json"  # what each file was at the URL when it was copied
# What tells one version of a file from the next, in the words of S3, GCS, and other file systems.
_VERSION = ("ETag", "etag", "generation", "md5Hash", "mtime", "created", "LastModified")


def local_copy(path: str | os.PathLike[str]) -> str:
    """Returns the path of a local copy of what a URL names; any other path as it is.

    Only what has changed since the last copy is downloaded. The folders of a study's runs are
    copied without checkpoints, the folder of a single run with them.

    Args:
      path: a local path, `hf://...`, or the URL of a study's folder, of a run's folder, of a file
        that a run has left, of another prompt file, or of an adapter's folder.

    Raises:
      ValueError: there is nothing, the storage cannot be read, or a package is not installed.
    """
    url = os.fspath(path)
    if not remote.is_url(url) or url.startswith(hub.PREFIX):
        return url
    url = url.rstrip("/")
    if list(Store(url).files()) != [""]:
        return str(_copy(url))
    parent, _, name = url.rpartition("/")
    if name in (run_prompts.PROMPT_FILE, run_prompts.TENSORS_FILE):
        return str(_copy(parent) / name)
    above, _, folder = parent.rpartition("/")
    if folder == run_prompts.PROMPTS_FOLDER:
        return str(_copy(above) / folder / name)
    return str(_copy(parent, (name, f"{name}.json")) / name)


def _copy(url: str, only: tuple[str, ...] = ()) -> Path:
    """Copies the folder at a URL, or some files of it; returns the local folder."""
    store, folder = Store(url), _folder(url)
    for attempt in range(1, _ATTEMPTS + 1):  # a sweep may be writing there right now
        try:
            _copy_once(store, folder, only)
        except StoreError as error:
            is_gone = isinstance(error.__cause__, FileNotFoundError)  # since it was listed
            if not is_gone or attempt == _ATTEMPTS:
                raise
        else:
            if _is_whole(folder):
                break
        time.sleep(_WAIT_SECONDS)
    return folder


def _folder(url: str) -> Path:
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return default_cache_dir() / "copies" / digest / url.rpartition("/")[2]


def _is_whole(folder: Path) -> bool:
    """Returns whether the tables of a study have their digests; true of other folders."""
    sums = read_sums(folder / results.SUMS) or {}
    tables = {folder / name: digest for name, digest in sums.items()}
    return all(path.is_file() and file_digest(path) == tables[path] for path in tables)


def _copy_once(store: Store, folder: Path, only: tuple[str, ...]) -> None:
    present = store.files()
    archive = str(Archive.newest(present))
    files = {x: _version(present[x]) for x in present if x in only or not only and _is_copied(x)}
    files = {x: files[x] for x in files if x == archive or not Archive.newest([x])}
    if not files:
        raise ValueError(f"there is nothing at {store.url}; check the name.")
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(folder / ".lock"):
        _update(store, folder, files, bool(only))


def _is_copied(name: str) -> bool:
    parts = name.split("/")
    is_archive = Archive.newest(parts[-1:]) is not None
    return parts[0] not in (LEASE_FOLDER, TRANSFER) and not (is_archive and len(parts) > 1)


def _version(facts: Mapping[str, Any]) -> list[str]:
    return [str(facts.get("size")), *(str(facts[name]) for name in _VERSION if name in facts)]


def _update(store: Store, folder: Path, files: dict[str, list[str]], is_part: bool) -> None:
    """Downloads new and changed files, and removes those that are gone from the URL."""
    try:
        before = read_json(folder / _INDEX)
    except (OSError, DamagedFile):
        before = {}
    changed = [
        name
        for name, version in files.items()
        if before.get(name) != version
        or not Archive.newest([name])
        and not (folder / name).is_file()
    ]
    for left in folder.glob(f"{TRANSFER}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{TRANSFER}.", dir=folder) as temporary:
        store.download(changed, Path(temporary))
        gone = [] if is_part else [name for name in before if name not in files]
        kept = {name: x for name, x in before.items() if name not in (*gone, *changed)}
        write_json(folder / _INDEX, kept)  # until all are in their places
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        for name in changed:
            source = Path(temporary) / name
            if Archive.newest([name]):  # apart, since it has logs too, which are older
                place = Path(temporary) / ".archive"
                place.mkdir()
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
                if not unpack(source.rename(place / name)):
                    del files[name]
                    continue
                name, source = CHECKPOINTS, place / CHECKPOINTS
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, folder / name)
    write_json(folder / _INDEX, kept | files)
