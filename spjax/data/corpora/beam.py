"""seqio's own cacher for one corpus, in a process of its own. Needs Apache Beam.

It may run with another Python than the rest, because Apache Beam 2.77 needs pyarrow below 26 and
protobuf below 7; `builders.BEAM_NEEDS` lists that environment's packages. The transforms and the
files are those of `seqio_cache_tasks`: TFRecord, info, stats, and COMPLETED at the end.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import seqio
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from seqio import beam_utils

from spjax.data.corpora import build_corpus

_MIN_SHARDS = 64  # of seqio_cache_tasks


def run(request: Mapping[str, Any]) -> str:
    """Caches one split and returns the folder, which may be remote (`gs://`).

    Args:
      request: `{"spec", "seqio_cache_dir", "pipeline_options"}`.
    """
    spec, split = request["spec"], request["spec"]["split"]
    register = functools.partial(build_corpus.register, spec)
    task = register()
    folder = os.path.join(request["seqio_cache_dir"], seqio.get_task_dir_from_name(task.name))
    tf.io.gfile.makedirs(folder)
    with beam.Pipeline(options=PipelineOptions(request["pipeline_options"])) as pipeline:
        read = beam_utils.PreprocessTask(
            task, split, setup_fn=register, tfds_data_dir=os.environ.get("TFDS_DATA_DIR")
        )
        shards = min(max(len(read.shards), _MIN_SHARDS), build_corpus.MAX_SHARDS)
        examples = pipeline | "read" >> read | "shuffle" >> beam.Reshuffle()
        _ = examples | "write" >> beam_utils.WriteExampleTfRecord(
            seqio.get_cached_tfrecord_prefix(folder, split), num_shards=shards
        )
        info, stats = beam_utils.GetInfo(shards), beam_utils.GetStats(task.output_features)
        for name, transform, path in (
            ("info", info, seqio.get_cached_info_path(folder, split)),
            ("stats", stats, seqio.get_cached_stats_path(folder, split)),
        ):
            transform = examples | name >> transform
            _ = transform | f"write_{name}" >> beam_utils.WriteJson(path)
    with tf.io.gfile.GFile(os.path.join(folder, "COMPLETED"), "w") as file:
        file.write("")
    return folder
