"""The kept figures as tables, as docs/speed.md shows them: `python -m benchmarks.tables`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import growth

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "pocket_boolq": "BoolQ",
    "pocket_rte": "RTE",
    "pocket_wic": "WiC",
    "boolq": "BoolQ",
    "rte": "RTE",
    "wic": "WiC",
}
PROCESSORS = ("avx512_bf16",)
MODELS = {"t5_1_1_small": "T5 1.1 Small", "pocket_800k": "pocket_800k"}


def kept(name: str) -> dict[str, Any]:
    """Returns the figures that a benchmark has written."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def speed(processor: str) -> str:
    """Training and answers beside PEFT, prompts of 20 / 100, on a CPU with some instructions."""
    lines = [
        (
            "| model, lengths of | training examples/s | over PEFT | over its float32 | packed"
            " | PEFT's | share of matmul rate | answers/s | over PEFT | over its float32 |"
        ),
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for model, title in MODELS.items():
        cases = kept(f"speed_cpu_{processor}_{model}")["cases"]
        for task in dict.fromkeys(case["task"] for case in cases):
            of_task = sorted((c for c in cases if c["task"] == task), key=lambda c: c["prompt"])

            def pair(shown: str, values: list[float]) -> str:
                return " / ".join(format(value, shown) for value in values)

            columns = [
                pair(".1f", [c["train_examples_s"]["ours"] for c in of_task]),
                pair(".1f", [c["train_ratio"] for c in of_task]),
                pair(".1f", [_over_float32(c["train_examples_s"]) for c in of_task]),
                pair(".2f", [c["packing_efficiency"]["encoder"] for c in of_task]),
                pair(".2f", [c["packing_efficiency"]["padded"] for c in of_task]),
                pair(".2f", [c["share_of_matmul"] for c in of_task]),
                pair(".1f", [c["answer_examples_s"]["ours"] for c in of_task]),
                pair(".1f", [c["answer_ratio"] for c in of_task]),
                pair(".1f", [_over_float32(c["answer_examples_s"]) for c in of_task]),
            ]
            lines.append(f"| {title}, {NAMES[task]} | {' | '.join(columns)} |")
    return "\n".join(lines)


def _over_float32(speeds: dict[str, float]) -> float:
    """Returns our speed over PEFT's in float32, as ours is."""
    return speeds["ours"] / max(speed for name, speed in speeds.items() if "float32" in name)


def memory() -> str:
    """Peak memory of a training step of T5 1.1 Small, over PEFT's."""
    lines = ["| lengths of, prompt | peak | PEFT's | ratio |", "| --- | --- | --- | --- |"]
    for row in kept(f"speed_cpu_{PROCESSORS[-1]}_t5_1_1_small")["memory"]:
        ours, theirs = (row[side]["peak"] / 1e9 for side in ("ours", "peft"))
        lines.append(
            f"| {NAMES[row['task']]}, {row['prompt']} | {ours:.2f} GB | {theirs:.2f} GB"
            f" | {row['ratio']:.2f} |"
        )
    return "\n".join(lines)


def profile(model: str) -> str:
    """The time of a chunk, by kind of operation."""
    figures = kept(f"profile_{model}")
    whole = sum(figures["milliseconds"].values())
    lines = [f"| {MODELS[model]}, rows {figures['rows']} | share |", "| --- | --- |"]
    for kind, took in figures["milliseconds"].items():
        if took / whole >= 0.005:
            lines.append(f"| {kind} | {took / whole:.0%} |")
    return "\n".join(lines)


def waiting() -> str:
    """A column of runs beside one sweep, and how long a user waits."""
    column, seconds = kept("column"), kept("startup")["seconds"]
    runs = f"{len(column['lengths'])} lengths x {len(column['seeds'])} seeds of {column['model']}"
    return "\n".join(
        [
            "| | measured | aim |",
            "| --- | --- | --- |",
            (
                f"| {runs} run by run, over one sweep: `spjax train` "
                f"| {column['train_ratio']:.1f} | 2 |"
            ),
            f"| the same with PEFT, over the sweep | {column['peft_ratio']:.1f} | 8 |",
            f"| `spjax --help` | {seconds['help']:.2f} s | 0.3 s |",
            (
                "| first step of a pocket run, nothing compiled before "
                f"| {seconds['cold']:.1f} s | 10 s |"
            ),
            f"| the same, compiled by a run before | {seconds['warm']:.1f} s | 4 s |",
        ]
    )


def all_tables() -> list[str]:
    """Every table of docs/speed.md that is made of kept figures."""
    grown = growth.tables(kept("growth")["figures"])
    speeds, profiles = map(speed, PROCESSORS), map(profile, MODELS)
    return [*speeds, waiting(), memory(), *profiles, grown]


if __name__ == "__main__":
    print("\n\n".join(all_tables()))
