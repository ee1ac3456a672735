"""Optimizers of a run: T5X's Adafactor, every argument explicit, and AdamW."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from spjax import validation


class _Scheduled:
    """The learning rate of an optimizer: warm-up, then decay in stairs."""

    learning_rate: float
    warmup_steps: int
    decay_factor: float
    steps_per_decay: int

    @property
    def without_identity(self) -> frozenset[str]:
        """Settings that decide nothing: those of the decay in runs without one."""
        return frozenset(() if self.steps_per_decay else ("decay_factor", "steps_per_decay"))

    def make(self, learning_rate: Any) -> optax.GradientTransformation:
        """Returns the transformation at a rate, which may be traced and differ between runs."""
        raise NotImplementedError

    def to_optax(self) -> optax.GradientTransformation:
        """Returns the transformation at this object's rate, warm-up and decay included."""
        if not (self.warmup_steps or self.steps_per_decay):
            return self.make(self.learning_rate)
        return self.make(lambda step: scheduled(self, self.learning_rate, step))


@dataclasses.dataclass(frozen=True)
class Adafactor(_Scheduled):
    """Adafactor as T5X's (`t5x/adafactor.py`), by way of `optax.adafactor`.

    Two things decide whether it is the optimizer of the released prompt-tuning code:

    * `decay_offset`: that code restores the step of the pre-trained model, so its second moments
      decay as they would after 1.1 million steps and every update has root mean square
      `learning_rate`. Set -1_100_000 for that, 0 for a fresh start.
    * `min_dim_size_to_factor`: with 128, a prompt of 128 or more tokens has a factored second
      moment and a shorter one has not. Set a large number to factor never.

    Attributes:
      learning_rate: constant after the warm-up (Lester et al. 2021: 0.3).
      decay_offset: step that the second-moment decay starts from, negated.
      min_dim_size_to_factor: both dimensions must reach this for factoring.
      decay_rate: exponent of the second-moment decay.
      multiply_by_parameter_scale: updates relative to the parameter's size; off for prompts.
      clipping_threshold: largest root mean square of an update before the learning rate.
      weight_decay_rate: share of the parameters that goes at each step (not times the rate).
      warmup_steps: linear, from 0.
      decay_factor: the rate is multiplied by it every `steps_per_decay` steps; 1 for never.
      steps_per_decay: 0 for never.
    """

    learning_rate: float = 0.3
    decay_offset: int = 0
    min_dim_size_to_factor: int = 128
    decay_rate: float = 0.8
    multiply_by_parameter_scale: bool = False
    clipping_threshold: float = 1.0
    weight_decay_rate: float = 1e-5
    warmup_steps: int = 0
    decay_factor: float = 1.0
    steps_per_decay: int = 0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        _check_rate(self.learning_rate)
        most = validation.MOST_STEPS
        validation.whole("Adafactor.decay_offset", self.decay_offset, -most, 0)
        validation.whole("Adafactor.min_dim_size_to_factor", self.min_dim_size_to_factor, 1)
        validation.number("Adafactor.decay_rate", self.decay_rate, 0, 1)
        threshold = self.clipping_threshold
        validation.number("Adafactor.clipping_threshold", threshold, 0, most, above=True)
        validation.number("Adafactor.weight_decay_rate", self.weight_decay_rate, 0, 1)
        _check_schedule(self)
        _check_flag("Adafactor.multiply_by_parameter_scale", self.multiply_by_parameter_scale)

    def make(self, learning_rate: Any) -> optax.GradientTransformation:
        """Returns the transformation at a rate, which may be traced and differ between runs."""
        return optax.adafactor(
            learning_rate,
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            decay_rate=self.decay_rate,
            decay_offset=self.decay_offset,
            multiply_by_parameter_scale=self.multiply_by_parameter_scale,
            clipping_threshold=self.clipping_threshold,
            momentum=None,
            weight_decay_rate=self.weight_decay_rate or None,
            eps=1e-30,
        )


@dataclasses.dataclass(frozen=True)
class AdamW(_Scheduled):
    """AdamW (Loshchilov & Hutter 2019), by way of `optax.adamw`.

    Attributes:
      learning_rate: constant after the warm-up.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the denominator.
      weight_decay: times the learning rate.
      warmup_steps: linear, from 0.
      decay_factor: the rate is multiplied by it every `steps_per_decay` steps; 1 for never.
      steps_per_decay: 0 for never.
    """

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    decay_factor: float = 1.0
    steps_per_decay: int = 0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        _check_rate(self.learning_rate)
        for name in ("b1", "b2"):
            validation.number(f"AdamW.{name}", getattr(self, name), 0, 1, below=True)
        validation.number("AdamW.eps", self.eps, 0, 1, above=True)
        validation.number("AdamW.weight_decay", self.weight_decay, 0, validation.MOST_RATE)
        _check_schedule(self)

    def make(self, learning_rate: Any) -> optax.GradientTransformation:
        """Returns the transformation at a rate, which may be traced and differ between runs."""
        return optax.adamw(
            learning_rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay
        )


def scheduled(optimizer: _Scheduled, rate: Any, step: Any) -> Any:
    """Returns the learning rate of a step: warm-up, then stairs, as T5X's factors do.

    These are "constant * linear_warmup * decay_every" (`t5x/utils.py`,
    `create_learning_rate_scheduler`). Lester et al. 2021, table 6, tried both.

    Args:
      optimizer: whose warm-up and decay it is.
      rate: after the warm-up; may be traced.
      step: number of updates before this one; may be traced.
    """
    if warmup := optimizer.warmup_steps:
        rate = rate * jnp.minimum(1.0, step.astype(jnp.float32) / warmup)
    if period := optimizer.steps_per_decay:
        rate = rate * optimizer.decay_factor ** (step // period).astype(jnp.float32)
    return rate


def _check_schedule(optimizer: _Scheduled) -> None:
    name = type(optimizer).__name__
    validation.whole(f"{name}.warmup_steps", optimizer.warmup_steps)
    validation.number(f"{name}.decay_factor", optimizer.decay_factor, 0, 1, above=True)
    validation.whole(f"{name}.steps_per_decay", optimizer.steps_per_decay, 0, validation.MOST_STEPS)
    if (optimizer.decay_factor < 1) != (optimizer.steps_per_decay > 0):
        raise ValueError(
            f"{name}.decay_factor is {optimizer.decay_factor} and {name}.steps_per_decay "
            f"{optimizer.steps_per_decay}: a decay needs a factor below 1 and a number of steps; "
            "without one they are 1 and 0."
        )


def _check_rate(rate: float) -> None:
    validation.number("LEARNING_RATE", rate, 0, validation.MOST_RATE, above=True)


def _check_flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False.")


Optimizer = Adafactor | AdamW
