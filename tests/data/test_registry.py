"""Every row of the task table holds together and agrees with the world it comes from."""

import pytest

from spjax import metrics
from spjax.data.tasks import formats, registry, tables, templates

NAMES = registry.names()


@pytest.mark.parametrize("name", NAMES)
def test_row_names_things_that_exist(name: str) -> None:
    info = registry.get(name)
    assert info.name == name
    assert info.format.template in templates.TEMPLATES
    assert info.postprocess in metrics.POSTPROCESSORS
    assert info.metrics and set(info.metrics) <= set(metrics.METRICS)
    assert set(info.labels) <= set(info.class_labels)
    assert info.lengths == {"inputs": info.input_length, "targets": info.target_length}
    assert set(info.unlabelled) <= set(info.splits) <= {"train", "validation", "test"}
    assert len(info.sizes) in (0, len(info.splits)) and len(info.t5_lengths) in (0, 2)


def test_every_format_has_a_row_and_names_are_unique() -> None:
    rows = list(tables.rows())
    assert {row.format for row in rows} == set(formats.FORMATS.values())
    assert len({row.name for row in rows}) == len(rows) == len(NAMES)


@pytest.mark.parametrize("name", registry.mixture_names())
def test_mixture_trains_on_what_has_training_examples(name: str) -> None:
    found = registry.mixture(name)
    assert found.name == name and len(found.rates) == len(found.trained)
    assert all("train" in info.splits for info in found.trained)
    assert all("validation" in info.labelled for info in found.scored)
    assert all(info.labelled for info in found.transfer)
    assert len({info.vocabulary for info in found.tasks}) == 1


def test_unknown_task_is_guessed() -> None:
    with pytest.raises(ValueError, match="unknown task 'pocket_bolq'. Did you mean 'pocket_boolq'"):
        registry.get("pocket_bolq")


POCKET = [name for name in NAMES if registry.get(name).source.startswith("pocket:")]


def test_every_pocket_task_has_a_row() -> None:
    from spjax.pocket import tasks

    assert {f"pocket:{name}" for name in tasks.TASKS} == {
        registry.get(name).source for name in POCKET
    }


@pytest.mark.parametrize("name", POCKET)
def test_row_agrees_with_the_pocket_world(name: str) -> None:
    from spjax.pocket import tasks

    info = registry.get(name)
    task = tasks.TASKS[info.source.removeprefix("pocket:")]
    assert info.version == task.version
    assert info.ceiling == task.ceiling
    assert info.labels == task.labels
    assert set(info.splits) == set(task.sizes)
