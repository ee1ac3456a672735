"""Cost of a study beside training, over its number of runs: `python -m benchmarks.large_studies`.

Seconds and peak memory of `spjax sweep --dry_run` (planning), of `spjax sweep` with nothing left to
train (collecting results, tables, figures), of `spjax plot` and of `spjax report`. One run is
trained; the others are copies of its files with scores and test items of their own, so that every
file is of its real size. Sizes take turns within a round; figures are medians of the rounds. An
exponent is the slope of log cost over log runs: 1 is proportional.

Prints the table and writes `benchmarks/results/large_studies.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.column import ROOT
from benchmarks.growth import exponent
from spjax.api import studies
from spjax.files import read_json, write_json
from spjax.studies import run_folder
from spjax.studies.plan import RunSpec
from spjax.training import item_files

SIZES = ["pocket_50k", "pocket_200k", "pocket_800k", "pocket_3m"]
TASKS = ["pocket_boolq", "pocket_cb", "pocket_rte", "pocket_wic", "pocket_sentiment"]
LENGTHS = [1, 5, 20, 50, 150]
CELLS = len(SIZES) * len(TASKS) * len(LENGTHS)
RUNS = (500, 1500, 5000)
FILES = [f"gin_configs/{name}.gin" for name in ("models/pocket", "runs/pocket")]
FILES += ["gin_configs/methods/prompt_tuning.gin"]
COMMANDS = ("plan", "collect", "plot", "report")
TITLES = {
    "plan": "planning: a dry run of the sweep",
    "collect": "the sweep, all runs finished",
    "plot": "plot",
    "report": "report",
}


def study(folder: Path, name: str, axes: dict[str, list[Any]], steps: int = 100) -> Path:
    """Writes the gin file of a study."""
    path = folder / f"{name}.gin"
    path.write_text(
        f"Study.name = {name!r}\nStudy.arms = [@prompts/Arm()]\n"
        "Study.figures = ['score_over_size', 'score_over_length']\n"
        f"prompts/Arm.name = 'prompts'\nprompts/Arm.gin_files = {FILES}\n"
        f"prompts/Arm.bindings = {{'TRAIN_STEPS': {steps}}}\nprompts/Arm.axes = {axes}\n"
    )
    return path


def spjax(*arguments: str | Path) -> tuple[float, int]:
    """Runs a command; returns its seconds and the most bytes that it held."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "spjax.cli", *map(str, arguments)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"spjax {arguments} failed:\n{output.read().decode()}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def trained(folder: Path) -> Path:
    """Trains one run; returns its folder."""
    axes = {"MODEL_SIZE": SIZES[:1], "MIXTURE_OR_TASK_NAME": TASKS[:1], "PROMPT_LENGTH": [5]}
    spjax("sweep", f"--gin_file={study(folder, 'one', axes)}", f"--output_dir={folder}")
    return next((folder / "one" / "runs").glob("[!.]*"))


def copy(spec: RunSpec, folder: Path, original: Path) -> None:
    """Gives a run the files of another one, with scores and test items of its own."""
    there = spec.folder(folder)
    run_folder.prepare(there, spec.text)
    for path in original.iterdir():
        if path.is_file() and path.name not in ("config.gin", "result.json", item_files.NAME):
            (there / path.name).write_bytes(path.read_bytes())
    result = read_json(original / "result.json")
    rng = np.random.default_rng(int(spec.key, 16))
    level = 0.5 + 0.05 * SIZES.index(spec.labels["model"]) + 0.02 * np.log(spec.run.method.length)
    scores = 100.0 * (rng.random(500) < level)
    score = float(scores.mean())
    names = ("model", "task", "method", "prompt_length", "seed")
    result |= {name: spec.labels[name] for name in names}
    result["model_parameters"] = 10 ** (5 + SIZES.index(spec.labels["model"]))
    for split in ("validation", "test"):
        result[split] = dict.fromkeys(result[split], score)
    del result["config_sha256"]
    task = spec.labels["task"]
    item_files.write(there, {task: (["true"] * len(scores), scores.tolist())})
    write_json(there / "result.json", result)


def finished_study(folder: Path, runs: int, original: Path) -> tuple[Path, Path]:
    """Makes a study whose runs are all finished; returns its gin file and its folder."""
    axes = {
        "MODEL_SIZE": SIZES,
        "MIXTURE_OR_TASK_NAME": TASKS,
        "PROMPT_LENGTH": LENGTHS,
        "SEED": list(range(runs // CELLS)),
    }
    path = study(folder, f"runs_{runs}", axes)
    planned = studies.plan_study([str(path)], [], [], folder)
    for spec in planned.specs:
        copy(spec, planned.folder, original)
    return path, planned.folder


def measure(path: Path, folder: Path) -> dict[str, tuple[float, int]]:
    """Seconds and peak bytes of each command on a study."""
    sweep = ("sweep", f"--gin_file={path}", f"--output_dir={folder.parent}")
    return {
        "plan": spjax(*sweep, "--dry_run"),
        "collect": spjax(*sweep),
        "plot": spjax("plot", folder),
        "report": spjax("report", folder),
    }


def table(figures: list[dict[str, Any]]) -> str:
    """The figures as a table."""
    runs = sorted({figure["runs"] for figure in figures})
    lines = [
        "| command | " + " | ".join(f"{count:,} runs" for count in runs) + " | exponent |",
        "| --- |" + " --- |" * (len(runs) + 1),
    ]
    for command in COMMANDS:
        of = sorted((f for f in figures if f["command"] == command), key=lambda f: f["runs"])
        cells = [f"{f['seconds']:.1f} s, {f['bytes'] / 2**30:.2f} GiB" for f in of]
        slopes = [exponent(runs, [f[cost] for f in of]) for cost in ("seconds", "bytes")]
        cells.append(f"{slopes[0]:.2f}, {slopes[1]:.2f}")
        lines.append(f"| {TITLES[command]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=RUNS, help=f"multiples of {CELLS}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results")
    args = parser.parse_args()
    if wrong := [runs for runs in args.runs if runs < CELLS or runs % CELLS]:
        parser.error(f"--runs takes multiples of {CELLS}, not {wrong[0]}")
    about = machine.describe("numpy", "pandas", "matplotlib")
    measured: dict[tuple[str, int], list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        original = trained(folder)
        made = {runs: finished_study(folder, runs, original) for runs in args.runs}
        for _ in range(args.rounds):
            for runs, (path, study_folder) in made.items():
                for command, cost in measure(path, study_folder).items():
                    measured.setdefault((command, runs), []).append(cost)
                    print(f"{runs} runs, {command}: {cost[0]:.1f} s", file=sys.stderr)
    figures = [
        {
            "command": command,
            "runs": runs,
            "seconds": statistics.median(seconds for seconds, _ in costs),
            "bytes": max(most for _, most in costs),
        }
        for (command, runs), costs in measured.items()
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": about, "rounds": args.rounds, "figures": figures}, indent=1)
    (args.output / "large_studies.json").write_text(text + "\n")
    print(table(figures))


if __name__ == "__main__":
    main()
