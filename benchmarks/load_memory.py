"""Host memory and seconds to load frozen weights: `python -m benchmarks.load_memory`.

Writes a random model (T5 1.1 Base is 1 GB in float32) as Hugging Face and as T5X have it, loads
each in a fresh process, and prints peak memory above what the imports took, over the size of the
weights in the dtype they are loaded to: 1.0 is the weights and nothing else. Linux only (/proc).

transformers' `from_pretrained` reads the same Hugging Face weights beside, where it can be
imported; `--torch_python` names another interpreter that has it. It maps float32 files into memory
and reads a page when it is first touched, so every tensor is summed within the measurement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peft_peer import reset_peak, status

DTYPES = ("float32", "bfloat16", "int8")
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
LIMIT = 1.3  # of the float dtypes


def _random(shape: tuple[int, ...]) -> Any:
    """An array of random numbers that are made when they are read."""
    import numpy as np

    from spjax.checkpoints.weights.stored_array import StoredArray

    def fill(index: Any, out: Any) -> None:
        out[...] = np.random.default_rng(out.shape).standard_normal(out.shape, np.float32) * 0.05

    return StoredArray(shape, fill)


def write(size: str, folder: Path) -> int:
    """Writes both checkpoints in float32; returns the number of parameters."""
    from spjax import trees
    from spjax.checkpoints.weights import convert
    from spjax.models import get_size
    from spjax.models.t5 import weight_shapes

    config = get_size(size)
    shapes = trees.flatten(weight_shapes(config))
    leaves = {name: _random(leaf.shape) for name, leaf in shapes.items()}
    convert.write_huggingface(folder / "huggingface", leaves, config, "float32")
    _write_t5x(folder / "t5x", leaves)
    return trees.count(weight_shapes(config))


def _write_t5x(folder: Path, leaves: dict[str, Any]) -> None:
    """The layout of T5X's version 3: one gzip chunk for each matrix, vectors in the index."""
    import flax.serialization
    import tensorstore as ts

    from spjax import trees

    folder.mkdir()
    target = {}
    for name, leaf in leaves.items():
        array = leaf.read("float32")
        if array.ndim < 2 or "relpos" in name:
            target[name] = array
            continue
        place = {"driver": "file", "path": "target." + name.replace("/", ".")}
        metadata = {"shape": list(array.shape), "chunks": list(array.shape), "dtype": "<f4"}
        metadata["compressor"] = {"id": "gzip", "level": 1}
        spec = {"driver": "zarr", "kvstore": place, "metadata": metadata}
        where = {"kvstore": {"driver": "file", "path": str(folder / place["path"])}}
        ts.open(spec | where, create=True).result().write(array).result()
        target[name] = spec
    index = {"version": 3, "optimizer": {"target": trees.unflatten(target), "state": {"step": 0}}}
    (folder / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(index))


def measured(load: Callable[[], Any]) -> dict[str, float]:
    """Peak resident memory above that at the start, and seconds, of a call."""
    before, start = reset_peak(), time.perf_counter()
    kept = load()
    seconds = time.perf_counter() - start
    peak = status("VmHWM") - before
    del kept
    return {"peak_bytes": peak, "seconds": seconds}


def load_here(kind: str, dtype: str, folder: Path, size: str) -> dict[str, float]:
    """Loads one checkpoint in this process."""
    if kind == "transformers":
        import torch
        import transformers

        model = transformers.T5ForConditionalGeneration
        wanted = getattr(torch, dtype)

        def load() -> Any:
            loaded = model.from_pretrained(folder / "huggingface", dtype=wanted)
            return loaded, [float(tensor.sum()) for tensor in loaded.parameters()]

        return measured(load)
    import jax

    from spjax.checkpoints.weights import weights
    from spjax.models import get_size
    from spjax.models.t5 import weight_shapes

    weight_shapes(get_size(size))  # tracing is no part of loading
    jax.device_put(0).block_until_ready()
    return measured(lambda: weights.load(size, str(folder / kind), dtype))


def run(python: str, *args: str) -> dict[str, float]:
    """Runs one measurement in a fresh process; empty if it fails."""
    command = [python, "-m", "benchmarks.load_memory", "--only", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(args[:2])}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="t5_1_1_base", help="name of a model size")
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        kind, dtype, folder, size = args.only
        print(json.dumps(load_here(kind, dtype, Path(folder), size)))
        return
    from spjax import text_tables  # here, because the interpreter of transformers may lack rich

    with tempfile.TemporaryDirectory() as folder:
        count = write(args.size, Path(folder))
        print(f"{args.size}: {count} parameters, {4 * count / 1e9:.2f} GB in float32")
        rows = [("from", "to", "peak MB", "over size", "seconds", "")]
        for kind in ("huggingface", "t5x", "transformers"):
            python = args.torch_python if kind == "transformers" else sys.executable
            for dtype in DTYPES[: 2 if kind == "transformers" else 3]:
                if result := run(python, kind, dtype, folder, args.size):
                    ratio = result["peak_bytes"] / (count * BYTES[dtype])
                    late = "above the limit" if dtype != "int8" and ratio > LIMIT else ""
                    peak, seconds = f"{result['peak_bytes'] / 1e6:.0f}", f"{result['seconds']:.1f}"
                    rows.append((kind, dtype, peak, f"{ratio:.2f}", seconds, late))
        print(text_tables.render(rows, right=(2, 3, 4)))


if __name__ == "__main__":
    main()
