"""The peer of the speed benchmark does what it is timed for.

Needs torch, transformers and peft in this interpreter; it is started as another process.
"""

import sys

import numpy as np
import pytest

from benchmarks import lengths
from benchmarks.peft_peer import Peer

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

MODEL = {
    "vocab_size": 40,
    "emb_dim": 16,
    "num_heads": 2,
    "head_dim": 8,
    "mlp_dim": 32,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Ten short examples, four a batch."""
    rng = np.random.default_rng(0)
    inputs = [np.append(rng.integers(3, 40, n), 1) for n in range(2, 12)]
    targets = [np.array([5 + n % 2, 1]) for n in range(10)]
    path = tmp_path_factory.mktemp("peer") / "examples.npz"
    lengths.save(path, inputs, targets)
    return {
        "model": MODEL,
        "prompt_length": 3,
        "examples": str(path),
        "batch_size": 4,
        "steps": 3,
        "max_new_tokens": 3,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def peer():
    with Peer(sys.executable) as peer:
        yield peer


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss_and_pads_to_the_longest(peer, job, dtype):
    job = job | {"do": "train", "dtype": dtype}
    first = peer.ask(job | {"warmup": 0})
    last = peer.ask(job | {"rounds": 40})
    assert len(last["seconds"]) == 40 and last["examples"] == 10
    assert last["real_tokens"] == sum(range(3, 13))
    assert last["computed_tokens"] == 4 * 6 + 4 * 10 + 2 * 12
    assert np.mean(last["losses"]) < np.mean(first["losses"]) - 0.05


def test_memory_is_that_of_the_steps(job):
    with Peer(sys.executable) as peer:
        found = peer.ask(job | {"do": "memory"})
    assert 0 < found["step"] == found["peak"] - found["before"] < found["before"]


def test_generation_stops_at_the_length_asked_for(peer, job):
    found = peer.ask(job | {"do": "generate", "rounds": 2})
    assert len(found["seconds"]) == 2 and found["examples"] == 10
    assert 1 <= found["decoded"] <= 3


def test_a_whole_run_from_a_saved_model(peer, job, tmp_path):
    peer.ask({"do": "save", "model": MODEL, "folder": str(tmp_path)})
    whole = job | {"do": "run", "folder": str(tmp_path), "validation": job["examples"]}
    found = peer.ask(whole | {"steps": 5, "eval_every": 2})
    assert len(found["accuracies"]) == 3 and all(0 <= a <= 1 for a in found["accuracies"])


def test_a_job_that_fails_is_told_and_the_next_one_answered(peer, job):
    with pytest.raises(RuntimeError, match="PEFT's side of 'train' failed(.|\n)*no.npz"):
        peer.ask(job | {"do": "train", "examples": "no.npz"})
    assert peer.ask(job | {"do": "train"})["examples"] == 10
