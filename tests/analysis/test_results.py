"""The tables kept in the project say what their results.csv says."""

from pathlib import Path

import pytest

from spjax.analysis import claims, rates, statistics, tables

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("experiments/*/results/*/results.csv"))


def test_there_are_results():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_results(folder):
    results = statistics.load(folder)
    assert (results["status"] == "finished").all()
    if (folder / "table.md").is_file():  # else the study has a table of its own
        written = (folder / "table.md").read_text()
        assert tables.markdown(results) in written and rates.markdown(results) in written
    if (folder / "claims.md").is_file():
        found = claims.markdown(claims.check(results))
        assert (folder / "claims.md").read_text().endswith(found)


def test_the_numbers_of_the_documentation_are_in_the_claims():
    text = (ROOT / "experiments/pocket/results/scaling/claims.md").read_text()
    shown = (ROOT / "docs/study.md").read_text()
    for number in ("54.2", "59.3", "74.0", "87.9", "+2.8 [1.5]", "+2.7 [0.6]", "+0.4 [0.5]"):
        assert number in text and number in shown


def test_the_numbers_of_the_documentation_are_in_the_tables_of_the_extensions():
    kept = ROOT / "experiments/extensions/results"
    written = "\n".join(path.read_text() for path in kept.glob("*/*.md"))
    shown = (ROOT / "docs/study.md").read_text()
    for number in (
        "60.5",
        "63.5",
        "86.7 ± 2.6",
        "85.4 ± 8.5",
        "64.3 ± 13.5",
        "71.8 ± 3.2",
        "+0.01",
        "+0.54",
        "74.6",
    ):
        assert number in written and number in shown
