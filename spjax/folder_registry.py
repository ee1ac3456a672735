"""Classes that are registered by the name of their file in a package's folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterable
from typing import Any

from spjax import guesses


def names(path: Iterable[str], helpers: Collection[str] = ()) -> tuple[str, ...]:
    """Returns the names of all modules of a package, but for its helpers.

    Args:
      path: `__path__` of the package.
      helpers: modules that are not registered.
    """
    modules = (module.name for module in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in modules if name not in helpers))


def get(package: str, name: str, known: Collection[str], kind: str) -> Any:
    """Returns the class of a module.

    Args:
      package: its dotted name.
      name: file name without `.py`; the class has the same letters, in any case.
      known: of `names`.
      kind: what the classes are, for the message.

    Raises:
      ValueError: there is no such module; the message lists those there are.
    """
    if name not in known:
        raise ValueError(
            f"unknown {kind} {name!r}; known {kind}s: {', '.join(known)}."
            f"{guesses.did_you_mean(name, known)}"
        )
    module = importlib.import_module(f"{package}.{name}")
    wanted = name.replace("_", "")
    return next(value for key, value in vars(module).items() if key.lower() == wanted)
