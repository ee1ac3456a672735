"""Needs and laws of a prompt's capacity, from results that follow a known law."""

import math

import numpy as np
import pandas as pd
import pytest
import synthetic

from spjax.analysis import capacity, capacity_laws, capacity_report, report
from spjax.analysis.figures import NothingToDraw, get
from spjax.studies.study import Arm, Study

NUMBERS = synthetic.NUMBERS
WIDTHS = synthetic.WIDTHS
results = synthetic.capacity


def test_crossing_is_that_of_the_monotone_regression():
    # 30 and 10 are pooled to 20, so that 50 is halfway to 80 on a logarithmic axis: 4.
    assert capacity.crossing([1, 2, 8], [30, 10, 80], 50) == pytest.approx(4)
    assert capacity.crossing([1, 2], [96, 99], 95) == 0
    assert capacity.crossing([1, 2], [10, 94], 95) == math.inf


def test_information_of_answers_that_may_be_wrong():
    """Against the mutual information of a label and an answer that is wrong as often."""
    assert capacity.information(3.0, 100) == 3.0 and capacity.information(1.0, 50) == 0.0
    labels, right = 8, 0.95
    joint = np.full((labels, labels), (1 - right) / (labels - 1) / labels)
    np.fill_diagonal(joint, right / labels)
    mutual = np.sum(joint * np.log2(joint * labels**2))
    assert capacity.information(3.0, 95) == pytest.approx(mutual)


def test_law_of_items_over_width_is_chosen_and_predicts():
    of_study = capacity.needs(results())
    assert len(of_study.table) == len(WIDTHS) * 4
    (fit,) = capacity_laws.fits(of_study)
    value, low, high = fit.constant
    assert low < value < high
    # A straight line between two lengths lies below the curve, so that the need is overestimated.
    assert NUMBERS < value < 1.15 * NUMBERS
    errors = fit.table.set_index("law")["held_out"]
    assert errors["c K / D"] < 1.1 < errors["c K / N"]
    assert fit.prediction[0] == pytest.approx(errors["c K / D"])
    verdicts = [each.verdict for each in capacity_report.judge(of_study)]
    assert verdicts == ["holds", "holds", "holds", "not measured"]


def test_soft_tokens_that_no_item_needs_are_found():
    """Runs that need a token more than the law says, of which the fit without sees a low power."""
    more = results(noise=0.02)
    more["prompt_length"] += 1
    width = more["model"].map(WIDTHS)
    for column in ("trainable_parameters", "stored_parameters"):
        more[column] = more["prompt_length"] * width
    (fit,) = capacity_laws.fits(capacity.needs(more))
    assert fit.offset["b"][0] == pytest.approx(1, abs=0.25)
    assert fit.offset["c"][0] == pytest.approx(NUMBERS, rel=0.1)
    assert fit.exponents["a"][0] < 0.9 and "c K / D + b: c = " in capacity_report.markdown(more)


def test_need_that_does_not_fall_with_width_contradicts():
    judged = capacity_report.judge(capacity.needs(results(numbers=0.5, width_power=0.0)))
    by_width = judged[1]
    assert by_width.verdict == "contradicted" and "exponent b" in by_width.reason


def test_one_draw_tells_nothing_about_intervals():
    of_study = capacity.needs(results(draws=1))
    assert of_study.table["low"].isna().all()
    assert {x.verdict for x in capacity_report.judge(of_study)} == {"cannot tell", "not measured"}


@pytest.mark.parametrize("power, verdict", [(0.0, "holds"), (1.0, "contradicted")])
def test_items_or_bits(power, verdict):
    """With two labels the need is the same (items) or falls as the bits do."""
    few = results(forms=("associations:l2",))
    items = few["task"].str.extract(r":k(\d+)")[0].astype(float)
    few["trained"] = few["stored_parameters"]
    few["stored_parameters"] = few["trained"] / np.log2(items) ** power
    few["trainable_parameters"] = few["stored_parameters"]
    joined = pd.concat([results(), few], ignore_index=True)
    assert capacity_report.judge(capacity.needs(joined))[3].verdict == verdict


def test_needs_beyond_the_lengths_tried_are_marked_and_left_out():
    few = results()
    few = few[few["prompt_length"].between(2, 8)]
    of_study = capacity.needs(few)
    text = capacity_report.markdown(few)
    assert (of_study.table["numbers"] == 0).any() and np.isinf(of_study.table["numbers"]).any()
    assert "at most" in text and "over" in text


def test_amounts_that_lack_a_run_are_left_out_and_said():
    """A need is not measured where it may lie at such an amount; elsewhere it is what it was."""
    runs = results()
    cell = (runs["model"] == "pocket_200k") & (runs["task"] == "associations:k16:draw0")
    index = ["model", "items"]
    whole = capacity.needs(runs).table.set_index(index).loc[("pocket_200k", 16)]
    lengths = sorted(runs["prompt_length"].unique())
    tokens = whole["numbers"] / whole["width"]
    above = next(length for length in lengths if length > tokens)
    for length, is_known in ((above, False), (lengths[-1], True)):
        fewer = runs[~(cell & (runs["prompt_length"] == length))]
        table = capacity.needs(fewer).table.set_index(index)
        row = table.loc[("pocket_200k", 16)]
        assert row["dropped"] == 1 and table["dropped"].sum() == 1
        assert (row["numbers"] == pytest.approx(whole["numbers"])) == is_known
        text = capacity_report.markdown(fewer)
        assert (
            "1 amounts lack a run" in text
            and ("| not measured | not measured |" in text) != is_known
        )
    some = runs[~(cell & (runs["prompt_length"] > 3))]  # all that are long enough lack the draw
    assert math.isnan(capacity.needs(some).table.set_index(index)["numbers"]["pocket_200k", 16])


def test_draws_that_agree_leave_the_lengths_between_which_the_need_lies():
    runs = results()
    runs["test_score"] = np.where(runs["prompt_length"] > 4, 100.0, 0.0)
    table = capacity.needs(runs).table
    assert (table["low"] == 4 * table["width"]).all() and (
        table["high"] == 6 * table["width"]
    ).all()


def test_tasks_without_items_or_labels():
    runs = results()
    nothing = runs.assign(task="exceptions:k0")
    recited = runs.assign(task=runs["task"].str.replace("associations", "recitation"))
    table = capacity.needs(pd.concat([runs, nothing, recited], ignore_index=True)).table
    assert set(table["form"]) == {"associations", "recitation"}
    of_text = table["form"] == "recitation"
    assert table.loc[of_text, "bits"].isna().all() and table.loc[~of_text, "bits"].notna().all()
    fitted = capacity_laws.fits(capacity.needs(recited))
    assert not fitted[0].table["law"].str.contains("B").any()
    with pytest.raises(ValueError, match="no run has a score on a task of a prompt's capacity"):
        capacity.needs(nothing)


def test_ladders_have_laws_of_their_own():
    """Words and labels of another vocabulary, whose models need twice as much."""
    other = results(numbers=2 * NUMBERS)
    other["model"] = other["model"].str.replace("pocket", "graded")
    of_study = capacity.needs(pd.concat([results(), other], ignore_index=True))
    graded, pocket = capacity_laws.fits(of_study)
    assert graded.constant[0] == pytest.approx(2 * pocket.constant[0], rel=0.2)
    statements = [each.statement for each in capacity_report.judge(of_study)]
    assert sum("(graded models)" in text for text in statements) == 3


def test_draws_that_a_ladder_lacks_say_nothing_about_it():
    """Joined with a study of more draws its intervals are those that it has alone."""
    few = results(draws=2, noise=0.2)
    few["model"] = few["model"].str.replace("pocket", "graded")
    one = few[few["task"].str.endswith("draw0")]
    alone = capacity_laws.fits(capacity.needs(few))[0]
    joined = capacity_laws.fits(capacity.needs(pd.concat([results(draws=5), few])))[0]
    assert joined.constant == pytest.approx(alone.constant) and joined.draws == 2
    of_one = capacity.needs(pd.concat([results(draws=5), one]))
    graded = capacity_laws.fits(of_one)[0]
    assert math.isnan(graded.constant[1]) and math.isnan(graded.noise)
    assert math.isnan(graded.offset["b"][1])
    judged = [x for x in capacity_report.judge(of_one) if "(graded models)" in x.statement]
    assert {x.verdict for x in judged} == {"cannot tell"}
    labels = results(forms=("associations:l2",), draws=1)
    shares = capacity_report._shares_of_change(
        capacity.needs(pd.concat([results(draws=5), labels])), "bits", 0.95
    )
    assert math.isnan(shares["all pairs"][1])


def test_items_or_bits_that_depend_on_the_cells_cannot_be_told():
    """Needs that follow the items on all models but the narrowest, where they follow the bits."""
    few = results(forms=("associations:l2",), noise=0.01)
    narrow = few["model"] == min(WIDTHS, key=WIDTHS.get)
    scale = np.where(narrow, np.log2(few["task"].str.extract(r":k(\d+)")[0].astype(float)) ** -2, 1)
    for column in ("trainable_parameters", "stored_parameters"):
        few[column] = few[column] * scale
    joined = pd.concat([results(noise=0.01), few], ignore_index=True)
    by_bits = capacity_report.judge(capacity.needs(joined))[3]
    assert by_bits.verdict == "cannot tell"
    assert "with all models but the narrowest" in by_bits.reason


def test_laws_need_two_widths_and_two_k_to_be_fitted_to():
    two = results()
    two = two[two["model"].isin(sorted(WIDTHS, key=WIDTHS.get)[:2])]
    assert capacity_laws.fits(capacity.needs(two)) == []


def test_rate_whose_need_is_not_measured_beats_none():
    few = results()[lambda x: (x["model"] == "pocket_200k") & x["task"].str.contains("k16")]
    lacking = few[~(few["task"].str.endswith("draw0") & (few["prompt_length"] > 3))]
    text = capacity_report.markdown(
        pd.concat([few, lacking.assign(learning_rate=0.3), few.assign(method="lora")])
    )
    (line,) = [x for x in text.splitlines() if "| 16 | prompt_tuning |" in x]
    assert "not measured" not in line and line.endswith("| 0.1 | 2 |")


def test_least_amounts_that_are_enough_do_not_hide_a_smaller_need():
    few = results()[lambda x: (x["model"] == "pocket_200k") & x["task"].str.contains("k16")]
    enough = few[few["prompt_length"] > 24].assign(learning_rate=0.3)
    text = capacity_report.markdown(pd.concat([few, enough, few.assign(method="lora")]))
    (line,) = [x for x in text.splitlines() if "| 16 | prompt_tuning |" in x]
    assert line.endswith("| 0.1 | 2 |")


def test_need_at_an_amount_that_was_tried():
    for amounts in ([48, 96, 144], [7, 11, 13]):
        assert capacity.crossing(amounts, [10, 95, 100], 95) == amounts[1]
        assert capacity.crossing(amounts, [10, 95.0000000001, 100], 95) == amounts[1]


def test_what_depends_on_the_cells_cannot_be_told():
    """A law with soft tokens that no item needs: small K make the exponent low."""
    more = results(noise=0.02)
    more["prompt_length"] += 2
    for column in ("trainable_parameters", "stored_parameters"):
        more[column] = more["prompt_length"] * more["model"].map(WIDTHS)
    by_items = capacity_report.judge(capacity.needs(more))[0]
    assert by_items.verdict == "cannot tell" or "other cells" not in by_items.reason
    assert "| K of 8 and more |" in capacity_report.markdown(more)


def test_cells_of_which_one_has_no_need_are_not_fitted_to_rates():
    """Also where a need at the second rate lies beyond what was tried."""
    worse = results().assign(learning_rate=0.3, test_score=10.0)
    joined = pd.concat([results(), worse], ignore_index=True)
    assert capacity_laws.fits(capacity.needs(joined)) == []


def test_items_or_bits_are_compared_at_one_rate():
    few = results(forms=("associations:l2",))
    other = results(numbers=4 * NUMBERS).assign(learning_rate=0.3)
    alone = pd.concat([results(), few], ignore_index=True)
    joined = pd.concat([results(), few, other], ignore_index=True)
    shares = [
        capacity_report._shares_of_change(capacity.needs(x), "bits", 0.95)["all pairs"]
        for x in (alone, joined)
    ]
    assert shares[0] == pytest.approx(shares[1])


def test_one_amount_is_a_bound():
    few = results()
    few = few[few["prompt_length"] == 3]
    table = capacity.needs(few).table
    assert len(table) == len(WIDTHS) * 4
    assert set(table["numbers"]) == {0.0, math.inf}
    assert capacity_laws.fits(capacity.needs(few)) == []


def test_intervals_that_end_at_the_lengths_tried_are_told():
    everything = results(noise=0.3)
    (wide,) = capacity_laws.fits(capacity.needs(results(noise=0.05)))
    few = everything[everything["prompt_length"].between(3, 12)]
    (narrow,) = capacity_laws.fits(capacity.needs(few))
    assert wide.clipped == 0 < narrow.clipped
    assert "leave the lengths" in capacity_report.markdown(few)


def test_error_of_prediction_beside_what_the_draws_make_of_it():
    (quiet,) = capacity_laws.fits(capacity.needs(results(noise=0.01)))
    (loud,) = capacity_laws.fits(capacity.needs(results(noise=0.3)))
    assert 1 <= quiet.noise < 1.02 < loud.noise
    assert f"a factor of {loud.noise:.2f}" in capacity_report.markdown(results(noise=0.3))


def test_several_learning_rates_of_one_model_are_not_mixed():
    joined = pd.concat([results(), results().assign(learning_rate=0.3)], ignore_index=True)
    assert capacity_laws.fits(capacity.needs(joined)) == []
    assert "several learning rates" in capacity_report.markdown(joined)


def test_variants_of_a_method_are_not_mixed():
    lora = results().assign(method="lora", prompt_length=0)
    other = lora.assign(init="wo", stored_parameters=lora["stored_parameters"] * 3)
    table = capacity.needs(pd.concat([lora.assign(init=""), other], ignore_index=True)).table
    need = table.set_index(["init", "model", "items"])["numbers"]
    assert need["wo"].to_numpy() == pytest.approx(3 * need[""].to_numpy())
    joined = pd.concat([results(), results().assign(init="random")], ignore_index=True)
    assert capacity_laws.fits(capacity.needs(joined)) == []
    assert "or initializations" in capacity_report.markdown(joined)


@pytest.mark.parametrize(
    "interval, needed",
    [((1.0, 0.6, 1.4), "13 draws"), ((1.2, 0.9, 1.3), "20 draws"), ((1.25, 1, 2), "more than 100")],
)
def test_draws_that_would_settle_a_verdict(interval, needed):
    """Halves of 0.4 and 0.1 at distances of 0.25 and 0.05, of five draws."""
    judged = capacity_report._judged("s", "w", interval, (0.75, 1.25), "b", 5)
    assert judged.verdict == "cannot tell" and needed in judged.reason


def test_methods_are_compared_at_their_best_rates():
    """A method of half the need at its second rate, and one with a single amount."""
    prompts = results()[lambda x: (x["model"] == "pocket_200k") & x["task"].str.contains("k16")]
    lora = prompts.assign(method="lora", learning_rate=0.01)
    better = lora.assign(learning_rate=0.03, stored_parameters=lora["stored_parameters"] / 2)
    single = prompts[prompts["prompt_length"] == 1].assign(method="ia3", prompt_length=0)
    joined = pd.concat([prompts, lora, better, single], ignore_index=True)
    text = capacity_report.markdown(joined)
    lines = [
        line for line in text.splitlines() if line.startswith("| associations | pocket_200k | 16 |")
    ]
    assert [line.split(" | ")[3] for line in lines] == ["lora", "prompt_tuning", "ia3"]
    (need,) = capacity.needs(prompts).table["numbers"] / 16
    assert f"| {need / 2:.3g} [" in lines[0] and f"| {need * 2:.3g} [" in lines[0]
    assert lines[0].endswith("| 0.03 | 2 |") and "over" in lines[2]
    assert "| draws | rate |" in text


def test_longer_budgets_have_a_limit():
    table = capacity_report.budgets(capacity.needs(results(noise=0.0, steps=(600, 1200, 2400))))
    assert table["change"].to_numpy() == pytest.approx(2**-0.2 - 1, abs=0.07)
    assert (table["low"] <= table["change"]).all() and (table["change"] <= table["high"]).all()
    assert "Change of the need" in capacity_report.markdown(results(steps=(600, 1200)))
    unequal = results(noise=0.0, steps=(1200, 2400, 9600))
    assert capacity_report.budgets(capacity.needs(unequal))["limit"].isna().all()
    rising = results(noise=0.0, steps=(600, 1200, 2400)).replace({"steps": {600: 2400, 2400: 600}})
    assert capacity_report.budgets(capacity.needs(rising))["limit"].isna().all()


def test_figure_and_its_numbers(tmp_path):
    paths = get("soft_tokens_over_items")(results(), tmp_path)
    table = pd.read_csv(paths[2])
    assert {"numbers", "low", "high", "width", "items"} <= set(table.columns)
    other = results().assign(task="pocket_boolq")
    with pytest.raises(NothingToDraw, match="soft_tokens_over_items"):
        get("soft_tokens_over_items")(other, tmp_path)
    assert not capacity_report.markdown(other) and not capacity_report.summary(other)


def test_figure_and_verdicts_are_of_the_steps_of_most_cells(tmp_path):
    runs = results(steps=(600, 1200))
    few = runs[(runs["steps"] == 600) | runs["task"].str.contains("k8|k16")]
    table = pd.read_csv(get("soft_tokens_over_items")(few, tmp_path)[2])
    assert set(table["steps"]) == {600}
    assert set(pd.read_csv(get("soft_tokens_over_items")(runs, tmp_path)[2])["steps"]) == {1200}
    for part, steps in ((few, 600), (runs, 1200)):
        of_study = capacity.needs(part)
        fit = capacity_laws.of_most_cells(capacity_laws.fits(of_study))["pocket"]
        assert fit.steps == steps
        assert any(f"({steps:,} steps)" in x.statement for x in capacity_report.judge(of_study))


def test_effective_items_are_those_of_the_length_at_which_gains_level_off():
    rows = []
    for task in ("pocket_boolq", "pocket_rte"):
        for length, score in {1: 60.0, 5: 80.0, 20: 80.2, 50: 80.1}.items():
            for seed in range(3):
                row = {"task": task, "prompt_length": length, "seed": seed}
                row |= {
                    "test_score": score + 0.1 * seed * (-1) ** length,
                    "trainable_parameters": 48 * length,
                }
                rows.append(row)
    fixed = {"arm": "prompts", "model": "m", "model_parameters": 5, "method": "prompt_tuning"}
    fixed |= {"init": "", "status": "finished", "majority_score": 50.0, "ceiling": 100.0}
    table = capacity.effective_items(pd.DataFrame(rows).assign(**fixed), {"m": 16.0})
    assert set(table["task"]) == {"pocket_boolq", "pocket_rte"}
    assert (table["high"] == 5 * 48 / 16).all() and (table["low"] == 1 * 48 / 16).all()
    with pytest.raises(ValueError, match="no constant of m models, only of graded ones"):
        capacity.effective_items(pd.DataFrame(rows).assign(**fixed), {"graded": 16.0})


def test_study_ends_with_needs_and_no_table_of_means(tmp_path):
    runs = results(draws=2)
    runs["key"] = [f"{number:012x}" for number in range(len(runs))]
    runs.assign(study="held").to_csv(tmp_path / "results.csv", index=False)
    text = report.finish(tmp_path, Study("held", [Arm("a", ["a.gin"])], ["soft_tokens_over_items"]))
    assert "trained numbers for each item" in text and "holds: " in text
    assert "| c K / D | 1 |" in (tmp_path / "capacity.md").read_text()
    assert not (tmp_path / "table.md").exists()
    # Beside runs on other tasks these have their table.
    others = runs.assign(task="pocket_cb", arm="prompts", steps=100)
    others = others.drop_duplicates(["model", "prompt_length"])
    others["key"] = [f"{number:011x}f" for number in range(len(others))]
    both = pd.concat([runs, others]).assign(study="held")
    both.to_csv(tmp_path / "results.csv", index=False)
    report.finish(tmp_path, Study("held", [Arm("a", ["a.gin"])], []))
    assert "associations" not in (tmp_path / "table.md").read_text()
