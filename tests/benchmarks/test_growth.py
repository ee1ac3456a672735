"""Growth of a step's cost over one size at a time."""

import pytest

from benchmarks import growth


def test_exponents_are_slopes():
    assert growth.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


@pytest.mark.slow
def test_points_are_measured_one_axis_at_a_time(monkeypatch):
    monkeypatch.setattr(growth, "MIDDLE", growth.Point(model="pocket_50k", prompt=2, inputs=10))
    monkeypatch.setattr(growth, "STEPS", 1)
    figures = growth.measure(
        {"batch_size": [8, 32], "model": ["pocket_50k", "pocket_200k"]}, rounds=1
    )
    small, middle, model, larger = figures
    assert middle["size"] == 32 and model["size"] == 49_472 < larger["size"]
    assert 0 < small["bytes"] < middle["bytes"] and small["seconds"] > 0
    assert small["chunks"][0][0] < middle["chunks"][0][0]
    text = growth.tables(figures)
    assert "| examples in a batch | 8 | 32 | exponent |" in text
    assert "| time | " in text and " | 1.00 | " in text
