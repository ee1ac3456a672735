"""Every kind of file that spjax writes, cut short and with flipped bits.

Whoever reads a damaged file gets the same numbers, a warning that they are made again, or an error
that names the file; never other numbers, another exception, or no end. By default each file gets a
few places that are drawn with a fixed seed; SPJAX_DAMAGE=500 (any number) takes so many flips and a
tenth as many cuts for each file, and prints how many ended how (with `pytest -s`).
"""

import collections
import contextlib
import json
import logging
import os
import random
import signal
import types

import jax
import numpy as np
import pytest

from spjax import trees
from spjax.analysis import statistics
from spjax.checkpoints.prompts import adapters, prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import convert, weights
from spjax.checkpoints.weights.stored_array import from_array
from spjax.cli import inspect as inspect_command
from spjax.data.corpora import corpora, corpus_files
from spjax.data.token_cache import cache_files
from spjax.files import write_json
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.pretraining.data import check_same_corpus
from spjax.studies import results, run_folder
from spjax.vocabularies import vocabulary

FLIPS = int(os.environ.get("SPJAX_DAMAGE", "12"))
SECONDS = 20  # until reading a small file counts as a hang
RNG = np.random.default_rng(0)
TINY = T5Config(40, 8, 2, 4, 12, 1, 1)
TREE = init_weights(TINY, jax.random.key(0))
FACTS = {"task": "pocket_cb", "model": "pocket_50k", "step": "7", "validation_score": "61.5"}


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


ROWS = numbers(3, 8)
QUERY = "decoder/layers_0/encoder_decoder_attention/query/kernel"
TENSORS = {
    "lora": {f"lora/{QUERY}/a": numbers(8, 2), f"lora/{QUERY}/b": numbers(2, 8)},
    "ia3": {
        "ia3/encoder/layers_0/mlp/wo/kernel": numbers(12),
        "ia3/encoder/layers_0/attention/key/kernel": numbers(8),
        "ia3/encoder/layers_0/attention/value/kernel": numbers(8),
    },
    "prefix": {f"prefix/decoder/{x}": numbers(2, 3, 2, 4) for x in ("keys", "values")},
    "multitask": {"shared": numbers(3, 8), "u": numbers(2, 3, 1), "v": numbers(2, 1, 8)},
}
RESULT = {
    "task": "pocket_cb",
    "seed": 1,
    "best_step": 6,
    "steps": 6,
    "status": "finished",
    "validation": {"score": 61.5, "accuracy": 61.5},
    "test": {"score": 59.25},
    "majority": {"score": 33.25},
    "ceiling": 100.0,
    "transfer": {},
    "seconds": 3.0,
    "model_parameters": 49472,
    "trainable_parameters": 24,
}
LABELS = {
    "model": "pocket_50k",
    "pretraining_seed": 0,
    "task": "pocket_cb",
    "method": "prompt_tuning",
    "prompt_length": 3,
    "init": "",
    "seed": 1,
    "learning_rate": 0.3,
}


def prompt_kind(format):
    def read(folder):
        found = prompt_files.read_soft_tokens(folder / "p")
        return found.soft_tokens_PD.tobytes(), found.provenance

    return lambda folder: prompt_files.write(
        folder / "p", Prompt.from_array(ROWS, FACTS), format
    ), read


def adapter_kind(name):
    def read(folder):
        found, header = adapters.read(folder / "a")
        return {key: x.tobytes() for key, x in found.items()}, header

    return lambda folder: adapters.write(folder / "a", TENSORS[name], FACTS), read


def write_tuned(folder):
    prompt_files.write_run(folder, TENSORS["prefix"] | {"prompt": ROWS}, FACTS, ["pocket_cb"])


def read_tuned(folder):
    found = prompt_files.read(folder)
    return {key: x.tobytes() for key, x in found.tensors.items()}, found.provenance


def weights_kind(dtype):
    def read(folder):
        return weights.digest(weights.read(folder / "w.safetensors", TINY, "float32"))

    return lambda folder: weights.save(folder / "w.safetensors", TREE, {"a": "b"}, dtype), read


def write_huggingface(folder):
    leaves = {name: from_array(np.asarray(x)) for name, x in trees.flatten(TREE).items()}
    convert.write_huggingface(folder / "m", leaves, TINY, "float32")


def read_huggingface(folder):
    weights._config.cache_clear()
    return weights.digest(weights.load("auto", str(folder / "m")))


def write_token_cache(folder):
    rows = [(RNG.integers(3, 99, 5), RNG.integers(3, 99, 2), {"text": f"é{i}"}) for i in range(4)]
    cache_files.write(folder / "split", {"format": 1, "task": "x"}, rows)


def read_token_cache(folder):
    if reason := cache_files.problem(folder / "split", {"format": 1, "task": "x"}):
        logging.warning("%s is built again: %s", folder, reason)  # as `cache` does
        return None
    arrays = [
        x
        for ragged in cache_files.read(folder / "split")
        for x in (ragged.values.tobytes(), ragged.offsets.tobytes())
    ]
    return arrays, cache_files.read_examples(folder / "split")


def write_corpus(folder):
    words = vocabulary.load_vocabulary("pocket")
    for index in range(2):
        documents = [RNG.integers(3, 1000, 2000) for _ in range(9)]
        corpus_files.write_shard(folder, index, 2, documents, words.size)
    key = {"format": 1, "vocabulary": words.fingerprint, "vocabulary_size": words.size}
    corpus_files.finish(folder, key)


def read_corpus(folder):
    corpus = corpora.load(str(folder), "pocket")
    return [corpus[i].tobytes() for i in range(len(corpus))]


def write_unfinished_corpus(folder):
    unfinished = corpora._unfinished(folder / "c", {"a": 1})
    corpus_files.write_shard(unfinished, 0, 2, [RNG.integers(3, 1000, 20)], 1152)


def read_unfinished_corpus(folder):
    unfinished = corpora._unfinished(folder / "c", {"a": 1})
    whole = corpus_files.has_shard(unfinished, 0, 2)
    shard = corpus_files._open_shard(unfinished, 0, 2) if whole else []
    return [part[0 : len(part._array)].tobytes() for part in shard] or None


def write_run(folder):
    lines = [{"step": i, "trainable/norm": i / 7, "trainable/drift": i / 3} for i in range(5)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    digest = run_folder.file_digest(folder / "metrics.jsonl")
    write_json(folder / "result.json", {**RESULT, "metrics_sha256": digest})


def read_run(folder):
    found = run_folder.result(folder)
    return found and (found, inspect_command._drift(folder))


def write_study(folder):
    specs = [
        types.SimpleNamespace(
            arms=("a",),
            settings={},
            key=f"k{i}",
            labels=LABELS,
            result=lambda _: RESULT,
            folder=lambda study_folder: study_folder / "runs",
        )
        for i in range(3)
    ]
    results.write("study", specs, folder)


def read_study(folder):
    return statistics.load(folder).to_csv()


def write_pretraining(folder):
    write_json(folder / "m.json", {"model": "m", "loss": 1.25})
    check_same_corpus("c", "0123abcd", folder, 0)
    weights.save(folder / "m.safetensors", TREE, {"recipe": "{}"}, "bfloat16")


def read_pretraining(folder):
    check_same_corpus("c", "0123abcd", folder, 5)
    card = run_folder.result(folder, "m.json")
    return card and (card, weights.digest(weights.read(folder / "m.safetensors", TINY)))


KINDS = {
    **{f"prompt_{format}": prompt_kind(format) for format in prompt_files.FORMATS},
    **{f"adapter_{name}": adapter_kind(name) for name in TENSORS},
    "tuned": (write_tuned, read_tuned),
    **{f"weights_{dtype}": weights_kind(dtype) for dtype in ("float32", "bfloat16", "int8")},
    "weights_huggingface": (write_huggingface, read_huggingface),
    "token_cache": (write_token_cache, read_token_cache),
    "corpus": (write_corpus, read_corpus),
    "unfinished_corpus": (write_unfinished_corpus, read_unfinished_corpus),
    "run": (write_run, read_run),
    "study": (write_study, read_study),
    "pretraining": (write_pretraining, read_pretraining),
}


def damages(data, rng):
    """(what was done, the damaged bytes) for a file."""
    places = {0, 1, len(data) // 2, len(data) - 1}
    places |= {rng.randrange(len(data)) for _ in range(FLIPS // 10)}
    for place in sorted(places):
        yield f"cut at {place}", data[:place]
    for _ in range(FLIPS):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(flipped)


def restore(files):
    """Puts all files back; what reads a damaged one may make it, or its folder, again."""
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextlib.contextmanager
def deadline():
    def stop(*_):
        raise AssertionError("reading does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(read, folder, path, expected, caplog):
    """ "same", "rebuilt" or "error"; anything else is a failure, in words."""
    caplog.clear()
    try:
        with deadline():
            found = read(folder)
    except ValueError as error:
        if type(error) in (UnicodeDecodeError, json.JSONDecodeError):
            return f"raised {error!r}"
        named = path.name in str(error) or str(folder) in str(error)
        return "error" if named else f"does not name the file: {error}"
    except Exception as error:
        return f"raised {error!r}"
    if found is None:
        return "rebuilt" if caplog.records else "rebuilt without a word"
    return "same" if found == expected else "other numbers without a word"


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_told(kind, tmp_path, caplog):
    write, read = KINDS[kind]
    write(tmp_path)
    expected = read(tmp_path)
    assert expected == read(tmp_path) and expected is not None
    wrong, counts = [], collections.Counter()
    rng = random.Random(kind)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for path in sorted(files):
        for what, data in damages(files[path], rng):
            restore(files)
            path.write_bytes(data)
            told = outcome(read, tmp_path, path, expected, caplog)
            counts[told if told in ("same", "rebuilt", "error") else "wrong"] += 1
            if told not in ("same", "rebuilt", "error"):
                wrong.append(f"{path.relative_to(tmp_path)}, {what}: {told}")
    print(f"{kind}: {dict(counts)}")
    assert not wrong, "\n".join(wrong)
