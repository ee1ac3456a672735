"""The table of docs/plan.md: `python -m benchmarks.hardware --topologies v5e:4x4 gpu:h100:8`.

Plans `experiments/lester2021/scaling.gin`, one size and topology after the other, and keeps each
plan in `benchmarks/results/hardware.json` as soon as it is known; those that are there are not
made again without `--again`. For TPUs every size is compiled, in minutes each, which needs libtpu.
Prints the table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spjax
from benchmarks import machine
from spjax.studies.hardware.report import short

STUDY = "experiments/lester2021/scaling.gin"
SIZES = ("small", "base", "large", "xl", "xxl")
TOPOLOGIES = ("v5e:4x4", "v4:2x2x4", "v5p:2x2x2", "gpu:h100:8")
RESULTS = machine.ROOT / "benchmarks" / "results"
_COLUMNS = {
    "model": "model",
    "method": "method",
    "fits": "fits",
    "setting": "setting",
    "weights_bytes": "weights",
    "state_bytes": "state",
    "activations_bytes": "activations",
    "bytes": "all",
    "step_seconds": "step",
    "device_hours": "device hours",
}


def planned(size: str, topology: str) -> dict[str, Any]:
    """The plan of one size of the study."""
    start = time.monotonic()
    plan = spjax.plan(STUDY, topology, {"SIZES": [f"t5_1_1_{size}"]})
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    if plan.topology.chip.platform == "tpu":
        versions["libtpu"] = importlib.metadata.version("libtpu")
    rows = json.loads(plan.table.to_json(orient="records"))
    seconds = round(time.monotonic() - start)
    return {"rows": rows, "text": plan.text, "versions": versions, "seconds": seconds}


def table(plans: dict[str, Any]) -> str:
    """The kept plans in Markdown, in GB on each device."""
    heads = ["topology", *_COLUMNS.values()]
    lines = [heads, ["---"] * 5 + ["---:"] * 6]
    for name, plan in plans.items():
        lines += [[name.split()[0], *(_cell(row, x) for x in _COLUMNS)] for row in plan["rows"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "setting":
        parts = [
            f"{row['data_devices']}x{row['model_devices']}",
            row["rules"],
            row["weights_dtype"],
        ]
        parts += ["remat"] * row["remat"]
        if row["microbatches"] > 1:
            parts.append(f"{row['microbatches']} microbatches")
        return ", ".join(parts)
    if name == "fits":
        return "no" if not row["fits"] else "yes" if row["as_configured"] else "with changes"
    if name.endswith("bytes"):
        return f"{row[name] / 1e9:.2f}" + ("" if row["compiled"] else " (model)") * (
            name == "bytes"
        )
    if name in ("model", "method"):
        return row[name]
    return " to ".join(short(row[f"{end}_{name}"]) for end in ("least", "most"))


def main(argv: Sequence[str] | None = None) -> None:
    """Plans what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topologies", nargs="*", default=TOPOLOGIES)
    parser.add_argument("--sizes", nargs="*", default=SIZES, choices=SIZES)
    parser.add_argument("--minutes", type=float, default=math.inf, help="none is begun after them")
    parser.add_argument("--again", action="store_true", help="also plan what was kept")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    path, start = options.results / "hardware.json", time.monotonic()
    plans = json.loads(path.read_text()) if path.is_file() else {}
    for size in options.sizes:  # the smallest first
        for topology in options.topologies:
            name = f"{topology} {size}"
            late = time.monotonic() - start > 60 * options.minutes
            if late or (name in plans and not options.again):
                continue
            plans[name] = planned(size, topology)
            path.write_text(json.dumps(plans, indent=1) + "\n")
            print(f"{name}: {plans[name]['seconds']} s", flush=True)
    print(table(plans))


if __name__ == "__main__":
    main()
