"""`spjax inspect` and `spjax convert`."""

import dataclasses
import json
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from spjax import hub
from spjax.api import run_folders
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights as checkpoints
from spjax.cli import main
from spjax.vocabularies import vocabulary

WORDS = vocabulary.load_vocabulary("pocket")
TABLE = np.random.default_rng(0).normal(size=(WORDS.size, 16)).astype(ml_dtypes.bfloat16)
IDS = [WORDS.encode("the")[0], 1, WORDS.sentinel(7)]


@pytest.fixture
def prompt(tmp_path):
    rows = 3 * TABLE[IDS].astype(np.float32)
    return str(
        prompt_files.write(tmp_path / "p.npy", Prompt.from_array(rows, {"task": "pocket_cb"}))
    )


def call(capsys, *args):
    code = main.main(args)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", ["token_embedder/embedding", "shared.weight"])
def test_inspect_with_weights(capsys, tmp_path, prompt, name):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({name: TABLE}, path)
    args = ("inspect", prompt, "--model=pocket_50k", f"--checkpoint={path}", "--neighbours=2")
    code, out, _ = call(capsys, *args)
    assert code == 0 and "3 rows x 16" in out and "pocket_cb" in out
    rows = out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[3:5] for line in rows] == [
        [WORDS.piece(IDS[0]), "1.00"],
        ["</s>", "1.00"],
        ["<extra_id_7>", "1.00"],
    ]
    assert "entailment" in out  # a label of the task
    code, out, _ = call(capsys, *args, "--json", "--metric=euclidean", "--labels=the, yes")
    found = json.loads(out)
    near = [row["nearest"][0] for row in found["rows"]]
    assert near[0][0] != "</s>" and near[0][1] > 1 and found["metric"] == "euclidean"
    assert found["labels"]["the"] == {"rank": 1, "row": 0, "neighbour_of": [0]}
    out = str(tmp_path / "words.npy")
    code, text, _ = call(capsys, *args, f"--discretise={out}")
    made = prompt_files.read_soft_tokens(out)
    assert code == 0 and made.provenance["words"] == f"{WORDS.piece(IDS[0])} </s> <extra_id_7>"
    assert made.provenance["words"] in text
    np.testing.assert_array_equal(made.soft_tokens_PD, TABLE[IDS].astype(np.float32))


def test_inspect_several(capsys, tmp_path, prompt):
    rows = np.ones((5, 16), np.float32)
    other = str(
        prompt_files.write(tmp_path / "q.npy", Prompt.from_array(rows, {"task": "pocket_wic"}))
    )
    code, out, _ = call(capsys, "inspect", prompt, other, f"--figure={tmp_path / 'alike.png'}")
    assert code == 0 and out.splitlines()[0].split()[-2:] == ["pocket_cb", "pocket_wic"]
    assert "mean cosine of rows" in out and (tmp_path / "alike.svg").is_file()
    code, out, _ = call(capsys, "inspect", prompt, prompt, "--json")
    found = json.loads(out)
    assert code == 0 and found["prompts"] == [prompt, prompt]
    np.testing.assert_allclose(found["average"], np.ones((2, 2)), atol=1e-6)


def test_inspect_a_run_shows_its_drift(capsys, tmp_path, prompt):
    prompt_files.write(tmp_path / "prompt.npy", prompt_files.read_soft_tokens(prompt))
    values = {"trainable/norm": 7.0, "trainable/drift": 2.0}
    lines = [{"step": 5, "train/loss": 1.0}, {"step": 5, **values}, {"step": 10, **values}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (tmp_path, tmp_path / "prompt.npy"):
        code, out, _ = call(capsys, "inspect", str(path))
        assert code == 0 and "10    7     2" in out and out.count("from the start") == 1
    assert "from the start" not in call(capsys, "inspect", prompt)[1]


def test_inspect_without_weights(capsys, prompt):
    code, out, _ = call(capsys, "inspect", prompt)
    assert code == 0 and "row norm" in out and "Give --model=SIZE or --checkpoint=PATH for" in out


def test_inspect_takes_the_model_of_a_run(capsys, monkeypatch, prompt, tmp_path):
    run = SimpleNamespace(model="pocket_50k", checkpoint="", vocabulary="", weights_dtype="float32")
    run.check_contents = lambda: None
    monkeypatch.setattr(run_folders, "find_run_folder", lambda path: tmp_path)
    monkeypatch.setattr(run_folders, "load_run_config", lambda folder: run)
    code, out, _ = call(capsys, "inspect", prompt)
    assert code == 0 and "Give --model" not in out
    assert out == call(capsys, "inspect", prompt, "--model=pocket_50k")[1]
    run.checkpoint = str(tmp_path / "moved.safetensors")
    code, out, _ = call(capsys, "inspect", prompt)
    assert code == 0 and "Give --model=SIZE or --checkpoint=PATH for the nearest words" in out
    stored = prompt_files.read_soft_tokens(prompt)
    for facts, flag in [
        ({"model": "pocket_50k"}, "--model=pocket_50k"),
        ({"model": "auto"}, "--checkpoint=PATH"),
        ({"model": "t5_1_1_small"}, "--checkpoint=PATH"),
        ({"model": "pocket_50k", "base_model": "/weights"}, "--checkpoint=PATH"),
    ]:
        other = dataclasses.replace(stored, provenance=facts)
        path = prompt_files.write(tmp_path / f"{len(facts)}{facts['model']}.npy", other, "npy")
        assert f"Give {flag} for the nearest words" in call(capsys, "inspect", str(path))[1]


def test_inspect_takes_the_base_model_of_an_adapter(capsys, monkeypatch, prompt, tmp_path):
    """A path on this machine that fits, but for an adapter from the hub."""
    weights = str(checkpoints.SHIPPED / "pocket_50k.safetensors")
    stored = prompt_files.read_soft_tokens(prompt)

    def shown(source, **facts):
        folder = tmp_path / f"adapter{len(list(tmp_path.iterdir()))}"
        facts = {"base_model": weights, **facts}
        prompt_files.write(folder, dataclasses.replace(stored, provenance=facts), "peft")
        monkeypatch.setattr(hub, "prompt_folder", lambda url: str(folder))
        code, out, _ = call(capsys, "inspect", source or str(folder))
        assert code == 0
        return out, folder

    out, folder = shown("")
    assert "nearest words of each row." not in out
    assert out == call(capsys, "inspect", str(folder), f"--checkpoint={weights}")[1]
    hint = "Give --checkpoint=PATH for the nearest words"
    assert hint in (text := shown("", base_sha256="0" * 64)[0]) and "with other weights" in text
    assert "for the nearest words" in shown("hf://me/q")[0]
    assert hint in shown("", vocabulary_sha256="0" * 64)[0]
    path = prompt_files.write(
        tmp_path / "b.npy", dataclasses.replace(stored, provenance={"base_sha256": "0"}), "npy"
    )
    note = "trained with other weights than those of pocket_50k here."
    assert note in call(capsys, "inspect", str(path), "--model=pocket_50k")[1]
    large = str(checkpoints.SHIPPED / "pocket_3m.safetensors")
    assert f"No words: {large} has width 160, not 16." in shown("", base_model=large)[0]
    pinned = {"base_model": "me/x", "base_revision": "v1"}
    assert "Give --checkpoint=hf://me/x@v1 for the nearest" in shown("", **pinned)[0]


@pytest.mark.parametrize("format", prompt_files.FORMATS)
def test_convert(capsys, tmp_path, prompt, format):
    code, out, _ = call(capsys, "convert", prompt, str(tmp_path / "out"), "--format", format)
    found, made = prompt_files.read_soft_tokens(prompt), prompt_files.read_soft_tokens(out.strip())
    assert code == 0 and made.soft_tokens_PD.tobytes() == found.soft_tokens_PD.tobytes()
    assert made.provenance == found.provenance == {"task": "pocket_cb"}


def test_an_adapter_is_not_merged(capsys, tmp_path, prompt):
    folder = str(tmp_path / "adapter")
    call(capsys, "convert", prompt, folder, "--format=peft")
    for flags in (["--format=huggingface"], ["--format=safetensors", "--dtype=bfloat16"]):
        code, _, err = call(capsys, "convert", folder, str(tmp_path / "out"), *flags)
        assert code == 2 and f"{folder} is an adapter of PEFT, and only runs can be merged" in err
        assert err.count(folder) == 1


def test_mistakes(capsys, tmp_path, prompt):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"other": TABLE}, path)
    weights = f"--checkpoint={path}"
    for args, message in [
        (("inspect", "absent"), "cannot read absent"),
        (("inspect", f"{prompt}z"), f"Check the path. Did you mean '{prompt}'?"),
        (("inspect", prompt, prompt, "--discretise=x"), "--discretise takes one prompt and --fig"),
        (("inspect", prompt, "--figure=x.png"), "--figure several; 1 are given"),
        (("inspect", prompt, "--discretise=x"), "give the model with --model=SIZE or"),
        (("inspect", prompt, "--model=pocket_50k", weights), "has no embedding table"),
        (("convert", prompt, prompt + "/x", "--format=npy"), "cannot write the prompt"),
    ]:
        code, _, err = call(capsys, *args)
        assert code == 2 and err.startswith("spjax: error:") and message in err
    safetensors.numpy.save_file({"shared.weight": TABLE}, path)
    code, _, err = call(capsys, "inspect", prompt, "--model=t5_1_1_small", weights)
    assert code == 2 and "has 32100 ids" in err and "only 1152 rows" in err
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = call(capsys, "inspect", prompt, "--model=pocket_50k", weights)
    assert code == 2 and "cannot read the weights" in err
