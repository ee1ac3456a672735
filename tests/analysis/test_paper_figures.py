"""The figures of Lester et al. 2021: which lines they have, and the numbers of each."""

import numpy as np
import pandas as pd
import pytest
import synthetic

from spjax.analysis import figures, saturation, stated
from spjax.analysis.figures import NothingToDraw, _style


def drawn(name, results, folder):
    """Returns the numbers behind a figure."""
    paths = figures.get(name)(results, folder)
    return pd.read_csv(next(path for path in paths if path.name == f"{name}.csv"))


def mean(results, query):
    """Returns the mean score by model of the runs a query chooses."""
    return results.query(query).groupby("model")["test_score"].mean()


def of_line(table, line):
    return table[table["line"] == line].set_index("model")["mean"]


def super_glue(results):
    """The same results under the names of SuperGLUE's tasks."""
    results = results[results["task"] != "pocket_sentiment"]
    names = results["task"].str.replace("pocket_", "taskless_super_glue_") + "_v102"
    return results.assign(task=names)


def test_methods(results, tmp_path):
    shared = results.query("arm == 'full'").assign(arm="multitask")
    shared["test_score"] -= 3
    results = pd.concat([results, shared], ignore_index=True)
    table = drawn("score_over_size_by_method", results, tmp_path)
    assert list(dict.fromkeys(table["line"])) == [
        *("prompt tuning", "full fine-tuning", "full fine-tuning, multi-task")
    ]
    for line, query in (
        ("prompt tuning", "arm == 'prompts' and prompt_length == 100"),
        ("full fine-tuning", "arm == 'full'"),
        ("full fine-tuning, multi-task", "arm == 'multitask'"),
    ):
        expected = mean(results, query)
        np.testing.assert_allclose(of_line(table, line)[expected.index], expected)


def test_stated_score_stands_beside_all_tasks_of_super_glue_alone(results, tmp_path):
    table = drawn("score_over_size_by_method", super_glue(results), tmp_path)
    (point,) = table[table["line"] == "prompt design"].to_dict("records")
    assert (point["mean"], point["model_parameters"]) == (71.8, 175e9)
    assert point["model"] == stated.PROMPT_DESIGN.name and np.isnan(point["low"])
    fewer = super_glue(results).query("task != 'taskless_super_glue_cb_v102'")
    for other in (results, fewer):
        assert "prompt design" not in set(
            drawn("score_over_size_by_method", other, tmp_path)["line"]
        )


def test_initializations(results, tmp_path):
    table = drawn("score_over_size_by_initialization", results, tmp_path)
    assert list(dict.fromkeys(table["line"])) == ["uniform", "sampled vocabulary", "class labels"]
    for init in synthetic.INITS:
        expected = mean(results, f"arm == 'initialisation' and init == '{init}'")
        np.testing.assert_allclose(of_line(table, init.replace("_", " "))[expected.index], expected)
    full = results[results["method"] == "full_fine_tuning"]
    with pytest.raises(NothingToDraw, match="no prompt has been tuned .*full_fine_tuning"):
        drawn("score_over_size_by_initialization", full, tmp_path)


def test_initializations_leave_out_other_frozen_models(results, tmp_path):
    spans = results.query("arm == 'prompts'").assign(arm="span_corruption", test_score=1.0)
    spans["key"] = "s" + spans["key"]
    both = pd.concat([results, spans], ignore_index=True)
    table = drawn("score_over_size_by_initialization", both, tmp_path)
    pd.testing.assert_frame_equal(
        table, drawn("score_over_size_by_initialization", results, tmp_path)
    )


def test_adaptation_steps_are_in_order_of_their_number(results, tmp_path):
    prompts = results.query("arm == 'prompts' and prompt_length == 100")
    arms = [
        prompts.assign(arm=f"adaptation_{steps}", test_score=prompts["test_score"] - loss)
        for steps, loss in ((0, 30), (10_000, 20), (50_000, 10), (100_000, 0))
    ]
    results = pd.concat([results, *arms], ignore_index=True)
    table = drawn("score_over_size_by_adaptation", results, tmp_path)
    lines = ["0 steps", "10,000 steps", "50,000 steps", "100,000 steps"]
    assert list(dict.fromkeys(table["line"])) == lines
    expected = mean(results, "arm == 'adaptation_10000'")
    np.testing.assert_allclose(of_line(table, "10,000 steps")[expected.index], expected)


def test_adaptation_wants_its_arms(results, tmp_path):
    with pytest.raises(NothingToDraw, match="no arm of prompts is called adaptation_<steps>"):
        drawn("score_over_size_by_adaptation", results, tmp_path)


def test_objectives(results, tmp_path):
    frozen = synthetic.frozen_models(results, failing=True)
    frozen = frozen[~frozen["arm"].str.startswith("adaptation")]
    table = drawn("score_over_size_by_objective", frozen, tmp_path)
    for line, arm in (
        ("span corruption", "span_corruption"),
        ("span corruption and sentinel", "with_sentinel"),
        ("LM adaptation", "lm_adaptation"),
    ):
        expected = mean(frozen, f"arm == '{arm}'")
        np.testing.assert_allclose(of_line(table, line)[expected.index], expected)


def test_parameters(results, tmp_path):
    results["trainable_parameters"] = results["trainable_parameters"].mask(
        results["arm"] == "full", results["model_parameters"]
    )
    prefixes = results.query("arm == 'prompts' and prompt_length == 100")
    prefixes = prefixes.assign(arm="prefixes", method="prefix_tuning", trainable_parameters=90_000)
    results = pd.concat([results, prefixes.assign(stored_parameters=9_000)], ignore_index=True)
    table = drawn("parameters_over_size", results, tmp_path).set_index(["line", "model"])
    assert set(table.index.get_level_values("line")) == {
        *("prompt tuning", "full fine-tuning", "prefix tuning", "prefix tuning, stored")
    }
    prompt = table.loc["prompt tuning", "pocket_50k"]
    lengths = np.array(synthetic.LENGTHS) * 64
    assert (prompt["least"], prompt["most"]) == (64, 150 * 64)
    assert prompt["mean"] == pytest.approx(lengths.mean())
    assert prompt["std"] == pytest.approx(lengths.std(ddof=1))
    assert prompt["percent"] == pytest.approx(100 * lengths.mean() / 54_272)
    assert (table.loc["full fine-tuning"]["percent"] == 100).all()
    assert table.loc["prefix tuning, stored", "pocket_3m"]["mean"] == 9_000
    assert table.loc["prefix tuning", "pocket_3m"]["mean"] == 90_000


def test_parameters_of_arms_of_one_method(results, tmp_path):
    """Two networks that write prompts train different numbers, and so have a line each."""
    one = results.query("arm == 'prompts' and prompt_length == 20").assign(method="p_tuning")
    arms = [one.assign(arm=arm, trainable_parameters=n) for arm, n in (("mlp", 5), ("lstm", 7))]
    table = drawn("parameters_over_size", pd.concat(arms, ignore_index=True), tmp_path)
    assert dict(zip(table["line"], table["mean"])) == {"p tuning mlp": 5, "p tuning lstm": 7}


def test_parameters_want_something_trained(results, tmp_path):
    with pytest.raises(NothingToDraw, match="no run has trainable_parameters"):
        drawn("parameters_over_size", results.assign(trainable_parameters=0), tmp_path)


def test_saturation_is_that_of_the_claims(results, tmp_path):
    table = drawn("saturation_over_size", results, tmp_path).fillna({"task": ""})
    expected = saturation.of_results(results)
    both = table.merge(expected, on=["variant", "model", "task"], suffixes=("", "_expected"))
    assert len(both) == len(expected) == len(table) == 40
    np.testing.assert_array_equal(both["length"], both["length_expected"])
    np.testing.assert_allclose(both["p90"], both["p90_expected"])


def test_saturation_that_is_not_located(results, tmp_path, monkeypatch):
    """With one seed P* lies beyond the longest prompt, and the mark is hollow."""
    kept = []
    monkeypatch.setattr(_style, "save", lambda figure, *_: kept.append(figure) or [])
    figures.get("saturation_over_size")(results.query("seed == 0"), tmp_path)
    (axes,) = kept[0].axes
    beyond = axes.get_yticks()[-1]
    assert axes.get_yticklabels()[-1].get_text() == "beyond"
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_ydata()) for line in hollow] == [[beyond] * 4] * 2


def test_saturation_wants_two_lengths(results, tmp_path):
    one = results.query("prompt_length in (0, 20)")
    with pytest.raises(NothingToDraw, match="no model has runs with two prompt lengths"):
        drawn("saturation_over_size", one, tmp_path)
