"""Examples a second from a warm cache to the device: `python -m benchmarks.loader`.

Writes a TFDS folder of records like BoolQ's (9,427 of them; the text is made of the vocabulary's
own words), tokenizes it once for spjax and once into seqio's offline cache, and reads it back as
shuffled batches of 512 input tokens, put on the device one after the other:

    spjax         `batching.train_iterator` over spjax's token cache
    seqio cached  `seqio.get_dataset` with `EncDecFeatureConverter`, from seqio's offline cache
    seqio source  likewise from the TFDS records, template and tokenization included

Every figure comes from a fresh process. The three take turns and the median of the rounds counts,
so that other load on the machine hits all alike. Prints a table and writes
`benchmarks/results/loader.json`. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from spjax import text_tables

ROOT = Path(__file__).resolve().parents[1]
TASK = "taskless_super_glue_boolq_v102"
DATASET = "super_glue/boolq:1.0.2"
RECORDS = 9_427
LENGTHS = {"inputs": 512, "targets": 8}
PACKAGES = ("jax", "numpy", "grain", "seqio", "tensorflow", "tensorflow-datasets")
KINDS = ("spjax", "seqio cached", "seqio source")
BATCH_SIZES = (32, 128)
EPOCHS = 10  # over which memory is watched
LEAST = 5  # times as fast as seqio's cache
_SHARDS = 16  # of seqio's cache


def write_records(folder: Path, count: int) -> None:
    """A prepared TFDS folder; passages have 150 tokens on average and up to some 700."""
    import tensorflow_datasets as tfds

    from spjax.vocabularies import vocabulary

    pieces = vocabulary.load_vocabulary("t5")
    words = [pieces.decode([token]) for token in range(100, 20_000)]
    words = np.array([word for word in words if word.isalpha() and word.isascii()])
    chances = 1 / np.arange(10, len(words) + 10)
    rng = np.random.default_rng(0)

    def text(length: float) -> str:
        return " ".join(rng.choice(words, int(length) + 4, p=chances / chances.sum()))

    def records(number: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(number):
            passage, question = text(rng.lognormal(4.7, 0.5)), text(5)
            yield i, {"passage": passage, "question": question, "idx": i, "label": i % 2}

    builder = tfds.builder(DATASET, data_dir=folder)
    builder._split_generators = lambda *_: {"train": records(count)}
    builder.download_and_prepare()


def write_seqio_cache(folder: Path) -> None:
    """Seqio's offline cache of the task, as its Beam pipeline leaves it."""
    import seqio
    import tensorflow as tf

    task = _seqio_task()
    folder = folder / task.name
    folder.mkdir(parents=True)
    dataset = task.preprocess_precache(task.source.get_dataset("train", shuffle=False))
    names = [f"train.tfrecord-{i:05}-of-{_SHARDS:05}" for i in range(_SHARDS)]
    writers = [tf.io.TFRecordWriter(str(folder / name)) for name in names]
    count = 0
    for count, example in enumerate(dataset.as_numpy_iterator(), 1):
        serialized = seqio.dict_to_tfexample(example).SerializeToString()
        writers[count % _SHARDS].write(serialized)
    for writer in writers:
        writer.close()
    features = {
        name: {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}
        for name, spec in dataset.element_spec.items()
    }
    info = {"num_shards": _SHARDS, "features": features, "seqio_version": seqio.__version__}
    (folder / "info.train.json").write_text(json.dumps(info))
    (folder / "stats.train.json").write_text(json.dumps({"examples": count}))
    (folder / "COMPLETED").touch()


def _seqio_task() -> Any:
    from spjax.data.tasks import registry
    from spjax.data.token_cache import seqio_tasks

    return seqio_tasks.build(registry.get(TASK), training=True)


def ours(batch_size: int, folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Batches of spjax."""
    from spjax.data.batching import batching
    from spjax.data.token_cache import cache

    split = cache.load(TASK, "train", LENGTHS, folder / "spjax")
    room = {"input_length": LENGTHS["inputs"], "target_length": LENGTHS["targets"]}
    layout = batching.make_layout([split], **room)
    return batching.train_iterator([split], (1,), layout, batch_size=batch_size)


def theirs(kind: str, batch_size: int, folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Batches of seqio, prefetched as T5X does."""
    import seqio
    import tensorflow as tf

    seqio.set_global_cache_dirs([str(folder / "seqio")])
    dataset = seqio.get_dataset(
        _seqio_task(),
        LENGTHS,
        seqio.EncDecFeatureConverter(pack=False),
        use_cached=kind == "seqio cached",
        shuffle=True,
        num_epochs=None,
        seed=0,
        batch_size=batch_size,
    )
    return dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def measure(kind: str, batch_size: int, folder: Path, seconds: float) -> dict[str, float]:
    """Opens the data and reads it for some seconds.

    Returns:
      Seconds from the start of the process to the first batch on the device (`first_s`), of these
      without imports (`first_warm_s`), then examples a second of wall time (`per_s`) and of CPU
      time of all threads (`per_cpu_s`).
    """
    _import(kind)
    started = time.perf_counter()
    iterator = ours(batch_size, folder) if kind == "spjax" else theirs(kind, batch_size, folder)
    put = _putter()
    put(next(iterator))
    figures = {"first_s": _age(), "first_warm_s": time.perf_counter() - started}
    for _ in range(max(2, 2 * RECORDS // batch_size) if kind == "seqio cached" else 50):
        put(next(iterator))  # seqio keeps small data in memory from the second epoch on
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        put(next(iterator))
        count += batch_size
    figures["per_s"] = count / (time.perf_counter() - start)
    figures["per_cpu_s"] = count / (time.process_time() - cpu)
    return figures


def memory(folder: Path) -> dict[str, Any]:
    """Resident bytes of a process that reads spjax's cache, after each of ten epochs."""
    iterator, put, sizes = ours(BATCH_SIZES[0], folder), _putter(), []
    for _ in range(EPOCHS):
        for _ in range(-(-RECORDS // BATCH_SIZES[0])):
            put(next(iterator))
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(resident * os.sysconf("SC_PAGE_SIZE"))
    return {"resident_bytes": sizes}


def _import(kind: str) -> None:
    import jax

    jax.device_put(0).block_until_ready()  # starts the device
    if kind == "spjax":
        from spjax.data.batching import batching  # noqa: F401
        from spjax.data.token_cache import cache  # noqa: F401
    else:
        from spjax.data.token_cache import seqio_tasks  # noqa: F401


def _putter() -> Callable[[Any], None]:
    import jax

    return lambda batch: jax.block_until_ready(jax.device_put(batch))


def _age() -> float:
    """Seconds since this process was started."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def run(folder: Path, *args: Any) -> dict[str, Any]:
    """One step in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loader", "--step", json.dumps([str(folder), *args])],
        cwd=ROOT,
        env={**os.environ, "TFDS_DATA_DIR": str(folder / "tfds"), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{args}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def step(folder: Path, what: str, *args: Any) -> dict[str, Any]:
    """Runs one measurement in this fresh process."""
    if what == "prepare":
        write_records(folder / "tfds", RECORDS)
        write_seqio_cache(folder / "seqio")
        return {}
    if what == "cache":
        from spjax.data.token_cache import cache

        start = time.perf_counter()
        cache.ensure([TASK], LENGTHS, folder / "spjax", splits=["train"])
        return {"build_s": time.perf_counter() - start}
    return memory(folder) if what == "memory" else measure(what, args[0], folder, args[1])


def main() -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of reading, in each round")
    parser.add_argument("--folder", type=Path, help="keeps the data there, for the next time")
    parser.add_argument("--step", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(Path(args.step[0]), *args.step[1:])))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder.absolute() if args.folder else Path(temporary)
        facts = machine.describe(*PACKAGES)
        result = {"machine": facts, "records": RECORDS, "lengths": LENGTHS, "figures": []}
        fresh = not folder.joinpath("seqio").exists()
        if fresh:
            run(folder, "prepare")
        built = run(folder, "cache")
        result |= built if fresh else {}
        for batch_size in BATCH_SIZES:
            rounds = [
                {kind: run(folder, kind, batch_size, args.seconds) for kind in KINDS}
                for _ in range(args.rounds)
            ]
            for kind in KINDS:
                medians = {
                    name: statistics.median(measured[kind][name] for measured in rounds)
                    for name in rounds[0][kind]
                }
                result["figures"].append({"reader": kind, "batch_size": batch_size, **medians})
        result |= run(folder, "memory")
    show(result)
    path = ROOT / "benchmarks" / "results" / "loader.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


def show(result: dict[str, Any]) -> None:
    """Prints the figures; those of spjax as multiples of seqio's cache too."""
    rows = [("reader", "batch", "examples/s", "examples/CPU s", "first s", "no imports")]
    for figure in result["figures"]:
        rates = (f"{figure['per_s']:.0f}", f"{figure['per_cpu_s']:.0f}")
        first = (f"{figure['first_s']:.1f}", f"{figure['first_warm_s']:.2f}")
        rows.append((figure["reader"], str(figure["batch_size"]), *rates, *first))
    print(text_tables.render(rows, right=range(1, 6)))
    for batch_size in BATCH_SIZES:
        speeds = {f["reader"]: f for f in result["figures"] if f["batch_size"] == batch_size}
        wall, cpu = (
            speeds["spjax"][name] / speeds["seqio cached"][name] for name in ("per_s", "per_cpu_s")
        )
        late = f"  below {LEAST}" if wall < LEAST else ""
        print(f"batch {batch_size}: {wall:.1f} times seqio cached, {cpu:.1f} by CPU time{late}")
    resident = [f"{size / 1e6:.0f}" for size in result["resident_bytes"]]
    print(f"resident MB after each epoch: {' '.join(resident)}")
    if "build_s" in result:
        print(f"token cache built in {result['build_s']:.0f} s, {result['records']} records")


if __name__ == "__main__":
    main()
