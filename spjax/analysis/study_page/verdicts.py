"""Sections of a page on the claims: the headline, the table of verdicts, and the parts of each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from spjax.analysis import claims, criteria
from spjax.analysis.claims import Judgment
from spjax.analysis.criteria import CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED, Part
from spjax.analysis.resampling import LEVELS, Estimate
from spjax.analysis.statistics import FULL_FINE_TUNING, PROMPT_TUNING
from spjax.analysis.study_page.cells import VIEW, StudyCells
from spjax.analysis.study_page.markup import Markup, Number, bullets, element, paragraphs, table

# Signs beside the words, for print and for readers who see no colors.
_SIGNS = {HOLDS: "✓", CONTRADICTED: "✗", CANNOT_TELL: "?", NOT_MEASURED: "–"}
_DECIDING = (
    "The deciding estimate is the part of a claim that decides its verdict: of one that holds or "
    "is undecided the part that is shown least clearly, of one that is contradicted the part "
    "whose opposite is shown most clearly. Estimates are in points, unless they are a count."
)
_CLAIMS_HEAD = (
    *("claim", "of Lester et al. 2021", "verdict", "deciding estimate", "estimate"),
    *("95 % interval", "to be", "margin", "evidence"),
)
_PARTS_HEAD = ("part", "estimate", "95 % interval", "to be", "shown", "evidence")


def headline(
    judgments: Sequence[Judgment], cells: StudyCells, saturated: pd.DataFrame, default: int
) -> list[str]:
    """Returns what the study says in a few sentences.

    Args:
      judgments: of `claims.check`.
      cells: of the same study.
      saturated: of `saturation.of_results`.
      default: the default prompt length, 0 without prompts.
    """
    counted = [each for each in judgments if _is_count(each)]
    tested = [each for each in judgments if each not in counted]
    measured = [each for each in tested if each.verdict != NOT_MEASURED]
    counts = ", ".join(
        _number(verdict, [each.claim.id for each in measured if each.verdict == verdict])
        for verdict in (HOLDS, CONTRADICTED, CANNOT_TELL)
    )
    sentences = [f"Of the {len(judgments)} claims of Lester et al. 2021 this study tests "]
    sentences[0] += f"{len(measured)}: {counts}." if measured else "none."
    decided = [each for each in measured if each.verdict in (HOLDS, CONTRADICTED)]
    sentences += [
        f"{each.claim.id} {'holds' if each.verdict == HOLDS else 'is contradicted'}: "
        f"{each.claim.statement}"
        for each in decided
    ]
    if measured and not decided:
        sentences.append(
            "The intervals are too wide, or runs are missing, so that neither a claim nor its "
            "opposite is shown."
        )
    if counted:
        names = ", ".join(f"{each.claim.id} {each.verdict}" for each in counted)
        sentences.append(f"{names}, by counting parameters alone.")
    return [*sentences, *_scores(cells, default), *_saturation(saturated)]


def overview(judgments: Sequence[Judgment]) -> Markup:
    """Returns the table of all claims, and notes for its reader."""
    rows = []
    for judgment in judgments:
        claim = judgment.claim
        part = _deciding(judgment)
        shown: list[object] = ["", Number(math.nan), "", "", claim.margin, ""]
        if part is not None:
            shown = [part.text, *_estimate(part.estimate), part.bounds, claim.margin]
            shown.append(evidence_text(part.estimate))
        name: object = claim.id
        if part is not None:
            name = element("a", claim.id, href=f"#{claim.id}")
        rows.append([name, claim.statement, _verdict(judgment.verdict), *shown])
    notes = [_DECIDING, claims.scope(judgments)]
    return Markup(
        table("Claims and verdicts", _CLAIMS_HEAD, rows, class_="sortable claims")
        + paragraphs([note for note in notes if note])
    )


def details(judgments: Sequence[Judgment]) -> Markup:
    """Returns a section for each claim that is measured, and a list of what measures the others."""
    parts = [_detail(each) for each in judgments if each.verdict != NOT_MEASURED]
    others = [
        f"{each.claim.id}: {each.explanation}" for each in judgments if each.verdict == NOT_MEASURED
    ]
    if others:
        parts.append(Markup(element("h3", "Not measured here") + bullets(others)))
    return Markup("\n".join(parts))


def evidence_text(estimate: Estimate) -> str:
    """Returns the units that an estimate is made of, in words."""
    if estimate.exact:
        return "a count"
    names = (
        f"{units} {level if units > 1 else level.removesuffix('s')}"
        for level in LEVELS
        if (units := estimate.units[level]) > 1 or level in ("tasks", "seeds")
    )
    return ", ".join(names)


def _detail(judgment: Judgment) -> Markup:
    claim, outcome = judgment.claim, judgment.outcome
    rows = [
        [
            *(part.text, *_estimate(part.estimate), part.bounds, claims.shown(part)),
            evidence_text(part.estimate),
        ]
        for part in judgment.parts
        if isinstance(part, Part)
    ]
    p_values = f"p (holds) {outcome.p_holds:.3f}, p (contradicted) {outcome.p_contradicted:.3f}"
    texts = [
        claim.statement,
        f"Criterion: {claim.criterion} Margin: {claim.margin}. Source: {claim.source}.",
        f"Corrected {p_values}. {judgment.explanation}",
    ]
    if judgment.changes:
        texts.append(f"With one task left out: {judgment.changes}.")
    heading = element("h3", f"{claim.id}: ", _verdict(judgment.verdict), id=claim.id)
    return Markup(heading + paragraphs(texts) + table(f"Parts of {claim.id}", _PARTS_HEAD, rows))


def _deciding(judgment: Judgment) -> Part | None:
    parts = [part for part in judgment.parts if isinstance(part, Part)]
    if not parts or judgment.verdict == NOT_MEASURED:
        return None
    if judgment.verdict == CONTRADICTED:
        return min(parts, key=lambda part: part.p_opposed)
    return max(parts, key=lambda part: part.p_shown)


def _estimate(estimate: Estimate) -> list[object]:
    """Returns the cells of an estimate and its interval."""
    if estimate.exact:
        return [Number(estimate.value, "{:.4g}"), "none: a count"]
    low, high = estimate.interval()
    interval = "none" if math.isnan(low) else f"{low:.1f} to {high:.1f}"
    return [Number(estimate.value, "{:+.1f}"), interval]


def _verdict(verdict: str) -> Markup:
    sign = element("span", _SIGNS[verdict], aria_hidden="true")
    return element("span", sign, f" {verdict}", class_=f"verdict {verdict.replace(' ', '-')}")


def _is_count(judgment: Judgment) -> bool:
    parts = [part for part in judgment.parts if isinstance(part, Part)]
    return bool(parts) and all(part.estimate.exact for part in parts)


def _number(verdict: str, names: Sequence[str]) -> str:
    """Returns how many claims have a verdict, and their names, in words."""
    singular = len(names) < 2
    words = {
        HOLDS: "holds" if singular else "hold",
        CONTRADICTED: f"{'is' if singular else 'are'} contradicted",
        CANNOT_TELL: f"{'is' if singular else 'are'} undecided",
    }
    listed = f" ({', '.join(names)})" if names else ""
    return f"{len(names) or 'none'} {words[verdict]}{listed}"


def _scores(cells: StudyCells, default: int) -> list[str]:
    """Returns a sentence on the scores at the largest size."""
    rows = cells.scored[cells.scored[VIEW] == cells.views[0]]
    if rows.empty:
        return []
    rows = rows[rows["model_parameters"] == rows["model_parameters"].max()]
    prompts = rows[(rows["variant"] == PROMPT_TUNING) & (rows["prompt_length"] == default)]
    shown = [
        f"{name} scores {row.mean:.1f} % [{row.interval}]"
        for name, part in (
            (f"prompt tuning at P = {default}", prompts),
            ("full fine-tuning", rows[rows["method"] == FULL_FINE_TUNING]),
        )
        for row in part[:1].itertuples()
    ]
    if not shown:
        return []
    model = rows["model"].iloc[0]
    return [f"At the largest size, {model}, {' and '.join(shown)} ({cells.views[0]})."]


def _saturation(table: pd.DataFrame) -> list[str]:
    """Returns a sentence on the saturation length of prompt tuning at the largest size."""
    if table.empty:
        return []
    rows = table[(table["task"] == "") & (table["variant"] == PROMPT_TUNING)]
    rows = rows[rows["model_parameters"] == table["model_parameters"].max()]
    located = [
        row for row in rows.itertuples() if row.length is not None and row.length < row.longest
    ]
    return [
        f"Over {row.model} no prompt longer than {row.length:.0f} gains more than "
        f"{criteria.MARGIN:g} point."
        for row in located[:1]
    ]


assert set(_SIGNS) == set(criteria.VERDICTS)
