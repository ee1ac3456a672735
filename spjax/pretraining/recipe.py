"""The recipe of a pre-training run or LM adaptation."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from spjax import partitioning, validation
from spjax.checkpoints import remote
from spjax.checkpoints.weights import weights
from spjax.files import expanded
from spjax.models import T5Config
from spjax.pretraining import span_corruption
from spjax.vocabularies.vocabulary import load_vocabulary

DECAYS = ("linear", "rsqrt")
# Smallest and largest value of the settings that are whole numbers.
_WHOLE_NUMBERS = {
    (1, validation.MOST_STEPS): ("documents", "lesson_documents", "checkpoint_period"),
    (0, validation.MOST_STEPS): (
        "span_steps",
        "adaptation_steps",
        "long_steps",
        "long_every",
        "steps_before",
        "warmup_steps",
    ),
    (1, validation.MOST_EXAMPLES): ("rows", "microbatches", "num_partitions"),
    (1, validation.MOST_POSITIONS): ("target_length", "long_length"),
    (2, validation.MOST_POSITIONS): ("input_length",),
    (0, validation.MOST_SEED): ("seed",),
}


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Everything that decides the numbers of a pre-training run.

    Attributes:
      model: name of a size, or "auto" for the shape of what `checkpoint` holds.
      corpus: name or folder of a tokenized corpus (`spjax cache`); "" for a generated world, which
        alone has long rows: the one whose vocabulary the model has.
      checkpoint: weights to start from, in any format; "" for random ones.
      vocabulary: name or path of the corpus's; "" for the file beside `checkpoint`.
      keep: steps after which the weights are kept, beside the last ones.
      documents: how many documents of the world to generate; they are gone through again
        when used up.
      span_steps: steps of span corruption.
      lesson_steps: steps of each lesson, with which prefix LM begins.
      lesson_documents: how many documents to generate for each lesson.
      adaptation_steps: steps of prefix LM, lessons included.
      long_steps: steps of prefix LM after that, with up to `long_length - input_length` words
        before each text; the rate begins at a quarter of `learning_rate` and falls.
      long_every: every so many steps of prefix LM one is of long rows as well; 0 for none.
      long_length: L of these steps; there are fewer rows, for about as many tokens in a batch.
      rows: rows in a batch.
      input_length: L, tokens.
      target_length: M, tokens.
      learning_rate: Adafactor's, in proportion to the size of each parameter, after a warm-up and
        until the decay.
      decay: "linear", or "rsqrt" for `learning_rate / sqrt(step)`, T5X's `constant *
        rsqrt_decay`, where the step counts from `steps_before` and is at least `warmup_steps`.
      steps_before: steps that the checkpoint has seen, for "rsqrt".
      warmup_steps: linear, from 0; with "rsqrt" the rate is constant in them.
      decay_fraction: last share of the steps, in which a "linear" rate falls to a 50th.
      seed: of the initial weights, the documents and the corruption.
      checkpoint_period: steps between two resumable checkpoints.
      num_partitions: devices along the mesh axis `model`; the rest are along `data`.
      logical_axis_rules: as `Run.logical_axis_rules`.
      microbatches: parts in which a batch is gone through, to save memory.
      remat: whether layers are computed again in the backward pass, to save memory.
      contents: as `Run.contents`.
    """

    model: str
    corpus: str = ""
    checkpoint: str = ""
    vocabulary: str = ""
    keep: tuple[int, ...] = ()
    documents: int = 400_000
    span_steps: int = 400
    lesson_steps: tuple[int, ...] = (900, 300, 300, 800)
    lesson_documents: int = 100_000
    adaptation_steps: int = 6500
    long_steps: int = 400
    long_every: int = 0
    long_length: int = 224
    rows: int = 32
    input_length: int = 64
    target_length: int = 16
    learning_rate: float = 0.02
    decay: str = "linear"
    steps_before: int = 0
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    seed: int = 0
    checkpoint_period: int = 500
    num_partitions: int = 1
    logical_axis_rules: Any = "data_parallel"
    microbatches: int = 1
    remat: bool = False
    contents: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        """Checks names and ranges before any text is generated."""
        for name in ("checkpoint", "vocabulary", "corpus"):
            object.__setattr__(self, name, expanded(getattr(self, name)))
        weights.check_model(self.model, self.checkpoint)
        _check_numbers(self)
        for name in ("lesson_steps", "keep"):  # gin gives lists too
            object.__setattr__(self, name, _steps_of(self, name))
        if self.decay not in DECAYS:
            raise ValueError(
                f"Pretrain.decay is {self.decay!r}; it must be one of {', '.join(DECAYS)}."
            )
        if self.rows % self.microbatches:
            raise ValueError(
                f"Pretrain.microbatches is {self.microbatches}, which does not divide "
                f"Pretrain.rows ({self.rows}). Use a divisor."
            )
        partitioning.check(self.num_partitions, self.logical_axis_rules)
        self._check_corpus() if self.corpus else self._check_world()
        object.__setattr__(self, "contents", _contents(self))

    def _check_corpus(self) -> None:
        if self.lesson_steps or self.long_steps or self.long_every:
            raise ValueError(
                "lessons and long rows are made of the pocket world's documents; with "
                f"Pretrain.corpus = {self.corpus!r} set Pretrain.lesson_steps = (), "
                "Pretrain.long_steps = 0 and Pretrain.long_every = 0."
            )
        needed = span_corruption.span_lengths(self.input_length)[1]
        if self.span_steps and self.target_length < needed:
            raise ValueError(
                f"Pretrain.target_length is {self.target_length}; span corruption of "
                f"{self.input_length} input tokens (Pretrain.input_length) needs {needed}."
            )

    def _check_world(self) -> None:
        if self.long_length <= self.input_length:
            raise ValueError(
                f"Pretrain.long_length is {self.long_length}; it must be more than "
                f"Pretrain.input_length ({self.input_length})."
            )
        if sum(self.lesson_steps) > self.adaptation_steps:
            raise ValueError(
                f"the lessons take {sum(self.lesson_steps)} steps (Pretrain.lesson_steps), more "
                f"than the {self.adaptation_steps} of Pretrain.adaptation_steps that hold them."
            )

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return self.span_steps + self.adaptation_steps + self.long_steps

    def stage(self, step: int) -> str:
        """Returns what a step is of: "span_corruption", "prefix_lm", or "long_lm" in long rows."""
        adapted = step - self.span_steps
        if adapted < 0:
            return "span_corruption"
        is_long = self.long_every and (adapted + 1) % self.long_every == 0
        return "long_lm" if is_long or adapted >= self.adaptation_steps else "prefix_lm"

    @property
    def world(self) -> str:
        """Returns the generated world, "pocket" or "graded", and so the name of its vocabulary."""
        is_graded = self.size().vocab_size == load_vocabulary("graded").size
        return "graded" if is_graded else "pocket"

    @property
    def without_identity(self) -> frozenset[str]:
        """Settings that change only where and in what order the same numbers are computed."""
        names = {"num_partitions", "logical_axis_rules", "microbatches", "remat"}
        return frozenset(names if self.contents else names | {"contents"})

    def size(self) -> T5Config:
        """Returns the configuration of the model."""
        return weights.config_of(self.model, self.checkpoint)

    def placement(self) -> partitioning.Placement:
        """Returns mesh and sharding rules.

        Raises:
          ValueError: they do not fit the devices.
        """
        return partitioning.make_placement(self.num_partitions, self.logical_axis_rules)

    def schedule(self) -> optax.Schedule:
        """Returns the learning rate by step: warm-up, constant, decay; then that of long rows."""
        if self.decay == "rsqrt":
            return self._rsqrt
        short = self.steps - self.long_steps
        decay, last = max(int(short * self.decay_fraction), 1), self.learning_rate / 50
        return optax.join_schedules(
            [
                optax.linear_schedule(0.0, self.learning_rate, self.warmup_steps),
                optax.constant_schedule(self.learning_rate),
                optax.linear_schedule(self.learning_rate, last, decay),
                optax.linear_schedule(self.learning_rate / 4, last, max(self.long_steps, 1)),
            ],
            [self.warmup_steps, short - decay, short],
        )

    def _rsqrt(self, step: Any) -> jax.Array:
        counted = jnp.asarray(step, jnp.float32) + self.steps_before
        return self.learning_rate / jnp.sqrt(jnp.maximum(counted, max(self.warmup_steps, 1)))

    def optimizer(self) -> optax.GradientTransformation:
        """Returns T5's Adafactor: steps in proportion to the size of each parameter.

        With steps of one size for all, as AdamW's, a rate that the kernels of the wider models bear
        is far too small for their embeddings, which are ten times larger.
        """
        return optax.adafactor(self.schedule(), decay_rate=0.8, clipping_threshold=1.0)


def _check_numbers(recipe: Pretrain) -> None:
    """Checks the kind and the range of single numbers.

    Raises:
      ValueError: one cannot be used; names it.
    """
    for limits, names in _WHOLE_NUMBERS.items():
        for name in names:
            validation.whole(f"Pretrain.{name}", getattr(recipe, name), *limits)
    rate, most = recipe.learning_rate, validation.MOST_RATE
    validation.number("Pretrain.learning_rate", rate, 0, most, above=True)
    validation.number("Pretrain.decay_fraction", recipe.decay_fraction, 0, 1)


def _steps_of(recipe: Pretrain, name: str) -> tuple[int, ...]:
    """The steps that a recipe lists under a name.

    Raises:
      ValueError: they are no list, or not all among the steps of the run.
    """
    values = getattr(recipe, name)
    if not isinstance(values, (list, tuple)) or not all(
        isinstance(value, numbers.Integral) and 0 <= int(value) <= recipe.steps for value in values
    ):
        raise ValueError(
            f"Pretrain.{name} is {values!r}; it must be a tuple such as (1,), of whole numbers "
            f"from 0 to {recipe.steps}, the steps of the run."
        )
    return tuple(values)


def _contents(recipe: Pretrain) -> tuple[tuple[str, str], ...]:
    """Paths that a recipe reads and the SHA-256 of what is there, or was when it was written."""
    known, readers = dict(recipe.contents), {}
    if recipe.checkpoint and not remote.is_url(recipe.checkpoint):
        readers[recipe.checkpoint] = lambda: weights.fingerprint(recipe.model, recipe.checkpoint)
    digests = {path: known.get(path) or read() for path, read in readers.items()}
    return tuple((path, digest) for path, digest in digests.items() if digest)
