"""Claims of Lester et al. 2021, judged on a study's results by criteria stated beforehand."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from spjax.analysis import claim_parts, criteria
from spjax.analysis.claim_parts import Parts
from spjax.analysis.criteria import CANNOT_TELL, MARGIN, MILD, NOT_MEASURED, Outcome, Part
from spjax.analysis.evidence import Evidence, of_results
from spjax.analysis.prompt_claims import PromptFacts
from spjax.analysis.resampling import LEVELS, TASKS

_MARGIN, _MILD = f"{MARGIN:g} point", f"{MILD:g} points"
_REAL = "experiments/lester2021"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper and the rule it is judged by.

    Attributes:
      id: for example "C1".
      statement: the claim in words.
      source: where the paper makes it.
      criterion: what has to be shown for it to hold; all parts have to be.
      margin: the margins of the criterion in words.
      study: the study that measures it.
      parts: the criterion's parts on a study's estimates.
      intervals: what its intervals cover, where they are not those of the study's runs.
    """

    id: str
    statement: str
    source: str
    criterion: str
    margin: str
    study: str
    parts: Callable[[Evidence], Parts]
    intervals: str = ""


@dataclass(frozen=True)
class Judgment:
    """The verdict on one claim.

    Attributes:
      claim: what is judged.
      outcome: verdict, p-values, and numbers of units that would settle it.
      parts: estimates and their bounds; texts name what the study lacks.
      without: the judgments that come out when one task is left out, by task; none of fewer than
        three tasks.
      notes: on what is left out of the results.
    """

    claim: Claim
    outcome: Outcome
    parts: Sequence[Part | str]
    without: Mapping[str, "Judgment"] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def verdict(self) -> str:
        """Returns one of `criteria.VERDICTS`."""
        return self.outcome.verdict

    @property
    def of_tasks(self) -> bool:
        """Returns whether the verdict rests on scores of tasks, and not on counts or on nothing."""
        known = [part for part in self.parts if isinstance(part, Part)]
        return self.verdict != NOT_MEASURED and any(not part.estimate.exact for part in known)

    @property
    def changes(self) -> str:
        """Returns in words which verdicts come out when one task is left out, "" of no tasks."""
        if not self.of_tasks:
            return ""
        if not self.without:
            return "not judged: fewer than three tasks"
        others = {task: each.verdict for task, each in self.without.items()}
        changed = [f"{v} (without {task})" for task, v in others.items() if v != self.verdict]
        return ", ".join(changed) or f"the same without any one of the {len(others)}"

    @property
    def explanation(self) -> str:
        """Returns what would settle or measure the claim, "" for one that is decided."""
        missing = sorted({part for part in self.parts if isinstance(part, str)})
        if self.verdict == NOT_MEASURED:
            return f"{self.claim.study} would measure it: {'; '.join(missing)}."
        lacks = f"Not measured: {'; '.join(missing)}." if missing else ""
        if self.verdict != CANNOT_TELL:
            return lacks
        measured = [part for part in self.parts if isinstance(part, Part)]
        settled = criteria.settled_text(measured, self.outcome.alpha)
        return " ".join(filter(None, (f"{settled}." if settled else "", lacks)))


CLAIMS = (
    Claim(
        "C1",
        "The score rises steadily with model size, and the gap to full fine-tuning shrinks.",
        "section 3.1, figures 1 and 3",
        "At the default length the slope of the score over the logarithm of size is positive, no "
        "step to the next size falls by the margin or more, and the slope of the gap (full "
        "fine-tuning minus prompts) is negative.",
        f"{_MARGIN} for steps, 0 for slopes",
        f"{_REAL}/scaling.gin",
        claim_parts.size,
    ),
    Claim(
        "C2",
        "At the largest size prompt tuning matches multi-task model tuning, which is at least as "
        "good as single-task model tuning.",
        "section 3.1",
        "At the largest size prompts at the default length are equivalent to multi-task full "
        "fine-tuning, and that does not lose to full fine-tuning on single tasks.",
        f"{_MARGIN}, both ways for the equivalence",
        f"`spjax plot` of {_REAL}/scaling.gin and {_REAL}/multitask.gin together",
        claim_parts.multitask,
    ),
    Claim(
        "C3",
        "P = 1 to 20 is a large gain below the largest size, more are marginal, and over 100 is "
        "mildly detrimental for larger models.",
        "section 3.2, footnote 6, figure 3(a)",
        "At each size below the largest P = 20 gains more than the margin over P = 1. At each size "
        "every longer prompt gains less than the margin over P = 20. At the larger half of the "
        "sizes, on average, the longest prompt of over 100 loses to the longest of up to 100, but "
        f"less than {_MILD}.",
        f"{_MARGIN} for gains; above 0 and below {_MILD} for the loss",
        f"{_REAL}/scaling.gin",
        claim_parts.length,
    ),
    Claim(
        "C4",
        "The largest model is strong even with a single soft token.",
        "section 3.2, figure 3(a)",
        "At the largest size no longer prompt leads P = 1 by the margin or more.",
        _MILD,
        f"{_REAL}/scaling.gin",
        claim_parts.one_token,
    ),
    Claim(
        "C5",
        "Class labels >= sampled vocabulary > random uniform at small sizes; no difference at the "
        "largest.",
        "section 3.2, figure 3(b)",
        "At the default length, on average over the smaller half of the sizes, class labels do not "
        "lose to sampled vocabulary by the margin, and sampled vocabulary beats random uniform. At "
        "the largest size all three are equivalent. The lead of labels over uniform falls with the "
        "logarithm of size.",
        f"{_MARGIN} for non-inferiority and equivalence, 0 for the others",
        f"{_REAL}/scaling.gin",
        claim_parts.initialisation,
    ),
    Claim(
        "C6",
        "LM adaptation is better than span corruption, where a sentinel is of little benefit; the "
        "largest size is good under any.",
        "section 3.2, figure 3(c)",
        "On average over the sizes below the largest LM adaptation beats span corruption with "
        "sentinels, which is equivalent to plain span corruption. At the largest size LM "
        "adaptation leads neither by the larger margin.",
        f"0; {_MARGIN} for the equivalence; {_MILD} at the largest size",
        f"{_REAL}/objective.gin",
        claim_parts.objective,
    ),
    Claim(
        "C7",
        "Over span-corruption models the order of sizes is unstable: the smallest beats the middle "
        "ones, which score nothing on many tasks.",
        "section 3.2, figure 3(c)",
        "Over span-corruption models the smallest size beats the mean of the middle ones, and the "
        "share of runs that score below 1 % is larger on average over the middle sizes than at the "
        "smallest, and than at the largest.",
        "0",
        f"{_REAL}/objective.gin",
        claim_parts.instability,
    ),
    Claim(
        "C8",
        "Longer LM adaptation is better, and of modest benefit at the largest size.",
        "section 3.2, figure 3(d)",
        "On average over sizes the longest adaptation beats every shorter one, and its lead over "
        "the shortest is smaller at the largest size than at the others.",
        "0",
        f"{_REAL}/adaptation.gin",
        claim_parts.adaptation,
    ),
    Claim(
        "C9",
        "Prompt tuning trains less than 0.01 % of the parameters of models over a billion.",
        "section 4, table 4",
        "Parameters of a prompt of 100 over those of the frozen model, by counting.",
        "0.01 %",
        "no study",
        claim_parts.parameters,
    ),
    Claim(
        "C10",
        "Frozen models with prompts do better than tuned models on other domains.",
        "section 5, table 1",
        "For each task trained on, the mean over the other tasks it is scored on is higher with "
        "prompts.",
        "0",
        f"{_REAL}/domain_shift.gin",
        claim_parts.domain_shift,
    ),
    Claim(
        "C11",
        "Prompts trained on one paraphrase task do at least as well on the other as tuned models.",
        "section 5, table 2",
        "For each task trained on and each metric of the other task, prompts do not lose by the "
        "margin.",
        _MARGIN,
        f"{_REAL}/domain_shift.gin",
        claim_parts.paraphrases,
    ),
    Claim(
        "C12",
        "A vote of five prompts is at least as good as the best of them on every task.",
        "section 6, table 3",
        "At the largest size the vote beats the average prompt on average over the tasks, and on "
        "every task it does not lose to the prompt that is best on validation.",
        f"0 over the average, {_MARGIN} for each task",
        "the command `python -m experiments.extensions.ensemble STUDY_FOLDER`, after "
        "experiments/extensions/ensemble.gin,",
        claim_parts.vote,
        "Intervals of C12 are of these prompts on these tasks, over blocks of examples.",
    ),
    Claim(
        "C13",
        "The nearest words of a learned prompt token form a tight cluster of meaning.",
        "section 7",
        "At the largest size and with each initialization the five nearest words of a learned "
        "token are more alike than those of the same token before training.",
        "0",
        "the command `python -m experiments.extensions.interpretation STUDY_FOLDER`, after "
        "experiments/extensions/interpretation.gin,",
        claim_parts.clusters,
    ),
    Claim(
        "C14",
        "Class labels stay among the nearest words of the tokens that start as them, and appear "
        "with other starts too.",
        "section 7",
        "At the largest size more than half of the labels are among the five nearest words of the "
        "token that started as them; with each other initialization labels are among the five "
        "nearest words of some token more often than before training.",
        "50 % of labels, and 0",
        "the command `python -m experiments.extensions.interpretation STUDY_FOLDER`, after "
        "experiments/extensions/interpretation.gin,",
        claim_parts.labels,
    ),
    Claim(
        "C15",
        "The manual prompts of GPT-3 on LM-adapted T5 are far below GPT-3 of like size.",
        "footnote 5",
        "At every size GPT-3's own few-shot prompts on LM-adapted T5 score less than GPT-3 of like "
        "size (within a factor of two), by more than the margin.",
        _MILD,
        "an arm `gpt3` of hard prompts on LM-adapted T5 1.1, with GPT-3's scores by size,",
        claim_parts.manual,
    ),
)


def check(
    results: pd.DataFrame,
    prompt_facts: PromptFacts | None = None,
) -> list[Judgment]:
    """Judges all claims, on all tasks and with each left out.

    Args:
      results: rows of results.csv.
      prompt_facts: of `prompt_claims.read`, for C12 to C14.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    facts = prompt_facts or PromptFacts()
    whole = of_results(results, facts)
    judgments = judge(whole)
    if len(whole.tasks) < 3:  # no variance over tasks without one of two
        return judgments
    others: dict[str, dict[str, Judgment]] = {}
    for task in whole.tasks:
        remaining = of_results(results, facts.without(task), left_out=task)
        for judgment in judge(remaining):
            others.setdefault(judgment.claim.id, {})[task] = judgment
    return [dataclasses.replace(each, without=others[each.claim.id]) for each in judgments]


def judge(evidence: Evidence) -> list[Judgment]:
    """Judges all claims on the estimates of a study, corrected for their number."""
    parts = [claim.parts(evidence) for claim in CLAIMS]
    outcomes = criteria.judge(parts)
    return [
        Judgment(claim, outcome, list(of_claim), notes=evidence.notes)
        for claim, outcome, of_claim in zip(CLAIMS, outcomes, parts)
    ]


def markdown(judgments: Sequence[Judgment]) -> str:
    """Returns the table of verdicts, and for each claim measured its parts and criterion."""
    lines = [
        "| claim | of Lester et al. 2021 | here | without one task |",
        "| --- | --- | --- | --- |",
    ]
    for judgment in judgments:
        verdict = f"**{judgment.verdict}**"
        cells = [judgment.claim.id, judgment.claim.statement, verdict, judgment.changes]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", _legend(judgments)]
    for judgment in judgments:
        if judgment.verdict == NOT_MEASURED:
            continue
        claim, outcome = judgment.claim, judgment.outcome
        p_values = f"p (holds) {outcome.p_holds:.3f}, p (contradicted) {outcome.p_contradicted:.3f}"
        lines += ["", f"## {claim.id}: {judgment.verdict}", "", f"{claim.criterion} Margin:"]
        lines[-1] += f" {claim.margin}. Source: {claim.source}. Corrected {p_values}."
        if claim.intervals:
            lines[-1] += f" {claim.intervals}"
        if judgment.explanation:
            lines += ["", judgment.explanation]
        lines += ["", "| part | estimate | to be | shown |", "| --- | ---: | --- | --- |"]
        for part in judgment.parts:
            if isinstance(part, Part):
                cells = [
                    part.text,
                    criteria.interval_text(part.estimate),
                    part.bounds,
                    shown(part),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Not measured here", ""]
    lines += [
        f"- {judgment.claim.id}: {judgment.explanation}"
        for judgment in judgments
        if judgment.verdict == NOT_MEASURED
    ]
    notes = list(judgments[0].notes)
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def shown(part: Part) -> str:
    """Returns whether one part alone is shown, without the correction over claims."""
    if part.p_shown <= criteria.ALPHA:
        return "yes"
    return "the opposite" if part.p_opposed <= criteria.ALPHA else "open"


def scope(judgments: Sequence[Judgment]) -> str:
    """Returns what the intervals cover and do not, and so what the verdicts are about."""
    general = [judgment for judgment in judgments if not judgment.claim.intervals]
    parts = [part for judgment in general for part in judgment.parts if isinstance(part, Part)]
    measured = [part.estimate for part in parts if not part.estimate.exact]
    if not measured:
        return ""
    covered = [level for level in LEVELS if all(level in each.covered for each in measured)]
    absent = [level for level in LEVELS if level not in covered]
    text = f"The intervals cover {', '.join(covered) or 'nothing'}"
    sentences = [f"{text}; not {', '.join(absent)}." if absent else f"{text}."]
    if any(estimate.units[TASKS] == 1 for estimate in measured):
        sentences.append("Verdicts from one task are about it alone.")
    once = [estimate.trained_once for estimate in measured]
    if all(once):
        sentences.append(
            "Nothing was trained twice, so the variance over training is unknown: no verdict "
            "rests on runs of one seed."
        )
    elif any(once):
        sentences.append(
            "Some models have one run for each cell, without a second seed or draw: the variance "
            "over training is unknown there, so no verdict rests on them."
        )
    return " ".join(sentences)


def _legend(judgments: Sequence[Judgment]) -> str:
    text = (
        'Differences are in points, with their 95 % interval in brackets. "Shown" is about one '
        "part alone (5 %, one-sided); verdicts are corrected over the claims of the study."
    )
    return f"{text} {scope(judgments)}".rstrip()
