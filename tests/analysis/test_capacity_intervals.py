"""Intervals of needs against simulated studies whose needs are known."""

import numpy as np
import pandas as pd
import pytest

from spjax.analysis import capacity

WIDTH, ITEMS, NEED, STUDIES = 48, 16, 4.0, 150
LENGTHS = (2, 3, 4, 5, 6, 8, 11, 16)


def study(random, draws):
    """Runs whose words are right with a probability that is 95 % at `NEED` soft tokens."""
    rows = []
    for draw in range(draws):
        luck = random.normal(0, 0.15)
        for length in LENGTHS:
            logit = np.log(19) + 4 * (np.log(length / NEED) + luck)
            right = random.binomial(ITEMS, 1 / (1 + np.exp(-logit)))
            row = {"prompt_length": length, "test_score": 100 * right / ITEMS}
            row |= {
                "task": f"associations:k{ITEMS}:draw{draw}",
                "stored_parameters": length * WIDTH,
            }
            rows.append(row)
    fixed = {"method": "prompt_tuning", "init": "", "model": "pocket_x", "model_parameters": 1}
    fixed |= {"steps": 1, "learning_rate": 1.0, "seed": 0, "pretraining_seed": 0}
    return pd.DataFrame(rows).assign(**fixed)


def score_of_many():
    """The need of the mean over all draws, which is not that of a typical one."""
    random = np.random.default_rng(1)
    luck = random.normal(0, 0.15, 20000)
    logits = [np.log(19) + 4 * (np.log(length / NEED) + luck) for length in LENGTHS]
    means = [100 * np.mean(1 / (1 + np.exp(-logit))) for logit in logits]
    return capacity.crossing(LENGTHS, means, capacity.THRESHOLD) * WIDTH


@pytest.mark.slow
@pytest.mark.parametrize("draws", [3, 5])
def test_most_intervals_hold_the_need(draws):
    random, true = np.random.default_rng(0), score_of_many()
    rows = [capacity.needs(study(random, draws)).table.iloc[0] for _ in range(STUDIES)]
    inside = [row["low"] <= true <= row["high"] for row in rows if 0 < row["numbers"] < np.inf]
    above = [row["low"] > true for row in rows if 0 < row["numbers"] < np.inf]
    assert len(inside) > 0.9 * STUDIES
    assert np.mean(inside) > 0.85, np.mean(inside)
    assert np.mean(above) < 0.1
