"""Prompts through every format, and what is refused."""

import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft, prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.prompts.prompt_files import T5X_FILE

# Signed zeros, the smallest and the largest float32 must survive too.
ROWS = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
ROWS[0, :5] = [-0.0, 0.0, 1e-45, np.finfo(np.float32).max, 1385.4]
FACTS = {"model": "pocket_50k", "task": "pocket_cb", "step": "300", "validation_score": "61.5"}
PROMPT = Prompt.from_array(ROWS, FACTS)


def same_bits(a, b):
    return a.dtype == b.dtype == np.float32 and a.tobytes() == b.tobytes() and a.shape == b.shape


def adapter(folder, rows, config=(), drop=()):
    """A folder as PEFT writes it, with changes."""
    folder.mkdir(exist_ok=True)
    content = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "SEQ_2_SEQ_LM",
        "num_virtual_tokens": 5,
        "num_transformer_submodules": 2,
        "token_dim": 7,
        "base_model_name_or_path": "org/t5",
        **dict(config),
    }
    content = {key: value for key, value in content.items() if key not in drop}
    (folder / peft.CONFIG).write_text(json.dumps(content))
    safetensors.numpy.save_file({peft.TENSOR: rows}, folder / peft.WEIGHTS, {"format": "pt"})
    return folder


@pytest.mark.parametrize("second", prompt_files.FORMATS)
@pytest.mark.parametrize("first", prompt_files.FORMATS)
def test_every_pair_of_formats_keeps_every_bit(tmp_path, first, second):
    made = prompt_files.write(tmp_path / "a", PROMPT, first)
    again = prompt_files.convert(made, tmp_path / "b", second)
    found = prompt_files.read_soft_tokens(again)
    assert same_bits(found.soft_tokens_PD, ROWS) and found.provenance == FACTS
    assert str(tmp_path / "b") in found.origin


def test_no_temporary_files_are_left_and_writing_again_replaces(tmp_path):
    for format in ("npy", "safetensors"):
        prompt_files.write(tmp_path / format, Prompt.from_array(ROWS + 1), format)
        prompt_files.write(tmp_path / format, PROMPT, format)
        assert same_bits(prompt_files.read_soft_tokens(tmp_path / format).soft_tokens_PD, ROWS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["npy", "npy.json", "safetensors"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = prompt_files.write(tmp_path / "p.npy", PROMPT)

    def fail(file, *args, **kwargs):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(ValueError, match="cannot write the prompt.*No space left"):
        prompt_files.write(path, Prompt.from_array(ROWS + 1))
    assert same_bits(prompt_files.read_soft_tokens(path).soft_tokens_PD, ROWS)
    assert len(list(tmp_path.iterdir())) == 2


def test_names_do_not_matter_content_does(tmp_path):
    prompt_files.write(tmp_path / "x.safetensors", PROMPT, "npy")
    prompt_files.write(tmp_path / "x.npy", PROMPT, "safetensors")
    assert "(.npy)" in prompt_files.read_soft_tokens(tmp_path / "x.safetensors").origin
    assert "(safetensors" in prompt_files.read_soft_tokens(tmp_path / "x.npy").origin


def t5x_folder(root, *steps):
    for step in steps:
        folder = root / "numpy_checkpoints" / f"checkpoint_{step}"
        folder.mkdir(parents=True)
        with open(folder / T5X_FILE, "wb") as file:
            np.save(file, np.full((2, 3), float(str(step).split(".")[0]), np.float32))


def test_newest_step_of_t5x(tmp_path):
    t5x_folder(tmp_path, 900, 1000, "2000.tmp-123")
    (tmp_path / "numpy_checkpoints" / "checkpoint_3000").mkdir()  # no file in it yet
    for path in (tmp_path, tmp_path / "numpy_checkpoints"):
        found = prompt_files.read_soft_tokens(path)
        assert found.soft_tokens_PD[0, 0] == 1000 and found.provenance == {"step": "1000"}
    older = tmp_path / "numpy_checkpoints" / "checkpoint_900"
    assert (
        prompt_files.read_soft_tokens(older).soft_tokens_PD[0, 0]
        == prompt_files.read_soft_tokens(older / T5X_FILE).soft_tokens_PD[0, 0]
        == 900
    )


def test_t5x_layout_is_that_of_the_released_code(tmp_path):
    path = prompt_files.write(tmp_path, PROMPT, "t5x")
    expected = "numpy_checkpoints/checkpoint_300/encoder.prompt.prompt.prompt"
    assert path.relative_to(tmp_path).as_posix() == expected
    assert same_bits(np.load(path), ROWS)
    assert "checkpoint_0" in str(prompt_files.write(tmp_path, Prompt.from_array(ROWS), "t5x"))


def test_run_folder(tmp_path):
    np.save(tmp_path / "prompt.npy", ROWS)
    result = {"model": "m", "task": "t", "seed": 0, "best_step": 20, "steps": 60}
    result |= {"validation": {"accuracy": 1.0, "score": 2.5}, "test": None, "status": "finished"}
    (tmp_path / "result.json").write_text(json.dumps(result))
    expected = {"model": "m", "task": "t", "seed": "0", "step": "20", "validation_score": "2.5"}
    assert prompt_files.read_soft_tokens(tmp_path).provenance == expected
    (tmp_path / "config.gin").write_text("Run.seed = 0\n")
    digest = prompt_files.read_soft_tokens(tmp_path / "prompt.npy").provenance["config_sha256"]
    assert len(digest) == 64
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match="cannot read the provenance in .*result.json"):
        prompt_files.read_soft_tokens(tmp_path)


def test_run_without_a_prompt_and_other_folders(tmp_path):
    with pytest.raises(ValueError, match="no prompt found in .* no adapter_config.json .PEFT"):
        prompt_files.read_soft_tokens(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="the run in .* has left no prompt.npy"):
        prompt_files.read_soft_tokens(tmp_path)


@pytest.mark.parametrize("name", sorted({*prompt_files._TENSORS, "anything"}))
def test_safetensors_of_others(tmp_path, name):
    others = {} if name == "anything" else {"other": ROWS[:1]}
    path = tmp_path / "p.safetensors"
    safetensors.numpy.save_file({name: ROWS, **others}, path, {"format": "pt", "note": "x"})
    found = prompt_files.read_soft_tokens(path)
    assert same_bits(found.soft_tokens_PD, ROWS) and found.provenance == {"note": "x"}


def test_safetensors_with_no_clear_prompt(tmp_path):
    path = tmp_path / "p.safetensors"
    for tensors in ({"a": ROWS, "b": ROWS}, {"prompt": ROWS, "prompt_embeddings": ROWS}, {}):
        safetensors.numpy.save_file(tensors, path)
        with pytest.raises(ValueError, match=f"which of its {len(tensors)} tensors is the prompt"):
            prompt_files.read_soft_tokens(path)


@pytest.mark.parametrize("dtype", ["float16", "float64", ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_other_precisions_become_float32(tmp_path, dtype, kind):
    rows = ROWS[1:].astype(dtype)
    path = tmp_path / "p"
    if kind == "npy":
        with open(path, "wb") as file:
            np.save(file, rows)
    else:
        safetensors.numpy.save_file({"prompt": rows}, path)
    assert same_bits(prompt_files.read_soft_tokens(path).soft_tokens_PD, rows.astype(np.float32))


@pytest.mark.parametrize(
    "rows, message",
    [
        (ROWS[0], r"has shape \(7,\); expected two dimensions"),
        (ROWS[None], r"has shape \(1, 5, 7\); expected two dimensions"),
        (ROWS[:0], r"has shape \(0, 7\)"),
        (np.full((2, 2), np.nan, np.float32), "4 of 4 numbers that are not finite .NaN"),
        (np.array([[1.0, 7e4]]).astype(np.float32), None),
        (np.array([[1, np.inf]], np.float16), "1 of 2 .*infinite; stored as float16.*65504"),
        (np.array([[1e300]]), "infinite; stored as float64"),
        (np.ones((2, 2), int), "holds int64 numbers; a prompt is one of float32, bfloat16"),
    ],
)
def test_what_is_no_prompt(tmp_path, rows, message):
    path = tmp_path / "p.npy"
    np.save(path, rows)
    if message is None:
        assert prompt_files.read_soft_tokens(path).soft_tokens_PD.shape == (1, 2)
        return
    with pytest.raises(ValueError, match=message) as error:
        prompt_files.read_soft_tokens(path)
    assert str(path) in str(error.value)


def test_width_and_length_are_checked(tmp_path):
    path = prompt_files.write(tmp_path / "p.npy", PROMPT)
    assert prompt_files.read_soft_tokens(path, width=7, length=5).soft_tokens_PD.shape == (5, 7)
    with pytest.raises(ValueError, match=r"has shape \(5, 7\).*but \(5, 8\) is needed"):
        prompt_files.read_soft_tokens(path, width=8)
    with pytest.raises(ValueError, match=r"but \(4, 7\) is needed"):
        prompt_files.read_soft_tokens(path, length=4)


@pytest.mark.parametrize("format", ["npy", "safetensors"])
@pytest.mark.parametrize("kept", [0, 5, 60, -8])
def test_truncated_files(tmp_path, format, kept):
    path = prompt_files.write(tmp_path / "p", PROMPT, format)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cannot read the|neither .npy nor safetensors"):
        prompt_files.read_soft_tokens(path)


def test_a_side_file_of_another_prompt_is_noticed(tmp_path):
    path = prompt_files.write(tmp_path / "p.npy", PROMPT)
    np.save(path, ROWS + 1)
    with pytest.raises(ValueError, match="p.npy.json describes another prompt.*Delete it"):
        prompt_files.read_soft_tokens(path)
    (tmp_path / "p.npy.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds list, not a JSON object"):
        prompt_files.read_soft_tokens(path)
    (tmp_path / "p.npy.json").unlink()
    assert prompt_files.read_soft_tokens(path).provenance == {}


def test_pickles_are_never_loaded(tmp_path):
    files = {"a": pickle.dumps({"prompt": [1.0]})}
    with zipfile.ZipFile(tmp_path / "b", "w") as file:
        file.writestr("data.pkl", files["a"])
    (tmp_path / "a").write_bytes(files["a"])
    for name in "ab":
        with pytest.raises(ValueError, match="neither .npy nor safetensors.*looks like a pickle"):
            prompt_files.read_soft_tokens(tmp_path / name)
    np.save(tmp_path / "c.npy", np.array([["x", None]], object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot read the array .*holds Python objects"):
        prompt_files.read_soft_tokens(tmp_path / "c.npy")
    with pytest.raises(ValueError, match="cannot read .*absent: No such file"):
        prompt_files.read_soft_tokens(tmp_path / "absent")


def test_provenance_must_be_strings():
    for facts in ({"step": 3}, {"format": "pt"}):
        with pytest.raises(ValueError, match="must map strings to strings"):
            Prompt.from_array(ROWS, facts)


def test_what_a_prompt_cannot_hold():
    with pytest.raises(ValueError, match="are ndarray; give them by name.*Prompt.from_array"):
        Prompt(ROWS)
    with pytest.raises(
        ValueError, match="the prompt from memory has shape .1, 1, 1.; expected two"
    ):
        Prompt({"prompt": [[[1.0]]]})
    for prefix in ("prefix", "prefix/nowhere", "prefix/a/b"):
        with pytest.raises(ValueError, match="prefix/SITE/keys .* sites are encoder, decoder, cro"):
            Prompt({f"{prefix}/keys": ROWS, f"{prefix}/values": ROWS})
    with pytest.raises(ValueError, match="a prefix has the two tensors prefix/SITE/keys and pre"):
        Prompt({"prefix/decoder/keys": ROWS})
    with pytest.raises(ValueError, match="holds shared, u, parts of a multitask prompt without"):
        Prompt({"u": ROWS, "shared": ROWS})
    with pytest.raises(ValueError, match="from memory holds odd/x, which is neither soft tokens"):
        Prompt({"odd/x": ROWS})
    with pytest.raises(ValueError, match="added of the prompt from memory has 1 of .* not finite"):
        Prompt({"added": np.float32([[np.nan, 0]])})
    with pytest.raises(ValueError, match="memory holds lora/x/a, no soft tokens that stand among"):
        _ = Prompt({"lora/x/a": ROWS}).soft_tokens_PD


def test_files_with_parts_of_a_multitask_prompt(tmp_path):
    u_SPR, v_SRD = np.ones((1, 5, 1), np.float32), np.ones((1, 1, 7), np.float32)
    parts = {"shared": ROWS, "u": u_SPR, "v": v_SRD}
    path = tmp_path / "all.safetensors"
    array_files.write_safetensors(path, {"prompt": ROWS, **parts}, FACTS)
    assert set(prompt_files.read(path).tensors) == {"prompt"}
    table = prompt_files.convert(path, tmp_path / "p.npy", "npy")
    assert same_bits(prompt_files.read(table).soft_tokens_PD, ROWS)
    prompt_files.convert(path, tmp_path / "adapter", "peft")
    config = peft.config_of(tmp_path / "adapter")
    assert config["peft_type"] == "MULTITASK_PROMPT_TUNING"
    for name in ("shared", "u", "v"):  # a name alone says nothing
        array_files.write_safetensors(tmp_path / name, {name: ROWS}, {})
        assert same_bits(prompt_files.read(tmp_path / name).soft_tokens_PD, ROWS)


@pytest.mark.parametrize(
    ("name", "others"),
    [("lora/x/a", {"lora/x/b": ROWS}), ("u", {"prompt": ROWS, "shared": ROWS, "v": ROWS})],
)
def test_nan_is_not_converted(name, others, tmp_path):
    path = tmp_path / "parts.safetensors"
    tensors = {name: np.full((2, 2), np.nan, np.float32), **others}
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(ValueError, match=f"{name} of .* not finite"):
        prompt_files.convert(path, tmp_path / "out", "safetensors")


def test_writing_refuses(tmp_path):
    with pytest.raises(ValueError, match="memory holds no tensors, so there is nothing to write"):
        prompt_files.write(tmp_path / "p", Prompt({}), "safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write the prompt to"):
        prompt_files.write(tmp_path / "file" / "x", Prompt({"added": ROWS}), "safetensors")
    (tmp_path / "file").unlink()
    with pytest.raises(ValueError, match="unknown prompt format 'bin'; use one of npy, safe"):
        prompt_files.write(tmp_path / "p", PROMPT, "bin")
    for format in ("npy", "safetensors"):
        with pytest.raises(ValueError, match="cannot write the prompt to"):
            prompt_files.write(tmp_path, PROMPT, format)
    (tmp_path / "p").touch()
    for path in (tmp_path, tmp_path / "p"):
        with pytest.raises(ValueError, match="exists and is not an empty folder"):
            prompt_files.write(path, PROMPT, "peft")
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


# Whole checkpoints of T5X.


def t5x_checkpoint(folder, tree):
    """The older format with every array inside the index."""
    serialization = pytest.importorskip("flax.serialization")
    folder.mkdir()
    content = {"version": 3, "optimizer": {"target": tree, "state": {}}}
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    return folder


def nested(**prompts):
    return {
        "token_embedder": {"embedding": ROWS},
        "encoder": {name: {name: {"prompt": rows}} for name, rows in prompts.items()},
    }


def test_prompt_inside_a_t5x_checkpoint(tmp_path):
    found = prompt_files.read_soft_tokens(
        t5x_checkpoint(tmp_path / "checkpoint_1100", nested(prompt=ROWS))
    )
    assert same_bits(found.soft_tokens_PD, ROWS) and found.provenance == {"step": "1100"}
    assert "T5X checkpoint, encoder/prompt/prompt/prompt" in found.origin
    for i, tree in enumerate(({"a": ROWS}, {"x": {"prompt": ROWS}, "y": {"prompt": ROWS}})):
        folder = t5x_checkpoint(tmp_path / str(i), tree)
        with pytest.raises(ValueError, match=f"holds {2 * i} prompts .*, none of them encoder"):
            prompt_files.read_soft_tokens(folder)
    (folder / "checkpoint").write_bytes(b"\x93")
    with pytest.raises(ValueError, match="is damaged"):
        prompt_files.read_soft_tokens(folder)


# PEFT adapters.


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING"])
@pytest.mark.parametrize("drop", [(), ("num_transformer_submodules",)])
def test_peft_file_with_twice_the_rows(tmp_path, kind, drop):
    unused = np.full_like(ROWS, np.nan)
    folder = adapter(tmp_path / "a", np.vstack([ROWS, unused]), {"peft_type": kind}, drop)
    for path in (folder, folder / peft.WEIGHTS):
        found = prompt_files.read_soft_tokens(path)
        assert same_bits(found.soft_tokens_PD, ROWS) and found.provenance == {
            "base_model": "org/t5"
        }
        assert "the first 5 of its 10 rows" in found.origin


def test_peft_submodules_decide_how_many_rows_there_are(tmp_path):
    twice = np.vstack([ROWS, ROWS])
    for given in (1, None):
        folder = adapter(tmp_path / "a", ROWS, {"num_transformer_submodules": given})
        assert same_bits(prompt_files.read_soft_tokens(folder).soft_tokens_PD, ROWS)
    for rows, config in [
        (twice, {"num_transformer_submodules": 1}),
        (twice, {"num_transformer_submodules": None, "task_type": "CAUSAL_LM"}),
        (ROWS, {}),
        (twice, {"token_dim": 8}),
        (twice[:, 0], {"token_dim": None}),
    ]:
        with pytest.raises(ValueError, match="prompt_embeddings in .* has shape .*but adapter_con"):
            prompt_files.read_soft_tokens(adapter(folder, rows, config))


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("PREFIX_TUNING", "keys and values"),
        ("LORA", "it changes weights"),
        ("MULTITASK_PROMPT_TUNING", "factors of each task"),
        ("IA3", "not a table of rows"),
        (None, "not a table of rows"),
    ],
)
def test_other_kinds_of_adapters(tmp_path, kind, reason):
    folder = adapter(tmp_path / "a", ROWS, {"peft_type": kind})
    with pytest.raises(ValueError, match=f"is of type {kind!r}: .*{reason}.*Only PROMPT_TUNING"):
        prompt_files.read_soft_tokens(folder)


def test_damaged_adapters(tmp_path):
    folder = adapter(tmp_path / "a", ROWS, {"num_virtual_tokens": "five"})
    with pytest.raises(ValueError, match="num_virtual_tokens 'five'; it must be a number"):
        prompt_files.read_soft_tokens(folder)
    adapter(folder, ROWS, {"num_transformer_submodules": "1"})
    with pytest.raises(ValueError, match="num_transformer_submodules '1'; it must be 1, 2 or"):
        prompt_files.read_soft_tokens(folder)
    safetensors.numpy.save_file({"other": ROWS}, folder / peft.WEIGHTS)
    with pytest.raises(ValueError, match=r"has no tensor 'prompt_embeddings', only \['other'\]"):
        prompt_files.read_soft_tokens(folder)
    (folder / peft.WEIGHTS).unlink()
    with pytest.raises(ValueError, match="has adapter_config.json but no adapter_model.safet"):
        prompt_files.read_soft_tokens(folder)
    (folder / "adapter_model.bin").touch()
    with pytest.raises(ValueError, match="adapter_model.bin, a pickle that could run code"):
        prompt_files.read_soft_tokens(folder)
    for text, problem in (("{", "cannot read .*adapter_config"), ("[]", "not a JSON object")):
        (folder / peft.CONFIG).write_text(text)
        with pytest.raises(ValueError, match=problem):
            prompt_files.read_soft_tokens(folder)


def test_written_adapter(tmp_path):
    path = prompt_files.write(tmp_path / "x" / "a", PROMPT, "peft")
    config = json.loads((path / peft.CONFIG).read_text())
    assert list(config) == sorted(config) and config["num_transformer_submodules"] == 1
    assert config["prompt_tuning_init"] == "RANDOM" and config["token_dim"] == 7
    tensors, header = array_files.read_safetensors(path / peft.WEIGHTS)
    assert len(header.pop("adapter_config_sha256")) == 64
    assert list(tensors) == ["prompt_embeddings"] and header == {**FACTS, "format": "pt"}
    assert "| task | pocket_cb |" in (path / "README.md").read_text()
    again = prompt_files.convert(path, tmp_path / "b", "peft", "google/t5-small-lm-adapt")
    assert json.loads((again / peft.CONFIG).read_text())["base_model_name_or_path"] == (
        "google/t5-small-lm-adapt"
    )
    assert "\nbase_model: google/t5-small-lm-adapt\n" in (again / "README.md").read_text()
    for made in (path, path / peft.CONFIG):
        assert made.stat().st_mode & 0o400 and not made.name.startswith(".")


def test_the_card_of_an_adapter_has_no_folders(tmp_path):
    """It names files of data alone, loads the adapter by its folder's name, and generates."""
    task = "files:" + json.dumps({"path": "/home/me/pairs/ab.jsonl", "template": "review: {text}"})
    facts = {"task": "pairs", "task_file": task, "base_model": str(tmp_path), "method": "p"}
    path = prompt_files.write(tmp_path / "films", Prompt.from_array(ROWS, facts), "peft")
    assert json.loads((path / peft.CONFIG).read_text())["base_model_name_or_path"] == str(tmp_path)
    card = (path / "README.md").read_text()
    assert "/home" not in card and str(tmp_path) not in card and "base = 'BASE'  # the fol" in card
    assert "load_predictor('films')" in card and "from_pretrained(frozen, 'films')" in card
    assert "AutoTokenizer.from_pretrained(base)" in card and "['review: {text}']" in card
    assert "ids = model.generate(**batch, max_new_tokens=20)" in card
    assert prompt_files.read(path).provenance["task_file"] == task  # which evaluations need


def test_a_base_model_replaces_another_with_its_revision(tmp_path):
    facts = {"base_model": "org/a", "base_revision": "v1"}
    path = prompt_files.write(tmp_path / "a.npy", Prompt.from_array(ROWS, facts))
    for given, wanted in (
        ("", facts),
        ("org/b", {"base_model": "org/b"}),
        ("hf://org/b@v2", {"base_model": "org/b", "base_revision": "v2"}),
    ):
        folder = prompt_files.convert(path, tmp_path / f"x{given[-1:]}", "peft", given)
        assert prompt_files.read(folder).provenance == wanted


def test_peft_has_no_way_to_say_what_rows_see(tmp_path):
    prompt = Prompt.from_array(np.ones((2, 4), np.float32), {"sees_prompt": "before"})
    with pytest.raises(ValueError, match="trained with sees_prompt = before, and with PEFT every"):
        prompt_files.write(tmp_path / "adapter", prompt, "peft")
