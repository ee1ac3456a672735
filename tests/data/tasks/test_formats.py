"""Every dataset's format is complete, and has the labels and fields that TFDS has."""

import pytest

from spjax import metrics
from spjax.data.tasks import templates
from spjax.data.tasks.formats import FORMATS

CONFIGS = {
    "super_glue": ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "axb", "axg"),
    "glue": ("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli", "ax", "stsb"),
}


@pytest.mark.parametrize("dataset", FORMATS)
def test_names_are_known(dataset: str) -> None:
    form = FORMATS[dataset]
    assert form.template in templates.TEMPLATES
    assert form.postprocess in metrics.POSTPROCESSORS
    assert form.metrics and set(form.metrics) <= set(metrics.METRICS)
    assert form.task_name == form.task_name.strip()
    assert (form.postprocess in ("label", "multirc")) == bool(form.labels)


@pytest.mark.parametrize("dataset", FORMATS)
def test_selection_is_a_value_of_the_metrics(dataset: str) -> None:
    form = FORMATS[dataset]
    if form.selection:
        values = {}
        for name in form.metrics:
            values |= metrics.METRICS[name](["a b c d"], ["a b c d"])
        assert metrics.score(values, form.selection) == pytest.approx(100)


@pytest.mark.parametrize(
    ("dataset", "config"), [(name, config) for name in CONFIGS for config in CONFIGS[name]]
)
def test_labels_are_those_of_tfds(dataset: str, config: str) -> None:
    import tensorflow_datasets as tfds

    builder = {"glue": tfds.text.glue.Glue, "super_glue": tfds.text.super_glue.SuperGlue}[dataset]
    theirs = builder.builder_configs[config]
    form = FORMATS[config]
    if form.labels:
        assert form.labels == tuple(theirs.label_classes)
    texts = theirs.features if dataset == "super_glue" else theirs.text_features
    assert {name.partition("=")[2] or name for name in form.features} <= set(texts)


def test_transfer_renames_the_labels_of_one_to_those_of_the_other() -> None:
    for target, source in (("mrpc", "qqp"), ("qqp", "mrpc")):
        form = FORMATS[f"{target}_from_{source}"]
        words = [metrics.renamed(word, form.rename) for word in FORMATS[source].labels]
        assert tuple(words) == form.labels == FORMATS[target].labels
