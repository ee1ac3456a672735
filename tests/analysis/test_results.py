"""The tables kept in the project say what their results.csv says."""

from pathlib import Path

import pytest

from spjax.analysis import (
    claims,
    joined,
    left_out,
    prompt_claims,
    rates,
    saturation,
    statistics,
    tables,
)

ROOT = Path(__file__).parents[2]
SIZES = ("50k", "130k")
FOLDERS = sorted(path.parent for path in ROOT.glob("experiments/*/results/*/results.csv"))


def test_there_are_results():
    assert FOLDERS


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_results(folder):
    results = statistics.load(folder)
    assert (results["status"] == "finished").all()
    if (folder / "table.md").is_file():  # else the study has a table of its own
        written = (folder / "table.md").read_text()
        assert tables.markdown(results) in written and rates.markdown(results) in written
    if (folder / "claims.md").is_file():
        judged = claims.check(results, prompt_claims.read([folder], results))
        saturated = saturation.of_results(results)
        parts = [claims.markdown(judged), saturation.markdown(saturated)]
        parts.append(left_out.markdown(judged, results, saturated))
        assert (folder / "claims.md").read_text().endswith("\n".join(filter(None, parts)))


def test_kept_studies_are_joined_unless_their_runs_have_other_scores(tmp_path):
    smaller, larger = (ROOT / f"experiments/pocket/results/graded_{size}_0" for size in SIZES)
    rows = joined.read([smaller, larger])
    assert len(rows) == len(statistics.read(smaller)) + len(statistics.read(larger))
    changed = statistics.read(smaller)
    changed.loc[0, statistics.SCORE] += 9
    changed.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match="with different results: .*_score is"):
        joined.read([smaller, tmp_path])


def test_the_numbers_of_the_documentation_are_in_the_claims():
    text = (ROOT / "experiments/pocket/results/scaling/claims.md").read_text()
    shown = (ROOT / "docs/study.md").read_text()
    numbers = ("+19.3 [9.8, 28.7]", "-2.0 [-9.8, 5.7]", "+2.8 [0.7, 4.9]", "-0.1 [-1.0, 0.8]")
    for number in (*numbers, "[-2.3, 7.7]", "[-1.7, 4.7]", "+0.0 [-0.3, 0.3]"):
        assert number in text and number in shown


def test_seeds_of_different_tasks_are_independent():
    """The variance of suite scores over seeds is that of independent runs, as docs/claims.md says.

    One cell has all its variance in one task, and says nothing of what tasks have in common.
    """
    runs = statistics.load(ROOT / "experiments/pocket/results/scaling").drop_duplicates("key")
    prompts = runs[runs["method"] == "prompt_tuning"]
    cell = ["prompt_length", "init", "model"]
    scores = prompts.set_index([*cell, "task", "seed"])["test_score"].unstack("task")
    scores = scores.drop((150, "class_labels", "pocket_800k"))
    suites = scores.mean(axis=1).groupby(cell).var().mean()
    independent = (scores.groupby(cell).var().sum(axis=1) / scores.shape[1] ** 2).mean()
    assert f"{suites / independent:.2f} times" in (ROOT / "docs/claims.md").read_text()


def test_the_numbers_of_the_documentation_are_in_the_tables_of_the_extensions():
    kept = ROOT / "experiments/extensions/results"
    written = "\n".join(path.read_text() for path in kept.glob("*/*.md"))
    shown = (ROOT / "docs/study.md").read_text()
    for number in (
        "60.5",
        "63.5",
        "86.7 ± 2.6",
        "85.4 ± 8.5",
        "61.2 ± 2.6",
        "60.9 ± 1.3",
        "68.8 ± 1.0",
        "0.9 [0.6, 1.2]",
        "+0.15 [-0.68, 0.81]",
        "+0.32 [-0.07, 0.63]",
        "42.4",
    ):
        assert number in written and number in shown
