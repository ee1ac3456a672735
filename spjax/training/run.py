"""A run: everything that decides the numbers of one training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from spjax import methods, partitioning, validation
from spjax.checkpoints import frozen_model, model_vocabulary, remote
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.checkpoints.weights import weights
from spjax.data.tasks import file_task, registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import Mixture
from spjax.files import expanded
from spjax.methods.base import Method
from spjax.models import decoding, fused, quantization
from spjax.training import losses, trackers
from spjax.training.optimizers import Adafactor, Optimizer
from spjax.training.waywardness import Waywardness, target_of
from spjax.vocabularies import vocabulary

# Smallest and largest value of the settings that are whole numbers.
_WHOLE_NUMBERS = {
    (1, validation.MOST_STEPS): ("steps", "eval_period"),
    (0, validation.MOST_STEPS): (
        "log_period",
        "patience",
        "checkpoint_period",
        "eval_examples",
    ),
    (1, validation.MOST_EXAMPLES): (
        "batch_size",
        "eval_batch_size",
        "microbatches",
        "num_partitions",
    ),
    (1, validation.MOST_POSITIONS): ("row_length",),
    (0, validation.MOST_POSITIONS): ("input_length", "target_length"),
    (0, validation.MOST_SEED): ("seed", "eval_seed"),
    (0, decoding.MOST_BEAMS): ("num_beams",),
}
_PRE_TRAINING = 100_000  # a decay offset of so many steps stands for those of pre-training


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one method on one task; gin binds it as `Run.steps = 300`.

    Attributes:
      task: name of a task or mixture, `@FileTask()` for one of your own, or the path of its file.
      model: name of a size, or "auto" for the shape of what `checkpoint` holds.
      method: an object of one of the classes in `spjax.methods`.
      optimizer: `@Adafactor()` or `@AdamW()`.
      checkpoint: weights of the frozen model; "" for those that ship with the pocket sizes.
      restore_optimizer: whether full fine-tuning starts with the second moments and the step that
        Adafactor had in pre-training, from a T5X `checkpoint`, as T5X itself does.
      vocabulary: name or path of the model's vocabulary; "" for what the checkpoint says
        (`spiece.model` beside the weights, else T5's or the pocket edition's by their size).
      steps: updates.
      batch_size: examples in an update.
      eval_period: steps between evaluations on the validation set.
      log_period: steps between rows of loss, learning rate, gradient norm, speed and padding (T5X's
        `stats_period`); 0 for at checkpoints and evaluations only, where there is always one.
      trackers: names of files in `spjax/training/trackers/`, which are told what is logged.
      patience: evaluations without a gain before the run stops early; 0 for never.
      stop_below: pairs of a step and a score: the run is pruned at the evaluation of that step if
        its best validation score is below. Filled in by searches (`spjax.studies.search`).
      checkpoint_period: steps between resumable checkpoints; 0 for at every evaluation only.
      seed: of initial values, data order and dropout.
      dropout_rate: of the frozen model while training.
      z_loss: weight of log(Z)^2 in the loss.
      label_smoothing: share of the target probability spread over all other tokens.
      loss_normalizing_factor: None (sum over target tokens), a number, or a name T5X knows.
      input_length: most tokens of input text, EOS included; 0 for the task's.
      target_length: most tokens of target, EOS included; 0 for the task's.
      row_length: most positions of an encoder row, prompt and text together.
      eval_batch_size: examples decoded at a time.
      eval_examples: most validation examples of each task to score at each evaluation, drawn so
        that every target keeps its share; 0 for all. What is reported is of all.
      eval_seed: of that draw.
      eval_truncation: whether texts are cut to `input_length` and `target_length` in evaluations
        too. T5X does not cut them there (`infer_eval/utils.DatasetConfig.task_feature_lengths`).
      num_beams: beams of T5X's beam search in evaluations, with its length penalty of 0.6; 0 for
        greedy decoding. T5X's own default is 1, which is not quite greedy.
      weights_dtype: of the frozen weights in memory: "float32", "bfloat16" or "int8".
      num_partitions: devices along the mesh axis `model`; the rest are along `data`.
      logical_axis_rules: "data_parallel", "tensor_parallel", "fsdp", or pairs of a logical axis
        and a mesh axis.
      microbatches: parts in which an update's examples are gone through, to save memory.
      remat: whether layers are computed again in the backward pass, to save memory.
      attention: "xla", or "cudnn" on NVIDIA GPUs (see docs/speed.md), for methods that leave the
        weights alone, without dropout.
      waywardness: `@Waywardness()` pulls the prompt to the words of a text; None leaves it free.
      contents: pairs of a path that the run reads (a prompt to start from, weights) and the SHA-256
        of what stood there when the run was configured. Filled in, and so written to `config.gin`.
    """

    task: str | FileTask
    model: str
    method: Method
    optimizer: Optimizer
    checkpoint: str = ""
    restore_optimizer: bool = False
    vocabulary: str = ""
    steps: int = 30_000
    batch_size: int = 32
    eval_period: int = 1000
    log_period: int = 100
    trackers: Sequence[str] = ("tensorboard",)
    patience: int = 0
    stop_below: Sequence[tuple[int, float]] = ()
    checkpoint_period: int = 0
    seed: int = 0
    dropout_rate: float = 0.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    loss_normalizing_factor: float | str | None = None
    input_length: int = 0
    target_length: int = 0
    row_length: int = 1024
    eval_batch_size: int = 64
    eval_examples: int = 0
    eval_seed: int = 0
    eval_truncation: bool = True
    num_beams: int = 0
    weights_dtype: str = "float32"
    num_partitions: int = 1
    logical_axis_rules: Any = "data_parallel"
    microbatches: int = 1
    remat: bool = False
    attention: str = "xla"
    waywardness: Waywardness | None = None
    contents: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        """Checks names and ranges, so that a study fails before it trains anything."""
        validation.texts(self)
        object.__setattr__(self, "checkpoint", expanded(self.checkpoint))
        if not isinstance(self.task, (str, FileTask)):
            raise ValueError(
                f"Run.task is {self.task!r}; give the name of a task or mixture, the path of a "
                "file, or bind @FileTask()."
            )
        if isinstance(self.task, str) and file_task.is_path(self.task):
            object.__setattr__(self, "task", file_task.of(self.task))
        registry.mixture(self.task)
        weights.check_model(self.model, self.checkpoint)
        quantization.check_dtype(self.weights_dtype)
        object.__setattr__(self, "vocabulary", expanded(self.vocabulary))
        if not isinstance(self.method, Method):
            known = (f"@{methods.get(name).__name__}()" for name in methods.names())
            raise ValueError(
                f"Run.method is {self.method!r}; bind a method: one of {', '.join(known)}."
            )
        if not isinstance(self.optimizer, Optimizer):
            raise ValueError(
                f"Run.optimizer is {self.optimizer!r}; bind one, for example @Adafactor()."
            )
        if self.weights_dtype == "int8" and self.method.changes_weights:
            raise ValueError(
                f"{self.method_name} changes the weights, and Run.weights_dtype is 'int8', which "
                "has no gradient. Use 'float32' or 'bfloat16', or tune a prompt."
            )
        for limits, names in _WHOLE_NUMBERS.items():
            for name in names:
                validation.whole(f"Run.{name}", getattr(self, name), *limits)
        for name in ("remat", "eval_truncation", "restore_optimizer"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"Run.{name} is {value!r}; it must be True or False.")
        validation.number("Run.dropout_rate", self.dropout_rate, 0, 1, below=True)
        factor = self.loss_normalizing_factor
        losses.check_settings("Run.", self.z_loss, self.label_smoothing, factor)
        self._check_trackers()
        self._check_steps()
        self._check_restored()
        if self.method.prompt_length >= self.row_length:
            raise ValueError(
                f"a prompt of {self.method.prompt_length} is longer than the row allows: "
                f"Run.row_length is {self.row_length}. Use a shorter prompt or longer rows."
            )
        self._check_mesh()
        target_of(self)
        object.__setattr__(self, "contents", self._contents())

    def _check_trackers(self) -> None:
        """Refuses unknown trackers; their packages are only needed where the run is trained."""
        chosen = self.trackers
        if not isinstance(chosen, (list, tuple)) or len({*map(repr, chosen)}) < len(chosen):
            raise ValueError(
                f"Run.trackers is {chosen!r}; give a list of different names out of: "
                f"{', '.join(trackers.names())}."
            )
        for name in chosen:
            trackers.get(name)
        object.__setattr__(self, "trackers", tuple(chosen))

    def _check_steps(self) -> None:
        """Refuses steps that count those of pre-training, as T5X does."""
        before = -getattr(self.optimizer, "decay_offset", 0)
        if before >= _PRE_TRAINING and self.steps >= before:
            raise ValueError(
                f"TRAIN_STEPS is {self.steps:,}, and Adafactor.decay_offset {-before:,}: T5X "
                f"counts the {before:,} steps of pre-training in TRAIN_STEPS, spjax the updates of "
                f"this run alone. Give TRAIN_STEPS = {max(self.steps - before, 1)}."
            )

    def _check_restored(self) -> None:
        """Refuses to restore an optimizer that the run has not."""
        if not self.restore_optimizer:
            return
        if self.method_name != methods.PAPER_FULL or not self.checkpoint:
            raise ValueError(
                "Run.restore_optimizer is True, which is for full fine-tuning of a checkpoint that "
                f"T5X wrote; the method is {self.method_name} and INITIAL_CHECKPOINT_PATH "
                f"{self.checkpoint!r}. Give both, or leave it False."
            )
        if not isinstance(self.optimizer, Adafactor) or self.optimizer.decay_offset:
            raise ValueError(
                "Run.restore_optimizer is True, which is for Adafactor with a decay_offset of 0, "
                "since the checkpoint says from which step the second moment decays; the optimizer "
                f"is {self.optimizer}."
            )

    def _contents(self) -> tuple[tuple[str, str], ...]:
        """The digests that were given, and those of the other paths as they are now."""
        known = dict(self.contents)
        digests = {path: known.get(path) or read() for path, read in self._readers().items()}
        return tuple(sorted((path, digest) for path, digest in digests.items() if digest))

    def _readers(self) -> dict[str, Callable[[], str]]:
        """Gives the digest of what stands at each path now, "" where nothing can be read."""
        readers: dict[str, Callable[[], str]] = {
            path: functools.partial(self.method.digest_of, path) for path in self.method.paths
        }
        if self.checkpoint and not remote.is_url(self.checkpoint):
            readers[self.checkpoint] = functools.partial(
                weights.fingerprint, self.model, self.checkpoint
            )
        if self.vocabulary and self.vocabulary not in vocabulary.SHIPPED:
            readers[self.vocabulary] = functools.partial(vocabulary.fingerprint, self.vocabulary)
        return readers

    def check_contents(self) -> None:
        """Compares the files that the run reads with those it was configured for.

        Raises:
          ValueError: the content behind a path has changed.
        """
        readers = self._readers()
        for path, digest in self.contents:
            now = readers[path]()
            if now and now != digest:
                raise ValueError(
                    f"{path} has changed since the run was configured: its SHA-256 is {now[:12]} "
                    f"and was {digest[:12]}. Put the old content back, or train a new run with "
                    "another MODEL_DIR."
                )

    def _check_mesh(self) -> None:
        partitioning.check(self.num_partitions, self.logical_axis_rules)
        if self.batch_size % self.microbatches:
            raise ValueError(
                f"Run.microbatches is {self.microbatches}, which does not divide BATCH_SIZE "
                f"({self.batch_size}). Use a divisor."
            )
        if self.attention not in fused.KINDS:
            raise ValueError(
                f"Run.attention is {self.attention!r}; use one of {', '.join(fused.KINDS)}."
            )
        if self.attention == "cudnn" and self.method.changes_weights:
            raise ValueError(
                "Run.attention is 'cudnn', which has no gradient of the relative bias, and "
                f"{self.method_name} changes the weights. Use 'xla'."
            )
        if self.attention == "cudnn" and self.dropout_rate:
            raise ValueError(
                "Run.attention is 'cudnn', which drops no attention weights, and DROPOUT_RATE is "
                f"{self.dropout_rate}. Use 'xla' or no dropout."
            )

    @property
    def resolved_vocabulary(self) -> str:
        """Name or path of the vocabulary that belongs to the model.

        Raises:
          ValueError: the checkpoint does not say, or what it says does not agree.
        """
        return self.vocabulary or model_vocabulary.of(self.model, self.checkpoint)

    @property
    def mixture(self) -> Mixture:
        """The task or mixture of tasks that the run trains on."""
        return registry.mixture(self.task)

    def open_model(self) -> FrozenModel:
        """Opens the frozen model, which is kept in memory for the next runs.

        Methods that change weights have parameters, and statistics of the optimizer, for each layer
        of its own, so that their numbers are the same on all devices; programs that loop over the
        layers stack them.
        """
        return frozen_model.open_shared(
            self.model,
            self.checkpoint,
            vocabulary=self.vocabulary,
            dtype=self.weights_dtype,
            num_partitions=self.num_partitions,
            logical_axis_rules=self.logical_axis_rules,
            unrolled=self.method.changes_weights,
        )

    @property
    def without_identity(self) -> frozenset[str]:
        """Settings that change only where and in what order the same numbers are computed.

        Dropout masks are drawn for each microbatch, so with dropout these change the numbers. A
        penalty that is not there decides nothing either, nor do a vocabulary that is the
        checkpoint's, the seed of a draw that takes all, and files where none is read. Settings that
        came later are left out at their defaults, so that runs keep their keys.
        """
        names = {"num_partitions", "logical_axis_rules", "microbatches", "remat", "attention"}
        names |= {"log_period", "trackers"}
        names |= {"waywardness"} if self.waywardness is None else set()
        names |= {"vocabulary"} if not self.vocabulary else set()
        names |= set() if self.eval_examples else {"eval_seed"}
        names |= set() if self.contents else {"contents"}
        names |= set() if self.restore_optimizer else {"restore_optimizer"}
        names |= {"eval_truncation"} if self.eval_truncation else set()
        names |= set() if self.num_beams else {"num_beams"}
        names |= set() if self.stop_below else {"stop_below"}
        return frozenset(names - {"microbatches"} if self.dropout_rate else names)

    @property
    def method_name(self) -> str:
        """Registered name of the method."""
        return methods.name_of(self.method)
