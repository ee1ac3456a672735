"""What is read to answer beside other prompts."""

import numpy as np
import pytest

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import adapters, prompts, tuned
from spjax.checkpoints.prompts.prompts import Prompt

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
ONES = np.ones((1, 3, 2, 4), np.float32)
PREFIX = {"prefix/decoder/keys": ONES, "prefix/decoder/values": ONES}
FACTS = {"task": "pocket_cb", "model": "pocket_50k"}


def test_a_prompt_in_any_form(tmp_path):
    for format in ("npy", "safetensors", "peft"):
        path = prompts.write(tmp_path / format, Prompt(ROWS, FACTS), format)
        found = tuned.read(path)
        assert list(found.tensors) == ["prompt"] and found.provenance["task"] == "pocket_cb"
        np.testing.assert_array_equal(found.tensors["prompt"], ROWS)


def test_what_is_more_than_a_prompt(tmp_path):
    prompts.write_run(tmp_path, PREFIX, FACTS, [])
    array_files.write_safetensors(tmp_path / "converted", PREFIX, FACTS)
    adapters.write(tmp_path / "adapter", PREFIX, FACTS)
    for name in ("", "tuned.safetensors", "converted", "adapter"):
        found = tuned.read(tmp_path / name)
        assert found.tensors.keys() == PREFIX.keys() and found.provenance["task"] == "pocket_cb"
        np.testing.assert_array_equal(found.tensors["prefix/decoder/keys"], 1)
    prompts.write(tmp_path / "prompt.npy", Prompt(ROWS, FACTS))
    assert tuned.read(tmp_path).tensors.keys() == {*PREFIX, "prompt"}


def test_factors_of_a_single_prompt_are_left_out(tmp_path):
    tensors = {"prompt": ROWS, "shared": ROWS, "u": ROWS[None], "v": ROWS[None]}
    prompts.write_run(tmp_path, tensors, FACTS, [])
    assert list(tuned.read(tmp_path).tensors) == ["prompt"]


def test_changes_of_weights_are_told_from_soft_tokens(tmp_path):
    factors = {"lora/x/a": ROWS, "lora/x/b": ROWS}
    prompts.write_run(tmp_path, factors, FACTS, [])
    array_files.write_safetensors(tmp_path / "converted", factors, FACTS)
    for name in ("", "tuned.safetensors", "converted"):
        assert tuned.read(tmp_path / name).changes.keys() == factors.keys()
    array_files.write_safetensors(tmp_path / "prefix", PREFIX, FACTS)
    assert not tuned.read(tmp_path / "prefix").changes


def test_what_cannot_answer(tmp_path):
    for name in ("several", "weights"):
        (tmp_path / name).mkdir()
    prompts.write_run(tmp_path / "several", {"prompt": ROWS[None]}, FACTS, ["pocket_cb"])
    with pytest.raises(ValueError, match="prompts of several tasks; give one of .*pocket_cb.npy"):
        tuned.read(tmp_path / "several")
    prompts.write_run(tmp_path / "weights", {"odd/x/a": ROWS, "odd/x/b": ROWS}, FACTS, [])
    with pytest.raises(ValueError, match="odd/x/b, none of which is soft tokens or a change of we"):
        tuned.read(tmp_path / "weights")
    factors = {"shared": ROWS, "u": np.ones((2, 2, 1)), "v": np.ones((2, 1, 4))}
    factors = {name: x.astype(np.float32) for name, x in factors.items()}
    adapters.write(tmp_path / "adapter", factors, FACTS)
    with pytest.raises(ValueError, match="has the prompts of 2 tasks, and it does not say"):
        tuned.read(tmp_path / "adapter")
    with pytest.raises(ValueError, match="cannot read .*absent"):
        tuned.read(tmp_path / "absent")
    bad = {**PREFIX, "prefix/decoder/keys": np.full((1, 3, 2, 4), np.nan, np.float32)}
    prompts.write_run(tmp_path, bad, FACTS, [])
    with pytest.raises(ValueError, match="prefix/decoder/keys of .* not finite"):
        tuned.read(tmp_path)
