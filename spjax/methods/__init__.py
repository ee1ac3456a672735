"""Tuning methods, one file each; the name of the file is the name of the method.

A method is a Flax module whose parameters are the trainable tree: see `spjax.methods.base.Method`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from spjax import folder_registry

if TYPE_CHECKING:  # names are known without JAX
    from spjax.methods.base import Method

_HELPERS = ("base", "initializers")
# What Lester et al. 2021 compare, as their figures need it.
PAPER, PAPER_FULL, PAPER_MANUAL = "prompt_tuning", "full_fine_tuning", "hard_prompt"
# Folders with further methods, one file each, separated as in PATH.
FOLDERS = "SPJAX_METHODS"
__path__ += [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def add_folder(folder: str) -> None:
    """Adds a folder with further methods, for this process and for those that it starts.

    Args:
      folder: absolute path.
    """
    __path__.append(folder)
    importlib.invalidate_caches()
    known = os.environ.get(FOLDERS, "")
    os.environ[FOLDERS] = f"{known}{os.pathsep}{folder}" if known else folder


def names() -> tuple[str, ...]:
    """Returns the names of all methods: the files of this folder."""
    return folder_registry.names(__path__, _HELPERS)


def get(name: str) -> type[Method]:
    """Returns the class of a method.

    Args:
      name: file name without `.py`; the class has the same letters, in any case.

    Raises:
      ValueError: there is no such method; the message lists those there are.
    """
    chosen: type[Method] = folder_registry.get(__name__, name, names(), "method")
    return chosen


def name_of(method: Method) -> str:
    """Returns the registered name of a method object."""
    return type(method).__module__.rsplit(".", 1)[-1]
