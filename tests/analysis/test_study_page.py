"""The HTML page of studies: what it says, what it refuses, and what a browser makes of it."""

import errno
import html.parser
import json
import os
import sys
from pathlib import Path
from urllib.parse import unquote

import browser
import numpy as np
import pandas as pd
import pytest
import synthetic

import spjax
from spjax import config
from spjax.analysis import claims, saturation, statistics
from spjax.analysis.study_page import cells as study_cells
from spjax.analysis.study_page import charts, exclusions, listings, markup, sources
from spjax.analysis.study_page import page as study_page
from spjax.cli import main
from spjax.studies.results import ITEMS
from spjax.studies.study import Arm, Study

TASKS = ("pocket_boolq", "pocket_cb", "pocket_copa")
HOSTILE = "</pre></script><script>window.hostile = 1</script> & <b>"


def small(results, tasks=TASKS):
    """The rows of a few tasks and prompt lengths, which are judged in a second."""
    kept = results["task"].isin(tasks) & results["prompt_length"].isin((0, 1, 20, 100))
    return results[kept].reset_index(drop=True)


def write(folder, results):
    """Writes a study folder as a sweep does, without its run folders."""
    folder.mkdir(parents=True, exist_ok=True)
    name = results["study"].iloc[0] if len(results) else "empty"
    results.to_csv(folder / "results.csv", index=False)
    arms = [Arm(name="prompts", gin_files=["x.gin"])]
    (folder / "study.gin").write_text(config.config_str(Study(name=name, arms=arms)))
    return folder


def write_run(folder, key, **result):
    run = folder / "runs" / key
    run.mkdir(parents=True)
    if result:
        (run / "result.json").write_text(json.dumps(result))
    return run


class Reader(html.parser.HTMLParser):
    """Links and addresses of a page, its texts, and the cells of its tables by caption."""

    def __init__(self, text):
        super().__init__()
        self.links, self.sources, self.tables, self.texts, self.scripts = [], [], {}, [], []
        self.caption, self.cell, self.open = "", None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []
        if tag not in ("meta", "input", "img", "br", "link"):
            self.open.append(tag)
        if tag == "caption":
            self.caption = ""
        elif tag == "tr":
            self.tables.setdefault(self.caption, []).append([])
        elif tag in ("td", "th"):
            self.tables[self.caption][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "caption" in self.open:
            self.caption += data
        else:
            self.texts.append(data)
            if {"td", "th"} & set(self.open):
                self.tables[self.caption][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study folder with some run folders, and its page."""
    results = small(synthetic.study())
    lost = results.index[(results["model"] == "pocket_50k") & (results["prompt_length"] == 20)]
    results.loc[lost[:1], ["test_score", "validation_score"]] = np.nan
    results.loc[lost[:1], "status"] = "diverged"
    folder = write(tmp_path_factory.mktemp("a folder") / "scaling", results)
    (folder / "README.md").write_text(HOSTILE)
    first, second = results.iloc[5], results.iloc[6]
    scores = {"test": {"score": first["test_score"]}, "seconds": 7200.0}
    facts = {"model": first["model"], "base_sha256": "ab" * 32}
    write_run(folder, first["key"], **scores, **facts)
    write_run(folder, second["key"], test={"score": 1.0})
    write_run(folder, "0123456789ab")
    write_run(folder, ".cdef01234567.partial")  # a copy that was cut off
    return folder, spjax.write_report(folder)


@pytest.fixture(scope="module")
def page(study):
    return Reader(study[1].read_text(encoding="utf-8"))


@pytest.mark.slow
def test_page_is_one_small_file_with_all_sections(study, page):
    folder, path = study
    assert path == folder / "report.html" and path.stat().st_size < 2_000_000
    assert not page.open, "elements are closed"
    assert all(source.startswith("data:") for source in page.sources) and len(page.sources) == 3
    assert all(link[0] in "#." for link in page.links)
    for id in ("summary", "claims", "figures", "cells", "runs", "excluded", "provenance"):
        assert f"#{id}" in page.links and f'id="{id}"' in path.read_text()


def test_claims_are_those_of_the_analysis(study, page):
    judged = claims.check(statistics.load(study[0]))
    head, *rows = page.tables["Claims and verdicts"]
    assert [head[i] for i in (0, 2, 4, 7, 8)] == [
        *("claim", "verdict", "estimate", "margin", "evidence")
    ]
    assert [row[0] for row in rows] == [each.claim.id for each in judged]
    assert [row[2].split(" ", 1)[1] for row in rows] == [each.verdict for each in judged]
    assert [row[7] for row in rows] == [each.claim.margin for each in judged]
    (first,) = (each for each in judged if each.claim.id == "C1")
    _, *parts = page.tables["Parts of C1"]
    assert [row[0] for row in parts] == [part.text for part in first.parts]
    for row, part in zip(parts, first.parts):
        low, high = part.estimate.interval()
        assert row[1:4] == [f"{part.estimate.value:+.1f}", f"{low:.1f} to {high:.1f}", part.bounds]
        assert row[5] == "3 tasks, 3 seeds"
    assert first.parts and rows[0][3] in [part.text for part in first.parts]
    decided = [each.claim.id for each in judged if each.verdict == "cannot tell"]
    assert f"undecided ({', '.join(decided)})" in page.text
    assert "C9 holds, by counting parameters alone." in page.text


@pytest.mark.slow
def test_verdicts_on_prompts_are_those_of_plot(tmp_path):
    """The commands that measure prompts leave their numbers beside the results."""
    results = small(synthetic.study(), TASKS[:2])
    folder = write(tmp_path / "scaling", results)
    largest = results["model"][results["model_parameters"].idxmax()]
    random, rows = np.random.default_rng(0), []
    for task in TASKS[:2]:
        vote, *prompts = (list(score + random.normal(0, 0.1, 50)) for score in (90, 80, 80))
        left_out = {"vote": vote, "prompts": prompts}
        row = {"arm": "prompts", "model": largest, "task": task, "split": "test", "keys": []}
        row |= {"prompt_length": 100, "init": "class_labels", "vote": 90.0, "left_out": left_out}
        row |= {"method": "prompt_tuning", "settings": "", "pretraining_seed": 0}
        row |= {"learning_rate": 0.3}
        rows.append(row | {"scores": [80.0, 80.0], "validation": [80.0, 80.0]})
    (folder / "ensemble.json").write_text(json.dumps(rows))
    text = spjax.plot(folder, figures=["score_over_size"]).report
    page = Reader(spjax.write_report(folder).read_text())
    verdicts = {row[0]: row[2].split(" ", 1)[1] for row in page.tables["Claims and verdicts"][1:]}
    assert verdicts["C12"] != "not measured"
    for claim, verdict in verdicts.items():
        line = next((line for line in text.splitlines() if line.split()[:1] == [claim]), "")
        assert (verdict in line) if line else verdict == "not measured"


def test_cells_are_those_of_the_analysis(study, page):
    runs = statistics.main_runs(statistics.load(study[0]))
    _, *rows = page.tables["Cells: mean of 3 tasks"]
    cells = statistics.suite(runs).cells
    assert [row[0] for row in rows] == list(cells["line"])
    assert [row[3] for row in rows] == [f"{mean:.1f}" for mean in cells["mean"]]
    (row,) = (row for row in rows if row[:2] == ["P = 20", "pocket_50k"])
    assert row[6] == "2 of 3"  # one run has diverged
    _, *rows = page.tables["Cells of each task"]
    assert len(rows) == len(statistics.by_task(runs))


def test_runs_are_linked_and_the_reasons_of_the_left_out_named(study, page):
    folder, path = study
    links = [link for link in page.links if link.startswith("./")]
    targets = {(path.parent / unquote(link)).resolve() for link in links}
    assert all(target.exists() for target in targets)
    results = statistics.load(folder)
    assert {folder / "runs" / results["key"][i] for i in (5, 6)} < targets
    _, *rows = next(rows for name, rows in page.tables.items() if name.startswith("All runs"))
    assert len(rows) == len(results)
    counts = {
        row[0]: int(row[1]) for row in page.tables["Rows left out of the averages over tasks"][1:]
    }
    ablation = (results["arm"] == "initialisation").sum()
    assert counts == {
        exclusions.ABLATION: ablation,
        "its seed lacks the score of another task": 2,
        "no score: diverged": 1,
    }
    assert f"{len(results) - ablation - 3} of {len(results)} rows" in page.text
    assert "Runs not finished: 1 (0123456789ab)." in page.text
    key = results["key"][6]
    assert (
        f"Runs with other scores in their result.json than in results.csv: 1 ({key})." in page.text
    )
    assert "2.00 hours" in page.text and "ab" * 32 in page.text
    assert "Arm.name = 'prompts'" in page.text


def provenance(tmp_path, **second):
    """The text of a page's provenance, for a study of two runs on weights of one's own."""
    results = small(synthetic.study(), TASKS[:1])
    folder = write(tmp_path / "scaling", results)
    for key, more in zip(results["key"][:2], ({}, second)):
        facts = {"model": "auto", "base_sha256": "cd" * 32, "code_sha256": ["12" * 32]}
        write_run(folder, key, test={"score": 1.0}, **facts | more)
    study = sources.read(folder, "scaling")
    return listings.Listings([study], results, None, folder).provenance(), results


def test_weights_and_code_are_named_for_runs_of_auto(tmp_path):
    text, results = provenance(tmp_path)
    model, count = results["model"][0], results["model_parameters"][0]
    assert f"{model}: {count:,} parameters, SHA-256 of the weights {'cd' * 32}" in text
    assert f"SHA-256 {'12' * 32} (2 runs)" in text and "Warning" not in text


@pytest.mark.parametrize("code", [["12" * 32, "34" * 32], "34" * 32])
def test_several_versions_of_the_code_are_a_warning(tmp_path, code):
    text, _ = provenance(tmp_path, code_sha256=code)
    assert "Warning: several versions of the code trained these runs" in text
    assert f"SHA-256 {'34' * 32} (1 run)" in text


def test_filled_markers_of_the_saturation_have_the_color_of_their_method():
    results = small(synthetic.study(), TASKS[:2])
    prompts = results[results["arm"] == "prompts"]
    results = pd.concat([results, prompts.assign(method="prefix_tuning")], ignore_index=True)
    results = statistics.checked(results)
    cells = study_cells.of_results(results)
    chart = charts.saturation_over_size(saturation.of_results(results), cells)
    point = chart["layer"][0]["layer"][1]["encoding"]
    colors = point["color"]["scale"]
    assert len(set(colors["range"])) == 2
    assert point["fill"]["field"] == "variant" and point["fill"]["scale"] == colors
    assert point["fill"]["condition"] == {"test": "!datum.located", "value": "white"}


def test_texts_of_the_study_are_no_html(study, page):
    assert HOSTILE in page.text
    assert not any("window.hostile" in script for script in page.scripts)


def test_reasons():
    rows = small(synthetic.study(), ("pocket_boolq", "pocket_cb"))
    rows["learning_rate"] = 0.3
    prompts = (rows["arm"] == "prompts") & (rows["prompt_length"] == 20)
    slower = rows[prompts].assign(learning_rate=0.1, validation_score=1.0)
    extra = rows[prompts & (rows["task"] == "pocket_cb") & (rows["seed"] == 0)]
    results = pd.concat([rows, slower, extra.assign(task="pocket_rte")], ignore_index=True)
    results = statistics.checked(results)
    runs = statistics.main_runs(results)
    tasks = statistics.suite(runs).tasks
    assert tasks == ("pocket_boolq", "pocket_cb")
    why = exclusions.reasons(results, runs, tasks)
    assert set(why[results["learning_rate"] == 0.1]) == {
        "another learning rate is better on validation"
    }
    assert set(why[results["task"] == "pocket_rte"]) == {"its task is not measured everywhere"}
    assert set(why[(results["arm"] == "full")]) == {""}


def test_values_that_are_no_numbers_and_texts_that_are_html():
    nothing = markup.Number(float("nan"))
    table = markup.table("a < b", ["x"], [[nothing], ["<i>"], [markup.Number(2)]])
    assert "<caption>a &lt; b</caption>" in table and "<td>&lt;i&gt;</td>" in table
    assert 'data-value="">-</td>' in table and 'data-value="2.0">2.0</td>' in table
    assert "<" not in markup.json_text({"a": "</script>"})
    with pytest.raises(ValueError):
        markup.json_text([float("inf")])


def test_command(study, tmp_path, capsys):
    output = tmp_path / "pages" / "one.html"
    assert main.main(["report", str(study[0]), f"--output={output}"]) == 0
    assert capsys.readouterr().out == f"report: {output} ({output.stat().st_size / 1e6:.1f} MB)\n"
    links = [link for link in Reader(output.read_text()).links if link.startswith("./")]
    assert links and all((output.parent / unquote(link)).exists() for link in links)


def test_two_studies_are_judged_together(tmp_path):
    results = small(synthetic.study(), TASKS[:1])
    full = results["arm"] == "full"
    one = write(tmp_path / "one", results[~full])
    shared = results[full | (results["prompt_length"] == 1)]
    two = write(tmp_path / "two", shared.assign(study="tuning"))
    random = np.random.default_rng(0)
    items = {key: random.normal(50, 20, 40) for key in results["key"]}
    for folder, rows in ((one, results[~full]), (two, shared)):
        scores = [list(items[key]) for key in rows["key"]]
        pd.DataFrame({"key": rows["key"], "scores": scores}).to_parquet(folder / ITEMS)
    page = Reader(spjax.write_report([one, two], tmp_path / "both.html").read_text())
    whole = results.assign(**{statistics.ITEM_SCORES: results["key"].map(items)})
    judged = claims.check(statistics.checked(whole))
    rows = page.tables["Claims and verdicts"][1:]
    assert [row[2].split(" ", 1)[1] for row in rows] == [each.verdict for each in judged]
    intervals = [row[2] for row in page.tables["Parts of C1"][1:]]
    (first,) = (each for each in judged if each.claim.id == "C1")
    bounds = [part.estimate.interval() for part in first.parts]
    assert intervals == [f"{low:.1f} to {high:.1f}" for low, high in bounds]
    assert "1 task, 3 seeds, 40 items" in page.text
    _, *rows = page.tables[f"All runs ({len(results)})"]
    assert {row[2] for row in rows} == {"scaling", "tuning"}
    assert {"./one/", "./two/"} < set(page.links)


def conflicting(tmp_path, **values):
    """Two folders of the same runs, of which the second has other values in its first row."""
    rows = small(synthetic.study(), TASKS[:1])
    other = rows.copy()
    for name, value in values.items():
        other.loc[0, name] = value
    return [write(tmp_path / "one", rows), write(tmp_path / "two", other)]


def change_size(tmp_path):
    rows = small(synthetic.study(), TASKS[:1])
    other = rows.assign(model_parameters=rows["model_parameters"] + 1, arm="more")
    other["key"] = "f" + other["key"].str[1:]
    return [write(tmp_path / "one", rows), write(tmp_path / "two", other)]


def absent(path):
    return [path / "absent"]


def no_study(path):
    return [path]


def nothing(path):
    return []


def no_rows(path):
    return [write(path / "a", pd.DataFrame(columns=statistics.COLUMNS))]


def twice(path):
    return [write(path / "a", synthetic.study())] * 2


def another_run_of_a_cell(path):
    return conflicting(path, test_score=1.0, key="f" * 12)


def other_scores_of_a_run(path):
    return conflicting(path, test_score=1.0)


def another_task_of_the_name(path):
    return conflicting(path, majority_score=1.0, arm="x", key="f" * 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (absent, "there is no folder .*absent: give a folder that"),
        (no_study, "has no study.gin, so it is no study folder"),
        (no_rows, "a/results.csv.*no rows"),
        (nothing, "no study folder is given"),
        (twice, "are the same folder: give it once"),
        (other_scores_of_a_run, "run 000000000000 is in .*one and in .*two.* and 1.0"),
        (another_run_of_a_cell, "one and .*two have different runs of the same cell"),
        (another_task_of_the_name, "task pocket_boolq has the majority_score 60.0 in .*one and 1"),
        (change_size, "do not belong together: model pocket_200k has the model_parameters 211000"),
    ],
)
def test_bad_input_keeps_an_older_page(tmp_path, make, message):
    output = tmp_path / "report.html"
    output.write_text("older")
    with pytest.raises(ValueError, match=message):
        spjax.write_report(make(tmp_path), output)
    assert output.read_text() == "older"


def test_a_study_without_results(tmp_path, capsys):
    folder = write(tmp_path / "begun", small(synthetic.study()))
    (folder / "results.csv").unlink()
    assert main.main(["report", str(folder)]) == 2
    assert "has no results.csv: none of its runs has finished yet" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_results_of_another_study(tmp_path):
    folder = write(tmp_path / "a", small(synthetic.study()))
    write(tmp_path / "b", small(synthetic.study()).assign(study="other"))
    (tmp_path / "b" / "results.csv").rename(folder / "results.csv")
    with pytest.raises(ValueError, match="are of the study other, .* names 'scaling'"):
        spjax.write_report(folder)


def test_a_missing_extra_is_said_first(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    before = study[1].read_bytes()
    with pytest.raises(
        ValueError, match=r"interactive figures needs the package vl_convert.*\[report\]"
    ):
        spjax.write_report(study[0])
    assert study[1].read_bytes() == before


def test_a_full_disk_keeps_the_older_page(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", small(synthetic.study(), TASKS[:1]))
    (folder / "report.html").write_text("older")
    monkeypatch.setattr(study_page, "_page", lambda *args: "newer")

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space left"):
        disk.setattr("spjax.files.sync_tree", full)
        spjax.write_report(folder)
    assert (folder / "report.html").read_text() == "older"
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    with pytest.raises(ValueError, match="cannot be .*report.html': give the name of a file"):
        spjax.write_report(folder)
    (folder / "file").touch()
    with pytest.raises(ValueError, match="cannot write .*Remove what stands there"):
        spjax.write_report(folder, folder / "file" / "page.html")


@pytest.mark.parametrize("name", ["results.csv", "", "page"])
def test_no_other_file_is_replaced(tmp_path, name):
    folder = write(tmp_path / "a", small(synthetic.study(), TASKS[:1]))
    before = (folder / "results.csv").read_bytes()
    with pytest.raises(ValueError, match="the page cannot be .* ends in .html"):
        spjax.write_report(folder, folder / name)
    assert (folder / "results.csv").read_bytes() == before


@pytest.mark.skipif(not browser.program(), reason="no Chromium is installed")
def test_in_a_browser(study, tmp_path):
    with browser.opened(study[1], tmp_path) as page:
        page.wait("document.documentElement.dataset.charts === '3'")
        drawn = "[...document.querySelectorAll('figure')].map(f => f.querySelectorAll('{}').length)"
        assert page.evaluate(drawn.format("svg .mark-symbol.role-mark path")) == [16, 16, 4]
        assert page.evaluate(drawn.format("img")) == [0, 0, 0]
        check_sorting(page)
        check_points(page)
        check_legend(page)
        page.evaluate(
            "(() => { const s = document.getElementById('view'); s.value = 'pocket_cb';"
            "s.dispatchEvent(new Event('change')); })()"
        )
        label = "document.querySelector('figure svg .mark-symbol.role-mark path').ariaLabel"
        page.wait(f"{label}.includes('runs: 3')")
        assert page.evaluate("window.hostile") is None
        assert page.problems == []
        assert {request.partition(":")[0] for request in page.requests} <= {"file", "data", "blob"}


@pytest.mark.slow
@pytest.mark.skipif(not browser.program(), reason="no Chromium is installed")
def test_the_main_study_in_a_browser(tmp_path):
    """The kept study on the graded ladder, joined of its parts."""
    kept = Path(__file__).parents[2] / "experiments" / "pocket" / "results"
    folders = sorted(kept.glob("graded_*k_[0-9]"))
    output = tmp_path / "main.html"
    spjax.write_report(folders, output)
    assert len(folders) > 6 and output.stat().st_size < 5e6
    with browser.opened(output, tmp_path) as page:
        page.wait("document.documentElement.dataset.charts === '3'")
        marks = "f => f.querySelectorAll('svg .mark-symbol.role-mark path').length"
        drawn = page.evaluate(f"[...document.querySelectorAll('figure')].map({marks})")
        assert len(drawn) == 3 and min(drawn) >= 2
        text = page.evaluate("document.body.innerText")
        assert "With one task left out:" in text and "graded_130k" in text
        assert page.problems == []
        assert {request.partition(":")[0] for request in page.requests} <= {"file", "data", "blob"}


def check_sorting(page):
    table = "#cells > div.scroll"
    texts = "[...document.querySelectorAll({})].map(cell => cell.textContent)"
    scores = texts.format(json.dumps(f"{table} td:nth-child(4)"))
    head = f"{table} th:nth-child(4) button"
    state = f"document.querySelector('{table} th:nth-child(4)').getAttribute('aria-sort')"
    before = [float(text) for text in page.evaluate(scores)]
    assert page.evaluate(state) == "none" and before != sorted(before)
    page.click(head)
    assert [float(text) for text in page.evaluate(scores)] == sorted(before)
    assert page.evaluate(state) == "ascending"
    page.click(head)
    assert [float(text) for text in page.evaluate(scores)] == sorted(before, reverse=True)
    assert page.evaluate(state) == "descending"
    # Empty cells stay last in either order, and numbers in texts count as numbers.
    page.click("#claims th:nth-child(5) button")
    claims_shown = texts.format(json.dumps("#claims td:nth-child(5)"))
    for _ in range(2):
        values = page.evaluate(claims_shown)
        assert values[-1] == "-" and values.index("-") + values.count("-") == len(values)
        page.click("#claims th:nth-child(5) button")
    page.click("#claims th:nth-child(1) button")
    names = page.evaluate(texts.format(json.dumps("#claims td:nth-child(1)")))
    assert names == [f"C{number}" for number in range(1, 16)]


def check_points(page):
    point = "figure svg .mark-symbol.role-mark path"
    label = page.evaluate(f"document.querySelector({json.dumps(point)}).ariaLabel")
    assert "way of tuning: P = 1;" in label and "runs: 9: seed 0" in label
    page.move(point)
    page.wait("document.querySelector('#vg-tooltip-element.visible') !== null")
    tooltip = page.evaluate("document.querySelector('#vg-tooltip-element').innerText")
    for text in ("P = 1", "pocket_50k", "95 % interval", "3 of 3", "9: seed 0"):
        assert text in tooltip
    page.click(point)
    page.wait("document.querySelector('#runs details').open")
    shown = page.evaluate("document.querySelectorAll('#runs tbody tr:not([hidden])').length")
    assert shown == 9
    total = page.evaluate("document.querySelectorAll('#runs tbody tr').length")
    assert page.evaluate("document.querySelector('#runs output').value") == f"9 of {total} rows"


def check_legend(page):
    """A click on a name leaves its line alone in full color; another one undoes that."""
    lines = "[...document.querySelectorAll('figure:first-of-type svg .mark-line.role-mark path')]"
    opaque = f"{lines}.filter(line => line.getAttribute('opacity') !== '0.1').length"
    assert page.evaluate(opaque) == 4
    for count in (1, 4):
        page.click("figure svg .role-legend-label text")
        page.wait(f"{opaque} === {count}")


def test_kept_studies_have_the_files_that_a_page_needs():
    kept = Path(__file__).parents[2] / "experiments"
    folders = [path.parent for path in kept.rglob("results/*/results.csv")]
    assert len(folders) > 3
    assert all((folder / "study.gin").is_file() for folder in folders)
