"""What docs/speed.md shows is what was measured."""

from pathlib import Path

import pytest

from benchmarks import speed, tables

DOCS = Path(tables.__file__).parents[1] / "docs" / "speed.md"


def test_the_docs_show_the_kept_figures():
    text = DOCS.read_text()
    for table in tables.all_tables():
        assert table in text, f"run `python -m benchmarks.tables`; docs/speed.md lacks\n{table}"


def test_every_case_was_measured_beside_the_peer():
    found = [tables.kept(f"speed_cpu_{model}") for model in tables.MODELS]
    cases = [case for own in found for case in own["cases"]]
    assert {(c["model"], c["task"], c["prompt"]) for c in cases} == set(speed.CASES)
    for case in cases:
        for what in ("train", "answer"):
            speeds = dict(case[f"{what}_examples_s"])
            ours = speeds.pop("ours")
            assert case[f"{what}_ratio"] == pytest.approx(ours / max(speeds.values()))
    assert all(own["machine"]["commit"] and own["versions"]["peft"] for own in found)
