"""Adapters of PEFT that are no table of rows: what goes in and out, and what is refused."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import adapters, peft, prompt_files, run_prompts
from spjax.checkpoints.prompts.prompt import Prompt

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


QUERY = "decoder/layers_1/encoder_decoder_attention/query/kernel"
PREFIX = {f"prefix/decoder/{name}": numbers(3, 4, 2, 8) for name in ("keys", "values")}
LORA = {f"lora/{QUERY}/a": numbers(16, 2), f"lora/{QUERY}/b": numbers(2, 24)}
FACTORS = {"shared": numbers(5, 16), "u": numbers(3, 5, 1), "v": numbers(3, 1, 16)}
IA3 = {
    "ia3/encoder/layers_0/mlp/wo/kernel": numbers(24),
    "ia3/encoder/layers_0/attention/key/kernel": numbers(24),
    "ia3/encoder/layers_0/attention/value/kernel": numbers(24),
}


@pytest.mark.parametrize("tensors", [PREFIX, LORA, FACTORS, IA3], ids=lambda t: next(iter(t)))
def test_there_and_back(tmp_path, tensors):
    file = tmp_path / run_prompts.TENSORS_FILE
    array_files.write_safetensors(file, tensors, {"task": "pocket_cb"})
    folder = prompt_files.convert(file, tmp_path / "peft", "peft", "org/t5")
    config = json.loads((folder / peft.CONFIG).read_text())
    assert config["peft_type"] in peft.ADAPTERS and config["base_model_name_or_path"] == "org/t5"
    card = (folder / "README.md").read_text()
    assert "model = PeftModel.from_pretrained(frozen, 'peft')" in card and "base = 'org/t5'" in card
    assert ("`model.generate` leaves the prefix of a T5 out" in card) == (tensors is PREFIX)
    assert ("model.generate(**batch" in card) == (tensors is not PREFIX)
    assert ("task_ids=torch" in card) == (tensors is FACTORS)
    back = prompt_files.convert(folder, tmp_path / "back.safetensors", "safetensors")
    found, header = array_files.read_safetensors(back)
    assert header["task"] == "pocket_cb" and "format" not in header
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found.pop(name), tensor, rtol=1e-6)
    assert set(found) <= {"prompt"}
    again = prompt_files.convert(back, tmp_path / "again", "peft")  # whatever the file's name
    assert peft.config_of(again)["peft_type"] == config["peft_type"]
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        prompt_files.convert(file, folder, "peft")
    refused = "more than one prompt .*does not go into the format 'npy'"
    with pytest.raises(ValueError, match=refused):
        prompt_files.convert(file, tmp_path / "x.npy", "npy")


def test_the_base_model_of_an_adapter_that_peft_wrote(tmp_path):
    lora_folder(tmp_path / "a", base_model_name_or_path="org/t5", revision="v1")
    wanted = {"base_model": "org/t5", "base_revision": "v1"}
    assert prompt_files.read(tmp_path / "a").provenance == wanted
    adapters.write(tmp_path / "b", LORA, wanted)
    config = peft.config_of(tmp_path / "b") | {"base_model_name_or_path": "me/t5", "revision": None}
    (tmp_path / "b" / peft.CONFIG).write_text(json.dumps(config))  # by hand
    assert prompt_files.read(tmp_path / "b").provenance["base_model"] == "me/t5"


def test_names_and_shapes_of_peft(tmp_path):
    adapters.write(tmp_path / "a", LORA, {})
    found, _ = array_files.read_safetensors(tmp_path / "a" / peft.WEIGHTS)
    module = "base_model.model.decoder.block.1.layer.1.EncDecAttention.q"
    assert {name: x.shape for name, x in found.items()} == {
        f"{module}.lora_A.weight": (2, 16),
        f"{module}.lora_B.weight": (24, 2),
    }
    adapters.write(tmp_path / "b", PREFIX, {})
    found, _ = array_files.read_safetensors(tmp_path / "b" / peft.WEIGHTS)
    config = peft.config_of(tmp_path / "b")
    assert config["num_layers"] == 6 and config["token_dim"] == 16
    table = found[peft.TENSOR].reshape(4, 12, 2, 8)
    np.testing.assert_array_equal(table[:, 5], PREFIX["prefix/decoder/values"][1])
    assert not table[:, 2::4].any()


def test_layers_that_are_stacked_come_apart(tmp_path):
    stacked = {
        "lora/encoder/layers/attention/value/kernel/a": numbers(16, 3, 2),
        "lora/encoder/layers/attention/value/kernel/b": numbers(2, 3, 24),
    }
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
            prompt_files.write(
                tmp_path / "a", Prompt.from_array(numbers(2, 16), {"insertion": place}), "peft"
            )


def test_damaged_adapters(tmp_path):
    adapters.write(tmp_path / "a", LORA, {})
    config = peft.config_of(tmp_path / "a")
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps({**config, "use_rslora": True}))
    with pytest.raises(ValueError, match="is not the one that was written with adapter_model"):
        adapters.read(tmp_path / "a")
    (tmp_path / "a" / peft.CONFIG).write_text("[" * 100_000)
    with pytest.raises(ValueError, match="cannot read .*nested too deeply"):
        adapters.read(tmp_path / "a")
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps({**config, "peft_type": "VERA"}))
    with pytest.raises(ValueError, match="is of type 'VERA'; what can be read here is LORA"):
        adapters.read(tmp_path / "a")


LORA_CONFIG = {
    "peft_type": "LORA",
    "task_type": "SEQ_2_SEQ_LM",
    "r": 2,
    "lora_alpha": 6,
    "bias": "none",
    "target_modules": ["q", "wo"],
    "init_lora_weights": True,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "lora_dropout": 0.1,
    "qalora_group_size": 16,
    "runtime_config": {"ephemeral_gpu_offload": False},
}
HUB_QUERY = "decoder.block.1.layer.1.EncDecAttention.q"
HUB_WO = "encoder.block.0.layer.1.DenseReluDense.wo"
WO = "encoder/layers_0/mlp/wo/kernel"


def lora_folder(folder, ranks=(2, 2), name="base_model.model.{}.lora_{}.weight", extra=(), **keys):
    """An adapter as PEFT saves it, not by our own writer; the factors of each module."""
    factors, tensors = {}, dict(extra)
    for (module, width, out), rank in zip(((HUB_QUERY, 16, 24), (HUB_WO, 32, 16)), ranks):
        factors[module] = numbers(rank, width), numbers(out, rank)
        tensors |= {name.format(module, x): y for x, y in zip("AB", factors[module])}
    folder.mkdir()
    (folder / peft.CONFIG).write_text(json.dumps({**LORA_CONFIG, **keys}))
    safetensors.numpy.save_file(tensors, folder / peft.WEIGHTS, metadata={"format": "pt"})
    return factors


@pytest.mark.parametrize(
    "ranks, name, keys, scales",
    [
        ((2, 2), "base_model.model.{}.lora_{}.weight", {}, (3.0, 3.0)),
        ((2, 2), "base_model.model.{}.lora_{}.default.weight", {}, (3.0, 3.0)),
        ((4, 4), "{}.lora_{}.weight", {"r": 4, "use_rslora": True}, (3.0, 3.0)),
        (
            (4, 2),
            "base_model.model.{}.lora_{}.weight",
            {
                "rank_pattern": {r"block\.\d+\.layer\.1\..*\.q": 4},
                "alpha_pattern": {"wo": 5},
                "init_lora_weights": "eva",
                "eva_config": {"rho": 2.0},
            },
            (1.5, 2.5),
        ),
    ],
)
def test_the_scale_of_lora_is_in_b(tmp_path, ranks, name, keys, scales):
    factors = lora_folder(tmp_path / "a", ranks, name, **keys)
    found, header = adapters.read(tmp_path / "a")
    adapters.write(tmp_path / "b", found, header)  # with a rank for each module
    again, _ = adapters.read(tmp_path / "b")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, again)
    for kernel, (a, b), scale in zip((QUERY, WO), factors.values(), scales):
        np.testing.assert_allclose(found.pop(f"lora/{kernel}/a"), a.T, rtol=1e-6)
        np.testing.assert_allclose(found.pop(f"lora/{kernel}/b"), scale * b.T, rtol=1e-6)
    assert not found


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "loftq", "corda", "lora_ga"])
def test_factors_of_a_changed_base_are_refused(tmp_path, start):
    lora_folder(tmp_path / "a", init_lora_weights=start)
    wanted = f"made with init_lora_weights = '{start}' .*path_initial_model_for_weight_conversion"
    with pytest.raises(ValueError, match=wanted):
        prompt_files.convert(tmp_path / "a", tmp_path / "b", "safetensors")


@pytest.mark.parametrize(
    "key, value",
    [
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("modules_to_save", ["x"]),
        ("trainable_token_indices", [3]),
        ("layer_replication", [[0, 1]]),
        ("megatron_config", {"a": 1}),
        ("fan_in_fan_out", True),
        ("use_qalora", True),
        ("target_parameters", ["x"]),
        ("init_lora_weights", "mica"),
        ("of_a_later_version", 1),
    ],
)
def test_what_a_config_changes_is_named(tmp_path, key, value):
    lora_folder(tmp_path / "a", **{key: value})
    with pytest.raises(ValueError, match=f"made with {key} = .*which spjax does not compute"):
        adapters.read(tmp_path / "a")


@pytest.mark.parametrize(
    "extra, keys, message",
    [
        ({"base_model.model.lm_head.weight": (8, 4)}, {}, "lm_head.weight are no factors"),
        ({"base_model.model.shared.lora_embedding_A": (2, 8)}, {}, "are no factors"),
        ({f"base_model.model.{HUB_WO}.lora_B.bias": (16,)}, {}, "lora_B.bias are no factors"),
        ({f"base_model.model.{HUB_WO}.lora_magnitude_vector": (16,)}, {}, "are no factors"),
        ({"base_model.model.lm_head.lora_A.weight": (2, 8)}, {}, "lm_head is not a matrix"),
        ({f"base_model.model.{HUB_WO[:-1]}x.lora_A.weight": (2, 8)}, {}, "is not a matrix"),
        ({f"{HUB_WO[:-2]}wi.lora_A.weight": (2, 8)}, {}, "wi have one factor only"),
        ({f"{HUB_WO[:-2]}wi.lora_A.other.weight": (2, 8)}, {}, "of several adapters"),
        ({}, {"r": 3}, "and its rank is 3"),
        ({}, {"r": True}, "the rank of .* is True"),
        ({}, {"lora_alpha": float("inf")}, "lora_alpha of .* is inf"),
        ({}, {"rank_pattern": {"(.|.)*x": 2}}, "which is not read"),
        ({}, {"rank_pattern": {"[": 2}}, "unterminated character set"),
        ({}, {"alpha_pattern": [1]}, "not an object of patterns"),
    ],
)
def test_tensors_that_are_no_factors(tmp_path, extra, keys, message):
    lora_folder(tmp_path / "a", extra={k: numbers(*shape) for k, shape in extra.items()}, **keys)
    with pytest.raises(ValueError, match=f"are not what adapter_config.json announces.*{message}"):
        adapters.read(tmp_path / "a")


@pytest.mark.parametrize(
    "tensors, name, shape, change, message",
    [
        (IA3, "base_model.model.lm_head.weight", (2, 2), {}, "are no factors"),
        (
            IA3,
            "base_model.model.encoder.block.0.layer.0.SelfAttention.q.ia3_l",
            (24, 1),
            {},
            "is no scale of k, v or wo",
        ),
        (
            IA3,
            "base_model.model.encoder.block.1.layer.0.SelfAttention.k.ia3_l",
            (1, 24),
            {},
            r"has shape \(1, 24\)",
        ),
        (IA3, "", (), {"modules_to_save": ["lm_head"]}, "made with modules_to_save"),
        (PREFIX, "other", (2, 2), {}, "there are the tensors"),
        (PREFIX, "", (), {"num_transformer_submodules": 1}, "for T5 PEFT has 2"),
        (PREFIX, "", (), {"num_layers": 10**30}, "announces"),
        (FACTORS, "other", (2, 2), {}, "there are the tensors"),
        (FACTORS, "", (), {"num_ranks": 2}, "are not those of 5 rows for 3 tasks with 2 ranks"),
        (FACTORS, "", (), {"num_virtual_tokens": -1}, "num_virtual_tokens is -1"),
    ],
)
def test_other_adapters_that_do_not_fit(tmp_path, tensors, name, shape, change, message):
    adapters.write(tmp_path / "a", tensors, {})
    found, _ = array_files.read_safetensors(tmp_path / "a" / peft.WEIGHTS)
    found |= {name: numbers(*shape)} if name else {}
    config = peft.config_of(tmp_path / "a") | change
    safetensors.numpy.save_file(found, tmp_path / "a" / peft.WEIGHTS)
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        adapters.read(tmp_path / "a")


def test_prompts_with_more_beside_them(tmp_path):
    prompt_files.write(tmp_path / "a", Prompt.from_array(numbers(2, 16), {}), "peft")
    config = peft.config_of(tmp_path / "a")
    safetensors.numpy.save_file(
        {peft.TENSOR: numbers(2, 16), "lm_head.weight": numbers(2, 2)},
        tmp_path / "a" / peft.WEIGHTS,
    )
    with pytest.raises(ValueError, match="more than a table of rows: .*lm_head.weight"):
        prompt_files.read_soft_tokens(tmp_path / "a")
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps({**config, "modules_to_save": ["x"]}))
    with pytest.raises(ValueError, match="made with modules_to_save"):
        prompt_files.read_soft_tokens(tmp_path / "a")


def test_a_run_folder_with_no_prompt_in_it(tmp_path):
    tensors = {**FACTORS, "prompt": FACTORS["shared"] * (FACTORS["u"] @ FACTORS["v"])}
    facts = {"method": "any", "task": "mixture"}
    prompt_files.write_run(tmp_path, tensors, facts, ["one", "two", "a/b"])
    second = prompt_files.read_soft_tokens(tmp_path / "prompts" / "two.npy")
    np.testing.assert_array_equal(second.soft_tokens_PD, tensors["prompt"][1])
    assert second.provenance == {"method": "any", "task": "two"}
    assert (tmp_path / "prompts" / "a_b.npy").is_file()
    folder = prompt_files.convert(tmp_path, tmp_path / "peft", "peft")
    assert peft.config_of(folder)["num_tasks"] == 3
    prompt_files.write_run(tmp_path, {"prompt": FACTORS["shared"]}, facts, ["one"])
    np.testing.assert_array_equal(
        prompt_files.read_soft_tokens(tmp_path).soft_tokens_PD, FACTORS["shared"]
    )
