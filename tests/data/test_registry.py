"""Every row of the task table holds together and agrees with the world it comes from."""


import pytest

from spjax import metrics
from spjax.data.tasks import registry, templates

NAMES = registry.names()


@pytest.mark.parametrize("name", NAMES)
def test_row_names_things_that_exist(name: str) -> None:
    info = registry.get(name)
    assert info.name == name
    assert info.format.template in templates.TEMPLATES
    assert info.postprocess in metrics.POSTPROCESSORS
    assert info.metrics and set(info.metrics) <= set(metrics.METRICS)
    assert info.class_labels and set(info.labels) <= set(info.class_labels)
    assert info.lengths == {"inputs": info.input_length, "targets": info.target_length}


def test_unknown_task_is_guessed() -> None:
    with pytest.raises(ValueError, match="unknown task 'pocket_bolq'; did you mean 'pocket_boolq'"):
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
