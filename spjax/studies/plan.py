"""The plan of a study: its table of runs, in the order in which workers take them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import config, text_tables
from spjax.studies import cost, run_folder, search
from spjax.studies.study import Arm, Study


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run of a study.

    Attributes:
      key: 12 hexadecimal digits, name of the run's folder.
      arms: names of the arms it belongs to; equal runs of two arms are trained once.
      text: its resolved configuration, in gin.
      group: runs with an equal group share compiled programs, unless the texts of their tasks,
        which have rounded lengths, come to different ones.
      gang: runs with an equal gang can train side by side: they do not change the model's weights
        or use dropout, and model, optimizer (but for its rate) and loss are the same.
      positions: approximate encoder positions of its batch, which decide the width of its gang.
      seconds: estimated time on one core, with its share of its group's compilation.
      labels: columns of tables: model, pretraining_seed, method, prompt_length, init, task, seed
        and learning_rate, which is None where nothing is trained.
      run: the `spjax.training.run.Run` itself.
      settings: by arm, the values of axes without a column, "" where labels tell its runs apart.
    """

    key: str
    arms: tuple[str, ...]
    text: str
    group: tuple[Any, ...]
    gang: str
    positions: int
    seconds: float
    labels: dict[str, Any]
    run: Any = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def folder(self, study_folder: Path) -> Path:
        """Returns the folder of this run's files."""
        return study_folder / "runs" / self.key

    def result(self, study_folder: Path) -> dict[str, Any] | None:
        """Returns `result.json`, None while unfinished, or if the folder is another run's."""
        folder = self.folder(study_folder)
        return run_folder.result(folder) if run_folder.holds(folder, self.text) else None


def expand(
    study: Study,
    overrides: Sequence[str] = (),
    search_paths: Sequence[str | Path] = (),
    folder: Path | None = None,
    study_macros: Sequence[str] = (),
) -> list[RunSpec]:
    """Returns all different runs of a study, in the order of its arms and axes.

    Of an arm with a search these are the runs of the rounds that have been trained in `folder`, and
    of the next one.

    Args:
      study: its arms are parsed one after the other.
      overrides: texts "NAME = value"; each applies to every arm that uses the name.
      search_paths: folders with gin files.
      folder: the study's folder, which searches go on from; None for their first rounds.
      study_macros: names that the study itself uses, for the message on an override that is not.

    Raises:
      ValueError: something unknown or unused is bound, no arm uses an override, or a search cannot
        be made.
    """
    specs: dict[str, RunSpec] = {}
    left = {config.split_binding(text)[0] for text in overrides}
    known: set[str] = set()
    for arm in study.arms:
        try:
            if arm.search is None:
                table = config.product(
                    arm.gin_files, arm.bindings, arm.axes, overrides, search_paths
                )
            else:
                table = _searched(arm, arm.search, overrides, search_paths, folder)
        except ValueError as error:
            raise ValueError(f"arm {arm.name!r}: {_for_arm(str(error))}") from error
        left &= table.unused
        known |= table.known
        keys = [config.run_key(run) for run in table.runs]
        for key, run in zip(keys, table.runs):
            if key not in specs:
                specs[key] = _spec(key, run, arm.name)
            elif arm.name not in specs[key].arms:
                arms = (*specs[key].arms, arm.name)
                specs[key] = dataclasses.replace(specs[key], arms=arms)
        values = dict(zip(reversed(keys), reversed(table.values)))  # the first of equal runs
        searched = ("trial", *arm.search.space) if arm.search else ()
        if arm.search:
            _check_told_apart(arm, {key: specs[key].labels for key in values}, values)
        texts = _settings({key: specs[key].labels for key in values}, values, searched)
        for key, text in texts.items():
            settings = {**specs[key].settings, arm.name: text}
            specs[key] = dataclasses.replace(specs[key], settings=settings)
    config.check_used(left, known, study_macros)
    sizes = Counter(spec.group for spec in specs.values())
    return [
        dataclasses.replace(spec, seconds=spec.seconds + cost.COMPILE_SECONDS / sizes[spec.group])
        for spec in specs.values()
    ]


def _searched(
    arm: Arm,
    of_arm: search.Search,
    overrides: Sequence[str],
    search_paths: Sequence[str | Path],
    folder: Path | None,
) -> config.Product:
    """Returns the runs of a search's rounds, up to the first that is not finished in `folder`."""
    for name in (config.split_binding(text)[0] for text in overrides):
        if name in of_arm.space:
            raise ValueError(
                f"{name} is searched, so it cannot be set; leave it out, or change Search.space."
            )
    draws, tables = search.Draws(of_arm), []
    numbers = itertools.count(1)
    while trials := draws.ask():
        scores = []
        for values, number in zip(trials, numbers):
            axes = {**{name: [value] for name, value in values.items()}, **arm.axes}
            table = config.product(arm.gin_files, arm.bindings, axes, overrides, search_paths)
            runs = tuple(
                dataclasses.replace(run, stop_below=draws.stop_below(place))
                for place, run in enumerate(table.runs)
            )
            trial = [{"trial": number, **values} for values in table.values]
            tables.append(dataclasses.replace(table, runs=runs, values=tuple(trial)))
            if folder is not None:
                places = [(folder / "runs" / config.run_key(run), run) for run in runs]
                scores.append([search.scored(x, config.config_str(run)) for x, run in places])
        known = [[run for run in of_trial if run is not None] for of_trial in scores]
        if folder is None or known != scores:
            break
        draws.tell(known)
    return config.Product(
        tuple(run for table in tables for run in table.runs),
        tuple(values for table in tables for values in table.values),
        frozenset.intersection(*(table.unused for table in tables)),
        frozenset.union(*(table.known for table in tables)),
    )


def _settings(
    labels: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
    searched: Iterable[str] = (),
) -> dict[str, str]:
    """Returns by run key what tells apart the runs of an arm that have equal labels.

    Args:
      labels: by key.
      values: of the arm's axes, by key.
      searched: names of those that tell trials apart, whether they have a label or not.
    """
    alike: dict[tuple[Any, ...], list[str]] = {}
    for key, columns in labels.items():
        alike.setdefault(tuple(columns.values()), []).append(key)
    differing = {
        name
        for keys in alike.values()
        for name, value in values[keys[0]].items()
        if any(values[key][name] != value for key in keys)
    } | set(searched)
    return {
        key: ", ".join(f"{_last(name)}={of[name]}" for name in of if name in differing)
        for key, of in values.items()
    }


def _check_told_apart(
    arm: Arm, labels: Mapping[str, Mapping[str, Any]], values: Mapping[str, Mapping[str, Any]]
) -> None:
    """Demands that results.csv has a column for each axis of a search's arm.

    Raises:
      ValueError: the runs of one trial would be taken for those of several.
    """
    numbered = {key: {**labels[key], "trial": values[key]["trial"]} for key in values}
    if texts := sorted(filter(None, _settings(numbered, values).values())):
        raise ValueError(
            f"arm {arm.name!r}: the runs of a trial differ in a setting that results.csv has no "
            f"column for ({texts[0]}); put it into Search.space instead of Arm.axes."
        )


def _for_arm(message: str) -> str:
    """Returns a message in which an arm's fields stand for the flags of a run."""
    advice = re.search(r"give ((?:--gin\S+, )+)or the like", message)
    if not advice:
        return message
    flags = advice[1].removesuffix(", ").split(", ")
    places = [
        f"{flag.removeprefix('--gin_file=')} to Arm.gin_files"
        if flag.startswith("--gin_file=")
        else f"{flag.removeprefix('--gin.').partition('=')[0]} to Arm.axes or Arm.bindings"
        for flag in flags
    ]
    return message.replace(advice[0], f"add {', '.join(places)}, or the like")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _spec(key: str, run: Any, arm: str) -> RunSpec:
    from spjax.checkpoints.weights import weights
    from spjax.training.gang import gang_key
    from spjax.training.labels import labels_of
    from spjax.training.run_data import lengths_of

    most = lengths_of(run)
    lengths = (most["inputs"], most["targets"])
    slots = run.method.prompt_length
    labels = labels_of(run)
    return RunSpec(
        key=key,
        arms=(arm,),
        text=config.config_str(run),
        group=(labels["model"], labels["method"], labels["prompt_length"], run.batch_size),
        gang=gang_key(run),
        positions=run.batch_size * cost.typical(slots, lengths)[0],
        seconds=cost.run_seconds(run, weights.config_of(run.model, run.checkpoint), lengths),
        labels=labels,
        run=run,
    )


def gangs(specs: Iterable[RunSpec], width: Callable[[RunSpec], int]) -> list[list[RunSpec]]:
    """Groups runs of an equal `RunSpec.gang`, keeping the order.

    Args:
      specs: the runs.
      width: number of runs like this one that should train side by side.
    """
    pools: dict[str, list[list[RunSpec]]] = {}
    result = []
    for spec in specs:
        rows = pools.setdefault(spec.gang, [])
        if not rows or len(rows[-1]) >= min(map(width, [*rows[-1], spec])):
            rows.append([])
            result.append(rows[-1])
        rows[-1].append(spec)
    return result


class Queue:
    """Hands out gangs so that a worker stays within a group, the costliest groups first."""

    def __init__(self, pending: Iterable[list[RunSpec]]) -> None:
        self.groups: dict[tuple[Any, ...], list[list[RunSpec]]] = {}
        for gang in pending:
            self.groups.setdefault(gang[0].group, []).append(gang)

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def take(self, last: tuple[Any, ...] | None, others: Iterable[Any]) -> list[RunSpec] | None:
        """Returns the next gang for a worker, None when nothing is left that is worth taking.

        Args:
          last: group of the worker's previous gang.
          others: groups that other workers are on. Helping one of them means to compile its
            programs again, so it is done only where more than that is left.
        """
        group = last
        if group not in self.groups:
            busy = set(others)
            worth = [
                (name not in busy, left, name)
                for name, rows in self.groups.items()
                if (left := sum(map(seconds, rows))) > cost.COMPILE_SECONDS or name not in busy
            ]
            if not worth:
                return None
            group = max(worth, key=lambda item: item[:2])[2]
        rows = self.groups[group]
        gang = rows.pop(0)
        if not rows:
            del self.groups[group]
        return gang

    def put_back(self, gang: list[RunSpec]) -> None:
        """Returns a gang whose worker died; it is the next of its group."""
        self.groups.setdefault(gang[0].group, []).insert(0, gang)


def seconds(gang: Iterable[RunSpec]) -> float:
    """Returns the estimated time of a gang on one core."""
    return sum(spec.seconds for spec in gang)


def table(specs: Sequence[RunSpec], finished: set[str]) -> str:
    """Formats the plan: one line for each arm, model, method and prompt length."""
    rows: dict[tuple[Any, ...], list[RunSpec]] = {}
    for arm in dict.fromkeys(arm for spec in specs for arm in spec.arms):
        for spec in (spec for spec in specs if arm in spec.arms):
            values = (spec.labels[name] for name in ("model", "method", "prompt_length", "init"))
            rows.setdefault((arm, *values), []).append(spec)
    head = ("arm", "model", "method", "length", "init", "runs", "finished", "left, one core")
    lines: list[tuple[str, ...]] = [head]
    for cell, members in rows.items():
        left = [spec for spec in members if spec.key not in finished]
        done = len(members) - len(left)
        counts = (len(members), done, cost.duration(seconds(left)))
        lines.append(tuple(map(str, (*cell[:3], cell[3] or "-", cell[4] or "-", *counts))))
    return text_tables.render(lines, right=(3, 5, 6, 7))
