"""Claims about votes, nearest words and manual prompts: each holds, is contradicted, or is open."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import synthetic

from spjax.analysis import claims, evidence, prompt_claims, stated
from spjax.analysis.criteria import CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED

LARGEST = "pocket_3m"
TASKS = list(synthetic.TASKS)[:4]
BLOCKS = 25


def answers(random, chance, count=2000):
    return random.random(count) < chance


def summary(right):
    """Returns a score and those without each block of answers."""
    parts = np.split(right, BLOCKS)
    without = [np.concatenate(parts[:i] + parts[i + 1 :]).mean() for i in range(BLOCKS)]
    return 100 * right.mean(), [100 * value for value in without]


def votes(gain, validation=(70, 90, 80, 70, 70), **changes):
    """Rows of ensemble.json: prompts right in 80 % of the answers, a vote in `gain` points more."""
    random = np.random.default_rng(5)
    rows = []
    for task in TASKS:
        easy = answers(random, 0.75)
        prompts = [summary(easy | answers(random, 0.2)) for _ in validation]
        vote = summary(easy | answers(random, 0.2 + gain / 25))
        row = {"arm": "prompts", "model": LARGEST, "task": task, "split": "test", "keys": []}
        row |= {"scores": [score for score, _ in prompts], "validation": list(validation)}
        row |= {"vote": vote[0], "prompt_length": 100, "init": "class_labels"}
        row["left_out"] = {"vote": vote[1], "prompts": [left for _, left in prompts]}
        rows.append(row | changes)
    return tuple(rows)


def words(gain=20.0, kept=0.9, near=0.3, noise=2.0, seeds=4):
    """Rows of interpretation.json; shares in 1, gain and noise in points."""
    random = np.random.default_rng(6)
    return tuple(
        {"model": LARGEST, "prompt_length": 100, "init": init, "task": task, "seed": seed}
        | {"key": f"{init}{task}{seed}", "cluster_before": 0.2}
        | {"cluster": 0.2 + (gain + random.normal(0, noise)) / 100}
        | {"labels_kept": kept + random.normal(0, noise) / 100}
        | {"labels_near_before": 0.1, "labels_near": 0.1 + near + random.normal(0, noise) / 100}
        for init in ("class_labels", "uniform")
        for task in TASKS
        for seed in range(seeds)
    )


def judge(results, **facts):
    known = prompt_claims.PromptFacts(**facts)
    judged = claims.judge(evidence.of_results(results, prompt_facts=known))
    return {each.claim.id: each for each in judged}


@pytest.mark.parametrize(("gain", "verdict"), [(6, HOLDS), (-6, CONTRADICTED), (0.3, CANNOT_TELL)])
def test_votes(results, gain, verdict):
    claim = judge(results, votes=votes(gain))["C12"]
    assert claim.verdict == verdict
    texts = [part.text for part in claim.parts]
    assert texts[0] == f"vote - average prompt at {LARGEST}" and len(texts) == 1 + len(TASKS)
    assert texts[1].endswith("pocket_boolq (test)")


def test_one_task_that_loses_contradicts(results):
    good, bad = votes(6), votes(-15)
    assert judge(results, votes=(*good[:3], bad[3]))["C12"].verdict == CONTRADICTED


def test_the_best_prompt_is_that_of_validation_not_of_test(results):
    rows = votes(6)
    for row in rows:
        row["scores"][3] = 99.9  # which only the test split would tell
    parts = judge(results, votes=rows)["C12"].parts
    for row, part in zip(rows, parts[1:]):
        assert part.estimate.value == pytest.approx(row["vote"] - row["scores"][1])
    average = np.mean([row["vote"] - np.mean(row["scores"]) for row in rows])
    assert parts[0].estimate.value == pytest.approx(average)


def test_intervals_are_paired_and_those_of_the_jackknife(results):
    rows = votes(6)
    _, *parts = judge(results, votes=rows)["C12"].parts
    left = rows[0]["left_out"]
    differences = np.subtract(left["vote"], left["prompts"][1])
    variance = (BLOCKS - 1) * np.var(differences)
    error, degrees = parts[0].estimate.spread()
    assert error == pytest.approx(np.sqrt(variance)) and degrees == pytest.approx(BLOCKS - 1)
    # Of binomial answers it is about what the answers that differ give.
    assert 0.4 < error < 2.5


def test_votes_say_what_their_intervals_cover(results):
    judged = list(judge(results, votes=votes(6)).values())
    text = claims.markdown(judged)
    assert "Intervals of C12 are of these prompts on these tasks" in text
    assert "The intervals cover tasks, seeds, items; not pre-training draws." in text


def test_votes_at_a_smaller_size_do_not_count(results):
    small = judge(results, votes=votes(6, model="pocket_50k"))["C12"]
    assert small.verdict == NOT_MEASURED
    assert "ensemble.json with a vote at pocket_3m needed" in small.explanation
    assert "python -m experiments.extensions.ensemble" in small.explanation


@pytest.mark.parametrize(
    ("values", "clusters", "labels"),
    [
        ({}, HOLDS, HOLDS),
        ({"gain": -20}, CONTRADICTED, HOLDS),
        ({"kept": 0.2}, HOLDS, CONTRADICTED),
        ({"near": -0.05}, HOLDS, CONTRADICTED),
        ({"noise": 60.0}, CANNOT_TELL, CANNOT_TELL),
        ({"seeds": 1}, CANNOT_TELL, CANNOT_TELL),
    ],
)
def test_nearest_words(results, values, clusters, labels):
    judged = judge(results, words=words(**values))
    assert (judged["C13"].verdict, judged["C14"].verdict) == (clusters, labels)
    assert len(judged["C13"].parts) == len(judged["C14"].parts) == 2


def test_prompts_pulled_to_a_text_tell_nothing_of_words(results):
    pulled = tuple(row | {"pull": 0.1} for row in words())
    assert judge(results, words=pulled)["C13"].verdict == NOT_MEASURED


@pytest.mark.parametrize("init", ["class_labels", "uniform"])
def test_one_initialization_is_not_all(results, init):
    rows = tuple(row for row in words() if row["init"] == init)
    claim = judge(results, words=rows)["C14"]
    assert claim.verdict == CANNOT_TELL and "needed" in claim.explanation


def super_glue(results, score):
    """Hard prompts with GPT-3's texts over models that are as large as GPT-3's."""
    results = results[results["task"] != "pocket_sentiment"]
    results = results.assign(task=results["task"].str.replace("pocket_", "super_glue_") + "_v102")
    rows = results.query("arm == 'prompts' and prompt_length == 100")
    rows = rows.assign(arm="gpt3", method="hard_prompt", prompt_length=0, init="")
    random = np.random.default_rng(2)
    rows["test_score"] = score + random.normal(0, 1, len(rows))
    return pd.concat([results, rows], ignore_index=True)


@pytest.mark.parametrize(
    ("score", "verdict"), [(40, HOLDS), (65, CONTRADICTED), (55.1, CANNOT_TELL)]
)
def test_manual_prompts(results, monkeypatch, score, verdict):
    like = tuple(
        stated.Stated("GPT-3", int(1.3 * count), 60.0, "here") for count in synthetic.SIZES.values()
    )
    monkeypatch.setattr(stated, "GPT3_FEW_SHOT", like)
    claim = judge(super_glue(results, score))["C15"]
    assert claim.verdict == verdict and len(claim.parts) == len(synthetic.SIZES)


def test_the_paper_states_no_score_of_a_like_size(results):
    claim = judge(super_glue(results, 40))["C15"]
    assert claim.verdict == NOT_MEASURED
    assert "no score of GPT-3 of a size like pocket_3m is stated" in claim.explanation
    assert "an arm `gpt3` of hard prompts" in judge(results)["C15"].explanation


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(content)


def test_files_of_a_study(results, tmp_path):
    rows = votes(6, keys=results["key"].iloc[:2].tolist())
    write(tmp_path, "ensemble", json.dumps(rows))
    facts = prompt_claims.read([tmp_path, tmp_path / "none"], results)
    assert len(facts.votes) == len(TASKS) and not facts.lacking
    assert len(facts.without(TASKS[0]).votes) == len(TASKS) - 1
    changed = {each.claim.id: each for each in claims.check(results, prompt_facts=facts)}
    assert changed["C12"].verdict == HOLDS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row | {"keys": ["gone"]}, "is about runs that results.csv does not have; run"),
        (lambda row: {k: v for k, v in row.items() if k != "left_out"}, "is of an older version"),
    ],
)
def test_measurements_of_other_runs_are_not_used(results, tmp_path, change, message):
    write(tmp_path, "ensemble", json.dumps([change(row) for row in votes(6)]))
    facts = prompt_claims.read([tmp_path], results)
    assert not facts.votes
    known = {"votes": facts.votes, "lacking": facts.lacking}
    assert re.search(message, judge(results, **known)["C12"].explanation)


@pytest.mark.parametrize("content", ["nonsense", '{"a": 1}', "[1]"])
def test_damaged_files_are_named(results, tmp_path, content):
    write(tmp_path, "interpretation", content)
    with pytest.raises(ValueError, match=r"interpretation.json.*make it again"):
        prompt_claims.read([tmp_path], results)
