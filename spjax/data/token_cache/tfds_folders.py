"""Folders that TensorFlow Datasets has prepared. Imports TensorFlow; see the package's docstring.

They are in the folder named by the environment variable TFDS_DATA_DIR, else in
`~/tensorflow_datasets`, as `<dataset>/<config>/<version>`.
"""

from __future__ import annotations

import contextlib
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from spjax import locks

_log = logging.getLogger(__name__)


def require(name: str) -> None:
    """Prepares a dataset unless it is prepared, which may download it.

    Args:
      name: as TFDS calls it, with the version: `super_glue/boolq:1.0.2`.

    Raises:
      ValueError: it is not there and cannot be made now.
    """
    try:
        builder = tfds.builder(name)
        if not builder.is_prepared():
            with _alone(Path(builder.data_dir_root)):
                _prepare(name)
    except Exception as error:  # whatever a download and a foreign format can fail with
        raise ValueError(_missing(name, error)) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock, since two processes that prepare one dataset spoil each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(folder / ".spjax.lock"):
        yield


def _prepare(name: str) -> None:
    builder = tfds.builder(name)
    if not builder.is_prepared():  # another process may have been faster
        _log.info("preparing %s in %s", name, builder.data_dir)
        _reach(builder)
        builder.download_and_prepare()


def _reach(builder: tfds.core.DatasetBuilder) -> None:
    """Fails at once where there is no network; TFDS would try for three minutes."""
    urls = [url for url in builder.url_infos if url.startswith("http")]
    if urls:
        request = urllib.request.Request(urls[0], method="HEAD")
        with contextlib.suppress(urllib.error.HTTPError):  # an answer, though a refusal
            urllib.request.urlopen(request, timeout=10).close()


def _missing(name: str, error: Exception) -> str:
    dataset, _, version = name.partition(":")
    folder, newest = tfds.core.constants.DATA_DIR, str(tfds.builder(dataset).version)
    told = (
        f"TFDS has no prepared {name} in {folder} (TFDS_DATA_DIR names the folder) and cannot "
        f"prepare it now ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
    )
    if version != newest:
        return told + (
            f"copy {dataset}/{version} from a folder made by an older tensorflow_datasets, since "
            f"this one makes only version {newest}, or take the task of that version"
        )
    told += (
        f"run `tfds build {dataset} --data_dir={folder}` where there is a network, and copy the "
        "folder from there"
    )
    by_hand = tfds.builder_cls(dataset.partition("/")[0]).MANUAL_DOWNLOAD_INSTRUCTIONS
    if by_hand:
        told += f"; files to be fetched by hand go to `--manual_dir`: {' '.join(by_hand.split())}"
    return told
