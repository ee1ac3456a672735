"""Averages, what they leave out, and the notes about it, against hand-made numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from spjax.analysis import statistics, tables
from spjax.analysis.figures import _style

# Two tasks, two seeds, one size: suite scores by hand 60 and 70, mean 65, sample std sqrt(50).
HAND = [("a", 0, 50.0), ("b", 0, 70.0), ("a", 1, 60.0), ("b", 1, 80.0)]


def row(task, seed, score, **changes):
    values = {
        "arm": "prompts",
        "model": "m",
        "model_parameters": 1000,
        "task": task,
        "method": "prompt_tuning",
        "prompt_length": 20,
        "init": "class_labels",
        "seed": seed,
        "status": "finished",
        "test_score": score,
        "majority_score": 30.0 if task == "a" else 50.0,
        "ceiling": 100.0,
    }
    return values | changes


def hand(*more):
    return pd.DataFrame([row(*values) for values in HAND] + list(more))


def suite(results):
    return statistics.suite(statistics.main_runs(results))


def test_mean_over_tasks_then_seeds():
    found = suite(hand())
    (cell,) = found.cells.itertuples()
    assert (cell.line, cell.seeds, cell.expected) == ("P = 20", 2, 2)
    assert cell.mean == pytest.approx(65)
    assert cell.std == pytest.approx(np.sqrt(50))
    assert (cell.low, cell.high) == pytest.approx(stats.t.interval(0.95, 2, 65, np.sqrt(12.5)))
    assert (found.majority, found.ceiling, found.notes) == (40, 100, ())
    assert found.tasks == ("a", "b")


def test_by_task():
    cells = statistics.by_task(statistics.main_runs(hand())).set_index("task")
    assert cells["mean"].to_dict() == {"a": 55, "b": 75}
    assert cells["std"].to_list() == pytest.approx([np.sqrt(50)] * 2)
    assert cells["majority"].to_dict() == {"a": 30, "b": 50}


def test_errors_are_those_of_a_cell_alone():
    longer = [row(task, seed, score, prompt_length=50) for task, seed, score in HAND]
    longer = [values | {"test_score": 40.0} for values in longer]
    cells = suite(hand(*longer)).cells
    assert cells["std"].to_list() == pytest.approx([np.sqrt(50), 0])
    assert cells["low"].isna().to_list() == [False, True]  # equal scores tell no error


def test_pretraining_draws_are_runs_of_a_cell():
    draws = [row(*values, pretraining_seed=1) for values in HAND]
    first = hand().assign(pretraining_seed=0)
    (cell,) = suite(pd.concat([first, pd.DataFrame(draws)])).cells.itertuples()
    assert (cell.seeds, cell.expected, cell.mean) == (4, 4, 65)


def test_one_seed_has_no_spread():
    cells = suite(hand().query("seed == 0")).cells
    assert cells["mean"].to_list() == [60]
    assert cells[["std", "low", "high"]].isna().all(axis=None)


def test_intervals_are_over_seeds_and_items():
    scores = [np.array(items) for items in ([49.0, 51.0], [70.0, 70.0]) * 2]
    results = hand().assign(**{statistics.ITEM_SCORES: scores})
    (cell,) = suite(results).cells.itertuples()
    degrees = 12.75**2 / (2 * 6.25**2 + 0.25**2)
    assert cell.mean == 65
    interval = stats.t.interval(0.95, degrees, 65, np.sqrt(12.75))
    assert (cell.low, cell.high) == pytest.approx(interval)
    first = statistics.by_task(statistics.main_runs(results)).set_index("task").loc["a"]
    interval = stats.t.interval(0.95, 26**2 / (25**2 + 1), 55, np.sqrt(26))
    assert (first["low"], first["high"]) == pytest.approx(np.clip(interval, 0, 100))
    assert cell.items == 2
    assert _style.bars_note(suite(results).cells).endswith(", over 2 seeds and test items.")
    assert _style.bars_note(suite(hand()).cells).endswith(", over 2 seeds.")
    drawn = hand().assign(pretraining_seed=lambda runs: runs["seed"])
    assert _style.bars_note(suite(drawn.assign(seed=0)).cells).endswith(
        ", over 2 pre-training draws."
    )
    assert "over 2 pre-training draws; " in tables.heading(suite(drawn.assign(seed=0)))
    one = suite(hand().query("seed == 0")).cells
    assert _style.bars_note(one) == "One seed, so there are no bars."
    # Items alone do not tell how training varies.
    (once,) = suite(results[results["seed"] == 0]).cells.itertuples()
    assert np.isnan(once.low) and np.isnan(once.high)


def test_items_are_read_with_the_results_of_their_run(tmp_path):
    hand().assign(key=list("pqrs")).to_csv(tmp_path / "results.csv", index=False)
    assert statistics.ITEM_SCORES not in statistics.load(tmp_path)
    table = pd.DataFrame({"key": ["r", "p"], "scores": [[1.0, 2.0], [3.0, 4.0]]})
    table.to_parquet(tmp_path / "items.parquet")
    first, *others = statistics.load(tmp_path)[statistics.ITEM_SCORES]
    assert first.tolist() == [3, 4] and others[1].tolist() == [1, 2]
    assert others[0] is None and others[2] is None
    (tmp_path / "items.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match="cannot use .*items.parquet"):
        statistics.load(tmp_path)


def test_a_cell_just_begun_does_not_shrink_the_tasks():
    found = suite(hand(row("a", 0, 55.0, prompt_length=50)))
    assert found.tasks == ("a", "b")
    begun = found.cells.set_index("line").loc["P = 50"]
    assert begun["seeds"] == 0 and np.isnan(begun["mean"])
    assert found.notes == ("Incomplete, not shown (no seed has all tasks): m P = 50.",)


def test_a_task_just_begun_is_left_out():
    other = [row(task, seed, score, prompt_length=50) for task, seed, score in HAND]
    found = suite(hand(*other, row("c", 0, 99.0)))
    assert found.tasks == ("a", "b")
    assert found.cells["mean"].to_list() == pytest.approx([65, 65])
    assert found.notes == ("Not averaged, since not measured everywhere: c.",)


def test_missing_seed_is_marked():
    other = [row(task, seed, score, prompt_length=50) for task, seed, score in HAND[:2]]
    found = suite(hand(*other))
    assert found.cells["seeds"].to_list() == [2, 1]
    assert found.notes == ("* Fewer runs than elsewhere: m P = 50 (1 of 2).",)


def test_a_line_with_one_seed_beside_lines_with_several_is_named():
    """Also where its arm has no more anywhere, so that nothing of it is missing."""
    once = [row(task, 0, 80.0, arm="multitask") for task in ("a", "b")]
    both = suite(hand(*once))
    assert both.cells["seeds"].to_list() == [2, 1]
    (note,) = both.notes
    named = "prompt tuning multitask, P = 20 (1 of 2)"
    assert note == f"Fewer draws or seeds than other lines at every size: {named}."


def test_a_model_that_lacks_a_run_everywhere_is_named_once():
    rows = [
        row(task, seed, score, prompt_length=length, model=model)
        for length in (1, 50)
        for task, seed, score in HAND
        for model in ("m", "n")
        if model == "m" or seed == 0
    ]
    assert suite(pd.DataFrame(rows)).notes == ("* Fewer runs than elsewhere: n (1 of 2).",)


def test_diverged_runs_are_counted_and_said():
    results = hand()
    results.loc[3, ["status", "test_score"]] = ["diverged", np.nan]
    results.loc[0, "status"] = "diverged"
    found = suite(results)
    assert found.cells["mean"].to_list() == [60]
    assert found.cells["seeds"].to_list() == [1]
    assert found.notes[-1] == (
        "Diverged: 2 of 4 runs, 1 counted at the last good checkpoint, 1 without a score: "
        "m P = 20 a seed 0, m P = 20 b seed 1."
    )


def test_full_fine_tuning_comes_last_whatever_its_length():
    full = {"method": "full_fine_tuning", "prompt_length": np.nan, "init": np.nan, "arm": "full"}
    cells = suite(pd.DataFrame([row("a", 0, 90.0, **full), *hand().to_dict("records")])).cells
    assert cells["line"].to_list() == ["P = 20", "full fine-tuning"]


def test_ablation_fills_holes_of_the_main_arm_and_nothing_else():
    ablation = {"arm": "initialisation", "prompt_length": 100}
    results = hand(
        *(row(task, seed, score + 1, **ablation) for task, seed, score in HAND),
        *(row(task, seed, 0.0, **ablation, init="uniform") for task, seed, _ in HAND),
    )
    cells = suite(results).cells
    assert cells["line"].to_list() == ["P = 20", "P = 100"]
    assert cells["mean"].to_list() == pytest.approx([65, 66])
    main = [row(task, seed, 10.0, prompt_length=100) for task, seed, _ in HAND]
    cells = suite(pd.concat([results, pd.DataFrame(main)])).cells
    assert cells["mean"].to_list() == pytest.approx([65, 10])


def test_initialisations_prefer_the_ablation_arm(results):
    runs = statistics.initialisation_runs(results)
    assert set(runs["prompt_length"]) == {100}
    assert set(runs["line"]) == {"uniform", "sampled_vocabulary", "class_labels"}
    assert set(runs["arm"]) == {"initialisation"}
    without = results[(results["arm"] != "initialisation") | (results["init"] != "class_labels")]
    runs = statistics.initialisation_runs(without)
    assert set(runs.loc[runs["init"] == "class_labels", "arm"]) == {"prompts"}


@pytest.mark.parametrize(("lengths", "default"), [((1, 20), 20), ((1, 100, 150), 100), ((1,), 1)])
def test_default_length(lengths, default):
    rows = [row("a", 0, 1.0, prompt_length=length) for length in lengths]
    assert statistics.default_length(pd.DataFrame(rows)) == default
    rows.append(row("a", 0, 1.0, prompt_length=5, arm="initialisation"))
    assert statistics.default_length(pd.DataFrame(rows)) == 5


def test_arms_that_measure_the_same_cell_become_lines():
    again = [row(task, seed, score + 2, arm="again") for task, seed, score in HAND]
    cells = suite(hand(*again)).cells.set_index("line")
    assert cells["mean"].to_dict() == pytest.approx(
        {"prompt tuning again, P = 20": 67, "prompt tuning prompts, P = 20": 65}
    )


def test_another_method_gets_lines_of_its_own():
    cells = suite(hand(row("a", 0, 1.0, method="lora", prompt_length=0, init=""))).cells
    assert cells["line"].to_list() == ["lora", "prompt tuning, P = 20"]


def test_runs_nothing_tells_apart_are_refused():
    with pytest.raises(ValueError, match="2 runs measure a cell that another run measures too"):
        suite(hand(row("a", 0, 1.0)))


def test_missing_folder_or_file(tmp_path):
    with pytest.raises(ValueError, match="no results.csv in .*run `spjax sweep` first"):
        statistics.load(tmp_path / "nowhere")


def test_unusable_files(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("")
    with pytest.raises(ValueError, match="is empty: not even column names"):
        statistics.load(tmp_path)
    path.write_text(",".join(statistics.COLUMNS) + "\n")
    with pytest.raises(ValueError, match="have no rows: no run has finished yet"):
        statistics.load(tmp_path)
    hand().drop(columns=["seed", "status"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"lack the columns \['seed', 'status'\]"):
        statistics.load(tmp_path)
    hand().assign(test_score=np.nan, status="diverged").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"none of the 4 runs has a test_score .*'diverged': 4"):
        statistics.load(tmp_path)


def test_no_prompt_tuning_has_no_default_length():
    with pytest.raises(ValueError, match="no run with method 'prompt_tuning' among"):
        statistics.default_length(hand().assign(method="lora"))


def test_tasks_without_test_labels_are_scored_on_validation_and_say_so():
    results = hand().assign(validation_score=lambda rows: rows["test_score"] + 1)
    blank = results["task"] == "a"
    results.loc[blank, "test_score"] = np.nan
    suite = statistics.suite(statistics.main_runs(results))
    whole = statistics.suite(statistics.main_runs(hand()))
    assert suite.scored_on == "test/validation" and whole.scored_on == "test"
    assert suite.cells["mean"].tolist() == pytest.approx((whole.cells["mean"] + 0.5).tolist())
    assert tables.heading(suite).startswith("Test/validation score in %")
    assert tables.heading(suite).endswith("checkpoints chosen by validation score too.")


def test_a_diverged_run_without_test_labels_counts_as_one_with_them():
    results = hand().assign(validation_score=lambda rows: rows["test_score"])
    results.loc[3, "status"] = "diverged"
    tested = suite(results)
    untested = suite(results.assign(test_score=np.nan))
    assert untested.scored_on == "validation" and tested.scored_on == "test"
    assert untested.cells["mean"].tolist() == tested.cells["mean"].tolist()


def test_sentinel_tasks_are_another_line_of_the_same_tasks():
    other = hand().assign(arm="sentinel", task=lambda rows: rows["task"] + ":sentinel")
    both = suite(pd.concat([hand(), other]))
    assert both.tasks == ("a", "b") and len(both.cells) == 2 and both.cells["seeds"].min() == 2


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("model_parameters", "x", "'x' as model_parameters of row 3, where a number is wanted"),
        ("seed", None, "as seed of row 3, where a number is wanted"),
        ("test_score", "x", "'x' as test_score of row 3, where a number or nothing is wanted"),
        ("prompt_length", "1e30", "as prompt_length of row 3"),
        ("model_parameters", -1, "-1 as model_parameters of row 3"),
        ("task", None, "no value for task of row 3"),
    ],
)
def test_what_is_no_number_is_named(results, column, value, message):
    results[column] = results[column].astype(object)
    results.loc[2, column] = value
    with pytest.raises(ValueError, match=message):
        statistics.checked(results)
