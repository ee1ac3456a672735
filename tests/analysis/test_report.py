"""The printed table and what a finished sweep leaves in its folder."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from spjax.analysis import figures, report, tables
from spjax.analysis.figures import _style

STUDY = SimpleNamespace(name="scaling", figures=figures.names())


def test_table_has_a_row_a_size_and_a_column_a_line(results):
    lines = tables.table(results).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("model"))
    assert [part.strip() for part in lines[start].split("  ") if part.strip()] == [
        *("model", "parameters", "majority", "P = 1", "P = 5", "P = 20", "P = 50", "P = 100"),
        *("P = 150", "full fine-tuning"),
    ]
    rows = lines[start + 2 : start + 6]
    names = ["pocket_50k", "pocket_200k", "pocket_800k", "pocket_3m"]
    assert [row.split()[0] for row in rows] == names
    assert len({len(row) for row in rows}) == 1
    runs = results.query("model == 'pocket_3m' and prompt_length == 1")
    seeds = runs.groupby("seed")["test_score"].mean()
    assert f" {seeds.mean():.1f} ± {seeds.std(ddof=1):.1f}" in rows[3]
    assert "3,100,000      47.4 " in rows[3]
    assert "A perfect reader scores 98.0." in lines


def test_table_marks_what_is_incomplete(results):
    results = results.query("not (model == 'pocket_3m' and prompt_length == 5 and seed == 2)")
    results = results.query("not (model == 'pocket_3m' and prompt_length == 150)")
    text = tables.table(results)
    (row,) = [line for line in text.splitlines() if line.startswith("pocket_3m")]
    assert row.count("*") == 1
    assert " - " in row
    assert "* Fewer runs than elsewhere: pocket_3m P = 5 (2 of 3)." in text
    assert "\\* Fewer runs" in tables.markdown(results)


def test_markdown_table_is_rectangular(results):
    rows = [line for line in tables.markdown(results).splitlines() if line.startswith("|")]
    assert len(rows) == 6
    assert {row.count("|") for row in rows} == {11}


@pytest.mark.slow
def test_finish_writes_and_tells(results, tmp_path):
    results.to_csv(tmp_path / "results.csv", index=False)
    text = report.finish(tmp_path, STUDY)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = {*figures.names(), "score_over_size_by_task"} - {
        "score_over_size_by_adaptation",
        "soft_tokens_over_items",
    }
    assert names == {f"{stem}.{end}" for stem in stems for end in ("png", "svg", "csv")}
    assert str(tmp_path / "figures" / "score_over_size.png") in text
    assert "not drawn: score_over_size_by_adaptation: no arm of prompts is called" in text
    assert tables.table(results) in text
    assert "C1  holds  The score rises steadily" in text
    assert (tmp_path / "table.md").read_text().startswith("# scaling\n\nTest score in %, mean of")
    assert "Not measured by this study: C2, C6, C7, C8, C10, C11, C12, C13, C14, C15." in text
    assert "The intervals cover tasks, seeds, items; not pre-training draws." in text
    written = (tmp_path / "claims.md").read_text()
    assert (
        "## C5: holds" in written
        and "| pocket_3m | mean of all | 1 | 1 to 1 | 1 | 1 to 1 | - |" in written
    )


@pytest.mark.slow
def test_a_figure_asked_for_by_name_is_an_error_without_runs(results, tmp_path):
    results.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match="no arm of prompts is called adaptation_<steps>"):
        report.finish(tmp_path, STUDY, ["score_over_size_by_adaptation"])
    text = report.finish(tmp_path, STUDY, ["score_over_length"])
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"score_over_length"}
    assert "score_over_size" not in text


def test_unknown_figure_before_anything_is_written(results, tmp_path):
    results.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(ValueError, match="unknown figure 'pie': known are"):
        report.finish(tmp_path, SimpleNamespace(name="scaling", figures=("pie",)))
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_results_of_another_study_are_refused(results, tmp_path):
    results.to_csv(tmp_path / "results.csv", index=False)
    other = SimpleNamespace(name="other", figures=STUDY.figures)
    with pytest.raises(ValueError, match="are of the study scaling, .* names 'other'"):
        report.finish(tmp_path, other)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize(
    ("name", "stand"),
    [
        ("figures", Path.touch),
        ("figures/score_over_size.png", Path.mkdir),
        ("figures/score_over_size.svg", os.mkfifo),
        ("figures/score_over_size.csv", Path.mkdir),
        ("table.md", Path.mkdir),
        ("claims.md", os.mkfifo),
    ],
)
def test_what_is_no_file_is_not_replaced(results, tmp_path, monkeypatch, name, stand):
    # An empty figure is drawn at once.
    monkeypatch.setattr(
        figures,
        "get",
        lambda name: (
            lambda table, folder: _style.save(Figure(), table[:1], folder, "score_over_size")
        ),
    )
    results = results[(results["model"] == "pocket_3m") & (results["seed"] == 0)]
    results.to_csv(tmp_path / "results.csv", index=False)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    stand(tmp_path / name)
    one = SimpleNamespace(name="scaling", figures=["score_over_size"])
    with pytest.raises(ValueError, match="cannot write .*Remove what stands there"):
        report.finish(tmp_path, one)
    assert (tmp_path / name).exists()
