"""Parts of the claims of Lester et al. 2021: which estimates have to lie within which bounds.

Each function takes a study's `Evidence` and returns the parts of one claim; a text in place of a
part says what the study lacks for it. `claims.CLAIMS` has the criteria in words.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from spjax.analysis import prompt_claims, resampling
from spjax.analysis.arms import ADAPTATION, MULTITASK, SENTINEL, SPAN_CORRUPTION
from spjax.analysis.criteria import MARGIN, MILD, Part
from spjax.analysis.evidence import Evidence
from spjax.analysis.resampling import Estimate
from spjax.analysis.transfer import Difference

Parts = list[Part | str]
LABELS, SAMPLED, UNIFORM = INITS = ("class_labels", "sampled_vocabulary", "uniform")
LARGE_ENOUGH = 0.01  # percent of trained parameters
# Lester et al. 2021, table 4: the frozen models over 1B parameters, embedding width and parameters.
OVER_1B = {"T5 1.1 XL": (2048, 2_849_757_184), "T5 1.1 XXL": (4096, 11_135_332_352)}
PAPER_LENGTH = 100


def size(evidence: Evidence) -> Parts:
    """Returns C1: scores rise with size, no step falls, the gap to full fine-tuning shrinks."""
    models, length = evidence.models, evidence.default
    prompts = evidence.by_model(evidence.prompts, length)
    full = evidence.by_model(evidence.full, "")
    parts: Parts = []
    if not (prompts and _several_sizes(evidence)):
        parts.append("rise: prompts at two model sizes needed")
    elif lacking := _lacking(f"rise: P = {length}", models, prompts):
        parts += lacking
    else:
        rise = resampling.slope([prompts[model] for model in models], _logs(evidence))
        parts.append(Part(f"rise at P = {length} with each tenfold size", rise, low=0))
    for a, b in zip(models, models[1:]):
        if _several_sizes(evidence) and a in prompts and b in prompts:
            parts.append(Part(f"step from {a} to {b}", prompts[b] - prompts[a], low=-MARGIN))
    if not (prompts and full and _several_sizes(evidence)):
        return [*parts, "gap: full fine-tuning at two model sizes needed"]
    if lacking := _lacking(f"gap: P = {length} and full fine-tuning", models, prompts, full):
        return [*parts, *lacking]
    gaps = [full[model] - prompts[model] for model in models]
    growth = resampling.slope(gaps, _logs(evidence))
    return [*parts, Part("growth of the gap with each tenfold size", growth, high=0)]


def multitask(evidence: Evidence) -> Parts:
    """Returns C2: prompts match multi-task model tuning, which does not lose to single-task."""
    largest = evidence.models[-1]
    prompt = evidence.prompts.get((evidence.default, largest))
    shared, single = (evidence.full.get((role, largest)) for role in (MULTITASK, ""))
    wanted = {"prompts": prompt, "full fine-tuning on all tasks together, scored on each,": shared}
    if prompt is None or shared is None:
        lacking = [what for what, estimate in wanted.items() if estimate is None]
        return [f"{' and '.join(lacking)} at {largest} needed"]
    parts: Parts = [_equivalent(f"prompts - multi-task tuning at {largest}", prompt - shared)]
    if single is None:
        return [*parts, f"full fine-tuning on single tasks at {largest} needed"]
    text = f"multi-task - single-task tuning at {largest}"
    return [*parts, Part(text, shared - single, low=-MARGIN)]


def length(evidence: Evidence) -> Parts:
    """Returns C3: a large gain to 20 soft tokens, little beyond, a mild loss over 100."""
    models = evidence.models
    of = {each: evidence.by_model(evidence.prompts, each) for each in {1, 20, *evidence.lengths}}
    below = [model for model in models if model != models[-1]]
    parts: Parts = []
    for model in below:
        if model in of[1] and model in of[20]:
            gain = of[20][model] - of[1][model]
            parts.append(Part(f"gain from P = 1 to 20 at {model}", gain, low=MARGIN))
    if not below:
        parts.append("P = 1 and 20 below the largest of two model sizes needed")
    parts += _lacking("P = 1 and 20", below, of[1], of[20])
    longer = [more for more in evidence.lengths if more > 20]
    parts += [
        Part(f"gain from P = 20 to {more} at {m}", of[more][m] - of[20][m], high=MARGIN)
        for m in models
        for more in longer
        if m in of[20] and m in of[more]
    ]
    for more in longer:
        parts += _lacking(f"P = 20 and {more}", models, of[20], of[more])
    if not longer:
        parts.append("a length over 20 needed")
    return [*parts, *_longest(evidence)]


def one_token(evidence: Evidence) -> Parts:
    """Returns C4: no longer prompt is far better than one soft token at the largest size."""
    largest = evidence.models[-1]
    one = evidence.prompts.get((1, largest))
    longer = [more for more in evidence.lengths if more > 1]
    if one is None or not longer:
        return [f"P = 1 and a longer prompt at {largest} needed"]
    parts: Parts = []
    for more in longer:
        estimate = evidence.prompts.get((more, largest))
        text = f"P = {more} - P = 1 at {largest}"
        parts.append(
            Part(text, estimate - one, high=MILD) if estimate else f"P = {more} at {largest} needed"
        )
    return parts


def initialisation(evidence: Evidence) -> Parts:
    """Returns C5: initialization matters at small sizes and not at the largest."""
    models = evidence.models
    of = {init: evidence.by_model(evidence.inits, init) for init in INITS}
    if not (all(of.values()) and _several_sizes(evidence)):
        return [f"all of {', '.join(INITS)} at two model sizes needed"]
    small, largest = models[: len(models) // 2], models[-1]
    parts: Parts = []
    if _complete(small, *of.values()):
        where = ", ".join(small)
        labels_over = _over(of[LABELS], of[SAMPLED], small)
        sampled_over = _over(of[SAMPLED], of[UNIFORM], small)
        parts.append(Part(f"labels - sampled at {where}", labels_over, low=-MARGIN))
        parts.append(Part(f"sampled - uniform at {where}", sampled_over, low=0))
    if _complete([largest], *of.values()):
        for one, other in ((LABELS, SAMPLED), (LABELS, UNIFORM), (SAMPLED, UNIFORM)):
            difference = of[one][largest] - of[other][largest]
            parts.append(_equivalent(f"{one} - {other} at {largest}", difference))
    if _complete(models, of[LABELS], of[UNIFORM]):
        advantages = [of[LABELS][model] - of[UNIFORM][model] for model in models]
        growth = resampling.slope(advantages, _logs(evidence))
        parts.append(Part("growth of labels - uniform with each tenfold size", growth, high=0))
    return [*parts, *_lacking(f"all of {', '.join(INITS)}", models, *of.values())]


def objective(evidence: Evidence) -> Parts:
    """Returns C6: LM adaptation beats span corruption, a sentinel is of little benefit."""
    adapted = evidence.by_model(evidence.prompts, evidence.default)
    sentinel = evidence.by_model(evidence.arms, SENTINEL)
    spans = evidence.by_model(evidence.arms, SPAN_CORRUPTION)
    what = "LM-adapted, span-corruption and sentinel arms"
    *smaller, largest = evidence.models
    if not (adapted and sentinel and spans and smaller):
        return [f"{what} at two model sizes needed"]
    where = "below the largest size"
    parts: Parts = []
    if _complete(smaller, adapted, sentinel):
        lead = _over(adapted, sentinel, smaller)
        parts.append(Part(f"LM adaptation - sentinel {where}", lead, low=0))
    if _complete(smaller, sentinel, spans):
        lead = _over(sentinel, spans, smaller)
        parts.append(_equivalent(f"sentinel - span corruption {where}", lead))
    for name, arm in (("sentinel", sentinel), ("span corruption", spans)):
        if _complete([largest], adapted, arm):
            lead = adapted[largest] - arm[largest]
            parts.append(Part(f"LM adaptation - {name} at {largest}", lead, high=MILD))
    return [*parts, *_lacking(what, evidence.models, adapted, sentinel, spans)]


def instability(evidence: Evidence) -> Parts:
    """Returns C7: over span corruption the middle sizes fail, many of their runs with zero."""
    scores, zeros = evidence.by_model(evidence.arms, SPAN_CORRUPTION), evidence.zeros
    if not scores or len(evidence.models) < 3:
        return ["the span-corruption arm at three model sizes needed"]
    smallest, *middle, largest = evidence.models
    parts: Parts = []
    if _complete([smallest, *middle], scores):
        lead = scores[smallest] - resampling.mean([scores[name] for name in middle])
        parts.append(Part(f"{smallest} - mean of the middle sizes", lead, low=0))
    for end in (smallest, largest):
        if _complete([end, *middle], zeros):
            excess = resampling.mean([zeros[name] for name in middle]) - zeros[end]
            parts.append(Part(f"share of zero scores, middle sizes - {end}", excess, low=0))
    return [*parts, *_lacking("the span-corruption arm", evidence.models, scores, zeros)]


def adaptation(evidence: Evidence) -> Parts:
    """Returns C8: more LM adaptation is better, less so at the largest size."""
    steps = sorted({int(role.split()[1]) for role, _ in evidence.arms if ADAPTATION in role})
    of = {count: evidence.by_model(evidence.arms, f"{ADAPTATION} {count}") for count in steps}
    *smaller, largest = models = evidence.models
    if len(steps) < 2 or not smaller:
        return ["arms of two numbers of adaptation steps at two model sizes needed"]
    shortest, most = of[steps[0]], of[steps[-1]]
    parts: Parts = [
        Part(f"{steps[-1]} - {count} adaptation steps", _over(most, of[count], models), low=0)
        for count in steps[:-1]
        if _complete(models, most, of[count])
    ]
    if _complete(models, most, shortest):
        benefit = most[largest] - shortest[largest] - _over(most, shortest, smaller)
        parts.append(Part(f"benefit of adaptation, {largest} - smaller sizes", benefit, high=0))
    names = ", ".join(map(str, steps))
    return [*parts, *_lacking(f"arms of {names} adaptation steps", models, *of.values())]


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
    return [_transferred(each, low=0) for each in several] or [
        "prompts and full fine-tuning, scored on several other tasks, needed"
    ]


def paraphrases(evidence: Evidence) -> Parts:
    """Returns C11: prompts do not lose to full fine-tuning between two tasks of one kind."""
    single = [each for each in evidence.transfers if len(each.targets) == 1]
    return [_transferred(each, low=-MARGIN) for each in single] or [
        "prompts and full fine-tuning, scored on one other task, needed"
    ]


def vote(evidence: Evidence) -> Parts:
    """Returns C12, see `prompt_claims.vote`."""
    return prompt_claims.vote(evidence.prompt_facts, evidence.models[-1])


def clusters(evidence: Evidence) -> Parts:
    """Returns C13, see `prompt_claims.clusters`."""
    return prompt_claims.clusters(evidence.prompt_facts, evidence.models[-1])


def labels(evidence: Evidence) -> Parts:
    """Returns C14, see `prompt_claims.labels`."""
    return prompt_claims.labels(evidence.prompt_facts, evidence.models[-1])


def manual(evidence: Evidence) -> Parts:
    """Returns C15, see `prompt_claims.manual`."""
    return prompt_claims.manual(evidence.manual, evidence.sizes, evidence.tasks)


def _longest(evidence: Evidence) -> Parts:
    """Returns part (c) of C3, the mean loss over 100 soft tokens at the larger sizes."""
    models = evidence.models[len(evidence.models) // 2 :]
    over = [more for more in evidence.lengths if more > 100]
    under = [more for more in evidence.lengths if 20 < more <= 100]
    if not (over and under):
        return ["a length over 100 and one of 21 to 100 at the larger sizes needed"]
    shorter = evidence.by_model(evidence.prompts, under[-1])
    longest = evidence.by_model(evidence.prompts, over[-1])
    if lacking := _lacking(f"P = {under[-1]} and {over[-1]}", models, shorter, longest):
        return lacking
    text = f"loss of the longest prompt at {', '.join(models)}"
    return [Part(text, _over(shorter, longest, models), low=0, high=MILD)]


def _transferred(difference: Difference, low: float) -> Part | str:
    if difference.estimate is None:
        return f"prompts and full fine-tuning, {difference.name}, needed"
    return Part(f"prompts - full fine-tuning, {difference.name}", difference.estimate, low=low)


def _equivalent(text: str, difference: Estimate) -> Part:
    return Part(text, difference, low=-MARGIN, high=MARGIN)


def _complete(models: Iterable[str], *tables: Mapping[str, Estimate]) -> bool:
    """Returns whether all tables have all models."""
    return all(model in table for model in models for table in tables)


def _lacking(what: str, models: Iterable[str], *tables: Mapping[str, Estimate]) -> Parts:
    """Returns a text that names the models some table lacks, nothing if there are none."""
    names = [model for model in models if not _complete([model], *tables)]
    return [f"{what} at {', '.join(names)} needed"] if names else []


def _several_sizes(evidence: Evidence) -> bool:
    return len({*evidence.sizes.values()}) > 1


def _logs(evidence: Evidence) -> list[float]:
    return [math.log10(max(count, 1)) for count in evidence.sizes.values()]


def _over(
    more: Mapping[str, Estimate], less: Mapping[str, Estimate], models: Sequence[str]
) -> Estimate:
    """Returns the mean difference over models."""
    return resampling.mean([more[model] - less[model] for model in models])
