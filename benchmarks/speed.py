"""Training and evaluation beside PEFT on PyTorch: `python -m benchmarks.speed`.

Both sides get the same examples in the same batches of 32, the same model shape and no dropout, and
train a prompt. Their rounds take turns in one run, so that other load on the machine hits both;
ratios are of medians. Inputs have the lengths of BoolQ, RTE and WiC (`benchmarks.lengths`), for the
pocket model those of its own tasks; packing efficiency is that of 256 batches that chose nothing.
PEFT runs in the interpreter `--torch_python`, at the best of the threads that `--threads` names and
of its dtypes; without one, only our side is measured.

Peak memory is that of the first two training steps of a process, of T5 1.1 Small in float32 on both
sides; ours includes compilation.

Prints a table and writes `speed_{device}.json` into `benchmarks/results/`, on a CPU with bfloat16
into `benchmarks/results/avx512/`. On an accelerator activations are bfloat16; PEFT would run on its
CPU, so leave `--torch_python` out there. `benchmarks.column` measures a whole column of runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import lengths, machine
from benchmarks.peft_peer import Peer, reset_peak, status
from spjax import partitioning, text_tables
from spjax.data.batching import batching, chunk_shapes, packing
from spjax.data.token_cache.cache import CachedSplit, Ragged
from spjax.inference import evaluation
from spjax.methods.initializers import SampledVocabulary
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import get_size
from spjax.models.decoding import EOS
from spjax.models.flops import forward_flops
from spjax.models.t5 import init_weights
from spjax.training import row_shapes, trainer
from spjax.training.host_memory import keep_freed_memory
from spjax.training.optimizers import Adafactor

BATCH = 32
NEW_TOKENS = 4
ANSWERS = 4  # times as many examples are answered as are trained on in a round
CASES = [
    *(
        (model, task, prompt)
        for model, tasks in (
            ("t5_1_1_small", ("boolq", "rte", "wic")),
            ("pocket_800k", ("pocket_boolq", "pocket_rte", "pocket_wic")),
            ("pocket_3m", ("pocket_boolq", "pocket_rte", "pocket_wic")),
        )
        for task in tasks
        for prompt in (20, 100)
    ),
]
MEMORY = "memory"
RESULTS = Path(__file__).parent / "results"
AVX512 = "avx512"  # folder of results of processors with bfloat16, in which PEFT is faster


class Ours:
    """Runs of a prompt over a model with random weights, and batches of some examples."""

    def __init__(
        self,
        model: str,
        task: str,
        prompt: int,
        steps: int,
        runs: int = 1,
        batch_size: int = BATCH,
    ) -> None:
        self.config = partitioning.for_devices(get_size(model))
        inputs, targets = lengths.draw(task, max(ANSWERS, runs) * steps * batch_size)
        self.split = as_split(inputs, targets)
        self.base = init_weights(self.config, jax.random.key(0))
        self.base = jax.tree.map(lambda x: x.astype(self.config.dtype), self.base)
        self.method = PromptTuning(length=prompt, initializer=SampledVocabulary())
        self.layout = batching.make_layout([self.split], prompt_length=prompt)
        self.indices = np.arange(steps * runs * batch_size).reshape(steps, runs, batch_size)
        # The shape is chosen as for a long training, from other examples than are timed.
        others = needs_of(task, prompt, 16, seed=1, size=runs * batch_size)
        longest = (int(lengths.longest(task)[0]) + prompt, int(lengths.longest(task)[1]))
        self.shapes = chunk_shapes.fastest(others, longest, self.config, steps=30_000)
        self.at_once = row_shapes.steps_per_dispatch(self.config, self.shapes)
        self.efficiency = efficiency(
            self.shapes, needs_of(task, prompt, 256, seed=2, size=runs * batch_size)
        )
        optimizer = Adafactor(0.3)
        state = trainer.init_state([self.method] * runs, list(range(runs)), optimizer, self.base)
        self.states = (state,)
        self.untrained = jax.tree.map(lambda x: np.array(x[0]), state.trainable)
        optimizer = dataclasses.replace(optimizer, learning_rate=1.0)  # rates are arguments
        self.program = trainer.StepConfig(
            self.config, (self.method.without_initializer(),), optimizer
        )

    def train(self) -> float:
        """Seconds of a round over all batches, their assembly included."""
        start = time.perf_counter()
        runs = self.indices.shape[1]
        settings = jnp.full(runs, 0.3), jax.random.key(0), self.at_once
        for first in range(0, len(self.indices), self.at_once):
            batches = []
            for indices in self.indices[first : first + self.at_once]:
                batch_rows = [batching.rows(self.split, part, self.layout) for part in indices]
                packed = packing.pack(batching.gang(dict(enumerate(batch_rows))), self.shapes)
                batches.append((packed, np.ones(runs, np.float32)))
            self.states, _ = trainer.train_steps(
                self.program, self.states, self.base, batches, *settings
            )
        jax.block_until_ready(self.states)
        return time.perf_counter() - start

    def answer(self) -> float:
        """Seconds of greedy answers to all examples with the prompt as it was at the start."""
        start = time.perf_counter()
        layout = dataclasses.replace(self.layout, target_length=NEW_TOKENS)
        texts = evaluation.predict(
            self.config,
            self.method.without_initializer(),
            self.untrained,
            self.base,
            _Words(),
            layout,
            BATCH,
            0,  # greedy
            self.split,
        )
        took = time.perf_counter() - start
        check_decoded(max(len(text.split()) for text in texts))
        return took

    def flops(self) -> float:
        """Useful operations of a round: of real positions, forward and for their gradients."""
        trained = slice(0, self.indices.size)
        needs = zip(self.split.inputs.lengths[trained], self.split.targets.lengths[trained])
        prompt = self.layout.prompt_length
        return 2 * sum(forward_flops(self.config, int(x) + prompt, int(y)) for x, y in needs)


def needs_of(task: str, prompt: int, batches: int, seed: int, size: int = BATCH) -> list[Any]:
    """Encoder and decoder positions of the examples of some batches."""
    inputs, targets = lengths.draw(task, batches * size, seed)
    positions = np.array([len(x) + prompt for x in inputs]), np.array([len(y) for y in targets])
    return list(zip(*(part.reshape(batches, size) for part in positions)))


def efficiency(shapes: Sequence[packing.ChunkShape], needs: list[Any]) -> dict[str, float]:
    """Real over computed positions of encoder and decoder."""
    chunks = [chunk.shape for need in needs for chunk in packing.assign_positions(*need, shapes)]
    real = [sum(int(need[i].sum()) for need in needs) for i in (0, 1)]
    return {
        "encoder": real[0] / sum(shape.rows * shape.length for shape in chunks),
        "decoder": real[1] / sum(shape.rows * shape.target_length for shape in chunks),
        "padded": real[0] / sum(len(x) * int(x.max()) for x, _ in needs),
    }


class _Words:
    def decode(self, ids: list[int]) -> str:
        ids = ids[:NEW_TOKENS]  # the rest is room
        return " ".join(map(str, ids[: ids.index(EOS)] if EOS in ids else ids))


def check_decoded(tokens: int) -> None:
    """Both sides must write as many tokens, which random weights hardly ever end early."""
    if tokens != NEW_TOKENS:
        raise RuntimeError(f"a side has written {tokens} tokens instead of {NEW_TOKENS}")


def as_split(inputs: list[np.ndarray], targets: list[np.ndarray]) -> CachedSplit:
    """Examples in the form that batching reads."""

    def ragged(rows: list[np.ndarray]) -> Ragged:
        return Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))

    cut = {"inputs": 1024, "targets": 1024}
    return CachedSplit("", "", Path(), cut, ragged(inputs), ragged(targets))


def matmul_rate(size: int = 1024) -> float:
    """Operations a second of a square product in the activations' dtype: the machine's ceiling."""
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    size = size if dtype == jnp.float32 else 8192
    x = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    product(x).block_until_ready()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        product(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side's rounds, which take turns; the first of each is left out."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            times[name].append(side())
    return {name: rounds_s[1:] for name, rounds_s in times.items()}


def case(
    model: str, task: str, prompt: int, peer: Peer | None, threads: list[int], options: Any
) -> dict[str, Any]:
    """Figures of one model, kind of examples and prompt length."""
    steps = options.steps if model.startswith("t5") else 8 * options.steps
    ours = Ours(model, task, prompt, steps)
    result: dict[str, Any] = {
        "model": model,
        "task": task,
        "prompt": prompt,
        "chunks": [list(shape) for shape in ours.shapes],
        "examples": steps * BATCH,
    }
    training_sides = {"ours": ours.train, "matmul": lambda: 1 / matmul_rate()}
    answering_sides = {"ours": ours.answer}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "examples.npz")
        lengths.save(path, *lengths.draw(task, ANSWERS * steps * BATCH))
        shape = {"model": dataclasses.asdict(get_size(model)), "prompt_length": prompt}
        job = shape | {"examples": path, "batch_size": BATCH, "steps": steps, "warmup": 0}
        if peer:
            for count, dtype in itertools.product(threads, dtypes()):
                for do, sides in (("train", training_sides), ("generate", answering_sides)):
                    peer_job = job | {
                        "do": do,
                        "threads": count,
                        "dtype": dtype,
                        "max_new_tokens": NEW_TOKENS,
                    }
                    sides[f"peft {dtype}, {count} threads"] = functools.partial(
                        _asked, peer, peer_job
                    )
        result["train_seconds"] = turns(training_sides, options.rounds)
        result["answer_seconds"] = turns(answering_sides, options.rounds)
    rates = [1 / took for took in result["train_seconds"].pop("matmul")]
    result["matmul_gflop_s_rounds"] = [rate / 1e9 for rate in rates]
    trained, answered = (
        {name: statistics.median(rounds_s) for name, rounds_s in result[f"{what}_seconds"].items()}
        for what in ("train", "answer")
    )
    result["train_examples_s"] = {name: steps * BATCH / took for name, took in trained.items()}
    count = ANSWERS * steps * BATCH
    result["answer_examples_s"] = {name: count / took for name, took in answered.items()}
    result["packing_efficiency"] = ours.efficiency
    result["matmul_gflop_s"] = max(rates) / 1e9  # the ceiling while this case was timed
    result["share_of_matmul"] = ours.flops() / trained["ours"] / max(rates)
    for what in ("train", "answer"):
        speeds = result[f"{what}_examples_s"]
        theirs = [speed for name, speed in speeds.items() if name != "ours"]
        result[f"{what}_ratio"] = speeds["ours"] / max(theirs) if theirs else None
    return result


def dtypes() -> list[str]:
    """Those that PEFT is tried in: bfloat16 where the processor has instructions for it."""
    has_bfloat16 = machine.has_bfloat16(machine.describe()["flags"])
    return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]


def _asked(peer: Peer, job: dict[str, Any]) -> float:
    answer = peer.ask(job)
    check_decoded(answer.get("decoded", NEW_TOKENS))
    return answer["seconds"][0]


def memory(model: str, task: str, prompt: int) -> dict[str, int]:
    """Peak resident bytes of the first two training steps of this process, compilation included."""
    ours = Ours(model, task, prompt, 2)
    before = reset_peak()
    ours.train()
    weights = sum(x.nbytes for x in jax.tree.leaves(ours.base))
    return {"before": before, "peak": status("VmHWM"), "weights": weights}


def memories(torch_python: str, task: str, prompt: int) -> dict[str, Any]:
    """Peak memory of both sides' training steps, Small, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.speed", "--memory_of", task, str(prompt)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = {"task": task, "prompt": prompt, "ours": json.loads(done.stdout.splitlines()[-1])}
    if torch_python:
        with tempfile.TemporaryDirectory() as folder, Peer(torch_python) as peer:
            path = str(Path(folder) / "examples.npz")
            lengths.save(path, *lengths.draw(task, ANSWERS * 2 * BATCH))  # ours takes these
            result["peft"] = peer.ask(
                {
                    "do": "memory",
                    "model": dataclasses.asdict(get_size("t5_1_1_small")),
                    "prompt_length": prompt,
                    "examples": path,
                    "batch_size": BATCH,
                    "steps": 2,
                }
            )
        result["ratio"] = result["ours"]["peak"] / result["peft"]["peak"]
    return result


def main() -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", default="", help="an interpreter with the torch extra")
    parser.add_argument("--steps", type=int, default=2, help="batches of a round of T5 1.1 Small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of PyTorch")
    names = {name for model, task, _ in CASES for name in (model, task)} | {MEMORY}
    parser.add_argument("--only", default="", choices=sorted(names), metavar="MODEL|TASK|memory")
    parser.add_argument("--memory_of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    if options.memory_of:
        print(json.dumps(memory("t5_1_1_small", options.memory_of[0], int(options.memory_of[1]))))
        return
    facts = machine.describe("jax", "jaxlib", "numpy")
    device = jax.devices()[0].device_kind.replace(" ", "_").lower()
    result: dict[str, Any] = {"machine": facts, "device": device, "cases": [], "peak_memory": []}
    peer = Peer(options.torch_python) if options.torch_python else None
    for model, task, prompt in CASES:
        if options.only in ("", model, task):
            # The small model is at its best with all threads; the peer settles it for pocket ones.
            threads = options.threads if model.startswith("pocket") else options.threads[-1:]
            result["cases"].append(case(model, task, prompt, peer, threads, options))
            print(f"{model}, {task}, a prompt of {prompt}: done", flush=True)
    if result["cases"]:
        print(table(result["cases"]))
    if peer:
        shape = dataclasses.asdict(get_size("pocket_50k"))
        with tempfile.TemporaryDirectory() as folder:
            job = {"do": "save", "folder": folder, "model": shape}
            result["versions"] = peer.ask(job)["versions"]
        peer.close()
    if device == "cpu" and options.only in ("", MEMORY):
        python = options.torch_python
        result["peak_memory"] = [memories(python, task, 20) for task in ("boolq", "wic")]
        for peaks in result["peak_memory"]:
            print(
                f"peak memory, Small, {peaks['task']}: {peaks['ours']['peak'] / 1e9:.2f} GB, "
                f"over PEFT's {peaks.get('ratio', float('nan')):.2f}"
            )
    folder = results_folder(device, facts["flags"])
    folder.mkdir(parents=True, exist_ok=True)
    name = f"speed_{device}{'_' + options.only if options.only else ''}.json"
    (folder / name).write_text(json.dumps(result, indent=1) + "\n")


def results_folder(device: str, flags: Sequence[str]) -> Path:
    """Returns where results of a device, or of a CPU with some flags, are kept."""
    return RESULTS / AVX512 if device == "cpu" and machine.has_bfloat16(flags) else RESULTS


def table(cases: list[dict[str, Any]]) -> str:
    """Returns training and answers in examples a second, and over PEFT's, as plain text."""
    head = ("model", "task", "prompt", "train", "x PEFT", "packed", "matmul", "answers", "x PEFT")
    rows = [head]
    for case in cases:
        ratio = {kind: case[f"{kind}_ratio"] or float("nan") for kind in ("train", "answer")}
        speed = {kind: case[f"{kind}_examples_s"]["ours"] for kind in ratio}
        rows.append(
            (
                case["model"],
                case["task"],
                str(case["prompt"]),
                f"{speed['train']:.1f}",
                f"{ratio['train']:.2f}",
                f"{case['packing_efficiency']['encoder']:.2f}",
                f"{case['share_of_matmul']:.2f}",
                f"{speed['answer']:.1f}",
                f"{ratio['answer']:.2f}",
            )
        )
    return text_tables.render(rows, right=range(2, len(head)))


if __name__ == "__main__":
    main()
