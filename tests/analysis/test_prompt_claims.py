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
LINE = {"arm": "prompts", "method": "prompt_tuning", "model": LARGEST, "prompt_length": 100}
LINE |= {"init": "class_labels", "settings": "", "pretraining_seed": 0, "learning_rate": 0.3}


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
        row = LINE | {"task": task, "split": "test", "keys": []}
        row |= {"scores": [score for score, _ in prompts], "validation": list(validation)}
        row["vote"] = vote[0]
        row["left_out"] = {"vote": vote[1], "prompts": [left for _, left in prompts]}
        rows.append(row | changes)
    return tuple(rows)


def words(gain=20.0, kept=0.9, near=0.3, noise=2.0, seeds=4):
    """Rows of interpretation.json; shares in 1, gain and noise in points."""
    random = np.random.default_rng(6)
    return tuple(
        LINE
        | {"init": init, "task": task, "seed": seed}
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


def test_the_votes_of_several_frozen_models_are_averaged_for_each_task(results):
    draws = [row | {"pretraining_seed": draw} for draw in (0, 1) for row in votes(6)]
    for row in draws[: len(TASKS)]:
        row["vote"] += 2
    claim = judge(results, votes=draws)["C12"]
    one = judge(results, votes=votes(6))["C12"].parts
    assert len(claim.parts) == 1 + 2 * len(TASKS)
    assert claim.parts[0].estimate.value == pytest.approx(one[0].estimate.value + 1)
    # They answer the same items, so the error is that of one.
    assert claim.parts[0].estimate.spread()[0] == pytest.approx(one[0].estimate.spread()[0])
    assert claim.parts[1].text.endswith("pocket_boolq (test), pre-training draw 0")
    first, second = (claim.parts[place].estimate.value for place in (1, 2))
    assert first - second == pytest.approx(2)


def test_votes_of_another_setting_or_of_fewer_prompts_are_no_part(results):
    others = [votes(-15, settings="A=1")[:2], votes(-15, validation=(70, 80))]
    parts = judge(results, votes=(*others[0], *others[1], *votes(6)))["C12"].parts
    values = [part.estimate.value for part in judge(results, votes=votes(6))["C12"].parts]
    assert [part.estimate.value for part in parts] == pytest.approx(values)


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


def test_words_of_other_lines_are_no_part(results):
    rows = words()
    wrong = {"cluster": 0.0, "labels_kept": 0.0, "labels_near": 0.0}
    others = [{"settings": "A=1"}, {"arm": "sentinel"}, {"method": "p_tuning"}]
    part = [row | wrong for row in rows if row["seed"] == 0]
    beside = [row | other | {"key": f"{row['key']}{other}"} for other in others for row in part]
    both, alone = judge(results, words=(*beside, *rows)), judge(results, words=rows)
    for claim in ("C13", "C14"):
        values = [part.estimate.value for part in alone[claim].parts]
        assert [part.estimate.value for part in both[claim].parts] == pytest.approx(values)


def test_words_of_several_frozen_models_are_draws_of_pretraining(results):
    rows = [row | {"pretraining_seed": draw} for draw in (0, 1) for row in words()]
    part = judge(results, words=rows)["C13"].parts[0]
    assert part.estimate.units["pre-training draws"] == 2


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


def test_a_run_of_two_folders_is_measured_once(results, tmp_path):
    keys = results["key"].iloc[:2].tolist()
    for name in ("a", "b"):
        write(tmp_path / name, "ensemble", json.dumps(votes(6, keys=keys)))
        write(tmp_path / name, "interpretation", json.dumps([words()[0] | {"key": keys[0]}]))
    facts = prompt_claims.read([tmp_path / "a", tmp_path / "b"], results)
    assert len(facts.votes) == len(TASKS) and len(facts.words) == 1


def test_a_file_that_is_not_used_is_named_beside_one_that_is(results, tmp_path):
    keys = results["key"].iloc[:2].tolist()
    write(tmp_path / "a", "ensemble", json.dumps(votes(6, keys=keys)))
    write(tmp_path / "b", "ensemble", json.dumps(votes(-6, keys=["gone"])))
    facts = prompt_claims.read([tmp_path / "a", tmp_path / "b"], results)
    judged = claims.check(results, prompt_facts=facts)
    assert {each.claim.id: each.verdict for each in judged}["C12"] == HOLDS
    assert "/b/ensemble.json is about runs that results.csv does not" in claims.markdown(judged)


def test_rates_that_are_not_chosen_are_not_used(results, tmp_path):
    table = pd.concat([results.assign(learning_rate=0.3), results.assign(learning_rate=0.1)])
    table["key"] += table["learning_rate"].astype(str)
    table.loc[table["learning_rate"] == 0.1, "validation_score"] -= 9
    best, other = ([f"{key}{rate}" for key in results["key"][:2]] for rate in (0.3, 0.1))
    rows = [*votes(6, keys=best), *votes(-6, keys=other)]
    write(tmp_path, "ensemble", json.dumps(rows))
    facts = prompt_claims.read([tmp_path], table)
    assert {tuple(row["keys"]) for row in facts.votes} == {tuple(best)}
    assert "learning rates that are not chosen; run" in facts.lacking["ensemble"]


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
        (lambda row: {k: v for k, v in row.items() if k != "init"}, "is of an older version"),
        (lambda row: {k: v for k, v in row.items() if k != "prompt_length"}, "of an older version"),
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
