"""Names of the files in which a run folder keeps what was trained, and their provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

PROMPT_FILE, TENSORS_FILE, PROMPTS_FOLDER = "prompt.npy", "tuned.safetensors", "prompts"
RESULT_FILE, CONFIG_FILE = "result.json", "config.gin"
# The configuration of a run that goes on from a finished shorter one, until it is finished itself.
LONGER_CONFIG_FILE = "config.longer.gin"


def provenance(result: Mapping[str, Any], config_text: str) -> dict[str, str]:
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
    facts = {name: result.get(name) for name in names}
    facts["step"] = result.get("best_step")
    for split in ("validation", "test"):
        facts[f"{split}_score"] = (result.get(split) or {}).get("score")
    if config_text:
        facts["config_sha256"] = hashlib.sha256(config_text.encode()).hexdigest()
    return {name: str(value) for name, value in facts.items() if value is not None}
