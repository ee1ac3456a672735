"""Starts T5X's programs beside current releases of JAX and Flax.

`python -m spjax.integrations.t5x_launch train FLAGS` is `python -m t5x.train FLAGS`, with what T5X,
Flaxformer and prompt-tuning import and current releases lack in its place. What is put there has
the names that are asked for at import, and does nothing. docs/t5x.md has the whole installation.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
import types
from collections.abc import Sequence
from typing import Any

PROGRAMS = ("train", "eval", "infer", "main")


def prepare() -> None:
    """Puts in place what T5X, Flaxformer and prompt-tuning import and do not use here."""
    import flax
    import jax.experimental.pjit
    from jax.sharding import PartitionSpec

    if "airio" not in sys.modules and importlib.util.find_spec("airio") is None:
        _add_module("airio.core", "Task", "Mixture", "DatasetProviderBase", "AirIODatasetIterator")
    if not hasattr(flax, "optim"):  # went in Flax 0.6
        _add_module("flax.optim", "OptimizerDef", "Optimizer", "MultiOptimizer")
    pjit: Any = jax.experimental.pjit
    if not hasattr(pjit, "PartitionSpec"):  # went in JAX 0.8
        pjit.PartitionSpec = PartitionSpec


def _add_module(name: str, *classes: str) -> None:
    """Adds a module with empty classes, and its parent where that is missing."""
    module = types.ModuleType(name)
    for each in classes:
        setattr(module, each, type(each, (), {}))
    parent, _, last = name.rpartition(".")
    setattr(sys.modules.setdefault(parent, types.ModuleType(parent)), last, module)
    sys.modules[name] = module


def main(argv: Sequence[str]) -> None:
    """Runs a program of T5X as `python -m` does, so that its gin files find it as `__main__`.

    Args:
      argv: the program's name, then its flags.
    """
    program = argv[0] if argv else ""
    if program not in PROGRAMS:
        sys.exit(f"the program is {program!r}; give {', '.join(PROGRAMS)}, then the flags of T5X.")
    if importlib.util.find_spec("t5x") is None:
        sys.exit(
            "there is no package t5x; clone https://github.com/google-research/t5x and name the "
            "folder in PYTHONPATH (docs/t5x.md)."
        )
    prepare()
    sys.argv = [f"t5x.{program}", *argv[1:]]
    runpy.run_module(f"t5x.{program}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
