"""Facts of a prompt that hold on any machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax import hub

_DATASET = re.compile(rf"{hub.DATASETS}\w[\w.-]*/\w[\w.-]*(?=[@:#]|$)")
FILES = ("path", "validation", "test")  # fields of a task of files that are paths


def public(provenance: Mapping[str, str]) -> dict[str, str]:
    """Returns a provenance without folders: those of the one who trained mean nothing elsewhere.

    So a prompt is uploaded, and so it is read from the hub, where a stranger may have put any path
    or URL into it. Data files keep their names alone.

    A base model is left out if it is no name of a repository of the hub. The size of the model is
    then not said either, where other weights of that size ship with spjax.
    """
    facts = dict(provenance)
    if "task_file" in facts:
        fields = task_fields(facts)
        fields |= {key: _public_path(fields.get(key, "")) for key in FILES}
        text = json.dumps(fields, ensure_ascii=False, sort_keys=True)
        facts["task_file"] = f"{facts['task_file'].partition(':')[0]}:{text}"
    if _is_file(task := facts.get("task", "")):
        del facts["task"]
        if "task_file" in facts and ":{" not in task:
            facts["task"] = Path(task).name
    base = facts.get("base_model", "")
    if base and not hub.is_name(base):
        from spjax.checkpoints.weights import weights  # it imports JAX

        del facts["base_model"]
        facts.pop("base_revision", None)
        shipped = weights.shipped_digests(facts.get("model", ""))
        if shipped and facts.get("base_sha256") not in shipped:
            facts["model"] = weights.AUTO
    return facts


def task_fields(provenance: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of a task of files, {} for another task or what is none.

    The header of a stranger's file may have anything in their place, which is left out.
    """
    try:
        fields = json.loads(provenance.get("task_file", "").partition(":")[2] or "{}")
    except (ValueError, RecursionError):
        return {}
    kinds = {**dict.fromkeys((*FILES, "template"), str), "labels": list}
    fields = fields if isinstance(fields, dict) else {}
    return {key: x for key, x in fields.items() if isinstance(x, kinds.get(key, object))}


def _public_path(path: str) -> str:
    if _DATASET.match(path):
        return path
    name = Path(path).name
    return "" if name.startswith(("..", "~")) else name


def _is_file(task: str) -> bool:
    """Returns whether a task is one of files, and not the name of one that spjax has."""
    return bool(set(task) & set("{/\\."))
