"""Time that a user waits: `python -m benchmarks.startup`.

Seconds of `spjax --help`, and from `spjax train` on a pocket model to its first training step:
cold, with nothing compiled before, and warm, with what the cold run left in the cache of compiled
programs. Medians of several processes. Writes `benchmarks/results/startup.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine
from benchmarks.column import FILES, ROOT, SETTINGS, TASK, fresh, timed

ROUNDS = 3
SPJAX = [sys.executable, "-m", "spjax.cli"]


def first_step(folder: Path, cache: Path) -> float:
    """Seconds until the first step of a run is reported, after which it is stopped."""
    command = [*SPJAX, "train", *(f"--gin_file=gin_configs/{name}.gin" for name in FILES)]
    values = SETTINGS | {"PROMPT_LENGTH": 20, "MODEL_DIR": str(folder)}
    command += [f"--gin.{name}={value!r}" for name, value in values.items()]
    environment = os.environ | {"SPJAX_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("training"):
                break
        else:
            raise RuntimeError(f"{' '.join(command)} ended without a step")
        took = time.perf_counter() - start
        process.kill()
    return took


def main() -> None:
    """Prints the seconds and writes the JSON."""
    seconds: dict[str, list[float]] = {"help": [], "cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        timed([*SPJAX, "cache", f"--task={TASK}"], folder / "cache")
        for i in range(ROUNDS):
            seconds["help"].append(timed([*SPJAX, "--help"], folder / "cache"))
            cache = fresh(folder, str(i))
            seconds["cold"].append(first_step(folder / f"cold{i}", cache))
            seconds["warm"].append(first_step(folder / f"warm{i}", cache))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(", ".join(f"{name} {took:.2f} s" for name, took in medians.items()))
    result = {"machine": machine.describe("jax", "jaxlib"), "seconds": medians, "all": seconds}
    path = Path(__file__).parent / "results" / "startup.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
