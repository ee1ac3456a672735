"""Estimates that claims are judged by, looked up by prompt length, initialization, arm and size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from spjax import methods
from spjax.analysis import arms, prompt_claims, rates, statistics, suite_notes, transfer
from spjax.analysis.resampling import Estimate

ZERO = 1.0  # percent: a lower score counts as none
Table = Mapping[tuple, Estimate | None]


@dataclass(frozen=True)
class Evidence:
    """Estimates of a study.

    The tables have a key for every cell that has a run, and None for a cell of which no seed has
    all tasks.

    Attributes:
      sizes: parameters of the models of all runs, smallest first.
      default: the default prompt length.
      prompts: prompt tuning of the default arm, by length and model.
      full: full fine-tuning, by role and model.
      inits: prompt tuning at the default length, by initialization and model.
      arms: prompt tuning at the default length of other arms, by role and model.
      zeros: share of the runs over span-corruption models that score nothing, by model, in percent.
      transfers: prompts minus full fine-tuning on tasks not trained on, see `transfer.differences`.
      manual: hard prompts, by role and model.
      prompt_facts: measurements on the prompts themselves.
      tasks: that are averaged over.
      notes: on what is left out, for the reader.
    """

    sizes: Mapping[str, int]
    default: int
    prompts: Table
    full: Table = field(default_factory=dict)
    inits: Table = field(default_factory=dict)
    arms: Table = field(default_factory=dict)
    zeros: Mapping[str, Estimate] = field(default_factory=dict)
    transfers: tuple[transfer.Difference, ...] = ()
    manual: Table = field(default_factory=dict)
    prompt_facts: prompt_claims.PromptFacts = prompt_claims.PromptFacts()
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """Returns the models of all runs, smallest first."""
        return list(self.sizes)

    @property
    def lengths(self) -> list[int]:
        """Returns the prompt lengths of the default arm at any size, shortest first."""
        return sorted({length for length, _ in self.prompts})

    def by_model(self, table: Table, key: str | int) -> dict[str, Estimate]:
        """Returns the estimates of one key, by the models that have one, smallest first."""
        estimates = ((model, table.get((key, model))) for model in self.sizes)
        return {model: estimate for model, estimate in estimates if estimate is not None}


def of_results(
    results: pd.DataFrame,
    prompt_facts: prompt_claims.PromptFacts | None = None,
    left_out: str = "",
) -> Evidence:
    """Returns the estimates of a study.

    Args:
      results: rows of results.csv.
      prompt_facts: of `prompt_claims.read`.
      left_out: a task without which to estimate, over the other tasks that all lines of the study
        have; "" for none.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    whole, results = results, statistics.without_task(results, left_out)
    runs = statistics.main_runs(results)
    suite = statistics.suite(runs, _others(statistics.main_runs, whole, left_out))
    counts = statistics.checked(results).groupby("model")["model_parameters"].max()
    sizes = {str(name): int(count) for name, count in counts.sort_values(kind="stable").items()}
    roles = arms.roles(runs)
    prompting = (results["method"] == statistics.PROMPT_TUNING).any()
    default = statistics.default_length(results) if prompting else 0
    prompts, full, of_arms, manual = {}, {}, {}, {}
    for row in suite.cells.itertuples():
        estimate, role = suite.estimates.get((row.line, row.model)), roles.get(row.variant)
        if row.method == statistics.FULL_FINE_TUNING and role is not None:
            full[role, row.model] = estimate
        elif row.method == methods.PAPER_MANUAL and role:
            manual[role, row.model] = estimate
        elif row.method == statistics.PROMPT_TUNING and role == "":
            prompts[row.prompt_length, row.model] = estimate
        elif row.method == statistics.PROMPT_TUNING and row.prompt_length == default and role:
            of_arms[role, row.model] = estimate
    inits, notes = {}, [*suite.notes, *_unjudged(runs, roles)]
    if prompting:
        of_inits = statistics.suite(
            _default_inits(results), _others(_default_inits, whole, left_out)
        )
        inits = dict(of_inits.estimates)
        notes += [note for note in of_inits.notes if note not in notes]
    of_spans = runs["variant"].map(roles) == arms.SPAN_CORRUPTION
    of_spans &= runs["method"] == statistics.PROMPT_TUNING
    return Evidence(
        sizes=sizes,
        default=default,
        prompts=prompts,
        full=full,
        inits=inits,
        arms=of_arms,
        zeros=_zeros(runs[of_spans & (runs["prompt_length"] == default)], suite.tasks),
        transfers=tuple(transfer.differences(runs, roles)),
        manual=manual,
        prompt_facts=prompt_facts or prompt_claims.PromptFacts(),
        tasks=suite.tasks,
        notes=(*notes, *(prompt_facts.lacking.values() if prompt_facts else ())),
    )


def _default_inits(results: pd.DataFrame) -> pd.DataFrame:
    return default_arm(statistics.initialisation_runs(results))


def _others(
    runs_of: Callable[[pd.DataFrame], pd.DataFrame], results: pd.DataFrame, left_out: str
) -> tuple[str, ...] | None:
    """Returns the tasks that a study averages over but one, None where none is left out."""
    if not left_out:
        return None
    return tuple(task for task in statistics.shared_tasks(runs_of(results)) if task != left_out)


def _unjudged(runs: pd.DataFrame, roles: Mapping[str, str]) -> list[str]:
    """Returns a note on variants of the paper's methods that no claim looks at."""
    methods = [statistics.PROMPT_TUNING, statistics.FULL_FINE_TUNING]
    variants = set(runs.loc[runs["method"].isin(methods), "variant"])
    if not (others := sorted(variants - set(roles), key=rates.by_numbers)):
        return []
    judged = sorted(variants & set(roles), key=rates.by_numbers)
    return [
        f"Claims are about {suite_notes.listed(judged)}; not about {suite_notes.listed(others)}."
    ]


def default_arm(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs of arms without a role; all where every arm has one."""
    default = runs["arm"].map(arms.role_of) == ""
    return runs[default] if default.any() else runs


def _zeros(runs: pd.DataFrame, tasks: tuple[str, ...]) -> dict[str, Estimate]:
    """Returns by model the share of runs on these tasks whose score is none, in percent."""
    if runs.empty:
        return {}
    scores = runs[statistics.SCORE]
    shares = (100.0 * (scores < ZERO)).where(scores.notna())
    runs = runs.assign(**{statistics.SCORE: shares, statistics.ITEM_SCORES: None})
    suite = statistics.suite(runs, tasks=tasks)
    return {model: estimate for (_, model), estimate in suite.estimates.items()}
