"""`spjax inspect` and `spjax convert`."""

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from spjax import cli
from spjax.checkpoints import prompts
from spjax.checkpoints.prompts import Prompt
from spjax.data import vocabulary

WORDS = vocabulary.load("pocket")
TABLE = np.random.default_rng(0).normal(size=(WORDS.size, 16)).astype(ml_dtypes.bfloat16)
IDS = [WORDS.encode("the")[0], 1, WORDS.sentinel(7)]


@pytest.fixture
def prompt(tmp_path):
    rows = 3 * TABLE[IDS].astype(np.float32)
    return str(prompts.write(tmp_path / "p.npy", Prompt(rows, {"task": "pocket_cb"})))


def call(capsys, *args):
    code = cli.main(args)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("name", ["token_embedder/embedding", "shared.weight"])
def test_inspect_with_weights(capsys, tmp_path, prompt, name):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({name: TABLE}, path)
    args = ("inspect", prompt, "--model=pocket_50k", f"--checkpoint={path}", "--neighbours=2")
    code, out, _ = call(capsys, *args)
    assert code == 0 and "3 rows x 16" in out and "pocket_cb" in out
    assert [line.split()[2:4] for line in out.splitlines()[-3:]] == [
        [WORDS.piece(IDS[0]), "1.00"], ["</s>", "1.00"], ["<extra_id_7>", "1.00"]
    ]  # fmt: skip


def test_inspect_without_weights(capsys, prompt):
    code, out, _ = call(capsys, "inspect", prompt)
    assert code == 0 and "row norm" in out and "Give --model=SIZE for the nearest words" in out


@pytest.mark.parametrize("format", prompts.FORMATS)
def test_convert(capsys, tmp_path, prompt, format):
    code, out, _ = call(capsys, "convert", prompt, str(tmp_path / "out"), "--format", format)
    found, made = prompts.read(prompt), prompts.read(out.strip())
    assert code == 0 and made.rows_PD.tobytes() == found.rows_PD.tobytes()
    assert made.provenance == found.provenance == {"task": "pocket_cb"}


def test_mistakes(capsys, tmp_path, prompt):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"other": TABLE}, path)
    weights = f"--checkpoint={path}"
    for args, message in [
        (("inspect", "absent"), "cannot read absent"),
        (("inspect", prompt, "--model=pocket_50k", weights), "has no embedding table"),
        (("convert", prompt, prompt + "/x", "--format=npy"), "cannot write the prompt"),
    ]:
        code, _, err = call(capsys, *args)
        assert code == 2 and err.startswith("spjax: error:") and message in err
    safetensors.numpy.save_file({"shared.weight": TABLE}, path)
    code, _, err = call(capsys, "inspect", prompt, "--model=t5_1_1_small", weights)
    assert code == 2 and "no vocabulary is known for the model 't5_1_1_small'" in err
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = call(capsys, "inspect", prompt, "--model=pocket_50k", weights)
    assert code == 2 and "cannot read the weights" in err
