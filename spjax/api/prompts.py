"""Prompts in and out of files, and of repositories of the Hugging Face hub."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from spjax import hub
from spjax.checkpoints.prompts import model_card, peft, prompt_files, public_facts, run_prompts
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.files import write_text
from spjax.studies.copies import local_copy

_log = logging.getLogger(__name__)
_LICENSE = re.compile(r"[A-Za-z0-9][\w.+-]{0,60}")


def load_prompt(path: str | os.PathLike[str]) -> Prompt:
    """Loads a prompt, or what a run of another method has trained.

    Args:
      path: a file (`.npy`, safetensors) or folder (PEFT adapter, T5X checkpoint, run folder), or
        a repository of the Hugging Face hub, `hf://ORGANIZATION/NAME[@REVISION]`.

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
      base_model: for "peft", the frozen model's name on the Hugging Face hub, or its folder; by
        default the checkpoint of the run. The pocket sizes that ship with spjax have none.

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
    prompt = _as_prompt(prompt).with_base_model(base_model)
    return prompt_files.write(Path(path), prompt, format)


def push_prompt(
    prompt: Any,
    repository: str,
    *,
    base_model: str = "",
    license: str = "",
    private: bool = False,
) -> str:
    """Uploads a prompt to the Hugging Face hub: an adapter that PEFT loads, and a model card.

    Files of data are named without their folders in what is uploaded.

    Args:
      prompt: from `load_prompt` or a run, an array `[P, D]`, or the path of a run folder, prompt
        file or adapter.
      repository: `hf://ORGANIZATION/NAME`, if need be with `@BRANCH`; made if there is none.
      base_model: the frozen model's name on the hub; by default that of the run's checkpoint, if
        it was read from there.
      license: identifier of the prompt's license on the hub, "" to state none.
      private: whether a new repository is private.

    Returns:
      The URL with the commit, by which the prompt can be used again.

    Raises:
      ValueError: it is no prompt or none that PEFT has a place for, huggingface_hub is not
        installed, or the upload is refused.
    """
    hub.parse(repository)
    if license and not _LICENSE.fullmatch(license):
        raise ValueError(f"license is {license!r}; give an identifier of the hub, as apache-2.0.")
    if base_model and not hub.is_name(base_model):
        raise ValueError(
            f"base_model is {base_model!r}; give the frozen model's name on the hub, ORG/NAME, for "
            "example google-t5/t5-small."
        )
    stored = _public_prompt(prompt, base_model)
    with tempfile.TemporaryDirectory() as parent:
        folder = prompt_files.write(Path(parent) / "adapter", stored, "peft")
        kind, base_license = peft.config_of(folder)["peft_type"], _license(stored)
        text = model_card.text(
            repository, stored.provenance, kind, license=license, base_license=base_license
        )
        write_text(folder / peft.README, text)
        return hub.upload(folder, repository, "Upload a prompt of spjax", private=private)


def _as_prompt(prompt: Any) -> Prompt:
    if isinstance(prompt, Prompt):
        return prompt
    table = np.asarray(prompt)
    if table.dtype == object or table.ndim != 2:
        raise ValueError(
            f"the prompt is {type(prompt).__name__} of shape {table.shape}; give a prompt from "
            "spjax.load_prompt or a run, or an array [P, D]."
        )
    return Prompt.from_array(table.astype(np.float32))


def _public_prompt(prompt: Any, base_model: str) -> Prompt:
    """Returns a prompt as it is uploaded."""
    stored = _as_prompt(load_prompt(prompt) if isinstance(prompt, (str, os.PathLike)) else prompt)
    facts = stored.provenance
    if "base_revision" not in facts:  # as for transformers, a folder comes before a repository
        facts = run_prompts.with_base_model(facts, facts.get("base_model", ""))
    public = dataclasses.replace(stored, provenance=public_facts.public(facts))
    if "base_model" in facts and not (base_model or "base_model" in public.provenance):
        _log.warning(
            "%s is on this machine alone, so no frozen model is named; give its name on the hub "
            "as base_model, if it has one",
            facts["base_model"],
        )
    return public.with_base_model(f"{hub.PREFIX}{base_model}" if base_model else "")


def _license(prompt: Prompt) -> str:
    base = prompt.provenance.get("base_model", "")
    return hub.license_of(base) if base else ""
