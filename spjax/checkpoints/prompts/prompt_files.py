"""Reads and writes prompts: `.npy`, T5X's numpy checkpoints, safetensors, PEFT, run folders."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax import hub
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft, public_facts, run_prompts
from spjax.checkpoints.prompts.prompt import (
    MULTITASK_PARTS,
    SOFT_TOKENS,
    WEIGHT_CHANGES,
    Prompt,
    is_answering,
    is_storable,
)
from spjax.files import read_json, reason, write_json

# The parameter's name in T5X's tree, and its file in `numpy_checkpoints/checkpoint_{step}/` of
# google-research/prompt-tuning: an .npy file without that extension.
T5X_NAME = "encoder/prompt/prompt/prompt"
T5X_FILE = T5X_NAME.replace("/", ".")
_TENSORS = (SOFT_TOKENS, peft.TENSOR, T5X_NAME, T5X_FILE, f"target.{T5X_FILE}")
# What a T5X checkpoint's folder has in it: the older format's index, or Orbax's files.
_ORBAX_FILES = ("_METADATA", "manifest.ocdbt")
_T5X_MARKS = ["checkpoint"] + [f"{i}{f}" for i in ("", "state/", "default/") for f in _ORBAX_FILES]
_STEP = re.compile(r"checkpoint_(\d+)")
_DIGEST = "rows_sha256"
_TABLES = ("npy", "t5x")  # formats that hold soft tokens only


def read(path: Path | str) -> Prompt:
    """Reads a prompt, run or adapter that can be used with a frozen model.

    Args:
      path: as of `read_soft_tokens`, a run folder of any method, its `tuned.safetensors`, or an
        adapter of PEFT (LoRA, IA3, a prefix, the prompt of one task) or one as safetensors; of the
        Hugging Face hub, `hf://ORGANIZATION/NAME[@REVISION]`, it is downloaded.

    Raises:
      ValueError: nothing there is a prompt, it is damaged, or it has prompts of several tasks.
    """
    if hub.is_url(path):
        return _of_stranger(read(hub.prompt_path(path)))
    path = Path(path)
    if not peft.is_adapter(path) and (path / run_prompts.PROMPTS_FOLDER).is_dir():
        folder = path / run_prompts.PROMPTS_FOLDER
        files = ", ".join(sorted(str(file) for file in folder.glob("*.npy")))
        raise ValueError(f"{path} has prompts of several tasks; give one of them: {files}.")
    source = _tensors_source(path)
    if source is None:
        return read_soft_tokens(path)
    tensors, provenance = _read_tensors(source)
    if (path / run_prompts.PROMPT_FILE).is_file():
        tensors |= read_soft_tokens(path).tensors
    # A multitask prompt has its parts beside it.
    known = {name: x for name, x in tensors.items() if is_answering(name)}
    if not known:
        raise ValueError(
            f"{path} holds {', '.join(sorted(tensors)[:3])}, none of which is soft tokens or a "
            f"change of weights ({', '.join(WEIGHT_CHANGES)}). Give what a run or an adapter has "
            "left."
        )
    if SOFT_TOKENS in known and known[SOFT_TOKENS].ndim > 2:
        raise ValueError(
            f"{path} has the prompts of {len(known[SOFT_TOKENS])} tasks, and it does not say of "
            "which; take one of them out of it."
        )
    return Prompt(known, provenance, f"{path} ({', '.join(sorted(known))})")


def read_soft_tokens(
    path: Path | str, *, width: int | None = None, length: int | None = None
) -> Prompt:
    """Reads a prompt that is a table of soft tokens, in any supported format.

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
    if hub.is_url(path):
        prompt = read_soft_tokens(hub.prompt_path(path), width=width, length=length)
        return _of_stranger(prompt)
    path = Path(path)
    if path.is_dir():
        prompt = _read_folder(path)
    elif path.name == peft.WEIGHTS and (path.parent / peft.CONFIG).is_file():
        prompt = _read_peft(path.parent)  # how many rows count is in the JSON file beside it
    else:
        prompt = _read_file(path)
    shape = prompt.soft_tokens_PD.shape
    expected = (length or shape[0], width or shape[1])
    if shape != expected:
        raise ValueError(
            f"the prompt in {path} has shape {shape} (soft tokens, width), but {expected} is "
            "needed. A prompt fits only the model it was trained with; check model and length."
        )
    return prompt


def _of_stranger(prompt: Prompt) -> Prompt:
    """Returns a downloaded prompt without paths and URLs of its author's choice."""
    facts = public_facts.public(prompt.provenance)
    return dataclasses.replace(prompt, provenance=facts)


def digest(path: Path | str) -> str:
    """Returns the SHA-256 of the soft tokens in a file or folder, "" where there are none."""
    try:
        return _digest(read_soft_tokens(path).soft_tokens_PD)
    except ValueError:
        return ""


def write(path: Path | str, prompt: Prompt, format: str = "npy") -> Path:
    """Writes a prompt with its provenance; no reader ever sees half of it.

    Args:
      path: a file for "npy" (provenance in `<path>.json`) and "safetensors" (in the header), a
        folder for "peft" (in the header) and "t5x" (`numpy_checkpoints/...` in it, `.json`).
      prompt: what to write; the numbers are kept bit for bit. One that is more than soft tokens
        goes into "safetensors" or "peft" only.
      format: one of `FORMATS`.

    Returns:
      The file or folder that holds the prompt.

    Raises:
      ValueError: an unknown format or one that cannot hold it, or the path cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown prompt format {format!r}; use one of {', '.join(FORMATS)}.")
    if not prompt.tensors:
        raise ValueError(f"{prompt.origin} holds no tensors, so there is nothing to write.")
    if format in _TABLES and _is_table(prompt.tensors):
        prompt = Prompt.from_array(prompt.soft_tokens_PD, prompt.provenance, prompt.origin)
    try:
        if not prompt.is_soft_tokens:
            from spjax.checkpoints.prompts import adapters  # it imports JAX

            adapters.save(Path(path), prompt.tensors, prompt.provenance, format, prompt.origin)
            return Path(path)
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
      base_model: the frozen model for PEFT, as of `run_prompts.with_base_model`; "" for the
        checkpoint of the run.

    Returns:
      The file or folder that was written.

    Raises:
      ValueError: as `read` and `write`.
    """
    path = hub.prompt_path(source)
    tensors_source = _tensors_source(path)
    if (path / run_prompts.PROMPT_FILE).is_file() and not peft.is_adapter(path):
        tensors_source = None  # the parts of a multitask prompt lie beside it
    if tensors_source:
        from spjax.checkpoints.prompts import adapters  # it imports JAX

        tensors, provenance = _read_tensors(tensors_source)
        provenance = public_facts.public(provenance) if hub.is_url(source) else provenance
        provenance = run_prompts.with_base_model(provenance, base_model)
        if format in _TABLES and _is_table(tensors):
            return write(out, Prompt(tensors, provenance, str(source)), format)
        adapters.save(Path(out), tensors, provenance, format, str(source))
        return Path(out)
    return write(out, read_soft_tokens(source).with_base_model(base_model), format)


def _is_table(tensors: Mapping[str, np.ndarray]) -> bool:
    """Returns whether a table of soft tokens is all that answers depend on."""
    table = tensors.get(SOFT_TOKENS)
    parts = tensors.keys() - {SOFT_TOKENS}
    return table is not None and table.ndim == 2 and parts <= MULTITASK_PARTS


def _tensors_source(path: Path) -> Path | None:
    """Returns the adapter or file of tensors at a path that is more than soft tokens, else None."""
    if peft.is_adapter(path):
        return path
    if path.is_dir():
        file = path / run_prompts.TENSORS_FILE
        return file if file.is_file() else None
    if path.name == run_prompts.TENSORS_FILE:
        return path
    if not path.is_file() or (path.parent / peft.CONFIG).is_file():
        return None
    if array_files.kind(path) == array_files.NPY:
        return None
    names, _ = array_files.read_safetensors(path)
    others = names.keys() - {SOFT_TOKENS}
    return path if any(map(is_answering, others)) or MULTITASK_PARTS <= names.keys() else None


def _read_tensors(source: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what `_tensors_source` has named: tensors and provenance."""
    if source.is_dir():
        from spjax.checkpoints.prompts import adapters  # it imports JAX

        tensors, provenance = adapters.read(source)
    else:
        tensors, provenance = array_files.read_safetensors(source)
    provenance.pop("format", None)
    for name in filter(is_storable, tensors):
        array_files.widen(tensors[name], f"{name} of {source}")  # refuses NaN
    return tensors, provenance


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
    others = {name: np.asarray(x) for name, x in tensors.items() if name != SOFT_TOKENS}
    if others:
        array_files.write_safetensors(folder / run_prompts.TENSORS_FILE, others, provenance)
    prompt = tensors.get(SOFT_TOKENS)
    if prompt is None:
        return
    if prompt.ndim == 2:
        write(folder / run_prompts.PROMPT_FILE, Prompt.from_array(prompt, provenance))
        return
    for rows_PD, task in zip(prompt, tasks, strict=True):
        path = folder / run_prompts.PROMPTS_FOLDER / (re.sub(r"[^\w.:-]", "_", task) + ".npy")
        path.parent.mkdir(exist_ok=True)
        write(path, Prompt.from_array(rows_PD, {**provenance, "task": task}))


def _read_folder(folder: Path) -> Prompt:
    if (folder / peft.CONFIG).is_file():
        return _read_peft(folder)
    if (folder / run_prompts.PROMPT_FILE).is_file():
        return _read_file(folder / run_prompts.PROMPT_FILE)
    if (folder / T5X_FILE).is_file():
        return _read_file(folder / T5X_FILE)
    for parent in (folder / "numpy_checkpoints", folder):
        if newest := _newest(parent):
            return _read_file(newest)
    if (folder / run_prompts.RESULT_FILE).is_file():
        raise ValueError(
            f"the run in {folder} has left no {run_prompts.PROMPT_FILE}: its method has no prompt "
            f"or one for each task (in {run_prompts.PROMPTS_FOLDER}/), or it diverged before its "
            "first evaluation."
        )
    if any((folder / name).exists() for name in _T5X_MARKS):
        return _read_t5x(folder)
    raise ValueError(
        f"no prompt found in {folder}: there is no {peft.CONFIG} (PEFT), "
        f"{run_prompts.PROMPT_FILE} (a finished run), [numpy_checkpoints/]checkpoint_*/{T5X_FILE} "
        "or T5X checkpoint. Give the file or folder that holds one of them."
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
    return Prompt.from_array(
        prompts[known[0]], provenance, f"{folder} (T5X checkpoint, {known[0]})"
    )


def _read_peft(folder: Path) -> Prompt:
    rows, provenance, origin = peft.read(folder)
    return Prompt.from_array(rows, provenance, f"{folder} ({origin})")


def _read_file(path: Path) -> Prompt:
    if array_files.kind(path) == array_files.NPY:
        prompt = Prompt.from_array(array_files.read_npy(path), origin=f"{path} (.npy)")
        return prompt.with_provenance(_read_side_file(path, prompt.soft_tokens_PD))
    tensors, header = array_files.read_safetensors(path)
    known = [name for name in _TENSORS if name in tensors] or list(tensors)[: len(tensors) == 1]
    if len(known) != 1:
        raise ValueError(
            f"{path} does not say which of its {len(tensors)} tensors is the prompt: "
            f"{sorted(tensors)[:10]}. Keep one, or call it {SOFT_TOKENS!r}."
        )
    header.pop("format", None)
    return Prompt.from_array(
        tensors[known[0]], header, f"{path} (safetensors, tensor {known[0]!r})"
    )


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
        if (
            path.name == run_prompts.PROMPT_FILE
            and (path.parent / run_prompts.RESULT_FILE).is_file()
        ):
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
    config = folder / run_prompts.CONFIG_FILE
    text = config.read_text(encoding="utf-8") if config.is_file() else ""
    return run_prompts.provenance(_json(folder / run_prompts.RESULT_FILE), text)


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
    side = {**prompt.provenance, _DIGEST: _digest(prompt.soft_tokens_PD)}
    array_files.write_npy(path, prompt.soft_tokens_PD)
    write_json(_side_file(path), side)
    return path


def _write_t5x(folder: Path, prompt: Prompt) -> Path:
    step = prompt.provenance.get("step", "")
    name = f"checkpoint_{int(step) if step.isdecimal() else 0}"
    return _write_npy(folder / "numpy_checkpoints" / name / T5X_FILE, prompt)


def _write_safetensors(path: Path, prompt: Prompt) -> Path:
    array_files.write_safetensors(path, {SOFT_TOKENS: prompt.soft_tokens_PD}, prompt.provenance)
    return path


def _write_peft(folder: Path, prompt: Prompt) -> Path:
    peft.write(folder, prompt.soft_tokens_PD, prompt.provenance)
    return folder


FORMATS: dict[str, Callable[[Path, Prompt], Path]] = {
    "npy": _write_npy,
    "safetensors": _write_safetensors,
    "peft": _write_peft,
    "t5x": _write_t5x,
}
