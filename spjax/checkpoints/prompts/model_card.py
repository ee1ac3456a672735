"""The model card of an adapter, in its folder and on the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spjax import hub
from spjax.checkpoints.prompts.public_facts import FILES, public, task_fields

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

_GENERATE = "ids = model.generate(**batch, {more}max_new_tokens=20)"
_GREEDY = """ids = torch.zeros(1, 1, dtype=torch.long)  # of one text
while ids.shape[1] <= 20 and ids[0, -1] != tokenizer.eos_token_id:
    logits = model(**batch, decoder_input_ids=ids).logits
    ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)"""
_PREFIX_NOTE = """

With transformers 5.24 and PEFT 0.21.2 `model.generate` leaves the prefix of a T5 out and answers as
the frozen model does. The logits of a forward pass have it, hence the loop."""


def text(
    source: str,
    provenance: Mapping[str, str],
    kind: str = "PROMPT_TUNING",
    *,
    license: str = "",
    base_license: str = "",
) -> str:
    """Returns the text of a model card: `README.md` with the hub's metadata at its head.

    Args:
      source: the URL of a repository, or the name of the adapter's folder.
      provenance: of the prompt; `base_model` is the frozen model's name on the hub.
      kind: the adapter's `peft_type`.
      license: identifier of the prompt's own license, "" to state none.
      base_license: that of the frozen model, "" for unknown.
    """
    from spjax.checkpoints.weights import weights  # it imports JAX

    opens_alone = "base_model" in provenance or weights.ships(provenance.get("model", ""))
    model = "" if opens_alone else ', model="BASE"'
    provenance = public(provenance)
    name = hub.parse(source).name if hub.is_url(source) else source
    task = task_fields(provenance)
    example = task.get("template") or "the text"
    head = _metadata(provenance, task, license, kind)
    parts = [
        "\n".join(["---", *head, "---"]),
        f"# {name.rpartition('/')[2]}",
        _summary(provenance, task),
        _usage_in_spjax(f"{source!r}{model}", example),
        _usage_in_peft(name, provenance, example, kind),
        _scores(provenance),
        _licenses(provenance, license, base_license),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _metadata(
    provenance: Mapping[str, str], task: Mapping[str, Any], license: str, kind: str
) -> list[str]:
    datasets = {
        path.removeprefix(hub.DATASETS).partition("@")[0].partition(":")[0]
        for path in (task.get(key, "") for key in FILES)
        if path.startswith(hub.DATASETS)
    }
    base = provenance.get("base_model", "")
    return [
        "library_name: peft",
        *([f"license: {json.dumps(license)}"] if license else []),  # "no" is a word, not a boolean
        *([f"base_model: {base}"] if base else []),
        *(["datasets:", *(f"- {name}" for name in sorted(datasets))] if datasets else []),
        "tags:",
        *("- " + tag for tag in ("spjax", kind.lower().replace("_", "-"), "t5")),
    ]


def _summary(provenance: Mapping[str, str], task: Mapping[str, Any]) -> str:
    model = provenance.get("model", "auto")
    base = provenance.get("base_model") or ("" if model == "auto" else model)
    over = f"the frozen model `{base}`" if base else "a frozen T5"
    by = f" by {provenance['method']}" if "method" in provenance else ""
    lines = [
        f"Trained{by} over {over}"
        + (f" on the task `{provenance['task']}`." if "task" in provenance else ".")
    ]
    if task.get("template"):
        lines.append(f"Inputs are written as `{task['template']}`.")
    if task.get("labels"):
        lines.append(f"Answers are {', '.join(f'`{label}`' for label in task['labels'])}.")
    return " ".join(lines)


def _usage_in_spjax(arguments: str, example: str) -> str:
    return f"""In spjax:

```python
import spjax

predictor = spjax.load_predictor({arguments})
print(predictor.predict([{example!r}]))
```"""


def _usage_in_peft(name: str, provenance: Mapping[str, str], example: str, kind: str) -> str:
    base = provenance.get("base_model", "")
    revision = provenance.get("base_revision", "") if base else ""
    at = f", revision={revision!r}" if revision else ""
    multitask = "task_ids=torch.tensor([0]), " if kind == "MULTITASK_PROMPT_TUNING" else ""
    answers = _GREEDY if kind == "PREFIX_TUNING" else _GENERATE.format(more=multitask)
    note = _PREFIX_NOTE if kind == "PREFIX_TUNING" else ""
    imports = "import torch\n" if "torch." in answers else ""
    unknown = "" if base else "  # the folder of the frozen model, as transformers reads it"
    return f"""In PEFT:

```python
{imports}from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

base = {base or "BASE"!r}{unknown}
tokenizer = AutoTokenizer.from_pretrained(base{at})
frozen = AutoModelForSeq2SeqLM.from_pretrained(base{at})
model = PeftModel.from_pretrained(frozen, {name!r})
batch = tokenizer([{example!r}], return_tensors="pt", padding=True)
{answers}
print(tokenizer.batch_decode(ids, skip_special_tokens=True))
```

`batch` has `attention_mask`; without it the padding is read as text.{note}"""


def _scores(provenance: Mapping[str, str]) -> str:
    known = {fact: provenance[key] for fact, key in _FACTS.items() if key in provenance}
    rows = [f"| {fact} | {value.replace('|', chr(92) + '|')} |" for fact, value in known.items()]
    return "\n".join(["| fact | value |", "| --- | --- |", *rows]) if rows else ""


def _licenses(provenance: Mapping[str, str], license: str, base_license: str) -> str:
    base = provenance.get("base_model", "")
    known = f"{base_license}" if base_license else "not known; see its own page"
    own = f"License of this prompt: {license}." if license else ""
    return " ".join(filter(None, (own, f"License of {base}: {known}." if base else "")))
