"""The model card of a prompt on the Hugging Face hub, made of its provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax import hub

_FILES = ("path", "validation", "test")
# Names of facts in the table, and their keys in the provenance, in order.
_FACTS = {
    "task": "task",
    "method": "method",
    "model": "model",
    "frozen weights": "base_model",
    "their revision": "base_revision",
    "insertion of the prompt": "insertion",
    "score on validation": "validation_score",
    "score on test": "test_score",
    "best step": "step",
    "seed": "seed",
    "SHA-256 of the frozen weights": "base_sha256",
    "SHA-256 of the configuration": "config_sha256",
}


def public(provenance: Mapping[str, str]) -> dict[str, str]:
    """Returns a provenance in which files of data are named without their folders."""
    facts = dict(provenance)
    if "task_file" in facts:
        kind, _, text = facts["task_file"].partition(":")
        fields = json.loads(text)
        fields |= {key: _public_path(fields.get(key, "")) for key in _FILES}
        facts["task_file"] = f"{kind}:{json.dumps(fields, ensure_ascii=False, sort_keys=True)}"
    return facts


def text(
    url: str, provenance: Mapping[str, str], *, license: str = "", base_license: str = ""
) -> str:
    """Returns the text of a model card: `README.md` with the hub's metadata at its head.

    Args:
      url: of the repository.
      provenance: of the prompt; `base_model` is the frozen model's name on the hub.
      license: identifier of the prompt's own license, "" to state none.
      base_license: that of the frozen model, "" for unknown.
    """
    name = hub.parse(url).name
    task = _task_fields(provenance)
    head = _metadata(provenance, task, license)
    parts = [
        "\n".join(["---", *head, "---"]),
        f"# {name.partition('/')[2]}",
        _summary(provenance, task),
        _usage(name, provenance, task),
        _scores(provenance),
        _licenses(provenance, license, base_license),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _metadata(provenance: Mapping[str, str], task: Mapping[str, Any], license: str) -> list[str]:
    datasets = {
        path.removeprefix(hub.DATASETS).partition("@")[0].partition(":")[0]
        for path in (task.get(key, "") for key in _FILES)
        if path.startswith(hub.DATASETS)
    }
    base = provenance.get("base_model", "")
    return [
        "library_name: peft",
        *([f"license: {json.dumps(license)}"] if license else []),  # "no" is a word, not a boolean
        *([f"base_model: {base}"] if base else []),
        *(["datasets:", *(f"- {name}" for name in sorted(datasets))] if datasets else []),
        "tags:",
        *("- " + tag for tag in ("spjax", "prompt-tuning", "t5")),
    ]


def _summary(provenance: Mapping[str, str], task: Mapping[str, Any]) -> str:
    base = provenance.get("base_model") or provenance.get("model") or "a frozen T5"
    by = f" by {provenance['method']}" if "method" in provenance else ""
    lines = [
        f"Trained{by} over the frozen model `{base}`"
        + (f" on the task `{provenance['task']}`." if "task" in provenance else ".")
    ]
    if task.get("template"):
        lines.append(f"Inputs are written as `{task['template']}`.")
    if task.get("labels"):
        lines.append(f"Answers are {', '.join(f'`{label}`' for label in task['labels'])}.")
    return " ".join(lines)


def _usage(name: str, provenance: Mapping[str, str], task: Mapping[str, Any]) -> str:
    base = provenance.get("base_model", "")
    revision = provenance.get("base_revision", "")
    at = f"@{revision}" if revision else ""
    model = f', "hf://{base}{at}"' if base else ""
    loaded = repr(base or "BASE") + (f", revision={revision!r}" if revision else "")
    example = task.get("template") or "the text"
    return f"""In spjax:

```python
import spjax

predictor = spjax.load_predictor("hf://{name}"{model})
print(predictor.predict([{example!r}]))
```

In PEFT, over {f"`{base}`" if base else "the frozen model as a folder of transformers"}:

```python
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

base = AutoModelForSeq2SeqLM.from_pretrained({loaded})
model = PeftModel.from_pretrained(base, {name!r})
```

Pass `attention_mask` with every batch: without it the padding is read as text."""


def _scores(provenance: Mapping[str, str]) -> str:
    known = {fact: provenance[key] for fact, key in _FACTS.items() if key in provenance}
    rows = [f"| {fact} | {value.replace('|', chr(92) + '|')} |" for fact, value in known.items()]
    return "\n".join(["| fact | value |", "| --- | --- |", *rows]) if rows else ""


def _licenses(provenance: Mapping[str, str], license: str, base_license: str) -> str:
    base = provenance.get("base_model") or "the frozen model"
    known = f"{base_license}" if base_license else "not known; see its own page"
    own = f"License of this prompt: {license}." if license else ""
    return " ".join(filter(None, (own, f"License of {base}: {known}.")))


def _task_fields(provenance: Mapping[str, str]) -> dict[str, Any]:
    return json.loads(provenance.get("task_file", "files:{}").partition(":")[2])


def _public_path(path: str) -> str:
    return path if path.startswith(hub.DATASETS) or not path else Path(path).name
