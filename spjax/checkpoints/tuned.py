"""What a finished run, a prompt file or an adapter puts into the forward pass of a frozen model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spjax.checkpoints import adapters, array_files, peft, prompts
from spjax.types import Soft


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """Soft tokens of any kind, of one task.

    Attributes:
      tensors: float32, by the names of `spjax.types.Soft.arrays`.
      provenance: as of `spjax.checkpoints.prompts.Prompt`.
      origin: what it was read from, in words.
    """

    tensors: Mapping[str, np.ndarray]
    provenance: Mapping[str, str]
    origin: str


def read(path: Path | str) -> Tuned:
    """Reads whatever can answer beside others over one frozen model.

    Args:
      path: what `prompts.read` takes, a run folder of another method, its `tuned.safetensors`, or
        an adapter of PEFT with a prefix or the prompt of one task.

    Raises:
      ValueError: as `prompts.read`; or it changes weights, or has prompts of several tasks.
    """
    path = Path(path)
    if peft.is_adapter(path):
        tensors, provenance = adapters.read(path)
    elif (path / prompts.RUN_PROMPTS).is_dir():
        files = ", ".join(sorted(str(file) for file in path.glob(f"{prompts.RUN_PROMPTS}/*.npy")))
        raise ValueError(f"{path} has prompts of several tasks; give one of them: {files}.")
    elif file := _tensors_file(path):
        tensors, provenance = array_files.read_safetensors(file)
        if (path / prompts.RUN_FILE).is_file():
            tensors |= prompts.read(path).tensors
    else:
        prompt = prompts.read(path)
        return Tuned(prompt.tensors, prompt.provenance, prompt.origin)
    provenance.pop("format", None)
    soft = {name: array for name, array in tensors.items() if Soft.has(name)}
    if not soft:
        raise ValueError(
            f"{path} holds {', '.join(sorted(tensors)[:2])}, ...: it changes weights, so it cannot "
            "share a forward pass with other prompts. Give the folder of the run, alone."
        )
    if "prompt" in soft and soft["prompt"].ndim > 2:
        raise ValueError(
            f"{path} has the prompts of {len(soft['prompt'])} tasks, and it does not say of which; "
            "take one of them out of it."
        )
    checked = {name: array_files.widen(x, f"{name} of {path}") for name, x in soft.items()}
    return Tuned(checked, provenance, f"{path} ({', '.join(sorted(checked))})")


def _tensors_file(path: Path) -> Path | None:
    """A file of tensors that are no table of rows, or that of a run folder; None for another."""
    if path.is_dir():
        file = path / prompts.RUN_TENSORS
        return file if file.is_file() else None
    if path.name == prompts.RUN_TENSORS:
        return path
    if not path.is_file() or array_files.kind(path) == array_files.NPY:
        return None
    if (path.parent / peft.CONFIG).is_file():
        return None
    names, _ = array_files.read_safetensors(path)
    return path if any(Soft.has(name) and name != "prompt" for name in names) else None
