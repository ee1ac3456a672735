"""A model for T5X's `train.py`, `eval.py` and `infer.py`: T5 with a method of spjax.

T5X does what it does with a model of its own: data, optimizer, mesh, checkpoints. In its gin files
this model stands in the place of `models.EncoderDecoderModel` (docs/t5x.md has an example). A
prompt has the name `encoder/prompt/prompt/prompt`, as in google-research/prompt-tuning, so that
regular expressions, assignment maps and numpy checkpoints of that code work; parameters of other
methods begin with `method/`.

Importing this module imports `t5x`, which is on no package index: put its sources on `PYTHONPATH`,
and start its programs by `spjax.integrations.t5x_launch`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
from flax.linen import partitioning as flax_partitioning

from spjax import methods, partitioning, trees
from spjax.checkpoints.weights import weights
from spjax.methods.base import Method, apply_gang
from spjax.models import T5, T5Config, decoding
from spjax.models.losses import token_losses
from spjax.models.t5 import EMBEDDING, init_weights
from spjax.types import Array, Batch, Tree

try:
    from t5x import models
except ImportError as error:
    raise ValueError(
        f"spjax.integrations.t5x needs T5X, and its import stops at: {error}. T5X is on no package "
        "index: clone https://github.com/google-research/t5x, name the folder in PYTHONPATH, "
        "install the packages that docs/t5x.md lists, and start T5X with `python -m "
        "spjax.integrations.t5x_launch train`, which puts airio and what JAX and Flax no longer "
        "have in place; in Python call spjax.integrations.t5x_launch.prepare() first."
    ) from error

_PROMPT = "encoder/prompt/prompt/prompt"
_METHOD = "method/"
_REPLICATED = ("relpos_buckets", "kv")  # axes that T5X's standard rules do not split
_LENGTH_PENALTY = 0.6
_REFUSED = {
    "full_fine_tuning": "T5X fine-tunes a model of its own",
    "hard_prompt": "nothing of it is trained",
    "multitask_prompt_tuning": "a batch of T5X does not say which task an example is of",
}
_Base: Any = models.BaseTransformerModel


class EncoderDecoderModel(_Base):
    """T5 and a method, as `t5x.models.EncoderDecoderModel` is T5.

    All parameters, frozen or not, are one tree; the optimizer decides which are trained, as
    `MultiOptimizer` with `ModelParamTraversal` does. T5X restores the frozen ones.

    Attributes:
      config: shape and arithmetic of the network.
      method: the method, with its initial values resolved.
    """

    FEATURE_CONVERTER_CLS = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS

    def __init__(
        self,
        checkpoint: str,
        method: Method,
        input_vocabulary: Any,
        output_vocabulary: Any,
        optimizer_def: Any,
        *,
        model: str = "auto",
        labels: Sequence[str] = (),
        dropout_rate: float = 0.0,
        dtype: str = "bfloat16",
        num_decodes: int = 1,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        loss_normalizing_factor: float | str | None = None,
    ) -> None:
        """Reads the shape of the network, and the embedding that prompts start from.

        Args:
          checkpoint: the frozen weights, in any format that spjax reads; T5X restores them by
            itself, from where its own configuration says.
          method: an object of one of the classes in `spjax.methods`.
          input_vocabulary: seqio's.
          output_vocabulary: seqio's.
          optimizer_def: T5X's optimizer.
          model: name of a size, or "auto" for the shape of the checkpoint.
          labels: label words of the task, for initial values.
          dropout_rate: of the network while training.
          dtype: of activations, "bfloat16" or "float32".
          num_decodes: beams of the search for answers.
          label_smoothing: as in T5X.
          z_loss: as in T5X.
          loss_normalizing_factor: as in T5X.

        Raises:
          ValueError: the method cannot be trained by T5X, or the checkpoint cannot be read.
        """
        name = methods.name_of(method)
        if name in _REFUSED:
            raise ValueError(f"{name} does not go into T5X's trainer: {_REFUSED[name]}.")
        if method.insertion != "front" or getattr(method, "per_task", False):
            raise ValueError(
                f"under T5X soft tokens stand in front of the text, one prompt for all; {name} has "
                f"insertion {method.insertion!r}. Train it with `spjax train`."
            )
        config = weights.config_of(model, checkpoint)
        self.config: T5Config = dataclasses.replace(config, dropout_rate=dropout_rate, dtype=dtype)
        self.method = method.resolve(labels, input_vocabulary.encode)
        self._num_decodes = num_decodes
        arrays = weights.open_arrays(weights.find(model, checkpoint))
        self._embedding = jnp.asarray(arrays[EMBEDDING].read())
        super().__init__(
            module=T5(self.config),
            input_vocabulary=input_vocabulary,
            output_vocabulary=output_vocabulary,
            optimizer_def=optimizer_def,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            loss_normalizing_factor=loss_normalizing_factor,
        )

    def get_initial_variables(
        self,
        rng: jax.Array,
        input_shapes: Mapping[str, Any],
        input_types: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns random frozen weights, the method's own start, and the names of all axes.

        Initial values that are embeddings of words are those of the checkpoint.
        """
        del input_shapes, input_types
        leaves = trees.flatten(init_weights(self.config, rng))
        base = trees.unflatten({**leaves, EMBEDDING: self._embedding})
        own = self.method.init(rng, base).get("params", {})
        for name, leaf in trees.flatten(own).items():
            leaves[_name(name)] = leaf.astype(jnp.float32)
        axes = {f"{name}_axes": _axes(name, leaf.ndim) for name, leaf in leaves.items()}
        variables = {"params": trees.unflatten(leaves), "params_axes": trees.unflatten(axes)}
        return flax.core.freeze(variables)

    def _compute_logits(
        self, params: Tree, batch: Mapping[str, Array], dropout_rng: jax.Array | None = None
    ) -> jax.Array:
        weights, injection = self._split(params)
        rngs = {} if dropout_rng is None else {"dropout": dropout_rng}
        return self.module.apply(
            {"params": weights},
            self._rows(batch),
            injection,
            use_dropout=dropout_rng is not None and self.config.dropout_rate > 0,
            rngs=rngs,
        )

    def predict_batch_with_aux(
        self,
        params: Tree,
        batch: Mapping[str, Array],
        rng: Array | None = None,
        num_decodes: int | None = None,
        return_all_decodes: bool = False,
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """Returns the answers that T5X's beam search finds, and their scores.

        Args:
          params: of frozen model and method.
          batch: features of T5X.
          rng: not used; the search draws nothing.
          num_decodes: beams; None for those of the model.
          return_all_decodes: whether all beams are returned, the best one last.

        Returns:
          ids `[B, M]`, or `[B, beams, M]`, and a dict with "scores".
        """
        del rng
        weights, injection = self._split(params)
        ids_BWM, scores_BW = decoding.beam_search(
            self.module,
            weights,
            self._rows(batch),
            injection,
            batch["decoder_input_tokens"].shape[1],
            num_decodes or self._num_decodes,
            _LENGTH_PENALTY,
        )
        if return_all_decodes:
            return ids_BWM[:, ::-1], {"scores": scores_BW[:, ::-1]}
        return ids_BWM[:, 0], {"scores": scores_BW[:, 0]}

    def score_batch(
        self, params: Tree, batch: Mapping[str, Array], return_intermediates: bool = False
    ) -> jax.Array:
        """Returns the log-probability of the targets of each example, `[B]`.

        Raises:
          ValueError: intermediates are asked for, which the network does not keep.
        """
        if return_intermediates:
            raise ValueError("return_intermediates is True, and spjax's T5 keeps none.")
        logits_BMV = self._compute_logits(params, batch)
        losses_BM = token_losses(logits_BMV, batch["decoder_target_tokens"])
        return -jnp.sum(losses_BM * batch["decoder_loss_weights"], axis=-1)

    def _split(self, params: Tree) -> tuple[Tree, Any]:
        """Returns the weights to run with and the soft tokens."""
        leaves = trees.flatten(params)
        own = {
            key: leaf for key, leaf in leaves.items() if key == _PROMPT or key.startswith(_METHOD)
        }
        base = trees.unflatten({key: leaf for key, leaf in leaves.items() if key not in own})
        trainable = {
            "prompt" if key == _PROMPT else key.removeprefix(_METHOD): leaf[None]
            for key, leaf in own.items()
        }
        return apply_gang([self.method], [trees.unflatten(trainable)], base)

    def _rows(self, batch: Mapping[str, Array]) -> Batch:
        """Returns rows of one example each, with slots in front."""
        inputs_BL, targets_BM = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
        rows, length = inputs_BL.shape[0], self.method.prompt_length
        slots_P = jnp.arange(length, dtype=jnp.int32)
        in_front = ((0, 0), (length, 0))
        one = jnp.zeros((rows, 1), jnp.int32)
        return Batch(
            inputs_BL=jnp.pad(inputs_BL, in_front),
            slots_BL=jnp.concatenate(
                [jnp.broadcast_to(slots_P, (rows, length)), jnp.full_like(inputs_BL, -1)], axis=1
            ),
            input_segments_BL=jnp.pad(
                (inputs_BL > 0).astype(jnp.int32), in_front, constant_values=1
            ),
            targets_BM=targets_BM,
            target_segments_BM=jnp.ones_like(targets_BM),
            runs_BG=one,
            tasks_BG=one,
        )


def _axes(name: str, rank: int) -> flax_partitioning.AxisMetadata:
    """Returns the names of a parameter's axes; a method's own parameters are on every device.

    Raises:
      ValueError: the method has a parameter that T5X's Adafactor has no rule for.
    """
    if name != _PROMPT and not name.startswith(_METHOD):
        return flax_partitioning.AxisMetadata(partitioning.logical_axes(name, rank))
    if rank > len(_REPLICATED):
        raise ValueError(
            f"{name} has {rank} dimensions, and T5X's Adafactor takes matrices; use the method's "
            "variant with a network, such as PrefixTuning.hidden = 512."
        )
    return flax_partitioning.AxisMetadata(_REPLICATED[:rank])


def _name(name: str) -> str:
    return _PROMPT if name == "prompt" else f"{_METHOD}{name}"
