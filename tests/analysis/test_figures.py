"""Every figure of the folder: files, numbers behind it, stable bytes, legible without color."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from spjax.analysis import figures, statistics
from spjax.analysis.figures import NothingToDraw, _style, score_over_size

TASKS = dict(list(synthetic.TASKS.items())[:4])  # two rows of panels, the second not full
FOLDER = Path(figures.__file__).parent


# Figures of all lines of a study, with a row of the CSV for each of them.
OF_ALL_LINES = (
    "score_over_examples",
    "score_over_length",
    "score_over_parameters",
    "score_over_size",
)
NOT_OF_SCORES = ("parameters_over_size", "saturation_over_size")
OF_CAPACITY = "soft_tokens_over_items"
OF_FROZEN_MODELS = ("score_over_size_by_adaptation", "score_over_size_by_objective")


@pytest.fixture
def results(results):
    return results[results["task"].isin(list(TASKS))]


@pytest.fixture
def results_of(results):
    """Results that a figure is about."""
    frozen = synthetic.frozen_models(results, failing=True)
    others = dict.fromkeys(OF_FROZEN_MODELS, frozen) | {OF_CAPACITY: synthetic.capacity(draws=2)}
    return lambda name: others.get(name, results)


def test_registry_is_the_folder():
    assert {*OF_ALL_LINES, *OF_FROZEN_MODELS} < set(figures.names())
    assert list(figures.names()) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    with pytest.raises(ValueError, match="unknown figure 'pie': known are parameters_over_size"):
        figures.get("pie")
    with pytest.raises(ValueError, match="unknown figure '_style'"):
        figures.get("_style")


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.names())
def test_draws_png_svg_csv_with_stable_bytes(name, results_of, tmp_path):
    results = results_of(name)
    first = figures.get(name)(results, tmp_path / "first")
    shuffled = results.sample(frac=1, random_state=1)
    second = figures.get(name)(shuffled, tmp_path / "second")
    assert {path.suffix for path in first} == {".png", ".svg", ".csv"}
    assert f"{name}.png" in {path.name for path in first}
    assert len(first) % 3 == 0
    for one, other in zip(first, second, strict=True):
        same = one.read_bytes() == other.read_bytes()
        assert same or one.suffix == ".csv"
        if one.suffix == ".csv":  # order of addition may move the last bit
            pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other))
    svg = first[1].read_text()
    assert "<dc:date>" not in svg and "matplotlib.org" not in svg.split("<defs>")[0]


@pytest.mark.parametrize("name", OF_ALL_LINES)
def test_csv_holds_the_hand_computed_numbers(name, results, tmp_path):
    paths = figures.get(name)(results, tmp_path)
    table = pd.read_csv(next(path for path in paths if path.name == f"{name}.csv"))
    assert len(table) == len(synthetic.SIZES) * (len(synthetic.LENGTHS) + 1)
    for line in table.itertuples():
        runs = results[(results.model == line.model) & (results.method == line.method)]
        runs = runs[(runs.prompt_length == line.prompt_length) & (runs.arm != "initialisation")]
        seeds = [np.mean(runs.test_score[runs.seed == seed]) for seed in range(3)]
        assert line.mean == pytest.approx(np.mean(seeds), abs=1e-9)
        assert line.std == pytest.approx(np.std(seeds, ddof=1), abs=1e-9)
        assert line.majority == pytest.approx(np.mean(list(TASKS.values())))
        assert line.seeds == 3
        assert line.low < line.mean < line.high or line.high == 100


def test_csv_of_single_tasks(results, tmp_path):
    score_over_size.draw(results, tmp_path)
    table = pd.read_csv(tmp_path / "score_over_size_by_task.csv")
    assert len(table) == 28 * len(TASKS)
    chosen = (table.task == "pocket_cb") & (table.line == "P = 5") & (table.model == "pocket_3m")
    chosen = table[chosen].iloc[0]
    scores = results[(results.task == "pocket_cb") & (results.model == "pocket_3m")]
    scores = scores.loc[scores.prompt_length == 5, "test_score"]
    assert chosen["mean"] == pytest.approx(scores.mean())
    assert chosen["std"] == pytest.approx(scores.std(ddof=1))
    assert chosen["majority"] == 45


def test_one_task_has_no_panels(results, tmp_path):
    one = results[results.task == "pocket_cb"]
    assert len(score_over_size.draw(one, tmp_path)) == 3


@pytest.mark.parametrize("name", figures.names())
def test_lines_differ_without_color(name, results_of, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: drawn.append(figure) or [])
    figures.get(name)(results_of(name), tmp_path)
    baselines = set() if name in NOT_OF_SCORES else {"majority", "perfect reader"}
    baselines = {"c K"} if name == OF_CAPACITY else baselines
    for figure in drawn:
        (legend,) = figure.legends
        handles = {text.get_text(): h for text, h in zip(legend.texts, legend.legend_handles)}
        assert baselines < set(handles)
        looks = {(h.get_marker(), str(h._unscaled_dash_pattern)) for h in handles.values()}
        assert len(looks) == len(handles)
        markers = [handle.get_marker() for handle in handles.values()]
        assert len({m for m in markers if m != "None"}) == len(handles) - len(baselines)
        for axes in figure.axes:
            if axes.lines:
                assert axes.get_xscale() == "log"


def test_score_label_says_which_score(results, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: drawn.append(figure) or [])
    score_over_size.draw(results, tmp_path)
    label = drawn[0].axes[0].get_ylabel()
    assert label == "Test score, mean of 4 tasks (%)\nbest checkpoint by validation score"
    ticks = [tick.get_text() for tick in drawn[0].axes[0].get_xticklabels()]
    assert ticks == ["54K\npocket_50k", "211K\npocket_200k", "823K\npocket_800k", "3.1M\npocket_3m"]


def test_many_lines_keep_distinct_looks():
    looks = _style.looks(66)
    assert len({(look.marker, str(look.dashes)) for look in looks}) == 66
    assert len({(look.color, str(look.dashes)) for look in looks[:36]}) == 36
    assert _style.FULL.marker not in {look.marker for look in looks}


def test_markers_without_a_line_have_none_in_the_legend(results, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: drawn.append(figure) or [])
    figures.get("score_over_parameters")(results, tmp_path)
    figures.get("score_over_size")(results, tmp_path)
    legends = [
        {text.get_text(): handle.get_linestyle() for text, handle in zip(*parts)}
        for parts in ((fig.legends[0].texts, fig.legends[0].legend_handles) for fig in drawn)
    ]
    assert {style for name, style in legends[0].items() if "P =" in name} == {"None"}
    assert {name: style for name, style in legends[1].items() if style == "None"} == {}


@pytest.mark.parametrize("name", OF_ALL_LINES)
def test_a_study_still_running_is_drawn(name, results, tmp_path, monkeypatch):
    drawn = []
    save = _style.save

    def keep(figure, *rest):
        drawn.append(figure)
        return save(figure, *rest)

    monkeypatch.setattr(_style, "save", keep)
    figures.get(name)(results.iloc[: len(results) // 2 + 5], tmp_path)
    notes = drawn[0].texts[0].get_text().replace("\n", " ").replace("\u00a0", " ")
    assert "Incomplete, not shown" in notes or "Fewer runs" in notes


@pytest.mark.parametrize("name", figures.names())
def test_one_size_one_seed_without_baselines(name, results_of, tmp_path):
    few = results_of(name).query("model == 'pocket_3m' and seed == 0 and method == 'prompt_tuning'")
    few = few.assign(majority_score=np.nan, ceiling=np.nan)
    assert figures.get(name)(few, tmp_path)


def test_length_figure_wants_lengths(results, tmp_path):
    full = results[results.method == "full_fine_tuning"]
    assert score_over_size.draw(full, tmp_path)
    with pytest.raises(NothingToDraw, match="no run has a prompt .*draw score_over_size instead"):
        figures.get("score_over_length")(full, tmp_path)


def test_arms_of_full_fine_tuning_have_places_of_their_own(results, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: drawn.append(figure) or [])
    shared = results.query("method == 'full_fine_tuning'").assign(arm="multitask")
    figures.get("score_over_length")(pd.concat([results, shared]), tmp_path)
    (axes,) = drawn[0].axes
    places = {
        tick.get_text(): place for tick, place in zip(axes.get_xticklabels(), axes.get_xticks())
    }
    alone, together = places["full\nfine-\ntuning"], places["full\nfine-\ntuning\nmultitask"]
    points = [x for line in axes.get_lines() for x in line.get_xdata() if x > alone * 0.9]
    assert any(x < together / 1.5 for x in points) and any(x > together / 1.5 for x in points)


def test_full_fine_tuning_is_drawn_once_for_each_model(results, tmp_path, monkeypatch):
    """Twelve models in two arms, with two variants of the prompt: each point near its arm."""
    drawn = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: drawn.append(figure) or [])
    one = results.query("model == 'pocket_3m'")
    many = [one.assign(model=f"m{i}", model_parameters=1000 * 2**i) for i in range(12)]
    prompts = pd.concat(many).query("method == 'prompt_tuning'")
    full = pd.concat(many).query("method == 'full_fine_tuning'")
    parts = [prompts, prompts.assign(init="other"), full, full.assign(arm="multitask")]
    figures.get("score_over_length")(pd.concat(parts), tmp_path)
    (axes,) = drawn[0].axes
    arms = [x for x in axes.get_xticks() if x > results["prompt_length"].max()]
    points = {round(x, 3) for line in axes.get_lines() for x in line.get_xdata()}
    points = sorted(x for x in points if x > arms[0] * 0.7)
    nearest = [min(arms, key=lambda arm: abs(np.log(x / arm))) for x in points]
    assert nearest == [arms[0]] * 12 + [arms[1]] * 12
    assert [part.get_label() for part in axes.containers].count("_full fine-tuning") == 24


def test_no_pyplot_and_no_jax():
    for path in FOLDER.parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        imported = {n.name for x in ast.walk(tree) if isinstance(x, ast.Import) for n in x.names}
        imported |= {x.module for x in ast.walk(tree) if isinstance(x, ast.ImportFrom)}
        assert not {"jax", "matplotlib.pyplot", "seaborn"} & imported, path


def test_counts_read_well():
    counts = {999: "999", 54_272: "54K", 1_234: "1.2K", 3_100_000: "3.1M", 11_135_332_352: "11B"}
    assert {count: _style.humanised(count) for count in counts} == counts
    assert statistics.FULL_FINE_TUNING == "full_fine_tuning"
