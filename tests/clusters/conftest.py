"""Tests on real clusters, which `scripts/test_clusters.sh` runs and no other command."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests import cheap_compiling, kill_battery

ROOT = Path(__file__).parents[2]
MISSING = {
    "test_ray": () if importlib.util.find_spec("ray") else ("the Python package ray",),
    "test_slurm": (
        *(() if importlib.util.find_spec("submitit") else ("the Python package submitit",)),
        *(name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)),
    ),
}
STUDY = """
Study.name = "study"
Study.arms = [@prompts/Arm()]
prompts/Arm.name = "prompts"
prompts/Arm.gin_files = [
    "gin_configs/models/pocket.gin",
    "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
]
prompts/Arm.axes = {"PROMPT_LENGTH": [2, 5], "SEED": [<seeds>]}
prompts/Arm.bindings = {
    "MODEL_SIZE": "pocket_50k",
    "INITIAL_CHECKPOINT_PATH": "<weights>",
    "MIXTURE_OR_TASK_NAME": "pocket_cb",
    "TRAIN_STEPS": <steps>,
    "EVAL_PERIOD": 20,
    "BATCH_SIZE": 8,
    "Run.checkpoint_period": 10,
    "Run.eval_examples": 20,
}
"""


def pytest_ignore_collect(collection_path, config):
    """Leaves files out whose programs are not installed; the summary says so."""
    return True if MISSING.get(collection_path.stem) else None


def pytest_terminal_summary(terminalreporter):
    """Names the files that were left out."""
    for name, missing in MISSING.items():
        if missing:
            terminalreporter.section(f"LEFT OUT: {name}", red=True)
            terminalreporter.line(f"tests/clusters/{name}.py needs {', '.join(missing)}.")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)


class Sweeps:
    """The command `spjax sweep` with a study of tiny runs; all processes carry a mark."""

    def __init__(self, folder, checkpoint, seeds, steps):
        self.folder, self.mark = folder, uuid.uuid4().hex
        text = STUDY.replace("<weights>", checkpoint).replace("<steps>", str(steps))
        text = text.replace("<seeds>", ", ".join(map(str, range(seeds))))
        (folder / "study.gin").write_text(text)
        self.environment = {
            **os.environ,
            **cheap_compiling.environment(devices=1),
            "PYTHONPATH": str(ROOT),
            kill_battery.MARK: self.mark,
        }

    def start(self, name, *flags):
        """Starts a sweep whose study folder is `name/study`."""
        command = [sys.executable, "-m", "spjax.cli", "sweep"]
        command += [f"--gin_file={self.folder / 'study.gin'}", f"--output_dir={self.folder / name}"]
        return subprocess.Popen(
            [*command, *flags],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, name, *flags):
        """Runs a sweep to its end, and returns what it prints."""
        process = self.start(name, *flags)
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output
        return output

    def finished(self, name):
        """Returns the number of finished runs."""
        return len(list(self.folder.glob(f"{name}/study/runs/*/result.json")))

    def wait_for(self, condition, process=None, seconds=300):
        """Waits until a condition holds; fails if the process ends before."""
        end = time.monotonic() + seconds
        while not condition():
            assert process is None or process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.1)

    def kill(self, process):
        """Kills a sweep, but nothing that it has started."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def check_ending(self, name):
        """Compares the results with those of a local sweep, and looks for processes left over."""
        local, other = (self.folder / x / "study" / "results.csv" for x in ("local", name))
        assert local.read_bytes() == other.read_bytes()
        end = time.monotonic() + 20
        while left := kill_battery.living(self.mark):
            names = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in left]
            assert time.monotonic() < end, names
            time.sleep(0.2)


@pytest.fixture
def sweeps(tmp_path, checkpoint, shared_cache):
    def make(seeds, steps=40):
        return Sweeps(tmp_path, checkpoint, seeds, steps)

    return make
