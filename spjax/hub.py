"""Repositories of the Hugging Face hub: names, revisions, snapshots, uploads.

`HF_ENDPOINT` names another server than huggingface.co, as for all programs of Hugging Face.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from spjax import extras

PREFIX = "hf://"
DATASETS = "hf://datasets/"
# The bot of the hub that offers safetensors of pickled weights as a pull request.
_CONVERTER = "SFconvertbot"
# Of the model itself, at the head of the repository: adapters have other names.
_SAFETENSORS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
# What a frozen model needs of a repository beside its weights.
_BESIDE = (
    "config.json",
    "spiece.model",
    # Without these a vocabulary that only they describe would be taken for T5's by its size.
    "tokenizer_config.json",
    "added_tokens.json",
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
# What a prompt may consist of: an adapter of PEFT, a prompt file with its provenance.
_PROMPT_FILES = ("*.safetensors", "*.npy", "*.npy.json", "adapter_config.json")
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # "../x" is a path
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository at a revision.

    Attributes:
      name: ORGANIZATION/NAME.
      revision: a branch, tag, commit or `refs/pr/N`; "" for the main branch.
    """

    name: str
    revision: str = ""

    def __str__(self) -> str:
        """Returns its URL."""
        return f"{PREFIX}{self.name}" + (f"@{self.revision}" if self.revision else "")


def is_url(path: str | Path) -> bool:
    """Returns whether a path names a repository of the hub."""
    return str(path).startswith(PREFIX)


def is_name(text: str) -> bool:
    """Returns whether a text has the form of a repository's name, ORGANIZATION/NAME."""
    return bool(_NAME.fullmatch(text))


def parse(url: str) -> Repository:
    """Returns the repository of a URL, `hf://ORGANIZATION/NAME[@REVISION]`.

    Raises:
      ValueError: it names none.
    """
    name, _, revision = url.removeprefix(PREFIX).strip("/").partition("@")
    if not is_url(url) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{url!r} names no repository of the Hugging Face hub; write hf://ORGANIZATION/NAME, "
            "if need be with @REVISION."
        )
    return Repository(name, revision)


def is_commit(revision: str) -> bool:
    """Returns whether a revision is the hash of a commit, which always names the same files."""
    return bool(_COMMIT.fullmatch(revision))


@functools.lru_cache(maxsize=32)
def model_folder(url: str) -> str:
    """Downloads what a frozen model needs of a repository to the hub's cache.

    Of weights these are safetensors. A repository without them may have a pull request by the
    hub's converter, which is taken if it was made from the same pickled weights, and said; else
    the pickled weights are downloaded, for PyTorch to read.

    Raises:
      ValueError: huggingface_hub is not installed, or it cannot find or fetch the repository.
    """
    repository = parse(url)
    folder = _download(repository, (*_BESIDE, *_SAFETENSORS))
    if any(next(Path(folder).glob(name), None) for name in _SAFETENSORS):
        return _noted(repository, folder)
    converted = "" if repository.revision else _conversion(repository)
    if converted:
        at = dataclasses.replace(repository, revision=converted)
        print(
            f"spjax: note: {url} has no safetensors on its main branch; taken from {at}, the "
            f"conversion by {_CONVERTER}",
            file=sys.stderr,
        )
        return _noted(at, _download(at, (*_BESIDE, *_SAFETENSORS)))
    return _noted(repository, _download(repository, (*_BESIDE, *_PICKLES)))


def _noted(repository: Repository, folder: str) -> str:
    """Returns the folder of a download; says its commit, where the revision may move."""
    if not is_commit(repository.revision):
        fixed = dataclasses.replace(repository, revision=Path(folder).name)
        print(
            f"spjax: note: {repository} is now {fixed}, which always names the same",
            file=sys.stderr,
        )
    return folder


@functools.lru_cache(maxsize=32)
def prompt_folder(url: str) -> str:
    """Downloads a prompt or adapter to the hub's cache.

    Raises:
      ValueError: as `model_folder`.
    """
    return _download(parse(url), _PROMPT_FILES)


def prompt_path(path: Path | str) -> Path:
    """Returns the path of a prompt; that of a repository is downloaded.

    Raises:
      ValueError: as `model_folder`.
    """
    return Path(prompt_folder(str(path)) if is_url(path) else path)


@functools.lru_cache(maxsize=32)
def dataset_commit(name: str, revision: str) -> str:
    """Returns the commit of a dataset's revision, "" for its main branch.

    Raises:
      ValueError: as `model_folder`.
    """
    url = f"{DATASETS}{name}" + (f"@{revision}" if revision else "")
    hub = _library(url)
    with _explained(f"find {url}"):
        return str(hub.HfApi().dataset_info(name, revision=revision or None).sha)


def license_of(name: str) -> str:
    """Returns the license that a model's card states, "" where that is not known."""
    hub = _library(f"{PREFIX}{name}")
    try:
        with _explained(f"find {PREFIX}{name}"):
            card = hub.HfApi().model_info(name).card_data
    except ValueError:  # a private model, or one whose name a user has made up
        return ""
    stated = getattr(card, "license", None)
    return stated if isinstance(stated, str) else ""


def upload(folder: Path, url: str, message: str, *, private: bool = False) -> str:
    """Uploads the files of a folder to a repository, which is made if there is none.

    Returns:
      The URL with the new commit.

    Raises:
      ValueError: as `model_folder`, or nobody is logged in who may write there.
    """
    repository = parse(url)
    hub = _library(url)
    with _explained(f"upload to {url}"):
        api = hub.HfApi()
        api.create_repo(repository.name, private=private, exist_ok=True)
        is_public = private and not api.repo_info(repository.name).private
    if is_public:
        raise ValueError(
            f"{url} is there and public, so that nothing was uploaded; make it private on the hub, "
            "or choose another name."
        )
    with _explained(f"upload to {url}"):
        commit = api.upload_folder(
            repo_id=repository.name,
            folder_path=str(folder),
            revision=repository.revision or None,
            commit_message=message,
        )
    return str(dataclasses.replace(repository, revision=str(commit.oid)))


def _download(repository: Repository, patterns: Sequence[str]) -> str:
    hub = _library(str(repository))
    with _explained(f"fetch {repository}"):
        revision = repository.revision or None
        return str(
            hub.snapshot_download(repository.name, revision=revision, allow_patterns=list(patterns))
        )


def _conversion(repository: Repository) -> str:
    """Returns the newest pull request of the hub's converter for these weights.

    "" where there is none or none can be asked for: pickled weights may be in the cache, and a
    mirror of the hub may have no pull requests.
    """
    try:
        return _asked_conversion(repository)
    except ValueError as error:
        print(f"spjax: note: {error}", file=sys.stderr)
        return ""


def _asked_conversion(repository: Repository) -> str:
    hub = _library(str(repository))
    with _explained(f"look for safetensors of {repository}"):
        api = hub.HfApi()
        pickles = _pickles(api, repository.name, None)
        requests = [
            request
            for request in api.get_repo_discussions(repository.name)
            if request.is_pull_request and request.author == _CONVERTER
        ]
        for request in sorted(requests, key=lambda request: -request.num):
            revision = f"refs/pr/{request.num}"
            if pickles and _pickles(api, repository.name, revision) == pickles:
                return revision
    return ""


def _pickles(api: Any, name: str, revision: str | None) -> dict[str, str]:
    """Returns the content's hash of each file of pickled weights."""
    files = api.model_info(name, revision=revision, files_metadata=True).siblings or ()
    return {
        file.rfilename: str(file.blob_id)
        for file in files
        if re.fullmatch(r"pytorch_model.*\.bin", file.rfilename)
    }


def _library(url: str) -> Any:
    return extras.import_module("huggingface_hub", "hub", url)


@contextlib.contextmanager
def _explained(action: str) -> Iterator[None]:
    """Says what an error of the hub or of the connection to it prevents."""
    try:
        yield
    except Exception as error:
        # The hub's own errors are of these kinds, those of a connection its client's.
        if not isinstance(error, (OSError, ValueError)) and not _is_of_client(error):
            raise
        raise ValueError(
            f"cannot {action}: {error} Check name, revision and connection; for a private "
            "repository log in with `hf auth login`."
        ) from error


def _is_of_client(error: Exception) -> bool:
    return type(error).__module__.startswith(("httpx", "httpcore"))  # of either version
