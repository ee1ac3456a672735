"""Score lost and memory saved by an int8 base: prompts of 20 on the pocket ladder.

Every run is made twice with the same seed, over float32 and over int8 weights, trained and scored
over the same base; the difference is that of the pairs, with its standard error. Test scores in
percent, checkpoints chosen on validation.

    python -m experiments.pocket.int8 [FOLDER]

FOLDER (results/int8) keeps finished runs; a call that was stopped goes on. About 20 minutes on 2
CPU cores.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from pathlib import Path

import jax

from spjax import config
from spjax.checkpoints.weights import weights
from spjax.studies import run_folder
from spjax.training import loop
from spjax.training.run import Run

GIN_FILES = [
    "gin_configs/models/pocket.gin",
    "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
]
TASKS = ["boolq", "cb", "rte", "wic", "wsc", "sentiment"]
SEEDS = [0, 1, 2]


def runs(model: str) -> list[Run]:
    """The float32 runs of a size."""
    axes = {"MIXTURE_OR_TASK_NAME": [f"pocket_{task}" for task in TASKS], "SEED": SEEDS}
    fixed = {"MODEL_SIZE": model, "PROMPT_LENGTH": 20}
    return list(config.product(GIN_FILES, fixed, axes).runs)


def score(run: Run, folder: Path) -> float:
    """Test score of a run, trained unless it has been."""
    path = folder / config.run_key(run)
    result = run_folder.result(path) or loop.train([run], [path])[0]
    return (result["test"] or {}).get("score", math.nan)  # a run that diverged has none


def num_bytes(run: Run) -> int:
    """Size of a run's frozen weights in memory."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(run.open_model().weights))


def main() -> None:
    """Prints the table as markdown, a line for each size."""
    folder = Path(sys.argv[1] if sys.argv[1:] else "results/int8")
    print("| model | float32 | int8 | difference | bytes in float32 | bytes in int8 | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    sizes = {path.stem: path.stat().st_size for path in weights.SHIPPED.glob("*.safetensors")}
    for model in sorted(sizes, key=sizes.get):
        pairs = [(run, dataclasses.replace(run, weights_dtype="int8")) for run in runs(model)]
        scores = [[score(run, folder) for run in pair] for pair in pairs]
        whole, rounded = (num_bytes(run) for run in pairs[0])
        first, second = (statistics.mean(column) for column in zip(*scores))
        gains = [b - a for a, b in scores]
        error = statistics.stdev(gains) / len(gains) ** 0.5
        print(
            f"| {model} | {first:.1f} | {second:.1f} | {second - first:+.2f} ± {error:.2f} "
            f"| {whole:,} | {rounded:,} | {whole / rounded:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
