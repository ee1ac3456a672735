"""Methods of the user's own, in a folder outside spjax."""

from __future__ import annotations

import os
import re
from pathlib import Path

from spjax import config, methods


def add_methods(folder: str | os.PathLike[str]) -> list[str]:
    """Makes the methods in a folder known, in this process and in those that it starts.

    A file `my_method.py` with a class `MyMethod` is then a method like those of spjax: gin files
    name it as `@MyMethod()`, run folders record it, and sweeps train it. On the command line, set
    the environment variable `SPJAX_METHODS` to the folder.

    Args:
      folder: with one file for each method.

    Returns:
      The names of the methods in the folder.

    Raises:
      ValueError: there is no such folder, or one of its files has the name of a known method, or
        no class of its own name.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise ValueError(f"{path} is no folder; give one with a file for each method.")
    names = sorted(file.stem for file in path.glob("[a-z]*.py"))
    if not names:
        raise ValueError(f"{path} has no Python files; a method is a file such as my_method.py.")
    if str(path) not in methods.__path__:
        known = {*methods.names(), "base", "initializers"}
        if taken := [name for name in names if name in known]:
            raise ValueError(
                f"{path / taken[0]}.py has the name of a method of spjax; give it another name."
            )
        for name in names:
            _check_class(path / f"{name}.py")
        methods.add_folder(str(path))
    for name in names:
        methods.get(name)
    config.register_methods()
    return names


def _check_class(path: Path) -> None:
    classes = re.findall(r"^class (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if path.stem.replace("_", "") not in [name.lower() for name in classes]:
        raise ValueError(
            f"{path} has no class of its own name ({path.stem!r} in letters of any case, without "
            "underscores); the file of a method must define it."
        )
