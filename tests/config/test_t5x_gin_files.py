"""Gin files of T5X's form, read as data."""

import pytest

from spjax.config.t5x import gin_files, published, translation
from spjax.config.t5x.gin_files import Bindings, Key

OWN = """
from __gin__ import dynamic_registration
import __main__ as train_script
from t5x import utils
from prompt_tuning.train import prompts as other_name
include 'more.gin'
A = 1
B = [%A, {'x': %C}]
train_script.train:
  total_steps = %B  # a comment
  eval_period = 7
scope/utils.DatasetConfig.batch_size = 3
utils.DatasetConfig.batch_size = 4
utils.DatasetConfig.seed = 5
other_name.Prompt.prompt = @some/utils.thing()
A = 2
"""


def test_gin_files_are_read_as_gin_reads_them(tmp_path):
    (tmp_path / "own.gin").write_text(OWN)
    (tmp_path / "more.gin").write_text("C = 'c'\nA = 9\n")
    bindings = Bindings()
    bindings.add_file("own.gin", [tmp_path])
    assert bindings.get("__main__.train", "total_steps") == [2, {"x": "c"}]
    assert bindings.get("t5x.utils.DatasetConfig", "batch_size", "scope") == 3
    assert bindings.get("t5x.utils.DatasetConfig", "seed", "scope/inner") == 5
    assert bindings.hidden == {
        Key("", "t5x.utils.DatasetConfig", "batch_size"): Key(
            "scope", "t5x.utils.DatasetConfig", "batch_size"
        )
    }
    prompt = bindings.get("prompt_tuning.train.prompts.Prompt", "prompt")
    assert prompt == gin_files.Reference("some", "t5x.utils.thing", True)
    bindings.add_flag("utils.DatasetConfig.seed=6")
    assert bindings.get("t5x.utils.DatasetConfig", "seed") == 6


@pytest.mark.parametrize(
    "text, match",
    [
        ("include 'own.gin'\n", "includes itself"),
        ("include 'gone.gin'\n", "'gone.gin' was not found in.*--gin_search_paths"),
        ("A = \n", "cannot read .*own.gin"),
        ("A = b\n", "cannot read .*own.gin"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, match):
    (tmp_path / "own.gin").write_text(text)
    with pytest.raises(ValueError, match=match):
        translation.translate([tmp_path / "own.gin"], [], [tmp_path])


def test_the_working_folder_is_one_of_those_looked_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"not found in {tmp_path} .the working folder.; add the"):
        Bindings().add_file("gone.gin", [])
    with pytest.raises(ValueError, match="working folder., /nowhere; add the"):
        Bindings().add_file("gone.gin", ["/nowhere"])


def test_every_published_file_is_read():
    for name in published.FILES:
        Bindings().add_file(name, [])
