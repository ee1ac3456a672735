"""The tuned weights of a finished run as a checkpoint that stands alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from spjax import trees
from spjax.checkpoints import model_vocabulary
from spjax.checkpoints.weights import convert, lazy, weights
from spjax.checkpoints.weights.stored_array import from_array
from spjax.training import stored_run
from spjax.training.run import Run


def export(
    run: Run, folder: Path, out: Path | str, format: str, dtype: str, words: str = ""
) -> Path:
    """Writes all weights of a run's best step, with the method's changes merged in.

    Args:
      run: what the folder's `config.gin` says.
      folder: of the run.
      out: a file for "safetensors", a folder for "huggingface".
      format: one of `convert.FORMATS`.
      dtype: of the stored arrays; the weights themselves are float32 where they were changed.
      words: name or path of a vocabulary to put into a Hugging Face folder; the run's by default.

    Returns:
      What was written.

    Raises:
      ValueError: the run leaves the weights as they were or has no checkpoint of a best step, or
        as `convert.write`.
    """
    if not run.method.changes_weights:
        source = run.checkpoint or f"{run.model}, which ships with spjax"
        raise ValueError(
            f"the run in {folder} ({run.method_name}) has left the weights of its model as they "
            f"were. Convert these ({source}), or what it has trained with --format npy, "
            "safetensors, peft or t5x and without --dtype."
        )
    # Where it was computed is of no matter here.
    run = dataclasses.replace(run, num_partitions=1, logical_axis_rules="data_parallel")
    tuned = stored_run.weights_of(run, folder, run.open_model())
    arrays = {name: from_array(trees.to_host(x)) for name, x in trees.flatten(tuned).items()}
    return convert.write(
        out,
        lazy.unroll(arrays),
        weights.config_of(run.model, run.checkpoint),
        format,
        dtype,
        str(model_vocabulary.load(words or run.vocabulary, run.model, run.checkpoint).path),
        {
            "source": str(folder),
            "model": run.model,
            "task": str(run.task),
            "method": run.method_name,
        },
    )
