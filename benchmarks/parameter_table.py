"""Parameter counts of prompts and models: Table 4 of Lester et al. 2021, recomputed.

Run with `python -m benchmarks.parameter_table`. Shapes are traced, so nothing is allocated, and
the numbers are those of the models that spjax trains.
"""

from __future__ import annotations

import dataclasses

from spjax import text_tables, trees
from spjax.models import get_size
from spjax.models.t5 import weight_shapes

SIZES = ("small", "base", "large", "xl", "xxl")
LENGTHS = (1, 5, 20, 50, 100, 150)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      size: name of the model size without its family.
      length: rows of the prompt.
      prompt: trainable parameters.
      total: parameters of frozen model and prompt.
    """

    size: str
    length: int
    prompt: int
    total: int

    @property
    def percent(self) -> str:
        """The prompt's part of the total in percent, with the paper's five decimals."""
        return f"{100 * self.prompt / self.total:.5f}"


# What the paper prints where its own formulas give something else.
MISPRINTS = (
    ("small", 20, "prompt", "10420"),
    ("small", 20, "total", "76971572"),
    ("large", 100, "percent", "0.01907"),
    ("xxl", 50, "total", "11137380352"),
)


def table() -> list[Row]:
    """All rows: five sizes of T5 1.1 by six prompt lengths."""
    rows = []
    for size in SIZES:
        # Scanned layers have the same number of parameters and trace in a fraction of the time.
        config = dataclasses.replace(get_size(f"t5_1_1_{size}"), scan_layers=True)
        model = trees.count(weight_shapes(config))
        for length in LENGTHS:
            prompt = length * config.emb_dim
            rows.append(Row(size, length, prompt, model + prompt))
    return rows


def main() -> None:
    """Prints the table, and where the paper's differs from it."""
    rows = {(row.size, row.length): row for row in table()}
    head = ("size", "length", "prompt", "total", "percent")
    body = [[getattr(row, name) for name in head] for row in rows.values()]
    print(text_tables.render([head, *body], right=range(1, 5)))
    print("\nMisprints in Table 4 of the paper:")
    for size, length, column, printed in MISPRINTS:
        right = getattr(rows[size, length], column)
        print(f"{size}, length {length}: {column} is printed as {printed}, should be {right}")


if __name__ == "__main__":
    main()
