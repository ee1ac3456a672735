"""The kept figures as tables, as docs/speed.md shows them: `python -m benchmarks.tables`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import growth, machine
from benchmarks.speed import AVX512

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "pocket_boolq": "BoolQ",
    "pocket_rte": "RTE",
    "pocket_wic": "WiC",
    "boolq": "BoolQ",
    "rte": "RTE",
    "wic": "WiC",
}
MODELS = {"t5_1_1_small": "T5 1.1 Small", "pocket_800k": "pocket_800k", "pocket_3m": "pocket_3m"}
PROFILED = ("t5_1_1_small", "pocket_800k")
# Where a processor's figures lie, and of which models.
SPEEDS = {"": tuple(MODELS), f"{AVX512}/": ("t5_1_1_small",)}


def kept(name: str) -> dict[str, Any]:
    """Returns the figures that a benchmark has written."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def speed(folder: str) -> str:
    """Training and answers beside PEFT, prompts of 20 / 100."""
    files = [kept(f"{folder}speed_cpu_{model}") for model in SPEEDS[folder]]
    has_bfloat16 = machine.has_bfloat16(files[0]["machine"]["flags"])
    columns = {
        "training examples/s": (".1f", lambda case: case["train_examples_s"]["ours"]),
        "over PEFT": (".1f", lambda case: case["train_ratio"]),
        "over its float32": (".1f", lambda case: _over_float32(case["train_examples_s"])),
        "packed": (".2f", lambda case: case["packing_efficiency"]["encoder"]),
        "PEFT's": (".2f", lambda case: case["packing_efficiency"]["padded"]),
        "share of matmul rate": (".2f", lambda case: case["share_of_matmul"]),
        "answers/s": (".1f", lambda case: case["answer_examples_s"]["ours"]),
        "answers over PEFT": (".1f", lambda case: case["answer_ratio"]),
        "answers over its float32": (".1f", lambda case: _over_float32(case["answer_examples_s"])),
    }
    if not has_bfloat16:  # PEFT is in float32
        columns = {name: column for name, column in columns.items() if "float32" not in name}
    processor = "AVX-512 with bfloat16" if has_bfloat16 else "AVX2"
    lines = [f"| {processor} | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for model, figures in zip(SPEEDS[folder], files):
        for task in dict.fromkeys(case["task"] for case in figures["cases"]):
            cases = [case for case in figures["cases"] if case["task"] == task]
            cases.sort(key=lambda case: case["prompt"])
            cells = [_joined(" / ", shown, map(of, cases)) for shown, of in columns.values()]
            lines.append(f"| {MODELS[model]}, {NAMES[task]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _joined(sign: str, shown: str, values: Iterable[float]) -> str:
    return sign.join(format(value, shown) for value in values)


def _over_float32(speeds: dict[str, float]) -> float:
    """Returns our speed over PEFT's in float32, as ours is."""
    return speeds["ours"] / max(speed for name, speed in speeds.items() if "float32" in name)


def memory() -> str:
    """Peak memory of two training steps of T5 1.1 Small, over PEFT's."""
    lines = ["| lengths of, prompt | peak | PEFT's | ratio |", "| --- | --- | --- | --- |"]
    for row in kept("speed_cpu_memory")["peak_memory"]:
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


def aims() -> str:
    """Aims, and what is reached on the processor with AVX2."""
    column, waits = kept("column"), kept("startup")["seconds"]
    cases = [case for model in SPEEDS[""] for case in kept(f"speed_cpu_{model}")["cases"]]
    memories = [row["ratio"] for row in kept("speed_cpu_memory")["peak_memory"]]
    runs = f"{len(column['lengths'])} lengths x {len(column['seeds'])} seeds of {column['model']}"

    def span(name: str, model: str) -> str:
        values = [case[name] for case in cases if case["model"] == model]
        return f"{min(values):.2f} to {max(values):.2f}"

    at_20 = [
        case["train_ratio"]
        for case in cases
        if case["model"] == "t5_1_1_small" and case["prompt"] == 20
    ]
    rows = [
        ("share of matmul rate, T5 1.1 Small", span("share_of_matmul", "t5_1_1_small"), "0.75"),
        ("the same, pocket_800k", span("share_of_matmul", "pocket_800k"), "0.45"),
        ("the same, pocket_3m", span("share_of_matmul", "pocket_3m"), "0.45"),
        (
            "training over PEFT, T5 1.1 Small, P = 20: BoolQ, RTE, WiC",
            _joined(", ", ".1f", at_20),
            "5, 3.5, 2.3",
        ),
        ("training over PEFT, pocket_800k", span("train_ratio", "pocket_800k"), "2.5"),
        ("answers over PEFT, T5 1.1 Small", span("answer_ratio", "t5_1_1_small"), "3"),
        ("answers over PEFT, pocket_800k", span("answer_ratio", "pocket_800k"), "3"),
        (
            "peak memory over PEFT, T5 1.1 Small, P = 20: BoolQ, WiC",
            _joined(", ", ".2f", memories),
            "0.5, 0.6",
        ),
        (f"{runs} run by run, over one sweep: `spjax train`", f"{column['train_ratio']:.1f}", "2"),
        ("the same with PEFT, over the sweep", f"{column['peft_ratio']:.1f}", "8"),
        ("first step of a pocket run, nothing compiled before", f"{waits['cold']:.1f} s", "5 s"),
        ("the same, compiled by a run before", f"{waits['warm']:.1f} s", "2 s"),
        ("`spjax --help`", f"{waits['help']:.2f} s", "0.3 s"),
    ]
    lines = ["| | measured | aim |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def all_tables() -> list[str]:
    """Every table of docs/speed.md that is made of kept figures."""
    grown = growth.tables(kept("growth")["figures"])
    speeds, profiles = map(speed, SPEEDS), map(profile, PROFILED)
    return [aims(), *speeds, memory(), *profiles, grown]


if __name__ == "__main__":
    print("\n\n".join(all_tables()))
