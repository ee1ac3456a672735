"""The table of a study without each of its tasks, against a judgment of the other tasks alone."""

from types import SimpleNamespace

import pandas as pd
import pytest

from spjax.analysis import claims, evidence, left_out, report, saturation
from tests.analysis import synthetic


@pytest.fixture(scope="module")
def results():
    """A study whose gain from one soft token is much larger on one of four tasks."""
    first, *others = list(synthetic.TASKS)[:4]
    study = synthetic.study()
    study = study[study["task"].isin([first, *others])]
    study.loc[study.eval("task == @first and prompt_length == 1"), "test_score"] -= 20.0
    return study


@pytest.fixture(scope="module")
def judged(results):
    return claims.check(results)


def cells(text):
    """Returns the rows of the table by their first two columns, each a dict by task left out."""
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    )
    return {tuple(row[:2]): dict(zip(head[2:], row[2:], strict=True)) for row in rows}


@pytest.mark.slow
def test_columns_are_the_judgments_of_the_other_tasks(results, judged):
    table = cells(left_out.markdown(judged, results, saturation.of_results(results)))
    tasks = list(results["task"].unique())
    model = "pocket_50k"
    part = ("C3", f"gain from P = 1 to 20 at {model}")
    assert list(table[part]) == ["all tasks", *(f"without {task}" for task in sorted(tasks))]
    for task in tasks:
        remaining = results[results["task"] != task]
        others = {each.claim.id: each for each in claims.judge(evidence.of_results(remaining))}
        assert table["C3", "verdict"][f"without {task}"] == others["C3"].verdict
        texts = [str(each) for each in others["C3"].parts]
        assert f"{part[1]}: {table[part][f'without {task}']}, to be more than 1" in texts
        saturated = saturation.of_results(remaining).query("task == '' and model == @model")
        shown = saturation.shown(next(saturated.itertuples()))
        star = f"{shown['P*']} [{shown['90 % interval']}]"
        assert table["P*", model][f"without {task}"] == star
    gains = [float(text.split()[0]) for text in table[part].values()]
    assert min(gains[1:]) < gains[0] - 3  # the task with most of the gain


@pytest.mark.slow
def test_an_arm_on_some_of_the_tasks_leaves_out_no_others(results):
    """The tasks of a column are those of the study but one, whatever other arms have."""
    tasks = sorted(results["task"].unique())
    few = results[results["task"].isin(tasks[:2]) & (results["arm"] == results["arm"].iloc[0])]
    few = few.assign(arm="other", key=few["key"] + "o")
    both = pd.concat([results, few])
    (judgment,) = (each for each in claims.check(both) if each.claim.id == "C3")
    for task in evidence.of_results(both).tasks:
        others = evidence.of_results(both, left_out=task).tasks
        assert set(others) == set(evidence.of_results(both).tasks) - {task}
    table = cells(left_out.markdown([judgment], both, saturation.of_results(both)))
    stars = [row for (kind, _), row in table.items() if kind == "P*"]
    assert stars and all("-" not in row.values() for row in stars)


def test_counts_are_not_in_it(results, judged):
    names = {
        name
        for name, _ in cells(left_out.markdown(judged, results, saturation.of_results(results)))
    }
    assert names == {"C1", "C3", "C4", "C5", "P*", "P* of these tasks"}


def test_two_tasks_have_none(results):
    two = results[results["task"].isin(results["task"].unique()[:2])]
    assert left_out.markdown(claims.check(two), two, saturation.of_results(two)) == ""


def test_a_study_writes_it(results, tmp_path):
    results.to_csv(tmp_path / "results.csv", index=False)
    report.finish(tmp_path, SimpleNamespace(name="scaling", figures=[]))
    text = (tmp_path / "claims.md").read_text()
    assert text.index("## Not measured here") < text.index("Saturation:")
    assert text.index("Saturation:") < text.index("## Without one task")
