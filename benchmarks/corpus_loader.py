"""Speed and memory of making batches of a corpus: `python -m benchmarks.corpus_loader`.

Writes a corpus of random documents (lengths as in C4, 480 tokens on average, up to some thousands)
once, and packs batches of T5's two objectives out of it, on the default device. Prints one line of
JSON: real tokens (inputs and targets) and rows per second, real tokens per second of CPU time (for
a machine that has other things to do), and the private memory in MiB before and as it goes on.

    python -m benchmarks.corpus_loader [--tokens=100000000] [--rows=128] [--seconds=60] [--folder=F]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from spjax.data.corpora import corpus_files
from spjax.pretraining.data import CorpusBatches, Shuffled
from spjax.pretraining.recipe import Pretrain

SHARDS, VOCABULARY = 8, 32_100


def documents(seed: int, tokens: int) -> Iterator[np.ndarray]:
    """Random documents with `tokens` tokens in all."""
    rng, left = np.random.default_rng(seed), tokens
    while left > 0:
        size = min(int(rng.lognormal(5.7, 1.0)) + 1, left)
        left -= size
        yield rng.integers(3, VOCABULARY - 100, size)


def make_corpus(folder: Path, tokens: int) -> None:
    """Writes a corpus, unless the folder has one."""
    if corpus_files.problem(folder) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for shard in range(SHARDS):
            shard_documents = documents(shard, tokens // SHARDS)
            corpus_files.write_shard(folder, shard, SHARDS, shard_documents, VOCABULARY)
        key = {"format": corpus_files.FORMAT, "vocabulary_size": VOCABULARY}
        corpus_files.finish(folder, key)


def resident() -> float:
    """Private memory of this process in MiB; pages of mapped files belong to the system's cache."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE") / 2**20


def measure(corpus: corpus_files.Corpus, rows: int, seconds: float, spans: bool) -> dict:
    """Rates of one objective, and memory over time."""
    lengths = {"input_length": 512, "target_length": 114 if spans else 512}
    recipe = Pretrain(
        "t5_1_1_small",
        corpus="c",
        rows=rows,
        lesson_steps=(),
        long_steps=0,
        span_steps=10**9 if spans else 0,
        adaptation_steps=10**9,
        **lengths,
    )
    batches, put = CorpusBatches(recipe, Shuffled(corpus, 0)), recipe.placement().put_batch
    batch, number = batches(0, 0)  # not timed: opens files, starts the device
    jax.block_until_ready(put(batch))
    memory, text, step, filled = [resident()], 0, 0, np.zeros(2)
    begin, cpu = time.perf_counter(), time.process_time()
    while (past := time.perf_counter() - begin) < seconds:
        step += 1
        batch, number = batches(step, number)
        jax.block_until_ready(put(batch))
        segments = batch.input_segments_BL, batch.target_segments_BM
        filled += [(parts > 0).mean() for parts in segments]
        text += sum(int((parts > 0).sum()) for parts in segments)
        if past > seconds * len(memory) / 5:
            memory.append(resident())
    return {
        "tokens_per_s": round(text / past),
        "tokens_per_cpu_s": round(text / (time.process_time() - cpu)),
        "rows_per_s": round(step * rows / past),
        "batches": step,
        "documents": batches.documents_seen(number),
        "filled_inputs_targets": [round(float(share), 3) for share in filled / step],
        "resident_mib": [round(value) for value in memory],
    }


def main() -> None:
    """Measures both objectives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", default="")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary) / "corpus"
        start = time.perf_counter()
        make_corpus(folder, args.tokens)
        result = {"corpus_tokens": args.tokens, "rows": args.rows, "cores": os.cpu_count()}
        result["written_in_s"] = round(time.perf_counter() - start, 1)
        corpus = corpus_files.Corpus(folder)
        for name, spans in (("span_corruption_512_114", True), ("prefix_lm_512_512", False)):
            result[name] = measure(corpus, args.rows, args.seconds, spans)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
