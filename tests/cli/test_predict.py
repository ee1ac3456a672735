"""`spjax predict` and `spjax eval`."""

import dataclasses
import io
import json
import shutil
import types

import numpy as np
import pytest

from spjax import config, partitioning
from spjax.analysis import interpretation
from spjax.checkpoints.prompts import prompt_files, run_prompts
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.checkpoints.weights import weights
from spjax.cli import eval as eval_command
from spjax.cli import inspect as inspect_command
from spjax.cli import main, model_flags, notes, predict
from spjax.data.batching import batching
from spjax.data.tasks import file_task, input_rows
from spjax.inference import ensembles
from spjax.methods.hard_prompt import HardPrompt
from spjax.methods.lora import LoRA
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import decoding, get_size, quantization
from spjax.training import loop, stored_run
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

pytestmark = pytest.mark.usefixtures("few_examples")

TEXTS = ["the fox sees a dog", "it is cold", "", "the old house"]


@pytest.fixture
def files(tmp_path):
    """Two prompts of different lengths."""
    rng = np.random.default_rng(0)
    made = {}
    for name, length in (("cb", 2), ("wic", 5)):
        rows = rng.normal(size=(length, 16)).astype(np.float32)
        facts = {"task": f"pocket_{name}", "model": "pocket_50k"}
        made[name] = str(
            prompt_files.write(tmp_path / f"{name}.npy", Prompt.from_array(rows, facts))
        )
    return made


@pytest.fixture
def call(capsys, checkpoint):
    def run(*args):
        short = ["--target_length=4"] if args[0] == "predict" else []
        code = main.main([*args, f"--checkpoint={checkpoint}", *short])
        out, err = capsys.readouterr()
        return code, out.split("\n")[:-1], err

    return run


def put(monkeypatch, lines):
    data = "\n".join(lines).encode()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))


def test_text_in_text_out(call, files, tmp_path, monkeypatch):
    path = tmp_path / "in.txt"
    path.write_text("\n".join(TEXTS) + "\n")
    code, whole, err = call("predict", str(path), f"--prompt={files['cb']}")
    assert code == 0 and len(whole) == len(TEXTS) and len(set(whole)) > 1 and not err
    put(monkeypatch, TEXTS)
    assert call("predict", f"--prompt={files['cb']}", "--batch_size=3") == (0, whole, "")
    spread = ("--num_partitions=2", "--logical_axis_rules=fsdp", "--weights_dtype=float32")
    assert call("predict", str(path), f"--prompt={files['cb']}", *spread) == (0, whole, "")
    rounded = call("predict", str(path), f"--prompt={files['cb']}", "--weights_dtype=int8")
    assert rounded[0] == 0 and len(rounded[1]) == len(TEXTS)
    cut = call("predict", str(path), f"--prompt={files['cb']}", "--input_length=2")
    assert cut[0] == 0 and f"{path}:1: " in cut[2] and "tokens were cut to 2" in cut[2]


@pytest.mark.parametrize("decoding", ["greedy", "rank"])
def test_a_column_names_the_prompt(call, files, tmp_path, decoding):
    path, how = tmp_path / "in.jsonl", f"--decoding={decoding}"
    asked = [(name, text) for text in TEXTS for name in ("wic", "cb")]
    rows = [{"id": i, "inputs": text, "prompt": name} for i, (name, text) in enumerate(asked)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = [f"--prompt={name}={file}" for name, file in files.items()]
    code, out, _ = call("predict", str(path), *named, "--prompt_column=prompt", how)
    found = [json.loads(line) for line in out]
    assert code == 0 and [{k: row[k] for k in rows[0]} for row in found] == rows
    for name, file in files.items():
        code, out, _ = call("predict", str(path), f"--prompt={file}", how)
        for row, alone in zip(found, map(json.loads, out), strict=True):
            if row["prompt"] == name:
                assert alone["prediction"] == row["prediction"]
                assert ("score" in row) == (decoding == "rank")
                assert row.get("score", 0) == pytest.approx(alone.get("score", 0), abs=1e-4)
    labels = ("True", "False") if decoding == "rank" else ()
    assert not labels or {r["prediction"] for r in found if r["prompt"] == "wic"} <= set(labels)


def test_notes_on_rows_are_limited(capsys):
    few = notes.LimitedNotes("rows", 2)
    for i in range(5):
        few.add(f"row {i}")
    few.print_count()
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("spjax: note: ") for line in lines] == [
        *("row 0", "row 1"),
        "3 more notes on rows are not shown",
    ]


def test_bad_rows_are_reported_and_the_rest_answered(call, files, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"inputs": "a"}\nnonsense\n{"inputs": "b"}\n{"text": "c"}\n')
    code, out, err = call("predict", str(path), f"--prompt={files['cb']}", "--batch_size=1")
    assert code == 1 and [json.loads(line)["inputs"] for line in out] == ["a", "b"]
    assert f"{path}:2: not a JSON object" in err and f"{path}:4: no field 'input'" in err
    assert "2 of 4 rows were not answered" in err
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\n\xff\nb\n")
    code, out, err = call("predict", str(path), f"--prompt={files['cb']}")
    assert code == 1 and len(out) == 3 and out[1] == "" and f"{path}:2: not UTF-8" in err


def test_flags_name_the_columns_of_a_file(call, files, tmp_path):
    """Of a prompt whose task says nothing about files, or other columns."""
    texts = [text for text in TEXTS if text]
    plain, other = tmp_path / "plain.jsonl", tmp_path / "other.jsonl"
    plain.write_text("".join(json.dumps({"input": f"a: {x}", "target": "b"}) + "\n" for x in texts))
    other.write_text("".join(json.dumps({"x": x, "y": "b"}) + "\n" for x in texts))
    rows = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    path = prompt_files.write(tmp_path / "p.npy", Prompt.from_array(rows, {"model": "pocket_50k"}))
    flags = (f"--prompt={path}", "--target_length=4")
    columns = ("--template=a: {x}", "--target={y}")
    wanted = json.loads("".join(call("eval", *flags, f"--task={plain}")[1]))
    scores = json.loads("".join(call("eval", *flags, f"--task={other}", *columns)[1]))
    assert {**scores, "task": "plain"} == wanted and wanted["examples"] == len(texts)
    answers = [
        [json.loads(line)["prediction"] for line in call("predict", str(file), *more)[1]]
        for file, *more in ((plain, flags[0]), (other, flags[0], columns[0]))
    ]
    assert answers[0] == answers[1] and len(answers[0]) == len(texts)


def test_mistakes(call, files, tmp_path):
    one, lines = f"--prompt={files['cb']}", tmp_path / "in.txt"
    lines.touch()
    nameless = prompt_files.write(
        tmp_path / "p.npy", Prompt.from_array(np.ones((1, 16), np.float32))
    )
    for args, message in [
        (("predict", "absent", one), "cannot read absent: No such file"),
        (("predict", str(lines), one, one), "2 prompts are given; say which row has which"),
        (("predict", str(lines), one, "--prompt_column=p"), "every --prompt is NAME=FILE"),
        (("predict", str(lines), one, "--batch_size=0"), "batch size is 0; it must be 1 to "),
        (("predict", str(lines), one, "--labels=a,", "--decoding=rank"), "labels to rank are"),
        (
            ("predict", str(lines), one, "--model=t5_1_1_small"),
            "and the model is 512 wide; a prompt fits only",
        ),
        (("eval",), "give either the folder of a finished run or --prompt"),
        (("eval", f"--prompt={nameless}"), "does not say its task; give one with --task"),
        (("eval", one, "--task=x"), "unknown task 'x'"),
        (("eval", one, "--target={x}"), "--target is of the rows of a file; give the file or"),
    ]:
        code, _, err = call(*args)
        assert code == 2 and err.startswith("spjax: error:") and message in err, err


def test_prompts_of_one_task_answer_together(call, files, tmp_path):
    rows = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    facts = {"task": "pocket_cb", "model": "pocket_50k"}
    other = str(prompt_files.write(tmp_path / "other.npy", Prompt.from_array(rows, facts)))
    both = ("eval", "--prompt", files["cb"], other, "--decoding=rank", "--split=validation")
    code, out, err = call(*both, "--ensemble=mean")
    found = json.loads("\n".join(out))
    assert code == 0 and found["ensemble"]["kind"] == "mean", err
    scores = [own["score"] for own in found["prompts"]]
    assert found["mean_score"] == pytest.approx(np.mean(scores))
    assert found["best_score"] == max(scores)
    assert [own["prompt"] for own in found["prompts"]] == [files["cb"], other]
    for args, message in [
        ((*both[:3], "--ensemble=vote"), "--ensemble wants several prompts"),
        (("eval", "--prompt", other, files["wic"], "--ensemble=vote"), "of different tasks, pocke"),
        ((*both[:4], "--ensemble=mean"), "give --decoding=rank with it"),
    ]:
        code, _, err = call(*args)
        assert code == 2 and message in err, err


@pytest.fixture
def bank(tmp_path):
    """Run folders and files of all kinds of soft tokens, on two tasks."""
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32)

    config = get_size("pocket_50k")
    size = (config.num_heads, config.head_dim)
    prefix = {
        f"prefix/{site}/{part}": drawn(layers, 3, *size)
        for site, layers in (
            ("encoder", config.num_encoder_layers),
            ("decoder", config.num_decoder_layers),
        )
        for part in ("keys", "values")
    }
    template = "{p:2} {premise} ? {p:1} {hypothesis}"
    made = {
        "front": ("wic", {"prompt": drawn(5, 16)}, {}),
        "blind": ("wic", {"prompt": drawn(4, 16)}, {"sees_text": False}),
        "slots": (
            "cb",
            {"prompt": drawn(3, 16)},
            {
                "insertion": template,
                "fields": "hypothesis premise",
            },
        ),
        "prefix": ("cb", prefix, {}),
        "added": ("wic", {"added": drawn(2, 16)}, {}),
        "two": ("cb", {"added": drawn(1, 16), "prompt": drawn(2, 16)}, {}),
    }
    for name, (task, tensors, facts) in made.items():
        folder = tmp_path / name
        folder.mkdir()
        facts = {"task": f"pocket_{task}", "model": "pocket_50k", "best_step": 7, **facts}
        prompt_files.write_run(folder, tensors, run_prompts.provenance(facts, ""), [])
    return {name: (task, str(tmp_path / name)) for name, (task, *_) in made.items()}


@pytest.mark.slow
@pytest.mark.parametrize("decoding", ["greedy", "rank"])
def test_a_bank_of_all_methods_answers_as_one_at_a_time(call, bank, tmp_path, decoding):
    path, how = tmp_path / "in.jsonl", f"--decoding={decoding}"
    pairs = ("the fox sees a dog", "the old house is big " * 40), ("it is cold", "a dog is old")
    rows = [
        {"inputs": f"hypothesis: {a} premise: {b}", "prompt": name}
        for a, b in pairs
        for name in bank
    ]
    rows += [{"hypothesis": a, "premise": b, "prompt": "slots"} for a, b in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = [f"--prompt={name}={folder}" for name, (_, folder) in bank.items()]
    code, out, err = call("predict", str(path), *named, "--prompt_column=prompt", how)
    found = [json.loads(line) for line in out]
    assert code == 0 and len({row["prediction"] for row in found}) > 1, err
    assert "tokens were cut to" in err
    for name, (_, folder) in bank.items():
        own = [row for row in found if row["prompt"] == name]
        path.write_text("".join(json.dumps({**row, "prompt": ""}) + "\n" for row in own))
        code, out, _ = call("predict", str(path), f"--prompt={folder}", how)
        for row, alone in zip(own, map(json.loads, out), strict=True):
            assert alone["prediction"] == row["prediction"], name
            assert alone.get("score", 0) == pytest.approx(row.get("score", 0), abs=1e-4)
    # As text or as JSON fields, a template shows the same.
    assert [row["prediction"] for row in found[-2:]] == [
        row["prediction"] for row in found[:-2] if row["prompt"] == "slots"
    ]
    path.write_text('{"premise": "a", "prompt": "slots"}\n{"inputs": "a", "prompt": "slots"}\n')
    code, out, err = call("predict", str(path), *named, "--prompt_column=prompt", how)
    assert code == 1 and not out and ":1: no field 'input' or 'inputs', nor all of 'pre" in err
    assert ":2: there is no 'premise', which the prompt's template shows" in err


@pytest.mark.slow
def test_a_bank_is_scored_as_one_at_a_time(call, bank):
    # The two tasks of the bank, and rows of all of it in every batch.
    names = ("front", "slots", "prefix", "blind")
    args = ("--split=validation", "--decoding=rank", "--batch_size=64")
    code, out, err = call("eval", "--prompt", *(bank[name][1] for name in names), *args)
    found = json.loads("\n".join(out))
    assert code == 0, err
    for name, own in zip(names, found["prompts"], strict=True):
        task, folder = bank[name]
        code, out, _ = call("eval", "--prompt", folder, *args)
        alone = json.loads("\n".join(out))
        assert own == {"prompt": folder, **alone} and alone["task"] == f"pocket_{task}"
    assert found["mean_score"] == pytest.approx(np.mean([x["score"] for x in found["prompts"]]))
    # An ensemble too gives each prompt its own view of the text.
    code, out, _ = call(
        "eval", "--prompt", bank["prefix"][1], bank["slots"][1], *args, "--ensemble=vote"
    )
    together = json.loads("\n".join(out))["prompts"]
    assert [own["score"] for own in together] == [own["score"] for own in found["prompts"][2:0:-1]]


@pytest.mark.slow
def test_what_changes_weights_answers_alone(call, capsys, checkpoint, files, tmp_path):
    run = Run(
        task="pocket_cb",
        model="pocket_50k",
        method=LoRA(rank=2),
        optimizer=Adafactor(0.3),
        checkpoint=checkpoint,
        steps=2,
        eval_period=2,
        batch_size=4,
        eval_examples=8,
    )
    loop.train([run], [tmp_path / "run"])
    (tmp_path / "run" / "config.gin").write_text(config.config_str(run))
    folder = str(tmp_path / "run")
    scores = stored_run.score_folder(run, tmp_path / "run", "validation")
    assert main.main(["convert", folder, f"{folder}-hf", "--format=huggingface"]) == 0
    merged = stored_run.weights_of(run, tmp_path / "run", run.open_model())
    assert weights.digest(weights.load("auto", f"{folder}-hf")) == weights.digest(merged)
    capsys.readouterr()
    assert main.main(["eval", "--prompt", folder, "--split=validation"]) == 0
    assert json.loads(capsys.readouterr().out) == {"task": "pocket_cb", **scores}
    (tmp_path / "in.txt").write_text("the fox\n")
    code, out, _ = call("predict", str(tmp_path / "in.txt"), f"--prompt={folder}")
    assert code == 0 and len(out) == 1
    code, _, err = call("eval", "--prompt", files["cb"], folder)
    assert code == 2 and f"{folder} changes the weights, so no other" in err
    factors = f"{folder}/tuned.safetensors"
    assert main.main(["convert", factors, f"{folder}-peft", "--format=peft"]) == 0
    shutil.copy(factors, tmp_path / "alone.safetensors")
    for adapter in (factors, f"{folder}-peft", str(tmp_path / "alone.safetensors")):
        capsys.readouterr()
        code, out, err = call("eval", f"--prompt={adapter}", "--split=validation")
        assert code == 0 and json.loads("\n".join(out)) == {"task": "pocket_cb", **scores}, err
        code, _, err = call("eval", "--prompt", files["cb"], adapter)
        assert code == 2 and f"{adapter} changes the weights, so no other" in err
    untrained = dataclasses.replace(run, method=HardPrompt())
    (tmp_path / "run" / "config.gin").write_text(config.config_str(untrained))
    code, _, err = call("predict", str(tmp_path / "in.txt"), f"--prompt={folder}")
    assert code == 2 and "has trained nothing: it writes text around each input" in err


def test_choices_are_those_of_the_library():
    assert model_flags._KINDS == decoding.KINDS
    assert eval_command._ENSEMBLES == ensembles.KINDS
    assert inspect_command._METRICS == interpretation.METRICS
    assert model_flags._INSERTIONS == batching.INSERTIONS
    assert predict._FORMATS == input_rows.FORMATS
    assert eval_command._SPLITS == file_task.SPLITS
    assert model_flags._DTYPES == quantization.DTYPES
    assert model_flags._RULES == tuple(partitioning.RULES)


def test_prompts_that_say_no_model(capsys, tmp_path):
    path = prompt_files.write(tmp_path / "p.npy", Prompt.from_array(np.ones((1, 16), np.float32)))
    assert main.main(["predict", "--prompt", str(path), __file__]) == 2
    assert "the prompts do not say one model" in capsys.readouterr().err


@pytest.mark.slow
def test_a_prompt_file_scores_as_its_run(capsys, call, checkpoint, tmp_path):
    run = Run(
        task="pocket_cb",
        model="auto",
        weights_dtype="bfloat16",
        method=PromptTuning(length=3, place="end", sees_text=False, sees_prompt="before"),
        optimizer=Adafactor(0.3),
        checkpoint=checkpoint,
        steps=2,
        eval_period=2,
        batch_size=4,
        eval_examples=8,
    )
    (result,) = loop.train([run], [tmp_path])
    *_, last = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert 0 < last["trainable/drift"] < last["trainable/norm"] and last["step"] == 2
    folder = stored_run.score_folder(run, tmp_path, "test")
    assert folder == {"split": "test", "examples": 30, "step": 2, **result["test"]}
    # Checkpoint, vocabulary and dtype are those of the run.
    (tmp_path / "config.gin").write_text(config.config_str(run))
    for source in (tmp_path, tmp_path / "prompt.npy"):
        assert main.main(["eval", f"--prompt={source}"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out) == {"task": "pocket_cb", **folder} and not err
    code, _, err = call("eval", f"--prompt={tmp_path}", "--weights_dtype=float32")
    assert code == 0 and "the same in another dtype" in err  # what is given wins
    config_text = (tmp_path / "config.gin").read_text()
    (tmp_path / "config.gin").write_text("")
    code, _, err = call("eval", f"--prompt={tmp_path}", "--vocabulary=pocket")
    assert code == 0 and "config.gin cannot be used" in err
    (tmp_path / "config.gin").write_text(config_text)
    code, out, _ = call("eval", f"--prompt={tmp_path / 'prompt.npy'}", "--decoding=rank")
    ranked = json.loads("\n".join(out))
    assert code == 0 and ranked["score"] != folder["score"] and ranked["accuracy"] > 0
    code, _, err = call("eval", str(tmp_path))
    assert code == 2 and "--checkpoint is what the run in" in err
    for flag in ("--decoding=beam", "--num_beams=2", "--seed=1", "--batch_size=8"):
        assert main.main(["eval", str(tmp_path), flag]) == 2
        error = capsys.readouterr().err
        assert "a run folder is scored greedily" in error and f"for {flag} give" in error
