"""Run folders that are named on the command line, by themselves or by a file in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def folder_of(path: str) -> Path | None:
    """The folder of the finished run that a path names, or that left the file it names.

    Args:
      path: a run folder, its `prompt.npy` or `tuned.safetensors`, or one of its `prompts/*.npy`.

    Returns:
      A folder with `result.json` and `config.gin`; None for anything else.
    """
    from spjax.checkpoints.prompts import prompts
    from spjax.studies import run_folder

    place = Path(path)
    if place.name in (prompts.RUN_FILE, prompts.RUN_TENSORS):
        place = place.parent
    elif place.parent.name == prompts.RUN_PROMPTS:
        place = place.parent.parent
    finished = run_folder.result(place) is not None and (place / prompts.RUN_CONFIG).is_file()
    return place if finished else None


def load(folder: Path) -> Any:
    """The run that the `config.gin` of a folder describes.

    Raises:
      ValueError: the file cannot be used, is not the one that the result was written with, or the
        task's files are no longer as they were.
    """
    from spjax import config
    from spjax.studies import run_folder

    if problem := run_folder.config_problem(folder, run_folder.result(folder) or {}):
        raise ValueError(
            f"{problem}. Put the old content back; or train it as another run, with "
            f"`spjax train --gin_file={folder / 'config.gin'}` and another MODEL_DIR."
        )
    return config.load_stored("Run", folder / "config.gin")


def method_of(folder: Path) -> Any:
    """The class of the method of a finished run, None if nobody knows it."""
    from spjax import methods
    from spjax.studies import run_folder

    name = (run_folder.result(folder) or {}).get("method")
    return methods.get(name) if name in methods.names() else None
