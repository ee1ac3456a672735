"""The pieces of a training loop: a frozen model with a method attached, as pure functions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from spjax import partitioning, validation
from spjax.api.messages import python_messages
from spjax.api.models import load_model, run_settings
from spjax.api.tasks import load_task
from spjax.api.training import check_method
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.prompts import run_prompts
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.data.batching import batching, slots
from spjax.data.token_cache.cache import CachedSplit
from spjax.data.token_cache.cache_files import Ragged
from spjax.inference import evaluation
from spjax.injection import Injection
from spjax.methods.base import Method, apply_gang, init_trainable
from spjax.models import T5
from spjax.models.decoding import greedy
from spjax.training import losses, result, trainer
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run
from spjax.training.run_data import RunData
from spjax.types import Batch, Tree

_INPUT_LENGTH, _TARGET_LENGTH = 512, 64  # tokens, where no task says
_SETTINGS = ("input_length", "target_length", "row_length")  # of `Run`
_LEAST_ROOM = 16  # tokens; batches of texts are padded to this times a power of two


class BatchIterator:
    """An endless iterator of training batches whose position can be saved.

    `get_state` and `set_state` are those of Grain's iterators: a state is a small dictionary fit
    for JSON, to be kept beside the trainable parameters.
    """

    def __init__(self, iterator: grain.DatasetIterator, placement: partitioning.Placement) -> None:
        self._iterator, self._placement = iterator, placement

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Batch:
        return self._placement.put_batch(Batch(**next(self._iterator)))

    def get_state(self) -> dict[str, Any]:
        """Returns the position: the next batch is the first that is not yielded yet."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a position of an iterator with the same task, batch size and seed."""
        self._iterator.set_state(state)


class TunedModel:
    """A frozen model with a tuning method attached, for a training loop of one's own.

    `loss_fn`, `logits` and `generate` are pure functions of the trainable parameters, the frozen
    weights (`model.weights`) and a batch: they can be jitted, differentiated with respect to their
    first argument and used with any optax optimizer.

    Attributes:
      model: the frozen model.
      method: with initial values that depend on task and vocabulary filled in.
      task: from `load_task`; None without.
    """

    def __init__(
        self,
        model: FrozenModel | str,
        method: Method,
        data: Any = None,
        *,
        z_loss: float = 0.0,
        label_smoothing: float = 0.0,
        loss_normalizing_factor: float | str | None = None,
        dropout_rate: float = 0.0,
        remat: bool = False,
        **settings: Any,
    ) -> None:
        """Attaches a method to a model.

        Args:
          model: from `load_model`, or what it takes.
          method: an object of one of the classes in `spjax.methods`.
          data: from `load_task`, or what it takes; None for batches of the caller's own texts.
            Label words for an initializer come from it.
          z_loss: weight of log(Z)^2 in the loss.
          label_smoothing: share of the target probability spread over all other tokens.
          loss_normalizing_factor: None (sum over target tokens), a number, or a name T5X knows.
          dropout_rate: of the frozen model; `loss_fn` then needs a key.
          remat: whether layers are computed again in the backward pass, to save memory.
          **settings: further fields of `Run` that shape the batches of `data`: `input_length`,
            `target_length`, `row_length`.

        Raises:
          ValueError: the method has nothing to train, or data or settings cannot be used.
        """
        check_method(method)
        if not method.trained:
            raise ValueError(f"{type(method).__name__} has nothing to train; use spjax.train.")
        _check_settings(settings)
        losses.check_settings("", z_loss, label_smoothing, loss_normalizing_factor)
        validation.number("dropout_rate", dropout_rate, 0, 1, below=True)
        self.model = model if isinstance(model, FrozenModel) else load_model(model)
        if self.model.dtype == "int8" and method.changes_weights:
            raise ValueError(
                f"{type(method).__name__} changes the weights, and the model's dtype is 'int8', "
                "which has no gradient. Load it with dtype='float32' or 'bfloat16'."
            )
        self.task = None if data is None else load_task(data)
        self._run: Run | None = None
        self._data: RunData | None = None
        with python_messages():
            if self.task is not None:
                settings |= {"dropout_rate": dropout_rate, **run_settings(self.model)}
                self._run = Run(self.task.source, method=method, optimizer=Adafactor(), **settings)
                self._data = RunData(self._run)
                self.method = self._data.method
            else:
                self.method = method.resolve((), self.model.vocabulary.encode)
        placement = self.model.placement
        self._constrain = None if placement.is_single_device else placement.constrain
        config = dataclasses.replace(self.model.config, dropout_rate=dropout_rate)
        self._network = T5(partitioning.for_devices(config), remat, self._constrain)
        self._step_config = trainer.StepConfig(
            model=self._network.config,
            methods=(self.method.without_initializer(),),
            z_loss=z_loss,
            label_smoothing=label_smoothing,
            loss_normalizing_factor=loss_normalizing_factor,
            remat=remat,
            placement=placement,
        )
        self._generate = jax.jit(self.generate, static_argnums=3)
        known = {"inputs": _INPUT_LENGTH, "targets": _TARGET_LENGTH}
        lengths = known if self.task is None else self.task.mixture.lengths
        self._lengths = {
            "inputs": settings.get("input_length") or lengths["inputs"],
            "targets": settings.get("target_length") or lengths["targets"],
        }

    def init(self, seed: int = 0) -> Tree:
        """Returns the initial trainable parameters, float32, placed on the model's mesh.

        Args:
          seed: of the random draws.
        """
        return self._place(init_trainable(self.method, self.model.weights, seed))

    def _place(self, trainable: Tree) -> Tree:
        stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), trainable)
        wanted = self.model.placement.of_single_run(stacked, self.model.weights)
        return jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), trainable, wanted)

    def loss_fn(
        self, trainable: Tree, base: Tree, batch: Batch, rng: jax.Array | None = None
    ) -> jax.Array:
        """Returns the loss of a batch, a float32 scalar.

        By default it is the sum over target tokens, as in T5X; `loss_normalizing_factor` changes
        that.

        Args:
          trainable: parameters of the method; gradients are taken of these.
          base: the frozen weights.
          batch: from `batch` or `batches`.
          rng: a key for dropout.

        Raises:
          ValueError: there is dropout and no key.
        """
        use_dropout: bool = self._network.config.dropout_rate > 0
        if use_dropout and rng is None:
            raise ValueError(
                f"dropout_rate is {self._network.config.dropout_rate}, so loss_fn needs a key: "
                "loss_fn(trainable, base, batch, jax.random.key(step))."
            )
        config = self._step_config
        divisor = losses.total(batch.target_segments_BM, config.loss_normalizing_factor)
        totals_N = jnp.asarray([divisor], jnp.float32)
        stacked = jax.tree.map(lambda x: x[None], trainable)
        inputs = trainer.model_inputs(config, (stacked,), base)
        key = jax.random.key(0) if rng is None else rng  # not used without dropout
        return trainer.gang_losses(config, inputs, base, batch, totals_N, key)[0]

    def logits(self, trainable: Tree, base: Tree, batch: Batch) -> jax.Array:
        """Returns teacher-forced logits_BMV, float32."""
        weights, injection = self._apply(trainable, base)
        logits_BMV: Any = self._network.apply({"params": weights}, batch, injection)
        return logits_BMV

    def generate(
        self, trainable: Tree, base: Tree, batch: Batch, max_length: int = _TARGET_LENGTH
    ) -> jax.Array:
        """Returns greedily decoded ids_BM, int32, 0 after EOS.

        Args:
          trainable: parameters of the method.
          base: the frozen weights.
          batch: its targets are not looked at.
          max_length: most tokens to write, EOS included; a static number under `jax.jit`.
        """
        weights, injection = self._apply(trainable, base)
        return greedy(self._network, weights, batch, injection, max_length)

    def predict(
        self, trainable: Tree, texts: Sequence[str], max_length: int = 0, batch_size: int = 64
    ) -> list[str]:
        """Returns the greedy answer to each text.

        Args:
          trainable: parameters of the method.
          texts: inputs.
          max_length: most tokens of an answer; 0 for the task's, or 64.
          batch_size: texts that are answered at once.

        Raises:
          ValueError: the batch size is not positive.
        """
        validation.whole("batch_size", batch_size, 1, validation.MOST_EXAMPLES)
        length = max_length or self._lengths["targets"]
        answers: list[str] = []
        for start in range(0, len(texts), batch_size):
            batch = self.batch(texts[start : start + batch_size])
            ids_BM = self._generate(trainable, self.model.weights, batch, length)
            answers += [self.model.vocabulary.decode(ids) for ids in np.asarray(ids_BM).tolist()]
        return answers

    def batch(self, inputs: Sequence[str], targets: Sequence[str] = ()) -> Batch:
        """Tokenizes texts into one batch on the model's mesh.

        Args:
          inputs: texts; cut to the task's length, or 512 tokens.
          targets: as many texts; () for none, as `generate` needs none.

        Raises:
          ValueError: there are no inputs, or another number of targets.
        """
        if isinstance(inputs, str) or not len(inputs):
            raise ValueError(f"inputs is {inputs!r}; give a list of at least one text.")
        if len(targets) not in (0, len(inputs)) or isinstance(targets, str):
            raise ValueError(
                f"there are {len(inputs)} inputs and {len(targets)} targets; give one target for "
                "each input, or none."
            )
        inputs_ids = [self._encode(text) for text in inputs]
        targets_ids = [self._encode_target(text) for text in targets or [""] * len(inputs)]
        split = CachedSplit("", "", Path(), {}, _ragged(inputs_ids), _ragged(targets_ids))
        layout = batching.Layout(
            self.method.prompt_length,
            self.method.insertion,
            _room(max(sum(token >= 0 for token in ids) for ids in inputs_ids)),
            _room(max(map(len, targets_ids)), 4),
        )
        rows = batching.rows(split, np.arange(len(inputs)), layout)
        return self.model.placement.put_batch(Batch(**rows))

    def batches(self, batch_size: int = 32, seed: int = 0) -> BatchIterator:
        """Returns endless training batches of the task, shuffled anew in every epoch.

        These are the batches that `spjax.train` trains on with the same seed.

        Args:
          batch_size: examples in a batch.
          seed: of the order.

        Raises:
          ValueError: there is no task, or the batch size is out of range.
        """
        if self._run is None:
            raise ValueError(
                "there is no task to read batches from; give data= to spjax.TunedModel, or make "
                "batches of your own texts with `batch`."
            )
        with python_messages():
            run = dataclasses.replace(self._run, batch_size=batch_size, seed=seed)
            iterator = RunData(run).batches()
        return BatchIterator(iterator, self.model.placement)

    def evaluate(self, trainable: Tree, split: str = "", batch_size: int = 32) -> dict[str, float]:
        """Scores the greedy answers to a split of the task, as `spjax.train` does.

        Args:
          trainable: parameters of the method.
          split: "train", "validation" or "test"; "" for the one that is reported.
          batch_size: examples that are answered at once.

        Returns:
          Metrics in percent, and `score`.

        Raises:
          ValueError: there is no task, or it has no such split with known targets.
        """
        if self._data is None:
            raise ValueError(
                "there is no task to score on; give data= to spjax.TunedModel, or compare the "
                "answers of `predict` with targets of your own."
            )
        data = self._data
        answer = functools.partial(
            evaluation.predict,
            self._network.config,
            self.method.without_initializer(),
            trainable,
            self.model.weights,
            data.vocabulary,
            data.eval_layout,
            batch_size,
            0,  # greedy
        )
        return data.score(split or data.final, answer)

    def prompt(self, trainable: Tree) -> Prompt:
        """Returns what inference needs of trained parameters, for `save_prompt`.

        Raises:
          ValueError: the method changes all weights, or has a prompt for each of several tasks.
        """
        arrays = jax.device_get(self.method.collapse(trainable, self.model.weights))
        tensors = {name: np.asarray(x) for name, x in arrays.items()}
        if not tensors or "prompt" in tensors and tensors["prompt"].ndim > 2:
            raise ValueError(
                f"{type(self.method).__name__} leaves no single prompt or adapter to save; its "
                "trainable parameters are all there is."
            )
        method = self.method.without_initializer()
        _, soft = jax.eval_shape(method.apply, {"params": trainable}, self.model.weights)
        facts = {
            "model": self.model.name,
            "base_sha256": self.model.digest,
            "vocabulary_sha256": self.model.vocabulary.fingerprint,
            **result.prompt_facts(self.method, soft, self._data.fields if self._data else ()),
            "task": self.task.name if self.task else None,
        }
        return Prompt(tensors, run_prompts.provenance(facts, "", self.model.checkpoint))

    def _apply(self, trainable: Tree, base: Tree) -> tuple[Tree, Injection | None]:
        stacked = jax.tree.map(lambda x: x[None], trainable)
        return apply_gang([self.method.without_initializer()], [stacked], base)

    def _encode(self, text: str) -> list[int]:
        max_length, vocabulary = self._lengths["inputs"], self.model.vocabulary
        if slots.is_template(template := self.method.insertion):
            fields = self._data.fields if self._data else ()
            return slots.insert_slots_in_text(text, template, fields, vocabulary, max_length)[0]
        return [*vocabulary.encode(text)[: max_length - 1], vocabulary.eos_id]

    def _encode_target(self, text: str) -> list[int]:
        vocabulary = self.model.vocabulary
        sentinel = self.task is not None and self.task.mixture.trained[0].sentinel
        return [
            *vocabulary.encode_target(text, sentinel)[: self._lengths["targets"] - 1],
            vocabulary.eos_id,
        ]


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name not in _SETTINGS:
            raise ValueError(
                f"spjax.TunedModel has no setting {name!r}; beside its named arguments it takes "
                f"{', '.join(_SETTINGS)}."
            )


def _ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    values = np.concatenate([np.asarray(ids, np.int32) for ids in rows])
    return Ragged(values, np.cumsum([0, *map(len, rows)]))


def _room(length: int, least: int = _LEAST_ROOM) -> int:
    """The smallest power of two times `least` that holds a length, for few compilations."""
    while least < length:
        least *= 2
    return least
