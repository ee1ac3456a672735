"""Lets T5X, Flaxformer and prompt-tuning be imported beside current releases of JAX and Flax.

`SPJAX_T5X_PATH` names folders that hold the packages `t5x`, `flaxformer` and `prompt_tuning`, with
":" between, such as checkouts of their repositories. In tests only: what is put in place here has
the names that those packages ask for when they are imported, and does nothing.
"""

import importlib.util
import os
import sys
import types
import warnings

import pytest

VARIABLE = "SPJAX_T5X_PATH"


def folders():
    """Folders that the variable names."""
    paths = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [os.path.abspath(path) for path in paths if path]


def module(name, *classes):
    """Puts a module with empty classes in place."""
    made = types.ModuleType(name)
    for each in classes:
        setattr(made, each, type(each, (), {}))
    parent, _, last = name.rpartition(".")
    setattr(sys.modules.setdefault(parent, types.ModuleType(parent)), last, made)
    sys.modules[name] = made


def prepare():
    """Puts the folders on the path, and what the packages miss in its place."""
    import flax
    import jax.experimental.pjit
    from jax.sharding import PartitionSpec

    sys.path += [path for path in folders() if path not in sys.path]
    if "airio" not in sys.modules and importlib.util.find_spec("airio") is None:
        module("airio.core", "Task", "Mixture", "DatasetProviderBase", "AirIODatasetIterator")
    if not hasattr(flax, "optim"):  # went in Flax 0.6
        module("flax.optim", "OptimizerDef", "Optimizer", "MultiOptimizer")
    if not hasattr(jax.experimental.pjit, "PartitionSpec"):  # went in JAX 0.8
        jax.experimental.pjit.PartitionSpec = PartitionSpec


def load(*names):
    """Imports modules of the packages; skips the tests where they are not at hand."""
    if not folders() and importlib.util.find_spec("t5x") is None:
        pytest.skip(f"{VARIABLE} names no folder with t5x", allow_module_level=True)
    prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that they import
        loaded = [pytest.importorskip(name, exc_type=ImportError) for name in names]
    return loaded[0] if len(loaded) == 1 else loaded
