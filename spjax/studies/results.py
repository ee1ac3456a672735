"""The results table: one row for each arm and finished run, read from the run folders."""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spjax import guesses
from spjax.files import DamagedFile, replacing, write_sums, write_text

if TYPE_CHECKING:  # tables are read without JAX
    from spjax.studies.plan import RunSpec

_log = logging.getLogger(__name__)
STUDY_FILE, RESULTS_FILE, RUNS = "study.gin", "results.csv", "runs"  # of a study's folder
SUMS, ITEMS = "results.sha256", "items.parquet"

# No wall times: the same runs give the same bytes, however often they were interrupted.
COLUMNS: dict[str, type] = {
    "study": str,
    "arm": str,
    "key": str,
    "model": str,
    "model_parameters": int,
    "pretraining_seed": int,
    "task": str,
    "method": str,
    "prompt_length": int,
    "init": str,
    "settings": str,
    "seed": int,
    "learning_rate": float,
    "trainable_parameters": int,
    "stored_parameters": int,
    "best_step": int,
    "steps": int,
    "status": str,
    "validation_score": float,
    "test_score": float,
    "majority_score": float,
    "ceiling": float,
    "validation_metrics": str,
    "test_metrics": str,
    "transfer_metrics": str,
}


_PARAMETERS = ("model_parameters", "trainable_parameters", "stored_parameters")


def check_folder(folder: Path, needed: str = RESULTS_FILE) -> None:
    """Demands that a folder is that of a study.

    Args:
      folder: that a sweep should have written.
      needed: what has to be there beside `study.gin`: `RESULTS_FILE` or `RUNS`.

    Raises:
      ValueError: it is not; says what is missing.
    """
    wanted = "give a folder that `spjax sweep` has written"
    if not folder.exists():
        meant = guesses.did_you_mean_path(folder)
        raise ValueError(f"there is no folder {folder}: {wanted}.{meant}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: {wanted}.")
    if not (folder / STUDY_FILE).is_file():
        raise ValueError(f"{folder} has no {STUDY_FILE}, so it is no study folder: {wanted}.")
    if needed == RUNS and not (folder / RUNS).is_dir():
        raise ValueError(f"the study in {folder} has no folder {RUNS}, so no run can be reused.")
    if needed == RESULTS_FILE and not (folder / RESULTS_FILE).is_file():
        raise ValueError(
            f"the study in {folder} has no {RESULTS_FILE}: none of its runs has finished yet. Let "
            "`spjax sweep` go on until one has."
        )


def rows(study: str, specs: Sequence[RunSpec], folder: Path) -> list[dict[str, Any]]:
    """Returns the table's rows, sorted; a value a run does not have is None.

    Args:
      study: name of the study.
      specs: its runs.
      folder: the study's folder.
    """
    table = []
    for spec in specs:
        result = spec.result(folder)
        if result is None:
            continue
        common = _row(spec, result)
        for arm in spec.arms:
            names = {"study": study, "arm": arm, "key": spec.key}
            table.append(names | common | {"settings": spec.settings.get(arm, "")})
    order = (
        *("arm", "method", "model_parameters", "prompt_length", "init", "settings"),
        *("task", "pretraining_seed", "seed", "key"),
    )
    table.sort(key=lambda row: tuple((row[name] is None, row[name]) for name in order))
    return table


def other_keys(specs: Sequence[RunSpec], folder: Path) -> set[str]:
    """Returns the keys in the folder's `results.csv` that are of no run of the study."""
    try:
        with open(folder / RESULTS_FILE, newline="", encoding="utf-8") as file:
            kept = {row.get("key") or "" for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()  # none, or one that is written anew
    return kept - {spec.key for spec in specs} - {""}


def write(study: str, specs: Sequence[RunSpec], folder: Path) -> list[dict[str, Any]]:
    """Writes `results.csv`, `results.parquet` and their digests, and returns their rows.

    Scores of single test items go to `items.parquet`, a list for each run's key.
    """
    import pyarrow
    import pyarrow.parquet

    table = rows(study, specs, folder)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    scores = _item_scores(specs, folder)
    (folder / SUMS).unlink(missing_ok=True)  # until all of them belong together
    write_text(folder / "results.csv", text.getvalue())
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    with replacing(folder / "results.parquet") as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema), temporary)
    names = ["results.csv", "results.parquet"]
    if scores:
        of_run = pyarrow.list_(pyarrow.float32())
        columns = {"key": list(scores), "scores": pyarrow.array(list(scores.values()), of_run)}
        with replacing(folder / ITEMS) as temporary:
            pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")
        names.append(ITEMS)
    else:  # one of earlier runs is not of this table
        (folder / ITEMS).unlink(missing_ok=True)
    write_sums(folder / SUMS, names)
    return table


def _item_scores(specs: Sequence[RunSpec], folder: Path) -> dict[str, np.ndarray]:
    """Scores of the test items of each finished run that has them, by the run's key."""
    from spjax.training import item_files

    scores = {}
    for spec in sorted(specs, key=lambda spec: spec.key):
        path = spec.folder(folder) / item_files.NAME
        if path.is_file() and spec.result(folder) is not None:
            state = path.stat()
            scores[spec.key] = _read_items(path, state.st_mtime_ns, state.st_ino)
    return {key: of_run for key, of_run in scores.items() if of_run is not None}


@functools.cache  # a sweep writes its table twice a minute
def _read_items(path: Path, *version: int) -> np.ndarray | None:
    """Returns a run's item scores; None, with a warning, where they cannot be used."""
    from spjax.training import item_files

    try:
        scores = item_files.scores(path.parent)
    except DamagedFile as error:
        _log.warning("%s.", error)
        return None
    return None if scores is None else np.asarray(scores, np.float32)


def _row(spec: RunSpec, result: dict[str, Any]) -> dict[str, Any]:
    validation, test = result.get("validation") or {}, result.get("test") or {}
    values = {
        **spec.labels,
        **{name: result.get(name) for name in _PARAMETERS},
        **{name: result.get(name) for name in ("best_step", "steps", "status", "ceiling")},
        "validation_score": validation.get("score"),
        "test_score": test.get("score"),
        "majority_score": (result.get("majority") or {}).get("score"),
        "validation_metrics": json.dumps(validation, sort_keys=True),
        "test_metrics": json.dumps(test, sort_keys=True),
        "transfer_metrics": json.dumps(result.get("transfer") or {}, sort_keys=True),
    }
    return {
        name: None if values.get(name) is None else kind(values[name])
        for name, kind in COLUMNS.items()
        if name not in ("study", "arm", "key")
    }
