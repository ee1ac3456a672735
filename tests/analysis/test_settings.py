"""Axes without a column of their own: lines apart, and a table of their scores."""

import pandas as pd
import pytest

from spjax.analysis import (
    claims,
    evidence,
    figures,
    joined,
    rates,
    settings,
    statistics,
    tables,
)

SETTINGS = {"WARMUP=0": 0, "WARMUP=5": 4, "WARMUP=9": -3}


@pytest.fixture
def search(results):
    """An arm of three settings on two tasks, of which the second is best on validation alone."""
    rows = results.query("arm == 'prompts' and prompt_length == 20 and model == 'pocket_3m'")
    rows = rows[rows["task"].isin(["pocket_cb", "pocket_wic"])].assign(arm="warmup")
    parts = [
        rows.assign(settings=text, validation_score=70 + gain, test_score=60 - gain)
        for text, gain in SETTINGS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_an_arm_of_settings_beside_the_prompts_changes_no_verdict(results):
    prompts = results.query("arm == 'prompts' and prompt_length == 100")
    same = prompts.assign(arm="decay_offset", settings="decay_offset=0")
    other = prompts.assign(arm="decay_offset", settings="decay_offset=-1100000")
    other["key"], other["test_score"] = "d" + other["key"].str[1:], other["test_score"] + 5
    both = pd.concat([results.assign(settings=""), same, other], ignore_index=True)
    before, after = (
        {each.claim.id: (each.verdict, each.explanation) for each in claims.judge(of)}
        for of in map(evidence.of_results, (results, statistics.checked(both)))
    )
    assert before == after
    cells = statistics.suite(statistics.main_runs(statistics.checked(both))).cells
    assert "prompt tuning decay offset=-1100000, P = 100" in set(cells["line"])
    assert "decay_offset=-1100000** | 27" in settings.markdown(statistics.checked(both))


def test_settings_are_lines_of_their_own(search):
    suite = statistics.suite(statistics.main_runs(search))
    assert dict(zip(suite.cells["line"], suite.cells["mean"])) == {
        f"prompt tuning {text}, P = 20": 60 - gain for text, gain in SETTINGS.items()
    }
    assert "WARMUP=9" in tables.markdown(search)


def test_settings_are_in_the_order_of_their_numbers(search):
    """Of equal scores the smallest value is chosen, not the first in the alphabet."""
    names = {"WARMUP=0": "BATCH=128", "WARMUP=5": "BATCH=32", "WARMUP=9": "RATE=0.5, BATCH=4"}
    rows = search.assign(settings=search["settings"].map(names), validation_score=70.0)
    compared = settings.compared(statistics.checked(rows))
    assert compared["settings"].tolist() == ["BATCH=32", "BATCH=128", "RATE=0.5, BATCH=4"]
    assert compared["chosen"].tolist() == [True, False, False]
    lines = statistics.suite(statistics.main_runs(rows)).cells["line"]
    assert [line.split("=")[1].split(",")[0] for line in lines] == ["32", "128", "0.5"]


@pytest.mark.parametrize(
    "texts",
    [
        ["x=-1100000", "x=-5", "x=0", "x=1e-05", "x=0.0001", "x=0.5", "x=1.5e3", "x=20000"],
        ["lm-2k", "lm-10k", "lm-100k"],
        ["a", "a2", "a10", "b1", "nan"],
    ],
)
def test_numbers_in_texts_are_in_order(texts):
    column = pd.Series(texts[::-1])
    assert column.sort_values(key=rates.in_order).tolist() == texts


def test_the_best_on_validation_is_chosen(search):
    text = settings.markdown(statistics.checked(search))
    assert "| warmup | prompt_tuning | pocket_3m | **WARMUP=5** | 6 | 74.0 | 56.0 |" in text
    assert text.count("**") == 4  # and the word in the heading
    assert "| warmup | prompt_tuning | pocket_3m | WARMUP=0 | 6 | 70.0 | 60.0 |" in text


def test_a_setting_that_is_not_finished_is_not_chosen(search):
    begun = search[(search["settings"] != "WARMUP=5") | (search["seed"] == 0)]
    text = settings.markdown(statistics.checked(begun))
    assert "**WARMUP=0**" in text and "| WARMUP=5 | 2* | 74.0 |" in text
    assert "Fewer validated runs than another setting" in text


def test_every_setting_has_its_own_learning_rate(search):
    slow = search.assign(learning_rate=0.1)
    slow["validation_score"] += slow["settings"].map({"WARMUP=9": 50}).fillna(-50)
    both = pd.concat([search.assign(learning_rate=0.3), slow], ignore_index=True)
    chosen = rates.chosen(statistics.checked(both))
    assert chosen.groupby("settings")["learning_rate"].unique().map(list).to_dict() == {
        "WARMUP=0": [0.3],
        "WARMUP=5": [0.3],
        "WARMUP=9": [0.1],
    }
    assert "**WARMUP=9**" in settings.markdown(statistics.checked(both))


def test_without_validation_nothing_is_best(search):
    for unknown in (search.assign(validation_score=None), search.drop(columns="validation_score")):
        unknown = statistics.checked(unknown)
        text = settings.markdown(unknown)
        assert text.count("**") == 2 and "| WARMUP=5 | 6 | - | 56.0 |" in text
        with pytest.raises(
            ValueError, match="'warmup' has several values of settings at pocket_3m"
        ):
            settings.chosen(unknown)
    lost = search["settings"] == "WARMUP=5"
    finished = search.assign(validation_score=search["validation_score"].mask(lost))
    finished.loc[~lost, "validation_score"] = 0.0
    assert "**WARMUP=0**" in settings.markdown(statistics.checked(finished))


def test_initializations_are_compared_at_the_setting_that_validation_chooses(search):
    runs = statistics.initialisation_runs(search)
    assert set(runs["settings"]) == {"WARMUP=5"} and len(runs) == 6
    with pytest.raises(ValueError, match="several values of settings"):
        statistics.initialisation_runs(search.assign(validation_score=float("nan")))
    mixed = search.assign(settings=search["settings"].replace("WARMUP=0", ""))
    with pytest.raises(ValueError, match="measure a cell that another run measures too"):
        statistics.initialisation_runs(mixed)


def test_without_settings_there_is_no_table(results):
    assert settings.markdown(statistics.checked(results)) == ""


def test_settings_survive_joining_and_drawing(search, tmp_path):
    search["key"] += search["settings"]
    for name, part in (("a", search[search["seed"] < 2]), ("b", search[search["seed"] == 2])):
        (tmp_path / name).mkdir()
        part.to_csv(tmp_path / name / "results.csv", index=False)
    rows = joined.read([tmp_path / "a", tmp_path / "b"])
    assert len(rows) == len(search) and set(rows["settings"]) == set(SETTINGS)
    assert figures.get("score_over_size")(rows, tmp_path)
