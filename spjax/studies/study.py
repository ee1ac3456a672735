"""Studies: arms, each a product of axes over gin files."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import config, validation
from spjax.studies import executors
from spjax.studies.executor import Executor
from spjax.studies.search import Search

_OWN = ("", "Study", "Arm", "Search")


@config.configurable
@dataclasses.dataclass(frozen=True)
class Arm:
    """All combinations of some axes over the same gin files.

    Attributes:
      name: of the arm in the results table.
      gin_files: files of a single run, found in the gin search paths.
      axes: values for each varied macro, such as {"MODEL_SIZE": ["pocket_50k"]}.
      bindings: fixed values, by macro or "Configurable.parameter".
      search: settings that Optuna draws, each trial for all combinations of the axes; None for the
        axes alone.
    """

    name: str
    gin_files: Sequence[str]
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    bindings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    search: Search | None = None

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
        searched = set(self.search.space if self.search else ())
        if twice := sorted(searched & {*self.axes, *self.bindings}):
            raise ValueError(
                f"the arm {self.name!r} both searches and sets {twice[0]!r}; leave it out of "
                "Search.space, or out of Arm.axes and Arm.bindings."
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


@config.configurable
def capacity_arms(
    gin_files: Sequence[str],
    tasks: Sequence[str],
    items: Sequence[int],
    model_sizes: Sequence[str],
    numbers_per_item: Sequence[float],
    draws: Sequence[int] = (0,),
    most_soft_tokens: int = 150,
    batch_size: int = 32,
    rates: Mapping[str, float] | None = None,
    steps: Sequence[int] = (1200,),
    seeds: Sequence[int] = (0,),
) -> list[Arm]:
    """Returns an arm for each model, task, number of items K and of steps.

    The lengths are those at which a prompt has so many trained numbers for each item, K times these
    over the width of the model, rounded. Runs of a model can share a gang, whatever K and length.

    Args:
      gin_files: as of an `Arm`.
      tasks: kinds of `spjax.data.tasks.capacity_tasks` and their parameters but for K and draw,
        such as "associations" or "associations:l2".
      items: values of K.
      model_sizes: names of sizes.
      numbers_per_item: trained numbers for each item.
      draws: of words and labels.
      most_soft_tokens: longer prompts are left out.
      batch_size: examples in an update, or all training examples where these are fewer.
      rates: learning rate by model; None leaves it to `gin_files`.
      steps: numbers of updates, each in arms of its own.
      seeds: of runs.

    Raises:
      ValueError: a model or task is not known, or no prompt is short enough.
    """
    from spjax.data.tasks import registry
    from spjax.models.sizes import get_size

    arms = []
    for size, task, count, updates in itertools.product(model_sizes, tasks, items, steps):
        kind, *parameters = task.split(":")
        names = [":".join([kind, f"k{count}", *parameters, f"draw{draw}"]) for draw in draws]
        rounded = {max(1, round(r * count / get_size(size).emb_dim)) for r in numbers_per_item}
        lengths = sorted(length for length in rounded if length <= most_soft_tokens)
        if not lengths:
            raise ValueError(
                f"capacity_arms has no length for {task}, K={count} and {size}: all are beyond "
                f"most_soft_tokens={most_soft_tokens}. Raise it, or make K smaller."
            )
        examples = registry.get(names[0]).sizes
        values: dict[str, Any] = {
            "BATCH_SIZE": min([batch_size, *examples[:1]]),
            "TRAIN_STEPS": updates,
            "STEPS_PER_STAIR": max(1, updates // 20),
        }
        if rates is not None:
            values["LEARNING_RATE"] = config.by(size, rates)
        axes: dict[str, Sequence[Any]] = {
            "MODEL_SIZE": [size],
            "MIXTURE_OR_TASK_NAME": names,
            "SEED": seeds,
            "PROMPT_LENGTH": lengths,
        }
        name = f"{size} {task} k{count} {updates} steps"
        arms.append(Arm(name, gin_files, axes, values))
    return arms


def load_study(
    gin_files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> tuple[Study, list[str]]:
    """Reads a study file.

    Args:
      gin_files: files that bind `Study` and `Arm`; they may bind settings of executors too.
      overrides: texts "NAME = value" from the command line.
      search_paths: folders with gin files.

    Returns:
      The study, and those overrides that it did not use and that are meant for its runs.

    Raises:
      ValueError: as `config.load`.
    """
    of_executors = _register_executors()
    names = {text: config.split_binding(text)[0] for text in overrides}
    study_names = [text for text, name in names.items() if _owner(name) in _OWN]
    config.parse(gin_files, study_names, search_paths)
    study = config.build("Study")
    left = {name for name in config.unused() if _owner(name) not in of_executors}
    passed_on = {name for name in names.values() if "." not in name}
    config.check_used(left - passed_on)
    rest = [text for text, name in names.items() if text not in study_names or name in left]
    return study, [text for text in rest if _owner(names[text]) not in of_executors]


def load_executor(
    name: str,
    gin_files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
) -> Executor:
    """Reads the settings of an executor from a study file; those of others are ignored there.

    Args:
      name: of a file in `spjax/studies/executors/`.
      gin_files: as for `load_study`.
      overrides: as for `load_study`.
      search_paths: folders with gin files.

    Raises:
      ValueError: there is no such executor, a setting is not allowed, or an override is of another.
    """
    chosen, of_executors = executors.get(name).__name__, _register_executors()
    names = {text: config.split_binding(text)[0] for text in overrides}
    bindings = [text for text in overrides if _owner(names[text]) in {"", *of_executors}]
    config.parse(gin_files, bindings, search_paths)
    executor: Executor = config.build(chosen)
    config.check_used(x for x in names.values() if _owner(x) in of_executors - {chosen})
    return executor


def _register_executors() -> set[str]:
    """Makes the executors known to gin, and returns the names of their classes."""
    return {config.configurable(executors.get(name)).__name__ for name in executors.names()}


def load_stored_study(folder: Path) -> Study:
    """Reads the `study.gin` of a sweep's folder, as data.

    Raises:
      ValueError: as `config.load_stored`.
    """
    return config.load_stored("Study", folder / "study.gin")


def _owner(name: str) -> str:
    """Returns the configurable of a binding, "" of a macro."""
    owner, dot, _ = name.split("/")[-1].partition(".")
    return owner if dot else ""
