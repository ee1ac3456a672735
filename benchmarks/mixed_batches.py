"""Examples a second of a bank of prompts in mixed batches: `python -m benchmarks.mixed_batches`.

One frozen pocket_800k and six prompts, of as many tasks and of lengths from 1 to 150, answer a
stream of requests in random order, greedily. Three ways take turns, and the median of the rounds
counts, so that other load on the machine hits all alike:

    mixed     every batch as it comes, each row with its own prompt
    separate  every batch as it comes, split by task: what a server without a bank can do at the
              same delay
    sorted    all requests sorted by task first, so that batches are full: only where all of them
              are there from the start

Answers must be equal. Texts are those of the tasks' test splits; prompts are drawn from the
vocabulary (their content costs nothing). Prints a table and writes
`benchmarks/results/mixed_batches.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import machine
from spjax import text_tables
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.data.tasks import registry
from spjax.data.token_cache import cache
from spjax.inference.prediction import Predictor, PreparedPrompt
from spjax.models import get_size
from spjax.models.decoding import Decoding
from spjax.vocabularies import vocabulary

OUT = machine.ROOT / "benchmarks" / "results" / "mixed_batches.json"
MODEL = "pocket_800k"
BANK = {"boolq": 1, "cb": 5, "copa": 20, "rte": 50, "wic": 100, "sentiment": 150}  # prompt lengths
KINDS = ("mixed", "separate", "sorted")
BATCH_SIZES = (8, 32, 128)
REQUESTS, TARGET_LENGTH = 768, 8
Request = tuple[int, list[int]]  # whose prompt, and token ids


def bank(model: str = MODEL, lengths: dict[str, int] = BANK) -> Predictor:
    """The model with a prompt for each task."""
    base, rng = weights.load(model, ""), np.random.default_rng(0)
    table_VD = np.asarray(base["token_embedder"]["embedding"], np.float32)
    prompts = [
        PreparedPrompt(Prompt.from_array(table_VD[rng.integers(3, len(table_VD), n)]))
        for n in lengths.values()
    ]
    longest = max(registry.get(f"pocket_{name}").input_length for name in lengths)
    words = vocabulary.load_vocabulary("pocket")
    config = get_size(model)
    return Predictor(config, base, prompts, words, Decoding(), longest, TARGET_LENGTH)


def requests(count: int, lengths: dict[str, int] = BANK) -> list[Request]:
    """Test inputs of all tasks in random order, as many of each."""
    splits = [cache.load(f"pocket_{name}", "test") for name in lengths]
    result = [
        (prompt_number, np.asarray(split.inputs[i]).tolist())
        for prompt_number, split in enumerate(splits)
        for i in range(count // len(splits))
    ]
    return [result[i] for i in np.random.default_rng(1).permutation(len(result))]


def batches(kind: str, waiting: Sequence[Request], size: int) -> Iterator[list[int]]:
    """Numbers of the requests that are answered at once, one way."""
    order = list(range(len(waiting)))
    if kind == "sorted":
        order.sort(key=lambda i: waiting[i][0])
    for start in range(0, len(order), size):
        part = order[start : start + size]
        if kind == "mixed":
            yield part
            continue
        for prompt_number in sorted({waiting[i][0] for i in part}):
            yield [i for i in part if waiting[i][0] == prompt_number]


def answers(predictor: Predictor, kind: str, waiting: Sequence[Request], size: int) -> list[str]:
    """Returns the text written for each request, in the order of the requests."""
    text_of = {}
    for part in batches(kind, waiting, size):
        texts = predictor.answer([waiting[i][1] for i in part], [waiting[i][0] for i in part])
        text_of |= {i: answer.text for i, answer in zip(part, texts, strict=True)}
    return [text_of[i] for i in range(len(waiting))]


def measure(predictor: Predictor, waiting: Sequence[Request], size: int, rounds: int) -> list[dict]:
    """Requests a second of each way, and whether all of them give the same answers."""
    first = {kind: answers(predictor, kind, waiting, size) for kind in KINDS}  # compiles too
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            start = time.perf_counter()
            answers(predictor, kind, waiting, size)
            seconds[kind].append(time.perf_counter() - start)
    return [
        {
            "kind": kind,
            "batch_size": size,
            "batches": len(list(batches(kind, waiting, size))),
            "per_s": len(waiting) / statistics.median(seconds[kind]),
            "equal_answers": first[kind] == first["mixed"],
        }
        for kind in KINDS
    ]


def show(result: dict[str, Any]) -> None:
    """Prints the figures, and those of mixed batches as multiples of the other ways."""
    rows: list[tuple[object, ...]] = [
        ("batch", "way", "batches", "requests/s", "mixed over it", "")
    ]
    for size in sorted({figure["batch_size"] for figure in result["figures"]}):
        of_size = [figure for figure in result["figures"] if figure["batch_size"] == size]
        for figure in of_size:
            ratio = of_size[0]["per_s"] / figure["per_s"]
            wrong = "" if figure["equal_answers"] else "OTHER ANSWERS"
            rate = f"{figure['per_s']:.0f}"
            rows.append((size, figure["kind"], figure["batches"], rate, f"{ratio:.2f}", wrong))
    print(text_tables.render(rows, right=(0, 2, 3, 4)))


def main() -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    predictor, waiting = bank(), requests(REQUESTS)
    facts = machine.describe("jax", "numpy", "flax")
    result = {
        "machine": facts,
        "model": MODEL,
        "prompt_lengths": BANK,
        "requests": len(waiting),
        "figures": [],
    }
    for size in BATCH_SIZES:
        result["figures"] += measure(predictor, waiting, size, args.rounds)
    show(result)
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
