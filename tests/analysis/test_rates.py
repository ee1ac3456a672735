"""The learning rate that is reported, against hand-made numbers."""

import numpy as np
import pandas as pd
import pytest

from spjax.analysis import rates, statistics, suite_notes, tables


def rows(rate, validation, test, **changes):
    """Runs of two seeds at one rate, whose validation scores are one above and one below."""
    values = {
        "arm": "prompts",
        "model": "m",
        "model_parameters": 1000,
        "task": "a",
        "method": "prompt_tuning",
        "prompt_length": 20,
        "init": "",
        "settings": "",
        "status": "finished",
        "test_score": test,
        "majority_score": 30.0,
        "ceiling": 100.0,
        "learning_rate": rate,
        "validation_score": validation,
    } | changes
    scores = [values["validation_score"] + shift for shift in (-1, 1)]
    return [values | {"seed": i, "validation_score": score} for i, score in enumerate(scores)]


# At 0.3 validation is best, and the test score is not.
GRID = [*rows(0.1, 60, 90.0), *rows(0.3, 70, 50.0), *rows(1.0, 65, 95.0)]


def test_validation_chooses_and_test_is_reported():
    results = pd.DataFrame(GRID)
    suite = statistics.suite(statistics.main_runs(results))
    (cell,) = suite.cells.itertuples()
    assert (cell.mean, cell.seeds, cell.line) == (50.0, 2, "P = 20")
    note = "Learning rates: each line's and size's best of 3 by mean validation score."
    assert suite.notes == (note,)
    assert statistics.initialisation_runs(results)["learning_rate"].unique() == [0.3]


def test_lines_that_tried_fewer_rates_are_named():
    other = {"arm": "full", "method": "full_fine_tuning", "prompt_length": 0}
    results = pd.DataFrame([*GRID, *rows(0.01, 20, 3.0, **other), *rows(0.001, 30, 4.0, **other)])
    (note,) = statistics.suite(statistics.main_runs(results)).notes
    text = "Learning rates: the best by mean validation score of 3 for P = 20 and of 2 for {}."
    assert note == text.format("full fine-tuning")


def test_lines_and_sizes_with_one_rate_are_told_from_those_with_several():
    other = {"arm": "full", "method": "full_fine_tuning", "prompt_length": 0}
    larger = {"model": "n", "model_parameters": 2000}
    words = {"arm": "words", "method": "hard_prompt", "prompt_length": 0}
    results = pd.DataFrame([*GRID, *rows(0.3, 80, 1.0, **larger), *rows(np.nan, 9, 9.0, **words)])
    (note,) = statistics.suite(statistics.main_runs(results)).notes
    chosen = "Learning rates: the best by mean validation score of 3 for {}."
    text = f"{chosen} One was tried for all others."
    assert note == text.format("m prompt tuning, P = 20")
    results = pd.DataFrame([*GRID, *rows(0.01, 20, 3.0, **other)])
    (note,) = statistics.suite(statistics.main_runs(results)).notes
    assert note == text.format("P = 20")


def test_each_size_and_arm_has_a_choice_of_its_own():
    larger = {"model": "n", "model_parameters": 2000}
    other = {"arm": "full", "method": "full_fine_tuning", "prompt_length": 0}
    results = pd.DataFrame(
        [
            *GRID,
            *rows(0.1, 80, 1.0, **larger),
            *rows(0.3, 70, 2.0, **larger),
            *rows(0.01, 20, 3.0, **other),
            *rows(0.001, 30, 4.0, **other),
        ]
    )
    kept = rates.chosen(statistics.checked(results))
    found = kept.groupby(["arm", "model"])["learning_rate"].unique().to_dict()
    assert found == {("prompts", "m"): [0.3], ("prompts", "n"): [0.1], ("full", "m"): [0.001]}
    assert len(kept) == 6


def test_ties_gaps_and_lost_runs():
    equal = pd.DataFrame([*rows(0.3, 70, 1.0), *rows(0.1, 70, 2.0)])
    assert set(rates.chosen(equal)["learning_rate"]) == {0.1}
    begun = pd.DataFrame([*rows(0.1, 60, 1.0), rows(0.3, 90, 2.0)[0]])
    assert set(rates.chosen(begun)["learning_rate"]) == {0.1}
    lost = pd.DataFrame([*rows(0.1, 60, 1.0), *rows(0.3, 90, 2.0)])
    lost.loc[3, "validation_score"] = np.nan
    assert set(rates.chosen(lost)["learning_rate"]) == {0.1}  # 0.3 is validated once
    lost.loc[3, "status"] = "diverged"  # the mean is now 44.5
    assert set(rates.chosen(lost)["learning_rate"]) == {0.1}
    lost.loc[2, "validation_score"] = 150.0
    assert set(rates.chosen(lost)["learning_rate"]) == {0.3}


def test_a_pruned_setting_is_not_chosen():
    results = pd.DataFrame([*rows(0.1, 60, 1.0), *rows(0.3, 90, 2.0)])
    assert set(rates.chosen(results)["learning_rate"]) == {0.3}
    results.loc[3, ["status", "test_score"]] = ["pruned", np.nan]  # the score so far, of one run
    assert set(rates.chosen(results)["learning_rate"]) == {0.1}


def test_without_validation_there_is_no_choice():
    unknown = pd.DataFrame([*rows(0.1, np.nan, 1.0), *rows(0.3, np.nan, 2.0)])
    assert not rates.compared(unknown)["chosen"].any()
    message = r"'prompts' has several values of learning_rate at m \(0.1, 0.3\), and no run"
    with pytest.raises(ValueError, match=message):
        rates.chosen(unknown)
    assert "**0.1" not in rates.markdown(unknown) and "**0.3" not in rates.markdown(unknown)
    one = pd.DataFrame(rows(0.1, np.nan, 1.0))
    assert len(rates.chosen(one)) == 2
    diverged = unknown.assign(status="diverged")
    assert set(rates.chosen(diverged)["learning_rate"]) == {0.1}


def test_without_rates_nothing_is_chosen(results):
    assert rates.chosen(results) is results
    assert rates.markdown(results) == ""
    nothing = pd.DataFrame(rows(np.nan, 50, 40.0, method="hard_prompt", prompt_length=0))
    assert len(rates.chosen(nothing)) == 2
    assert rates.markdown(nothing) == ""


def test_table_of_choices():
    lines = rates.markdown(pd.DataFrame(GRID)).splitlines()
    cells = "0.1: 60.0, **0.3: 70.0**, 1: 65.0"
    assert lines[-1] == f"| prompts | prompt_tuning | m | {cells} | 50.0 |"
    lines = rates.markdown(pd.DataFrame(GRID[:4])).splitlines()
    assert lines[-1].endswith("| 50.0 (end of the grid) |")
    assert "Learning rates" in tables.table(pd.DataFrame(GRID))


@pytest.mark.parametrize("shuffle", [1, 2])
def test_order_of_rows_decides_nothing(shuffle):
    results = pd.DataFrame(GRID)
    found = rates.chosen(results.sample(frac=1, random_state=shuffle)).sort_index()
    pd.testing.assert_frame_equal(found, rates.chosen(results))


def test_names_of_variants_stand_in_order_of_their_numbers_and_one_more_is_shown():
    names = sorted({f"x SIZE={n}" for n in (128, 32, 256)}, key=rates.by_numbers)
    assert names == ["x SIZE=32", "x SIZE=128", "x SIZE=256"]
    assert sorted({"pull 1.0", "pull 1"}, key=rates.by_numbers) == ["pull 1", "pull 1.0"]
    letters = list("abcdefgh")
    assert suite_notes.listed(letters[:7]) == "a, b, c, d, e, f, g"
    assert suite_notes.listed(letters) == "a, b, c, d, e, f and 2 more"
