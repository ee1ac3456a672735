"""Prompts in and out of files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.studies.copies import local_copy


def load_prompt(path: str | os.PathLike[str]) -> Prompt:
    """Loads a prompt, or what a run of another method has trained.

    Args:
      path: a file (`.npy`, safetensors) or folder (PEFT adapter, T5X checkpoint, run folder).

    Returns:
      A `Prompt` with `tensors`, `provenance` and, where soft tokens stand among the input's
      embeddings, `soft_tokens_PD`.

    Raises:
      ValueError: nothing that can be read is there.
    """
    return prompt_files.read(local_copy(path))


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
    if format not in prompt_files.FORMATS:
        raise ValueError(
            f"unknown prompt format {format!r}; use one of {', '.join(prompt_files.FORMATS)}."
        )
    if not isinstance(prompt, Prompt):
        table = np.asarray(prompt)
        if table.dtype == object or table.ndim != 2:
            raise ValueError(
                f"the prompt is {type(prompt).__name__} of shape {table.shape}; give a prompt from "
                "spjax.load_prompt or a run, or an array [P, D]."
            )
        prompt = Prompt.from_array(table.astype(np.float32))
    if base_model:
        prompt = prompt.with_provenance({"base_model": base_model})
    return prompt_files.write(Path(path), prompt, format)
