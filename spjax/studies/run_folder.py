"""Folders of studies and runs on disk: locks, finished runs, and disk errors."""

from __future__ import annotations

import ast
import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spjax import config, locks
from spjax.checkpoints.prompts import run_prompts
from spjax.files import DamagedFile, file_digest, read_json, write_text

_log = logging.getLogger(__name__)

LONGER = run_prompts.LONGER_CONFIG_FILE
_PROBE_BYTES = 1 << 20
_DISK_ERRORS = {*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)}
_PATIENCE_SECONDS = 1.0  # the owner of a lock may be just about to end


def result(folder: Path, name: str = "result.json") -> dict[str, Any] | None:
    """Returns the content of a run's result, None if it is missing or, with a warning, damaged.

    Such a run counts as unfinished: its last checkpoint is evaluated again.
    """
    try:
        return read_json(folder / name)
    except OSError:
        return None
    except DamagedFile as error:
        _log.warning("%s; it counts as missing, and the same command makes it again.", error)
        return None


def metrics_problem(folder: Path, result: Mapping[str, Any]) -> str:
    """Returns why a run's `metrics.jsonl` does not belong to its result; "" if it does."""
    return _digest_problem(folder / "metrics.jsonl", result.get("metrics_sha256"))


def config_problem(folder: Path, result: Mapping[str, Any]) -> str:
    """Returns why a run's `config.gin` does not belong to its result; "" if it does."""
    return _digest_problem(folder / "config.gin", result.get("config_sha256"))


def _digest_problem(path: Path, expected: str | None) -> str:
    goes_on = (path.parent / LONGER).exists()  # with more steps: the files are ahead of the result
    if not expected or goes_on or not path.is_file() or file_digest(path) == expected:
        return ""
    return f"{path} is damaged, or was changed: it does not have the digest in result.json"


def warn_of_damage(folder: Path) -> None:
    """Warns of damaged files in a study's run folders, which its tables leave out."""
    for path in sorted(folder.glob("runs/[!.]*/result.json")):
        if problem := metrics_problem(path.parent, result(path.parent) or {}):
            _log.warning("%s. The scores do not come from it.", problem)


def config_text(folder: Path) -> str:
    """Reads a run folder's `config.gin`, "" if there is none."""
    try:
        return (folder / "config.gin").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def holds(folder: Path, text: str) -> bool:
    """Returns whether a folder's `config.gin` is that of the run with this text."""
    return config.identity(config_text(folder)) == config.identity(text)


def extends(folder: Path, text: str) -> bool:
    """Returns whether a run differs from a folder's only in a greater `Run.steps`.

    The learning rate of a step does not depend on the number of steps, and nothing else does.
    """
    existing = config_text(folder)
    if config.differences(existing, text) != ["Run.steps"]:
        return False
    before, after = (
        config.settings(config_text_of)["Run.steps"] for config_text_of in (existing, text)
    )
    return before.isdigit() and int(before) < int(after)


def prepare(folder: Path, text: str) -> None:
    """Makes a run folder with its `config.gin`.

    A folder with the `config.gin` of another run is cleared, but for its lock. Files in a folder
    without one are not spjax's, and stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "config.gin").exists() and not holds(folder, text):
        for path in folder.iterdir():
            # The configuration is replaced last: until then the rest is known to be another's.
            if path.name in (".lock", "config.gin"):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    write_text(folder / "config.gin", text)


@contextlib.contextmanager
def claim(folder: Path, text: str) -> Iterator[None]:
    """Locks a folder that the user has named, for the run with this `config.gin` alone.

    Raises:
      ValueError: the folder holds another run, or files that are no run's; or as `probe`, `lock`.
    """
    _check_owner(folder, text)  # before anything is written to it
    probe(folder)
    with lock(folder):
        _check_owner(folder, text)
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(folder)
            raise


def _check_owner(folder: Path, text: str) -> None:
    elsewhere = "choose another folder with --gin.MODEL_DIR=FOLDER"
    # What a killed process leaves before there is a configuration is hidden.
    visible = folder.iterdir() if folder.is_dir() else ()
    names = sorted(path.name for path in visible if path.name[0] != ".")
    failed_at_once = names == ["config.gin"] and (folder / ".lock").exists()
    if not names or failed_at_once:  # there is nothing to lose
        return
    if "config.gin" not in names:
        raise ValueError(
            f"{folder} holds files that are no run's ({', '.join(names[:3])}"
            f"{', ...' if names[3:] else ''}); {elsewhere}, a new or empty one."
        )
    if not holds(folder, text) and not extends(folder, text):
        existing = config_text(folder)
        names = config.differences(existing, text)
        changed = _changed_contents(existing, text) if "Run.contents" in names else []
        raise ValueError(
            f"{folder} holds another run (see its config.gin): it differs in "
            f"{', '.join(names[:5])}{', ...' if names[5:] else ''}"
            + (f", since the content of {' and '.join(changed)} has changed" if changed else "")
            + f"; {elsewhere}, or delete it."
        )


def _changed_contents(existing: str, text: str) -> list[str]:
    """Returns paths that both of two configurations read, with other content."""
    values = (config.settings(one).get("Run.contents", "()") for one in (existing, text))
    try:
        before, after = (dict(ast.literal_eval(value)) for value in values)
    except (ValueError, SyntaxError, TypeError):
        return []  # edited by hand
    return [path for path in after if before.get(path, after[path]) != after[path]]


def probe(folder: Path) -> None:
    """Makes the folder and writes a megabyte to it, to test the disk.

    Raises:
      ValueError: the folder cannot be made or written, or is a URL.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(folder)):  # a `Path` has one "/" of the two
        raise ValueError(
            f"{str(folder).replace(':/', '://', 1)} is a URL, and this command writes to local "
            "folders only. Only `spjax sweep` takes a URL as its --output_dir; a study may consist "
            "of a single run."
        )
    path = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(path, "wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write to the output folder {folder}: {error.strerror}; free some space, "
            "change its permissions or choose another one with --output_dir or --gin.MODEL_DIR."
        ) from error


def disk_problem(error: BaseException) -> str:
    """Returns the system's words if `error` or its cause is a full or read-only disk, else "".

    That is "REASON: PATH", or "REASON" where the path is not known.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK_ERRORS:
            return f"{os.strerror(seen.errno)}: {seen.filename or ''}".rstrip(": ")
        # TensorStore reports a full disk as a ValueError.
        for reason in (os.strerror(code) for code in sorted(_DISK_ERRORS)):
            if not isinstance(seen, OSError) and reason in str(seen):
                path = re.search(r"""['"](/[^'"]+)['"]""", str(seen))
                return f"{reason}: {path[1] if path else ''}".rstrip(": ")
        seen = seen.__cause__ or seen.__context__
    return ""


def disk_message(problem: str, folder: Path | None = None) -> str:
    """Returns the message for a full or read-only disk.

    Args:
      problem: from `disk_problem`.
      folder: the output folder, named where the path is not known.
    """
    reason, _, path = problem.partition(": ")
    place = path or folder
    location = path or (f"the output folder {folder}" if folder else "a file")
    if reason == os.strerror(errno.EACCES):
        return f"{location} cannot be opened ({reason})"
    if not place:
        return f"{location} cannot be written ({reason})"
    there = Path(place).absolute()
    # os.path's function is also false below a folder that may not be entered.
    there = next(parent for parent in (there, *there.parents) if os.path.exists(parent))
    try:
        free = f"; {shutil.disk_usage(there).free / 2**20:.0f} MiB free"
    except OSError:
        free = ""
    return f"{location} cannot be written ({reason}{free})"


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[int]:
    """Locks the study folder; yields the file descriptor, which workers inherit.

    Because workers share the lock, it is free only when the sweep and all of its workers are
    gone: nobody writes to a run folder that a new sweep has taken over.

    Raises:
      ValueError: another process is at work in the folder; or an error came up and the folder is no
        longer there.
    """
    try:
        with locks.hold(folder / ".lock", _PATIENCE_SECONDS) as descriptor:
            try:
                yield descriptor
            except Exception as error:
                if is_gone(folder, descriptor):
                    raise ValueError(gone_message(folder)) from error
                raise
    except locks.HeldError as error:
        raise ValueError(
            f"spjax is already at work in {folder} ({error}); wait for it, stop it, or choose "
            "another folder with --output_dir or --gin.MODEL_DIR."
        ) from None


def is_gone(folder: Path, descriptor: int) -> bool:
    """Returns whether a folder was renamed or deleted since its lock was taken.

    Args:
      folder: that is locked.
      descriptor: of its lock, from `lock`.
    """
    try:
        return not os.path.samestat(os.stat(folder / ".lock"), os.fstat(descriptor))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def gone_message(folder: Path) -> str:
    """Returns the message for a folder that was renamed or deleted."""
    return (
        f"the output folder {folder} was renamed or deleted while it was written to. If it was "
        "renamed, what was saved is kept in it: the same command with its new name, or its old "
        "name again, continues."
    )
