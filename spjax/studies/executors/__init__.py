"""Executors, one file each; the name of the file is the name of the executor.

See `spjax.studies.executor.Executor`. Importing one of these modules loads no package of an extra.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spjax.studies.executor import Executor

DEFAULT = "local"


def names() -> tuple[str, ...]:
    """Returns the names of all executors: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def get(name: str) -> type[Executor]:
    """Returns the class of an executor.

    Args:
      name: file name without `.py`; the class has the same letters, in any case.

    Raises:
      ValueError: there is no such executor; the message lists those there are.
    """
    if name not in names():
        raise ValueError(f"unknown executor {name!r}; known executors: {', '.join(names())}.")
    module = importlib.import_module(f"{__name__}.{name}")
    wanted = name.replace("_", "")
    return next(value for key, value in vars(module).items() if key.lower() == wanted)
