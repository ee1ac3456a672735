"""Parts of the claims of Lester et al. 2021: which estimates have to lie within which bounds.

Each function takes a study's `Evidence` and returns the parts of one claim; a text in place of a
part says what the study lacks for it. `claims.CLAIMS` has the criteria in words.
"""

import math
from collections.abc import Mapping, Sequence

from spjax.analysis import resampling
from spjax.analysis.arms import ADAPTATION, MULTITASK, SENTINEL, SPAN_CORRUPTION
from spjax.analysis.criteria import MARGIN, MILD, Part
from spjax.analysis.evidence import Evidence
from spjax.analysis.resampling import Estimate

Parts = list[Part | str]
LABELS, SAMPLED, UNIFORM = INITS = ("class_labels", "sampled_vocabulary", "uniform")
LARGE_ENOUGH = 0.01  # percent of trained parameters
# Lester et al. 2021, table 4: the frozen models over 1B parameters, embedding width and parameters.
OVER_1B = {"T5 1.1 XL": (2048, 2_849_757_184), "T5 1.1 XXL": (4096, 11_135_332_352)}
PAPER_LENGTH = 100


def size(evidence: Evidence) -> Parts:
    """Returns C1: scores rise with size, no step falls, the gap to full fine-tuning shrinks."""
    length = evidence.default
    models = evidence.sizes_with(evidence.prompts, length)
    parts: Parts = []
    if _several_sizes(evidence, models):
        line = evidence.line(evidence.prompts, length, models) or []
        rise = resampling.slope(line, _logs(evidence, models))
        parts.append(Part(f"rise at P = {length} with each tenfold size", rise, low=0))
        for (a, before), (b, after) in zip(zip(models, line), zip(models[1:], line[1:])):
            parts.append(Part(f"step from {a} to {b}", after - before, low=-MARGIN))
    else:
        parts.append("rise: prompts at two model sizes needed")
    models = [model for model in models if ("", model) in evidence.full]
    if _several_sizes(evidence, models):
        gaps = [evidence.full["", model] - evidence.prompts[length, model] for model in models]
        shrinkage = resampling.slope(gaps, _logs(evidence, models))
        parts.append(Part("growth of the gap with each tenfold size", shrinkage, high=0))
    else:
        parts.append("gap: full fine-tuning at two model sizes needed")
    return parts


def multitask(evidence: Evidence) -> Parts:
    """Returns C2: prompts match multi-task model tuning, which does not lose to single-task."""
    if not evidence.models:
        return ["no prompts"]
    largest = evidence.models[-1]
    prompt = evidence.at(evidence.default, largest)
    shared, single = (evidence.full.get((role, largest)) for role in (MULTITASK, ""))
    if prompt is None or shared is None:
        return [f"full fine-tuning on all tasks together, scored on each, at {largest} needed"]
    parts: Parts = [_equivalent(f"prompts - multi-task tuning at {largest}", prompt - shared)]
    if single is None:
        return [*parts, f"full fine-tuning on single tasks at {largest} needed"]
    text = f"multi-task - single-task tuning at {largest}"
    return [*parts, Part(text, shared - single, low=-MARGIN)]


def length(evidence: Evidence) -> Parts:
    """Returns C3: a large gain to 20 soft tokens, little beyond, a mild loss over 100."""
    models = evidence.sizes_with(evidence.prompts, 1, 20)
    below = [model for model in models if model != evidence.models[-1]]
    parts: Parts = []
    for model in below:
        gain = evidence.prompts[20, model] - evidence.prompts[1, model]
        parts.append(Part(f"gain from P = 1 to 20 at {model}", gain, low=MARGIN))
    if not below:
        parts.append("P = 1 and 20 below the largest of two model sizes needed")
    longer = [
        Part(f"gain from P = 20 to {more} at {model}", estimate - twenty, high=MARGIN)
        for model in evidence.models
        if (twenty := evidence.at(20, model))
        for more in evidence.lengths(model)
        if more > 20 and (estimate := evidence.at(more, model))
    ]
    parts += longer or ["a length over 20 needed"]
    return [*parts, _longest(evidence)]


def one_token(evidence: Evidence) -> Parts:
    """Returns C4: no longer prompt is far better than one soft token at the largest size."""
    largest = evidence.models[-1] if evidence.models else ""
    one = evidence.at(1, largest)
    longer = [more for more in evidence.lengths(largest) if more > 1]
    if one is None or not longer:
        return ["P = 1 and a longer prompt at the largest model size needed"]
    return [
        Part(f"P = {more} - P = 1 at {largest}", evidence.prompts[more, largest] - one, high=MILD)
        for more in longer
    ]


def initialisation(evidence: Evidence) -> Parts:
    """Returns C5: initialization matters at small sizes and not at the largest."""
    table = evidence.inits
    models = evidence.sizes_with(table, *INITS)
    if not _several_sizes(evidence, models):
        return [f"all of {', '.join(INITS)} at two model sizes needed"]
    small = models[: len(models) // 2]
    where = ", ".join(small)
    labels_over = [table[LABELS, name] - table[SAMPLED, name] for name in small]
    sampled_over = [table[SAMPLED, name] - table[UNIFORM, name] for name in small]
    parts: Parts = [
        Part(f"labels - sampled at {where}", resampling.mean(labels_over), low=-MARGIN),
        Part(f"sampled - uniform at {where}", resampling.mean(sampled_over), low=0),
    ]
    for one, other in ((LABELS, SAMPLED), (LABELS, UNIFORM), (SAMPLED, UNIFORM)):
        difference = table[one, models[-1]] - table[other, models[-1]]
        parts.append(_equivalent(f"{one} - {other} at {models[-1]}", difference))
    advantages = [table[LABELS, name] - table[UNIFORM, name] for name in models]
    growth = resampling.slope(advantages, _logs(evidence, models))
    return [*parts, Part("growth of labels - uniform with each tenfold size", growth, high=0)]


def objective(evidence: Evidence) -> Parts:
    """Returns C6: LM adaptation beats span corruption, a sentinel is of little benefit."""
    models = evidence.sizes_with(evidence.arms, SPAN_CORRUPTION, SENTINEL)
    models = [model for model in models if evidence.at(evidence.default, model)]
    if len(models) < 2:
        return ["LM-adapted, span-corruption and sentinel arms at two model sizes needed"]
    smaller, largest = models[:-1], models[-1]
    adapted = {name: evidence.prompts[evidence.default, name] for name in models}
    sentinel = {name: evidence.arms[SENTINEL, name] for name in models}
    spans = {name: evidence.arms[SPAN_CORRUPTION, name] for name in models}
    where = "below the largest size"
    return [
        Part(f"LM adaptation - sentinel {where}", _over(adapted, sentinel, smaller), low=0),
        _equivalent(f"sentinel - span corruption {where}", _over(sentinel, spans, smaller)),
        Part(
            f"LM adaptation - sentinel at {largest}",
            adapted[largest] - sentinel[largest],
            high=MILD,
        ),
        Part(
            f"LM adaptation - span corruption at {largest}",
            adapted[largest] - spans[largest],
            high=MILD,
        ),
    ]


def instability(evidence: Evidence) -> Parts:
    """Returns C7: over span corruption the middle sizes fail, many of their runs with zero."""
    models = evidence.sizes_with(evidence.arms, SPAN_CORRUPTION)
    if len(models) < 3:
        return ["the span-corruption arm at three model sizes needed"]
    smallest, *middle, largest = models
    scores = {name: evidence.arms[SPAN_CORRUPTION, name] for name in models}
    lead = scores[smallest] - resampling.mean([scores[name] for name in middle])
    parts: Parts = [Part(f"{smallest} - mean of the middle sizes", lead, low=0)]
    ends = resampling.mean([evidence.zeros[name] for name in (smallest, largest)])
    excess = resampling.mean([evidence.zeros[name] for name in middle]) - ends
    return [*parts, Part("share of zero scores, middle sizes - ends", excess, low=0)]


def adaptation(evidence: Evidence) -> Parts:
    """Returns C8: more LM adaptation is better, less so at the largest size."""
    steps = sorted({int(role.split()[1]) for role, _ in evidence.arms if ADAPTATION in role})
    roles = {count: f"{ADAPTATION} {count}" for count in steps}
    models = evidence.sizes_with(evidence.arms, *roles.values())
    if len(steps) < 2 or len(models) < 2:
        return ["arms of two numbers of adaptation steps at two model sizes needed"]
    line = {count: {m: evidence.arms[roles[count], m] for m in models} for count in steps}
    parts: Parts = [
        Part(
            f"{steps[-1]} - {count} adaptation steps",
            _over(line[steps[-1]], line[count], models),
            low=0,
        )
        for count in steps[:-1]
    ]
    benefits = {name: line[steps[-1]][name] - line[steps[0]][name] for name in models}
    smaller = resampling.mean([benefits[name] for name in models[:-1]])
    text = f"benefit of adaptation, {models[-1]} - smaller sizes"
    return [*parts, Part(text, benefits[models[-1]] - smaller, high=0)]


def parameters(evidence: Evidence) -> Parts:
    """Returns C9: trained parameters of the paper's models over 1B, in percent."""
    return [
        Part(
            f"{name}, percent of parameters trained at P = {PAPER_LENGTH}",
            resampling.count(100 * PAPER_LENGTH * width / count),
            high=LARGE_ENOUGH,
        )
        for name, (width, count) in OVER_1B.items()
    ]


def domain_shift(evidence: Evidence) -> Parts:
    """Returns C10: prompts beat full fine-tuning on tasks of other domains."""
    several = [each for each in evidence.transfers if len(each.targets) > 1]
    return [
        Part(f"prompts - full fine-tuning, {each.name}", each.estimate, low=0) for each in several
    ] or ["prompts and full fine-tuning, scored on several other tasks, needed"]


def paraphrases(evidence: Evidence) -> Parts:
    """Returns C11: prompts do not lose to full fine-tuning between two tasks of one kind."""
    single = [each for each in evidence.transfers if len(each.targets) == 1]
    if not single:
        return ["prompts and full fine-tuning, scored on one other task, needed"]
    parts: Parts = [
        Part(f"prompts - full fine-tuning, {each.name}", each.estimate, low=-MARGIN)
        for each in single
    ]
    return parts


def unmeasured(evidence: Evidence) -> Parts:
    """Returns no part: results.csv does not hold what the claim is about."""
    return ["results.csv does not hold it"]


def _longest(evidence: Evidence) -> Part | str:
    """Returns part (c) of C3, the mean loss over 100 soft tokens at the larger sizes."""
    models = evidence.models[len(evidence.models) // 2 :]
    losses, names = [], []
    for model in models:
        over = [more for more in evidence.lengths(model) if more > 100]
        under = [more for more in evidence.lengths(model) if 20 < more <= 100]
        if over and under:
            losses.append(evidence.prompts[under[-1], model] - evidence.prompts[over[-1], model])
            names.append(model)
    if not losses:
        return "a length over 100 and one of 21 to 100 at the larger sizes needed"
    text = f"loss of the longest prompt at {', '.join(names)}"
    return Part(text, resampling.mean(losses), low=0, high=MILD)


def _equivalent(text: str, difference: Estimate) -> Part:
    return Part(text, difference, low=-MARGIN, high=MARGIN)


def _several_sizes(evidence: Evidence, models: Sequence[str]) -> bool:
    return len({evidence.sizes[model] for model in models}) > 1


def _logs(evidence: Evidence, models: Sequence[str]) -> list[float]:
    return [math.log10(max(evidence.sizes[model], 1)) for model in models]


def _over(
    more: Mapping[str, Estimate], less: Mapping[str, Estimate], models: Sequence[str]
) -> Estimate:
    """Returns the mean difference over models."""
    return resampling.mean([more[model] - less[model] for model in models])
