"""The saturation length on curves whose truth is known, and the fit against SciPy's."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from spjax.analysis import saturation
from spjax.analysis.resampling import Sample

LENGTHS = (1, 2, 5, 10, 20, 50, 100, 150)


def estimates(curve, noise, tasks=9, seeds=5, random=0):
    shape = (len(curve), tasks, 1, seeds)
    noisy = np.random.default_rng(random).normal(0, noise, shape)
    base = np.random.default_rng(7).normal(0, 10, (1, tasks, 1, 1))
    sample = Sample(np.asarray(curve)[:, None, None, None] + base + noisy)
    return [sample.estimate(cell) for cell in range(len(curve))]


def test_a_sharp_bend_is_found():
    curve = [70, 74, 77, 79, 81, 81, 81, 81]
    found = saturation.locate(LENGTHS, estimates(curve, 0.3))
    assert (found.shortest_possible, found.length, found.longest) == (20, 20, 150)
    assert found.located


def test_a_drop_at_the_end_does_not_matter_and_a_late_gain_does():
    found = saturation.locate(LENGTHS, estimates([70, 74, 77, 79, 81, 81, 81, 60], 0.3))
    assert found.length == 20
    found = saturation.locate(LENGTHS, estimates([70, 74, 77, 79, 81, 81, 81, 90], 0.3))
    assert (found.shortest_possible, found.length) == (150, 150) and not found.located


def test_a_length_in_a_dip_does_not_suffice_and_none_before_it_does():
    saturated = saturation.locate(LENGTHS, estimates([70, 81, 74, 77, 81, 81, 81, 81], 0.3))
    assert (saturated.shortest_possible, saturated.length) == (20, 20)


def test_steps_down_from_the_longest_are_those_of_single_comparisons():
    curve = [70, 74, 77, 79, 80.5, 81, 81, 81]
    stars = set()
    for study in range(30):
        scores = estimates(curve, 2.0, random=study)
        star = len(LENGTHS) - 1
        while star and all((x - scores[star - 1]).p_below(1) <= 0.05 for x in scores[star:]):
            star -= 1
        shortest, length = saturation.interval(LENGTHS, scores)
        assert length == LENGTHS[star] and shortest <= length
        stars.add(length)
    assert len(stars) > 2


def test_noise_widens_and_never_locates():
    curve = [70, 74, 77, 79, 81, 81, 81, 81]
    found = saturation.locate(LENGTHS, estimates(curve, 12.0))
    assert found.length == 150 and found.shortest_possible < 20 and not found.located


def test_the_margin_is_a_parameter():
    curve = [70, 74, 77, 79, 81, 81, 81, 81]
    assert saturation.locate(LENGTHS, estimates(curve, 0.3), margin=5).length == 5


@pytest.mark.parametrize(
    ("scores", "length"),
    [
        ([70, 74, 77, 79, 81, 81.9, 82, 60], 20),
        ([70, 81, 74, 77, 81, 81, 81, 81], 20),
        ([70, 70, 70, 70, 70, 70, 70, 72], 150),
        ([70, 70, 70, 70, 70, 70, 70, 71], 1),
    ],
)
def test_exact_scores_have_the_length_that_no_longer_one_beats(scores, length):
    assert saturation.without_spread(LENGTHS, scores) == length


def test_one_run_or_equal_runs_locate_nothing():
    curve = [70, 74, 77, 79, 81, 81, 81, 81]
    found = saturation.locate(LENGTHS, estimates(curve, 0.3, seeds=1))
    assert found.length is None and not found.located
    sample = Sample(np.full((3, 1, 1, 3), 100.0))
    same = [sample.estimate(cell) for cell in range(3)]
    assert saturation.locate((1, 5, 20), same).length is None


@pytest.mark.slow
def test_bounds_hold_together():
    """P* is below the true length in at most 5 % of studies at the margin."""
    curve = np.array([70, 79, 79, 79, 79, 79, 79, 80.0])  # 150 gains just the margin: P* is 2
    curve[-1] += 1e-6  # and now 150
    found = [
        saturation.locate(LENGTHS, estimates(curve, 1.0, random=study)).length
        for study in range(100)
    ]
    assert np.mean([length < 150 for length in found]) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 100)


def test_fit_is_the_least_squares_curve():
    def curve(lengths, limit, factor, exponent):
        return limit - factor * lengths**-exponent

    random = np.random.default_rng(2)
    scores = curve(np.array(LENGTHS, float), 85, 14, 0.8) + random.normal(0, 0.3, 8)
    known, _ = optimize.curve_fit(curve, np.array(LENGTHS, float), scores, p0=[80, 10, 1])
    p90, limit = saturation.curve(LENGTHS, scores[None])
    assert p90[0] == pytest.approx(10 ** (1 / known[2]), rel=0.1)
    assert limit[0] == pytest.approx(known[0], abs=0.1)


def test_p90_has_an_interval_that_holds_the_truth():
    curve = 85 - 14 * np.array(LENGTHS, float) ** -0.8
    found = saturation.locate(LENGTHS, estimates(curve, 0.5))
    assert found.p90_low < 10 ** (1 / 0.8) < found.p90_high < 60
    assert found.p90_low < found.p90 < found.p90_high
    flat = saturation.locate(LENGTHS, estimates([80 - n for n in range(8)], 0.3))
    assert math.isnan(flat.p90) and flat.length == 1
    assert math.isnan(saturation.locate((1, 5, 20), estimates([70, 75, 76], 0.3)).p90)


def test_p90_has_no_interval_where_a_length_was_trained_once():
    curve = 85 - 14 * np.array(LENGTHS, float) ** -0.8
    once = saturation.locate(LENGTHS, estimates(curve, 0.5, tasks=1, seeds=1))
    noisy = np.random.default_rng(0).normal(curve[:, None, None, None], 0.5, (8, 1, 1, 3))
    noisy[4, ..., 1:] = np.nan
    mixed = saturation.locate(LENGTHS, [Sample(noisy).estimate(cell) for cell in range(8)])
    tasks = saturation.locate(LENGTHS, estimates(curve, 0.5, seeds=1))
    for found in (once, mixed, tasks):
        assert found.p90 > 1 and math.isnan(found.p90_low) and math.isnan(found.p90_high)
        assert found.length is None
    row = vars(mixed) | {"variant": "prompt_tuning", "model": "m", "task": ""}
    row |= {"these_shortest": 1, "these_length": None}
    assert saturation.markdown(pd.DataFrame([row])).endswith("[no interval] |\n")


@pytest.mark.slow
def test_the_interval_of_the_saturation_length_misses_in_at_most_a_tenth():
    """Both ends are one-sided 95 % bounds: P = 20 gains the margin over 10, and nothing follows."""
    curve = np.array([70, 74, 77, 79, 80 + 1e-6, 80, 80, 80])
    found = [saturation.locate(LENGTHS, estimates(curve, 1.5, random=n)) for n in range(100)]
    missed = [not each.shortest_possible <= 20 <= each.length for each in found]
    assert np.mean(missed) < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 100)


@pytest.mark.parametrize("lengths", [(5,), (5, 1), (1, 1)])
def test_lengths_that_do_not_ascend(lengths):
    with pytest.raises(ValueError, match="two or more in ascending order are wanted"):
        saturation.locate(lengths, estimates([70] * len(lengths), 1.0))


def test_tasks_that_differ_make_it_longer_over_tasks_than_among_these():
    """A gain of -4 to 4 points from 20 on, in single tasks, is none in their mean."""
    curve = np.array([70, 74, 77, 79, 81, 81, 81, 81.0])
    scores_CTMS = np.zeros((8, 9, 1, 5)) + curve[:, None, None, None]
    scores_CTMS += np.random.default_rng(0).normal(0, 0.3, scores_CTMS.shape)
    scores_CTMS[5:] += np.linspace(-4, 4, 9)[:, None, None]
    sample = Sample(scores_CTMS)
    scores = [sample.estimate(cell) for cell in range(8)]
    assert saturation.interval(LENGTHS, scores, these_tasks=True) == (20, 20)
    assert saturation.interval(LENGTHS, scores) == (20, 50)  # tasks differ from 50 on
    one = Sample(scores_CTMS[:, :1])
    scores = [one.estimate(cell) for cell in range(8)]
    both = [saturation.interval(LENGTHS, scores, these_tasks=fixed) for fixed in (True, False)]
    assert both[0] == both[1]


def test_table_of_a_study(results):
    found = saturation.of_results(results)
    assert len(found) == 4 * (1 + 9) and set(found["longest"]) == {150}
    whole = found[found["task"] == ""].set_index("model")
    assert whole.loc["pocket_200k", "length"] == 20
    lines = saturation.markdown(found).splitlines()
    head = "| model | tasks | P* | 90 % interval | P* of these tasks | its 90 % interval | P90 |"
    assert lines[2] == head
    assert lines[4].startswith("| pocket_50k | mean of all | 20 | 20 to 20 | 20 | 20 to 20 |")
    assert saturation.markdown(saturation.of_results(results.query("prompt_length == 0"))) == ""
