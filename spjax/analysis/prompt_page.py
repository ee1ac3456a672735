"""Text pages of what `interpretation` computes of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SHOWN = 12  # of the words that several rows share, and of the evaluations of a run


def page(found: Mapping[str, Any]) -> str:
    """Formats a prompt's page.

    Args:
      found: what `interpretation.examine` gives; "drift", if it is there, is a list of what the
        run logged at each evaluation.
    """
    parts = [_facts(found), _words(found), _labels(found), _text(found), _drift(found)]
    return "\n\n".join(part for part in parts if part)


def matrix(names: Sequence[str], values_SS: Any, title: str) -> str:
    """Formats a table of cosines between prompts.

    Args:
      names: of the prompts.
      values_SS: one of `interpretation.similarities`.
      title: what stands in the corner.
    """
    rows = [(title, *names)]
    rows += [(name, *(f"{x:.3f}" for x in row)) for name, row in zip(names, values_SS)]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Pads columns to their widest cell, except the last column of a line."""
    columns = max(map(len, rows))
    widths = [
        max((len(row[i]) for row in rows if i < len(row) - 1), default=0) for i in range(columns)
    ]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths)), row[-1]]) for row in rows
    )


def _facts(found: Mapping[str, Any]) -> str:
    length, width = found["shape"]
    norm, size = found["row_norm"], f"{found['element_rms']:.4g}"
    if "embedding_rms" in found:
        size += f" (the model's embeddings: {found['embedding_rms']:.4g})"
    facts = [
        ("prompt", found["prompt"]),
        ("shape", f"{length} rows x {width}"),
        ("row norm", ", ".join(f"{name} {norm[name]:.4g}" for name in ("min", "mean", "max"))),
        ("element RMS", size),
    ]
    if pairs := found["row_cosine"]:
        most = f"largest {pairs['max']:.2f} (rows {pairs['rows'][0]} and {pairs['rows'][1]})"
        facts.append(("row cosine", f"mean {pairs['mean']:.2f}, {most}"))
    facts += found["provenance"].items() or [("provenance", "not recorded")]
    return aligned(facts)


def _words(found: Mapping[str, Any]) -> str:
    if "rows" not in found:
        return ""
    cluster = found.get("cluster")
    title = f"nearest words by {found['metric']}"
    head = ("row", "norm", "cluster", title) if cluster else ("row", "norm", title)
    rows: list[Sequence[str]] = [head]
    for i, row in enumerate(found["rows"]):
        tight = [f"{cluster['rows'][i]:.2f}"] if cluster else []
        words = [f"{word} {near:.2f}" for word, near in row["nearest"]]
        rows.append((str(i), f"{row['norm']:.4g}", *tight, *words))
    text = aligned(rows)
    if cluster:
        text += (
            "\n\ncluster: mean cosine between a row's nearest words; over all rows "
            f"{cluster['mean']:.2f}, around random vectors {cluster['random_vectors']:.2f}"
        )
    if shared := found["shared"]:
        listed = [f"{word} ({_numbers(own)})" for word, own in shared.items()]
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        text += f"\nnearest of several rows: {', '.join(listed[:_SHOWN])}{more}"
    return text


def _labels(found: Mapping[str, Any]) -> str:
    if not found.get("labels"):
        return ""
    rows = [("label", "best rank", "at row", "among the nearest words of rows")]
    for label, own in found["labels"].items():
        where = _numbers(own["neighbour_of"]) or "none"
        rows.append((label, str(own["rank"]), str(own["row"]), where))
    return aligned(rows)


def _text(found: Mapping[str, Any]) -> str:
    if not (text := found.get("text")):
        return ""
    return f"of the text: {text['recovered']} of {text['tokens']} rows have their own word nearest"


def _drift(found: Mapping[str, Any]) -> str:
    lines = found.get("drift") or ()
    if not lines:
        return ""
    stride = -(-len(lines) // _SHOWN)
    shown = list(reversed(list(reversed(lines))[::stride]))  # the last one always
    rows = [("step", "norm", "from the start")]
    rows += [(str(x["step"]), f"{x['norm']:.4g}", f"{x['drift']:.4g}") for x in shown]
    return aligned(rows)


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
