"""Text pages of what `interpretation` computes of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spjax import text_tables

_SHOWN = 12  # of the words that several rows share, and of the evaluations of a run


def page(facts: Mapping[str, Any]) -> str:
    """Formats a prompt's page.

    Args:
      facts: from `interpretation.examine`; "drift", if it is there, is a list of what the
        run logged at each evaluation.
    """
    parts = [_facts(facts), _word_facts(facts), _labels(facts), _text(facts), _drift(facts)]
    return "\n\n".join(part for part in parts if part)


def matrix(names: Sequence[str], values_SS: Any, title: str) -> str:
    """Formats a table of cosines between prompts.

    Args:
      names: of the prompts.
      values_SS: one of `interpretation.similarities`.
      title: of the corner.
    """
    rows = [(title, *names)]
    rows += [(name, *(f"{x:.3f}" for x in row)) for name, row in zip(names, values_SS)]
    return text_tables.render(rows)


def _facts(facts: Mapping[str, Any]) -> str:
    length, width = facts["shape"]
    norm, size = facts["row_norm"], f"{facts['element_rms']:.4g}"
    if "embedding_rms" in facts:
        size += f" (the model's embeddings: {facts['embedding_rms']:.4g})"
    rows = [
        ("prompt", facts["prompt"]),
        ("shape", f"{length} rows x {width}"),
        ("row norm", ", ".join(f"{name} {norm[name]:.4g}" for name in ("min", "mean", "max"))),
        ("element RMS", size),
    ]
    if pairs := facts["row_cosine"]:
        most = f"largest {pairs['max']:.2f} (rows {pairs['rows'][0]} and {pairs['rows'][1]})"
        rows.append(("row cosine", f"mean {pairs['mean']:.2f}, {most}"))
    rows += facts["provenance"].items() or [("provenance", "not recorded")]
    return text_tables.render(rows)


def _word_facts(facts: Mapping[str, Any]) -> str:
    if "rows" not in facts:
        return ""
    cluster = facts.get("cluster")
    # A table of their own, so that its title may be wider than the first of its columns.
    nearest = text_tables.render(
        [[f"{word} {near:.2f}" for word, near in row["nearest"]] for row in facts["rows"]]
    )
    head = ("row", "norm", *(["cluster"] if cluster else []))
    rows = [(*head, f"nearest words by {facts['metric']}")]
    for i, (row, words) in enumerate(zip(facts["rows"], nearest.split("\n"))):
        tight = [f"{cluster['rows'][i]:.2f}"] if cluster else []
        rows.append((str(i), f"{row['norm']:.4g}", *tight, words))
    text = text_tables.render(rows)
    if cluster:
        text += (
            "\n\ncluster: mean cosine between a row's nearest words; over all rows "
            f"{cluster['mean']:.2f}, around random vectors {cluster['random_vectors']:.2f}"
        )
    if shared := facts["shared"]:
        listed = [f"{word} ({_numbers(indices)})" for word, indices in shared.items()]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        text += f"\nnearest of several rows: {', '.join(listed[:_SHOWN])}{more}"
    return text


def _labels(facts: Mapping[str, Any]) -> str:
    if not facts.get("labels"):
        return ""
    rows = [("label", "best rank", "at row", "among the nearest words of rows")]
    for label, label_facts in facts["labels"].items():
        where = _numbers(label_facts["neighbour_of"]) or "none"
        rows.append((label, str(label_facts["rank"]), str(label_facts["row"]), where))
    return text_tables.render(rows)


def _text(facts: Mapping[str, Any]) -> str:
    if not (text := facts.get("text")):
        return ""
    return f"of the text: {text['recovered']} of {text['tokens']} rows have their own word nearest"


def _drift(facts: Mapping[str, Any]) -> str:
    lines = facts.get("drift") or ()
    if not lines:
        return ""
    stride = -(-len(lines) // _SHOWN)
    shown = list(reversed(list(reversed(lines))[::stride]))  # the last one always
    rows = [("step", "norm", "from the start")]
    rows += [(str(x["step"]), f"{x['norm']:.4g}", f"{x['drift']:.4g}") for x in shown]
    return text_tables.render(rows)


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
