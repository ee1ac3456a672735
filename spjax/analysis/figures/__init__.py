"""The figures, one file each: `draw(results, folder) -> list[Path]`; the file name registers it.

Files whose name starts with an underscore are no figures.
"""

import contextlib
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas as pd

from spjax import guesses


def _import_matplotlib() -> None:
    """Imports matplotlib, which refuses a backend in MPLBACKEND that it cannot import.

    A notebook sets it for all the commands it starts. Figures are drawn without pyplot, so the
    backend does not matter; a notebook's pyplot keeps it.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend is not None:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


_import_matplotlib()  # before a figure does

Draw = Callable[[pd.DataFrame, Path], list[Path]]


class NothingToDraw(ValueError):
    """Results that lack all runs that a figure is about."""


def names() -> tuple[str, ...]:
    """Returns the names of all figures: the files of this folder."""
    files = Path(__file__).parent.glob("[!_]*.py")
    return tuple(sorted(file.stem for file in files))


def get(name: str) -> Draw:
    """Returns the figure's draw function; ValueError, with the known names, for an unknown one."""
    if name not in names():
        raise ValueError(
            f"unknown figure {name!r}: known are {', '.join(names())}; "
            f"a new one is a file in spjax/analysis/figures/.{guesses.did_you_mean(name, names())}"
        )
    return import_module(f"{__name__}.{name}").draw
