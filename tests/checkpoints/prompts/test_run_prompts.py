"""Tuned parameters, read to answer beside other prompts."""

import numpy as np
import pytest

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import adapters, prompt_files
from spjax.checkpoints.prompts.prompt import Prompt

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
ONES = np.ones((1, 3, 2, 4), np.float32)
PREFIX = {"prefix/decoder/keys": ONES, "prefix/decoder/values": ONES}
FACTS = {"task": "pocket_cb", "model": "pocket_50k"}


def test_a_prompt_in_any_form(tmp_path):
    for format in ("npy", "safetensors", "peft"):
        path = prompt_files.write(tmp_path / format, Prompt.from_array(ROWS, FACTS), format)
        found = prompt_files.read(path)
        assert list(found.tensors) == ["prompt"] and found.provenance["task"] == "pocket_cb"
        np.testing.assert_array_equal(found.tensors["prompt"], ROWS)


def test_what_is_more_than_a_prompt(tmp_path):
    prompt_files.write_run(tmp_path, PREFIX, FACTS, [])
    array_files.write_safetensors(tmp_path / "converted", PREFIX, FACTS)
    adapters.write(tmp_path / "adapter", PREFIX, FACTS)
    for name in ("", "tuned.safetensors", "converted", "adapter"):
        found = prompt_files.read(tmp_path / name)
        assert found.tensors.keys() == PREFIX.keys() and found.provenance["task"] == "pocket_cb"
        np.testing.assert_array_equal(found.tensors["prefix/decoder/keys"], 1)
    prompt_files.write(tmp_path / "prompt.npy", Prompt.from_array(ROWS, FACTS))
    assert prompt_files.read(tmp_path).tensors.keys() == {*PREFIX, "prompt"}


def test_factors_of_a_single_prompt_are_left_out(tmp_path):
    tensors = {"prompt": ROWS, "shared": ROWS, "u": ROWS[None], "v": ROWS[None]}
    prompt_files.write_run(tmp_path, tensors, FACTS, [])
    assert list(prompt_files.read(tmp_path).tensors) == ["prompt"]


def test_changes_of_weights_are_told_from_soft_tokens(tmp_path):
    factors = {"lora/x/a": ROWS, "lora/x/b": ROWS}
    prompt_files.write_run(tmp_path, factors, FACTS, [])
    array_files.write_safetensors(tmp_path / "converted", factors, FACTS)
    for name in ("", "tuned.safetensors", "converted"):
        assert prompt_files.read(tmp_path / name).weight_changes.keys() == factors.keys()
    array_files.write_safetensors(tmp_path / "prefix", PREFIX, FACTS)
    assert not prompt_files.read(tmp_path / "prefix").weight_changes


def test_what_cannot_answer(tmp_path):
    for name in ("several", "weights"):
        (tmp_path / name).mkdir()
    prompt_files.write_run(tmp_path / "several", {"prompt": ROWS[None]}, FACTS, ["pocket_cb"])
    with pytest.raises(ValueError, match="prompts of several tasks; give one of .*pocket_cb.npy"):
        prompt_files.read(tmp_path / "several")
    prompt_files.write_run(tmp_path / "weights", {"odd/x/a": ROWS, "odd/x/b": ROWS}, FACTS, [])
    with pytest.raises(ValueError, match="odd/x/b, none of which is soft tokens or a change of we"):
        prompt_files.read(tmp_path / "weights")
    factors = {"shared": ROWS, "u": np.ones((2, 2, 1)), "v": np.ones((2, 1, 4))}
    factors = {name: x.astype(np.float32) for name, x in factors.items()}
    adapters.write(tmp_path / "adapter", factors, FACTS)
    with pytest.raises(ValueError, match="has the prompts of 2 tasks, and it does not say"):
        prompt_files.read(tmp_path / "adapter")
    with pytest.raises(ValueError, match="cannot read .*absent"):
        prompt_files.read(tmp_path / "absent")
    bad = {**PREFIX, "prefix/decoder/keys": np.full((1, 3, 2, 4), np.nan, np.float32)}
    prompt_files.write_run(tmp_path, bad, FACTS, [])
    with pytest.raises(ValueError, match="prefix/decoder/keys of .* not finite"):
        prompt_files.read(tmp_path)
