"""Prompt-tuning adapters of Hugging Face PEFT: a JSON file and one table of soft tokens.

PEFT itself is not needed. Its behavior was tested with version 0.21.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import model_card, peft_configs
from spjax.files import JSON_BYTES, parse_json_object, read_bytes, reason, replacing, write_text

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
README = "README.md"
TENSOR = "prompt_embeddings"
_CONFIG_DIGEST = "adapter_config_sha256"  # in the header: PEFT drops keys it does not know
_TABLES = ("PROMPT_TUNING", "P_TUNING")
VERSION = "0.21.2"  # of PEFT, whose files these are
ADAPTERS = ("LORA", "IA3", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING")  # of `adapters`
_REASONS = {
    "PREFIX_TUNING": "it holds keys and values for the decoder's layers, not rows of an input",
    "MULTITASK_PROMPT_TUNING": "its rows are multiplied by factors of each task",
    "LORA": "it changes weights",
}


def read(folder: Path) -> tuple[np.ndarray, dict[str, str], str]:
    """Reads the soft tokens of an adapter; PEFT saves P-tuning as the same table.

    With two transformer submodules, PEFT's own default for T5, the file has twice the rows and
    PEFT never uses or trains the second half.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
      The array as stored (`[P, D]` if the file is sound), strings of the header, and a sentence
      on where the rows came from.

    Raises:
      ValueError: another kind of adapter, a pickle, or files that contradict each other.
    """
    config = config_of(folder)
    kind = config.get("peft_type")
    if kind not in _TABLES:
        difference = _REASONS.get(str(kind), "it is not a table of rows")
        raise ValueError(
            f"the adapter in {folder} is of type {kind!r}: {difference}. Only "
            f"{' and '.join(_TABLES)} can be read as a prompt."
        )
    tensors, header = read_files(folder, config)
    if TENSOR not in tensors:
        raise ValueError(
            f"{folder / WEIGHTS} has no tensor {TENSOR!r}, only {sorted(tensors)}. Save the "
            "adapter again with PEFT."
        )
    if len(tensors) > 1:
        raise ValueError(
            f"{folder / WEIGHTS} has more than a table of rows: {sorted(tensors)[:5]}. spjax does "
            "not compute with the rest; train the adapter without it."
        )
    rows, note = _first_submodule(tensors[TENSOR], config, folder)
    return rows, header, f"PEFT {kind} adapter, {note}"


def write(folder: Path, rows_PD: np.ndarray, provenance: Mapping[str, str]) -> None:
    """Writes an adapter that PEFT loads, in full or not at all.

    Args:
      folder: made; there must be nothing in it.
      rows_PD: float32.
      provenance: goes to the header of the safetensors file, since PEFT drops keys of the JSON
        file that it does not know; `base_model` is the model's name on the Hugging Face hub,
        `base_revision` its revision if that is not the main branch.

    Raises:
      ValueError: the folder is there and not empty, or PEFT has no place for the prompt.
    """
    insertion = provenance.get("insertion", "front")
    if insertion != "front":
        raise ValueError(
            f"the prompt was trained at {insertion!r}, and PEFT puts every prompt in front of the "
            "text, where this one means nothing. Write it as npy or safetensors."
        )
    if blind := [name for name in ("sees_text", "sees_prompt") if name in provenance]:
        raise ValueError(
            f"the prompt was trained with {blind[0]} = {provenance[blind[0]]}, and with PEFT every "
            "row attends to everything, where this one means nothing. Write it as npy or "
            "safetensors."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another name.")
    config = _written_config(rows_PD, provenance)
    with replacing(folder) as unfinished:
        write_files(unfinished, {TENSOR: rows_PD}, provenance, config, folder.name)


def write_files(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, str],
    config: Mapping[str, Any],
    name: str,
) -> None:
    """Writes an adapter and its model card; the header has a digest of the configuration.

    Args:
      folder: to write into.
      tensors: by PEFT's names.
      header: the provenance.
      config: content of `adapter_config.json`.
      name: of the folder in the end, for the model card.
    """
    sealed = {**header, "format": "pt", _CONFIG_DIGEST: peft_configs.digest(config)}
    array_files.write_safetensors(folder / WEIGHTS, tensors, sealed)
    write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True))
    write_text(folder / README, model_card.text(name, header, config["peft_type"]))


def read_files(
    folder: Path, config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the tensors of an adapter under PEFT's names, and its provenance.

    These are the strings of the header, and the base model that the configuration names.

    Args:
      folder: of the adapter.
      config: its configuration, of a type that is read.

    Raises:
      ValueError: the configuration changes what spjax does not compute; or the files are damaged,
        or not of one adapter.
    """
    peft_configs.check(config, folder)
    tensors, header = array_files.read_safetensors(weights_of(folder))
    header.pop("format", None)
    digest = header.pop(_CONFIG_DIGEST, None)
    if digest is not None and digest != peft_configs.digest(config):
        raise ValueError(
            f"{folder / CONFIG} is not the one that was written with {WEIGHTS}: it is damaged, or "
            "was changed. Copy both files again."
        )
    if base := config.get("base_model_name_or_path"):  # which a user may have edited
        header.pop("base_revision", None)
        revision = {"base_revision": str(config["revision"])} if config.get("revision") else {}
        header |= {"base_model": str(base), **revision}
    return tensors, header


def check_names(tensors: Mapping[str, np.ndarray], expected: set[str]) -> None:
    """Checks that an adapter has these tensors and no others.

    Raises:
      ValueError: some are missing or unexpected.
    """
    if tensors.keys() != expected:
        raise ValueError(f"there are the tensors {sorted(tensors)[:5]}, not {sorted(expected)}")


def check_sizes(**sizes: Any) -> None:
    """Demands whole numbers of at least 1.

    Raises:
      ValueError: one is not.
    """
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"{name} is {size!r}; it must be a number of at least 1")


def _written_config(rows_PD: np.ndarray, provenance: Mapping[str, str]) -> dict[str, Any]:
    return {
        "auto_mapping": None,
        "base_model_name_or_path": provenance.get("base_model"),
        "inference_mode": True,
        "modules_to_save": None,
        # PEFT takes these two from the model when it loads; a prompt does not depend on them.
        "num_attention_heads": None,
        "num_layers": None,
        # Without this, PEFT expects 2 P rows for an encoder-decoder and refuses P.
        "num_transformer_submodules": 1,
        "num_virtual_tokens": rows_PD.shape[0],
        "peft_type": "PROMPT_TUNING",
        "peft_version": VERSION,
        # "TEXT" would need the text and a tokenizer even to load.
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "revision": provenance.get("base_revision"),
        "task_type": "SEQ_2_SEQ_LM",
        "token_dim": rows_PD.shape[1],
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }


def is_adapter(path: Path) -> bool:
    """Returns whether a path is a folder with an adapter of one of the kinds in `ADAPTERS`."""
    return (path / CONFIG).is_file() and config_of(path).get("peft_type") in ADAPTERS


def config_of(folder: Path) -> dict[str, Any]:
    """Reads `adapter_config.json`.

    Raises:
      ValueError: it cannot be read, or holds no object.
    """
    path = folder / CONFIG
    try:
        return parse_json_object(read_bytes(path, JSON_BYTES))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {reason(error)}. Save the adapter again.") from error


def weights_of(folder: Path) -> Path:
    """Returns the path of an adapter's tensors.

    Raises:
      ValueError: there is none, or a pickle instead.
    """
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if (folder / "adapter_model.bin").is_file():
        raise ValueError(
            f"{folder} holds adapter_model.bin, a pickle that could run code when loaded, and no "
            f"{WEIGHTS}. Load it with PEFT and save it again: save_pretrained writes safetensors."
        )
    raise ValueError(f"{folder} has {CONFIG} but no {WEIGHTS}; copy both files.")


def _first_submodule(
    table: np.ndarray, config: Mapping[str, Any], folder: Path
) -> tuple[np.ndarray, str]:
    length, submodules = config.get("num_virtual_tokens"), config.get("num_transformer_submodules")
    if type(length) is not int or length < 1:
        raise ValueError(
            f"{folder / CONFIG} has num_virtual_tokens {length!r}; it must be a number of rows, "
            "at least 1."
        )
    if submodules is not None and type(submodules) is not int:
        raise ValueError(
            f"{folder / CONFIG} has num_transformer_submodules {submodules!r}; it must be 1, 2 or "
            "null."
        )
    if submodules is None:
        # Half of 2 P rows is unused if PEFT wrote them; P rows can only be the prompt.
        allowed = {length} | ({2 * length} if config.get("task_type") == "SEQ_2_SEQ_LM" else set())
    else:
        allowed = {length * submodules}
    width = config.get("token_dim") or (table.shape or (0,))[-1]
    if table.ndim != 2 or table.shape[0] not in allowed or table.shape[1] != width:
        expected = " or ".join(str((rows, width)) for rows in sorted(allowed))
        raise ValueError(
            f"{TENSOR} in {folder} has shape {table.shape}, but {CONFIG} says {expected} "
            f"(num_virtual_tokens {length}, num_transformer_submodules {submodules}, token_dim "
            f"{config.get('token_dim')}). Use the two files of one adapter."
        )
    if table.shape[0] == length:
        return table, f"all {length} rows"
    return table[:length], f"the first {length} of its {table.shape[0]} rows (the rest is unused)"
