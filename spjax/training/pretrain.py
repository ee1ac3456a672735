"""Pre-training by T5's recipe in miniature: span corruption, then LM adaptation (prefix LM).

Lester et al. 2021 adapt T5 1.1 for 10 % of its pre-training steps. Here the adaptation may be a
larger share (`adaptation_steps`); the weights after 0, 1, 5 and 10 % are kept beside the last ones.

Its first steps are lessons, documents of one simple kind alone, cut at the answer: attention to the
same word elsewhere and to its neighbours arises there in minutes, among all other documents hardly.

Its last steps put words in no order before the text. T5 has seen 512 positions and these rows have
64, so that without them a prompt of 100 would lie where no attention bias was ever trained.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from spjax.checkpoints import weights
from spjax.files import write_text
from spjax.models import T5, get_size
from spjax.models.t5 import init_weights
from spjax.training import denoising
from spjax.training.losses import token_losses
from spjax.types import Batch, Tree

KEPT_PERCENT = (0, 1, 5, 10)


class Documents(Protocol):
    """Tokenised documents, one after the other.

    Attributes:
      tokens: all tokens, int32.
      offsets: where each document starts, and the end; one more than there are documents.
      splits: sorted positions in `tokens` that leave a predictable rest when cut there.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    splits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """Everything that decides the numbers of a pre-training run.

    Attributes:
      model: name of a size.
      documents: how many documents to generate; they are gone through again when used up.
      span_steps: steps of span corruption.
      lesson_steps: steps of each lesson, with which prefix LM begins.
      lesson_documents: how many documents to generate for each lesson.
      adaptation_steps: steps of prefix LM, lessons included.
      long_steps: steps of prefix LM after that, with up to `long_length - input_length` words
        before each text; the rate begins at a quarter of `learning_rate` and falls.
      long_length: L of these steps; there are fewer rows, for about as many tokens in a batch.
      rows: rows in a batch.
      input_length: L, tokens.
      target_length: M, tokens.
      learning_rate: Adafactor's, in proportion to the size of each parameter, after a warm-up and
        until the decay.
      warmup_steps: linear, from 0.
      decay_fraction: last share of the steps, in which the rate falls linearly to a 50th.
      seed: of the initial weights, the documents and the corruption.
      checkpoint_period: steps between two resumable checkpoints.
    """

    model: str
    documents: int = 400_000
    span_steps: int = 400
    lesson_steps: tuple[int, ...] = (900, 300, 300, 800)
    lesson_documents: int = 100_000
    adaptation_steps: int = 6500
    long_steps: int = 400
    long_length: int = 224
    rows: int = 32
    input_length: int = 64
    target_length: int = 16
    learning_rate: float = 0.02
    warmup_steps: int = 100
    decay_fraction: float = 0.4
    seed: int = 0
    checkpoint_period: int = 500

    def __post_init__(self) -> None:
        """Checks names and ranges before any text is generated."""
        get_size(self.model)
        names = ("documents", "lesson_documents", "rows", "input_length", "target_length",
                 "checkpoint_period")  # fmt: skip
        for name in (*names, "span_steps", "adaptation_steps", "long_steps"):
            least = 1 if name in names else 0
            if getattr(self, name) < least:
                raise ValueError(
                    f"Pretrain.{name} is {getattr(self, name)}; it must be at least {least}."
                )
        object.__setattr__(self, "lesson_steps", tuple(self.lesson_steps))  # gin gives lists too
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
        """Steps in all."""
        return self.span_steps + self.adaptation_steps + self.long_steps

    def schedule(self) -> optax.Schedule:
        """Learning rate by step: warm-up, constant, linear decay; and the decay of long rows."""
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

    def optimizer(self) -> optax.GradientTransformation:
        """T5's Adafactor: steps in proportion to the size of each parameter.

        With steps of one size for all, as AdamW's, a rate that the kernels of the wider models bear
        is far too small for their embeddings, which are ten times larger.
        """
        return optax.adafactor(self.schedule(), decay_rate=0.8, clipping_threshold=1.0)


class Batches:
    """Packed batches of span corruption, lessons and prefix LM, one after the other.

    Reproducible from (step, document).
    """

    def __init__(
        self, config: Pretrain, documents: Documents, lessons: Sequence[Documents], vocab_size: int
    ) -> None:
        self.config, self.documents, self.lessons = config, documents, lessons
        self.short = denoising.Rows(config.rows, config.input_length, config.target_length)
        rows = max(config.rows * config.input_length // config.long_length, 1)
        self.long = denoising.Rows(rows, config.long_length, config.target_length)
        self.first_sentinel = vocab_size - 1

    def __call__(self, step: int, start: int) -> tuple[Batch, int]:
        """The batch of a step whose first document is number `start`, and the next number."""
        rng = np.random.default_rng([self.config.seed, step])
        spans, lesson = step < self.config.span_steps, self._lesson(step)
        long = step >= self.config.steps - self.config.long_steps

        def example(number: int) -> denoising.Example:
            tokens, splits = _document(lesson or self.documents, number)
            if spans:
                return denoising.span_corruption(tokens, rng, self.first_sentinel)
            if lesson:  # nothing but the answer
                return denoising.prefix_lm(tokens, splits, rng, at_split=1.0, at_last=1.0)
            inputs, targets = denoising.prefix_lm(tokens, splits, rng)
            return (self._behind_words(inputs, rng) if long else inputs), targets

        return (self.long if long else self.short).fill(example, start)

    def _behind_words(self, inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Up to `long_length - input_length` words of any documents, and then the inputs."""
        most = self.config.long_length - self.config.input_length
        places = rng.integers(0, len(self.documents.tokens), rng.integers(0, most + 1))
        return np.concatenate([self.documents.tokens[places], inputs[: self.config.input_length]])

    def _lesson(self, step: int) -> Documents | None:
        ends = itertools.accumulate(self.config.lesson_steps, initial=self.config.span_steps)
        for lesson, (begin, end) in zip(self.lessons, itertools.pairwise(ends)):
            if begin <= step < end:
                return lesson
        return None


def _document(d: Documents, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and splits of a document; after the last one comes the first again."""
    number %= len(d.offsets) - 1
    begin, end = int(d.offsets[number]), int(d.offsets[number + 1])
    low, high = np.searchsorted(d.splits, [begin + 1, end])
    return d.tokens[begin:end], d.splits[low:high] - begin


def loss_and_accuracy(model: T5, params: Tree, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over real target tokens."""
    logits = model.apply({"params": params}, batch)
    real = (batch.target_segments_BM > 0).astype(jnp.float32)
    losses = token_losses(logits, batch.targets_BM, z_loss=1e-4)
    hits = (jnp.argmax(logits, -1) == batch.targets_BM).astype(jnp.float32)
    total = jnp.sum(real)
    return jnp.sum(losses * real) / total, jnp.sum(hits * real) / total


def make_step(config: Pretrain) -> Callable[..., Any]:
    """The compiled training step: (params, optimizer state, batch) to the same and the loss."""
    model, optimizer = T5(get_size(config.model)), config.optimizer()

    def step(params: Tree, state: Any, batch: Batch) -> tuple[Tree, Any, jax.Array]:
        grad = jax.value_and_grad(lambda p: loss_and_accuracy(model, p, batch), has_aux=True)
        (loss, _), grads = grad(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    return jax.jit(step, donate_argnums=(0, 1))


def pretrain(
    config: Pretrain,
    documents: Documents,
    lessons: Sequence[Documents],
    held_out: Documents,
    folder: Path,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Trains a model from random weights; continues where a run in `folder` was interrupted.

    Args:
      config: the recipe.
      documents: what to train on.
      lessons: documents of each lesson.
      held_out: documents of another seed, for the reported losses.
      folder: gets `checkpoints/`, `log.jsonl`, `{model}-lm{00,01,05,10}.safetensors` (weights
        after that percentage of adaptation, counted in span-corruption steps as in the paper),
        `{model}.safetensors` and `{model}.json` (the card's figures).
      log: gets a line now and then.

    Returns:
      The card's figures.

    Raises:
      FloatingPointError: the loss became NaN; the last checkpoint stays.
    """
    size = get_size(config.model)
    params = init_weights(size, jax.random.key(config.seed))
    state, step, number = config.optimizer().init(params), 0, 0
    folder = folder.absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    manager = ocp.CheckpointManager(folder / "checkpoints", options=options)
    if (latest := manager.latest_step()) is not None:
        saved = {"params": params, "state": state, "number": 0}
        saved = manager.restore(latest, args=ocp.args.StandardRestore(saved))
        params, state, number = saved["params"], saved["state"], int(saved["number"])
        step = latest
        log(f"{config.model}: continuing from step {step}")
    batches = Batches(config, documents, lessons, size.vocab_size)
    train_step = make_step(config)
    clock, tokens, losses = time.monotonic(), 0, []
    while step < config.steps:
        _keep(config, step, params, folder)
        batch, number = batches(step, number)
        tokens += int((batch.input_segments_BL > 0).sum() + (batch.target_segments_BM > 0).sum())
        params, state, loss = train_step(params, state, batch)
        losses.append(loss)
        step += 1
        if step % 100 == 0 or step == config.steps:
            mean = float(jnp.mean(jnp.stack(losses)))
            if not np.isfinite(mean):
                raise FloatingPointError(
                    f"the loss of {config.model} became {mean} before step {step}; lower "
                    f"learning_rate ({config.learning_rate}). The last checkpoint is kept."
                )
            seconds = time.monotonic() - clock
            line = {"step": step, "loss": round(mean, 4), "tokens_per_s": round(tokens / seconds)}
            with open(folder / "log.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            left = (config.steps - step) * seconds / len(losses)
            log(f"{config.model} {step}/{config.steps} loss {mean:.3f} "
                f"{line['tokens_per_s']} tokens/s, {left / 60:.1f} min left")
            clock, tokens, losses = time.monotonic(), 0, []
        if step % config.checkpoint_period == 0 and np.isfinite(float(loss)):
            saved = {"params": params, "state": state, "number": number}
            manager.save(step, args=ocp.args.StandardSave(saved))
    manager.close()
    _keep(config, step, params, folder)
    return _finish(config, params, held_out, folder, number)


def _keep(config: Pretrain, step: int, params: Tree, folder: Path) -> None:
    for percent in KEPT_PERCENT:
        if step == config.span_steps * (100 + percent) // 100:
            path = folder / f"{config.model}-lm{percent:02d}.safetensors"
            weights.save(path, params, {"recipe": json.dumps(dataclasses.asdict(config))})


def _finish(
    config: Pretrain, params: Tree, held_out: Documents, folder: Path, number: int
) -> dict[str, Any]:
    card = {**dataclasses.asdict(config), "documents_seen": number}
    card |= held_out_losses(config, params, held_out)
    embedding = params["token_embedder"]["embedding"]
    card["embedding_rms"] = float(jnp.sqrt(jnp.mean(jnp.square(embedding))))
    text = json.dumps(card, indent=2, sort_keys=True)
    weights.save(folder / f"{config.model}.safetensors", params, {"recipe": text})
    write_text(folder / f"{config.model}.json", text + "\n")
    return json.loads(text)


def held_out_losses(config: Pretrain, params: Tree, held_out: Documents) -> dict[str, float]:
    """Loss and accuracy per token on documents of another seed, for both objectives."""
    model, result = T5(get_size(config.model)), {}
    evaluate = jax.jit(lambda p, batch: loss_and_accuracy(model, p, batch))
    batches = Batches(config, held_out, (), get_size(config.model).vocab_size)
    long = config.steps - config.long_steps
    starts = {"span_corruption": 0, "prefix_lm": config.span_steps}
    for name, step in (starts | ({"long_lm": long} if config.long_steps else {})).items():
        values, number = [], 0
        for i in range(4):
            batch, number = batches(step + i, number)
            values.append(evaluate(params, batch))
        loss, accuracy = np.mean(np.asarray(values), axis=0)
        result |= {f"{name}_loss": float(loss), f"{name}_accuracy": float(accuracy)}
    return result
