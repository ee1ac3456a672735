"""The benchmark of steps and answers measures what it says, on a model that takes no time."""

import argparse

import numpy as np
import pytest

from benchmarks import speed, step_profile


@pytest.mark.slow
def test_a_case_is_measured(monkeypatch):
    monkeypatch.setattr(speed, "matmul_rate", lambda: 1e12)
    options = argparse.Namespace(steps=1, rounds=1)
    result = speed.case("pocket_50k", "pocket_boolq", 3, None, [1], options)
    assert len(result["train_seconds"]["ours"]) == len(result["answer_seconds"]["ours"]) == 1
    assert result["matmul_gflop_s_rounds"] == [pytest.approx(1e3)]
    assert result["examples"] == 8 * speed.BATCH  # eight steps for one of T5 Small
    assert result["train_examples_s"]["ours"] > 0 and result["answer_examples_s"]["ours"] > 0
    assert 0 < result["share_of_matmul"] < 1
    assert 0.5 < result["packing_efficiency"]["encoder"] <= 1
    assert result["train_ratio"] is None
    assert "pocket_50k" in speed.table([result])


def test_results_of_processors_with_bfloat16_have_their_folder():
    of_cpus = {
        flag: speed.results_folder("cpu", ["avx2", flag]) for flag in ("avx512f", "amx_bf16")
    }
    assert of_cpus == {"avx512f": speed.RESULTS, "amx_bf16": speed.RESULTS / "avx512"}
    assert speed.results_folder("cpu", ["avx512_bf16"]) == speed.RESULTS / "avx512"
    assert speed.results_folder("nvidia_h100", ["avx512_bf16"]) == speed.RESULTS


@pytest.mark.slow
def test_a_step_is_profiled():
    profile = step_profile.profile("pocket_50k", "pocket_boolq", 3)
    assert profile["milliseconds"]["products with weights"] > 0
    assert profile["rows"][1] >= 40


def test_both_sides_must_write_as_many_tokens():
    with pytest.raises(RuntimeError, match="has written 3 tokens instead of 4"):
        speed.check_decoded(3)


def test_the_peak_of_memory_is_that_of_the_first_steps(monkeypatch):
    """Memory that they need and give back would not show after them."""
    room, train = [300 << 20], speed.Ours.train

    def train_in_room(ours):
        np.ones(room.pop(), np.uint8)  # no room is left for a second round
        return train(ours)

    monkeypatch.setattr(speed.Ours, "train", train_in_room)
    peaks = speed.memory("pocket_50k", "pocket_boolq", 3)
    assert peaks["peak"] - peaks["before"] > 290 << 20
    assert not room
