"""Estimated cost of a run, from the shape of the model, for planning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # its package loads JAX, which a sweep of finished runs has no use for
    from spjax.models.sizes import T5Config

# Rates of one core of a 2-core CPU machine at pocket sizes; finished runs correct them in a sweep.
FLOPS_PER_SECOND = 30e9
STEP_SECONDS = 2e-3  # dispatch, batch assembly
RUN_SECONDS = 1.0  # opening data and files, checkpoints
COMPILE_SECONDS = 10.0  # once in a process for each group of runs with the same shapes
# Texts of the pocket tasks are far shorter than the most that they are cut to.
TYPICAL_SHARE = 0.4
# Evaluations score the validation set once per period; an example decodes a handful of tokens.
EXAMPLES_PER_EVALUATION = 300
_MOST_HOURS = 72  # longer times are written in days


def typical(prompt_length: int, lengths: tuple[int, int]) -> tuple[int, int]:
    """Returns encoder and decoder positions of a typical example.

    Args:
      prompt_length: P.
      lengths: the most input tokens, without prompt, and target tokens.
    """
    inputs, targets = (math.ceil(TYPICAL_SHARE * length) for length in lengths)
    return prompt_length + inputs, targets


def run_seconds(run: Any, config: T5Config, lengths: tuple[int, int]) -> float:
    """Estimates the seconds of a whole run on one core, without compilation.

    The backward pass costs one forward pass through frozen weights and two through trained ones.

    Args:
      run: a `spjax.training.run.Run`.
      config: shape of its model.
      lengths: the most input tokens, without prompt, and target tokens.
    """
    from spjax.models.flops import forward_flops

    forward = forward_flops(config, *typical(run.method.prompt_length, lengths))
    passes = 3 if run.method.changes_weights else 2
    steps = run.steps if run.method.trained else 0
    evaluations = steps / max(run.eval_period, 1) + 1
    flops = forward * (
        passes * steps * run.batch_size
        + evaluations * (run.eval_examples or EXAMPLES_PER_EVALUATION)
    )
    return flops / FLOPS_PER_SECOND + steps * STEP_SECONDS + RUN_SECONDS


def duration(seconds: float) -> str:
    """Formats seconds: "42 s", "7 min", "2 h 05 min", "5 days", "4,387 years"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < _MOST_HOURS * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    days = round(minutes / 60 / 24)
    return f"{days} days" if days < 2 * 365 else f"{round(days / 365.25):,} years"
