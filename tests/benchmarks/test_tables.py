"""The tables of docs/speed.md are those of the kept measurements."""

from pathlib import Path

import pytest

from benchmarks import speed, tables

ROOT = Path(tables.__file__).parents[1]


def test_the_docs_show_the_kept_figures():
    text = (ROOT / "docs" / "speed.md").read_text()
    for table in tables.all_tables():
        assert table in text, f"run `python -m benchmarks.tables`; docs/speed.md lacks\n{table}"


@pytest.mark.parametrize("folder", tables.SPEEDS)
def test_every_case_was_measured_beside_the_peer(folder):
    models = tables.SPEEDS[folder]
    files = [tables.kept(f"{folder}speed_cpu_{model}") for model in models]
    cases = [case for file in files for case in file["cases"]]
    all_cases = {case for case in speed.CASES if case[0] in models}
    assert {(c["model"], c["task"], c["prompt"]) for c in cases} == all_cases
    for case in cases:
        for what in ("train", "answer"):
            speeds = dict(case[f"{what}_examples_s"])
            ours = speeds.pop("ours")
            assert case[f"{what}_ratio"] == pytest.approx(ours / max(speeds.values()))
    assert all(file["machine"]["commit"] and file["versions"]["peft"] for file in files)
