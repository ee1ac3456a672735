"""Curves over numbers of examples and the area between them, against hand-made numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from spjax.analysis import examples
from spjax.analysis.figures import score_over_examples


def curve(**seeds):
    """Scores of each seed at 10, 100 and 200 examples."""
    return pd.DataFrame(seeds, index=[10, 100, 200]).T


def test_area_of_parallel_curves():
    # Scores 50, 60, 70 at 10, 100, 200; the other has them at 20, 110, 210.
    more = curve(a=[50.0, 60.0, 70.0])
    less = more.rename(columns=lambda count: count + 10)
    value, *interval = examples.advantage(more, less)
    assert value == pytest.approx(10) and np.isnan(interval).all()
    assert examples.advantage(less, more)[0] == pytest.approx(-10)


def test_area_is_over_the_shared_scores_only():
    # More: 60 at 10, 80 at 100. Less: 50 at 10, 70 at 100, and 70 ever after.
    more, less = curve(a=[60.0, 80.0, 80.0]), curve(a=[50.0, 70.0, 70.0])
    # Between 60 and 70 it is 10 to 55 examples against 55 to 100: 45 fewer at every score.
    assert examples.advantage(more, less)[0] == pytest.approx(45)


def test_a_curve_never_falls():
    dented = curve(a=[50.0, 70.0, 60.0])
    assert examples.advantage(dented, curve(a=[50.0, 70.0, 70.0]))[0] == 0


def test_no_shared_score_is_no_number():
    assert np.isnan(examples.advantage(curve(a=[80.0] * 3), curve(a=[50.0, 60.0, 70.0]))).all()


def test_interval_is_paired_and_that_of_student():
    """Parallel curves a constant apart: the examples saved are as uncertain as their mean shift."""
    base = np.array([50.0, 60.0, 70.0])
    shifts = {"a": 1.0, "b": 2.0, "c": 3.0}
    counts = [10, 20, 30]  # a point of score is an example
    less = pd.DataFrame({seed: base + 5 * n for n, seed in enumerate(shifts)}, index=counts).T
    more = less.add(pd.Series(shifts), axis=0)
    value, low, high = examples.advantage(more, less)
    assert value == pytest.approx(2)
    expected = stats.t.interval(0.95, 2, 2, 1 / np.sqrt(3))
    assert (low, high) == pytest.approx(expected, abs=0.6)
    assert examples.advantage(more, less) == (value, low, high)


def test_no_interval_where_a_count_has_one_draw():
    more = curve(a=[50.0, 60.0, 70.0], b=[50.2, 60.1, 70.0], c=[50.1, 60.2, 70.3])
    less = curve(a=[46.0, 56.0, 66.0], b=[46.0, 56.2, 66.1], c=[46.1, 56.0, 66.2])
    assert not np.isnan(examples.advantage(more, less)).any()
    less.loc[["b", "c"], 100] = np.nan
    value, *interval = examples.advantage(more, less)
    assert value > 0 and np.isnan(interval).all()


def results():
    rows = []
    for method, init, base in (("prompt_tuning", "", 50.0), ("hard_prompt", "rank k=10", 40.0)):
        for count in (10, 100):
            for draw in (0, 1):
                shown = method == "hard_prompt"
                rows.append(
                    {
                        "arm": method,
                        "model": "m",
                        "model_parameters": 5,
                        "method": method,
                        "task": "a" if shown else f"a:n{count}:balanced:seed{draw}",
                        "prompt_length": 0 if shown else 20,
                        "seed": draw if shown else 0,
                        "init": f"rank k={count}" if shown else init,
                        "status": "finished",
                        "test_score": base + count / 10 + draw,
                        "majority_score": 30.0,
                        "ceiling": 100.0,
                    }
                )
    return pd.DataFrame(rows)


def test_lines_have_the_same_names_at_every_number_of_examples():
    rows = results()
    few = rows[(rows["method"] == "prompt_tuning") | rows["init"].str.contains("k=10$")]
    lines = examples.curves(few)[0]
    assert set(lines["line"]) == {"prompt tuning, P = 20", "hard prompt"}


def test_counts_come_from_tasks_and_variants():
    cells, notes = examples.curves(results())
    assert notes == []
    found = {(row.line, row.examples): (row.mean, row.seeds) for row in cells.itertuples()}
    assert found == {
        ("prompt tuning, P = 20", 10): (51.5, 2),
        ("prompt tuning, P = 20", 100): (60.5, 2),
        ("hard prompt", 10): (41.5, 2),
        ("hard prompt", 100): (50.5, 2),
    }
    assert set(cells["tasks"]) == {"a"}
    seeds = examples.by_seed(results())
    assert seeds["m", "prompt tuning, P = 20"].loc[1].to_dict() == {10: 52.0, 100: 61.0}
    assert set(seeds) == {("m", "prompt tuning, P = 20"), ("m", "hard prompt")}


def test_runs_on_all_examples_are_left_out():
    whole = results().iloc[:1].assign(task="a", seed=7)
    cells, _ = examples.curves(pd.concat([results(), whole]))
    assert len(cells) == 4
    (cell,) = examples.curves(whole)[0].itertuples()
    assert np.isnan(cell.examples)


def test_names_of_ticks_do_not_overlap():
    ticks = {1.0: "0", 2.0: "2", 8.0: "8", 10.0: "10", 12.0: "12", 16.0: "16"}
    assert score_over_examples._apart(ticks) == ["0", "2", "8", "", "", "16"]
