"""Answers of stored prompts from Python, which are those of the command line."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spjax
from spjax import hub
from spjax.api import run_folders
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft
from spjax.checkpoints.weights import convert, weights
from spjax.cli import main
from spjax.files import write_json
from spjax.vocabularies.vocabulary import load_vocabulary
from tests.api.conftest import SETTINGS, pairs

VOCABULARY = load_vocabulary("pocket").path

TEXTS = ["film 1 was good", "the fox", "film 2 was bad"]


@pytest.fixture(scope="session")
def predictor(trained):
    return spjax.load_predictor(trained.folder, decoding="rank")


def command(capsys, *args):
    assert main.main([str(arg) for arg in args]) == 0
    return capsys.readouterr().out


def test_a_run_folder_answers_as_the_command_line_does(trained, tmp_path, capsys):
    predictor = spjax.load_predictor(trained.folder)
    answers = predictor.predict(TEXTS)
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    out = command(capsys, "predict", tmp_path / "in.txt", f"--prompt={trained.folder}")
    assert out.split("\n")[:-1] == answers and predictor.predict([]) == []
    assert [answer.score for answer in predictor.answer(TEXTS)] == [None] * 3
    assert predictor.evaluate()["score"] == trained.test["score"]


def test_scores(predictor):
    assert set(predictor.labels) == {"bad", "good"}
    scores_BC = predictor.label_scores(TEXTS)
    best = [predictor.labels[i] for i in scores_BC.argmax(axis=1)]
    answers = predictor.answer(TEXTS)
    assert [answer.text for answer in answers] == best == predictor.predict(TEXTS)
    alone = predictor.score(TEXTS, best)
    np.testing.assert_allclose(alone, scores_BC.max(axis=1), rtol=1e-4)
    np.testing.assert_allclose([answer.score for answer in answers], alone, rtol=1e-4)


def test_evaluate_is_eval(predictor, trained, task, capsys, tmp_path):
    flags = ("--decoding=rank", "--target_length=8")
    own = json.loads(command(capsys, "eval", "--prompt", trained.folder, *flags))
    assert predictor.evaluate() == {**own, "step": trained.best_step}
    assert predictor.evaluate(task, "validation")["split"] == "validation"
    rows = predictor.evaluate(pairs(10, 300))
    assert rows["examples"] == 10 and rows["split"] == "test" and "accuracy" in rows
    columns = [{"input": text, "target": target} for text, target in pairs(10, 300)]
    assert {**predictor.evaluate(columns), "task": "pairs"} == rows
    path = tmp_path / "new.jsonl"
    lines = [json.dumps({"input": text, "target": target}) for text, target in pairs(10, 300)]
    path.write_text("\n".join(lines))
    assert {**predictor.evaluate(path), "task": "pairs"} == rows


def test_every_form_of_a_prompt_answers_alike(trained, model, tmp_path, predictor):
    prompt, wanted = trained.prompt, predictor.predict(TEXTS)
    forms = [prompt, trained.folder / "prompt.npy", str(trained.folder)]
    for format in ("npy", "safetensors", "peft", "t5x"):
        forms.append(spjax.save_prompt(prompt, tmp_path / format, format))
        assert np.array_equal(spjax.load_prompt(forms[-1]).soft_tokens_PD, prompt.soft_tokens_PD)
    many = spjax.load_predictor(forms, model, decoding="rank")
    for number in range(len(forms)):
        assert many.predict(TEXTS, prompt=number) == wanted
    scores = many.evaluate()
    assert {row["score"] for row in scores["prompts"]} == {scores["mean_score"]}


def test_prompts_by_name(trained, model):
    prompt = trained.prompt
    other = spjax.load_predictor({"a": prompt, "b": trained.folder}, model, decoding="rank")
    assert other.predict(TEXTS, ["a", "b", "a"]) == other.predict(TEXTS, "a")
    vote = other.evaluate(ensemble="vote")
    assert vote["mean_score"] == vote["best_score"] == vote["ensemble"]["score"]


@pytest.mark.slow
def test_an_adapter(model, task, tmp_path):
    run = spjax.train(
        model, task, spjax.LoRA(rank=2), output_dir=tmp_path / "run", **{**SETTINGS, "steps": 2}
    )
    wanted = spjax.load_predictor(tmp_path / "run").predict(TEXTS)
    peft = spjax.save_prompt(run.prompt, tmp_path / "peft", "peft", base_model="x")
    assert spjax.load_predictor(peft, model).predict(TEXTS) == wanted
    assert spjax.load_prompt(peft).tensors.keys() == run.prompt.tensors.keys()
    tensors = spjax.save_prompt(run.prompt, tmp_path / "lora.safetensors", "safetensors")
    assert spjax.load_predictor(tensors, model).predict(TEXTS) == wanted
    with pytest.raises(ValueError, match="more than a table of soft tokens .*Use 'peft' or 'safet"):
        spjax.save_prompt(run.prompt, tmp_path / "lora.npy")
    with pytest.raises(ValueError, match="changes the weights, so no other prompt can share"):
        spjax.load_predictor([tensors, peft], model)


@pytest.mark.parametrize(
    "ask, message",
    [
        (lambda p: p.predict("a text"), "texts is 'a text'; give a list of texts"),
        (lambda p: p.predict(TEXTS, "x"), "unknown prompt 'x'; the prompts are"),
        (lambda p: p.predict(TEXTS, [0, 0]), "3 texts and 2 prompts for them; give one for each"),
        (lambda p: p.score(TEXTS, ["a"]), "3 texts and the answers are .*one answer for each"),
        (lambda p: p.evaluate("pocket_bc"), "unknown task 'pocket_bc'"),
        (lambda p: p.evaluate([("a", 1)]), "item 0 of task is"),
        (lambda p: p.evaluate([]), "there are no examples"),
        (lambda p: p.evaluate(split="dev"), "dev"),
    ],
)
def test_mistakes(predictor, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(predictor)


def test_mistakes_of_loading(trained, tmp_path):
    prompt = trained.prompt
    for arguments, options, message in [
        (([],), {}, "no prompt is given; give a path"),
        ((tmp_path,), {}, "no prompt found in"),
        ((3.5,), {}, "prompts is 3.5; give a path"),
        (([prompt, 7],), {}, "7 is no prompt; give the path of a prompt file"),
        ((prompt,), {"batch_size": 0}, "the batch size is 0; it must be 1 to"),
        ((prompt,), {"decoding": "best"}, "best"),
        ((prompt, "pocket_200k"), {}, "rows of width 16 and the model is 48 wide"),
        ((spjax.load_prompt(save(prompt, tmp_path)),), {}, r"do not say one model .*with model=\."),
    ]:
        with pytest.raises(ValueError, match=message):
            spjax.load_predictor(*arguments, **options)
    with pytest.raises(ValueError, match="there are 2 prompts; say which one answers with prompt="):
        spjax.load_predictor([prompt, prompt]).predict(TEXTS)
    with pytest.raises(ValueError, match="only labels have probabilities to compare"):
        spjax.load_predictor(prompt).label_scores(TEXTS)


def save(prompt, folder):
    return spjax.save_prompt(prompt.soft_tokens_PD, folder / "rows.npy")


@pytest.mark.parametrize(
    "prompt, options, message",
    [
        (np.zeros(3), {}, r"the prompt is ndarray of shape \(3,\); give a prompt from spjax.load"),
        ("text", {}, "the prompt is str of shape"),
        (np.zeros((2, 3)), {"format": "onnx"}, "unknown prompt format 'onnx'; use one of npy"),
    ],
)
def test_mistakes_of_saving(tmp_path, prompt, options, message):
    with pytest.raises(ValueError, match=message):
        spjax.save_prompt(prompt, tmp_path / "x", **options)


def test_a_run_is_a_source_and_labels_are_scored_in_batches(trained, predictor):
    small = spjax.load_predictor(trained, decoding="rank", batch_size=2)
    scores_BC = predictor.label_scores(TEXTS)
    np.testing.assert_allclose(small.label_scores(TEXTS), scores_BC, rtol=1e-4)
    assert small.label_scores([]).shape == (0, scores_BC.shape[1])


def test_a_prompt_that_names_no_checkpoint(trained):
    facts = {**trained.prompt.provenance, "model": "auto"}
    prompt = type(trained.prompt)(trained.prompt.tensors, facts)
    with pytest.raises(ValueError, match="does not name; give the model, with model=PATH"):
        spjax.load_predictor(prompt)


def adapter(prompt, folder, base_model):
    """An adapter that names its base model and no size, as PEFT writes it."""
    stored = spjax.load_prompt(save(prompt, folder))
    return spjax.save_prompt(stored, folder / "adapter", "peft", base_model=base_model)


@pytest.fixture
def base(tmp_path):
    """The small model as a folder of transformers."""
    folder = str(tmp_path / "base")
    convert.convert(str(weights.SHIPPED / "pocket_50k.safetensors"), folder, "huggingface")
    shutil.copy(VOCABULARY, tmp_path / "base" / "spiece.model")
    return folder


def test_an_adapter_opens_its_base_model(trained, predictor, base, tmp_path, capsys, monkeypatch):
    """A folder as it is, another name as a repository of the hub, at the revision it says."""
    local = adapter(trained.prompt, tmp_path, base)
    wanted = spjax.load_predictor(trained, target_length=8).predict(TEXTS)
    assert spjax.load_predictor(local, target_length=8).predict(TEXTS) == wanted
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")
    flags = (f"--prompt={local}", "--target_length=8")
    assert command(capsys, "predict", tmp_path / "in.txt", *flags).splitlines() == wanted
    urls = []
    monkeypatch.setattr(hub, "model_folder", lambda url: urls.append(url) or base)
    (tmp_path / "hub").mkdir()
    of_hub = adapter(trained.prompt, tmp_path / "hub", "hf://org/frozen@v1")
    assert spjax.load_predictor(of_hub, target_length=8).predict(TEXTS) == wanted
    assert {*urls} == {"hf://org/frozen@v1"}


def test_a_folder_is_not_taken_for_a_repository(trained, base, tmp_path, monkeypatch):
    """Nor the other way round: paths are kept as absolute ones, revisions are of repositories."""
    urls, uploads = [], []
    monkeypatch.setattr(hub, "model_folder", lambda url: urls.append(url) or base)
    monkeypatch.setattr(hub, "upload", lambda folder, *_, **__: uploads.append(peft.read(folder)))
    monkeypatch.setattr(hub, "license_of", lambda name: "")
    (tmp_path / "org").mkdir()
    shutil.copytree(base, tmp_path / "org" / "frozen")
    monkeypatch.chdir(tmp_path)
    local = adapter(trained.prompt, tmp_path, "org/frozen")
    folder = str(tmp_path / "org" / "frozen")
    assert peft.config_of(local)["base_model_name_or_path"] == folder
    spjax.push_prompt(str(local), "hf://me/q")
    assert "base_model" not in uploads.pop()[1]
    spjax.push_prompt(str(local), "hf://me/q", base_model="org/frozen")
    assert uploads.pop()[1]["base_model"] == "org/frozen"
    config = peft.config_of(local)
    for revision, loaded in ((None, "org/frozen"), ("v1", "hf://org/frozen@v1")):
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        shutil.copytree(local, tmp_path / "other")
        changed = {**config, "base_model_name_or_path": "org/frozen", "revision": revision}
        tensors, header = array_files.read_safetensors(peft.weights_of(local))
        (tmp_path / "other" / peft.CONFIG).write_text(json.dumps(changed))
        array_files.write_safetensors(
            peft.weights_of(tmp_path / "other"), tensors, {"format": "pt"}
        )
        opened = spjax.load_predictor(tmp_path / "other").stored._open_model()
        assert opened.checkpoint == loaded
        for known in ({}, {"base_sha256": "0"}):  # of PEFT, and of spjax
            stored = spjax.load_prompt(tmp_path / "other")
            facts = {**stored.provenance, **known}
            spjax.push_prompt(dataclasses.replace(stored, provenance=facts), "hf://me/q")
            facts = uploads.pop()[1]
            pinned = "org/frozen" if revision else None
            assert (facts.get("base_model"), facts.get("base_revision")) == (pinned, revision)


@pytest.mark.parametrize("name", ["/etc", "../other", "gs://inner/model", "http://10.0.0.1/model"])
def test_a_prompt_from_the_hub_names_no_path(trained, base, tmp_path, monkeypatch, name):
    """However it is read, and what is made of it does not either."""
    local = adapter(trained.prompt, tmp_path, name)
    monkeypatch.setattr(hub, "prompt_folder", lambda url: str(local))
    read = spjax.load_prompt("hf://me/q")
    assert main.main(["convert", "hf://me/q", str(tmp_path / "p.npy"), "--format=npy"]) == 0
    for source in ("hf://me/q", read, str(tmp_path / "p.npy")):
        with pytest.raises(ValueError, match="prompts do not say one model"):
            spjax.load_predictor(source)
    assert spjax.load_predictor("hf://me/q", model=base).predict(TEXTS[:1])


def test_a_prompt_from_the_hub_has_no_files_of_its_task(trained, tmp_path, monkeypatch):
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"input": "a", "target": "b"}\n' * 40)
    stored = spjax.load_prompt(save(trained.prompt, tmp_path))
    task = f'files:{{"path": "{secret}", "labels": 7}}'
    facts = {**stored.provenance, "model": "pocket_50k", "task_file": task}
    stored = dataclasses.replace(stored, provenance=facts)
    local = spjax.save_prompt(stored, tmp_path / "adapter", "peft")
    monkeypatch.setattr(hub, "prompt_folder", lambda url: str(local))
    monkeypatch.chdir(tmp_path / "adapter")
    with pytest.raises(ValueError, match="cannot read 'secret.jsonl'"):
        spjax.load_predictor("hf://me/q").evaluate()


def test_prompts_that_name_different_base_models(trained, base, task, method, tmp_path):
    other = shutil.copytree(base, tmp_path / "other")
    folders = []
    for i, name in enumerate((base, str(other))):
        (tmp_path / str(i)).mkdir()
        folders.append(adapter(trained.prompt, tmp_path / str(i), name))
    with pytest.raises(ValueError, match=f"different frozen models: {base}, {other}. Give the mo"):
        spjax.load_predictor(folders)
    assert spjax.load_predictor(folders, base).predict(TEXTS[:1], 0)
    shipped = spjax.save_prompt(trained.prompt, tmp_path / "shipped.npy")
    with pytest.raises(ValueError, match=f"frozen models: {base}, none. Give the mo"):
        spjax.load_predictor([folders[0], shipped])
    run = spjax.train(base, task, method, output_dir=tmp_path / "run", **SETTINGS)
    with pytest.raises(ValueError, match=f"frozen models: {base}, none. Give the mo"):
        spjax.load_predictor([run.folder, shipped])


def test_a_revision_beside_a_path_means_nothing(trained, base, tmp_path):
    local = adapter(trained.prompt, tmp_path, base)
    config = {**peft.config_of(local), "revision": "main"}
    tensors, _ = array_files.read_safetensors(peft.weights_of(local))
    array_files.write_safetensors(peft.weights_of(local), tensors, {"format": "pt"})
    (local / peft.CONFIG).write_text(json.dumps(config))
    assert spjax.load_predictor(local).stored._open_model().checkpoint == base


@pytest.mark.slow
def test_other_weights_than_those_of_training_are_said(task, tmp_path, caplog):
    """Also of a method that changes weights, and where a run is scored again."""
    path = tmp_path / "weights.safetensors"
    frozen = weights.load("pocket_50k")
    weights.save(path, frozen, {}, "float32")
    model = spjax.load_model("pocket_50k", checkpoint=str(path))
    folder = tmp_path / "run"
    settings = {**SETTINGS, "steps": 2}
    spjax.train(model, task, spjax.LoRA(rank=2), output_dir=folder, **settings)
    assert main.main(["eval", str(folder)]) == 0 and "other weights" not in caplog.text
    with pytest.warns(UserWarning, match="trained with other weights of pocket_50k"):
        weights.save(tmp_path / "b.safetensors", jax.tree.map(jnp.negative, frozen), {}, "float32")
        other = spjax.load_model("pocket_50k", checkpoint=str(tmp_path / "b.safetensors"))
        spjax.load_predictor(folder, other)
    shutil.copy(tmp_path / "b.safetensors", path)
    assert main.main(["eval", str(folder)]) == 0
    assert "was trained with other weights of pocket_50k than these" in caplog.text


def test_another_vocabulary_is_said_in_words_of_python(trained, base, tmp_path):
    stored = spjax.load_prompt(save(trained.prompt, tmp_path))
    facts = {**stored.provenance, "vocabulary_sha256": "0" * 64}
    with pytest.warns(UserWarning, match=r"Give the model as spjax.load_model\(..., vocabulary=P"):
        spjax.load_predictor(dataclasses.replace(stored, provenance=facts), base)


@pytest.mark.slow
@pytest.mark.parametrize("change", [False, True])
def test_a_run_over_a_relative_checkpoint_opens_elsewhere(
    task, method, tmp_path, monkeypatch, capsys, change
):
    """Also one whose method changes weights, in Python and on the command line."""
    monkeypatch.chdir(tmp_path)
    method = spjax.LoRA(rank=2) if change else method
    path = tmp_path / "base.safetensors"
    weights.save(path, weights.load("pocket_50k"), {}, "float32")
    model = spjax.load_model("pocket_50k", checkpoint="base.safetensors")
    run = spjax.train(model, task, method, output_dir=tmp_path / "run", **SETTINGS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = spjax.load_predictor(run.folder).stored._open_model()
    assert opened.checkpoint == str(path)
    assert main.main(["eval", str(run.folder)]) == 0
    result = json.loads((run.folder / "result.json").read_text())
    assert result.pop("directory") == str(tmp_path)
    (tmp_path / "pocket").mkdir()  # what "pocket" names is the vocabulary all the same
    if not change:
        assert main.main(["inspect", str(run.folder)]) == 0
        assert "No words" not in capsys.readouterr().out
        write_json(run.folder / "result.json", result)  # as of an earlier version
        assert spjax.load_predictor(run.folder).stored._open_model().checkpoint == str(path)


@pytest.mark.slow
def test_relative_paths_of_a_run_count_from_where_it_was_trained(tmp_path, monkeypatch):
    (tmp_path / "pocket").mkdir()
    (tmp_path / "elsewhere").mkdir()
    rows = [{"input": f"row {i}", "target": "ab"[i % 2]} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    files = [f"gin_configs/{name}.gin" for name in ("models/pocket", "runs/pocket", "tasks/file")]
    bindings = [
        "MODEL_SIZE=pocket_50k",
        "TASK_FILE=rows.jsonl:n20",
        "Run.vocabulary=pocket",
        "TASK_LABELS=('a', 'b')",
    ]
    bindings += ["TRAIN_STEPS=2", "EVAL_PERIOD=2", "MODEL_DIR=run", "PROMPT_LENGTH=2"]
    flags = [f"--gin_file={name}" for name in (*files, "gin_configs/methods/prompt_tuning.gin")]
    assert main.main(["train", *flags, *(f"--gin.{text}" for text in bindings)]) == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = run_folders.load_run_config(tmp_path / "run")
    assert run.vocabulary == "pocket" and run.task.path == str(tmp_path / "rows.jsonl:n20")
    assert main.main(["eval", "../run"]) == 0


def test_an_adapter_of_a_shipped_size(trained, predictor, tmp_path):
    """A base model is not needed beside a size whose weights ship, if these are its weights."""
    folder = spjax.save_prompt(trained.prompt, tmp_path / "a", "peft", base_model="org/frozen")
    assert spjax.load_predictor(folder, decoding="rank").predict(TEXTS) == predictor.predict(TEXTS)
    other = tmp_path / "other.safetensors"
    frozen = weights.load("pocket_50k")
    weights.save(other, jax.tree.map(lambda x: x * 1.5, frozen), {}, "float32")
    folder = spjax.save_prompt(trained.prompt, tmp_path / "b", "peft", base_model=str(other))
    with pytest.warns(UserWarning, match="trained with other weights of pocket_50k"):
        loaded = spjax.load_predictor(folder)
    assert loaded.predictor is not None and loaded.stored._model.checkpoint == str(other)


def test_other_weights_of_a_shipped_size(task, method, tmp_path, monkeypatch):
    """Those that ship do not stand for them, here or elsewhere."""
    other = tmp_path / "other.safetensors"
    frozen = weights.load("pocket_50k")
    weights.save(other, jax.tree.map(lambda x: x * 1.5, frozen), {}, "float32")
    model = spjax.load_model("pocket_50k", checkpoint=str(other))
    run = spjax.train(model, task, method, output_dir=tmp_path / "run", **SETTINGS)
    local = spjax.save_prompt(run.prompt, tmp_path / "local", "peft")
    uploads = []

    def upload(folder, *_, **__):
        uploads.append(shutil.copytree(folder, tmp_path / "pushed"))

    monkeypatch.setattr(hub, "upload", upload)
    spjax.push_prompt(run.prompt, "hf://me/q")
    assert "load_predictor('hf://me/q', model=\"BASE\")" in (uploads[0] / peft.README).read_text()
    assert "load_predictor('local')" in (local / peft.README).read_text()
    with pytest.raises(
        ValueError, match="a checkpoint, which it does not name; give the model, wi"
    ):
        spjax.load_predictor(uploads[0])
    other.rename(tmp_path / "moved.safetensors")
    with pytest.raises(ValueError, match="other.safetensors', which cannot be opened: there is no"):
        spjax.load_predictor(local)


@pytest.mark.parametrize(
    "base_model, message",
    [
        ("t5", "names the frozen model 't5', which cannot be opened: there is no file or folder"),
        ("/no/t5", "'/no/t5', which cannot be opened: there is no .* is written ORGANIZATION/NAME"),
        ("org/t5", "'hf://org/t5', which cannot be opened: hf://org/t5 is not there. Give the mo"),
    ],
)
def test_a_base_model_that_cannot_be_opened(trained, tmp_path, monkeypatch, base_model, message):
    def absent(url):
        raise ValueError(f"{url} is not there.")

    monkeypatch.setattr(hub, "model_folder", absent)
    folder = adapter(trained.prompt, tmp_path, base_model)
    with pytest.raises(ValueError, match=message):
        spjax.load_predictor(folder)
    assert main.main(["predict", f"--prompt={folder}"]) == 2


def test_the_checkpoint_of_a_run_is_its_base_model(
    base, task, method, tmp_path, monkeypatch, caplog
):
    run = spjax.train(base, task, method, output_dir=tmp_path / "run", **SETTINGS)
    assert spjax.load_prompt(run.folder).provenance["base_model"] == base
    saved = spjax.save_prompt(run.prompt, tmp_path / "saved", "peft")
    assert main.main(["convert", str(run.folder), str(tmp_path / "out"), "--format=peft"]) == 0
    for folder in (saved, tmp_path / "out"):
        assert peft.config_of(folder)["base_model_name_or_path"] == base
        assert base not in (folder / peft.README).read_text()
    uploads = []
    monkeypatch.setattr(hub, "upload", lambda folder, *_, **__: uploads.append(peft.read(folder)))
    spjax.push_prompt(run.prompt, "hf://me/q")  # nobody else has that folder
    assert "base_model" not in uploads[0][1]
    assert f"{base} is on this machine alone" in caplog.text
    tuned = spjax.TunedModel(spjax.load_model(base), method, task)
    assert tuned.prompt(tuned.init(seed=0)).provenance["base_model"] == base


def test_a_prompt_without_a_model_names_both_flags(trained, tmp_path, capsys):
    path = save(trained.prompt, tmp_path)
    assert main.main(["predict", f"--prompt={path}"]) == 2
    assert "Give the model, with --checkpoint=PATH, or --model=SIZE" in capsys.readouterr().err
