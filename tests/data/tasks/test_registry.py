"""Every row of the task table holds together and agrees with the world it comes from."""

import re
from pathlib import Path

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


VARIANTS = ("", ":sentinel", ":n4", ":n4:balanced:seed1")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", registry.mixture_names())
def test_mixtures_take_every_variant(name: str, variant: str) -> None:
    plain, found = registry.mixture(name), registry.mixture(name + variant)
    assert len(found.trained) == len(found.rates) and found.name == name + variant
    assert [info.name for info in found.trained] == [i.name + variant for i in plain.trained]
    for part in ("scored", "transfer"):
        assert len(getattr(found, part)) == len(getattr(plain, part))
    for info in found.tasks:
        assert info.sentinel == (variant == ":sentinel")
        assert (info.few_shot is not None) == ("n4" in variant and info in found.trained)


def test_halves_of_transfer_tasks_are_not_taken() -> None:
    found = registry.mixture("taskless_glue_mrpc_from_qqp_zeroshot_v002:halves")
    assert found.scored[0].splits == ("train", "validation", "test")
    assert found.transfer[0].splits == ("validation",)


@pytest.mark.parametrize("name", ["super_glue_multirc_v102", "squad_v010_allanswers"])
def test_records_that_share_a_passage_are_not_halved(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be halved: several records share a passage"):
        registry.get(f"{name}:halves")


def test_a_mixture_is_no_task_and_its_name_says_what_it_is() -> None:
    with pytest.raises(ValueError, match="is a mixture, and one task is wanted: squad_v010"):
        registry.get("squad_to_mrqa")
    whole, other = registry.mixture("squad_to_mrqa"), registry.mixture("squad_v010_allanswers")
    assert other.identity == "3.0.0" and "bio_asq" in whole.identity


def test_tasks_are_mixed_by_a_plus() -> None:
    found = registry.mixture("pocket_boolq:n10+pocket_rte")
    assert [info.name for info in found.trained] == ["pocket_boolq:n10", "pocket_rte"]
    assert found.rates == (1, 1) and found.scored == found.trained and not found.transfer
    assert registry.is_mixture("pocket_boolq+pocket_rte") and not registry.is_mixture("a+b.csv")
    for name, message in [
        ("pocket_cb+pocket_cb", "'pocket_cb\\+pocket_cb' has pocket_cb twice"),
        ("pocket_cb:n10+pocket_cb", "has pocket_cb twice"),
        ("a.csv+pocket_cb", "files cannot be mixed by a '\\+': 'a.csv' in"),
        ("pocket_cb+a.csv", "files cannot be mixed by a '\\+': 'a.csv' in"),
        ("pocket_cb+x", "unknown task 'x'"),
        ("pocket_cb+squad_to_mrqa", "is a mixture, and one task is wanted"),
        ("pocket_cb+super_glue_axb_v102", "has no training examples"),
        ("pocket_cb+", "unknown task ''"),
    ]:
        with pytest.raises(ValueError, match=message):
            registry.mixture(name)
    with pytest.raises(ValueError, match="is a mixture, and one task is wanted: pocket_cb, pock"):
        registry.get("pocket_cb+pocket_wic")


def test_dataset_sizes_in_the_docs_are_those_of_the_tasks() -> None:
    text = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text()
    rows = re.findall(r"^\| [\w ]+ \| [\d,/-]+ \| `(\w+)` \| ([\d,/-]+) \|$", text, re.M)
    assert len(rows) == 17
    for name, shown in rows:
        info = registry.get(name)
        sizes = dict(zip(info.splits, info.sizes, strict=True))
        counts = [sizes.get(split, 0) for split in ("train", "validation", "test")]
        assert shown == "/".join(f"{count:,}" if count else "-" for count in counts)
