"""Profile of a training step: `python -m benchmarks.step_profile [MODEL]`.

Traces the gradients of a chunk of packed rows, as `benchmarks.speed` makes them, with JAX's own
profiler, and adds up the operations of the compiled program by kind. Prints a table and writes
`benchmarks/results/profile_{model}.json`.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from benchmarks.speed import BATCH, Ours
from spjax import text_tables
from spjax.data.batching import batching, packing
from spjax.training import trainer
from spjax.training.host_memory import keep_freed_memory
from spjax.types import Batch

ROUNDS = 5
_NAME = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALLS = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")


def kinds(hlo: str) -> dict[str, str]:
    """The kind of each operation of a compiled program, by its name."""
    bodies: dict[str, list[str]] = collections.defaultdict(list)
    lines, current = {}, ""
    for line in hlo.splitlines():
        if line.rstrip().endswith("{") and not line.startswith(" "):
            current = line.removeprefix("ENTRY ").lstrip("%").split(" ")[0]
        elif match := _NAME.match(line):
            bodies[current].append(match[2])
            lines[match[1]] = match[2]
    return {name: _kind([text, *_body(text, bodies)]) for name, text in lines.items()}


def _body(text: str, bodies: dict[str, list[str]]) -> list[str]:
    inner = []
    for called in _CALLS.findall(text):
        for line in bodies.get(called, []):
            inner += [line, *_body(line, bodies)]
    return inner


def _kind(texts: list[str]) -> str:
    products = [text for text in texts if re.search(r" (dot|convolution)\(", text)]
    if any(text.split("[")[1].split("]")[0].count(",") >= 2 for text in products):
        return "attention: products, softmax, masks"
    if products:
        return "products with weights"
    if any(" exponential(" in text or " divide(" in text for text in texts):
        return "softmax and losses"
    if any(re.search(r" (gather|scatter)\(", text) for text in texts):
        return "looking up embeddings and soft tokens"
    if all(re.search(r" (copy|transpose|bitcast|parameter|reshape|fusion)\(", t) for t in texts):
        return "copies and transposes"
    return "activations, norms, sums"


def profile(model: str, task: str, prompt: int) -> dict[str, Any]:
    """Milliseconds a chunk by kind of operation, and the chunk's shape."""
    ours = Ours(model, task, prompt, 1)
    batch = batching.rows(ours.split, np.arange(BATCH), ours.layout)
    chunk = Batch(**packing.pack(batch, ours.shapes)[0])

    def begin() -> tuple[Any, ...]:
        return trainer.begin_step(ours.program, ours.states, ours.base, jax.random.key(0))

    inputs, key, *sums = begin()
    args = (inputs, ours.base, chunk, np.ones(1, np.float32), key)
    compiled = trainer.add_gradients.lower(ours.program.of_model, *args, *sums).compile()
    jax.block_until_ready(compiled(*args, *sums))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(ROUNDS):
                jax.block_until_ready(compiled(*args, *begin()[2:]))
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    known, total = kinds(compiled.as_text()), collections.Counter()
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            kind = known.get(event["args"]["hlo_op"], "other")
            total[kind] += event["dur"] / 1e3 / ROUNDS
    return {
        "model": model,
        "task": task,
        "prompt": prompt,
        "rows": list(chunk.inputs_BL.shape),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "milliseconds": dict(total.most_common()),
    }


def main() -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="t5_1_1_small")
    options = parser.parse_args()
    keep_freed_memory()
    task = "pocket_boolq" if options.model.startswith("pocket") else "boolq"
    result = profile(options.model, task, 20) | {"machine": machine.describe("jax", "jaxlib")}
    whole = sum(result["milliseconds"].values())
    print(f"{options.model}, rows {result['rows']}, {task}, a prompt of 20")
    rows = [
        (f"{took:.1f} ms", f"{took / whole:.1%}", kind)
        for kind, took in result["milliseconds"].items()
    ]
    print(text_tables.render(rows, right=(0, 1)))
    path = Path(__file__).parent / "results" / f"profile_{options.model}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
