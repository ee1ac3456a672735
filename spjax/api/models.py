"""Frozen models by name, path or URL."""

from __future__ import annotations

import os
from typing import Any

from spjax import guesses, hub, partitioning
from spjax.api.messages import python_messages
from spjax.checkpoints import frozen_model, model_vocabulary, remote
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.weights import weights
from spjax.models import quantization
from spjax.models.sizes import SIZES
from spjax.vocabularies.vocabulary import Vocabulary, load_vocabulary


def load_model(
    name_or_path: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] = "",
    dtype: str = "float32",
    vocabulary: str | os.PathLike[str] = "",
    num_partitions: int = 1,
    logical_axis_rules: Any = "data_parallel",
) -> FrozenModel:
    """Opens a frozen T5 on a mesh of all devices; weights are read when they are first used.

    Args:
      name_or_path: a size such as "pocket_800k" or "t5_1_1_base"; or a checkpoint, whose shape
        then decides the model: a `.safetensors` file, a T5X or Hugging Face folder, or a URL
        (hf://, gs://, s3://, http://).
      checkpoint: weights of a named size; "" for those that ship with the pocket sizes.
      dtype: of the weights in memory, "float32", "bfloat16" or "int8".
      vocabulary: name or path of a SentencePiece vocabulary; "" for the checkpoint's own.
      num_partitions: devices along the mesh axis `model`; all others are along `data`.
      logical_axis_rules: "data_parallel", "tensor_parallel", "fsdp", or pairs of a logical axis
        and a mesh axis.

    Returns:
      The model with its configuration, weights, digest and vocabulary.

    Raises:
      ValueError: an unknown size, nothing readable at the path, or a vocabulary, dtype or mesh
        that does not fit.
    """
    name, checkpoint = os.fspath(name_or_path), os.fspath(checkpoint)
    if name not in SIZES:
        if checkpoint and name != weights.AUTO:
            raise ValueError(
                f"the checkpoint {checkpoint!r} is given for the model {name!r}, which is no known "
                f"size ({', '.join(SIZES)}). Name a size, or give the checkpoint alone."
                f"{guesses.did_you_mean(name, SIZES)}"
            )
        if not checkpoint and not (remote.is_url(name) or os.path.exists(name)):
            of_hub = f" Did you mean 'hf://{name}'?" if hub.is_name(name) else ""
            raise ValueError(
                f"unknown model {name!r}: neither a known size ({', '.join(SIZES)}) nor an "
                "existing file or folder, nor a URL such as hf://ORGANIZATION/NAME."
                f"{of_hub or guesses.did_you_mean(name, SIZES)}"
            )
        name, checkpoint = weights.AUTO, checkpoint or name
    with python_messages():
        quantization.check_dtype(dtype)
        partitioning.check(num_partitions, logical_axis_rules)
        weights.find(name, checkpoint)
        return frozen_model.open_shared(
            name,
            checkpoint,
            vocabulary=os.fspath(vocabulary),
            dtype=dtype,
            num_partitions=num_partitions,
            logical_axis_rules=logical_axis_rules,
        )


def run_settings(model: FrozenModel) -> dict[str, Any]:
    """Returns the settings of `Run` that say the same as a loaded model.

    A vocabulary that the model would be given anyway is left out, as on the command line.
    """
    try:
        default = load_vocabulary(model_vocabulary.of(model.name, model.checkpoint)).path
    except ValueError:  # the checkpoint does not say, so that the caller had to
        default = None
    same = model.vocabulary.path == default
    placement = model.placement
    names = {rules: name for name, rules in partitioning.RULES.items()}
    return {
        "model": model.name,
        "checkpoint": model.checkpoint,
        "vocabulary": "" if same else str(model.vocabulary.path),
        "weights_dtype": model.dtype,
        "num_partitions": placement.mesh.shape["model"],
        "logical_axis_rules": names.get(placement.rules, placement.rules),
    }


def find_vocabulary(name_or_path: str, model: str, checkpoint: str) -> Vocabulary:
    """Returns the vocabulary that is named, or the one that belongs to a model.

    Args:
      name_or_path: "" to look for it.
      model: name of a size.
      checkpoint: the model's weights; a SentencePiece file may lie beside them.

    Raises:
      ValueError: the checkpoint does not say, or the embedding has fewer rows than it has ids.
    """
    if name_or_path and not (model or checkpoint):
        return load_vocabulary(name_or_path)
    return model_vocabulary.load(name_or_path, model or weights.AUTO, checkpoint)
