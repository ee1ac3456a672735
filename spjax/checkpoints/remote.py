"""Checkpoints behind URLs: `hf://` by `spjax.hub`, others file by file through fsspec.

T5X checkpoints under `gs://`, `s3://` and `http://` need nothing of this: TensorStore, which reads
them, knows these itself. The packages here are optional; an error names the one that is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from spjax import extras, hub
from spjax.files import open_regular

# The packages that fsspec asks for, and the extra of pyproject.toml with each.
_PACKAGES = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "http": "http", "https": "http"}


def is_url(path: str | Path) -> bool:
    """Returns whether a checkpoint is outside the local file system."""
    return "://" in str(path)


def local(path: str | Path) -> str:
    """Downloads `hf://org/name[@revision]` to the hub's cache; any other path is returned as it is.

    Raises:
      ValueError: huggingface_hub is not installed, or it cannot find or fetch the repository.
    """
    return hub.model_folder(str(path)) if hub.is_url(path) else str(path)


def join(folder: str | Path, name: str) -> str:
    """Returns the path or URL of a file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}"


def open_binary(path: str | Path) -> BinaryIO:
    """Opens a file for reading; of a URL only what is read is fetched.

    Raises:
      OSError: it cannot be opened, or is no regular file.
      ValueError: a package that its URL needs is not installed.
    """
    if not is_url(path):
        return open_regular(path)
    system, inner = open_system(str(path))
    # Weights are read once, in large pieces: a cache would only hold them twice.
    return system.open(inner, "rb", cache_type="none")


def names(folder: str | Path) -> set[str]:
    """Returns the names of the files in a folder; empty if there is no such folder.

    Raises:
      OSError: it cannot be looked at.
      ValueError: a package that its URL needs is not installed.
    """
    if not is_url(folder):
        return {entry.name for entry in Path(folder).iterdir()} if Path(folder).is_dir() else set()
    system, inner = open_system(str(folder))
    if not system.isdir(inner):
        return set()
    return {path.rstrip("/").rpartition("/")[2] for path in system.ls(inner, detail=False)}


def is_file(path: str | Path) -> bool:
    """Returns whether a file exists; raises as `names`."""
    if not is_url(path):
        return Path(path).is_file()
    system, inner = open_system(str(path))
    return bool(system.isfile(inner))


def open_system(url: str, **options: Any) -> tuple[Any, str]:
    """Returns fsspec's file system of a URL, and the path in it.

    Args:
      url: of a file or folder.
      **options: of fsspec's file systems.

    Raises:
      ValueError: a package that the URL needs is not installed, or the URL is of no known kind.
    """
    scheme = url.partition("://")[0]
    fsspec = extras.import_module("fsspec", _PACKAGES.get(scheme, "gcs"), url)
    try:
        return fsspec.core.url_to_fs(url, **options)
    except ImportError as error:  # it names the package
        extra = _PACKAGES.get(scheme)
        remedy = extras.how_to_install(extra) if extra else "Install it with pip."
        raise ValueError(f"cannot read {url}: {error}. {remedy}") from error
    except ValueError as error:
        raise ValueError(
            f"cannot read {url}: {error}. Use a local path, gs://, s3://, hf:// or http(s)://."
        ) from error
