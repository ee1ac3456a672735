"""What a sweep leaves behind: figures, table and verdicts in the study folder."""

from pathlib import Path
from typing import Any

from spjax.analysis import claims, figures, rates, statistics, tables, transfer
from spjax.studies.folder import warn_of_damage


def finish(study_folder: Path, study: Any) -> str:
    """Draws study.figures, writes table.md and claims.md; returns the text to print.

    study: has `name` and `figures` (names of spjax.analysis.figures). Figures go to
    <study_folder>/figures. Raises ValueError where results.csv or a figure's name is unusable.
    """
    folder = Path(study_folder)
    results = statistics.load(folder)
    warn_of_damage(folder)
    draws = [figures.get(name) for name in study.figures]
    paths = [path for draw in draws for path in draw(results, folder / "figures")]
    found = claims.check(results)
    transferred = transfer.markdown(results)
    parts = [tables.markdown(results), transferred, rates.markdown(results)]
    _write(folder / "table.md", study.name, "\n".join(filter(None, parts)))
    _write(folder / "claims.md", f"{study.name}: claims", claims.markdown(found))
    width = max(len(claim.verdict) for claim in found)
    verdicts = [f"{claim.id}  {claim.verdict:<{width}}  {claim.statement}" for claim in found]
    shown = [f"figure: {path}" for path in paths if path.suffix == ".png"]
    shown += [f"scores on other tasks: {folder / 'table.md'}"] if transferred else []
    return "\n".join([tables.table(results), *verdicts, "", *shown])


def _write(path: Path, title: str, text: str) -> None:
    path.write_text(f"# {title}\n\n{text}", encoding="utf-8")
