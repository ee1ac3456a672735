"""Numbers out of range are refused before anything is loaded."""

import dataclasses
import math

import pytest

from spjax import methods, validation
from spjax.data.tasks.file_task import FileTask
from spjax.methods import initializers
from spjax.methods.prompt_tuning import PromptTuning
from spjax.pretraining.recipe import Pretrain
from spjax.training.optimizers import Adafactor, AdamW
from spjax.training.run import Run

RUN = Run("pocket_cb", "pocket_50k", PromptTuning(3), Adafactor(), steps=2)
BAD = (math.nan, math.inf, -math.inf, -5, 1e30, 10**20, "many", True)
# Where they mean something: a step that lies before the run, the start of a range.
NEGATIVE = {"decay_offset", "low", "high"}


def with_numbers():
    """An object, how it is changed, and the name of each of its settings that is a number."""
    objects = [
        RUN,
        Adafactor(),
        AdamW(),
        initializers.Uniform(),
        initializers.Text("a"),
        initializers.ClassLabels(),
        initializers.SampledVocabulary(),
        Pretrain("pocket_50k"),
    ]
    objects += [methods.get(name)() for name in methods.names()]
    for item in objects:
        for field in dataclasses.fields(item):
            if str(field.type) in ("int", "float") and field.name != "tasks":
                yield pytest.param(item, field.name, id=f"{type(item).__name__}.{field.name}")


@pytest.mark.parametrize(
    "kind, name",
    [
        (kind, field.name)
        for kind in (
            Run,
            FileTask,
            initializers.Text,
            initializers.ClassLabels,
            initializers.FromFile,
            methods.get("multitask_prompt_tuning"),
        )
        for field in dataclasses.fields(kind)
        if field.type in ("str", "tuple[str, ...]", "Sequence[str]")
    ],
)
def test_no_setting_that_is_a_text_takes_anything_else(kind, name):
    needed = (
        {
            "task": "pocket_cb",
            "model": "pocket_50k",
            "method": PromptTuning(3),
            "optimizer": Adafactor(),
        }
        if kind is Run
        else {}
    )
    for value in (5, None, [1, "a"], {"a": 1}):
        with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name} is .* a (list of )?text"):
            kind(**needed | {name: value})


def test_other_kinds_of_settings_are_refused_by_name():
    for value in (5, "class_labels", initializers.Uniform):
        for method in (PromptTuning, methods.get("multitask_prompt_tuning")):
            with pytest.raises(ValueError, match="INITIALIZER is .* one of @Uniform"):
                method(3, initializer=value)
    with pytest.raises(ValueError, match="teachers is the text 'a'; give a list"):
        methods.get("multitask_prompt_tuning")(3, teachers="a")
    with pytest.raises(ValueError, match=r"Run.task is \['a'\]; give the name"):
        dataclasses.replace(RUN, task=["a"])


@pytest.mark.parametrize("item, name", with_numbers())
def test_no_setting_takes_what_is_no_finite_number_of_its_range(item, name):
    for value in BAD:
        if value == -5 and name in NEGATIVE:
            continue
        with pytest.raises(ValueError, match=r"it must be a .*number"):
            change(item, **{name: value})


def change(item, **values):
    own = {
        field.name: getattr(item, field.name)
        for field in dataclasses.fields(item)
        if field.name not in ("parent", "name")
    }
    return type(item)(**{**own, **values})


@pytest.mark.parametrize("rate", [0, 0.0, -0.1])
def test_a_rate_is_above_0(rate):
    with pytest.raises(ValueError, match="LEARNING_RATE is .* a number above 0 and at most 1000"):
        Adafactor(rate)
    with pytest.raises(ValueError, match="Pretrain.learning_rate is"):
        Pretrain("pocket_50k", learning_rate=rate)


def test_rows_have_a_length_that_fits():
    with pytest.raises(ValueError, match="Run.row_length is 1000000000; .* at most 100,000"):
        dataclasses.replace(RUN, row_length=10**9)
    with pytest.raises(ValueError, match="Uniform.low is 1.0, above Uniform.high"):
        initializers.Uniform(1.0, 0.5)


def test_words_of_the_checks():
    validation.whole("a", 3, 1, 3)
    validation.number("a", 0.5, 0, 1, above=True, below=True)
    validation.number("a", -3, -math.inf)
    with pytest.raises(ValueError, match="a is 4; it must be a whole number of at least 1 and at"):
        validation.whole("a", 4, 1, 3)
    with pytest.raises(ValueError, match="a is 1; it must be a number above 0 and below 1"):
        validation.number("a", 1, 0, 1, above=True, below=True)
    with pytest.raises(ValueError, match="a is nan; it must be a finite number"):
        validation.number("a", math.nan, -math.inf)
    with pytest.raises(ValueError, match=r"a is 'x{55,}\.\.\.; it"):
        validation.number("a", "x" * 100)
