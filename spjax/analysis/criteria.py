"""Verdicts: margins stated beforehand, tests in both directions, the correction over claims.

A part of a claim says that an estimate lies between two bounds. "More than 1" and "at most 1" have
one bound, equivalence has two, tested by two one-sided tests (Schuirmann 1987). A claim holds when
each part is shown (an intersection-union test, which needs no correction), and is contradicted when
the opposite of any part is shown (corrected for the number of parts). Both p-values are corrected
over the claims of a study (Holm 1979), so that a study gives a false "holds" in at most 5 % of the
cases, and a false "contradicted" likewise, where Student's t applies. Of few tasks with skewed
effects it does not, and a part that rests on them alone is shown falsely more often (docs/claims.md
has numbers). All else is "cannot tell": no evidence is no support.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from spjax.analysis.resampling import ITEMS, LEVELS, Estimate

# Margins in points, stated before any study that is judged by them.
MARGIN = 1.0  # less is a marginal gain, or no difference
MILD = 5.0  # more is no mild loss, and a lag of less leaves a model strong

ALPHA = 0.05
POWER = 0.8  # with which the numbers of units named by "cannot tell" settle a part
MOST_UNITS = 1000  # more of them are not worth naming
HOLDS, CONTRADICTED, CANNOT_TELL, NOT_MEASURED = VERDICTS = (
    *("holds", "contradicted", "cannot tell", "not measured"),
)


@dataclass(frozen=True)
class Part:
    """A statement that an estimate lies between two bounds.

    text: names the estimate. low, high: in points, infinite where there is no bound.
    """

    text: str
    estimate: Estimate
    low: float = -math.inf
    high: float = math.inf

    @property
    def p_shown(self) -> float:
        """Returns the p-value of the opposite: small where the estimate is within the bounds."""
        above = self.estimate.p_above(self.low) if math.isfinite(self.low) else 0.0
        below = self.estimate.p_below(self.high) if math.isfinite(self.high) else 0.0
        return max(above, below)

    @property
    def p_opposed(self) -> float:
        """Returns the p-value of the statement: small where the estimate is out of bounds."""
        ends = []
        if math.isfinite(self.low):
            ends.append(self.estimate.p_below(self.low))
        if math.isfinite(self.high):
            ends.append(self.estimate.p_above(self.high))
        return min(1.0, len(ends) * min(ends))

    @property
    def bounds(self) -> str:
        """Returns the statement's bounds in words."""
        if math.isinf(self.high):
            return f"more than {self.low:g}"
        if math.isinf(self.low):
            return f"less than {self.high:g}"
        if self.low == -self.high:
            return f"within {self.high:g} of 0"
        return f"between {self.low:g} and {self.high:g}"

    def __str__(self) -> str:
        return f"{self.text}: {interval_text(self.estimate)}, to be {self.bounds}"

    def settled_by(self, alpha: float) -> dict[str, int]:
        """Returns numbers of units that would each settle the part at this estimate.

        The number of one level grows, the others stay; levels that would need more than
        `MOST_UNITS`, or do not help, are missing.

        alpha: level of the one-sided test.
        """
        distances = [abs(self.estimate.value - b) for b in (self.low, self.high)]
        distance = min(distances)
        answers = {}
        for level in LEVELS:
            units = self.estimate.units[level]
            for wanted in _numbers_from(max(units, 1) + 1):
                error, degrees = _spread_with(self.estimate, level, wanted)
                if math.isnan(error):
                    break
                quantiles = special.stdtrit(degrees, [1 - alpha, POWER]).sum()
                if quantiles * error <= distance:
                    answers[level] = wanted
                    break
        return answers


@dataclass(frozen=True)
class Outcome:
    """The verdict on the parts of one claim.

    verdict: one of VERDICTS. p_holds, p_contradicted: corrected over the claims judged together.
    alpha: level that one of these claims would be tested at first.
    """

    verdict: str
    p_holds: float = math.nan
    p_contradicted: float = math.nan
    alpha: float = ALPHA


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected so that the chance of any false rejection stays below alpha.

    Holm 1979. SciPy corrects for the false discovery rate only, and statsmodels is no dependency.
    """
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    raised = np.maximum.accumulate(np.asarray(p_values, float)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(raised, 1)
    return corrected.tolist()


def judge(claims: Sequence[Sequence[Part | str]]) -> list[Outcome]:
    """Returns the outcome of each claim, corrected over all that have a part measured.

    claims: the parts of each; a text says what is missing for a part that the study does not
      measure. Such a claim can be contradicted by the other parts, and never holds. Claims about
      counts are not among those corrected for.
    """
    parts_of = [[part for part in parts if isinstance(part, Part)] for parts in claims]
    outcomes = [Outcome(NOT_MEASURED)] * len(claims)
    measured = []
    for i, known in enumerate(parts_of):
        if known and all(part.estimate.exact for part in known):
            true = all(part.p_shown == 0 for part in known)
            outcomes[i] = Outcome(HOLDS if true else CONTRADICTED, float(not true), float(true))
        elif known:
            measured.append(i)
    raw = []
    for i in measured:
        known = parts_of[i]
        complete = len(known) == len(claims[i])
        shown = max(part.p_shown for part in known) if complete else 1.0
        opposed = min(1.0, len(known) * min(part.p_opposed for part in known))
        raw.append((shown, opposed))
    corrected = [holm([pair[k] for pair in raw]) for k in (0, 1)]
    for i, p_holds, p_contradicted in zip(measured, *corrected):
        known = parts_of[i]
        if any(_unknown_variance(part.estimate) for part in known):
            verdict = CANNOT_TELL
        elif p_holds <= ALPHA:
            verdict = HOLDS
        else:
            verdict = CONTRADICTED if p_contradicted <= ALPHA else CANNOT_TELL
        outcomes[i] = Outcome(verdict, p_holds, p_contradicted, ALPHA / len(measured))
    return outcomes


def interval_text(estimate: Estimate) -> str:
    """Formats an estimate with its 95 % interval."""
    if estimate.exact:
        return f"{estimate.value:.4g}"
    low, high = estimate.interval()
    shown = "no interval" if math.isnan(low) else f"{low:.1f}, {high:.1f}"
    return f"{estimate.value:+.1f} [{shown}]"


def settled_text(parts: Sequence[Part], alpha: float) -> str:
    """Names numbers of units that would settle a claim, "" where all parts measured are shown.

    Where an estimate is out of its bounds the claim is settled by showing that for one part, else
    by showing every part that is open.

    parts: those measured. alpha: level of a part's test.
    """
    if any(_unknown_variance(part.estimate) for part in parts):
        return "A second seed would tell the variance over training"
    outside = [part for part in parts if not part.low < part.estimate.value < part.high]
    open_parts = outside or [part for part in parts if part.p_shown > alpha]
    if not open_parts:
        return ""
    answers = [part.settled_by(alpha / len(parts) if outside else alpha) for part in open_parts]
    pick = min if outside else max
    settled = {}
    for level in LEVELS:
        numbers = [one[level] for one in answers if level in one]
        if numbers and (outside or len(numbers) == len(answers)):
            settled[level] = pick(numbers)
    if not settled and any(math.isnan(part.estimate.spread()[0]) for part in open_parts):
        return "Equal scores say nothing about the variance, so no number of units can be named"
    if not settled:
        return f"No {MOST_UNITS:,} tasks or seeds would settle it if the estimates stay"
    shown = [f"{number} {level}" for level, number in settled.items()]
    return f"{' or '.join(shown)} would settle it"


def _unknown_variance(estimate: Estimate) -> bool:
    """Returns whether nothing was trained twice and no items stand in for that."""
    return estimate.trained_once and ITEMS not in estimate.resampled()


def _numbers_from(start: int) -> list[int]:
    """Returns whole numbers in steps of at most a tenth."""
    numbers = [start]
    while numbers[-1] < MOST_UNITS:
        numbers.append(max(numbers[-1] + 1, math.floor(numbers[-1] * 1.1)))
    return [number for number in numbers if number <= MOST_UNITS]


def _spread_with(estimate: Estimate, level: str, wanted: int) -> tuple[float, float]:
    """Returns standard error and degrees of freedom with another number of units of one level."""
    saved = 0.0
    drawn = estimate.resampled()
    units = estimate.units[level]
    kept = units / wanted
    if level not in drawn and units > 1:
        saved = estimate.level_variance(level) * (1 - kept)
    if level not in drawn and saved == 0:
        return math.nan, math.nan
    variances: list[float] = []
    degrees: list[float] = []
    for name in drawn:
        variance = estimate.level_variance(name)
        count = estimate.units[name]
        freedom: float = sum(
            part.degrees for (k, _), part in estimate.components.items() if k == name
        )
        if name == level:
            variance *= kept
            freedom *= (wanted - 1) / (count - 1)
        elif saved:  # what lies within the units of this level becomes less noisy
            variance = max(variance - saved, estimate.level_variance(level) * kept)
        variances.append(variance)
        degrees.append(freedom)
    total = sum(variances)
    if not total > 0:
        return math.nan, math.nan
    pooled = sum(v**2 / d for v, d in zip(variances, degrees))
    return math.sqrt(total), total**2 / pooled
