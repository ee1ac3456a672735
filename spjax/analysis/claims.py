"""Claims of Lester et al. 2021, each judged on a study's results by a stated criterion.

Every comparison allows for the noise of seeds, tasks taken as given: its margin is two standard
errors of the difference (statistics.suite pools the variances), three where the best or the worst
of several is picked. Where no cell has a second seed there is no margin, and nothing is claimed. A
claim of several parts holds if all do, fails if none of those measured does, and is mixed
otherwise. A wide margin makes "no more than the margin" easy: read the numbers beside the verdict.
"""

from collections.abc import Callable, Iterable

import pandas as pd

from spjax.analysis.evidence import Cell, Claim, Difference, Judge, Scores

MARGINAL = 1 / 3  # of the gain from 1 to 20 soft tokens: at most this counts as marginal
MILD = 5.0  # points: a larger loss is not mild


def check(results: pd.DataFrame) -> list[Claim]:
    """Judges all claims by the rows of results.csv; ValueError as statistics.main_runs."""
    return [claim(results) for claim in CLAIMS.values()]


def markdown(claims: list[Claim]) -> str:
    """Returns a section for each claim: verdict, numbers, criterion."""
    rows = [f"| {c.id} | {c.statement} | **{c.verdict}** |" for c in claims]
    lines = ["| claim | of Lester et al. 2021 | here |", "| --- | --- | --- |", *rows]
    brackets = (
        "Differences are in points. In brackets: the margin, two standard errors over seeds, three "
        "where the best or worst of several is picked."
    )
    lines += ["", brackets]
    for claim in claims:
        lines += ["", f"**{claim.id}: {claim.verdict}.** {claim.evidence}"]
        lines += ["", f"Criterion: {claim.criterion}"]
    return "\n".join(lines) + "\n"


def c1_size(results: pd.DataFrame) -> Claim:
    """Judges C1: size helps, and closes the gap to full fine-tuning."""
    statement = "The score rises with model size, and the gap to full fine-tuning shrinks."
    criterion = (
        "(a) At the default length no step to the next larger model loses more than the margin, "
        "and the largest beats the smallest by more than the margin. (b) The gap, full "
        "fine-tuning minus prompt tuning at the default length, is smaller at the largest size "
        "that has both than at the smallest, by more than the margin."
    )
    judge = Judge("C1", statement, criterion)
    scores = Scores.lengths(results)
    length = scores.default
    prompts = scores.line(length)
    if len(prompts) > 1:
        steps = [judge.difference(b, a) for a, b in zip(prompts, prompts[1:])]
        whole = judge.difference(prompts[-1], prompts[0], f"rise at P = {length}")
        rises = all(step.value >= -step.margin for step in steps) and whole.above
        judge.part(rises, f"at P = {length}: {_trail(prompts)}")
    else:
        judge.part(None, "rise: two model sizes needed")
    pairs = [(full, cell) for full in scores.full if (cell := scores.at(length, full.model))]
    if len(pairs) > 1:
        gaps = [judge.difference(full, prompt, f"gap {full.model}") for full, prompt in pairs]
        shrinks = judge.minus(gaps[0], gaps[-1], "gap shrinks by").above
        trail = ", ".join(f"{full.model} {gap}" for (full, _), gap in zip(pairs, gaps))
        judge.part(shrinks, f"gap to full fine-tuning: {trail}")
    else:
        judge.part(None, "gap: full fine-tuning at two sizes needed")
    return judge.claim()


def c3_length(results: pd.DataFrame) -> Claim:
    """Judges C3: 20 soft tokens beat one by far, more add little, the longest lose a little."""
    statement = (
        "P = 1 to 20 is a large gain below the largest size, more are marginal, and over 100 "
        "is mildly detrimental for larger models."
    )
    criterion = (
        "(a) At every size below the largest, P = 20 beats P = 1 by more than the margin. (b) "
        "At every size no longer prompt beats P = 20 by more than the margin or a third of that "
        "size's gain from P = 1 to 20, whichever is larger. (c) On average over the larger half "
        "of the sizes the longest prompt, if over 100, loses to the longest of at most 100 by "
        "more than the margin, but by no more than 5 points."
    )
    judge = Judge("C3", statement, criterion)
    scores = Scores.lengths(results)
    gains: dict[str, Difference] = {}
    for model in scores.models:
        one, twenty = scores.at(1, model), scores.at(20, model)
        if one and twenty:
            gains[model] = judge.difference(twenty, one, f"1 to 20 {model}")
    smaller = [model for model in gains if model != scores.models[-1]]
    trail = ", ".join(f"{model} {gain}" for model, gain in gains.items())
    large = all(gains[model].above for model in smaller) if smaller else None
    judge.part(large, f"P = 1 to 20: {trail or 'both lengths at two sizes needed'}")
    _beyond_twenty(judge, scores, gains)
    _longest(judge, scores)
    return judge.claim()


def c4_one_token(results: pd.DataFrame) -> Claim:
    """Judges C4: one soft token is enough for the largest model."""
    statement = "The largest model is strong even with a single soft token."
    criterion = "At the largest size the best longer prompt beats P = 1 by no more than the margin."
    judge = Judge("C4", statement, criterion)
    scores = Scores.lengths(results)
    shortfalls, trail = {}, []
    for model in scores.models:
        one, others = scores.at(1, model), [c for c in scores.column(model) if c.length > 1]
        if one and others:
            best, short = judge.lead(others, one, f"best over P = 1 {model}")
            shortfalls[model] = short.value <= short.margin
            trail.append(f"{model} {short} (P = {best.length})")
    enough = shortfalls.get(scores.models[-1]) if scores.models else None
    text = ", ".join(trail) or "P = 1 and a longer one needed"
    judge.part(enough, f"best longer prompt over P = 1: {text}")
    return judge.claim()


def c5_initialisation(results: pd.DataFrame) -> Claim:
    """Judges C5: initialization matters for small models and not for the largest."""
    statement = (
        "Class labels >= sampled vocabulary > random uniform at small sizes; no difference at the "
        "largest."
    )
    criterion = (
        "At the default length, over the sizes that have all three. At each of the smaller half "
        "of the sizes (a) class labels lose to sampled vocabulary by no more than the margin "
        "and (b) sampled vocabulary beats random uniform by more than the margin. (c) At the "
        "largest size the best and the worst of the three differ by no more than the margin."
    )
    judge = Judge("C5", statement, criterion)
    scores = Scores.initialisations(results)
    models = [m for m in scores.models if all(scores.at(init, m) for init in INITS)]
    if len(models) < 2:
        judge.part(None, f"all of {', '.join(INITS)} at two sizes needed")
        return judge.claim(*scores.notes)
    labels, sampled, uniform = (
        [cell for cell in scores.line(init) if cell.model in models] for init in INITS
    )
    small = range(len(models) // 2)
    over = [judge.difference(labels[i], sampled[i], f"labels - sampled {models[i]}") for i in small]
    under = [
        judge.difference(sampled[i], uniform[i], f"sampled - uniform {models[i]}") for i in small
    ]
    where = ", ".join(models[i] for i in small)
    judge.part(
        all(d.value >= -d.margin for d in over),
        f"labels - sampled at {where}: {', '.join(f'{d}' for d in over)}",
    )
    judge.part(
        all(d.above for d in under),
        f"sampled - uniform there: {', '.join(f'{d}' for d in under)}",
    )
    last = [labels[-1], sampled[-1], uniform[-1]]
    worst = min(last, key=lambda cell: cell.mean)
    best, spread = judge.lead(last, worst, f"best - worst {models[-1]}")
    text = f"best - worst at {models[-1]}: {spread} ({best.line}, {worst.line})"
    judge.part(spread.value <= spread.margin, text)
    return judge.claim(*scores.notes)


INITS = ("class_labels", "sampled_vocabulary", "uniform")
CLAIMS: dict[str, Callable[[pd.DataFrame], Claim]] = {
    "C1": c1_size,
    "C3": c3_length,
    "C4": c4_one_token,
    "C5": c5_initialisation,
}


def _beyond_twenty(judge: Judge, scores: Scores, gains: dict[str, Difference]) -> None:
    """Judges part (b) of C3."""
    marginal, trail = [], []
    for model, gain in gains.items():
        twenty = scores.at(20, model)
        longer = [cell for cell in scores.column(model) if cell.length > 20]
        if twenty and longer:
            best, more = judge.lead(longer, twenty, f"20 to best {model}")
            marginal.append(more.value <= max(more.margin, MARGINAL * gain.value))
            trail.append(f"{model} {more} (P = {best.length})")
    text = ", ".join(trail) or "a length over 20 needed"
    judge.part(all(marginal) if marginal else None, f"P = 20 to the best longer one: {text}")


def _longest(judge: Judge, scores: Scores) -> None:
    """Judges part (c) of C3."""
    larger = scores.models[len(scores.models) // 2 :]
    pairs = []
    for model in larger:
        column = scores.column(model)
        over = [cell for cell in column if cell.length > 100]
        under = [cell for cell in column if 20 < cell.length <= 100]
        if over and under:
            pairs.append((over[-1], under[-1]))
    if not pairs:
        judge.part(None, "longest: a length over 100 and one of 21 to 100 needed")
        return
    loss = judge.mean([judge.difference(b, a) for a, b in pairs], "loss of the longest")
    lengths = f"P = {pairs[0][1].length} to {pairs[0][0].length}"
    where = ", ".join(over.model for over, _ in pairs)
    judge.part(loss.above and loss.value <= MILD, f"loss, {lengths}, at {where}: {loss}")


def _trail(cells: Iterable[Cell]) -> str:
    return ", ".join(f"{cell.model} {cell.mean:.1f}" for cell in cells)
