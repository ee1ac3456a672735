"""Channels of Vega-Lite charts: colors, marks and dashes of lines, axes, and tooltips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spjax.analysis.figures import _style

Chart = dict[str, Any]
_STAR = "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118"
_STAR += "L-0.951,-0.309L-0.225,-0.309Z"
_SHAPES = {
    "o": "circle",
    "^": "triangle-up",
    "s": "square",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "<": "triangle-left",
    ">": "triangle-right",
    "*": _STAR,
    "X": "M-0.8,-0.4L-0.4,-0.8L0,-0.4L0.4,-0.8L0.8,-0.4L0.4,0L0.8,0.4L0.4,0.8L0,0.4L-0.4,0.8"
    "L-0.8,0.4L-0.4,0Z",
    "p": "M0,-0.9L0.856,-0.278L0.529,0.728L-0.529,0.728L-0.856,-0.278Z",
    "h": "M0,-0.9L0.779,-0.45L0.779,0.45L0,0.9L-0.779,0.45L-0.779,-0.45Z",
}


def scale(column: str, title: str, channel: str, looks: Mapping[str, _style.Look]) -> Chart:
    """Returns the encoding of a channel by which lines are told apart.

    Args:
      column: of the lines' names.
      title: of the legend.
      channel: "color", "fill", "shape" or "strokeDash".
      looks: by the lines' names.
    """
    values = {
        "color": [look.color for look in looks.values()],
        "fill": [look.color for look in looks.values()],
        "shape": [_SHAPES[look.marker] for look in looks.values()],
        "strokeDash": [_dashes(look) for look in looks.values()],
    }
    return {
        "field": column,
        "type": "nominal",
        "title": title,
        "scale": {"domain": list(looks), "range": values[channel]},
    }


def size_axis(rows: pd.DataFrame) -> Chart:
    """Returns the axis of model sizes, for rows with columns `model_parameters` and `model`."""
    models = rows[["model_parameters", "model"]].drop_duplicates("model_parameters")
    ticks = {
        float(count): [_style.humanised(count), _style.short_name(model)]
        for count, model in zip(models["model_parameters"], models["model"])
    }
    return log_axis(_style.SIZE_LABEL, ticks)


def log_axis(title: str, ticks: Mapping[float, Sequence[str]]) -> Chart:
    """Returns a logarithmic axis with ticks at some places only.

    Args:
      title: of the axis.
      ticks: by place, the lines of its text.
    """
    ends = [min(ticks) / 1.4, max(ticks) * 1.4]
    texts = json.dumps({str(round(place)): list(text) for place, text in ticks.items()})
    return {
        "field": "at",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "domain": ends, "nice": False},
        "axis": {"values": list(ticks), "labelExpr": f"{texts}[round(datum.value)]"},
    }


def tooltip(fields: Mapping[str, str]) -> list[Chart]:
    """Returns the encoding of a tooltip, for fields by title."""
    return [{"field": field, "type": "nominal", "title": title} for title, field in fields.items()]


def _dashes(look: _style.Look) -> list[float]:
    """Returns the lengths of dashes and gaps in pixels; matplotlib counts in widths of the line."""
    if isinstance(look.dashes, str):
        return [1, 0]
    return [round(2 * length, 2) for length in look.dashes[1] or ()]
