"""A run: everything that decides the numbers of one training."""

from __future__ import annotations

import dataclasses
from typing import Any

from spjax import methods
from spjax.data.tasks import registry
from spjax.models import get_size
from spjax.training.losses import NORMALIZERS
from spjax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class Run:
    """One training of one method on one task; gin binds it as `Run.steps = 300`.

    Attributes:
      task: name of a task.
      model: name of a size.
      method: a tuning method, for example `@PromptTuning()`.
      optimizer: `@Adafactor()` or `@AdamW()`.
      checkpoint: weights of the frozen model; "" for those that ship with the pocket sizes.
      steps: updates.
      batch_size: examples in an update.
      eval_period: steps between evaluations on the validation set.
      patience: evaluations without a gain before the run stops early; 0 for never.
      checkpoint_period: steps between resumable checkpoints; 0 for at every evaluation only.
      seed: of initial values, data order and dropout.
      dropout_rate: of the frozen model while training.
      z_loss: weight of log(Z)^2 in the loss.
      label_smoothing: share of the target probability spread over all other tokens.
      loss_normalizing_factor: None (sum over target tokens), a number, or a name T5X knows.
      input_length: most tokens of input text, EOS included; 0 for the task's.
      target_length: most tokens of target, EOS included; 0 for the task's.
      eval_batch_size: examples decoded at a time.
      eval_examples: most validation examples to score at each evaluation; 0 for all.
    """

    task: str
    model: str
    method: Any
    optimizer: Optimizer
    checkpoint: str = ""
    steps: int = 30_000
    batch_size: int = 32
    eval_period: int = 1000
    patience: int = 0
    checkpoint_period: int = 0
    seed: int = 0
    dropout_rate: float = 0.0
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    loss_normalizing_factor: float | str | None = None
    input_length: int = 0
    target_length: int = 0
    eval_batch_size: int = 64
    eval_examples: int = 0

    def __post_init__(self) -> None:
        """Checks names and ranges, so that a study fails before it trains anything."""
        registry.get(self.task)
        get_size(self.model)
        if not isinstance(self.method, methods.Method):
            raise ValueError(
                f"Run.method is {self.method!r}; bind a method, for example @PromptTuning(). "
                f"Known methods: {', '.join(methods.names())}."
            )
        for name in ("steps", "batch_size", "eval_period", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Run.{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("patience", "checkpoint_period", "seed", "eval_examples"):
            if getattr(self, name) < 0:
                raise ValueError(f"Run.{name} is {getattr(self, name)}; it must not be negative.")
        for name in ("dropout_rate", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"Run.{name} is {getattr(self, name)}; it must be in [0, 1).")
        factor = self.loss_normalizing_factor
        if isinstance(factor, str) and factor not in NORMALIZERS:
            raise ValueError(
                f"Run.loss_normalizing_factor is {factor!r}; use None, a number, or one of "
                f"{', '.join(NORMALIZERS)}."
            )

    @property
    def method_name(self) -> str:
        """Registered name of the method."""
        return methods.name_of(self.method)
