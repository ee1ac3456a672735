"""Seconds to compile layers as a loop and unrolled: `python -m benchmarks.layers`.

Compiles the gradients and the update of a step of T5 1.1 for TPUs that need not be here, by method
and size, in a process each, which is ended after `--seconds`. Needs libtpu. Keeps
`benchmarks/results/layers.json` and prints the table of docs/plan.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import queue
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from spjax.studies.hardware import tpu_compiler

SIZES = ("small", "base", "large", "xl")
METHODS = ("prompt_tuning", "lora", "full_fine_tuning")
TOPOLOGY = "v5e:4x4"
ROWS, INPUTS, TARGETS = 32, 640, 16  # of a chunk; a prompt of 100 before 512 tokens, padded


def compile_step(size: str, method: str, scan: bool, topology: str) -> dict[str, Any]:
    """Seconds to compile a step, and the bytes of its temporaries on a chip.

    Weights are in bfloat16 and sharded by the rules `fsdp`, the only ones that hold every size.
    """
    from spjax import methods, partitioning, platforms
    from spjax.data.batching.packing import ChunkShape
    from spjax.models import get_size
    from spjax.studies.hardware import topologies
    from spjax.studies.hardware.settings import Setting
    from spjax.training import lowering
    from spjax.training.optimizers import Adafactor
    from spjax.training.run import Run

    slice_ = topologies.parse(topology)
    name = f"t5_1_1_{size}"
    run = Run(
        task="pocket_cb",
        model=name,
        method=methods.get(method)(),
        optimizer=Adafactor(0.001),
        logical_axis_rules="fsdp",
        remat=True,
    )
    with platforms.compiling_for("tpu"):
        setting = Setting(slice_.count, 1, "fsdp", weights_dtype="bfloat16")
        place = setting.placement(tpu_compiler.Compiler(slice_).mesh(setting))
        config = partitioning.for_devices(get_size(name))
        config = dataclasses.replace(config, scan_layers=scan)
        step = lowering.step_shapes(run, config, place, ChunkShape(ROWS, INPUTS, TARGETS, 1))
        programs = [step.gradients()]
        if run.method.changes_weights:
            programs.append(step.update())
        start = time.monotonic()
        needs = [tpu_compiler.compiled_needs(program) for program in programs]
    return {
        "seconds": round(time.monotonic() - start, 1),
        "fits": all(need["fits"] for need in needs),
        "temporaries": max(need["temporaries"] for need in needs),
    }


def _send(results: Any, *arguments: Any) -> None:
    try:
        results.put(compile_step(*arguments))
    except Exception as error:
        results.put({"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"})


def compile_within(seconds: float, *arguments: Any) -> dict[str, Any]:
    """`compile_step` in a process of its own; {"over": seconds} where it takes longer."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_send, args=(results, *arguments))
    process.start()
    end = time.monotonic() + seconds
    try:
        while True:
            try:
                return results.get(timeout=1.0)
            except queue.Empty:
                if time.monotonic() > end:
                    return {"over": seconds}
                if not process.is_alive():
                    return {"error": f"the compiler ended with status {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def table(cases: dict[str, Any]) -> str:
    """The kept cases in Markdown, a row a size and method."""
    lines = [
        "| model | method | loop | unrolled | temporaries, loop | unrolled |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name in dict.fromkeys(name.rpartition(" ")[0] for name in cases):
        pair = [cases.get(f"{name} {layers}", {}) for layers in ("loop", "unrolled")]
        cells = [*map(_seconds, pair), *map(_gigabytes, pair)]
        lines.append(f"| {' | '.join([*name.split(), *cells])} |")
    return "\n".join(lines)


def _seconds(case: dict[str, Any]) -> str:
    if "over" in case:
        return f"over {case['over']:.0f} s"
    return f"{case['seconds']:.0f} s" if "seconds" in case else "-"


def _gigabytes(case: dict[str, Any]) -> str:
    if "temporaries" not in case:
        return "-"
    return f"{case['temporaries'] / 1e9:.2f} GB{'' if case['fits'] else ', does not fit'}"


def main(argv: Sequence[str] | None = None) -> None:
    """Compiles what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", default=SIZES, choices=SIZES)
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--topology", default=TOPOLOGY)
    parser.add_argument("--seconds", type=float, default=600.0, help="most for each")
    parser.add_argument("--again", action="store_true", help="also compile what was kept")
    parser.add_argument("--results", type=Path, default=machine.ROOT / "benchmarks" / "results")
    options = parser.parse_args(argv)
    path = options.results / "layers.json"
    kept = json.loads(path.read_text()) if path.is_file() else {"cases": {}}
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
    os.environ.update(tpu_compiler.VARIABLES)  # of the processes to come
    for size in options.sizes:
        for method in options.methods:
            for layers in ("loop", "unrolled"):
                name = f"{size} {method} {layers}"
                if name in kept["cases"] and not options.again:
                    continue
                case = compile_within(
                    options.seconds, size, method, layers == "loop", options.topology
                )
                print(name, case, flush=True)
                if "error" in case:
                    continue
                kept["cases"][name] = case
                kept |= {"topology": options.topology, "versions": versions}
                path.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(kept["cases"]))


if __name__ == "__main__":
    main()
