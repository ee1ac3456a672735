"""Sections of a page that list: cells, runs, what is left out, and the study folders."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from spjax.analysis import statistics, suite_notes
from spjax.analysis.study_page import exclusions, sources
from spjax.analysis.study_page.cells import VIEW, StudyCells, interval_text, seeds_text
from spjax.analysis.study_page.markup import Markup, Number, bullets, element, facts, table
from spjax.analysis.study_page.sources import StoredStudy
from spjax.files import file_digest

_SEVERAL_CODES = (
    "Warning: several versions of the code trained these runs (see the digests below), so that "
    "they may differ by more than their settings."
)
MOST_RUNS = 6000  # rows of the table of runs: two megabytes
_CELL_HEAD = (
    *("way of tuning", "model", "parameters", "score (%)", "std. dev.", "95 % interval"),
    "seeds",
)
_FILES = (
    *(
        "results.csv",
        "results.parquet",
        "items.parquet",
        "table.md",
        "claims.md",
        "study.gin",
        "README.md",
    ),
    "figures",
)


@dataclass(frozen=True)
class Listings:
    """The lists of one page.

    Attributes:
      studies: on the page.
      results: of `sources.merge`.
      cells: of these results.
      folder: of the page, which links are relative to.
    """

    studies: Sequence[StoredStudy]
    results: pd.DataFrame
    cells: StudyCells
    folder: Path

    def cell_tables(self) -> Markup:
        """Returns the tables of cells: the mean over tasks, and each task."""
        scored = self.cells.scored
        first = self.cells.views[0]
        suite = self.cells.suite.cells
        complete = table(
            f"Cells: {first}", _CELL_HEAD, [_cell_row(row) for row in suite.itertuples()]
        )
        rest = scored[scored[VIEW] != first]
        if rest.empty:
            return complete
        rows = [[getattr(row, VIEW), *_cell_row(row)] for row in rest.itertuples()]
        return Markup(
            complete
            + _folded(
                f"Cells of each task ({len(rows)})",
                filterable(table("Cells of each task", ("task", *_CELL_HEAD), rows), "tasks"),
            )
        )

    def run_table(self) -> Markup:
        """Returns the table of runs, with links to their folders."""
        why = exclusions.reasons(self.results, self.cells.runs, self.cells.suite.tasks)
        lines = self.cells.runs["line"].reindex(self.results.index)
        columns = {name: head for name, head in _RUN_COLUMNS.items() if name in self.results}
        if self.results[statistics.PRETRAINING_SEED].nunique() < 2:
            columns.pop(statistics.PRETRAINING_SEED, None)
        if len(self.studies) < 2:
            columns.pop("study", None)
        head = ("run", "way of tuning", *columns.values(), "left out of the averages")
        rows = []
        for index, row in zip(self.results.index[:MOST_RUNS], self.results.to_dict("records")):
            line = lines[index] if isinstance(lines[index], str) else _method_text(row)
            values = [_run_value(name, row[name]) for name in columns]
            rows.append([self._run_link(row), line, *values, why[index]])
        total = len(self.results)
        caption = f"All runs ({total})"
        if total > MOST_RUNS:
            caption = f"The first {MOST_RUNS} of {total} runs; the others are in results.csv"
        return _folded(caption, filterable(table(caption, head, rows), "runs"), id="run-list")

    def exclusions(self, notes: Sequence[str]) -> Markup:
        """Returns what has no part in the averages, and why.

        Args:
          notes: further ones, on what is left out.
        """
        why = exclusions.reasons(self.results, self.cells.runs, self.cells.suite.tasks)
        counts = why[why != ""].value_counts()
        rows = [
            [reason, Number(count, "{:.0f}"), self._examples(why.index[why == reason])]
            for reason, count in counts.items()
        ]
        used = int((why == "").sum())
        text = f"{used} of {len(why)} rows of results are averaged over tasks."
        parts = [element("p", text)]
        if rows:
            head = ("left out because", "rows", "of")
            parts.append(table("Rows left out of the averages over tasks", head, rows))
        problems = [
            f"{study.name}: {problem}" if len(self.studies) > 1 else problem
            for study in self.studies
            for problem in study.problems
        ]
        return Markup("".join([*parts, bullets([*notes, *problems])]))

    def provenance(self) -> Markup:
        """Returns where the results come from: files, digests, models, settings and notes."""
        known = {each for study in self.studies for each in _code_digests(study)}
        warning = [element("p", _SEVERAL_CODES)] if len(known) > 1 else []
        return Markup("\n".join([*warning, *(self._study(study) for study in self.studies)]))

    def _study(self, study: StoredStudy) -> Markup:
        results = study.folder / sources.RESULTS_FILE
        checked = "checked against results.sha256" if study.has_digests else "no digest recorded"
        files = [
            self._link(study.folder / name, name)
            for name in _FILES
            if (study.folder / name).exists()
        ]
        seconds = sum(_seconds(each) for each in study.run_results.values())
        rows: dict[str, object] = {
            "folder": self._link(study.folder, study.folder.name or str(study.folder)),
            "files": Markup(", ".join(files)),
            "rows of results": f"{len(study.results)}",
            "SHA-256 of results.csv": f"{file_digest(results)} ({checked})",
            "run folders with a result": f"{len(study.run_results)}",
            **({"time of these runs": f"{seconds / 3600:.2f} hours"} if seconds else {}),
            "frozen models": Markup("<br>".join(map(str, _models(study)))),
            **({"code of training": code} if (code := _codes(study)) else {}),
            "versions of packages": "not recorded by a sweep"
            + ("; see the notes below" if study.notes else ""),
        }
        notes = [_folded("Notes (README.md)", element("pre", study.notes))] if study.notes else []
        settings = _folded("Settings (study.gin)", element("pre", study.settings), open="")
        return Markup(element("h3", study.name) + facts(rows) + "".join([*notes, settings]))

    def _run_link(self, row: Mapping[str, Any]) -> object:
        key = str(row.get("key", ""))
        folders = (study.run_folder(key) for study in self.studies)
        folder = next(filter(None, folders), None)
        return self._link(folder, key) if folder else key

    def _link(self, path: Path, text: str) -> Markup:
        relative = os.path.relpath(path.absolute(), self.folder.absolute())
        address = quote(os.fsencode(Path(relative).as_posix()))  # also of names that are no text
        return element("a", text, href=f"./{address}{'/' if path.is_dir() else ''}")

    def _examples(self, indices: pd.Index) -> str:
        part = self.results.loc[indices]
        cells = part[["arm", "model", "task"]].drop_duplicates().itertuples(index=False)
        names = [" ".join(filter(None, cell)) for cell in cells]
        more = len(names) - suite_notes.LISTED
        return ", ".join(names[: suite_notes.LISTED]) + (f" and {more} more" if more > 0 else "")


_RUN_COLUMNS = {
    "study": "study",
    "arm": "arm",
    "model": "model",
    "task": "task",
    "init": "start",
    "seed": "seed",
    statistics.PRETRAINING_SEED: "pre-training draw",
    "learning_rate": "learning rate",
    statistics.SCORE: "score (%)",
    "validation_score": "validation (%)",
    "best_step": "best step",
    "steps": "steps",
    "status": "status",
}
_WHOLE = ("seed", statistics.PRETRAINING_SEED, "best_step", "steps")


def filterable(content: Markup, name: str) -> Markup:
    """Returns a table below an input that hides the rows without its words."""
    label = 'Show rows with (words divided by commas; "..." for a whole cell):'
    return element(
        "div",
        element(
            "p",
            element("label", label, for_=f"filter-{name}"),
            " ",
            Markup(f'<input type="search" id="filter-{name}">'),
            " ",
            element("output", for_=f"filter-{name}"),
            class_="filter",
        ),
        content,
        class_="filterable",
    )


def _cell_row(row: Any) -> list[object]:
    return [
        *(row.line, row.model, Number(row.model_parameters, "{:,.0f}"), Number(row.mean)),
        *(Number(row.std, "{:.2f}"), interval_text(row), seeds_text(row)),
    ]


def _run_value(name: str, value: Any) -> object:
    if isinstance(value, str) or name in ("study", "arm", "model", "task", "init", "status"):
        return "" if pd.isna(value) else value
    if pd.isna(value):
        return Number(math.nan)
    return Number(value, "{:.0f}" if name in _WHOLE else "{:g}" if "rate" in name else "{:.1f}")


def _method_text(row: Mapping[str, Any]) -> str:
    length = int(row["prompt_length"])
    return row["method"].replace("_", " ") + (f", P = {length}" if length else "")


def _codes(study: StoredStudy) -> Markup:
    """Returns the digests of the code that trained runs of a study, with the number of runs."""
    counts = _code_digests(study)
    lines = (
        f"SHA-256 {digest} ({count} run{'s' * (count > 1)})" for digest, count in counts.items()
    )
    return Markup("<br>".join(element("span", line) for line in lines))


def _code_digests(study: StoredStudy) -> Counter[str]:
    """Counts the runs that each version of the code trained, in whole or in part."""
    lists = (result.get("code_sha256") for result in study.run_results.values())
    # A text alone, which older results have, names the code that ended the run.
    digests = ([each] if isinstance(each, str) else each or [] for each in lists)
    return Counter(sorted(str(digest) for of_run in digests for digest in of_run))


def _models(study: StoredStudy) -> list[Markup]:
    """Returns for each model its size, and the digests of its weights that the runs record."""
    digests: dict[str, set[str]] = {}
    keys = study.results.get("key", ())
    for key, model in zip(keys, study.results["model"]):  # a run may call its model "auto"
        if digest := study.run_results.get(key, {}).get("base_sha256"):
            digests.setdefault(model, set()).add(str(digest))
    counts = study.results.groupby("model")["model_parameters"].max().sort_values()
    return [
        element(
            "span",
            f"{model}: {count:,} parameters",
            *(f", SHA-256 of the weights {digest}" for digest in sorted(digests.get(model, ()))),
        )
        for model, count in counts.items()
    ]


def _seconds(result: Mapping[str, Any]) -> float:
    value = result.get("seconds")
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _folded(title: str, content: Markup, **attributes: object) -> Markup:
    return element("details", element("summary", title), content, **attributes)
