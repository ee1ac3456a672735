"""The trained part of a finished run, prompt file or adapter, as one type."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import adapters, peft, prompts
from spjax.injection import Soft

CHANGES = ("lora/", "ia3/")  # how names of factors and scales of kernels begin


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """Soft tokens of any kind, of one task, or changes of weights.

    Attributes:
      tensors: float32, by the names of `spjax.injection.Soft.arrays`; names that begin with one of
        `CHANGES` are those that methods which change weights collapse to.
      provenance: as of `spjax.checkpoints.prompts.Prompt`.
      origin: what it was read from, in words.
    """

    tensors: Mapping[str, np.ndarray]
    provenance: Mapping[str, str]
    origin: str

    @property
    def changes(self) -> dict[str, np.ndarray]:
        """Returns the tensors that change weights, which no two prompts can share a batch with."""
        return {name: x for name, x in self.tensors.items() if name.startswith(CHANGES)}


def read(path: Path | str) -> Tuned:
    """Reads a run folder, prompt file or adapter that can be used with a frozen model.

    Args:
      path: what `prompts.read` takes, a run folder of another method, its `tuned.safetensors`, or
        an adapter of PEFT (LoRA, IA3, a prefix, the prompt of one task) or one as safetensors.

    Raises:
      ValueError: as `prompts.read`; or it has prompts of several tasks.
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
    # A multitask prompt has the parts of its rows beside them.
    known = {k: x for k, x in tensors.items() if Soft.has(k) or k.startswith(CHANGES)}
    if not known:
        raise ValueError(
            f"{path} holds {', '.join(sorted(tensors)[:3])}, none of which is soft tokens or a "
            f"change of weights ({', '.join(CHANGES)}). Give what a run or an adapter has left."
        )
    if "prompt" in known and known["prompt"].ndim > 2:
        raise ValueError(
            f"{path} has the prompts of {len(known['prompt'])} tasks, and it does not say of "
            "which; take one of them out of it."
        )
    checked = {name: array_files.widen(x, f"{name} of {path}") for name, x in known.items()}
    return Tuned(checked, provenance, f"{path} ({', '.join(sorted(checked))})")


def _tensors_file(path: Path) -> Path | None:
    """Returns the path of a file of tensors that is no table of soft tokens, else None."""
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
    others = (Soft.has(name) and name != "prompt" or name.startswith(CHANGES) for name in names)
    return path if any(others) else None
