"""Verdicts follow the data: each claim holds on a study made to show it, and turns when it does."""

import json

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import frozen_models

from spjax.analysis import arms, claims, criteria, evidence, statistics
from spjax.analysis.criteria import CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED

SCALING = ("C1", "C3", "C4", "C5")


def shift(results, query, points):
    """Adds points to the test scores of the rows a query chooses."""
    results = results.copy()
    chosen = results.query(query).index
    assert len(chosen)
    results.loc[chosen, "test_score"] += points
    return results


def judge(results):
    return {each.claim.id: each for each in claims.judge(evidence.of_results(results))}


def verdicts(results):
    return {name: each.verdict for name, each in judge(results).items()}


def test_all_hold_where_they_should(results):
    found = verdicts(results)
    measured = {name for name, verdict in found.items() if verdict != NOT_MEASURED}
    assert measured == {*SCALING, "C9"} and {found[name] for name in measured} == {HOLDS}


def test_claims_are_complete():
    assert [claim.id for claim in claims.CLAIMS] == [f"C{n}" for n in range(1, 16)]
    for claim in claims.CLAIMS:
        assert all(getattr(claim, name) for name in ("statement", "source", "criterion", "margin"))
        assert claim.study


@pytest.mark.parametrize(
    ("name", "query", "points"),
    [
        # a dip in the middle; full fine-tuning runs away
        ("C1", "model == 'pocket_800k' and prompt_length == 100", -20),
        ("C1", "model == 'pocket_3m' and method == 'full_fine_tuning'", 25),
        # one token is as good; 50 is far better than 20; the longest is best, or far behind
        ("C3", "model == 'pocket_200k' and prompt_length == 1", 18),
        ("C3", "model == 'pocket_200k' and prompt_length == 50", 5),
        ("C3", "prompt_length == 150", 5),
        ("C3", "prompt_length == 150", -20),
        ("C4", "model == 'pocket_3m' and prompt_length == 1", -9),
        ("C4", "model == 'pocket_3m' and prompt_length == 5", 9),
        # labels lose; uniform is better; labels win at the largest as well
        ("C5", "model == 'pocket_50k' and init == 'class_labels' and arm == 'initialisation'", -16),
        ("C5", "model in ('pocket_50k', 'pocket_200k') and init == 'uniform'", 9),
        ("C5", "model == 'pocket_3m' and init == 'class_labels' and arm == 'initialisation'", 6),
    ],
)
def test_verdicts_turn(results, name, query, points):
    assert verdicts(shift(results, query, points))[name] == CONTRADICTED


def test_noise_is_no_support():
    """The same truth in a noisy study: nothing holds that needs equivalence."""
    found = verdicts(synthetic.study(noise=8.0))
    assert found["C3"] == found["C5"] == CANNOT_TELL


def test_a_gain_of_one_task_is_not_one_of_all(results):
    """Tasks are a sample: a gain that one of nine has tells nothing of the others."""
    flat = shift(results, "model == 'pocket_3m' and prompt_length == 1", 0.0)
    rows = flat.query("model == 'pocket_3m' and prompt_length == 1 and task == 'pocket_cb'").index
    flat.loc[rows, "test_score"] -= 60
    assert verdicts(flat)["C4"] == CANNOT_TELL
    judged = {each.claim.id: each for each in claims.check(flat)}
    verdicts_without = {task: each.verdict for task, each in judged["C4"].without.items()}
    assert verdicts_without.pop("pocket_cb") == HOLDS
    assert len(verdicts_without) == 8 and {*verdicts_without.values()} == {CANNOT_TELL}
    assert judged["C4"].changes == "holds (without pocket_cb)"


def test_the_table_says_that_no_verdict_changes_or_that_none_was_judged(results):
    table = claims.markdown(claims.check(results)).split("\n\n")[0].splitlines()
    ends = {row.split(" | ")[0].strip("| "): row.rstrip(" |").split(" | ")[-1] for row in table}
    assert ends["C4"] == "the same without any one of the 9"
    assert ends["C9"] == "**holds**" and ends["C2"] == "**not measured**"  # no word on tasks
    two = claims.check(results.query("task in ('pocket_cb', 'pocket_wsc')"))
    assert {each.changes for each in two if each.of_tasks} == {"not judged: fewer than three tasks"}


@pytest.mark.slow
def test_one_seed_tells_nothing():
    judged = claims.check(synthetic.study(seeds=1))
    known = {each.claim.id: each for each in judged if each.verdict != NOT_MEASURED}
    assert {name for name, each in known.items() if each.verdict == CANNOT_TELL} == {*SCALING}
    assert "A second seed would tell" in known["C1"].explanation
    assert "Nothing was trained twice" in claims.markdown(judged)
    results = synthetic.study(seeds=3)
    largest = results.model_parameters.max()
    mixed = results[(results.model_parameters < largest) | (results.seed == 0)]
    text = claims.scope(claims.check(mixed))
    assert "Nothing was trained twice" not in text and "Some models have one run for each" in text


@pytest.mark.parametrize("query", ["method == 'full_fine_tuning'", "model == 'pocket_3m'"])
def test_nothing_to_judge_by(results, query):
    found = verdicts(results.query(query).query("prompt_length in (0, 5)"))
    assert {verdict for name, verdict in found.items() if name != "C9"} == {NOT_MEASURED}


def test_a_missing_part_never_holds(results):
    claim = judge(results.query("method == 'prompt_tuning'"))["C1"]
    assert claim.verdict == CANNOT_TELL
    assert claim.explanation.endswith("gap: full fine-tuning at two model sizes needed.")
    assert verdicts(results.query("prompt_length <= 20"))["C3"] == CANNOT_TELL
    without = judge(results.query("arm != 'initialisation'"))["C5"]
    assert without.verdict == NOT_MEASURED
    assert "experiments/lester2021/scaling.gin would measure it" in without.explanation


def test_largest_without_one_token_is_not_judged_by_a_smaller_one(results):
    remaining = results.query("not (model == 'pocket_3m' and prompt_length == 1)")
    assert verdicts(remaining)["C4"] == NOT_MEASURED


LARGE = "model in ('pocket_800k', 'pocket_3m')"


@pytest.mark.parametrize(
    ("name", "query", "lacks"),
    [
        ("C1", "model == 'pocket_200k' and prompt_length == 100", "rise: P = 100 at pocket_200k"),
        ("C1", "model == 'pocket_3m' and arm == 'full'", "gap: P = 100 and full fine-tuning at"),
        ("C3", f"{LARGE} and prompt_length == 1", "P = 1 and 20 at pocket_800k needed"),
        ("C3", "model == 'pocket_200k' and prompt_length == 50", "P = 20 and 50 at pocket_200k"),
        ("C3", "model == 'pocket_3m' and prompt_length == 150", "P = 100 and 150 at pocket_3m"),
        ("C4", "model == 'pocket_3m' and prompt_length == 50", "P = 50 at pocket_3m needed"),
        ("C5", "model == 'pocket_200k' and init == 'uniform'", "at pocket_200k needed"),
        ("C5", "model == 'pocket_3m' and init == 'uniform'", "at pocket_3m needed"),
    ],
)
def test_a_missing_size_never_holds(results, name, query, lacks):
    assert judge(results)[name].verdict == HOLDS
    found = judge(results.drop(results.query(query).index))[name]
    assert found.verdict == CANNOT_TELL
    (text,) = {part for part in found.parts if isinstance(part, str) and lacks in part}
    assert text in found.explanation


def test_the_largest_size_of_all_runs_is_the_largest(results):
    """A sweep that has only begun its largest size tells nothing of "the largest"."""
    begun = "model == 'pocket_3m' and not (arm == 'full' and task == 'pocket_cb')"
    found = judge(results.drop(results.query(begun).index))
    assert found["C4"].verdict == found["C2"].verdict == NOT_MEASURED
    assert "P = 1 and a longer prompt at pocket_3m needed" in found["C4"].explanation
    assert {found[name].verdict for name in ("C1", "C3", "C5")} == {CANNOT_TELL}
    assert not any("at pocket_800k" in str(part) for part in found["C5"].parts)
    frozen = frozen_models(results, failing=True)
    lost = frozen.query("model == 'pocket_3m' and arm != 'lm_adaptation'").index
    found = judge(frozen.drop(lost))
    assert {found[name].verdict for name in ("C6", "C7", "C8")} <= {CANNOT_TELL, NOT_MEASURED}


def test_a_length_that_has_only_begun_is_missing(results):
    longest = results["prompt_length"] == 150
    begun = results[~longest | (results["task"] == "pocket_cb")]
    found = judge(begun)
    assert found["C4"].verdict == found["C3"].verdict == CANNOT_TELL
    assert "P = 150 at pocket_3m needed" in found["C4"].explanation


@pytest.mark.parametrize("count", [0, 7])
def test_models_of_one_size_have_no_slope(results, count):
    found = judge(results.assign(model_parameters=count))
    assert found["C1"].verdict == found["C5"].verdict == NOT_MEASURED


def test_estimates_are_differences_of_means(results):
    mean = results.query("arm != 'initialisation'").groupby(["method", "prompt_length", "model"])
    mean = mean["test_score"].mean()
    part = next(
        p for p in judge(results)["C3"].parts if p.text == "gain from P = 1 to 20 at pocket_50k"
    )
    gain = mean["prompt_tuning", 20, "pocket_50k"] - mean["prompt_tuning", 1, "pocket_50k"]
    assert part.estimate.value == pytest.approx(gain)


def test_arms_of_other_names(results):
    found = judge(frozen_models(results, failing=True))
    assert {name: each.verdict for name, each in found.items() if each.verdict != NOT_MEASURED} == {
        "C1": CANNOT_TELL,  # without full fine-tuning there is no gap
        "C6": HOLDS,
        "C7": HOLDS,
        "C8": HOLDS,
        "C9": HOLDS,
    }
    found = judge(frozen_models(results, sentinel=6.0))
    assert found["C6"].verdict == found["C7"].verdict == CONTRADICTED


def test_the_first_of_several_default_arms_is_judged_and_the_others_are_named(results):
    again = results.query("arm == 'prompts'").assign(arm="again")
    again["test_score"] -= 30
    both = pd.concat([results, again], ignore_index=True)
    found = judge(both)
    assert found["C4"].verdict == HOLDS
    alone = judge(results)["C4"].parts[0].estimate.value
    assert found["C4"].parts[0].estimate.value == pytest.approx(alone)
    (note,) = [note for note in found["C4"].notes if note.startswith("Claims are about")]
    assert note.endswith("prompt_tuning prompts; not about prompt_tuning again.")


def test_zero_scores_over_span_corruption(results):
    frozen = frozen_models(results, failing=True)
    items = [np.array([0.0, 100.0])] * len(frozen)
    estimates = evidence.of_results(frozen.assign(**{statistics.ITEM_SCORES: items}))
    assert estimates.zeros["pocket_50k"].value == 0
    assert 20 < estimates.zeros["pocket_200k"].value < 60
    # Items vary a score, not whether it is none.
    assert {each.units["items"] for each in estimates.zeros.values()} == {1}
    assert {each.units["items"] for each in estimates.arms.values()} == {2}


def test_zero_scores_are_of_the_tasks_of_the_other_estimates(results):
    """Span arms that are ahead of prompts in their tasks, but for one size."""
    frozen = frozen_models(results, failing=True)
    few = frozen["task"].isin(["pocket_cb", "pocket_rte"])
    ahead = frozen.eval("arm == 'span_corruption' and model != 'pocket_50k'")
    partial = frozen[few | ahead]
    estimates = evidence.of_results(partial)
    assert set(estimates.zeros) == set(estimates.by_model(estimates.arms, "span_corruption"))
    assert {each.units["tasks"] for each in estimates.zeros.values()} == {len(estimates.tasks)}
    assert len(judge(partial)["C7"].parts) == 3
    shorter = frozen[few & (frozen["arm"] == "span_corruption")]
    shorter = shorter.assign(prompt_length=5, test_score=0.0)
    again = evidence.of_results(pd.concat([partial, shorter], ignore_index=True))
    assert again.default == 100 and again.zeros["pocket_50k"].value == 0


def test_zero_scores_at_either_end_contradict(results):
    frozen = frozen_models(results, failing=True)
    for end, other in (("pocket_50k", "pocket_3m"), ("pocket_3m", "pocket_50k")):
        failing = frozen.copy()
        at_end = (failing["arm"] == "span_corruption") & (failing["model"] == end)
        failing.loc[at_end & (failing["seed"] < 2), "test_score"] = 0.0
        parts = {part.text: part for part in judge(failing)["C7"].parts}
        assert parts[f"share of zero scores, middle sizes - {end}"].estimate.value < 0
        assert parts[f"share of zero scores, middle sizes - {other}"].estimate.value > 0


def test_two_arms_of_one_role_are_noted(results):
    frozen = frozen_models(results, failing=True)
    spans = frozen.query("arm == 'span_corruption'")
    again = spans.assign(arm="zz_span_corruption", test_score=1.0)
    both = evidence.of_results(pd.concat([frozen, again], ignore_index=True))
    alone = evidence.of_results(frozen)
    key = ("span_corruption", "pocket_3m")
    assert both.arms[key].value == pytest.approx(alone.arms[key].value)
    (note,) = [note for note in both.notes if note.startswith("Claims are about")]
    assert note.endswith("; not about prompt_tuning zz_span_corruption.")
    assert not [note for note in alone.notes if note.startswith("Claims are about")]


@pytest.mark.parametrize(
    ("arm", "role"),
    [
        ("sentinel", "sentinel"),
        ("with_sentinel", "sentinel"),
        ("no_sentinel", ""),
        ("without_sentinel", ""),
        ("sentinels", ""),
        ("span_corruption_no_sentinel", "span_corruption"),
        ("corruption_span", ""),
        ("lm_adaptation", ""),
        ("lm_adaptation_10000", "adaptation 10000"),
        ("readaptation_100", ""),
        ("full_multitask", "multitask"),
        ("", ""),
    ],
)
def test_roles_are_whole_words(arm, role):
    assert arms.role_of(arm) == role


def test_multi_task_tuning(results):
    prompts = results.query("arm == 'prompts' and model == 'pocket_3m' and prompt_length == 100")
    random = np.random.default_rng(4)
    score = prompts["test_score"] + random.normal(0, 0.3, len(prompts))
    shared = prompts.assign(arm="multitask", method="full_fine_tuning", prompt_length=0)
    shared = shared.assign(init="", test_score=score)
    study = pd.concat([results, shared], ignore_index=True)
    study.loc[study["arm"] == "full", "test_score"] -= 5
    assert verdicts(study)["C2"] == HOLDS
    assert verdicts(shift(study, "arm == 'multitask'", 5))["C2"] == CONTRADICTED


def transferred(results, points):
    """Runs of two lines scored on other tasks: several of them, and one."""
    rows = results.query(
        "model == 'pocket_3m' and prompt_length in (0, 100) and arm != 'initialisation'"
    )
    rows = rows[rows["task"].isin(["pocket_cb", "pocket_rte"])].copy()
    random = np.random.default_rng(1)

    def metrics(row):
        ahead = points if row.method == "prompt_tuning" else 0.0
        names = [f"mrqa_{k}" for k in range(6)] if row.task == "pocket_cb" else ["pocket_wic"]
        values = {name: {"f1": 70 + ahead + random.normal(0, 0.5), "em": 10.0} for name in names}
        return json.dumps(values)

    rows["transfer_metrics"] = [metrics(row) for row in rows.itertuples()]
    return rows


def test_transfer(results):
    found = judge(transferred(results, 6.0))
    assert found["C10"].verdict == HOLDS
    (part,) = found["C10"].parts
    assert part.text.startswith("prompts - full fine-tuning, pocket_cb to mrqa_0, mrqa_1")
    assert [part.text for part in found["C11"].parts] == [
        "prompts - full fine-tuning, pocket_rte to pocket_wic (em) at pocket_3m",
        "prompts - full fine-tuning, pocket_rte to pocket_wic (f1) at pocket_3m",
    ]
    found = judge(transferred(results, -6.0))
    assert found["C10"].verdict == found["C11"].verdict == CONTRADICTED


def with_targets(results, change):
    """Transferred runs with the metrics of other tasks changed: change(method, task, values)."""
    rows = transferred(results, 6.0)
    found = [
        json.dumps(change(row.method, row.task, json.loads(row.transfer_metrics)))
        for row in rows.itertuples()
    ]
    return rows.assign(transfer_metrics=found)


def test_a_target_that_one_line_lacks_is_missing_and_makes_no_paraphrase(results):
    def change(method, task, values):
        if task == "pocket_cb" and method == "full_fine_tuning":
            values = {"mrqa_0": values["mrqa_0"]}
        return values

    found = judge(with_targets(results, change))
    assert found["C10"].verdict == NOT_MEASURED
    assert "prompts and full fine-tuning, pocket_cb to mrqa_0, mrqa_1" in found["C10"].explanation
    assert all("pocket_rte to pocket_wic" in part.text for part in found["C11"].parts)


def test_targets_are_those_of_all_models(results):
    few = with_targets(results, lambda method, task, values: dict([next(iter(values.items()))]))
    few = few.assign(model="pocket_800k", model_parameters=823_000)
    found = judge(pd.concat([transferred(results, 6.0), few], ignore_index=True))
    (lacks,) = [part for part in found["C10"].parts if isinstance(part, str)]
    assert "(f1) at pocket_800k, needed" in lacks and found["C10"].verdict == CANNOT_TELL
    assert all("pocket_rte to pocket_wic" in part.text for part in found["C11"].parts)


def test_targets_are_compared_by_a_metric_of_all(results):
    def change(method, task, values):
        return {
            name: {"acc": 1.0} if name == "mrqa_0" else metrics for name, metrics in values.items()
        }

    found = judge(with_targets(results, change))
    assert "(no metric of all) at pocket_3m, needed" in found["C10"].explanation

    def both(method, task, values):
        return {name: {"em": 10.0 * len(method)} for name in values}

    (part,) = judge(with_targets(results, both))["C10"].parts
    assert "(em) at pocket_3m" in part.text and part.estimate.value == pytest.approx(-30)


def test_scores_alone_are_no_metrics(results):
    found = judge(with_targets(results, lambda method, task, values: {"x": {"score": 1.0}}))
    assert found["C10"].verdict == found["C11"].verdict == NOT_MEASURED


def test_transfer_compares_the_judged_variants(results):
    rows = transferred(results, 6.0)
    again = transferred(results, -6.0).query("method == 'prompt_tuning'").assign(arm="zz")
    found = judge(pd.concat([rows, again], ignore_index=True))
    assert found["C10"].verdict == HOLDS and len(found["C10"].parts) == 1
    assert any(note.endswith("; not about prompt_tuning zz.") for note in found["C10"].notes)


@pytest.mark.slow
def test_pretraining_draws_are_levels(results):
    other = results.assign(pretraining_seed=1)
    other["test_score"] += np.random.default_rng(0).normal(0, 0.6, len(other))
    study = pd.concat([results.assign(pretraining_seed=0), other], ignore_index=True)
    estimates = evidence.of_results(study)
    assert estimates.prompts[20, "pocket_3m"].units["pre-training draws"] == 2
    assert "The intervals cover tasks, pre-training draws, seeds, items." in claims.markdown(
        claims.check(study)
    )


def test_one_task_is_judged_alone(results):
    text = claims.markdown(claims.check(results[results["task"] == "pocket_cb"]))
    assert "cover seeds; not tasks, pre-training draws, items. Verdicts from one task are" in text


def test_items_reach_the_estimates(results):
    one = results[results["task"] == "pocket_cb"]
    random = np.random.default_rng(0)
    items = [100.0 * random.integers(0, 2, 400) for _ in one["key"]]
    estimates = evidence.of_results(one.assign(**{statistics.ITEM_SCORES: items}))
    assert estimates.prompts[20, "pocket_3m"].covered == ("seeds", "items")
    assert estimates.prompts[20, "pocket_3m"].units["items"] == 400


def test_counting_needs_no_study():
    part = claims.claim_parts.parameters(None)[0]
    assert part.estimate.exact and part.p_shown == 0


def test_diverged_runs_of_the_ablation_are_said(results):
    lost = results.query("arm == 'initialisation' and init == 'uniform'").index[0]
    results.loc[lost, "status"] = "diverged"
    assert "Diverged: 1 of" in claims.markdown(claims.check(results))


def test_markdown_states_criterion_verdict_and_what_changes_it(results):
    text = claims.markdown(claims.check(results))
    assert "| C4 | The largest model is strong even with a single soft token. | **holds** |" in text
    assert (
        "At the largest size no longer prompt leads P = 1 by the margin or more. Margin: 5" in text
    )
    assert "| gain from P = 1 to 20 at pocket_50k | +" in text
    assert "multitask.gin together would measure it" in text
    assert "full fine-tuning on all tasks together, scored on each, at pocket_3m needed." in text
    assert "The intervals cover tasks, seeds, items; not pre-training draws." in text
    assert criteria.MARGIN == 1.0 and criteria.MILD == 5.0
