"""Checkpoints, datasets and prompts of a hub on loopback, in processes that talk to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest

from spjax.checkpoints.prompts import model_card, peft
from spjax.checkpoints.weights import convert, weights
from spjax.data.tasks import file_task, hub_datasets, registry, scored_files
from spjax.data.tasks.file_task import FileTask
from spjax.injection import Soft, join
from spjax.models import T5, T5Config
from spjax.models.t5 import weight_shapes
from spjax.types import Batch
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


@pytest.mark.slow
def test_safetensors_of_a_revision(hub, folder, run):
    hub.add("models", "org/plain", {"config.json": b"{}"})
    hub.add_folder("models", "org/plain", folder[0], "v1")
    done = digest(run, "hf://org/plain@v1")
    assert done.stdout.strip() == folder[1]
    commit = hub.add_folder("models", "org/plain", folder[0], "v1")
    assert f"hf://org/plain@v1 is now hf://org/plain@{commit}" in done.stderr
    assert not digest(run, f"hf://org/plain@{commit}").stderr
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
    assert "tokenizer.json" in run("-c", program, code=1).stderr


def test_pickled_weights_need_torch(hub, folder, run):
    hub.add(
        "models",
        "org/only_pickled",
        {"config.json": (folder[0] / "config.json").read_bytes(), "pytorch_model.bin": b"x"},
    )
    said = digest(run, "hf://org/only_pickled", code=1).stderr
    assert "[torch]" in said or "cannot read" in said


def test_weights_of_an_adapter_are_not_those_of_the_model(hub, folder, run):
    """Nor those of another format's folder, which would be downloaded for nothing."""
    config = (folder[0] / "config.json").read_bytes()
    beside = {"adapter.safetensors": b"a", "onnx/model.safetensors": b"o"}
    hub.add("models", "org/beside", {"config.json": config, "pytorch_model.bin": b"x", **beside})
    digest(run, "hf://org/beside", code=1)
    asked = [path for _, path in hub.requests if path.startswith("org/beside/")]
    assert any(path.endswith("pytorch_model.bin") for path in asked)
    assert not any(path.endswith(".safetensors") for path in asked)


DOWNLOAD = "import sys; from spjax import hub; print(hub.model_folder(sys.argv[1]))"


def test_pickled_weights_of_the_cache_need_no_connection(hub, run):
    hub.add("models", "org/offline", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    online = run("-c", DOWNLOAD, "hf://org/offline").stdout
    offline = f"import os; os.environ['HF_HUB_OFFLINE'] = '1'; {DOWNLOAD}"
    done = run("-c", offline, "hf://org/offline")
    assert done.stdout == online and "look for safetensors of hf://org/offline" in done.stderr


@pytest.mark.parametrize("call", ["model_folder('hf://a/b')", "dataset_commit('a/b', '')"])
def test_a_server_that_does_not_answer_is_named(run, call):
    program = "import os; os.environ['HF_ENDPOINT'] = 'http://127.0.0.1:9'\n"
    program += f"from spjax import hub\ntry: hub.{call}\nexcept ValueError as e: print(e)"
    said = run("-c", program).stdout
    assert said.startswith("cannot ") and "Check name, revision and connection" in said


@pytest.mark.slow
def test_nothing_private_goes_to_a_public_repository(hub, run, tmp_path):
    hub.add("models", "me/public", {"README.md": b"old"})
    np.save(tmp_path / "p.npy", np.zeros((2, 4), np.float32))
    push = ("push", str(tmp_path / "p.npy"))
    said = spjax(run, *push, "hf://me/public", "--private", code=2).stderr
    assert "hf://me/public is there and public" in said
    assert hub.files("models", "me/public", "main") == {"README.md": b"old"}
    spjax(run, *push, "hf://me/hidden", "--private")
    assert ("models", "me/hidden") in hub.private
    assert "hf://ORGANIZATION/NAME" in spjax(run, *push, "me/hidden", code=2).stderr


def test_the_card_names_the_revision_of_the_base(tmp_path):
    facts = {"base_model": "org/t5", "base_revision": "refs/pr/3", "task": "a|b", "method": "p"}
    card = model_card.text("hf://me/q", facts, license="no")
    assert 'license: "no"' in card and "| task | a\\|b |" in card
    assert "load_predictor('hf://me/q')" in card and "base = 'org/t5'" in card
    assert card.count("from_pretrained(base, revision='refs/pr/3')") == 2
    peft.write(tmp_path / "adapter", np.zeros((2, 4), np.float32), facts)
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "org/t5" and written["revision"] == "refs/pr/3"
    _, header, _ = peft.read(tmp_path / "adapter")
    assert header["base_revision"] == "refs/pr/3"


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


@pytest.mark.slow
def test_a_saved_folder_is_trained_on(reviews, run, tmp_path):
    reviews.save_to_disk(str(tmp_path / "reviews"))
    train(run, str(tmp_path / "reviews"), tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "reviews" and result["test"]["score"] >= 0
    fields = json.loads(result["task_file"].partition(":")[2])
    assert fields["labels"] == ["neg", "pos"]


def saved(folder, **splits):
    """Saves splits of (names of classes, numbers, columns of other types) as a dataset."""
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    parts = {}
    for split, (names, numbers, columns) in splits.items():
        types = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
        types |= {name: datasets.List(datasets.Value("string")) for name in columns}
        rows = {"text": [f"{i} {names[n % len(names)]}" for i, n in enumerate(numbers)]}
        rows |= {"label": numbers, **columns}
        parts[split] = datasets.Dataset.from_dict(rows, features=datasets.Features(types))
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return str(folder)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path / "cache"))


def task(path, **settings):
    return FileTask(**{"path": path, "template": "{text}", "target": "{label}", **settings})


def test_a_class_has_its_word_in_every_split(tmp_path, cached):
    numbers = [i % 3 for i in range(30)]
    first = saved(tmp_path / "a", train=(["x", "y", "z"], numbers, {}))
    other = saved(tmp_path / "b", validation=(["z", "x", "y"], numbers, {}))
    source = registry.get(task(first, validation=other, labels=("one", "two", "three"))).source
    word = {"x": "one", "y": "two", "z": "three"}
    for split in ("train", "validation"):
        for row in file_task.records(source, split):
            assert row["targets"] == word[row["inputs"].split()[1]]
    strange = saved(tmp_path / "c", validation=(["x", "y", "w"], numbers, {}))
    with pytest.raises(ValueError, match="has the classes x, y, w, and the splits before it"):
        task(first, validation=strange, labels=("one", "two", "three"))


def test_columns_and_classes_that_cannot_be_used_are_named(tmp_path, cached):
    lists = saved(tmp_path / "a", train=(["x", "y"], [0, 1] * 20, {"tags": [["t"]] * 40}))
    with pytest.raises(ValueError, match=r"column 'tags' of .* of the type List.*templates take"):
        task(lists, template="{tags}")
    with pytest.raises(ValueError, match=r"there is no '.*/missing'; paths are relative"):
        task(str(tmp_path / "missing"))

    class Beyond:
        features: ClassVar = {"label": type("ClassLabel", (), {"names": ["x", "y"]})()}

        def select_columns(self, names):
            return [{"label": 0}, {"label": 2}]

    with pytest.raises(ValueError, match="folder#train, row 1: 'label' is the class 2, and there"):
        hub_datasets._write(Beyond(), tmp_path / "rows.jsonl", "folder#train")


def test_only_splits_of_a_task_are_written_and_a_folder_is_opened_once(
    tmp_path, cached, monkeypatch
):
    part = (["x", "y"], [0, 1] * 20, {})
    path = saved(tmp_path / "a", train=part, validation=part, test=part, extra=part)
    hub_datasets._opened.cache_clear()
    task(path)
    assert hub_datasets._opened.cache_info().misses == 1
    assert len(list(hub_datasets._cache_folder(path).glob("*.jsonl"))) == 3
    source = registry.get(task(path)).source
    monkeypatch.chdir(tmp_path)
    for spelled in (f"{path}#train", "a#train", "./a#train"):
        assert scored_files.is_of(spelled, source), spelled
    assert not scored_files.is_of("a#validation", source)


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
    assert 'license: "mit"' in card and "- org/reviews" in card and "review: {text}" in card
    for name, prompt in ("pushed", url), ("trained", str(tmp_path / "run")):
        spjax(run, "convert", prompt, str(tmp_path / f"{name}.npy"), "--format=npy")
    prompts = [np.load(tmp_path / f"{name}.npy") for name in ("pushed", "trained")]
    np.testing.assert_array_equal(*prompts)
    task = "--task=hf://datasets/org/reviews#validation"
    scored = spjax(run, "eval", "--prompt=hf://me/reviews", task)
    assert '"examples": 20' in scored.stdout
    local = spjax(run, "eval", str(tmp_path / "run"), "--split=validation")
    assert json.loads(scored.stdout)["score"] == json.loads(local.stdout)["score"]


PEFT = """
import sys, warnings
import numpy as np, torch, transformers
warnings.simplefilter("ignore")
from peft import AutoPeftModelForSeq2SeqLM, PeftModel
frozen = transformers.T5ForConditionalGeneration.from_pretrained("org/frozen")
ids = torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]])
batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([[9], [10]])}
model = PeftModel.from_pretrained(frozen, "me/prompt")
auto = AutoPeftModelForSeq2SeqLM.from_pretrained("me/prompt")
with torch.no_grad():
    logits = {
        "peft": model.eval()(**batch).logits.numpy(),
        "auto": auto.eval()(**batch).logits.numpy(),
        "frozen": frozen.eval()(**batch).logits.numpy(),
    }
table = model.prompt_encoder["default"].embedding.weight.detach().numpy()
np.savez(sys.argv[1], table=table, **logits)
"""


def test_a_pushed_prompt_is_an_adapter_of_peft(hub, folder, run, tmp_path):
    """The hub gives PEFT the prompt, and the name of the frozen model; the logits are spjax's."""
    for package in ("torch", "transformers", "peft"):
        pytest.importorskip(package, reason="the extra torch is not installed")
    hub.add_folder("models", "org/frozen", folder[0])
    rows = np.random.default_rng(0).normal(size=(3, CONFIG.emb_dim)).astype(np.float32)
    np.save(tmp_path / "p.npy", 3 * rows)
    push = ("push", str(tmp_path / "p.npy"), "hf://me/prompt", "--base_model=org/frozen")
    spjax(run, *push)
    run("-c", PEFT, str(tmp_path / "theirs.npz"))
    theirs = np.load(tmp_path / "theirs.npz")
    np.testing.assert_array_equal(theirs["table"], 3 * rows)
    np.testing.assert_array_equal(theirs["peft"], theirs["auto"])
    assert np.abs(theirs["peft"] - theirs["frozen"]).max() > 0.01
    base = weights.load("auto", str(folder[0]))
    ids = np.array([[5, 6, 7, 1], [8, 1, 0, 0]])
    front = np.ones((2, 3), int)
    segments, slots = (ids > 0).astype(int), np.full_like(ids, -1)
    parts = (
        np.hstack([front, ids]),
        np.hstack([front * np.arange(3), slots]),
        np.hstack([front, segments]),
        np.array([[9], [10]]),
        np.ones((2, 1)),
        np.zeros((2, 1)),
        np.zeros((2, 1)),
    )
    batch = Batch(*(np.asarray(part, np.int32) for part in parts))
    ours = jax.jit(T5(CONFIG).apply)({"params": base}, batch, join([Soft(3 * rows[None])]))
    np.testing.assert_allclose(ours, theirs["peft"], atol=1e-4)


def test_a_dataset_of_the_hub_is_streamed_into_a_corpus(hub, run, tmp_path):
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    files = {
        f"data/train-{number:05d}-of-00002.jsonl": b"".join(
            json.dumps({"text": f"bird {number} {row}"}).encode() + b"\n" for row in range(20)
        )
        for number in range(2)
    }
    commit = hub.add("datasets", "org/birds", files)
    corpus = "--corpus=birds=hf://datasets/org/birds"
    built = ("cache", corpus, "--vocabulary=byt5", "--num_workers=1")
    assert "40 documents, 340 tokens in 2 shards" in spjax(run, *built).stdout
    (manifest,) = (tmp_path / "cache" / "corpora").glob("birds-train-*/corpus.json")
    source = json.loads(manifest.read_text())["key"]["source"]
    assert source == f"hf:hf://datasets/org/birds@{commit}"
    assert "Nothing to do" in spjax(run, *built).stdout
    assert not list((tmp_path / "hf").rglob("*.arrow"))  # streamed, not downloaded
