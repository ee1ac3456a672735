"""A frozen T5: configuration, vocabulary, weights and digest in one object."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Sequence
from typing import Any

from spjax import partitioning
from spjax.checkpoints import model_vocabulary
from spjax.checkpoints.weights import weights
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes
from spjax.types import Tree
from spjax.vocabularies.vocabulary import Vocabulary


class FrozenModel:
    """A frozen T5, opened with `FrozenModel.open`.

    Weights and their digest are read when they are first used, everything else by `open`.

    Attributes:
      name: name of a size, or "auto" for the shape that the checkpoint holds.
      checkpoint: path or URL of the weights; "" for those that ship with the pocket sizes.
      config: shape and arithmetic.
      vocabulary: of its input and output texts.
      dtype: of the weights in memory: "float32", "bfloat16" or "int8".
    """

    def __init__(
        self,
        name: str,
        checkpoint: str,
        config: T5Config,
        vocabulary: Vocabulary,
        *,
        dtype: str = "float32",
        num_partitions: int = 1,
        logical_axis_rules: str | Sequence[Any] = "data_parallel",
        unrolled: bool = False,
    ) -> None:
        self.name = name
        self.checkpoint = checkpoint
        self.config = config
        self.vocabulary = vocabulary
        self.dtype = dtype
        self._mesh = (num_partitions, logical_axis_rules)
        self._stored_config = dataclasses.replace(
            config, scan_layers=config.scan_layers and not unrolled
        )

    @classmethod
    def open(
        cls,
        model: str,
        checkpoint: str = "",
        *,
        vocabulary: str = "",
        dtype: str = "float32",
        num_partitions: int = 1,
        logical_axis_rules: str | Sequence[Any] = "data_parallel",
        unrolled: bool = False,
    ) -> FrozenModel:
        """Opens a model; its weights are read later.

        On accelerators the layers are a loop, and their weights stacked (`trees.stack_layers`),
        here or, if they are to be unrolled, by each program that runs through them.

        Args:
          model: name of a size, or "auto" for the shape that `checkpoint` holds.
          checkpoint: a file, folder or URL of any format of `weights.FORMATS`; "" for the weights
            that ship with the pocket sizes.
          vocabulary: name or path; "" for the one that the checkpoint says.
          dtype: of the weights in memory: "float32", "bfloat16" or "int8".
          num_partitions: devices along the mesh axis `model`; the others are along `data`.
          logical_axis_rules: name or pairs, as `partitioning.rules_of` takes them.
          unrolled: whether each layer keeps weights of its own on accelerators too.

        Raises:
          ValueError: the model is unknown, the checkpoint or vocabulary cannot be read, or they do
            not belong together.
        """
        config = weights.config_of(model, checkpoint)
        config = dataclasses.replace(config, scan_layers=partitioning.scans_layers())
        return cls(
            model,
            checkpoint,
            config,
            model_vocabulary.load(vocabulary, model, checkpoint),
            dtype=dtype,
            num_partitions=num_partitions,
            logical_axis_rules=logical_axis_rules,
            unrolled=unrolled,
        )

    @functools.cached_property
    def placement(self) -> partitioning.Placement:
        """Mesh and sharding rules.

        Raises:
          ValueError: they do not fit the devices.
        """
        return partitioning.make_placement(*self._mesh)

    @functools.cached_property
    def weights(self) -> Tree:
        """The weights under T5X names, sharded over the mesh.

        Raises:
          ValueError: they cannot be read, or names or shapes do not fit the model.
        """
        shardings = self.placement.weights(weight_shapes(self._stored_config))
        path = weights.find(self.name, self.checkpoint)
        return weights.read(path, self._stored_config, self.dtype, shardings)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all weights, bit for bit, in this dtype; stacked layers count one by one."""
        return weights.digest(self.weights)

    def __repr__(self) -> str:
        checkpoint = f", {self.checkpoint!r}" if self.checkpoint else ""
        return f"FrozenModel({self.name!r}{checkpoint}, dtype={self.dtype!r})"


def open_shared(
    model: str,
    checkpoint: str = "",
    *,
    vocabulary: str = "",
    dtype: str = "float32",
    num_partitions: int = 1,
    logical_axis_rules: str | Sequence[Any] = "data_parallel",
    unrolled: bool = False,
) -> FrozenModel:
    """Opens a model as `FrozenModel.open` does, once for all who use it.

    One that is still in use is returned again, however its vocabulary and rules are spelled, and
    the last two stay in memory. A checkpoint whose files have changed is opened again.
    """
    mesh = (num_partitions, partitioning.rules_of(logical_axis_rules))
    scans = partitioning.scans_layers()
    layers = (scans, scans and unrolled)
    key = (weights.fingerprint(model, checkpoint), model, checkpoint, dtype, mesh, layers)
    if (opened := _opened.get((*key, vocabulary))) is None:
        opened = FrozenModel.open(
            model,
            checkpoint,
            vocabulary=vocabulary,
            dtype=dtype,
            num_partitions=num_partitions,
            logical_axis_rules=logical_axis_rules,
            unrolled=unrolled,
        )
        # The path of a vocabulary, its name and "" can stand for the same file.
        opened = _opened.setdefault((*key, opened.vocabulary.path), opened)
        _opened[*key, vocabulary] = opened
    _keep(opened)
    return opened


_opened: weakref.WeakValueDictionary[Any, FrozenModel] = weakref.WeakValueDictionary()


@functools.lru_cache(maxsize=2)
def _keep(model: FrozenModel) -> None:
    """Keeps a model alive until two others have been asked for."""
