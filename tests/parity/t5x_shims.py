"""Lets tests import T5X, Flaxformer and prompt-tuning beside current releases of JAX and Flax.

`SPJAX_T5X_PATH` names folders that hold the packages `t5x`, `flaxformer` and `prompt_tuning`, with
":" between, such as checkouts of their repositories.
"""

import importlib.util
import os
import sys
import warnings

import pytest

from spjax.integrations import t5x_launch

VARIABLE = "SPJAX_T5X_PATH"


def folders():
    """Folders that the variable names."""
    paths = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [os.path.abspath(path) for path in paths if path]


def prepare():
    """Puts the folders on the path, and what the packages miss in its place."""
    sys.path += [path for path in folders() if path not in sys.path]
    t5x_launch.prepare()


def load(*names):
    """Imports modules of the packages; skips the tests where they are not at hand."""
    if not folders() and importlib.util.find_spec("t5x") is None:
        pytest.skip(f"{VARIABLE} names no folder with t5x", allow_module_level=True)
    prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that they import
        loaded = [pytest.importorskip(name, exc_type=ImportError) for name in names]
    return loaded[0] if len(loaded) == 1 else loaded
