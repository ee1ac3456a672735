"""Prompts in and out of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from spjax.checkpoints.prompts import adapters, prompts, tuned
from spjax.checkpoints.prompts.prompts import Prompt
from spjax.checkpoints.prompts.tuned import Tuned


def load_prompt(path: str | os.PathLike[str]) -> Prompt | Tuned:
    """Loads a prompt, or what another method has trained.

    Args:
      path: a file (`.npy`, safetensors) or folder (PEFT adapter, T5X checkpoint, run folder).

    Returns:
      A `Prompt` with `rows_PD` and `provenance` for a table of soft tokens; `Tuned` with `tensors`
      and `provenance` for everything else that a method leaves.

    Raises:
      ValueError: nothing that can be read is there.
    """
    stored = tuned.read(os.fspath(path))
    if set(stored.tensors) == {"prompt"}:
        return Prompt(stored.tensors["prompt"], dict(stored.provenance), stored.origin)
    return stored


def save_prompt(
    prompt: Any, path: str | os.PathLike[str], format: str = "npy", *, base_model: str = ""
) -> Path:
    """Saves a prompt with its provenance.

    Args:
      prompt: from `load_prompt` or a run, or an array `[P, D]`.
      path: a file for "npy" and "safetensors", a folder for "peft" and "t5x".
      format: "npy", "safetensors", "peft" or "t5x".
      base_model: for "peft", the frozen model's name on the Hugging Face hub.

    Returns:
      The file or folder that holds the prompt.

    Raises:
      ValueError: it is no prompt, the format is unknown or cannot hold it, or the path cannot be
        written.
    """
    if format not in prompts.FORMATS:
        raise ValueError(
            f"unknown prompt format {format!r}; use one of {', '.join(prompts.FORMATS)}."
        )
    if isinstance(prompt, Tuned) and set(prompt.tensors) != {"prompt"}:
        facts = dict(prompt.provenance) | ({"base_model": base_model} if base_model else {})
        adapters.save(Path(path), prompt.tensors, facts, format, prompt.origin)
        return Path(path)
    if isinstance(prompt, Tuned):
        prompt = Prompt(prompt.tensors["prompt"], dict(prompt.provenance), prompt.origin)
    if not isinstance(prompt, Prompt):
        table = np.asarray(prompt)
        if table.dtype == object or table.ndim != 2:
            raise ValueError(
                f"the prompt is {type(prompt).__name__} of shape {table.shape}; give a prompt from "
                "spjax.load_prompt or a run, or an array [P, D]."
            )
        prompt = Prompt(table.astype(np.float32))
    if base_model:
        facts = {**prompt.provenance, "base_model": base_model}
        prompt = Prompt(prompt.rows_PD, facts, prompt.origin)
    return prompts.write(Path(path), prompt, format)
