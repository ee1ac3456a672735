"""A folder at a URL (gs://, s3://, any of fsspec's), for the files of a study."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spjax.checkpoints import remote
from spjax.files import reason, sync_folder, sync_tree

# Where a file can be created on a condition that one request carries. In other file systems fsspec
# looks first and writes then, which no test of a single process can tell from a condition.
CONDITIONAL = ("s3", "s3a", "gs", "gcs", "file", "local", "memory")
TRANSFER = ".transfer"  # of files on their way to a disk, which a killed process leaves behind
_ON_DISK = ("file", "local")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_in_memory = threading.Lock()  # of this process alone


class StoreError(ValueError):
    """A request to the storage has failed; the text says which, and why."""


class Store:
    """A folder at a URL. Names are relative to it, with "/" between parts.

    Every method raises `StoreError` where the storage does not answer, or refuses; an error of the
    local disk stays the `OSError` that it is.

    Attributes:
      url: without a "/" at the end.
      scheme: what stands before "://".
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
          ValueError: a package that the URL needs is not installed, or its kind is not known.
        """
        self.url, self.scheme = url.rstrip("/"), url.partition("://")[0]
        # Other processes write there too: nothing that was listed once may be believed later.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if self.scheme in _ON_DISK:
            options["auto_mkdir"] = True
        try:
            self._system, root = remote.open_system(self.url, **options)
        except ValueError:
            raise
        except Exception as error:  # of the credentials, in any package
            raise self._problem("open", "", error) from error
        self._root = root.rstrip("/")

    def files(self, under: str = "") -> dict[str, Mapping[str, Any]]:
        """Returns what fsspec knows of each file below a folder, by name; {} without the folder."""
        folder = self._path(under) if under else self._root
        try:
            self._system.invalidate_cache()
            found = self._system.find(folder, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._problem("list", under, error) from error
        return {self._name(path): facts for path, facts in found.items()}

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file, None if there is none."""
        try:
            return self._system.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._problem("read", name, error) from error

    def modified(self, name: str) -> float | None:
        """Returns the time in seconds when a file was written, by the clock of the storage."""
        try:
            self._system.invalidate_cache()
            return self._system.modified(self._path(name)).timestamp()
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._problem("read", name, error) from error

    def create(self, name: str, content: bytes) -> bool:
        """Writes a new file on the condition that there is none of that name yet.

        The condition is a part of the request (S3's `If-None-Match: *`, GCS's
        `ifGenerationMatch=0`, O_EXCL on a disk), so that of several writers at once one succeeds;
        only in file systems of `CONDITIONAL`.

        Returns:
          Whether the file is there with this content.
        """
        try:
            if self.scheme in _ON_DISK:
                self._create_on_disk(name, content)
            elif self.scheme == "memory":
                with _in_memory:
                    self._system.pipe_file(self._path(name), content, mode="create")
            else:
                self._system.pipe_file(self._path(name), content, mode="create")
            return True
        except StoreError:
            raise
        except Exception as error:
            # A request that has succeeded may be repeated where its answer was lost, and is then
            # refused; and not every version of these packages has the same error for that.
            present = None
            with contextlib.suppress(StoreError):
                present = self.read(name)
            if present is None:
                raise self._problem("write", name, error) from error
            return present == content

    def _create_on_disk(self, name: str, content: bytes) -> None:
        """Writes a new file, in full or not at all.

        Raises:
          FileExistsError: it is there.
          StoreError: it cannot be written, such as on a full disk.
        """
        file = self._system.open(self._path(name), "xb")
        try:
            with file:
                file.write(content)
        except OSError as error:
            self.remove(name)  # an empty one would be taken for that of another process
            raise self._problem("write", name, error) from error

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, which replaces one of that name."""
        try:
            self._system.pipe_file(self._path(name), content)
        except Exception as error:
            raise self._problem("write", name, error) from error

    def remove(self, name: str) -> None:
        """Removes a file; it may be gone already."""
        try:
            self._system.rm_file(self._path(name))
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._problem("remove", name, error) from error

    def upload(self, folder: Path, names: Iterable[str], under: str = "") -> None:
        """Uploads files, several at once, and each in full or not at all.

        Args:
          folder: that they are in, on the local disk.
          names: relative to it.
          under: the folder at the URL that they go to.

        Raises:
          FileNotFoundError: one of them is gone from the disk.
        """
        pairs = [(str(folder / name), self._path(join(under, name))) for name in names]
        if not pairs:
            return
        try:
            if self.scheme in _ON_DISK:
                for source, target in pairs:
                    self._replace_on_disk(source, Path(target))
            else:
                self._system.put([pair[0] for pair in pairs], [pair[1] for pair in pairs])
        except Exception as error:
            if gone := [path for path, _ in pairs if not Path(path).exists()]:
                raise FileNotFoundError(gone[0]) from error
            raise self._problem("write to", under, error) from error

    def _replace_on_disk(self, source: str, target: Path) -> None:
        """Copies a file, which gets its name when all of it is on the disk."""
        temporary = Path(self._path(f"{TRANSFER}/{uuid.uuid4().hex}"))
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(source, temporary)
            sync_tree(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Downloads files, several at once, to their names below a local folder.

        Raises:
          OSError: of the local disk.
        """
        chosen = list(names)
        if not chosen:
            return
        try:
            self._system.get(
                [self._path(name) for name in chosen], [str(folder / name) for name in chosen]
            )
        except OSError as error:
            # Whoever reads needs room here alone; packages name the file that is read, or none.
            if error.errno in _FULL:
                error.filename = str(folder)
                raise
            if error.filename and Path(error.filename).is_relative_to(folder):
                raise
            raise self._problem("read from", "", error) from error
        except Exception as error:
            raise self._problem("read from", "", error) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")

    def _problem(self, action: str, name: str, error: Exception) -> StoreError:
        text = " ".join(reason(error).split()) or type(error).__name__
        remedy = "Check that the bucket exists, the credentials of its cloud, and the connection."
        if self.scheme in _ON_DISK:
            remedy = "Check that its disk is there and has room, and that you may write to it."
        return StoreError(f"cannot {action} {join(self.url, name)}: {text.rstrip('.')}. {remedy}")


def join(folder: str, name: str) -> str:
    """Returns the name of a file in a folder; either may be empty."""
    return f"{folder}/{name}".strip("/") if not (folder and name) else f"{folder}/{name}"
