"""Programs that a pocket run compiles: `python -m benchmarks.compilations`.

Trains the run of `benchmarks.column` with nothing compiled before, and then, with what it left in
the cache of compiled programs, the same run once more, one with another prompt length and seed, and
one of input bias on another task. Prints seconds of XLA's compilation by program, and how many
programs each run finds in the cache and how many it compiles. Writes
`benchmarks/results/compilations.json`.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.column import FILES, ROOT, SETTINGS

SHOWN = 6  # programs with most seconds
RUNS: dict[str, Mapping[str, Any]] = {
    "first run": {},
    "same run": {},
    "P = 50, seed 1": {"PROMPT_LENGTH": 50, "SEED": 1},
    "input bias, RTE": {"MIXTURE_OR_TASK_NAME": "pocket_rte", "method": "input_bias"},
}
_COMPILED = re.compile(r"Finished XLA compilation of jit\((\S+)\) in ([\d.e-]+) sec")
_HIT = re.compile(r"Persistent compilation cache hit for 'jit_")


def compilations(changes: Mapping[str, Any], folder: Path, cache: Path) -> dict[str, Any]:
    """Trains a run; returns seconds by program, and programs in all and of the cache."""
    values = {**SETTINGS, "PROMPT_LENGTH": 20, "SEED": 0, "MODEL_DIR": str(folder), **changes}
    files = [*FILES[:2], f"methods/{values.pop('method', 'prompt_tuning')}"]
    command = [sys.executable, "-m", "spjax.cli", "train"]
    command += [f"--gin_file=gin_configs/{name}.gin" for name in files]
    command += [f"--gin.{name}={value!r}" for name, value in values.items()]
    environment = os.environ | {"SPJAX_CACHE": str(cache), "JAX_LOG_COMPILES": "1"}
    log = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stderr
    seconds: dict[str, float] = collections.defaultdict(float)
    programs = _COMPILED.findall(log)
    for name, took in programs:
        seconds[name] += float(took)
    return {"seconds": seconds, "programs": len(programs), "cached": len(_HIT.findall(log))}


def table(results: Mapping[str, dict[str, Any]]) -> str:
    """Returns seconds and counts in Markdown, a column a run."""
    first = next(iter(results.values()))["seconds"]
    names = sorted(first, key=first.__getitem__, reverse=True)[:SHOWN]
    lines = [["", *results], ["---", *["---:"] * len(results)]]
    for name in names:
        lines.append(
            [f"`{name}`", *(f"{r['seconds'].get(name, 0):.2f} s" for r in results.values())]
        )
    others = [
        sum(took for name, took in r["seconds"].items() if name not in names)
        for r in results.values()
    ]
    lines.append(["all others", *(f"{took:.2f} s" for took in others)])
    lines.append(["programs", *(str(r["programs"]) for r in results.values())])
    compiled = [r["programs"] - r["cached"] for r in results.values()]
    lines.append(["compiled", *map(str, compiled)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints the table and writes the JSON."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        results = {
            name: compilations(changes, folder / str(number), folder / "cache")
            for number, (name, changes) in enumerate(RUNS.items())
        }
    print(table(results))
    result = {"machine": machine.describe("jax", "jaxlib"), "runs": results}
    path = Path(__file__).parent / "results" / "compilations.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
