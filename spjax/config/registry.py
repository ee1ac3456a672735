"""The classes and functions that gin files may bind, under their own names."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import gin

from spjax.config import kinds
from spjax.config.identity import parameters

T = TypeVar("T")

REGISTERED: dict[str, Any] = {}
# A run has one of each; gin files may bind settings of several, of which one is chosen.
ALTERNATIVES = ("spjax.methods.initializers", "spjax.training.optimizers")
_MODULES = (
    "spjax.methods",
    "spjax.training.optimizers",
    "spjax.training.run",
    "spjax.training.waywardness",
    "spjax.data.tasks.file_task",
    "spjax.pretraining.recipe",
)


def configurable(target: T) -> T:
    """Makes a dataclass or function known to gin under its own name; returns it unchanged."""
    built: Any = target
    name = built.__name__
    if name not in REGISTERED:
        hidden = sorted(set(inspect.signature(built).parameters) - parameters(built))
        is_class = isinstance(built, type) and dataclasses.is_dataclass(built)
        builds = kinds.checked(built) if is_class else built
        gin.register(builds, denylist=hidden or None)
        REGISTERED[name] = target
    return target


def by(key: Any, table: Mapping[Any, Any]) -> Any:
    """Returns `table[key]`, for a setting that depends on another one.

    In gin: `Run.steps = @steps/by()`, `steps/by.key = %MODEL_SIZE`, `steps/by.table = {...}`. An
    entry named "default" stands for every other key.

    Raises:
      ValueError: the table has neither the key nor a default, or is none.
    """
    if not isinstance(table, Mapping) or not isinstance(key, Hashable):
        raise ValueError(
            f"`by` has the key {key!r} and the table {table!r}; the key must be a text or a "
            'number and the table a dict, such as TASK_FEATURE_LENGTHS = {"inputs": 512, '
            '"targets": 16}.'
        )
    if key in table:
        return table[key]
    if "default" in table:
        return table["default"]
    raise ValueError(
        f"the table of `by` has no entry for {key!r}, only {', '.join(map(repr, table))}; "
        'add one, or an entry "default".'
    )


@functools.cache
def register_all() -> None:
    """Registers `Run`, `FileTask`, `seqio_task` and the dataclasses of methods and optimizers."""
    from spjax.data.token_cache.seqio_source import seqio_task

    configurable(by)
    configurable(seqio_task)
    for name in _MODULES:
        module = importlib.import_module(name)
        modules = [module]
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if info.name != "base":  # interfaces
                modules.append(importlib.import_module(f"{name}.{info.name}"))
        for source in modules:
            for value in list(vars(source).values()):
                if (
                    isinstance(value, type)
                    and dataclasses.is_dataclass(value)
                    and value.__module__ == source.__name__
                    and not value.__name__.startswith("_")
                ):
                    configurable(value)


def register_methods() -> None:
    """Registers the methods of folders that were added after the first `register_all`."""
    register_all.cache_clear()
    register_all()
