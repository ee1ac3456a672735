"""Large models and gangs on an accelerator: `python -m benchmarks.accelerators`.

Gradients of a prompt of 100 before 512 tokens for T5 1.1 XL and XXL, base in bfloat16 and in int8,
attention by cuDNN and by XLA: share of the measured rate of products, and peak memory; each case in
a process of its own. Then gangs of 1, 2, 4, ... runs over T5 1.1 Small and Base (inputs as long as
BoolQ's), until twice the runs gain less than a tenth. Weights are random; TensorFlow and PyTorch
are not needed.

Prints the tables and writes `benchmarks/results/accelerators_{device}.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine, peft_peer, speed
from spjax import partitioning, trees
from spjax.injection import Injection, padded
from spjax.models import T5Config, fused, get_size, quantization
from spjax.models.flops import forward_flops
from spjax.models.t5 import weight_shapes
from spjax.studies.calibration import least_seconds, rows_of
from spjax.training import trainer

PROMPT, TARGETS = 100, 8
LONGEST = 1024  # positions of what is compared with XLA's attention
RISE = 1.1
FULL, NO_ROOM = "RESOURCE_EXHAUSTED", "does not fit into memory"


def random_weights(config: T5Config, dtype: str) -> Any:
    """Random weights of a model in bfloat16 or int8, made leaf by leaf where they stay."""
    weights = {}
    for number, (name, leaf) in enumerate(trees.flatten(weight_shapes(config)).items()):
        key, axis = jax.random.key(number), quantization.shared_axis(name)
        if dtype == "int8" and axis is not None:
            scales = [1 if i == axis % leaf.ndim else n for i, n in enumerate(leaf.shape)]
            values = jax.random.randint(key, leaf.shape, -127, 128, jnp.int8)
            weights[name] = quantization.Quantized(values, jnp.full(scales, 1e-4))
        else:
            kind = jnp.float32 if dtype == "int8" else jnp.bfloat16
            weights[name] = 0.02 * jax.random.normal(key, leaf.shape, kind)
    return trees.unflatten(weights)


def large(model: str, dtype: str, attention: str, rows: int, text: int) -> dict[str, Any]:
    """Seconds of the gradients of some rows, their share of the ceiling, and peak bytes."""
    config = dataclasses.replace(partitioning.for_devices(get_size(model)), attention=attention)
    facts = {"model": model, "base": dtype, "attention": attention}
    if attention == "cudnn":
        if jax.default_backend() != "gpu":
            return facts
        facts["off_by"] = disagreement(config.head_dim)
    base = random_weights(config, dtype)
    program = trainer.StepConfig(config)
    soft = Injection(jnp.zeros((PROMPT, config.emb_dim)), np.zeros((1, 1), np.int32))
    soft, real = padded(soft), PROMPT + text
    length = -(-real // fused.MULTIPLE) * fused.MULTIPLE
    batch = rows_of(length, rows, config.vocab_size)
    targets_BM = np.full((rows, TARGETS), 5, np.int32)
    segments_BL = np.where(np.arange(length) < real, 1, 0) + np.zeros_like(batch.inputs_BL)
    ones_BM = np.ones_like(targets_BM)
    batch = batch.replace(  # one example a row
        input_segments_BL=segments_BL, targets_BM=targets_BM, target_segments_BM=ones_BM
    )
    seconds = least_seconds(program, soft, base, batch)
    useful = 2 * rows * forward_flops(config, real, TARGETS)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        **facts,
        "rows": rows,
        "real": real,
        "positions": length,
        "seconds": seconds,
        "share_of_matmul": useful / seconds / speed.matmul_rate(),
        "weight_bytes": sum(x.nbytes for x in jax.tree.leaves(base)),
        "peak_bytes": peak or peft_peer.status("VmHWM"),
    }


def disagreement(head_dim: int) -> float:
    """Returns the largest difference of outputs and gradients of cuDNN from XLA's.

    Differences are over the largest value. Rows have all lengths up to `LONGEST` that cuDNN is
    used for, with two segments and padding. NaN if any value is.
    """
    worst = []
    for length in range(fused.MULTIPLE, LONGEST + 1, fused.MULTIPLE):
        *keys, for_bias = jax.random.split(jax.random.key(length), 5)
        shape = (2, 2, length, head_dim)
        q, k, v, ahead = (jax.random.normal(key, shape, jnp.bfloat16) / 2 for key in keys)
        segments = jnp.repeat(jnp.array([1, 2, 0]), jnp.array([length // 2, length // 2 - 9, 9]))
        seen = (segments[:, None] == segments[None, :]) & (segments[None, :] > 0)
        relative = 2 * jax.random.normal(for_bias, (2, length, length))
        bias = jnp.where(seen, relative, -1e10)[None]
        real = (segments > 0)[:, None].astype(q.dtype)  # what padding writes is never read
        sides = []
        for attend in (fused.attention, _plain):
            out, back = jax.vjp(lambda *qkv, attend=attend: real * attend(*qkv, bias), q, k, v)
            sides.append([np.asarray(x, np.float32) for x in (out, *back(ahead))])
        worst += [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(*sides)]
    return float(np.max(worst))


def _plain(query: jax.Array, keys: jax.Array, values: jax.Array, bias: jax.Array) -> jax.Array:
    logits = jnp.einsum("bhqk,bhlk->bhql", query, keys)
    weights = jax.nn.softmax(logits.astype(jnp.float32) + bias).astype(query.dtype)
    return jnp.einsum("bhql,bhlk->bhqk", weights, values)


def gangs(rate: Callable[[int], float]) -> list[dict[str, float]]:
    """Examples a second of 1, 2, 4, ... runs, until twice the runs hardly gain or do not fit.

    Args:
      rate: of so many runs; raises `jax.errors.JaxRuntimeError` where memory does not suffice.
    """
    rates: list[dict[str, float]] = []
    while True:
        runs = 1 << len(rates)
        try:
            rates.append({"runs": runs, "examples_s": rate(runs)})
        except jax.errors.JaxRuntimeError as error:
            if FULL not in str(error) or not rates:
                raise
            return rates
        if len(rates) > 1 and rates[-1]["examples_s"] < RISE * rates[-2]["examples_s"]:
            return rates


def rate_of(model: str, runs: int) -> float:
    """Examples a second of a gang, assembly of its batches included."""
    ours = speed.Ours(model, "boolq", 20, steps=10, runs=runs)
    ours.train()  # compiles
    return ours.indices.size / min(ours.train() for _ in range(3))


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", nargs="*", default=["t5_1_1_xl", "t5_1_1_xxl"])
    parser.add_argument("--gangs", nargs="*", default=["t5_1_1_small", "t5_1_1_base"])
    parser.add_argument("--rows", type=int, default=8, help="of the large models")
    parser.add_argument("--text", type=int, default=512, help="tokens beside the prompt")
    parser.add_argument("--results", type=Path, default=speed.RESULTS)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.case:
        print(json.dumps(large(*options.case, options.rows, options.text)))
        return
    result: dict[str, Any] = {"machine": machine.describe("jax", "jaxlib"), "large": []}
    for model in options.large:
        for case in itertools.product((model,), ("bfloat16", "int8"), ("cudnn", "xla")):
            sizes = ["--rows", str(options.rows), "--text", str(options.text)]
            command = [sys.executable, "-m", "benchmarks.accelerators", "--case", *case]
            done = subprocess.run([*command, *sizes], capture_output=True, text=True)
            timing = dict(zip(("model", "base", "attention"), case))
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
                timing["failed"] = NO_ROOM if FULL in done.stderr else last
            else:
                timing = json.loads(done.stdout.splitlines()[-1])
            result["large"].append(timing)
            print(_told(timing), flush=True)
    result["device"] = jax.devices()[0].device_kind  # only now: the cases need its memory
    result["gangs"] = {}
    for model in options.gangs:
        result["gangs"][model] = gangs(lambda runs: rate_of(model, runs))
        for gang in result["gangs"][model]:
            print(f"{model}, {gang['runs']} runs: {gang['examples_s']:.1f} examples/s")
    name = result["device"].replace(" ", "_").lower()
    path = options.results / f"accelerators_{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    if {timing.get("failed", NO_ROOM) for timing in result["large"]} - {NO_ROOM}:
        raise SystemExit("some of the large models failed otherwise than for want of memory")


def _told(timing: dict[str, Any]) -> str:
    name = f"{timing['model']}, {timing['base']}, {timing['attention']}"
    if "seconds" not in timing:
        return f"{name}: {timing.get('failed', 'not on this device')}"
    if "off_by" in timing:
        name += f" (off by {timing['off_by']:.2g})"
    return (
        f"{name}: {timing['rows']} rows of {timing['positions']} in {timing['seconds']:.3f} s, "
        f"{timing['share_of_matmul']:.1%} of the rate of products, "
        f"weights {timing['weight_bytes'] / 1e9:.2f} GB, peak {timing['peak_bytes'] / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
