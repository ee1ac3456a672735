"""Optimizers of a run: T5X's Adafactor, every argument explicit, and AdamW."""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from spjax import validation


@dataclasses.dataclass(frozen=True)
class Adafactor:
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
    """

    learning_rate: float = 0.3
    decay_offset: int = 0
    min_dim_size_to_factor: int = 128
    decay_rate: float = 0.8
    multiply_by_parameter_scale: bool = False
    clipping_threshold: float = 1.0
    weight_decay_rate: float = 1e-5
    warmup_steps: int = 0

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
        validation.whole("Adafactor.warmup_steps", self.warmup_steps)
        _check_flag("Adafactor.multiply_by_parameter_scale", self.multiply_by_parameter_scale)

    def to_optax(self) -> optax.GradientTransformation:
        """Returns the transformation at this object's rate, warm-up included."""
        return self.make(_schedule(self.learning_rate, self.warmup_steps))

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
class AdamW:
    """AdamW (Loshchilov & Hutter 2019), by way of `optax.adamw`.

    Attributes:
      learning_rate: constant after the warm-up.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the denominator.
      weight_decay: times the learning rate.
      warmup_steps: linear, from 0.
    """

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Checks the hyper-parameters."""
        _check_rate(self.learning_rate)
        for name in ("b1", "b2"):
            validation.number(f"AdamW.{name}", getattr(self, name), 0, 1, below=True)
        validation.number("AdamW.eps", self.eps, 0, 1, above=True)
        validation.number("AdamW.weight_decay", self.weight_decay, 0, validation.MOST_RATE)
        validation.whole("AdamW.warmup_steps", self.warmup_steps)

    def to_optax(self) -> optax.GradientTransformation:
        """Returns the transformation at this object's rate, warm-up included."""
        return self.make(_schedule(self.learning_rate, self.warmup_steps))

    def make(self, learning_rate: Any) -> optax.GradientTransformation:
        """Returns the transformation at a rate, which may be traced and differ between runs."""
        return optax.adamw(
            learning_rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay
        )


def _schedule(learning_rate: float, warmup_steps: int) -> Any:
    if not warmup_steps:
        return learning_rate
    return optax.linear_schedule(0.0, learning_rate, warmup_steps)


def _check_rate(rate: float) -> None:
    validation.number("LEARNING_RATE", rate, 0, validation.MOST_RATE, above=True)


def _check_flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False.")


Optimizer = Adafactor | AdamW
