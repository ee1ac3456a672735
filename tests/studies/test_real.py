"""The real thing, in processes of its own: a sweep that is killed, continued, scored and drawn."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spjax.cli import main
from tests import cheap_compiling

ROOT = Path(__file__).parents[2]
STUDY = """
Study.name = "real"
Study.arms = [@prompts/Arm()]

prompts/Arm.name = "prompts"
prompts/Arm.gin_files = [
    "gin_configs/models/pocket.gin",
    "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
]
prompts/Arm.axes = {"SEED": [0, 1]}
prompts/Arm.bindings = {
    "MODEL_SIZE": "pocket_50k",
    "INITIAL_CHECKPOINT_PATH": "WEIGHTS",
    "MIXTURE_OR_TASK_NAME": "pocket_cb",
    "PROMPT_LENGTH": 5,
    "TRAIN_STEPS": 20,
    "EVAL_PERIOD": 10,
    "BATCH_SIZE": 8,
    "Run.checkpoint_period": 5,
    "Run.eval_examples": 20,
}
"""


@pytest.fixture
def spjax(tmp_path, checkpoint, shared_cache):
    """Starts the command line in a process group of its own."""
    (tmp_path / "study.gin").write_text(STUDY.replace("WEIGHTS", checkpoint))
    environment = os.environ | cheap_compiling.environment(devices=1)

    def start(*args):
        command = [sys.executable, "-m", "spjax.cli", *map(str, args)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    return start


def finish(process):
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, (out, err)
    return out


def kill(process, folder, sign, rng):
    """Kills the sweep, but not its workers, at a random moment after some file has appeared."""
    end = time.monotonic() + 400
    while not list(folder.glob(sign)):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.5))
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)  # workers have process groups of their own
    process.communicate()
    return alive


@pytest.mark.slow
def test_killed_sweep_ends_as_an_undisturbed_one(spjax, tmp_path, monkeypatch, capsys):
    def sweep(name, workers=2):
        file = f"--gin_file={tmp_path / 'study.gin'}"
        return ["sweep", file, f"--output_dir={tmp_path / name}", f"--workers={workers}"]

    whole, again = (tmp_path / name / "real" for name in ("whole", "killed"))
    assert "2 of 2 runs finished" in finish(spjax(*sweep("whole", workers=1)))
    rng = random.Random(0)
    # Starting, compiling, training.
    for sign in ("logs/*", "runs/*/config.gin", "runs/*/checkpoints/5"):
        assert kill(spjax(*sweep("killed")), again, sign, rng), "it was too fast"
    assert "2 of 2 runs finished" in finish(spjax(*sweep("killed")))
    table = (again / "results.csv").read_text()
    assert table == (whole / "results.csv").read_text() and table.count("\n") == 1 + 2

    folder = min((again / "runs").iterdir())
    scores = json.loads(finish(spjax("eval", folder)))
    result = json.loads((folder / "result.json").read_text())
    assert (scores.pop("split"), scores.pop("step")) == ("test", result["best_step"])
    assert scores.pop("examples") > 0 and scores == result["test"]

    monkeypatch.chdir(ROOT)
    assert main.main(sweep("killed")) == 0
    assert "Nothing to do: 2 runs finished" in capsys.readouterr().out
    figure = again / "figures" / "score_over_size.png"
    figure.unlink()
    assert main.main(["plot", str(again)]) == 0
    assert str(figure) in capsys.readouterr().out and figure.exists()


@pytest.mark.slow
def test_a_study_at_a_url_goes_on_on_another_machine(spjax, tmp_path):
    url = f"file://{tmp_path / 'bucket'}"

    def sweep(machine, output_dir=url):
        places = [f"--output_dir={output_dir}"]
        places += [f"--working_dir={tmp_path / machine}"] if output_dir == url else []
        return ["sweep", f"--gin_file={tmp_path / 'study.gin'}", "--workers=1", *places]

    finish(spjax(*sweep("", tmp_path / "whole")))
    place, rng = tmp_path / "bucket" / "real", random.Random(0)
    sign = "runs/*/checkpoints-*.zip"
    assert kill(spjax(*sweep("first")), place, sign, rng), "it was too fast"
    out = finish(spjax(*sweep("second")))
    assert "2 of 2 runs finished" in out and f"The study is at {url}/real." in out
    assert "Downloading" in out
    whole = tmp_path / "whole" / "real"
    for folder in (place, tmp_path / "second" / "real"):
        assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert "score_over_size.png" in finish(spjax("plot", f"{url}/real"))
    key = min((whole / "runs").iterdir()).name
    result = json.loads((whole / "runs" / key / "result.json").read_text())
    for arguments in ([f"{url}/real/runs/{key}"], [f"--prompt={url}/real/runs/{key}/prompt.npy"]):
        scores = json.loads(finish(spjax("eval", *arguments)))
        assert {name: scores[name] for name in result["test"]} == result["test"]
