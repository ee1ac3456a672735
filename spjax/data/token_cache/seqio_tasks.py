"""seqio tasks of the registry's tasks. Imports TensorFlow; see the package's docstring.

Each task gives two seqio tasks, `<name>_train` and `<name>_eval`, because ReCoRD and WSC make other
examples for training than for evaluation (see `spjax.data.tasks.templates`). Both run template,
tokenize, cache placeholder, append EOS after trim. Their examples have `inputs` and `targets` (ids,
EOS last), the texts as `inputs_pretokenized` and `targets_pretokenized`, and `fields`, the JSON of
the raw fields that metrics need.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from spjax.data.tasks import registry, templates
from spjax.data.tasks.info import TaskInfo
from spjax.data.token_cache import plain_tokens, seqio_vocabulary, tfds_folders
from spjax.vocabularies.vocabulary import Vocabulary, load_vocabulary

_ROWS_PER_CALL = 256  # records or examples that pass between TensorFlow and Python at once


def build(info: TaskInfo, *, training: bool, vocabulary: str = "") -> seqio.Task:
    """Builds a seqio task that is not in seqio's registry.

    Args:
      info: the row of the task.
      training: whether it makes training examples (split `train` only) or evaluation examples.
      vocabulary: name or path of another vocabulary than the task's own.
    """
    splits = [name for name in info.splits if (name == "train") == training]
    loaded = load_vocabulary(vocabulary or info.vocabulary)
    return seqio.Task(
        # seqio allows fewer characters than files have in their names.
        re.sub(r"[^\w.:#]", "_", f"{info.name}_{'train' if training else 'eval'}"),
        source=_source(info, splits, vocabulary or info.vocabulary),
        preprocessors=[
            functools.partial(to_text, info=info, training=training),
            seqio.preprocessors.tokenize,
            *([functools.partial(_prepend, first=loaded.sentinel(0))] if info.sentinel else []),
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features=_features(loaded),
    )


def register_all() -> None:
    """Adds every task of the table to seqio's registry; those already there stay."""
    for name in registry.names():
        for training in {split == "train" for split in registry.get(name).splits}:
            task = build(registry.get(name), training=training)
            if task.name not in seqio.TaskRegistry.names():
                seqio.TaskRegistry.add_provider(task.name, task)


def examples(
    info: TaskInfo, split: str, lengths: Mapping[str, int], vocabulary: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Yields ids of inputs and targets, and the raw fields, of every example of a split in order.

    Args:
      info: the row of the task.
      split: one of its splits.
      lengths: the most `inputs` and `targets` ids, EOS included.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: TFDS has not prepared the records and cannot, or a template refuses one.
    """
    task = build(info, training=split == "train", vocabulary=vocabulary)
    if isinstance(task.source, seqio.TfdsDataSource):
        tfds_folders.require(task.source.tfds_dataset.name)
    dataset = task.get_dataset(sequence_length=dict(lengths), split=split, shuffle=False)
    try:
        # In batches, because fetching single examples takes longer than making them.
        for batch in dataset.ragged_batch(_ROWS_PER_CALL):
            for row in _rows(tf.nest.map_structure(_to_list, batch)):
                fields = json.loads(row["fields"])
                fields["inputs_text"] = row["inputs_pretokenized"]
                fields["targets_text"] = row["targets_pretokenized"]
                yield np.asarray(row["inputs"]), np.asarray(row["targets"]), fields
    except tf.errors.InvalidArgumentError as error:
        # What TensorFlow makes of an exception in Python code that it calls.
        _, refused, message = error.message.partition("ValueError: ")
        if not refused:
            raise
        raise ValueError(f"{task.name}: " + message.partition("\n")[0]) from error


def to_text(dataset: tf.data.Dataset, *, info: TaskInfo, training: bool) -> tf.data.Dataset:
    """Applies the task's template to a dataset of records, from whatever source.

    Args:
      dataset: records; fields may be nested and lists may have any length.
      info: the row of the task.
      training: passed to the template.

    Returns:
      A dataset of text `inputs` and `targets` and of JSON `fields`.
    """
    template = functools.partial(
        templates.TEMPLATES[info.format.template],
        labels=info.format.labels,
        features=info.format.features,
        training=training,
    )
    prefix = f"{info.format.task_name} " if info.with_task_name else ""
    batches = dataset.ragged_batch(_ROWS_PER_CALL)
    structure = batches.element_spec

    def convert(*columns: tf.Tensor | tf.RaggedTensor) -> list[list[str]]:
        batch = tf.nest.pack_sequence_as(structure, [_to_list(column) for column in columns])
        examples = [example for row in _rows(batch) for example in template(row)]
        inputs = [prefix + example.pop("inputs") for example in examples]
        targets = [example.pop("targets") for example in examples]
        return [inputs, targets, [json.dumps(example, sort_keys=True) for example in examples]]

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and it takes long
    def apply(batch: Any) -> dict[str, tf.Tensor]:
        outputs = tf.py_function(convert, tf.nest.flatten(batch), [tf.string] * 3)
        for output in outputs:
            output.set_shape([None])
        return dict(zip(("inputs", "targets", "fields"), outputs))

    return batches.map(apply).unbatch()


def _features(vocabulary: Vocabulary) -> dict[str, seqio.Feature]:
    pieces = seqio_vocabulary.of(vocabulary)
    return {name: seqio.Feature(pieces, add_eos=True) for name in ("inputs", "targets")}


@seqio.map_over_dataset
def _prepend(example: dict[str, tf.Tensor], first: int) -> dict[str, tf.Tensor]:
    return {**example, "targets": tf.concat([[first], example["targets"]], axis=0)}


def _source(info: TaskInfo, splits: Sequence[str], vocabulary: str) -> seqio.DataSource:
    kind, _, name = info.source.partition(":")
    if kind == "tfds":
        theirs = dict(info.source_splits)
        named = {split: theirs.get(split, split) for split in splits}
        return seqio.TfdsDataSource(name, splits=named)

    def dataset_fn(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del shuffle_files, seed  # the order is the source's; batching shuffles
        records = plain_tokens.records(info.source, split, vocabulary)
        return tf.data.Dataset.from_tensor_slices(_columns(records))

    return seqio.FunctionDataSource(dataset_fn, splits=splits)


def _columns(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns one tensor per field of the records, ragged where the field is a list."""
    columns: dict[str, Any] = {}
    for key, first in records[0].items():
        values = [record[key] for record in records]
        if isinstance(first, Mapping):
            columns[key] = _columns(values)
        elif isinstance(first, (list, tuple)):
            kind = tf.string if any(isinstance(v, str) for row in values for v in row) else tf.int64
            columns[key] = tf.ragged.constant(values, kind, ragged_rank=1, inner_shape=())
        else:
            columns[key] = tf.constant(values, tf.int64 if isinstance(first, int) else None)
    return columns


def _to_list(column: tf.Tensor | tf.RaggedTensor) -> list[Any]:
    values = column.to_list() if isinstance(column, tf.RaggedTensor) else column.numpy().tolist()
    return _decode(values) if column.dtype == tf.string else values


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _rows(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Converts columns back to records, the reverse of `_columns`."""
    columns = {
        key: _rows(value) if isinstance(value, Mapping) else value for key, value in batch.items()
    }
    return [dict(zip(columns, values)) for values in zip(*columns.values())]
