"""Executors, one file each; the name of the file is the name of the executor.

See `spjax.studies.executor.Executor`. Importing one of these modules loads no package of an extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spjax import folder_registry

if TYPE_CHECKING:
    from spjax.studies.executor import Executor

DEFAULT = "local"


def names() -> tuple[str, ...]:
    """Returns the names of all executors: the files of this folder."""
    return folder_registry.names(__path__)


def get(name: str) -> type[Executor]:
    """Returns the class of an executor.

    Args:
      name: file name without `.py`; the class has the same letters, in any case.

    Raises:
      ValueError: there is no such executor; the message lists those there are.
    """
    chosen: type[Executor] = folder_registry.get(__name__, name, names(), "executor")
    return chosen
