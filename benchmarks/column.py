"""A column of the paper's Figure 3(a) for one pocket model: `python -m benchmarks.column`.

Six prompt lengths x three seeds on one task, three ways, each from an empty cache of compiled
programs: one sweep; `spjax train` run by run; PEFT on PyTorch run by run (`--torch_python`), as a
script that loads the model, trains and evaluates as often on as many examples, with one thread or
all, whichever is faster. A process for each run, so imports count. `spjax train` is measured for
two seeds, of which the second, that finds its programs compiled, counts twice; PEFT for one.

Prints the ratios and writes `benchmarks/results/column.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import lengths, machine
from benchmarks.peft_peer import Peer

LENGTHS = (1, 5, 20, 50, 100, 150)
SEEDS = (0, 1, 2)
MODEL, TASK = "pocket_200k", "pocket_wic"
STEPS, EVERY, BATCH = 120, 40, 16
ROOT = Path(__file__).parents[1]
FILES = ("models/pocket", "runs/pocket", "methods/prompt_tuning")
SETTINGS = {
    "MODEL_SIZE": MODEL,
    "MIXTURE_OR_TASK_NAME": TASK,
    "TRAIN_STEPS": STEPS,
    "EVAL_PERIOD": EVERY,
    "BATCH_SIZE": BATCH,
}


def study(folder: Path) -> Path:
    """The gin file of the sweep."""
    files = [f"gin_configs/{name}.gin" for name in FILES]
    path = folder / "column.gin"
    path.write_text(
        "Study.name = 'column'\nStudy.arms = [@column/Arm()]\n"
        "Study.figures = ['score_over_length']\n"
        f"column/Arm.name = 'prompt'\ncolumn/Arm.gin_files = {files}\n"
        f"column/Arm.bindings = {SETTINGS}\n"
        f"column/Arm.axes = {{'PROMPT_LENGTH': {list(LENGTHS)}, 'SEED': {list(SEEDS)}}}\n"
    )
    return path


def timed(command: list[str], cache: Path, root: Path = ROOT) -> float:
    """Seconds of a command with the code of a checkout, which keeps its caches in a folder."""
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"SPJAX_CACHE": str(cache), "PYTHONPATH": path}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - start


def fresh(folder: Path, name: str) -> Path:
    """A cache with the task's tokens and nothing compiled."""
    cache_dir = folder / f"cache_{name}"
    shutil.copytree(folder / "cache", cache_dir, ignore=shutil.ignore_patterns("xla"))
    return cache_dir


def run_by_run(folder: Path) -> list[float]:
    """Seconds of `spjax train`, one process a run, for each of two seeds."""
    cache, totals = fresh(folder, "train"), []
    for seed in SEEDS[:2]:
        total = 0.0
        for length in LENGTHS:
            command = [sys.executable, "-m", "spjax.cli", "train"]
            command += [f"--gin_file=gin_configs/{name}.gin" for name in FILES]
            values = SETTINGS | {
                "PROMPT_LENGTH": length,
                "SEED": seed,
                "MODEL_DIR": str(folder / f"run_{length}_{seed}"),
            }
            command += [f"--gin.{name}={value!r}" for name, value in values.items()]
            total += timed(command, cache)
        totals.append(total)
    return totals


def peft(folder: Path, python: str) -> tuple[float, int]:
    """Seconds of PEFT, one process a run, for one seed, and its threads, which are the faster."""
    weights = folder / "huggingface"
    ours = [sys.executable, "-m", "spjax.cli", "convert"]
    shipped = ROOT / "spjax" / "pocket" / "weights" / f"{MODEL}.safetensors"
    timed([*ours, str(shipped), str(weights), "--format=huggingface"], folder / "cache")
    for split, count in (("examples", 4096), ("validation", validation_size())):
        lengths.save(folder / f"{split}.npz", *lengths.draw(TASK, count))

    def seconds(length: int, threads: int) -> float:
        start = time.perf_counter()
        with Peer(python) as peer:
            peer.ask(
                {
                    "do": "run",
                    "folder": str(weights),
                    "prompt_length": length,
                    "examples": str(folder / "examples.npz"),
                    "batch_size": BATCH,
                    "validation": str(folder / "validation.npz"),
                    "steps": STEPS,
                    "eval_every": EVERY,
                    "eval_batch_size": 64,
                    "max_new_tokens": 4,
                    "threads": threads,
                }
            )
        return time.perf_counter() - start

    tried = {threads: seconds(20, threads) for threads in (1, os.cpu_count() or 1)}
    best = min(tried, key=tried.__getitem__)
    return sum(seconds(length, best) for length in LENGTHS), best


def validation_size() -> int:
    """Examples that our runs evaluate on."""
    from spjax.data.token_cache import cache

    return cache.load(TASK, "validation").num_examples


def main() -> None:
    """Prints the ratios and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", default="", help="an interpreter with the torch extra")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "machine": machine.describe("jax", "jaxlib"),
        "model": MODEL,
        "task": TASK,
        "lengths": LENGTHS,
        "seeds": SEEDS,
        "steps": STEPS,
        "batch_size": BATCH,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours = [sys.executable, "-m", "spjax.cli"]
        timed([*ours, "cache", f"--task={TASK}"], folder / "cache")
        sweep = [*ours, "sweep", f"--gin_file={study(folder)}", f"--output_dir={folder / 'out'}"]
        result["sweep_s"] = timed(sweep, fresh(folder, "sweep"))
        print(f"sweep: {result['sweep_s']:.0f} s", flush=True)
        result["train_seeds_s"] = run_by_run(folder)
        result["train_s"] = result["train_seeds_s"][0] + 2 * result["train_seeds_s"][1]
        result["train_ratio"] = result["train_s"] / result["sweep_s"]
        print(f"spjax train: {result['train_s']:.0f} s, {result['train_ratio']:.1f} x", flush=True)
        if options.torch_python:
            seed_s, result["peft_threads"] = peft(folder, options.torch_python)
            result["peft_s"] = len(SEEDS) * seed_s
            result["peft_ratio"] = result["peft_s"] / result["sweep_s"]
            print(f"PEFT: {result['peft_s']:.0f} s, {result['peft_ratio']:.1f} x", flush=True)
    path = Path(__file__).parent / "results" / "column.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
