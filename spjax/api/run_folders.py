"""Run folders: which one a path belongs to, its configuration, and training into it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


def find_run_folder(path: str | Path) -> Path | None:
    """Returns the folder of the finished run that a path names, or that left the file it names.

    Args:
      path: a run folder, its `prompt.npy` or `tuned.safetensors`, or one of its `prompts/*.npy`.

    Returns:
      A folder with `result.json` and `config.gin`; None for anything else.
    """
    from spjax.checkpoints.prompts import run_prompts
    from spjax.studies import run_folder

    folder = Path(path)
    if folder.name in (run_prompts.PROMPT_FILE, run_prompts.TENSORS_FILE):
        folder = folder.parent
    elif folder.parent.name == run_prompts.PROMPTS_FOLDER:
        folder = folder.parent.parent
    finished = (
        run_folder.result(folder) is not None and (folder / run_prompts.CONFIG_FILE).is_file()
    )
    return folder if finished else None


def load_run_config(folder: Path) -> Any:
    """Returns the `Run` that the `config.gin` of a folder describes.

    Relative paths count from where it was trained, if they are still there.

    Raises:
      ValueError: the file cannot be used, is not the one that the result was written with, or the
        task's files are no longer as they were.
    """
    from spjax import config
    from spjax.studies import run_folder

    result = run_folder.result(folder) or {}
    if problem := run_folder.config_problem(folder, result):
        raise ValueError(
            f"{problem}. Put the old content back; or train it as another run, with "
            f"`spjax train --gin_file={folder / 'config.gin'}` and another MODEL_DIR."
        )
    return config.load_stored("Run", folder / "config.gin", str(result.get("directory", "")))


def method_class_of(folder: Path) -> Any:
    """Returns the class of the method of a finished run, None if it is not known here."""
    from spjax import methods
    from spjax.studies import run_folder

    name = (run_folder.result(folder) or {}).get("method")
    return methods.get(name) if name in methods.names() else None


def write_config(name: str, folder: Path, text: str, file: str = "config.gin") -> Any:
    """Writes a configuration into its folder and reads it back, as a later call would.

    Args:
      name: of the configurable, "Run" or "Pretrain".
      folder: of the run; files of another run in it are removed.
      text: from `config.config_str`.
      file: `config.gin`, or the name of a longer run's configuration, which keeps all files.

    Returns:
      What the file configures.
    """
    from spjax import config
    from spjax.files import write_text
    from spjax.studies import run_folder

    if file == "config.gin" and not run_folder.extends(folder, text):
        run_folder.prepare(folder, text)
    else:
        write_text(folder / file, text)
    return config.load_stored(name, folder / file)


def train_in_folder(
    run: Any, folder: Path, on_progress: Callable[[Any], None] | None = None
) -> tuple[dict[str, Any], bool]:
    """Trains a run in its folder, continuing where an earlier call was interrupted.

    Every process of a multi-host run calls this; the primary one writes the files.

    Args:
      run: a `spjax.training.run.Run`.
      folder: holds nothing, or this run, or the same run with fewer steps.
      on_progress: called with a `spjax.training.loop.Progress` a few times a second, in each
        process.

    Returns:
      The content of `result.json`, and whether anything was left to train.

    Raises:
      ValueError: the folder holds another run, data or weights cannot be used, or the package of a
        tracker is not installed.
      StopRequested: by `on_progress`, once a checkpoint of the present step is on disk.
    """
    from spjax import config, multihost
    from spjax.checkpoints.weights import weights
    from spjax.studies import run_folder

    is_primary = multihost.is_primary()
    text = config.config_str(run)
    with run_folder.claim(folder, text) if is_primary else contextlib.nullcontext():
        run.check_contents()
        result, longer = run_folder.result(folder), run_folder.extends(folder, text)
        if result is not None and not longer:
            return result, False
        from spjax.training import loop, run_data, trackers

        trackers.check_installed(run.trackers)
        weights.find(run.model, run.checkpoint)
        run_data.prepare([run])  # before the folder is claimed for this run
        if is_primary and (doubt := run_data.few_examples(run.mixture)):
            _log.warning(doubt)
        name = run_folder.LONGER if longer and result is not None else "config.gin"
        if is_primary:
            run = write_config("Run", folder, text, name)
        (result,) = loop.train([run], [folder], on_progress)
        if is_primary and name == run_folder.LONGER:
            (folder / name).replace(folder / "config.gin")
    return result, True
