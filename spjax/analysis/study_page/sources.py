"""Study folders that a page is made of: what they hold, and their results taken together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spjax.analysis import joined, statistics, suite_notes
from spjax.files import DamagedFile, read_bytes, read_json, reason
from spjax.studies.results import RESULTS_FILE, STUDY_FILE, SUMS

NOTES_FILE = "README.md"
_TEXT_BYTES = 200_000  # longer files are linked only
_PRECISION = 1e-6  # points


@dataclass(frozen=True)
class StoredStudy:
    """A study as its folder holds it.

    Attributes:
      name: of the study.
      folder: that `spjax sweep` wrote.
      results: of `statistics.load`.
      run_results: the `result.json` of its run folders that have one, by run key.
      problems: what is unfinished or damaged in the folder, for the reader.
      settings: the text of `study.gin`.
      notes: the text of `README.md`, "" without one.
    """

    name: str
    folder: Path
    results: pd.DataFrame
    run_results: Mapping[str, Mapping[str, Any]]
    problems: Sequence[str]
    settings: str
    notes: str

    def run_folder(self, key: str) -> Path | None:
        """Returns the folder of a run, None where it is not there."""
        folder = self.folder / "runs" / key
        return folder if key and folder.is_dir() else None

    @property
    def has_digests(self) -> bool:
        """Returns whether the results were checked against recorded digests."""
        return (self.folder / SUMS).is_file()


def read(folder: Path, name: str) -> StoredStudy:
    """Reads a study's folder.

    Args:
      folder: of `spjax.studies.results.check_folder`.
      name: of the study.

    Raises:
      ValueError: as `statistics.load`, or a file cannot be read.
    """
    try:
        results = statistics.load(folder)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if str(folder) in text else f"{folder}: {text}") from error
    run_results, problems = _read_runs(folder, results)
    settings, notes = (_read_text(folder / file) for file in (STUDY_FILE, NOTES_FILE))
    return StoredStudy(name, folder, results, run_results, problems, settings, notes)


def merge(studies: Sequence[StoredStudy]) -> tuple[pd.DataFrame, list[str]]:
    """Returns the results of several studies as those of one, and notes on runs that they share.

    Returns:
      The rows and the notes.

    Raises:
      ValueError: as `joined.read`.
    """
    if len(studies) == 1:
        return studies[0].results, []
    folders = [study.folder for study in studies]
    rows, seen = joined.read(folders), set(studies[0].results["key"])
    notes = joined.notes({folder: statistics.read(folder) for folder in folders})
    for study in studies[1:]:
        keys = set(study.results["key"])
        if count := len(keys & seen):
            notes.append(
                f"{count} runs of {study.folder} are in another folder too and count once in each "
                "role."
            )
        seen |= keys
    return rows, notes


def _read_runs(
    folder: Path, results: pd.DataFrame
) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Returns the results of the run folders, and what is wrong with them."""
    scores = {}
    if "key" in results.columns:
        scores = dict(zip(results["key"], results[statistics.SCORE]))
    run_results: dict[str, Mapping[str, Any]] = {}
    states: dict[str, list[str]] = {}
    # One whose name starts with a dot is a copy that was cut off.
    for run_folder in sorted(path for path in folder.glob("runs/[!.]*") if path.is_dir()):
        key = run_folder.name
        try:
            run_results[key] = result = read_json(run_folder / "result.json")
        except FileNotFoundError:
            states.setdefault("not finished", []).append(key)
            continue
        except (OSError, DamagedFile) as error:
            states.setdefault(f"unreadable ({reason(error)})", []).append(key)
            continue
        if key not in scores:
            states.setdefault(f"finished, and not in {RESULTS_FILE}", []).append(key)
        elif not _agrees(result, scores[key]):
            text = f"with other scores in their result.json than in {RESULTS_FILE}"
            states.setdefault(text, []).append(key)
    problems = []
    for state, keys in states.items():
        more = (
            f" and {len(keys) - suite_notes.LISTED} more" if len(keys) > suite_notes.LISTED else ""
        )
        listed = ", ".join(keys[: suite_notes.LISTED])
        problems.append(f"Runs {state}: {len(keys)} ({listed}{more}).")
    return run_results, problems


def _agrees(result: Mapping[str, Any], score: float) -> bool:
    """Returns whether a run's result holds the score of its row, on test or else validation."""
    parts = [result.get(split) for split in ("test", "validation")]
    scores = [part.get("score") for part in parts if isinstance(part, dict)]
    known = [float(value) for value in scores if isinstance(value, (int, float))]
    known = [value for value in known if not math.isnan(value)]
    close = (math.isclose(value, score, rel_tol=0, abs_tol=_PRECISION) for value in known)
    return any(close) or (pd.isna(score) and not known)


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path, _TEXT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"({path.name} cannot be shown: {reason(error)})"
