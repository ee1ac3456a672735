"""Tests in both directions, the correction over claims, and the numbers that would settle one."""

import numpy as np
import pytest

from spjax.analysis import criteria, resampling
from spjax.analysis.criteria import CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED, Part
from spjax.analysis.resampling import SEEDS, TASKS, Sample


def estimate(mean, spread=1.0, tasks=9, seeds=3):
    """An estimate whose task means are `mean` with exactly this standard deviation."""
    around = np.linspace(-1, 1, tasks)
    around *= spread / around.std(ddof=1) if tasks > 1 else 0
    noise = np.linspace(-0.3, 0.3, seeds)
    return Sample((mean + around[:, None, None] + noise)[None]).estimate(0)


def test_holm_by_hand():
    assert criteria.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert criteria.holm([0.9, 0.8]) == [1, 1] and criteria.holm([]) == []


@pytest.mark.parametrize(
    ("mean", "low", "high", "verdict"),
    [
        (3.0, 1.0, np.inf, HOLDS),
        (-1.0, 1.0, np.inf, CONTRADICTED),
        (1.2, 1.0, np.inf, CANNOT_TELL),
        (0.0, -1.0, 1.0, HOLDS),
        (3.0, -1.0, 1.0, CONTRADICTED),
        (-3.0, -1.0, 1.0, CONTRADICTED),
        (0.9, -1.0, 1.0, CANNOT_TELL),
    ],
)
def test_verdicts_of_one_part(mean, low, high, verdict):
    (outcome,) = criteria.judge([[Part("x", estimate(mean), low, high)]])
    assert outcome.verdict == verdict


def test_noise_makes_nothing_equivalent():
    part = Part("x", estimate(0.0, spread=9.0), -1, 1)
    assert criteria.judge([[part]])[0].verdict == CANNOT_TELL


def test_two_one_sided_tests():
    part = Part("x", estimate(0.5), -1, 1)
    error, degrees = part.estimate.spread()
    from scipy import stats

    assert part.p_shown == pytest.approx(stats.t.sf(0.5 / error, degrees))
    assert part.p_opposed == pytest.approx(min(1, 2 * stats.t.sf(-0.5 / error, degrees)))


def test_all_parts_must_be_shown_and_one_contradicts():
    good, bad = Part("a", estimate(3.0), low=1), Part("b", estimate(-3.0), low=1)
    doubtful = Part("c", estimate(1.0), low=1)
    outcomes = criteria.judge([[good, good], [good, bad], [good, doubtful], [good, "lacks b"]])
    assert [o.verdict for o in outcomes] == [HOLDS, CONTRADICTED, CANNOT_TELL, CANNOT_TELL]
    assert criteria.judge([["lacks a", bad]])[0].verdict == CONTRADICTED
    assert criteria.judge([["lacks a"], []]) == [criteria.Outcome(NOT_MEASURED)] * 2


def test_verdicts_are_corrected_over_claims():
    part = Part("x", estimate(1.7), low=1)
    assert 0.01 < part.p_shown < 0.05
    assert criteria.judge([[part]])[0].verdict == HOLDS
    alike = [[Part("x", estimate(1.7), low=1)] for _ in range(5)]
    assert {outcome.verdict for outcome in criteria.judge(alike)} == {CANNOT_TELL}
    exact = [Part("n", resampling.count(1.0), high=2.0)]
    both = criteria.judge([[part], exact])  # counts cost no power
    assert [outcome.verdict for outcome in both] == [HOLDS, HOLDS]
    assert criteria.judge([[Part("n", resampling.count(3.0), high=2)]])[0].verdict == CONTRADICTED


def test_one_seed_cannot_tell():
    part = Part("x", estimate(9.0, seeds=1), low=1)
    (outcome,) = criteria.judge([[part]])
    assert outcome.verdict == CANNOT_TELL and outcome.p_holds < 0.05
    text = criteria.settled_text([part], outcome.alpha)
    assert text == "A second seed would tell the variance over training"


def test_items_settle_what_one_seed_leaves_open():
    items = np.stack([np.full(800, 100.0), np.full(800, 50.0)])
    items[:, ::2] -= 20
    items[0, ::4] -= 10
    sample = Sample(np.array([85.0, 40.0]).reshape(2, 1, 1, 1), [items])
    part = Part("x", sample.estimate(0) - sample.estimate(1), low=1)
    assert criteria.judge([[part]])[0].verdict == HOLDS and part.estimate.covered == ("items",)


def test_numbers_of_units_that_settle():
    part = Part("x", estimate(2.0, spread=3.0), low=1)
    found = part.settled_by(0.05)
    assert found[TASKS] > 9 and SEEDS not in found  # seeds are not what the tasks differ by
    again = Part("x", estimate(2.0, spread=3.0, tasks=found[TASKS]), low=1)
    assert again.p_shown < 0.05
    text = criteria.settled_text([part], 0.05)
    assert text == f"{found[TASKS]} tasks would settle it"
    single = Part("x", Sample(np.array([3, 4.5, 6.0])[None, None, None]).estimate(0), low=4)
    assert single.settled_by(0.05)[SEEDS] > 3
    stuck = Part("x", estimate(1.0), low=1)
    assert criteria.settled_text([stuck], 0.05).startswith(
        "No 1,000 tasks or seeds would settle it"
    )


def test_seeds_help_where_tasks_agree():
    noise = np.array([-3.0, 0.0, 3.0])
    values = np.stack([1.5 + np.roll(noise, k) * (1 + k / 9) for k in range(9)])
    values += np.linspace(-1.6, 1.6, 9)[:, None]
    part = Part("x", Sample(values[None, :, None, :]).estimate(0), low=1)
    assert part.settled_by(0.05)[SEEDS] > 3


def test_parts_read_well():
    assert Part("a", estimate(0.0), low=1).bounds == "more than 1"
    assert Part("a", estimate(0.0), high=1).bounds == "less than 1"
    assert Part("a", estimate(0.0), low=-1, high=1).bounds == "within 1 of 0"
    assert Part("a", estimate(0.0), low=0, high=5).bounds == "between 0 and 5"
    assert criteria.interval_text(estimate(2.0)) == "+2.0 [1.2, 2.8]"
    assert criteria.interval_text(Sample(np.full((1, 1, 1, 1), 2.0)).estimate(0)) == (
        "+2.0 [no interval]"
    )
    assert criteria.interval_text(resampling.count(0.007187)) == "0.007187"


def test_nothing_is_to_settle_where_only_runs_are_missing():
    assert criteria.settled_text([Part("x", estimate(9.0), low=1)], 0.05) == ""


def test_equal_scores_are_not_said_to_be_at_a_margin():
    equal = Part("x", Sample(np.full((1, 3, 1, 3), 5.0)).estimate(0), low=1)
    doubtful = Part("y", estimate(1.5, spread=3.0), low=1)
    for parts in ([equal], [equal, doubtful]):
        assert criteria.settled_text(parts, 0.05).startswith("Equal scores say nothing about the")
