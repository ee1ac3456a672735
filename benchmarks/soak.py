"""Memory of a long process: `python -m benchmarks.soak`.

Trains short runs one after another in one process, as a worker of a sweep does, and prints a table
of resident memory, memory maps (the kernel allows 65,530), threads and open files. Methods, prompt
lengths, learning rates, tasks and seeds vary, so that most runs need compiled programs of their
own.

    python -m benchmarks.soak [--runs=1000] [--every=50] [--steps=3] [--folder=F] [--json=FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spjax import text_tables

# Each with the macro of its size, if it has one.
METHODS = {
    "prompt_tuning": "PROMPT_LENGTH",
    "p_tuning": "PROMPT_LENGTH",
    "prefix_tuning": "PROMPT_LENGTH",
    "lora": "RANK",
    "input_bias": "PROMPT_LENGTH",
    "ia3": "",
}
LENGTHS = (1, 5, 20, 50, 100)
TASKS = ("pocket_cb", "pocket_sentiment", "pocket_copa", "pocket_boolq")
COLUMNS = ("runs", "seconds", "rss_mib", "maps", "threads", "files")


def binding_sets(steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method and gin bindings of run after run, without end."""
    number = 0
    while True:
        method, size = list(METHODS.items())[number % len(METHODS)]
        yield (
            method,
            {
                **({size: LENGTHS[number % len(LENGTHS)]} if size else {}),
                "MODEL_SIZE": "pocket_50k",
                "MIXTURE_OR_TASK_NAME": TASKS[number // 2 % len(TASKS)],
                "LEARNING_RATE": 0.01 * (1 + number % 50),
                "SEED": number,
                "TRAIN_STEPS": steps,
                "EVAL_PERIOD": steps,
                "BATCH_SIZE": 8,
                "Run.eval_examples": 16,
                "Run.eval_batch_size": 16,
            },
        )
        number += 1


def usage() -> dict[str, int]:
    """Resident memory in MiB, memory maps, threads and open files of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "rss_mib": int(fields["VmRSS"].split()[0]) >> 10,
        "maps": Path("/proc/self/maps").read_text(encoding="utf-8").count("\n"),
        "threads": int(fields["Threads"]),
        "files": len(os.listdir("/proc/self/fd")),
    }


def train_one(number: int, method: str, bindings: dict[str, Any], folder: Path) -> None:
    """Trains a run as a worker would, from the `config.gin` in a folder that is removed again."""
    from spjax import config
    from spjax.studies import run_folder, worker

    names = ("models/pocket", "runs/pocket", f"methods/{method}")
    lines = [f"{name} = {json.dumps(value)}" for name, value in bindings.items()]
    run = config.load("Run", [f"gin_configs/{name}.gin" for name in names], lines)
    place = folder / f"{number:05d}"
    run_folder.prepare(place, config.config_str(run))
    worker.train_folders([place], lambda progress: None)
    if run_folder.result(place) is None:
        raise RuntimeError(f"run {number} ({method}) has left no result")
    shutil.rmtree(place)


def soak(runs: int, every: int, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: after the first run, and after every so many."""
    from spjax.studies import devices

    devices.keep_memory()
    rows, begin = [], time.monotonic()
    for number, (method, bindings) in zip(range(1, runs + 1), binding_sets(steps)):
        train_one(number, method, bindings, folder)
        if number == 1 or number % every == 0 or number == runs:
            rows.append({"runs": number, "seconds": round(time.monotonic() - begin), **usage()})
            print(", ".join(f"{name} {rows[-1][name]}" for name in COLUMNS), flush=True)
    return rows


def main() -> None:
    """Trains, prints the table, and writes it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--folder", default="")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder or None) as folder:
        rows = soak(args.runs, args.every, args.steps, Path(folder))
    body = [[row[name] for name in COLUMNS] for row in rows]
    print(text_tables.render([COLUMNS, *body], right=range(len(COLUMNS))))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
