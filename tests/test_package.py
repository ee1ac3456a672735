"""The wheel: what is installed from it works outside the clone."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spjax import extras

ROOT = Path(__file__).parents[1]
SOURCES = ("spjax", "gin_configs", "experiments")
FLAGS = [
    *("--gin_file=gin_configs/models/pocket.gin", "--gin_file=gin_configs/runs/pocket.gin"),
    "--gin_file=gin_configs/methods/prompt_tuning.gin",
    *("--gin.MODEL_SIZE=pocket_50k", "--gin.MIXTURE_OR_TASK_NAME=pocket_sentiment"),
    *("--gin.TRAIN_STEPS=2", "--gin.EVAL_PERIOD=2", "--gin.PROMPT_LENGTH=3"),
    "--gin.Run.eval_examples=8",
]


PYTHON = """
import spjax

model = spjax.load_model("pocket_50k")
settings = dict(steps=2, eval_period=2, eval_examples=8, output_dir="python")
run = spjax.train(model, "pocket_sentiment", spjax.PromptTuning(length=3), **settings)
print(spjax.__file__)
print(spjax.load_predictor([run.folder, "run"], model).predict(["good", "bad"], [0, 1]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for PYTHONPATH with nothing but what the wheel installs."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    skipped = shutil.ignore_patterns("__pycache__", "results", "*.egg-info")
    for name in SOURCES:
        shutil.copytree(ROOT / name, source / name, ignore=skipped)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(out), str(wheel)], check=True)
    return out


def run(installed, folder, *arguments):
    # Compiled and kept as users' programs are, unlike those of all other tests.
    environment = {x: y for x, y in os.environ.items() if not x.startswith(("JAX_", "XLA_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(installed)}
    environment["SPJAX_CACHE"] = str(folder / "cache")
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_it_trains_outside_the_clone(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "spjax.cli", "train", *FLAGS, "--gin.MODEL_DIR=run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/result.json").is_file()
    assert any((tmp_path / "cache/xla").iterdir())
    done = run(installed, tmp_path, "-c", PYTHON)
    assert done.returncode == 0, done.stderr
    folder, answers = done.stdout.splitlines()
    assert folder.startswith(str(installed)) and len(ast.literal_eval(answers)) == 2


@pytest.mark.slow
def test_it_says_its_version(installed, tmp_path):
    version = re.search(r'__version__ = "(.+?)"', (ROOT / "spjax/__init__.py").read_text())[1]
    said = run(installed, tmp_path, "-m", "spjax.cli", "--version")
    assert said.stdout == f"spjax {version}\n"
    # Not str() of all of it: Python takes a word and a colon in the README for a header.
    code = "import importlib.metadata as m; print(m.version('spjax')); "
    code += "print(m.metadata('spjax')['License-Expression'])"
    assert run(installed, tmp_path, "-c", code).stdout == f"{version}\nApache-2.0\n"
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_it_has_every_gin_file(installed, tmp_path):
    def names(root):
        return {
            str(path.relative_to(root))
            for name in ("gin_configs", "experiments")
            for path in (root / name).glob("*/*.gin")
        }

    assert names(installed / "spjax/shipped") == names(ROOT) != set()
    quickstart = "--gin_file=experiments/pocket/quickstart.gin"
    planned = run(installed, tmp_path, "-m", "spjax.cli", "sweep", quickstart, "--dry_run")
    assert planned.returncode == 0 and "24 runs" in planned.stdout, planned.stderr


def test_it_has_every_vocabulary(installed):
    names = {str(path.relative_to(ROOT)) for path in (ROOT / "spjax").rglob("*.model")}
    assert names == {str(p.relative_to(installed)) for p in (installed / "spjax").rglob("*.model")}
    assert len(names) >= 3


def test_it_has_style_and_script_of_the_report(installed):
    names = {path.relative_to(ROOT) for path in (ROOT / "spjax").rglob("page.[cj]s*")}
    assert len(names) == 2 and all((installed / name).is_file() for name in names)


def test_a_missing_extra_is_named_with_a_command_that_installs_it(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=rf"^this needs the package no_such. .*'{ROOT}\[tfds\]'"):
        extras.require("tfds", "this", "numpy", "no_such")
    with pytest.raises(ValueError, match="^this needs the package no_such .No module named"):
        extras.import_module("no_such", "tfds", "this")
    monkeypatch.setattr(extras, "_PROJECT", tmp_path)  # as where there is no clone
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: [
            "jax>=0.10",
            'seqio<1,>=0.0.20; extra == "tfds"',
            'torch>2; extra == "torch"',
            'spjax[tfds]; extra == "test"',
            'pytest>8; extra == "test"',
        ],
    )
    with pytest.raises(ValueError, match="pip install 'seqio<1,>=0.0.20'$"):
        extras.require("tfds", "this", "no_such")
    with pytest.raises(ValueError, match="pip install 'seqio<1,>=0.0.20' 'pytest>8'$"):
        extras.require("test", "this", "no_such")


def test_records_of_tfds_need_the_extra(monkeypatch):
    from spjax.data.token_cache import build_cache

    monkeypatch.setattr(extras, "TFDS_PACKAGES", ("no_such",))
    wanted = {"task": "super_glue_boolq_v102", "split": "test", "lengths": {}, "vocabulary": "t5"}
    with pytest.raises(ValueError, match="the source tfds:super_glue.* needs the package no_such"):
        build_cache.build([wanted])


def test_a_metric_without_its_package_is_refused_before_training(monkeypatch, tmp_path):
    from spjax.data.tasks import file_task

    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "a", "target": "b"}\n')
    monkeypatch.setitem(file_task._METRIC_PACKAGES, "rouge", "no_such")
    with pytest.raises(ValueError, match="the metric 'rouge' needs the package no_such"):
        file_task.FileTask(str(file), metrics=("rouge",))
