"""The noise that is measured on a study is the noise it was made with."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import claim_noise, claim_rates

LENGTHS = claim_rates.LENGTHS


def study(draws, tasks=20, run=2.0, draw=3.0, draw_of_task=4.0, draw_of_line=1.5, lost=0.0):
    """Rows of prompts of one model, of known standard deviations."""
    random = np.random.default_rng(0)
    shape = (draws, tasks, len(LENGTHS))
    scores_MTL = 50 + random.normal(0, run, shape) + random.normal(0, draw, (draws, 1, 1))
    scores_MTL += random.normal(0, draw_of_task, (draws, tasks, 1))
    scores_MTL += random.normal(0, draw_of_line, (draws, 1, len(LENGTHS)))
    scores_MTL += np.log10(LENGTHS) * random.exponential(5, (1, tasks, 1))
    scores_MTL[..., 0] -= 40 * (random.random((draws, tasks)) < lost)
    names = ["pretraining_seed", "task", "prompt_length"]
    index = pd.MultiIndex.from_product([range(draws), range(tasks), LENGTHS], names=names)
    rows = pd.DataFrame({"test_score": scores_MTL.ravel()}, index=index).reset_index()
    return rows.assign(method="prompt_tuning", model="m")


def test_standard_deviations_are_found():
    noise = claim_noise.measure(study(draws=60, lost=0.2))
    wanted = {"run": 2.0, "draw": 3.0, "draw_of_task": 4.0, "draw_of_line": 1.5}
    assert {name: noise[name] for name in wanted} == pytest.approx(wanted, rel=0.25)
    assert noise["lost_at_one"] == pytest.approx(0.2, abs=0.05)
    assert noise["lost_points_at_one"] == pytest.approx(40, abs=5)
    exponential = claim_noise.measure(study(draws=60))
    assert exponential["spread_of_gain"] == pytest.approx(1.0, abs=0.4)


def test_nothing_is_lost_where_nothing_is():
    noise = claim_noise.measure(study(draws=4, run=0.5, draw_of_line=0.5))
    assert noise["lost_at_one"] == noise["lost_points_at_one"] == 0


def test_one_draw_tells_nothing():
    with pytest.raises(ValueError, match="give several"):
        claim_noise.measure(study(draws=1))


def test_the_simulated_noise_is_that_of_the_draws_in_the_docs(capsys):
    parts = [f"graded_50k_{i}" for i in (0, 1, 3, 4)] + [f"graded_130k_{i}" for i in range(3)]
    results = claim_rates.machine.ROOT / "experiments" / "pocket" / "results"
    claim_noise.main([str(results / part) for part in parts])
    lines = (line.split() for line in capsys.readouterr().out.splitlines())
    measured = {name: float(value) for name, value in lines}
    simulated = claim_rates.NOISES[claim_rates.GRADED]
    for name in ("run", "draw", "draw_of_line", "draw_of_task", "line_of_task"):
        assert getattr(simulated, name) == pytest.approx(measured[name], abs=0.5), name
    assert simulated.lost_at_one == pytest.approx(measured["lost_at_one"], abs=0.05)
