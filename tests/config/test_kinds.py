"""Values in gin files are checked against the annotations of the classes they are for."""

import dataclasses
import re
from pathlib import Path
from typing import Literal

import pytest

from spjax import config
from spjax.config import kinds
from spjax.methods.initializers import Uniform
from spjax.studies.study import load_study

RUN = ("Run.task=pocket_cb", "Run.model=pocket_50k", "Run.optimizer=@Adafactor()")


def load(method, *bindings):
    return config.load("Run", [], [*RUN, f"Run.method=@{method}()", *bindings])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("LoRA.alpha='x'", "LoRA.alpha is 'x'; it must be a number."),
        ("LoRA.alpha=True", "LoRA.alpha is True; it must be a number."),
        ("LoRA.rank=None", "LoRA.rank is None; it must be a whole number."),
        ("LoRA.rslora=1", "LoRA.rslora is 1; it must be a truth value (True or False)."),
        ("LoRA.kernels=[['query']]", "LoRA.kernels is [['query']]; it must be a list of texts."),
        ("LoRA.kernels='query'", "LoRA.kernels is 'query'; it must be a list of texts."),
        ("Run.seed=1e3", "Run.seed is 1000.0; it must be a whole number."),
        ("Run.task={}", "Run.task is {}; it must be a text or @FileTask()."),
        ("Run.method=@LoRA", "Run.method is @LoRA without '()'; it must be"),
        ("Run.optimizer='x'", "Run.optimizer is 'x'; it must be @Adafactor() or @AdamW()."),
        ("Run.waywardness=3", "Run.waywardness is 3; it must be @Waywardness() or None."),
        (r"Run.vocabulary='\x00'", "Run.vocabulary is '\\x00'; a text has no null bytes."),
        ("Run.contents=[('a', 1)]", "it must be a list of lists of texts."),
    ],
)
def test_wrong_kinds_are_refused(binding, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load("LoRA", binding)


@pytest.mark.parametrize("value", ["'x'", "@Uniform", "[]", "None"])
def test_initializers_are_objects(value):
    with pytest.raises(ValueError, match="PromptTuning.initializer is .* must be an object of"):
        load("PromptTuning", f"PromptTuning.initializer={value}")


def test_what_stands_for_another_kind_is_kept():
    run = load("LoRA", "LoRA.alpha=2", "LoRA.kernels=['query']", "Run.loss_normalizing_factor=None")
    assert run.method.alpha == 2 and list(run.method.kernels) == ["query"]
    run = load("PromptTuning", "PromptTuning.initializer=@Uniform()", "Uniform.low=-1")
    assert run.method.initializer == Uniform(-1, 0.5)


def test_stored_configurations_are_checked(tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(config.config_str(load("LoRA")).replace("LoRA.rank = 8", "LoRA.rank = 'x'"))
    with pytest.raises(ValueError, match="config.gin: LoRA.rank is 'x'; it must be a whole number"):
        config.load_stored("Run", path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Study.arms = [3]", "Study.arms is [3]; it must be a list of @Arm() objects."),
        ("Study.name = None", "Study.name is None; it must be a text."),
        ("Study.figures = 'table'", "Study.figures is 'table'; it must be a list of texts."),
        ("Study.gang_width = 0.5", "Study.gang_width is 0.5; it must be a whole number."),
        ("a/Arm.axes = {3: [1]}", "it must be a dict from texts to lists of values."),
        ("a/Arm.axes = {'SEED': 3}", "it must be a dict from texts to lists of values."),
        ("a/Arm.bindings = []", "Arm.bindings is []; it must be a dict from texts to values."),
        ("a/Arm.name = ''", "an arm has the name ''"),
        ("a/Arm.axes = {'SEED': []}", "the axis 'SEED' of the arm 'a' has no values"),
        ("a/Arm.axes = {'': [1]}", "the arm 'a' binds the name ''"),
    ],
)
def test_studies_of_wrong_kinds(line, message, tmp_path):
    usual = "Study.name = 's'\nStudy.arms = [@a/Arm()]\na/Arm.name = 'a'\na/Arm.gin_files = []\n"
    path = tmp_path / "study.gin"
    path.write_text(f"{usual}{line}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_study([path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("include '{path}'\n", "a part of itself"),
        ("Run.steps = " + "[" * 5000, "nested too deeply"),
        ("Run.task = naïve\n", "x.gin: a value is no Python literal"),
        ("Run.steps = @by()\n", "by needs a value for 'key' and 'table'"),
    ],
)
def test_gin_files_without_sense(text, message, tmp_path):
    path = Path(tmp_path / "x.gin")
    path.write_text(text.replace("{path}", str(path)))
    with pytest.raises(ValueError, match=message) as error:
        config.load("Run", [path])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("key", "table"), [("a", 3), ([], {}), ({}, {"a": 1}), ("a", None)])
def test_tables_are_dicts(key, table):
    with pytest.raises(ValueError, match="the key must be a text or a number and the table a dict"):
        config.by(key, table)


def test_a_binding_is_one_line():
    with pytest.raises(ValueError, match="Run.steps is neither a Python literal"):
        load("LoRA", "Run.steps=1\nRun.seed=2")
    assert load("LoRA", "Run.steps=(\n1000)  # as in a file").steps == 1000


def test_the_checked_constructor_has_the_signature_of_its_class():
    assert kinds.checked(Uniform)(0.0, high=1).high == 1
    with pytest.raises(ValueError, match="Uniform.low is '0'; it must be a number"):
        kinds.checked(Uniform)("0")


def test_annotations_of_other_forms_check_nothing():
    @dataclasses.dataclass
    class Other:
        form: Literal["a", "b"] = "a"
        both: Literal["a"] | int = 1
        items: dict[str, int] = dataclasses.field(default_factory=dict)

    assert kinds.checked(Other)(form=3, both="x", items=3) == Other(3, "x", 3)
