"""Methods of a folder outside spjax."""

import pytest

import spjax
from spjax import config, methods

SOURCE = '''
import flax.linen as nn

from spjax.injection import Soft
from spjax.methods.base import Method


class ZeroPrompt(Method):
    """A prompt that starts at zero."""

    length: int = 2

    @property
    def prompt_length(self):
        return self.length

    @nn.compact
    def __call__(self, base):
        width = base["token_embedder"]["embedding"].shape[1]
        return base, Soft(prompt=self.param("prompt", nn.initializers.zeros, (self.length, width)))
'''


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(methods, "__path__", list(methods.__path__))
    monkeypatch.setenv("SPJAX_METHODS", "")


def test_a_method_of_ones_own_is_like_any_other(tmp_path, model):
    (tmp_path / "zero_prompt.py").write_text(SOURCE)
    assert spjax.add_methods(tmp_path) == spjax.add_methods(tmp_path) == ["zero_prompt"]
    method = methods.get("zero_prompt")(length=3)
    assert methods.name_of(method) == "zero_prompt" and "zero_prompt" in methods.names()
    assert not spjax.TunedModel(model, method).init()["prompt"].any()
    config.parse([], ["ZeroPrompt.length = 5"])
    assert config.build("ZeroPrompt").length == 5


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "has no Python files; a method is a file such as my_method.py"),
        ({"lora.py": ""}, "lora.py has the name of a method of spjax; give it another name"),
        ({"empty.py": ""}, "empty.py has no class of its own name .'empty' in letters of any case"),
    ],
)
def test_mistakes(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        spjax.add_methods(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="absent is no folder; give one with a file for each"):
        spjax.add_methods(tmp_path / "absent")
