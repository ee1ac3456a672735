"""Growth of the cost of a training step: `python -m benchmarks.growth`.

Seconds of a step and bytes that its largest chunk needs beside the weights, over prompt length,
length of the inputs, batch size, runs in a gang and size of the model, one at a time from the same
middle. All inputs are equally long, so that nothing is padding. Rounds of all points take turns,
seconds are medians. An exponent is the slope of log cost over log size: 1 is proportional.

Prints the tables and writes `benchmarks/results/growth.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from benchmarks.speed import RESULTS, Ours
from spjax.data.batching import batching, packing
from spjax.models import get_size
from spjax.models.t5 import weight_shapes
from spjax.training import trainer
from spjax.training.host_memory import keep_freed_memory
from spjax.types import Batch

STEPS = 4  # in a round


@dataclasses.dataclass(frozen=True)
class Point:
    """Sizes of a training step."""

    model: str = "pocket_800k"
    prompt: int = 20
    inputs: int = 40
    batch_size: int = 32
    runs: int = 1


MIDDLE = Point()
AXES: dict[str, list[Any]] = {
    "prompt": [1, 5, 20, 50, 100, 150],
    "inputs": [20, 40, 80, 160, 320],
    "batch_size": [8, 16, 32, 64, 128],
    "runs": [1, 2, 4, 8],
    "model": ["pocket_50k", "pocket_200k", "pocket_800k", "pocket_3m", "pocket_12m"],
}
TITLES = {
    "prompt": "prompt length P",
    "inputs": "tokens of an input",
    "batch_size": "examples in a batch",
    "runs": "runs in a gang",
    "model": "parameters",
}


def step_of(point: Point, steps: int = STEPS) -> Ours:
    """Returns training steps of a point."""
    inputs = f"equal_{point.inputs}"
    return Ours(point.model, inputs, point.prompt, steps, point.runs, point.batch_size)


def temporary_bytes(ours: Ours) -> int:
    """Bytes of the largest chunk's activations and gradients, from the compiler."""
    runs = ours.indices.shape[1]
    rows = [batching.rows(ours.split, part, ours.layout) for part in ours.indices[0]]
    chunks = packing.pack(batching.gang(dict(enumerate(rows))), ours.shapes)
    inputs, key, *sums = trainer.begin_step(ours.program, ours.states, ours.base, jax.random.key(0))
    largest = max(chunks, key=lambda chunk: chunk["inputs_BL"].size)
    lowered = trainer.add_gradients.lower(
        ours.program.of_model,
        inputs,
        ours.base,
        Batch(**largest),
        np.ones(runs, np.float32),
        key,
        *sums,
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes


def size_of(point: Point, axis: str) -> int:
    """Returns the number along an axis, of parameters for the model."""
    if axis != "model":
        return getattr(point, axis)
    return sum(x.size for x in jax.tree.leaves(weight_shapes(get_size(point.model))))


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Returns the slope of log cost over log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(axes: dict[str, list[Any]], rounds: int) -> list[dict[str, Any]]:
    """Returns seconds a step and bytes of each point of each axis."""
    points = {
        (axis, value): dataclasses.replace(MIDDLE, **{axis: value})
        for axis, values in axes.items()
        for value in values
    }
    steps = {point: step_of(point) for point in dict.fromkeys(points.values())}
    seconds: dict[Point, list[float]] = {point: [] for point in steps}
    for number in range(rounds + 1):
        for point, ours in steps.items():
            took = ours.train() / len(ours.indices)
            if number:  # the first compiles
                seconds[point].append(took)
    sizes = {point: temporary_bytes(ours) for point, ours in steps.items()}
    return [
        {
            "axis": axis,
            "value": value,
            "size": size_of(point, axis),
            "chunks": [list(shape) for shape in steps[point].shapes],
            "seconds": statistics.median(seconds[point]),
            "bytes": sizes[point],
        }
        for (axis, value), point in points.items()
    ]


def tables(figures: list[dict[str, Any]]) -> str:
    """Returns the tables as Markdown: costs over those of the middle, and exponents."""
    blocks = []
    for axis, title in TITLES.items():
        rows = [row for row in figures if row["axis"] == axis]
        if not rows:
            continue
        middle = next(row for row in rows if row["value"] == getattr(MIDDLE, axis))
        sizes = [row["size"] for row in rows]
        slopes = [exponent(sizes, [row[cost] for row in rows]) for cost in ("seconds", "bytes")]
        blocks.append(
            "\n".join(
                [
                    f"| {title} | {' | '.join(f'{size:,}' for size in sizes)} | exponent |",
                    "| --- |" + " --- |" * (len(rows) + 1),
                    *(
                        f"| {name} | "
                        + " | ".join(f"{row[cost] / middle[cost]:.2f}" for row in rows)
                        + f" | {slope:.2f} |"
                        for name, cost, slope in zip(
                            ("time", "memory"), ("seconds", "bytes"), slopes
                        )
                    ),
                ]
            )
        )
    return "\n\n".join(blocks)


def main() -> None:
    """Prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    figures = measure(AXES, options.rounds)
    result = {"machine": machine.describe("jax", "jaxlib"), "middle": dataclasses.asdict(MIDDLE)}
    text = json.dumps(result | {"figures": figures}, indent=1)
    (RESULTS / "growth.json").write_text(text + "\n")
    print(tables(figures))


if __name__ == "__main__":
    main()
