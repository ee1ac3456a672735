"""Interactive figures of a study as Vega-Lite specifications, in the colors of the static ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spjax.analysis import saturation, statistics
from spjax.analysis.figures import _style
from spjax.analysis.study_page import encodings
from spjax.analysis.study_page.cells import VIEW, StudyCells
from spjax.analysis.study_page.encodings import Chart

_WIDTH, _HEIGHT = 620, 340  # pixels
_SIDEWAYS = 0.16  # of a size step, from the first line to the last
_ASIDE = 2.3  # full fine-tuning stands at this multiple of the longest prompt
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "axisX": {"grid": False},
    "axisY": {"gridColor": "#e3e3e3"},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "symbolLimit": 0,
        "labelLimit": 320,
        "symbolStrokeWidth": 0,  # dashes would fray the symbols' edges
    },
}


def score_over_size(cells: StudyCells) -> Chart:
    """Returns the chart of score over model size, a line for each way of tuning."""
    rows = cells.scored
    looks = _style.looks_of(cells.suite.cells, "line")
    sizes = sorted(set(rows["model_parameters"]))
    step = min((b / a for a, b in zip(sizes, sizes[1:])), default=1.0)
    shift = {
        line: step ** (_SIDEWAYS * (i / max(len(looks) - 1, 1) - 0.5))
        for i, line in enumerate(looks)
    }
    rows = rows.assign(at=rows["model_parameters"] * rows["line"].map(shift))
    axis = encodings.size_axis(rows)
    return _scores(cells, rows, "line", "way of tuning", looks, axis)


def score_over_length(cells: StudyCells) -> Chart | None:
    """Returns the chart of score over prompt length; None where there are no two lengths."""
    rows = cells.scored
    prompts = rows[rows["prompt_length"] > 0]
    lengths = sorted(set(prompts["prompt_length"]))
    if len(lengths) < 2:
        return None
    full = rows[rows["method"] == statistics.FULL_FINE_TUNING]
    aside = lengths[-1] * _ASIDE
    ticks = {float(length): [str(length)] for length in lengths}
    if len(full):
        ticks[aside] = ["full", "fine-tuning"]
    prompts = prompts.assign(at=prompts["prompt_length"].astype(float), part="prompts")
    prompts["series"] = prompts["model"]
    if prompts["variant"].nunique() > 1:
        prompts["series"] += ", " + prompts["variant"].str.replace("_", " ")
    full = full.assign(at=aside, part="full", series=full["model"])
    rows = pd.concat([prompts, full], ignore_index=True).sort_values(
        ["model_parameters", "series", "at"], kind="stable"
    )
    names = list(dict.fromkeys(rows["series"]))
    looks = dict(zip(names, _style.looks(len(names))))
    axis = encodings.log_axis("Prompt length (soft tokens)", ticks)
    return _scores(cells, rows, "series", "frozen model", looks, axis)


def saturation_over_size(table: pd.DataFrame, cells: StudyCells) -> Chart | None:
    """Returns the chart of the saturation length P* over model size; None without data.

    Args:
      table: of `saturation.of_results`.
      cells: of the same study.
    """
    if table.empty:
        return None
    rows = [_saturation_row(row, cells) for row in table.itertuples()]
    data = pd.DataFrame(rows)
    data["at"] = data["model_parameters"].astype(float)
    variants = sorted(set(data["variant"]))
    looks = dict(zip(variants, _style.looks(len(variants))))
    places = sorted({*data["low"], *data["high"]})
    length_axis = {
        "field": "high",
        "type": "quantitative",
        "title": "Saturation length P* (soft tokens)",
        "scale": {"type": "log", "domain": [places[0] / 1.3, places[-1] * 1.3], "nice": False},
        "axis": {"values": places, "format": "d"},
    }
    color, fill = (encodings.scale("variant", "method", name, looks) for name in ("color", "fill"))
    if len(variants) == 1:
        color["legend"] = fill["legend"] = None
    fields = {"model": "model", "P*": "star", "90 % interval": "interval"}
    fields |= {"P* of these tasks": "of_these", "P90": "p90"}
    interval = {
        "mark": {"type": "rule", "strokeWidth": 2.5},
        "encoding": {"y": {**length_axis, "field": "low"}, "y2": {"field": "high"}, "color": color},
    }
    point = {
        "mark": {"type": "point", "size": 130, "strokeWidth": 2, "opacity": 1},
        "encoding": {
            "y": length_axis,
            "color": color,
            "fill": {"condition": {"test": "!datum.located", "value": "white"}, **fill},
            "shape": {
                "condition": {"test": "datum.located", "value": "circle"},
                "value": "triangle-up",
            },
            "tooltip": encodings.tooltip(fields),
        },
    }
    return _chart(cells, data, encodings.size_axis(data), [interval, point])


def _scores(
    cells: StudyCells,
    rows: pd.DataFrame,
    column: str,
    title: str,
    looks: Mapping[str, _style.Look],
    axis: Mapping[str, Any],
) -> Chart:
    """Returns a chart of scores with their intervals, a line for each value of a column."""
    score = f"{cells.suite.scored_on.capitalize()} score (%)"
    y = {"type": "quantitative", "title": score, "scale": {"zero": False}}
    opacity = {"condition": {"param": "picked", "value": 1}, "value": 0.1}
    color = encodings.scale(column, title, "color", looks)
    shape = encodings.scale(column, title, "shape", looks)
    dash = encodings.scale(column, title, "strokeDash", looks)
    detail = {"detail": {"field": "part"}} if "part" in rows.columns else {}
    fields = {"way of tuning": "line", "model": "model", "score": "score"}
    fields |= {"95 % interval": "interval", "seeds": "seeds_text", "runs": "runs"}
    layers: list[Chart] = [
        {
            # In the first layer, or the legend of all layers would not take clicks.
            "params": [
                {
                    "name": "picked",
                    "select": {"type": "point", "fields": [column], "toggle": "true"},
                    "bind": "legend",
                }
            ],
            "mark": {"type": "rule", "strokeWidth": 1.2},
            "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": color}
            | {"opacity": opacity},
        },
        {
            "mark": {"type": "line", "strokeWidth": 2},
            "encoding": {"y": {**y, "field": "mean"}, "color": color, "strokeDash": dash}
            | {"opacity": opacity, **detail},
        },
        {
            "mark": {"type": "point", "size": 70, "strokeWidth": 1.6, "cursor": "pointer"},
            "encoding": {
                "y": {**y, "field": "mean"},
                "color": color,
                "shape": shape,
                "fill": {
                    "condition": {"test": "!datum.complete", "value": "white"},
                    **encodings.scale(column, title, "fill", looks),
                },
                "opacity": opacity,
                "tooltip": encodings.tooltip(fields),
            },
        },
    ]
    return _chart(cells, rows, axis, layers, cells.references)


def _chart(
    cells: StudyCells,
    rows: pd.DataFrame,
    axis: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]],
    references: Sequence[Mapping[str, Any]] = (),
) -> Chart:
    """Returns a specification that shows one view of the rows: the mean or a single task."""
    shown = [{"filter": f"datum.{VIEW} === view"}]
    parts = [
        {
            "data": {"values": _records(rows)},
            "transform": shown,
            "encoding": {"x": axis},
            "layer": list(layers),
        }
    ]
    if references:
        parts.insert(0, _reference_lines(references, shown))
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "config": _CONFIG,
        "params": [{"name": "view", "value": cells.views[0]}],
        "layer": parts,
    }


def _reference_lines(references: Sequence[Mapping[str, Any]], shown: list) -> Chart:
    y = {"field": "value", "type": "quantitative"}
    text = {"align": "right", "baseline": "bottom", "dy": -2, "color": "#555555", "fontSize": 11}
    dashes = {"condition": {"test": "datum.name === 'majority'", "value": [5, 3]}, "value": [1, 3]}
    return {
        "data": {"values": list(references)},
        "transform": shown,
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "rule", "color": _style.GREY},
                "encoding": {"strokeDash": dashes, "tooltip": encodings.tooltip({"line": "text"})},
            },
            {
                "mark": {"type": "text", **text},
                "encoding": {"x": {"value": _WIDTH}, "text": {"field": "name"}},
            },
        ],
    }


def _saturation_row(row: Any, cells: StudyCells) -> dict[str, Any]:
    texts = saturation.shown(row)
    located = texts["P*"] != "none shown"
    return {
        VIEW: row.task or cells.views[0],
        "variant": row.variant.replace("_", " "),
        "model": row.model,
        "model_parameters": row.model_parameters,
        "low": float(row.shortest_possible),
        "high": float(row.length if located else row.longest),
        "located": located,
        "star": texts["P*"] if located else "none shown: only the longest length is left",
        "interval": texts["90 % interval"],
        "of_these": f"{texts['P* of these tasks']} ({texts['its 90 % interval']})",
        "p90": texts["P90"],
    }


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns rows as JSON has them: no NaN, and no types of numpy's."""

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{k: plain(v) for k, v in row.items()} for row in rows.to_dict("records")]
