"""The recommended prompt length, from the scores of runs."""

import re

import pandas as pd
import pytest

import spjax
from spjax import config
from spjax.api import prompt_length, studies
from spjax.cli import main
from spjax.studies import plan
from spjax.studies.runner import Outcome

SCORES = {1: 60.0, 5: 90.0, 20: 90.3}
SPREAD = 0.1  # of seeds, in points


@pytest.fixture
def trained(monkeypatch):
    """Runs that are not trained: a prompt of each length has its score, seeds differ a little."""

    def run(planned):
        rows = []
        for spec in planned.specs:
            length, seed = spec.labels["prompt_length"], spec.labels["seed"]
            rows.append(
                {
                    **spec.labels,
                    "study": planned.study.name,
                    "arm": spec.arms[0],
                    "key": spec.key,
                    "model_parameters": 50_000,
                    "trainable_parameters": 16 * length,
                    "status": "finished",
                    "test_score": min(SCORES[length] + SPREAD * seed * (-1) ** length, 100.0),
                    "majority_score": 100.0 if "recitation" in spec.labels["task"] else 50.0,
                    "ceiling": 100.0,
                }
            )
        planned.folder.mkdir(parents=True)
        pd.DataFrame(rows).to_csv(planned.folder / "results.csv", index=False)
        return Outcome(finished=len(rows))

    monkeypatch.setattr(studies.PlannedStudy, "run", run)
    monkeypatch.setattr(studies, "finish_study", lambda folder, study: "")


def test_shortest_length_that_is_enough(trained, tmp_path):
    advice = spjax.recommend_prompt_length(
        "pocket_50k", "pocket_cb", lengths=SCORES, output_dir=tmp_path
    )
    assert (advice.length, advice.shortest, advice.located) == (5, 5, True)
    assert list(advice.scores) == [1, 5, 20]
    # As many numbers: 5 times 16 over 48 and over 96, rounded up.
    assert advice.other_sizes["pocket_200k"] == (2, 2)
    assert advice.other_sizes["pocket_800k"] == (1, 1)
    assert "Recommended: 5 soft tokens" in str(advice)


def test_a_task_with_one_answer_has_a_length(trained, tmp_path):
    """Its majority is the best score there is."""
    advice = spjax.recommend_prompt_length(
        "pocket_50k", "recitation:k4", lengths=SCORES, output_dir=tmp_path
    )
    assert advice.length == 5


def test_a_length_before_a_dip_is_not_enough_without_an_interval_either(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setitem(globals(), "SPREAD", 0)
    monkeypatch.setitem(SCORES, 1, 90.0)
    monkeypatch.setitem(SCORES, 5, 85.0)
    advice = spjax.recommend_prompt_length(
        "pocket_50k", "pocket_cb", lengths=SCORES, output_dir=tmp_path
    )
    assert (advice.length, advice.varies) == (20, False)


def test_equal_scores_of_all_seeds_have_a_length_and_no_interval(trained, tmp_path, monkeypatch):
    for length in SCORES:
        monkeypatch.setitem(SCORES, length, 101.0)
    advice = spjax.recommend_prompt_length(
        "pocket_50k", "pocket_cb", lengths=SCORES, output_dir=tmp_path
    )
    assert (advice.length, advice.located, advice.varies) == (1, True, False)
    assert "Recommended: 1 soft token; no longer prompt tried gains more than 1 point." in str(
        advice
    )
    assert "no interval" in str(advice)


@pytest.mark.parametrize("score", [0.0, 40.0, 49.8])
def test_no_length_is_recommended_where_none_has_learned(trained, tmp_path, monkeypatch, score):
    for length in SCORES:
        monkeypatch.setitem(SCORES, length, score)
    match = r"1: .* No length can be recommended: none scores above 50.0,.* Train longer"
    with pytest.raises(ValueError, match=match):
        spjax.recommend_prompt_length(
            "pocket_50k", "pocket_cb", lengths=SCORES, output_dir=tmp_path
        )


def test_the_columns_of_a_file_are_flags(monkeypatch, tmp_path):
    tasks = []
    monkeypatch.setattr(
        prompt_length, "recommend_prompt_length", lambda model, task, **rest: tasks.append(task)
    )
    path = tmp_path / "films.jsonl"
    row = '{{"title": "t{0}", "text": "x", "verdict": {1}}}\n'
    path.write_text("".join(row.format(i, i % 2) for i in range(100)))
    flags = ["--template={title}: {text}", "--target={verdict}", "--labels=bad,good"]
    with pytest.raises(AttributeError):  # the stand-in has no folder
        main.main(["prompt_length", str(path), *flags, "--model=pocket_50k"])
    assert tasks[0].labels == ("bad", "good")
    assert re.fullmatch(r"t\d+: x", tasks[0].examples("train")[0][0])


def test_scores_that_still_rise_locate_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(SCORES, 20, 99.0)
    advice = spjax.recommend_prompt_length(
        "pocket_50k", "pocket_cb", lengths=SCORES, output_dir=tmp_path
    )
    assert not advice.located and advice.length == 20 and not advice.other_sizes
    assert "No length below 20 is shown to be enough" in str(advice)


def test_runs_have_the_rate_of_the_embedding():
    model, task = spjax.load_model("pocket_50k"), spjax.load_task("pocket_cb")
    study = prompt_length._study(model, task, [1, 5], 2, 600, 32, None)
    specs = plan.expand(study)
    assert len(specs) == 4 and len({spec.gang for spec in specs}) == 1
    assert "range(" not in config.config_str(study)  # which is what a sweep stores
    run = specs[0].run
    assert run.optimizer.learning_rate == pytest.approx(0.177, abs=0.001)
    assert (run.steps, run.optimizer.steps_per_decay, run.model) == (600, 30, "pocket_50k")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lengths": [5]}, "give two different prompt lengths"),
        ({"lengths": [0, 5]}, "lengths"),
        ({"seeds": 1}, "seeds"),
        ({"tolerance": 0}, "tolerance"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        spjax.recommend_prompt_length("pocket_50k", "pocket_cb", **settings)
