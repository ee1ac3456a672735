"""Studies: arms, each a product of axes over gin files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import config, validation


@config.configurable
@dataclasses.dataclass(frozen=True)
class Arm:
    """All combinations of some axes over the same gin files.

    Attributes:
      name: of the arm in the results table.
      gin_files: files of a single run, found in the gin search paths.
      axes: values for each varied macro, such as {"MODEL_SIZE": ["pocket_50k"]}.
      bindings: fixed values, by macro or "Configurable.parameter".
    """

    name: str
    gin_files: Sequence[str]
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    bindings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(f"an arm has the name {self.name!r}; set Arm.name to a word.")
        for axis, values in self.axes.items():
            if not values:
                raise ValueError(f"the axis {axis!r} of the arm {self.name!r} has no values.")
        if "" in (*self.axes, *self.bindings):
            raise ValueError(
                f"the arm {self.name!r} binds the name ''; use macros such as 'MODEL_SIZE', or "
                "'Configurable.parameter'."
            )


@config.configurable
@dataclasses.dataclass(frozen=True)
class Study:
    """A table of runs, and the figures and tables drawn from it.

    Attributes:
      name: of the study's folder; letters, digits, "-", "_" and ".".
      arms: at least one.
      figures: names of files in `spjax/analysis/figures/`.
      gang_width: runs trained side by side; 0 for as many as the device has a use for, which is
        measured once (`spjax.studies.calibration`), and 1 on CPU.
    """

    name: str
    arms: Sequence[Arm]
    figures: Sequence[str] = ("score_over_size", "score_over_length")
    gang_width: int = 0

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"study {self.name!r} has the arms {names}; give it one arm or more, each with a "
                "name of its own (Study.arms = [@first/Arm(), @second/Arm()])."
            )
        if not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ValueError(
                f"study name {self.name!r} cannot name a folder; "
                "use letters, digits, '-', '_', '.'."
            )
        validation.whole("Study.gang_width", self.gang_width, 0, validation.MOST_EXAMPLES)


def load_study(
    gin_files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> tuple[Study, list[str]]:
    """Reads a study file.

    Args:
      gin_files: files that bind `Study` and `Arm`.
      overrides: texts "NAME = value" from the command line.
      search_paths: folders with gin files.

    Returns:
      The study, and those overrides that it did not use and that are meant for its runs.

    Raises:
      ValueError: as `config.load`.
    """
    names = {text: config.split_binding(text)[0] for text in overrides}
    study_names = [text for text, name in names.items() if _of_study(name)]
    config.parse(gin_files, study_names, search_paths)
    study = config.build("Study")
    left = config.unused()
    passed_on = {name for name in names.values() if "." not in name}
    config.check_used(left - passed_on)
    return study, [text for text, name in names.items() if text not in study_names or name in left]


def load_stored_study(folder: Path) -> Study:
    """Reads the `study.gin` of a sweep's folder, as data.

    Raises:
      ValueError: as `config.load_stored`.
    """
    return config.load_stored("Study", folder / "study.gin")


def _of_study(name: str) -> bool:
    owner, dot, _ = name.split("/")[-1].partition(".")
    return not dot or owner in ("Study", "Arm")
