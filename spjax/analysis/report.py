"""The report of a sweep: figures, table and verdicts in the study folder."""

import contextlib
import errno
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spjax import text_tables
from spjax.analysis import claims, figures, rates, saturation, statistics, tables, transfer
from spjax.analysis.criteria import NOT_MEASURED
from spjax.files import write_text


def finish(study_folder: Path, study: Any) -> str:
    """Draws study.figures, writes table.md and claims.md; returns the text to print.

    study: has `name` and `figures` (names of spjax.analysis.figures). Figures go to
    <study_folder>/figures. Raises ValueError where results.csv or a figure's name is unusable,
    the results are another study's, or a path to write is no file.
    """
    folder = Path(study_folder)
    results = statistics.load(folder)
    check_study(results, study.name, folder)
    from spjax.studies.run_folder import warn_of_damage  # here, because it loads JAX

    warn_of_damage(folder)
    draws = [figures.get(name) for name in study.figures]
    with writing(folder):
        paths = [path for draw in draws for path in draw(results, folder / "figures")]
    items = statistics.load_items(folder)
    judged = claims.check(results, items)
    saturated = saturation.markdown(saturation.of_results(results, items))
    transferred = transfer.markdown(results)
    parts = [tables.markdown(results), transferred, rates.markdown(results)]
    with writing(folder):
        _write(folder / "table.md", study.name, "\n".join(filter(None, parts)))
        text = "\n".join(filter(None, [claims.markdown(judged), saturated]))
        _write(folder / "claims.md", f"{study.name}: claims", text)
    shown = [f"figure: {path}" for path in paths if path.suffix == ".png"]
    shown += [f"scores on other tasks: {folder / 'table.md'}"] if transferred else []
    return "\n".join([tables.table(results), _verdicts(judged), "", *shown])


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
