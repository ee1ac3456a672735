"""The page: its sections in order, in one file that needs no network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spjax.analysis import claims, prompt_claims, report, saturation, statistics
from spjax.analysis.study_page import bundle, charts, verdicts
from spjax.analysis.study_page import cells as study_cells
from spjax.analysis.study_page.cells import StudyCells
from spjax.analysis.study_page.charts import Chart
from spjax.analysis.study_page.listings import Listings
from spjax.analysis.study_page.markup import (
    Markup,
    element,
    escaped,
    json_text,
    paragraphs,
)
from spjax.analysis.study_page.sources import StoredStudy, merge
from spjax.files import write_text

_FOLDER = Path(__file__).parent
# Nothing is loaded, even where a text of the study should contain an address.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:"
)
_BARS = (
    "Bars: 95 % intervals of the mean for these tasks. Hollow markers: runs are missing. Point at "
    "a marker for its cell, interval and runs; click it for the table of its runs; click a name in "
    "the legend to bring its line out, and again to undo that. The tables below have the same "
    "numbers."
)
_SATURATION = (
    "Beyond P* longer prompts gain at most one point; the bar is its 90 % interval. Triangles: the "
    "study does not locate it, since only its longest length is left."
)


def write(studies: Sequence[StoredStudy], path: Path) -> None:
    """Writes the page of studies; a page that stands there is replaced once all is ready.

    Args:
      studies: one or more; several are judged together.
      path: of the HTML file.

    Raises:
      ValueError: the extra `report` is not installed, the studies do not belong together, their
        results cannot be used, or the file cannot be written.
    """
    text = _page(studies, path.parent)
    with report.writing(path):
        write_text(path, text.encode("utf-8", "replace").decode())  # names of files may be no text


def _page(studies: Sequence[StoredStudy], folder: Path) -> str:
    results, notes = merge(studies)
    cells = study_cells.of_results(results)
    facts = prompt_claims.read([study.folder for study in studies], results)
    judged = claims.check(results, facts)
    listings = Listings(studies, results, cells, folder)
    title = ", ".join(study.name for study in studies)
    prompting = (results["method"] == statistics.PROMPT_TUNING).any()
    default = statistics.default_length(results) if prompting else 0
    saturated = saturation.of_results(results)
    summary = verdicts.headline(judged, cells, saturated, default)
    sections = {
        "summary": ("Summary", paragraphs(summary)),
        "claims": ("Claims", verdicts.overview(judged)),
        "figures": ("Figures", _figures(saturated, cells)),
        "cells": ("Cells", listings.cell_tables()),
        "runs": ("Runs", listings.run_table()),
        "excluded": ("Left out", listings.exclusions([*notes, *judged[0].notes])),
        "evidence": ("Evidence for each claim", verdicts.details(judged)),
        "provenance": ("Settings and provenance", listings.provenance()),
    }
    links = Markup(
        " ".join(element("a", name, href=f"#{id}") for id, (name, _) in sections.items())
    )
    body = [
        element("a", "Skip to the summary", href="#summary", class_="skip"),
        element("header", element("h1", f"Study: {title}"), element("nav", links)),
        element("main", *(_section(id, *section) for id, section in sections.items())),
        element("footer", _made_with()),
        Markup(f"<script>(() => {{{_closed(bundle.script())}\n}})();</script>"),
        Markup(f"<script>{_text('page.js')}</script>"),
    ]
    return _document(f"{title}: study report", body)


def _figures(saturated: pd.DataFrame, cells: StudyCells) -> Markup:
    drawn: list[tuple[str, str, Chart | None]] = [
        ("Score over model size", _BARS, charts.score_over_size(cells)),
        ("Score over prompt length", "Bars and markers as above.", charts.score_over_length(cells)),
        (
            "Saturation length over model size",
            _SATURATION,
            charts.saturation_over_size(saturated, cells),
        ),
    ]
    figures = [_figure(title, note, chart) for title, note, chart in drawn if chart is not None]
    options = [element("option", view) for view in cells.views]
    choice = element(
        "p",
        element("label", "Scores shown in the figures:", for_="view"),
        " ",
        element("select", *options, id="view"),
        class_="screen",
    )
    return Markup("\n".join([*([choice] if len(options) > 1 else []), *figures]))


def _figure(title: str, note: str, chart: Chart) -> Markup:
    """Returns a figure: a picture, which the script replaces by the interactive chart."""
    picture = Markup(f'<img src="{bundle.picture(chart)}" alt="{escaped(title)}">')
    data = Markup(f'<script type="application/json">{json_text(chart)}</script>')
    return element(
        "figure",
        element("h3", title),
        element("div", picture, class_="chart scroll"),
        data,
        element("figcaption", note),
    )


def _section(id: str, title: str, content: Markup) -> Markup:
    return element("section", element("h2", title), content, id=id)


def _made_with() -> str:
    # By name, since `spjax` lists the Python API, which imports this module.
    version = importlib.import_module("spjax").__version__
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"Made with spjax {version}, Python {python} and {bundle.versions()}. Vega, "
        "Vega-Lite and Vega-Embed: copyright University of Washington Interactive Data Lab and "
        "contributors, BSD 3-Clause License."
    )


def _document(title: str, body: Sequence[Markup]) -> str:
    head = [
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        Markup(f"<style>\n{_text('page.css')}</style>"),
    ]
    parts = [element("head", *head), element("body", Markup("\n".join(body)))]
    return f"<!DOCTYPE html>\n{element('html', *parts, lang='en')}\n"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _closed(script: str) -> str:
    """Returns a script in which no text ends the element that holds it."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
