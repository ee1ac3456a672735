"""Vega, Vega-Lite and Vega-Embed as one script, and their charts as pictures, without a network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from spjax import extras

EXTRA = "report"
_EXPORTS = "window.vegaEmbed = vegaEmbed;"


def check() -> None:
    """Demands what the other functions need.

    Raises:
      ValueError: the extra is not installed.
    """
    _converter()


def script() -> str:
    """Returns the text of a script that defines `vegaEmbed`."""
    return _converter().javascript_bundle(_EXPORTS)


def picture(chart: Mapping[str, Any]) -> str:
    """Returns a chart as the address of an SVG picture that holds the picture itself.

    Args:
      chart: a Vega-Lite specification.
    """
    svg = _converter().vegalite_to_svg(dict(chart))
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def versions() -> str:
    """Returns the names and versions of what `script` holds."""
    converter = _converter()
    return (
        f"Vega {converter.get_vega_version()}, Vega-Lite {converter.get_vegalite_versions()[-1]}, "
        f"Vega-Embed {converter.get_vega_embed_version()} (vl-convert {converter.__version__})"
    )


def _converter() -> ModuleType:
    return extras.import_module("vl_convert", EXTRA, "A page with interactive figures")
