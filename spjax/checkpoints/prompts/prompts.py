"""Reads and writes prompts: `.npy`, T5X's numpy checkpoints, safetensors, PEFT, run folders."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft
from spjax.files import read_json, reason, write_json

# The parameter's name in T5X's tree, and its file in `numpy_checkpoints/checkpoint_{step}/` of
# google-research/prompt-tuning: an .npy file without that extension.
T5X_NAME = "encoder/prompt/prompt/prompt"
T5X_FILE = T5X_NAME.replace("/", ".")
RUN_FILE, RUN_RESULT, RUN_CONFIG = "prompt.npy", "result.json", "config.gin"
# The configuration of a run that goes on from a finished shorter one, until it is finished itself.
RUN_LONGER = "config.longer.gin"
RUN_TENSORS, RUN_PROMPTS = "tuned.safetensors", "prompts"
_TENSOR = "prompt"
_TENSORS = (_TENSOR, peft.TENSOR, T5X_NAME, T5X_FILE, f"target.{T5X_FILE}")
# What a T5X checkpoint's folder has in it: the older format's index, or Orbax's files.
_ORBAX_FILES = ("_METADATA", "manifest.ocdbt")
_T5X_MARKS = ["checkpoint"] + [f"{i}{f}" for i in ("", "state/", "default/") for f in _ORBAX_FILES]
_STEP = re.compile(r"checkpoint_(\d+)")
_DIGEST = "rows_sha256"


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """Soft tokens `[P, D]` of a prompt, and their provenance.

    Attributes:
      rows_PD: float32 `[P, D]`, finite; unscaled, as the frozen model's embeddings are.
      provenance: for example model, task, step, validation_score, config_sha256; travels with
        the prompt through every format.
      origin: what it was read from, in words; it is not written.

    Raises:
      ValueError: the rows are no float32 table of finite numbers, or the provenance holds
        something else than strings.
    """

    rows_PD: np.ndarray
    provenance: dict[str, str] = dataclasses.field(default_factory=dict)
    origin: str = "memory"

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Returns the soft tokens under their name in `spjax.injection.Soft.arrays`."""
        return {_TENSOR: self.rows_PD}

    def __post_init__(self) -> None:
        """Checks what every format relies on."""
        if self.rows_PD.ndim != 2 or 0 in self.rows_PD.shape:
            raise ValueError(
                f"the prompt from {self.origin} has shape {self.rows_PD.shape}; expected two "
                "dimensions, [rows, width of the model], at least (1, 1)."
            )
        rows = array_files.widen(self.rows_PD, f"the prompt from {self.origin}")
        object.__setattr__(self, "rows_PD", rows)
        for key, value in self.provenance.items():
            # safetensors files of PyTorch have a "format" of their own.
            if not isinstance(key, str) or not isinstance(value, str) or key == "format":
                raise ValueError(
                    f"the provenance of the prompt from {self.origin} has {key!r}: {value!r}; it "
                    "must map strings to strings, and the key 'format' is taken."
                )


def read(path: Path | str, *, width: int | None = None, length: int | None = None) -> Prompt:
    """Reads a prompt in any supported format.

    A file is `.npy` or safetensors by its content (the name does not matter). A folder is a PEFT
    adapter, a finished run of spjax, or a folder of T5X: `checkpoint_{step}`, a parent of such
    folders, of which the newest is read, or a whole T5X checkpoint that contains the prompt.

    Args:
      path: a file or folder.
      width: of the model, if the prompt must fit one.
      length: the number of soft tokens, if the prompt must have a certain one.

    Raises:
      ValueError: nothing there is a prompt, it is damaged, or it has another shape.
    """
    path = Path(path)
    if path.is_dir():
        prompt = _read_folder(path)
    elif path.name == peft.WEIGHTS and (path.parent / peft.CONFIG).is_file():
        prompt = _read_peft(path.parent)  # how many rows count is in the JSON file beside it
    else:
        prompt = _read_file(path)
    expected = (length or prompt.rows_PD.shape[0], width or prompt.rows_PD.shape[1])
    if prompt.rows_PD.shape != expected:
        raise ValueError(
            f"the prompt in {path} has shape {prompt.rows_PD.shape} (rows, width), but {expected} "
            "is needed. A prompt fits only the model it was trained with; check model and length."
        )
    return prompt


def digest(path: Path | str) -> str:
    """Returns the SHA-256 of the soft tokens that `read` returns, "" where there is no prompt."""
    try:
        return _digest(read(path).rows_PD)
    except ValueError:
        return ""


def write(path: Path | str, prompt: Prompt, format: str = "npy") -> Path:
    """Writes a prompt with its provenance; no reader ever sees half of it.

    Args:
      path: a file for "npy" (provenance in `<path>.json`) and "safetensors" (in the header), a
        folder for "peft" (in the header) and "t5x" (`numpy_checkpoints/...` in it, `.json`).
      prompt: what to write; the numbers are kept bit for bit.
      format: one of `FORMATS`.

    Returns:
      The file or folder that holds the prompt.

    Raises:
      ValueError: an unknown format, or the path cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown prompt format {format!r}; use one of {', '.join(FORMATS)}.")
    try:
        return FORMATS[format](Path(path), prompt)
    except OSError as error:
        raise ValueError(
            f"cannot write the prompt to {path}: {error.strerror}. Choose another path."
        ) from error


def convert(source: Path | str, out: Path | str, format: str, base_model: str = "") -> Path:
    """Reads a prompt and writes it in another format, bit for bit, with its provenance.

    Other tensors (factors of kernels, prefixes) are converted between `tuned.safetensors` of a run
    and PEFT adapters, see `spjax.checkpoints.prompts.adapters`.

    Args:
      source: as of `read`, or a file of such tensors.
      out: where `write` puts it.
      format: one of `FORMATS`.
      base_model: the frozen model's name on the Hugging Face hub, for PEFT; "" for unknown.

    Returns:
      The file or folder that was written.

    Raises:
      ValueError: as `read` and `write`.
    """
    path = Path(source)
    if tuned := path if peft.is_adapter(path) else _tuned_file(path):
        return _convert_tensors(tuned, out, format, base_model)
    prompt = read(source)
    if base_model:
        provenance = {**prompt.provenance, "base_model": base_model}
        prompt = dataclasses.replace(prompt, provenance=provenance)
    return write(out, prompt, format)


def _tuned_file(path: Path) -> Path | None:
    """Returns the file of what a run trained, if that is no prompt, else None."""
    if path.is_dir():
        alone = not (path / RUN_FILE).is_file() and (path / RUN_TENSORS).is_file()
        return path / RUN_TENSORS if alone else None
    return path if path.name == RUN_TENSORS else None


def _convert_tensors(source: Path, out: Path | str, format: str, base_model: str) -> Path:
    from spjax.checkpoints.prompts import adapters  # it brings JAX, which nothing else needs

    content = adapters.read(source) if source.is_dir() else array_files.read_safetensors(source)
    tensors, provenance = content
    if base_model:
        provenance = {**provenance, "base_model": base_model}
    provenance.pop("format", None)
    adapters.save(Path(out), tensors, provenance, format, str(source))
    return Path(out)


def write_run(
    folder: Path, tensors: Mapping[str, np.ndarray], provenance: dict[str, str], tasks: list[str]
) -> None:
    """Writes what inference needs of a finished run into its folder.

    A prompt goes to `prompt.npy`, prompts of several tasks to `prompts/<task>.npy`; everything else
    (keys and values of a prefix, an input bias, factors of kernels) to `tuned.safetensors`.

    Args:
      folder: of the run.
      tensors: as `spjax.methods.base.Method.collapse` gives them.
      provenance: of the run.
      tasks: names of the trained tasks, in order.
    """
    others = {name: np.asarray(x) for name, x in tensors.items() if name != _TENSOR}
    if others:
        array_files.write_safetensors(folder / RUN_TENSORS, others, provenance)
    prompt = tensors.get(_TENSOR)
    if prompt is None:
        return
    if prompt.ndim == 2:
        write(folder / RUN_FILE, Prompt(np.asarray(prompt), provenance))
        return
    for rows_PD, task in zip(prompt, tasks, strict=True):
        path = folder / RUN_PROMPTS / (re.sub(r"[^\w.:-]", "_", task) + ".npy")
        path.parent.mkdir(exist_ok=True)
        write(path, Prompt(np.asarray(rows_PD), {**provenance, "task": task}))


def provenance_of_run(result: Mapping[str, Any], config_text: str) -> dict[str, str]:
    """Returns the provenance of a prompt that a run trained.

    Args:
      result: content of the run's `result.json`.
      config_text: content of its `config.gin`, which is remembered by its SHA-256.

    Returns:
      Strings; facts that the run does not have are left out.
    """
    names = (
        "model",
        "task",
        "task_file",
        "method",
        "insertion",
        "fields",
        "sees_text",
        "sees_prompt",
        "seed",
        "base_sha256",
    )
    provenance = {name: result.get(name) for name in names}
    provenance["step"] = result.get("best_step")
    for split in ("validation", "test"):
        provenance[f"{split}_score"] = (result.get(split) or {}).get("score")
    if config_text:
        provenance["config_sha256"] = hashlib.sha256(config_text.encode()).hexdigest()
    return {name: str(value) for name, value in provenance.items() if value is not None}


def _read_folder(folder: Path) -> Prompt:
    if (folder / peft.CONFIG).is_file():
        return _read_peft(folder)
    if (folder / RUN_FILE).is_file():
        return _read_file(folder / RUN_FILE)
    if (folder / T5X_FILE).is_file():
        return _read_file(folder / T5X_FILE)
    for parent in (folder / "numpy_checkpoints", folder):
        if newest := _newest(parent):
            return _read_file(newest)
    if (folder / RUN_RESULT).is_file():
        raise ValueError(
            f"the run in {folder} has left no {RUN_FILE}: its method has no prompt or one for each "
            f"task (in {RUN_PROMPTS}/), or it diverged before its first evaluation."
        )
    if any((folder / name).exists() for name in _T5X_MARKS):
        return _read_t5x(folder)
    raise ValueError(
        f"no prompt found in {folder}: there is no {peft.CONFIG} (PEFT), {RUN_FILE} (a finished "
        f"run), [numpy_checkpoints/]checkpoint_*/{T5X_FILE} or T5X checkpoint. Give the file or "
        "folder that holds one of them."
    )


def _read_t5x(folder: Path) -> Prompt:
    """Reads only the prompt of a whole T5X checkpoint."""
    from spjax.checkpoints.weights import (
        t5x,  # it brings JAX and TensorStore, which nothing else needs
    )

    prompts = t5x.read_prompts(folder)
    known = [T5X_NAME] if T5X_NAME in prompts else list(prompts)
    if len(known) != 1:
        raise ValueError(
            f"the T5X checkpoint {folder} holds {len(prompts)} prompts ({sorted(prompts)}), none "
            f"of them {T5X_NAME}. Give a checkpoint of a run that tuned one prompt."
        )
    match = _STEP.fullmatch(folder.absolute().name)
    provenance = {"step": match[1]} if match else {}
    return Prompt(prompts[known[0]], provenance, f"{folder} (T5X checkpoint, {known[0]})")


def _read_peft(folder: Path) -> Prompt:
    rows, provenance, origin = peft.read(folder)
    return Prompt(rows, provenance, f"{folder} ({origin})")


def _read_file(path: Path) -> Prompt:
    if array_files.kind(path) == array_files.NPY:
        prompt = Prompt(array_files.read_npy(path), origin=f"{path} (.npy)")
        provenance = _read_side_file(path, prompt.rows_PD)
        return dataclasses.replace(prompt, provenance=provenance)
    tensors, header = array_files.read_safetensors(path)
    known = [name for name in _TENSORS if name in tensors] or list(tensors)[: len(tensors) == 1]
    if len(known) != 1:
        raise ValueError(
            f"{path} does not say which of its {len(tensors)} tensors is the prompt: "
            f"{sorted(tensors)[:10]}. Keep one, or call it {_TENSOR!r}."
        )
    header.pop("format", None)
    return Prompt(tensors[known[0]], header, f"{path} (safetensors, tensor {known[0]!r})")


def _newest(parent: Path) -> Path | None:
    """Returns the prompt file of the highest complete `checkpoint_{step}/`, None without one."""
    file_of = {}
    for file in parent.glob(f"checkpoint_*/{T5X_FILE}"):
        if match := _STEP.fullmatch(file.parent.name):  # not checkpoint_9.tmp-123
            file_of[int(match[1])] = file
    return file_of[max(file_of)] if file_of else None


def _side_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_side_file(path: Path, rows_PD: np.ndarray) -> dict[str, str]:
    """Reads the provenance of an .npy file: its side file, or else its run or its step in T5X."""
    side = _side_file(path)
    if not side.is_file():
        if path.name == RUN_FILE and (path.parent / RUN_RESULT).is_file():
            return _from_run(path.parent)
        match = _STEP.fullmatch(path.absolute().parent.name)
        return {"step": match[1]} if match and path.name == T5X_FILE else {}
    content = _json(side)
    if content.pop(_DIGEST, None) != _digest(rows_PD):
        raise ValueError(
            f"{side} describes another prompt than the one in {path}. Delete it, or copy the two "
            "files again together."
        )
    return content


def _from_run(folder: Path) -> dict[str, str]:
    config = folder / RUN_CONFIG
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return provenance_of_run(_json(folder / RUN_RESULT), text)


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot read the provenance in {path}: {reason(error)}. Delete or copy that file "
            "again."
        ) from error


def _digest(rows_PD: np.ndarray) -> str:
    return hashlib.sha256(repr(rows_PD.shape).encode() + rows_PD.tobytes()).hexdigest()


def _write_npy(path: Path, prompt: Prompt) -> Path:
    # The digest tells an interruption between the two writes, or a file that was replaced alone.
    side = {**prompt.provenance, _DIGEST: _digest(prompt.rows_PD)}
    array_files.write_npy(path, prompt.rows_PD)
    write_json(_side_file(path), side)
    return path


def _write_t5x(folder: Path, prompt: Prompt) -> Path:
    step = prompt.provenance.get("step", "")
    name = f"checkpoint_{int(step) if step.isdecimal() else 0}"
    return _write_npy(folder / "numpy_checkpoints" / name / T5X_FILE, prompt)


def _write_safetensors(path: Path, prompt: Prompt) -> Path:
    array_files.write_safetensors(path, {_TENSOR: prompt.rows_PD}, prompt.provenance)
    return path


def _write_peft(folder: Path, prompt: Prompt) -> Path:
    peft.write(folder, prompt.rows_PD, prompt.provenance)
    return folder


FORMATS: dict[str, Callable[[Path, Prompt], Path]] = {
    "npy": _write_npy,
    "safetensors": _write_safetensors,
    "peft": _write_peft,
    "t5x": _write_t5x,
}
