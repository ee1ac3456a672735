"""Configurations inside folders are data."""

import dataclasses
from pathlib import Path

import pytest

from spjax import config
from spjax.api import run_folders
from spjax.files import file_digest, write_json
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.studies import study
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "experiments").glob("*/results/*/study.gin"))
RUN = Run("pocket_cb", "pocket_50k", PromptTuning(3, Uniform()), Adafactor(), steps=2)


def test_what_is_written_reads_back(tmp_path):
    for run in (RUN, dataclasses.replace(RUN, remat=True)):
        (tmp_path / "config.gin").write_text(config.config_str(run))
        assert config.load_stored("Run", tmp_path / "config.gin") == run


def test_a_finished_run_with_a_changed_configuration_is_refused(tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(config.config_str(RUN))
    write_json(tmp_path / "result.json", {"config_sha256": file_digest(path)})
    assert run_folders.load_run_config(tmp_path) == RUN
    path.write_text(path.read_text().replace("input_length = 0", "input_length = 4"))
    with pytest.raises(ValueError, match="config.gin is damaged, or was changed.* another MODEL"):
        run_folders.load_run_config(tmp_path)
    write_json(tmp_path / "result.json", {})  # of older versions
    assert run_folders.load_run_config(tmp_path).input_length == 4


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_kept_studies_read_as_gin_reads_them(path):
    assert config.load_stored("Study", path) == study.load_study([path])[0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("import os\n", "it has an import statement"),
        ("from os import path\n", "it has an import statement"),
        ("from __gin__ import dynamic_registration\n", "it has an import statement"),
        ("include 'other.gin'\n", "it has an include statement"),
        ("SEED = 3\n", "it binds the macro SEED"),
        ("Run.seed = %SEED\n", "it uses the macro %SEED"),
        ("Run.seed = @by()\n", "it names 'by', which is no part of a configuration"),
        ("by.key = 3\n", "it names 'by', which is no part of a configuration"),
        ("Run.seed = @gin.singleton()\n", "it names 'gin.singleton'"),
        ("Run.seed = @Uniform\n", "refers to @Uniform without calling it"),
        ("Run.sed = 3\n", "Run has no parameter 'sed'"),
        ("Run.seed = = 3\n", "Unable to parse value"),
        ("Run.seed = (3\n", "was not written by spjax as it is"),
        ("AdamW.b1 = 0.9\n", "nothing uses the settings of 'AdamW'"),
        ("Run.task = @Run()\n", "Run is a part of itself"),
        ("Run.seed = " + "(" * 5000, "nested too deeply"),
        ("Run.seed = -1\n", "Run.seed is -1"),
    ],
)
def test_a_file_with_more_than_settings_is_refused(text, message, tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(config.config_str(RUN) + text)
    with pytest.raises(ValueError, match=message) as error:
        config.load_stored("Run", path)
    assert str(path) in str(error.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "config.gin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        config.load_stored("Run", tmp_path / "config.gin")
    with pytest.raises(ValueError, match="is no file"):
        config.load_stored("Run", tmp_path / "absent.gin")
    (tmp_path / "config.gin").write_text("Run.seed = 3\n")
    with pytest.raises(ValueError, match="Run needs a value for method, model, optimizer, task"):
        config.load_stored("Run", tmp_path / "config.gin")
