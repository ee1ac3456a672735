"""Checkpoints, datasets and prompts of a hub on loopback, in processes that talk to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from spjax.checkpoints.weights import convert, weights
from spjax.data.tasks import hub_datasets
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes
from tests import local_hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

CONFIG = T5Config(40, 8, 2, 3, 12, 1, 1)
GIN = [f"--gin_file=gin_configs/{name}.gin" for name in ("models/pocket", "runs/pocket")]
GIN += ["--gin_file=gin_configs/methods/prompt_tuning.gin", "--gin_file=gin_configs/tasks/file.gin"]


@pytest.fixture(scope="module")
def hub():
    with local_hub.Hub().served() as served:
        yield served


@pytest.fixture
def run(hub, tmp_path):
    """Runs Python or spjax in a process of its own: the hub's library reads HF_ENDPOINT once."""

    def run(*arguments, code=0):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": "hf_test",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "SPJAX_CACHE": str(tmp_path / "cache"),
        }
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder, and the digest of what it holds."""
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), weight_shapes(CONFIG))
    path = tmp_path_factory.mktemp("m") / "w.safetensors"
    weights.save(path, tree, {}, dtype="float32")
    return convert.convert(str(path), path.parent / "hf", "huggingface"), weights.digest(tree)


def digest(run, url, code=0):
    program = (
        "import sys; from spjax.checkpoints.weights import weights;"
        "print(weights.digest(weights.load('auto', sys.argv[1], 'float32')))"
    )
    return run("-c", program, url, code=code)


def test_safetensors_of_a_revision(hub, folder, run):
    hub.add("models", "org/plain", {"config.json": b"{}"})
    hub.add_folder("models", "org/plain", folder[0], "v1")
    assert digest(run, "hf://org/plain@v1").stdout.strip() == folder[1]
    lost = digest(run, "hf://org/plain@v2", code=1).stderr
    assert "cannot fetch hf://org/plain@v2" in lost and "Check name, revision" in lost


def test_the_conversion_of_the_hub_is_taken_and_said(hub, folder, run):
    whole = {path.name: path.read_bytes() for path in folder[0].iterdir()}
    pickled = {"config.json": whole["config.json"], "pytorch_model.bin": b"pickled"}
    converted = {**pickled, **whole}
    hub.add("models", "org/pickled", pickled)
    # Of somebody else, and of other weights than those of the main branch.
    hub.add_pull_request("org/pickled", 7, "somebody", {**converted, "model.safetensors": b"x"})
    hub.add_pull_request("org/pickled", 6, "SFconvertbot", {**converted, "pytorch_model.bin": b"o"})
    hub.add_pull_request("org/pickled", 5, "SFconvertbot", converted)
    done = digest(run, "hf://org/pickled")
    assert done.stdout.strip() == folder[1]
    assert "taken from hf://org/pickled@refs/pr/5, the conversion by SFconvertbot" in done.stderr
    assert digest(run, "hf://org/pickled@refs/pr/5").stdout.strip() == folder[1]


def test_a_vocabulary_that_is_not_read_is_never_taken_for_another(hub, folder, run):
    whole = {path.name: path.read_bytes() for path in folder[0].iterdir()}
    tokenizer = {"tokenizer.json": b'{"model": {"type": "BPE"}, "added_tokens": []}'}
    hub.add("models", "org/bpe", {**whole, **tokenizer})
    program = "import spjax; spjax.load_model('hf://org/bpe')"
    assert "tokenizer.json (BPE), which spjax does not read" in run("-c", program, code=1).stderr


def test_pickled_weights_need_torch(hub, folder, run):
    hub.add(
        "models",
        "org/only_pickled",
        {"config.json": (folder[0] / "config.json").read_bytes(), "pytorch_model.bin": b"x"},
    )
    said = digest(run, "hf://org/only_pickled", code=1).stderr
    assert "[torch]" in said or "cannot read" in said


def spjax(run, *arguments, code=0):
    return run("-m", "spjax", *arguments, code=code)


def train(run, task, out):
    settings = {
        "TASK_FILE": task,
        "TASK_TEMPLATE": "'review: {text}'",
        "TASK_TARGET": "'{label}'",
        "MODEL_SIZE": "pocket_50k",
        "PROMPT_LENGTH": 2,
        "TRAIN_STEPS": 4,
        "EVAL_PERIOD": 4,
        "MODEL_DIR": out,
    }
    return spjax(run, "train", *GIN, *(f"--gin.{key}={value}" for key, value in settings.items()))


@pytest.fixture(scope="module")
def reviews():
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    rows = [(f"it was {word} {i}", number) for i in range(40) for number, word in enumerate(WORDS)]
    classes = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})

    def split(rows, label=None):
        columns = {"text": [text for text, _ in rows]}
        columns["label"] = [number if label is None else label for _, number in rows]
        return datasets.Dataset.from_dict(columns, features=features)

    # The labels of the test split are not public, as in many datasets of the hub.
    parts = {"train": split(rows[:60]), "validation": split(rows[60:]), "test": split(rows[:8], -1)}
    return datasets.DatasetDict(parts)


WORDS = ("bad", "good")


def test_a_saved_folder_is_trained_on(reviews, run, tmp_path):
    reviews.save_to_disk(str(tmp_path / "reviews"))
    train(run, str(tmp_path / "reviews"), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "reviews" and result["test"]["score"] >= 0
    fields = json.loads(result["task_file"].partition(":")[2])
    assert fields["labels"] == ["neg", "pos"]


def test_files_of_a_folder_that_have_changed_are_read_again(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "films"
    folder.mkdir()
    card = "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n"
    (folder / "README.md").write_text(card)
    seen = []
    for word in ("good", "worse"):
        (folder / "train.jsonl").write_text(json.dumps({"text": word}) + "\n")
        split = hub_datasets.split_of(str(folder), "train")
        seen.append(split.path.read_text())
    assert "good" in seen[0] and "worse" in seen[1]


@pytest.mark.slow
def test_a_dataset_of_the_hub_and_a_prompt_pushed_to_it(hub, reviews, run, tmp_path):
    for split, dataset in reviews.items():
        dataset.to_parquet(str(tmp_path / "data" / "data" / f"{split}-00000-of-00001.parquet"))
    commit = hub.add_folder("datasets", "org/reviews", tmp_path / "data")
    train(run, "hf://datasets/org/reviews", tmp_path / "run")
    text = (tmp_path / "run" / "config.gin").read_text()
    assert f"FileTask.path = 'hf://datasets/org/reviews@{commit}'" in text
    url = spjax(
        run, "push", str(tmp_path / "run"), "hf://me/reviews", "--license=mit"
    ).stdout.strip()
    assert url.startswith("hf://me/reviews@")
    files = hub.files("models", "me/reviews", "main")
    card = files["README.md"].decode()
    assert "license: mit" in card and "- org/reviews" in card and "review: {text}" in card
    for name, prompt in ("pushed", url), ("trained", str(tmp_path / "run")):
        spjax(run, "convert", prompt, str(tmp_path / f"{name}.npy"), "--format=npy")
    prompts = [np.load(tmp_path / f"{name}.npy") for name in ("pushed", "trained")]
    np.testing.assert_array_equal(*prompts)
    task = "--task=hf://datasets/org/reviews#validation"
    scored = spjax(run, "eval", "--prompt=hf://me/reviews", task)
    assert '"examples": 20' in scored.stdout
    local = spjax(run, "eval", str(tmp_path / "run"), "--split=validation")
    assert json.loads(scored.stdout)["score"] == json.loads(local.stdout)["score"]
