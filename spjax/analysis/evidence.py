"""Estimates that claims are judged by, looked up by prompt length, initialization, arm and size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spjax.analysis import statistics, transfer
from spjax.analysis.arms import SPAN_CORRUPTION, role_of
from spjax.analysis.resampling import Estimate

ZERO = 1.0  # percent: a lower score counts as none


@dataclass(frozen=True)
class Evidence:
    """Estimates of a study.

    Attributes:
      sizes: parameters of the models, smallest first.
      default: the default prompt length.
      prompts: prompt tuning of the default arm, by length and model.
      full: full fine-tuning, by role and model.
      inits: prompt tuning at the default length, by initialization and model.
      arms: prompt tuning at the default length of other arms, by role and model.
      zeros: share of the runs over span-corruption models that score nothing, by model, in percent.
      transfers: prompts minus full fine-tuning on tasks not trained on, see `transfer.differences`.
      tasks: that are averaged over.
      notes: on what is left out, for the reader.
    """

    sizes: Mapping[str, int]
    default: int
    prompts: Mapping[tuple[int, str], Estimate]
    full: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    inits: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    arms: Mapping[tuple[str, str], Estimate] = field(default_factory=dict)
    zeros: Mapping[str, Estimate] = field(default_factory=dict)
    transfers: tuple[transfer.Difference, ...] = ()
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """Returns the models that have a prompt of the default arm, smallest first."""
        present = {model for _, model in self.prompts}
        return [model for model in self.sizes if model in present]

    def at(self, length: int, model: str) -> Estimate | None:
        """Returns the score of the default arm at one length and model, None without runs."""
        return self.prompts.get((length, model))

    def line(self, table: Mapping, key: str | int, models: Iterable[str]) -> list[Estimate] | None:
        """Returns the estimates of one key at some models, None where one is missing."""
        estimates = [table.get((key, model)) for model in models]
        return None if None in estimates else [each for each in estimates if each]

    def lengths(self, model: str) -> list[int]:
        """Returns the prompt lengths of a model, shortest first."""
        return sorted(length for length, other in self.prompts if other == model)

    def sizes_with(self, table: Mapping, *keys: str | int) -> list[str]:
        """Returns the models that have an estimate for all keys, smallest first."""
        return [name for name in self.sizes if all((key, name) in table for key in keys)]


def of_results(results: pd.DataFrame, items: Mapping[str, np.ndarray] | None = None) -> Evidence:
    """Returns the estimates of a study.

    Args:
      results: rows of results.csv.
      items: as in `statistics.suite`.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    runs = statistics.main_runs(results)
    suite = statistics.suite(runs, items)
    cells = suite.cells[suite.cells["seeds"] > 0].sort_values(["model_parameters", "model"])
    sizes = dict(zip(cells["model"], cells["model_parameters"]))
    roles = _roles(runs)
    prompting = (results["method"] == statistics.PROMPT_TUNING).any()
    default = statistics.default_length(results) if prompting else 0
    prompts, full, arms = {}, {}, {}
    for row in cells.itertuples():
        estimate, role = suite.estimates[row.line, row.model], roles.get(row.variant)
        if row.method == statistics.FULL_FINE_TUNING and role is not None:
            full[role, row.model] = estimate
        elif row.method == statistics.PROMPT_TUNING and role == "":
            prompts[row.prompt_length, row.model] = estimate
        elif row.method == statistics.PROMPT_TUNING and row.prompt_length == default and role:
            arms[role, row.model] = estimate
    inits, notes = {}, [*suite.notes, *_unjudged(cells, roles)]
    if prompting:
        of_inits = statistics.suite(_default_arm(statistics.initialisation_runs(results)), items)
        inits = dict(of_inits.estimates)
        notes += [note for note in of_inits.notes if note not in notes]
    return Evidence(
        sizes=sizes,
        default=default,
        prompts=prompts,
        full=full,
        inits=inits,
        arms=arms,
        zeros=_zeros(runs),
        transfers=tuple(transfer.differences(results)),
        tasks=suite.tasks,
        notes=tuple(notes),
    )


def _roles(runs: pd.DataFrame) -> dict[str, str]:
    """Returns the role of each variant; of several without one, only the first has the role ""."""
    roles: dict[str, str] = {}
    for _, part in runs.groupby("method"):
        defaults = []
        for variant, arms in part.groupby("variant", sort=True)["arm"]:
            role = next(filter(None, map(role_of, sorted(set(arms)))), "")
            if role:
                roles[variant] = role
            else:
                defaults.append(variant)
        # Variants beyond one differ by what no claim is about.
        if defaults:
            roles[min(defaults, key=lambda name: ("prompts" not in name.split(), name))] = ""
    return roles


def _unjudged(cells: pd.DataFrame, roles: Mapping[str, str]) -> list[str]:
    """Returns a note on variants of the paper's methods that no claim looks at."""
    methods = [statistics.PROMPT_TUNING, statistics.FULL_FINE_TUNING]
    variants = sorted(set(cells.loc[cells["method"].isin(methods), "variant"]) - set(roles))
    if not variants:
        return []
    judged = [name for name, role in roles.items() if not role and name.startswith(tuple(methods))]
    return [f"Claims are about {', '.join(judged)}; not about {', '.join(variants)}."]


def _default_arm(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs of arms without a role; all where every arm has one."""
    default = runs["arm"].map(role_of) == ""
    return runs[default] if default.any() else runs


def _zeros(runs: pd.DataFrame) -> dict[str, Estimate]:
    """Returns by model the share of span-corruption runs whose score is none, in percent."""
    spans = runs[runs["arm"].map(role_of) == SPAN_CORRUPTION]
    spans = spans[spans["method"] == statistics.PROMPT_TUNING]
    if spans.empty:
        return {}
    scores = spans[statistics.SCORE]
    shares = (100.0 * (scores < ZERO)).where(scores.notna())
    suite = statistics.suite(spans.assign(**{statistics.SCORE: shares}))
    return {model: estimate for (_, model), estimate in suite.estimates.items()}
