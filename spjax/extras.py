"""Optional dependencies: the extras of pyproject.toml, and the error where one is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
from pathlib import Path
from types import ModuleType

TFDS_PACKAGES = ("tensorflow", "tensorflow_datasets", "tensorflow_text", "seqio")
_PROJECT = Path(__file__).resolve().parent.parent


def require(extra: str, purpose: str, *packages: str) -> None:
    """Demands packages without importing them.

    Args:
      extra: name of the extra in pyproject.toml that they belong to.
      purpose: what needs them, to begin the message with.
      *packages: names of top-level packages as they are imported.

    Raises:
      ValueError: one of them is not installed; says how to install the extra.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{purpose} needs the package {package}. {how_to_install(extra)}")


def import_module(package: str, extra: str, purpose: str) -> ModuleType:
    """Imports a package of an extra.

    Raises:
      ValueError: it is not installed, or something that it needs is not.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"{purpose} needs the package {package} ({error}). {how_to_install(extra)}"
        ) from error


def how_to_install(extra: str) -> str:
    """Returns the command that installs an extra.

    It names a path or the packages themselves, never `spjax` alone: an index may have another
    project of that name.
    """
    if (_PROJECT / "setup.py").is_file():
        return f"Install the extra {extra!r}: pip install -e '{_PROJECT}[{extra}]'"
    return f"Install the extra {extra!r}: pip install {' '.join(_packages(extra))}"


def _packages(extra: str) -> list[str]:
    """Returns the requirements of an extra, quoted for a shell; extras in it are spelled out."""
    mark = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    packages = []
    for line in importlib.metadata.requires("spjax") or ():
        if mark.search(line):
            requirement = line.partition(";")[0].strip()
            other = re.fullmatch(r"spjax\[(\w+)\]", requirement)
            packages += _packages(other[1]) if other else [f"'{requirement}'"]
    return packages
