"""Parts of the claims about votes, nearest words and manual prompts: C12 to C15.

C12 to C14 rest on what two commands measure on the prompts of a study and leave in its folder:
`python -m experiments.extensions.ensemble` (ensemble.json) and `...interpretation`
(interpretation.json).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spjax.analysis import arms, rates, stated, statistics
from spjax.analysis.criteria import MARGIN, MILD, Part
from spjax.analysis.resampling import ITEMS, LEVELS, Component, Estimate, Sample, mean

Parts = list[Part | str]
Rows = tuple[Mapping[str, Any], ...]
VOTES, WORDS = "ensemble", "interpretation"
LABELS = "class_labels"
KEPT = 50.0  # percent of labels: fewer do not "stay"
LIKE = 2.0  # a factor between the sizes of models of like size
_OF_RUNS = (
    *("arm", "method", "model", "prompt_length", "init", "settings", "task"),
    *(statistics.PRETRAINING_SEED, "learning_rate"),
)
_OF_VOTES = (*_OF_RUNS, "keys", "split", "scores", "validation", "vote", "left_out")
_OF_WORDS = (*_OF_RUNS, "seed", "key", "cluster", "cluster_before")


@dataclass(frozen=True)
class PromptFacts:
    """Measurements on the prompts of a study.

    Attributes:
      votes: rows of ensemble.json.
      words: rows of interpretation.json.
      lacking: by name of the file, why one of some folder is not used, or not in full.
    """

    votes: Rows = ()
    words: Rows = ()
    lacking: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def without(self, task: str) -> "PromptFacts":
        """Returns the measurements on the other tasks."""
        votes, words = (
            tuple(row for row in rows if row["task"] != task) for rows in (self.votes, self.words)
        )
        return PromptFacts(votes, words, self.lacking)


def read(study_folders: Sequence[Path], results: pd.DataFrame) -> PromptFacts:
    """Reads ensemble.json and interpretation.json of some study folders.

    Args:
      study_folders: of which any may have the files.
      results: the rows of results.csv; measurements on other runs, and at learning rates that are
        not chosen (`rates.chosen`), are not used. Those on runs of an earlier folder count once.

    Raises:
      ValueError: a file holds no list of JSON objects.
    """
    if "key" not in results.columns:
        results = results.assign(key="")
    keys = set(results["key"].astype(str))
    chosen = set(rates.chosen(statistics.checked(results))["key"].astype(str))
    usable: dict[str, dict[Any, Mapping[str, Any]]] = {VOTES: {}, WORDS: {}}
    lacking: dict[str, list[str]] = {VOTES: [], WORDS: []}
    for folder in study_folders:
        for name, wanted in ((VOTES, _OF_VOTES), (WORDS, _OF_WORDS)):
            if not (path := Path(folder) / f"{name}.json").is_file():
                continue
            rows = _rows(path)
            again = f"run `python -m experiments.extensions.{name} {folder}` again"
            if not all(set(wanted) <= set(row) for row in rows):
                lacking[name].append(f"{path} is of an older version; {again}")
            elif not all(_runs_of(row) <= keys for row in rows):
                text = f"{path} is about runs that results.csv does not have; {again}"
                lacking[name].append(text)
            else:
                at_chosen = [row for row in rows if _runs_of(row) <= chosen]
                if len(at_chosen) < len(rows):
                    text = f"{path} is in part about learning rates that are not chosen; {again}"
                    lacking[name].append(text)
                for row in at_chosen:
                    usable[name].setdefault((row["task"], _runs_of(row)), row)
    votes, words = (tuple(rows.values()) for rows in usable.values())
    return PromptFacts(votes, words, {name: "; ".join(why) for name, why in lacking.items() if why})


def _runs_of(row: Mapping[str, Any]) -> frozenset[str]:
    """Returns the keys of the runs that a row is about."""
    return frozenset(map(str, row["keys"] if "keys" in row else [row["key"]]))


def _rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}; delete it, or make it again") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds no list of JSON objects; delete it, or make it again")
    return rows


def vote(facts: PromptFacts, largest: str) -> Parts:
    """Returns C12: a vote beats the average prompt, and is no worse than the best on any task."""
    rows = _alike([row for row in facts.votes if row["model"] == largest])
    if not rows:
        return [facts.lacking.get(VOTES, f"{VOTES}.json with a vote at {largest} needed")]
    over_average: dict[str, list[Estimate]] = {}
    over_best: Parts = []
    for row in rows:
        average, best = _leads(row)
        over_average.setdefault(row["task"], []).append(average)
        text = f"vote - best prompt by validation, {row['task']} ({row['split']})"
        if len({other[statistics.PRETRAINING_SEED] for other in rows}) > 1:
            text += f", pre-training draw {row[statistics.PRETRAINING_SEED]}"
        over_best.append(Part(text, best, low=-MARGIN))
    # The models of a task answer the same items.
    of_tasks = [mean(leads) for leads in over_average.values()]
    return [Part(f"vote - average prompt at {largest}", _over_these(of_tasks), low=0), *over_best]


def _leads(row: Mapping[str, Any]) -> tuple[Estimate, Estimate]:
    """Returns the lead of a vote over the average prompt, and over the best by validation."""
    best = int(np.argmax(row["validation"]))
    prompts_NG = np.asarray(row["left_out"]["prompts"], float)
    scores_C = [row["vote"], np.mean(row["scores"]), row["scores"][best]]
    left_out_CG = [row["left_out"]["vote"], prompts_NG.mean(axis=0), prompts_NG[best]]
    blocks = prompts_NG.shape[1]
    # Pseudo-values of the jackknife, whose deviations are those of items.
    items_CG = blocks * np.reshape(scores_C, (-1, 1)) - (blocks - 1) * np.asarray(left_out_CG)
    sample = Sample(np.reshape(scores_C, (-1, 1, 1, 1)), [items_CG])
    voted, average, single = (sample.estimate(cell) for cell in range(3))
    assert voted is not None and average is not None and single is not None  # no score is missing
    return voted - average, voted - single


def _over_these(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the mean over tasks, about these tasks alone; their items vary independently."""
    share = 1 / len(estimates)
    components = {
        (ITEMS, number): Component(share * part.deviations_U, part.degrees)
        for number, estimate in enumerate(estimates)
        for (level, _), part in estimate.components.items()
        if level == ITEMS
    }
    units = dict.fromkeys(LEVELS, 1)
    units[ITEMS] = min(estimate.units[ITEMS] for estimate in estimates)
    return Estimate(float(np.mean([each.value for each in estimates])), components, units)


def _alike(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the rows of the line that most tasks have, one for each task and frozen model.

    Of several votes on prompts of one frozen model the one of the most prompts is left.
    """
    groups: dict[tuple[str, ...], dict[tuple[str, int], Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -len(row["scores"])):
        names = ("arm", "method", "prompt_length", "init", "settings")
        group = groups.setdefault(tuple(str(row[name]) for name in names), {})
        group.setdefault((row["task"], row[statistics.PRETRAINING_SEED]), row)
    most = max(
        groups.values(),
        key=lambda group: (len({task for task, _ in group}), len(group)),
        default={},
    )
    return [most[place] for place in sorted(most)]


def clusters(facts: PromptFacts, largest: str) -> Parts:
    """Returns C13: the nearest words of a token are more alike than before training."""
    rows = _free(facts, largest)
    if not rows:
        return [facts.lacking.get(WORDS, f"{WORDS}.json with prompts at {largest} needed")]
    parts: Parts = []
    for init in sorted({row["init"] for row in rows}):
        change = _change([row for row in rows if row["init"] == init], "cluster", "cluster_before")
        text = f"cosine of nearest words x 100, after - before training, {init} at {largest}"
        parts.append(Part(text, change, low=0))
    return parts


def labels(facts: PromptFacts, largest: str) -> Parts:
    """Returns C14: labels stay near the tokens they start as, and come near with other starts."""
    rows = [row for row in _free(facts, largest) if "labels_near" in row]
    inits = {row["init"] for row in rows}
    if not rows:
        return [facts.lacking.get(WORDS, f"{WORDS}.json with label words at {largest} needed")]
    parts: Parts = []
    if LABELS in inits:
        kept = _mean([row for row in rows if row["init"] == LABELS], "labels_kept")
        text = f"percent of labels near the token that started as them at {largest}"
        parts.append(Part(text, kept, low=KEPT))
    else:
        parts.append(f"prompts that start as {LABELS} at {largest} needed")
    for init in sorted(inits - {LABELS}):
        of_init = [row for row in rows if row["init"] == init]
        change = _change(of_init, "labels_near", "labels_near_before")
        text = f"percent of labels near some token, after - before training, {init} at {largest}"
        parts.append(Part(text, change, low=0))
    if inits <= {LABELS}:
        parts.append(f"prompts of another initialization at {largest} needed")
    return parts


def _free(facts: PromptFacts, model: str) -> list[Mapping[str, Any]]:
    """Returns the rows of prompts that no penalty pulls to a text, one for each run.

    They are of prompt tuning in default arms, of the commonest length and settings. The ablation's
    go before those of another arm, as in `statistics.initialisation_runs`.
    """
    rows = [row for row in facts.words if row["model"] == model and "pull" not in row]
    rows = [row for row in rows if row["method"] == statistics.PROMPT_TUNING]
    rows = [row for row in rows if not arms.role_of(row["arm"])] or rows
    kinds = [(row["prompt_length"], row["settings"]) for row in rows]
    if not kinds:
        return []
    usual = max(sorted(set(kinds)), key=kinds.count)
    alike: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["arm"] != statistics.INITIALISATION_ARM):
        if (row["prompt_length"], row["settings"]) == usual:
            place = ("init", "task", statistics.PRETRAINING_SEED, "seed")
            alike.setdefault(tuple(row[name] for name in place), row)
    return list(alike.values())


def _change(rows: Sequence[Mapping[str, Any]], after: str, before: str) -> Estimate:
    differences = [{**row, "change": row[after] - row[before]} for row in rows]
    return _mean(differences, "change")


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> Estimate:
    """Returns the mean of a share or cosine over tasks, pre-training draws and seeds, times 100."""
    place = ["task", statistics.PRETRAINING_SEED, "seed"]
    values = pd.DataFrame(rows).set_index(place)[name]
    levels = [sorted(set(values.index.get_level_values(level))) for level in place]
    whole = values.reindex(pd.MultiIndex.from_product(levels, names=place))
    scores_TMS = 100 * whole.to_numpy(float).reshape([len(level) for level in levels])
    estimate = Sample(scores_TMS[None]).estimate(0)
    assert estimate is not None  # every task has a row
    return estimate


def manual(
    hard: Mapping[tuple, Estimate | None], sizes: Mapping[str, int], tasks: Sequence[str]
) -> Parts:
    """Returns C15: manual prompts on LM-adapted T5 are far below GPT-3 of like size.

    Args:
      hard: estimates of hard prompts by role of the arm and model.
      sizes: parameters of the models.
      tasks: averaged over.
    """
    scored = {model: hard.get((arms.GPT3, model)) for model in sizes}
    if not any(scored.values()) or not stated.of_super_glue(tasks):
        return [f"an arm `{arms.GPT3}` of hard prompts with GPT-3's texts on SuperGLUE needed"]
    parts: Parts = []
    for model, estimate in scored.items():
        like = [
            point
            for point in stated.GPT3_FEW_SHOT
            if abs(math.log(point.parameters / max(sizes[model], 1))) <= math.log(LIKE)
        ]
        if estimate is None:
            parts.append(f"an arm `{arms.GPT3}` of hard prompts at {model} needed")
        elif not like:
            parts.append(f"no score of GPT-3 of a size like {model} is stated in the paper")
        else:
            lead = dataclasses.replace(estimate, value=estimate.value - like[0].score)
            parts.append(Part(f"manual prompts at {model} - {like[0].name}", lead, high=-MILD))
    return parts
