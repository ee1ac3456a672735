"""Adapters of PEFT that are no table of rows: what goes in and out, and what is refused."""

import json

import numpy as np
import pytest

from spjax.checkpoints import adapters, array_files, peft, prompts
from spjax.checkpoints.prompts import Prompt

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


QUERY = "decoder/layers_1/encoder_decoder_attention/query/kernel"
PREFIX = {f"prefix/decoder/{name}": numbers(3, 4, 2, 8) for name in ("keys", "values")}
LORA = {f"lora/{QUERY}/a": numbers(16, 2), f"lora/{QUERY}/b": numbers(2, 24)}
FACTORS = {"shared": numbers(5, 16), "u": numbers(3, 5, 1), "v": numbers(3, 1, 16)}
IA3 = {"ia3/encoder/layers_0/mlp/wo/kernel": numbers(24),
       "ia3/encoder/layers_0/attention/key/kernel": numbers(24),
       "ia3/encoder/layers_0/attention/value/kernel": numbers(24)}  # fmt: skip


@pytest.mark.parametrize("tensors", [PREFIX, LORA, FACTORS, IA3], ids=lambda t: next(iter(t)))
def test_there_and_back(tmp_path, tensors):
    file = tmp_path / prompts.RUN_TENSORS
    array_files.write_safetensors(file, tensors, {"task": "pocket_cb"})
    folder = prompts.convert(file, tmp_path / "peft", "peft", "org/t5")
    config = json.loads((folder / peft.CONFIG).read_text())
    assert config["peft_type"] in peft.ADAPTERS and config["base_model_name_or_path"] == "org/t5"
    back = prompts.convert(folder, tmp_path / "back.safetensors", "safetensors")
    found, header = array_files.read_safetensors(back)
    assert header["task"] == "pocket_cb" and "format" not in header
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found.pop(name), tensor, rtol=1e-6)
    assert set(found) <= {"prompt"}
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        prompts.convert(file, folder, "peft")
    refused = "more than one prompt .*does not go into the format 'npy'"
    with pytest.raises(ValueError, match=refused):
        prompts.convert(file, tmp_path / "x.npy", "npy")


def test_names_and_shapes_of_peft(tmp_path):
    adapters.write(tmp_path / "a", LORA, {})
    found, _ = array_files.read_safetensors(tmp_path / "a" / peft.WEIGHTS)
    module = "base_model.model.decoder.block.1.layer.1.EncDecAttention.q"
    assert {name: x.shape for name, x in found.items()} == {
        f"{module}.lora_A.weight": (2, 16), f"{module}.lora_B.weight": (24, 2),
    }  # fmt: skip
    adapters.write(tmp_path / "b", PREFIX, {})
    found, _ = array_files.read_safetensors(tmp_path / "b" / peft.WEIGHTS)
    config = peft.config_of(tmp_path / "b")
    assert config["num_layers"] == 6 and config["token_dim"] == 16
    table = found[peft.TENSOR].reshape(4, 12, 2, 8)
    np.testing.assert_array_equal(table[:, 5], PREFIX["prefix/decoder/values"][1])
    assert not table[:, 2::4].any()


def test_layers_that_are_stacked_come_apart(tmp_path):
    stacked = {"lora/encoder/layers/attention/value/kernel/a": numbers(16, 3, 2),
               "lora/encoder/layers/attention/value/kernel/b": numbers(2, 3, 24)}  # fmt: skip
    adapters.write(tmp_path / "a", stacked, {})
    found, _ = adapters.read(tmp_path / "a")
    for letter in "ab":
        own = stacked[f"lora/encoder/layers/attention/value/kernel/{letter}"]
        np.testing.assert_allclose(
            found[f"lora/encoder/layers_2/attention/value/kernel/{letter}"], own[:, 2], rtol=1e-6
        )


def test_what_peft_cannot_say(tmp_path):
    encoder = {name.replace("decoder", "encoder"): x for name, x in PREFIX.items()}
    with pytest.raises(ValueError, match="the prefix stands at decoder, encoder; PEFT gives T5"):
        adapters.write(tmp_path / "a", {**PREFIX, **encoder}, {})
    with pytest.raises(ValueError, match="PEFT has no adapter for added"):
        adapters.write(tmp_path / "a", {"added": numbers(2, 16)}, {})
    for place in ("end", "{p:2} {inputs}"):
        with pytest.raises(ValueError, match="PEFT puts every prompt in front"):
            prompts.write(tmp_path / "a", Prompt(numbers(2, 16), {"insertion": place}), "peft")


def test_damaged_adapters(tmp_path):
    adapters.write(tmp_path / "a", LORA, {})
    config = peft.config_of(tmp_path / "a")
    for change in ({"use_dora": True}, {"rank_pattern": {"q": 3}}, {"r": None}):
        (tmp_path / "a" / peft.CONFIG).write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match="are not what adapter_config.json announces"):
            adapters.read(tmp_path / "a")
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps({**config, "peft_type": "VERA"}))
    with pytest.raises(ValueError, match="is of type 'VERA'; what can be read here is LORA"):
        adapters.read(tmp_path / "a")


def test_a_run_folder_with_no_prompt_in_it(tmp_path):
    tensors = {**FACTORS, "prompt": FACTORS["shared"] * (FACTORS["u"] @ FACTORS["v"])}
    facts = {"method": "any", "task": "mixture"}
    prompts.write_run(tmp_path, tensors, facts, ["one", "two", "a/b"])
    second = prompts.read(tmp_path / "prompts" / "two.npy")
    np.testing.assert_array_equal(second.rows_PD, tensors["prompt"][1])
    assert second.provenance == {"method": "any", "task": "two"}
    assert (tmp_path / "prompts" / "a_b.npy").is_file()
    folder = prompts.convert(tmp_path, tmp_path / "peft", "peft")
    assert peft.config_of(folder)["num_tasks"] == 3
    prompts.write_run(tmp_path, {"prompt": FACTORS["shared"]}, facts, ["one"])
    np.testing.assert_array_equal(prompts.read(tmp_path).rows_PD, FACTORS["shared"])
