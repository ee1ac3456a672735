"""A square of similarities, for instance of the prompts of several tasks (Vu et al. 2022)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spjax.analysis.figures import _style

CELL, MARGIN = 0.42, 1.9  # inches
NUMBERED = 16  # prompts; in larger squares the numbers would not be legible


def draw(names: Sequence[str], values_SS: np.ndarray, title: str, path: Path) -> list[Path]:
    """Draws the square; returns the PNG, SVG and CSV written.

    names: of rows and columns. values_SS: from -1 to 1. path: of the PNG; the others are beside it.
    """
    count = len(names)
    with _style.style():
        side = CELL * count
        figure = _style.new_figure(side + MARGIN + 0.6, side + MARGIN)
        axes = figure.add_subplot()
        axes.grid(False)
        image = axes.imshow(values_SS, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        axes.set_title(title)
        if count <= NUMBERED:
            for i, row in enumerate(values_SS):
                for j, value in enumerate(row):
                    ink = "white" if abs(value) > 0.7 else "black"
                    text = f"{value:.2f}"
                    axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=6)
        figure.colorbar(image, ax=axes, shrink=0.8)
        table = pd.DataFrame(values_SS, index=list(names), columns=list(names))
        table = table.rename_axis("prompt").reset_index()
        return _style.save(figure, table, path.parent, path.stem)
