"""Names of the files in which a run folder keeps what was trained, and their provenance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from spjax import hub
from spjax.checkpoints import remote

PROMPT_FILE, TENSORS_FILE, PROMPTS_FOLDER = "prompt.npy", "tuned.safetensors", "prompts"
RESULT_FILE, CONFIG_FILE = "result.json", "config.gin"
# The configuration of a run that goes on from a finished shorter one, until it is finished itself.
LONGER_CONFIG_FILE = "config.longer.gin"


def provenance(result: Mapping[str, Any], config_text: str, checkpoint: str = "") -> dict[str, str]:
    """Returns the provenance of a prompt that a run trained.

    Args:
      result: content of the run's `result.json`.
      config_text: content of its `config.gin`, which is remembered by its SHA-256.
      checkpoint: path or URL of its frozen weights, "" for those that ship with spjax. A path is
        remembered as an absolute one: `ckpts/flan` is also the form of a name on the hub.

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
        "vocabulary_sha256",
    )
    facts = {name: result.get(name) for name in names}
    facts["step"] = result.get("best_step")
    for split in ("validation", "test"):
        facts[f"{split}_score"] = (result.get(split) or {}).get("score")
    if config_text:
        facts["config_sha256"] = hashlib.sha256(config_text.encode()).hexdigest()
    known = {name: str(value) for name, value in facts.items() if value is not None}
    is_path = checkpoint and not remote.is_url(checkpoint)
    return with_base_model(known, os.path.abspath(checkpoint) if is_path else checkpoint)


def with_base_model(provenance: Mapping[str, str], base_model: str) -> dict[str, str]:
    """Returns a provenance that names a base model in place of its own, if any is named.

    Args:
      provenance: of a prompt.
      base_model: the path of a file or folder that is there, which becomes absolute;
        ORGANIZATION/NAME; hf://ORGANIZATION/NAME[@REVISION]; another URL; or "".
    """
    if not base_model:
        return dict(provenance)
    facts = {key: value for key, value in provenance.items() if key != "base_revision"}
    if not hub.is_url(base_model):
        path = os.path.abspath(os.path.expanduser(base_model))
        is_path = not remote.is_url(base_model) and os.path.exists(path)
        return {**facts, "base_model": path if is_path else base_model}
    repository = hub.parse(base_model)
    revision = {"base_revision": repository.revision} if repository.revision else {}
    return {**facts, "base_model": repository.name, **revision}
