"""A prompt that is used again keeps the template, labels and metrics of its own task."""

import csv
import json
import os

import numpy as np
import pandas
import pytest

from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.cli import main, predict
from spjax.data.tasks import file_task, registry
from spjax.data.tasks.file_task import FileTask

NOUNS = ("fox", "dog", "house", "river", "bird")
OWN = [
    {"premise": f"the {a} sees a {b}", "hypothesis": f"{i} is cold", "says": ("no", "yes")[i % 2]}
    for i, (a, b) in enumerate((a, b) for a in NOUNS * 3 for b in NOUNS)
]
TEMPLATE = "premise: {premise} hypothesis: {hypothesis}"
NEW = OWN[:40]


def write(path, rows):
    if path.suffix == ".parquet":
        pandas.DataFrame(rows).to_parquet(path)
    elif path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def prompt(tmp_path):
    """A file with a prompt that was trained on a file of two columns."""
    task = FileTask(
        write(tmp_path / "own.jsonl", OWN),
        template=TEMPLATE,
        target="{says}",
        labels=("no", "yes"),
        input_length=40,
        target_length=4,
    )
    facts = {"task": "own", "task_file": registry.get(task).source, "model": "pocket_50k"}
    (tmp_path / "own.jsonl").unlink()  # it is not needed to answer or to score another file
    return written(tmp_path / "prompt.npy", facts)


def written(path, facts, seed=0):
    rows = np.random.default_rng(seed).normal(size=(3, 16)).astype(np.float32)
    return str(prompt_files.write(path, Prompt.from_array(rows, facts)))


@pytest.fixture
def call(capsys, checkpoint):
    def run(*args):
        code = main.main([*args, f"--checkpoint={checkpoint}", "--decoding=rank"])
        return code, *capsys.readouterr()

    return run


def test_rows_of_every_format_are_answered_and_scored_alike(call, prompt, tmp_path):
    answers, texts = {}, [TEMPLATE.format(**row) + "\n" for row in NEW]
    (tmp_path / "new.txt").write_text("".join(texts))
    code, out, err = call("predict", str(tmp_path / "new.txt"), f"--prompt={prompt}")
    expected = out.split()
    assert code == 0 and not err and {*expected} <= {"no", "yes"}
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        path = write(tmp_path / f"new.{ending}", NEW)
        code, out, err = call("predict", path, f"--prompt={prompt}")
        answers = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and not err
        assert [row["prediction"] for row in answers] == expected
        assert [{name: row[name] for name in NEW[0]} for row in answers] == NEW
    # What training would hold out is labeled as the prompt answers, everything else is not.
    held_out = [file_task._split_of(text[:-1], file_task.SPLITS[1:]) != "train" for text in texts]
    other = {"no": "yes", "yes": "no"}
    rows = [
        {**row, "says": word if held else other[word]}
        for row, word, held in zip(NEW, expected, held_out)
    ]
    path = write(tmp_path / "scored.csv", rows)
    code, out, err = call("eval", f"--prompt={prompt}", f"--task={path}")
    found = json.loads(out)
    assert code == 0 and not err and found["examples"] == 40 and 0 < sum(held_out) < 20
    assert found["accuracy"] == found["score"] == pytest.approx(100 * sum(held_out) / 40)


@pytest.mark.slow
def test_several_prompts_read_a_file_as_their_own_tasks_do(call, prompt, tmp_path):
    facts = prompt_files.read_soft_tokens(prompt).provenance
    second = written(tmp_path / "second.npy", facts, 1)
    path = write(tmp_path / "new.jsonl", NEW)
    both = ("eval", "--prompt", prompt, second, f"--task={path}")
    code, out, _ = call(*both)
    alone = json.loads(out)["prompts"]
    assert code == 0 and [own["examples"] for own in alone] == [40, 40]
    code, out, _ = call(*both, "--ensemble=vote")
    together = json.loads(out)
    assert code == 0 and together["examples"] == 40
    assert [own["score"] for own in together["prompts"]] == [own["score"] for own in alone]
    third = written(tmp_path / "third.npy", {"task": "pocket_cb", "model": "pocket_50k"})
    rows = [{"input": "the fox", "target": label} for label in registry.get("pocket_cb").labels]
    path = write(tmp_path / "plain.jsonl", rows)
    code, out, err = call("eval", "--prompt", third, f"--task={path}")
    assert code == 0 and json.loads(out)["examples"] == 3 and json.loads(out)["accuracy"] > 0
    assert "the prompt's task, pocket_cb, does not say how rows of" in err
    code, out, err = call("eval", "--prompt", prompt, third, "--ensemble=vote", f"--task={path}")
    assert code == 2 and "no field 'premise', only 'input', 'target'" in err
    for flag, message in [
        ("--split=validation", "--split=validation is of a task, and all rows of"),
        ("--batch_size=0", "the batch size is 0; it must be 1 to 1000000"),
        ("--length_penalty=nan", "the length penalty is nan; it must be from 0"),
        ("--input_length=-5", "the input length is -5; it must be 2 to 65536"),
        ("--target_length=1000000000", "the target length is 1000000000; it must be 2 to 65536"),
    ]:
        code, _, err = call(*both, flag)
        assert code == 2 and message in err, err


def test_what_a_shell_has_opened_is_read(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"the hotel was great")
    os.close(writing)
    with predict._opened(f"/dev/fd/{reading}") as stream:
        assert stream.read() == b"the hotel was great"
    os.close(reading)
    with predict._opened("/dev/null") as stream:
        assert stream.read() == b""
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it
    refused = pytest.raises(ValueError, match="it is a named pipe, not a regular file")
    with refused, predict._opened(str(tmp_path / "pipe")):
        pass
