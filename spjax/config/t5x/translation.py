"""Translates a launch script of T5X, or gin files and bindings of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from spjax.config.t5x import launch_scripts, programs, remainder
from spjax.config.t5x.draft import NOT_NEEDED, Draft, check_values
from spjax.config.t5x.gin_files import Bindings
from spjax.config.t5x.launch_scripts import Launch

_PACKAGES = ("t5x", "prompt_tuning", "flaxformer")  # whose gin files T5X's include


def translate(
    files: Sequence[str | Path],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> Draft:
    """Translates one launch script, or the gin files of one launch.

    Args:
      files: one shell script, or gin files in the order of their flags.
      bindings: texts "NAME=value" that win over all others.
      search_paths: folders with T5X's and prompt-tuning's gin files, which are also looked for in
        the checkout that a file is in and where the packages are installed.

    Raises:
      ValueError: a file is missing or cannot be read, a value is missing, or what is launched has
        no counterpart.
    """
    paths = [Path(name).expanduser() for name in files]
    folders = [Path(name).expanduser() for name in search_paths]
    folders += list(dict.fromkeys(_around(paths)))
    scripts = [path for path in paths if launch_scripts.is_script(path)]
    if scripts and len(paths) > 1:
        raise ValueError(f"{scripts[0]} is a script, which stands alone; give it without others.")
    if scripts:
        launch = launch_scripts.read(scripts[0], folders)
        folders = [*folders, *map(Path, launch.search_paths)]
    else:
        launch = Launch("train", tuple(map(str, paths)), ())
    read = Bindings()
    for name in launch.gin_files:
        read.add_file(name, folders)
    for text in (*launch.bindings, *bindings):
        read.add_flag(text)
    draft = Draft(read, launch.program if scripts else _program(read))
    try:
        if draft.program == "train":
            programs.translate_training(draft)
        else:
            programs.translate_scoring(draft)
        remainder.add_flags(draft, launch)
        remainder.add_remainder(draft)
    except RecursionError as error:
        raise ValueError("a macro is a part of its own value.") from error
    check_values(draft.settings)
    for name in read.standing_in:
        draft.note(NOT_NEEDED, name, "not found here; read as published")
    return draft


def _program(bindings: Bindings) -> str:
    names = {key.name for key in bindings.values}
    if "__main__.evaluate" in names:
        return "eval"
    return "infer" if "__main__.infer" in names else "train"


def _around(paths: Sequence[Path]) -> Iterator[Path]:
    """Yields folders that may hold the packages: above the files, and of installed packages."""
    for path in paths:
        for folder in path.absolute().parents:
            if any((folder / package).is_dir() for package in _PACKAGES):
                yield folder
    yield from _installed()


def _installed() -> Iterator[Path]:
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)  # imports nothing of a top-level package
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield Path(place).parent
