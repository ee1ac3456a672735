"""Verdicts follow the data: each claim holds on a study made to show it and flips when it does."""

import pytest
import synthetic

from spjax.analysis import claims


def shift(results, query, points):
    """Adds points to the test scores of the rows a query chooses."""
    results = results.copy()
    chosen = results.query(query).index
    assert len(chosen)
    results.loc[chosen, "test_score"] += points
    return results


def verdict(results, name):
    return claims.CLAIMS[name](results).verdict


def test_all_hold_where_they_should(results):
    assert {c.id: c.verdict for c in claims.check(results)} == dict.fromkeys(claims.CLAIMS, "holds")


@pytest.mark.parametrize(
    ("name", "query", "points", "expected"),
    [
        # (a) a dip in the middle, (b) full fine-tuning runs away, both
        ("C1", "model == 'pocket_800k' and prompt_length == 100", -20, "mixed"),
        ("C1", "model == 'pocket_3m' and method == 'full_fine_tuning'", 20, "mixed"),
        ("C1", "model == 'pocket_3m' and prompt_length == 100", -40, "fails"),
        # (a) one token is as good, (b) 50 is far better than 20, (c) the longest is best
        ("C3", "model == 'pocket_200k' and prompt_length == 1", 9, "mixed"),
        ("C3", "model == 'pocket_200k' and prompt_length == 50", 9, "mixed"),
        ("C3", "prompt_length == 150", 3, "mixed"),
        ("C3", "prompt_length == 150", -20, "mixed"),
        ("C3", "prompt_length in (1, 150)", 20, "fails"),
        ("C4", "model == 'pocket_3m' and prompt_length == 1", -5, "fails"),
        ("C4", "model == 'pocket_3m' and prompt_length == 5", 5, "fails"),
        # (a) labels lose, (b) uniform is as good, (c) labels win at the largest as well
        ("C5", "model == 'pocket_50k' and init == 'class_labels'", -9, "mixed"),
        ("C5", "model == 'pocket_50k' and init == 'uniform'", 4, "mixed"),
        ("C5", "model == 'pocket_3m' and init == 'class_labels'", 6, "mixed"),
    ],
)
def test_verdicts_flip(results, name, query, points, expected):
    assert verdict(shift(results, query, points), name) == expected


def test_all_parts_of_initialisation_fail(results):
    worse = shift(results, "init == 'sampled_vocabulary' and model == 'pocket_3m'", 6)
    worse = shift(worse, "init == 'class_labels'", -20)
    worse = shift(worse, "init == 'uniform'", 10)
    assert verdict(worse, "C5") == "fails"


def test_margins_follow_the_noise():
    """The same small step down is noise in a noisy study and a fall in a quiet one."""
    step = "model == 'pocket_800k' and prompt_length == 100 and arm == 'prompts'"
    for noise, expected in ((0.1, "no"), (5.0, "yes")):
        study = synthetic.study(noise=noise)
        rows = study.query(step)
        before = study.query(step.replace("800k", "200k"))
        fall = before["test_score"].mean() - rows["test_score"].mean() - 1.0
        evidence = claims.c1_size(shift(study, step, fall)).evidence
        assert evidence.split("; ")[0].endswith(f": {expected}"), evidence


def test_one_seed_claims_nothing():
    found = claims.check(synthetic.study(seeds=1))
    assert {claim.verdict for claim in found} == {"not measured"}
    assert all("no second seed" in claim.evidence for claim in found)


@pytest.mark.parametrize(
    "query", ["method == 'full_fine_tuning'", "model == 'pocket_3m' and prompt_length == 5"]
)
def test_nothing_to_judge_by(results, query):
    assert {claim.verdict for claim in claims.check(results.query(query))} == {"not measured"}


def test_a_missing_part_is_never_a_claim_that_holds(results):
    prompts = results.query("method == 'prompt_tuning'")
    claim = claims.c1_size(prompts)
    assert claim.verdict == "mixed"
    assert "(a) at P = 100" in claim.evidence and "needed: not measured" in claim.evidence
    assert verdict(results.query("prompt_length <= 20"), "C3") == "mixed"
    assert verdict(results.query("arm != 'initialisation'"), "C5") == "not measured"


def test_largest_without_one_token_is_not_judged_by_a_smaller_one(results):
    rest = results.query("not (model == 'pocket_3m' and prompt_length == 1)")
    assert verdict(rest, "C4") == "not measured"


def test_numbers_are_differences_of_means(results):
    claim = claims.c1_size(results)
    mean = results.query("arm != 'initialisation'").groupby(["method", "prompt_length", "model"])
    mean = mean["test_score"].mean()
    gap = mean["full_fine_tuning", 0, "pocket_50k"] - mean["prompt_tuning", 100, "pocket_50k"]
    assert claim.numbers["gap pocket_50k"] == pytest.approx(gap)
    assert f"pocket_50k {gap:+.1f} [" in claim.evidence


def test_diverged_runs_of_the_ablation_are_said(results):
    lost = results.query("arm == 'initialisation' and init == 'uniform'").index[0]
    results.loc[lost, "status"] = "diverged"
    assert "Diverged: 1 of" in claims.c5_initialisation(results).evidence


def test_markdown_states_criterion_and_verdict(results):
    text = claims.markdown(claims.check(results))
    assert "| C4 | The largest model is strong even with a single soft token. | **holds** |" in text
    assert "Criterion: At the largest size the best longer prompt beats P = 1 by" in text
    assert text.count("Criterion:") == len(claims.CLAIMS)
