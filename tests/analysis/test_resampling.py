"""Intervals against SciPy's t tests, hand-made variances, and coverage on simulated scores."""

import math

import numpy as np
import pytest
from scipy import stats

from spjax.analysis import resampling
from spjax.analysis.resampling import ITEMS, PRETRAINING, SEEDS, TASKS, Sample


def scores(cells=2, tasks=1, draws=1, seeds=1, random=0):
    return np.random.default_rng(random).normal(60, 5, (cells, tasks, draws, seeds))


def difference(values, items=None, cells=(0, 1)):
    sample = Sample(values, items)
    return sample.estimate(cells[0]) - sample.estimate(cells[1])


@pytest.mark.parametrize(
    ("shape", "axis", "covered"),
    [
        ({"tasks": 6}, 1, (TASKS, ITEMS)),
        ({"draws": 4}, 2, (PRETRAINING,)),
        ({"seeds": 3}, 3, (SEEDS,)),
        ({"seeds": 2}, 3, (SEEDS,)),
    ],
)
def test_one_level_is_the_paired_t_test(shape, axis, covered):
    values = scores(**shape)
    found = difference(values)
    ones, others = (np.moveaxis(values[cell], axis - 1, 0).ravel() for cell in (0, 1))
    expected = stats.ttest_rel(ones, others)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert 2 * min(found.p_above(0), found.p_below(0)) == pytest.approx(expected.pvalue)
    assert found.covered == covered
    assert found.p_above(0) + found.p_below(0) == pytest.approx(1)


def test_tasks_carry_the_noise_within_them():
    values = scores(tasks=5, seeds=3)
    found = difference(values)
    expected = stats.ttest_rel(*values.mean(axis=(2, 3)))
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.resampled() == (TASKS,) and found.covered == (TASKS, SEEDS, ITEMS)
    assert found.resampled(these_tasks=True) == (SEEDS,)


def test_crossed_levels_add_up():
    values = scores(tasks=5, draws=3, seeds=2)
    found = difference(values)
    differences_TM = (values[0] - values[1]).mean(axis=-1)
    over_tasks = differences_TM.mean(axis=1).var(ddof=1) / 5
    over_draws = differences_TM.mean(axis=0).var(ddof=1) / 3
    error, degrees = found.spread()
    assert error == pytest.approx(math.sqrt(over_tasks + over_draws))
    assert degrees == pytest.approx(
        (over_tasks + over_draws) ** 2 / (over_tasks**2 / 4 + over_draws**2 / 2)
    )
    assert found.spread(these_tasks=True)[0] == pytest.approx(math.sqrt(over_draws))


def test_these_tasks_alone_have_the_noise_of_their_seeds():
    values = scores(cells=1, tasks=4, seeds=3)
    error, degrees = Sample(values).estimate(0).spread(these_tasks=True)
    variances = values[0, :, 0].var(axis=-1, ddof=1) / 3
    assert error == pytest.approx(math.sqrt(variances.sum()) / 4)
    assert 2 < degrees <= 8


def test_items_of_one_task_are_drawn_too():
    random = np.random.default_rng(3)
    items = random.integers(0, 2, (2, 500)) * 100.0
    found = difference(scores(seeds=1), [items])
    assert found.resampled() == (ITEMS,) and found.trained_once
    expected = (items[0] - items[1]).std(ddof=1) / math.sqrt(500)
    assert found.spread()[0] == pytest.approx(expected)
    assert found.spread()[1] == pytest.approx(499)
    seeds = difference(scores(seeds=3), [items])
    assert seeds.resampled() == (SEEDS, ITEMS)
    assert seeds.spread()[0] > found.spread()[0]


def test_a_cell_without_items_takes_none_from_the_others():
    random = np.random.default_rng(3)
    items = random.integers(0, 2, (2, 500)) * 100.0
    values = scores(cells=2, tasks=1, seeds=3)
    alone = Sample(values[:1], [items[:1]]).estimate(0)
    items[1] = np.nan
    known, unknown = map(Sample(values, [items]).estimate, (0, 1))
    assert known.units == alone.units and known.spread() == alone.spread()
    assert known.resampled() == (SEEDS, ITEMS) and unknown.resampled() == (SEEDS,)
    assert unknown.units[ITEMS] == (known - unknown).units[ITEMS] == 1


def test_units_that_are_missing_contribute_nothing():
    values = scores(cells=1, tasks=2, draws=2, seeds=3)
    values[0, 1, 1, 2] = np.nan
    found = Sample(values).estimate(0)
    means = np.nanmean(values[0], axis=-1)
    assert found.value == pytest.approx(means.mean())
    assert found.units == {TASKS: 2, PRETRAINING: 2, SEEDS: 3, ITEMS: 1}
    values[0, 0] = np.nan
    assert Sample(values).estimate(0) is None


def test_nothing_varies_within_one_run_or_equal_runs():
    one = difference(scores())
    assert one.trained_once and one.resampled() == () and one.covered == ()
    assert all(map(math.isnan, one.interval())) and one.p_above(0) == one.p_below(0) == 1
    equal = difference(np.full((2, 1, 1, 3), 100.0))
    assert not equal.trained_once and math.isnan(equal.spread()[0]) and equal.p_above(-9) == 1


def test_counts_are_exact():
    share = resampling.count(0.007)
    assert share.interval() == (0.007, 0.007) and not share.trained_once
    assert share.p_below(0.01) == 0 and share.p_above(0.01) == 1


def test_slope_is_the_least_squares_slope():
    values = scores(cells=4, tasks=6)
    sample = Sample(values)
    found = resampling.slope([sample.estimate(cell) for cell in range(4)], [1, 2, 4, 8])
    slopes = [stats.linregress([1, 2, 4, 8], task).slope for task in values[:, :, 0, 0].T]
    assert found.value == pytest.approx(np.mean(slopes))
    assert found.spread()[0] == pytest.approx(stats.sem(slopes))


def test_replicates_have_the_closed_form_distribution():
    values = scores(cells=2, tasks=6)
    sample = Sample(values)
    both = [sample.estimate(0), sample.estimate(1)]
    drawn = resampling.draws(both, replicates=40_000)
    assert (drawn[:4000] == resampling.draws(both, replicates=40_000)[:4000]).all()
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    assert (low, high) == pytest.approx((both[0] - both[1]).interval(), abs=0.15)


def test_replicates_are_unknown_where_no_level_has_several_units():
    values = scores(cells=3, seeds=3)
    values[1, :, :, 1:] = np.nan
    sample = Sample(values)
    every = [sample.estimate(cell) for cell in range(3)]
    assert np.isnan(resampling.draws(every)).all()
    assert not np.isnan(resampling.draws([every[0], every[2]])).any()
    equal = Sample(np.full((2, 1, 1, 3), 100.0))
    assert np.isnan(resampling.draws([equal.estimate(0), equal.estimate(1)])).all()


def test_levels_that_one_estimate_lacks_leave_those_that_all_share():
    values = scores(cells=2, draws=2, seeds=3)
    values[1, :, 1] = np.nan  # the second has one pre-training draw
    both = [Sample(values).estimate(cell) for cell in (0, 1)]
    assert both[0].resampled() == (PRETRAINING,) and both[1].resampled() == (SEEDS,)
    drawn = resampling.draws(both, replicates=40_000)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    assert (low, high) == pytest.approx((both[0] - both[1]).interval(), rel=0.1)


@pytest.mark.parametrize("shape", [(9, 1, 3), (9, 3, 2), (1, 1, 3), (1, 3, 3)])
def test_intervals_cover_the_truth(shape):
    """Two-way effects of tasks and draws, of which cells share a part; 95 % within three errors."""
    random = np.random.default_rng(5)
    misses, studies = 0, 600
    for _ in range(studies):
        values = random.normal(60, 1, (2, *shape))
        values += random.normal(0, 2, (2, shape[0], 1, 1)) * (shape[0] > 1)
        values += random.normal(0, 0.5, (2, 1, shape[1], 1)) * (shape[1] > 1)
        values += random.normal(0, 20, (1, shape[0], 1, 1))
        low, high = difference(values).interval()
        misses += not low <= 0 <= high
    assert misses / studies < 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)
