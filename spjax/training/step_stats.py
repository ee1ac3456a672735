"""The figures of a training step that are logged."""

from __future__ import annotations

import flax.struct

from spjax.types import Array


@flax.struct.dataclass
class StepStats:
    """Figures of a step, each with an entry for each of the N runs of the gang.

    Attributes:
      loss_N: before the update.
      learning_rate_N: of the update, warm-up and decay included.
      active_N: False where a run had stopped before the step, or was stopped by it.
      gradient_norm_N: 2-norm of the gradient of a run's trainable parameters, before clipping.
    """

    loss_N: Array
    learning_rate_N: Array
    active_N: Array
    gradient_norm_N: Array | None = None
