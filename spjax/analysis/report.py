"""The report of a sweep: figures, table and verdicts in the study folder."""

import contextlib
import errno
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spjax import text_tables
from spjax.analysis import (
    capacity,
    capacity_report,
    claims,
    convergence,
    figures,
    joined,
    left_out,
    prompt_claims,
    rates,
    saturation,
    settings,
    statistics,
    tables,
    transfer,
    trials,
)
from spjax.analysis.criteria import NOT_MEASURED
from spjax.files import write_sums, write_text
from spjax.studies.results import SUMS


def finish(study_folder: Path, study: Any, names: Sequence[str] = ()) -> str:
    """Draws the figures of a study, writes table.md and claims.md; returns the text to print.

    Figures go to <study_folder>/figures.

    Args:
      study_folder: that a sweep has written.
      study: has `name` and `figures` (names of spjax.analysis.figures).
      names: of figures to draw instead.

    Raises:
      ValueError: results.csv or a figure's name is unusable, the results are another study's or
        have nothing for a figure in `names`, or a path to write is no file.
    """
    folder = Path(study_folder)
    results = statistics.load(folder)
    check_study(results, study.name, folder)
    _warn_of_damage(folder)
    return _finish(results, study.name, folder, [folder], study.figures, names)


def finish_joined(
    studies: Mapping[Path, Any], output_folder: Path, names: Sequence[str] = ()
) -> str:
    """Does as `finish` for the results of several studies together.

    results.csv of the output folder has their rows.

    Args:
      studies: by folder.
      output_folder: for the figures, table.md, claims.md and results.csv; made if missing.
      names: of figures to draw instead of those of the studies.

    Raises:
      ValueError: as `finish` and `joined.join`, or the output folder holds a study.
    """
    output = Path(output_folder)
    if (output / "study.gin").exists():
        raise ValueError(
            f"{output} holds a study, whose table and figures would be replaced by those of "
            "several; choose another folder with --output_dir"
        )
    parts = {}
    for folder, study in studies.items():
        parts[folder] = statistics.read(folder)
        check_study(parts[folder], study.name, folder)
        _warn_of_damage(folder)
    results, notes = joined.join(parts), joined.notes(parts)
    usual = list(dict.fromkeys(name for study in studies.values() for name in study.figures))
    for name in names or usual:
        figures.get(name)  # an unknown one is an error before anything is written
    title = " + ".join(dict.fromkeys(study.name for study in studies.values()))
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        (output / SUMS).unlink(missing_ok=True)
        rows = results.drop(columns=statistics.ITEM_SCORES, errors="ignore")
        write_text(output / "results.csv", rows.to_csv(index=False, lineterminator="\n"))
        write_sums(output / SUMS, ("results.csv",))
    return _finish(results, title, output, list(studies), usual, names, notes)


def _finish(
    results: pd.DataFrame,
    title: str,
    folder: Path,
    study_folders: Sequence[Path],
    usual: Sequence[str],
    names: Sequence[str],
    notes: Sequence[str] = (),
) -> str:
    draws = {name: figures.get(name) for name in names or usual}
    paths, absent = [], []
    with writing(folder):
        for name, draw in draws.items():
            try:
                paths += draw(results, folder / "figures")
            except figures.NothingToDraw as error:
                if names:
                    raise
                absent.append(f"not drawn: {name}: {error}")
    shown = [f"figure: {path}" for path in paths if path.suffix == ".png"] + absent
    held = capacity_report.markdown(results)
    if held:
        with writing(folder):
            _write(folder / "capacity.md", f"{title}: what a prompt holds", held)
        shown += [f"what a prompt holds: {folder / 'capacity.md'}"]
        told = capacity_report.summary(results)
        results = capacity.without_tasks(results)
        if results.empty:  # scores of different K have no mean, and no claim is about them
            return "\n".join([told, "", *shown])
        shown += [told]
    facts = prompt_claims.read(study_folders, results)
    judged = claims.check(results, facts)
    saturated = saturation.of_results(results)
    transferred = transfer.markdown(results)
    parts = [tables.markdown(results), transferred, rates.markdown(results)]
    parts += [settings.markdown(results), trials.markdown(results)]
    noted = [f"Note: {note}\n" for note in notes]
    with writing(folder):
        _write(folder / "table.md", title, "\n".join([*filter(None, parts), *noted]))
        judged_parts = [claims.markdown(judged), saturation.markdown(saturated)]
        judged_parts.append(left_out.markdown(judged, results, saturated))
        text = "\n".join([*filter(None, judged_parts), *noted])
        _write(folder / "claims.md", f"{title}: claims", text)
        timed = _write_times(folder, title, results, study_folders)
    shown += [f"scores on other tasks: {folder / 'table.md'}"] if transferred else []
    shown += [f"times until convergence: {folder / 'convergence.md'}"] if timed else []
    return "\n".join([tables.table(results), *noted, _verdicts(judged), "", *shown])


def _write_times(
    folder: Path, title: str, results: pd.DataFrame, study_folders: Sequence[Path]
) -> bool:
    """Writes convergence.md and convergence.csv; returns whether there are times."""
    if "key" not in results.columns:
        return False
    times = convergence.of_folders(results, study_folders)
    if text := convergence.markdown(times):
        _write(folder / "convergence.md", f"{title}: time until convergence", text)
        numbers = times.to_csv(index=False, lineterminator="\n")
        write_text(folder / "convergence.csv", numbers)
    return bool(text)


def _warn_of_damage(folder: Path) -> None:
    from spjax.studies.run_folder import warn_of_damage  # here, because it loads JAX

    warn_of_damage(folder)


def _verdicts(judged: Sequence[claims.Judgment]) -> str:
    """Returns a line for each claim that the study measures, and the names of the others."""
    measured = [each for each in judged if each.verdict != NOT_MEASURED]
    rows = [(each.claim.id, each.verdict, each.claim.statement) for each in measured]
    others = ", ".join(each.claim.id for each in judged if each.verdict == NOT_MEASURED)
    lines = [text_tables.render(rows).rstrip("\n")]
    lines += [f"Not measured by this study: {others}."] if others else []
    return "\n".join(filter(None, [*lines, textwrap.fill(claims.scope(judged), tables.WIDTH), ""]))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError about a file or folder into a ValueError that says what is wrong.

    A full disk stays an OSError, since other arguments would not help.
    """
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError) as error:
        raise _in_the_way(path, error) from error
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENAMETOOLONG):
            raise
        raise _in_the_way(path, error) from error


def _in_the_way(path: Path, error: OSError) -> ValueError:
    return ValueError(
        f"cannot write {error.filename or path}: {error.strerror}. Remove what stands there, or "
        "choose another place."
    )


def check_study(results: pd.DataFrame, name: str, folder: Path) -> None:
    """Demands that the rows of a folder's results.csv are those of its study.

    Raises:
      ValueError: a row is another study's.
    """
    others = {*map(str, results["study"].fillna(""))} - {name} if "study" in results.columns else ()
    if others:
        raise ValueError(
            f"the rows of {folder / 'results.csv'} are of the study {', '.join(sorted(others))}, "
            f"and study.gin beside it names {name!r}: the two do not belong together. Put the "
            "study's own file beside them, or run the sweep again."
        )


def _write(path: Path, title: str, text: str) -> None:
    write_text(path, f"# {title}\n\n{text}")
