"""The tables of experiments/extensions, from runs that never were."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from experiments.extensions import ensemble, interpretation, stored
from spjax.analysis import prompt_claims, statistics
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.inference import ensembles, scoring
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models.decoding import Decoding
from spjax.studies import results
from spjax.training.gang import Gang
from spjax.training.member import Member
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run
from spjax.training.waywardness import Waywardness


@pytest.fixture
def study(tmp_path, checkpoint):
    """Three runs, two of them with a prompt, as a sweep leaves them."""
    from spjax import config

    run = Run("pocket_cb", "pocket_50k", PromptTuning(length=3), Adafactor(0.3), checkpoint)
    runs = [
        run,
        dataclasses.replace(run, seed=1, waywardness=Waywardness("the cup and a dog")),
        dataclasses.replace(run, seed=2),
    ]
    columns = dict.fromkeys(results.COLUMNS, "")
    lines = [",".join(columns)]
    for i, run in enumerate(runs):
        folder = tmp_path / "runs" / f"key{i}"
        folder.mkdir(parents=True)
        (folder / "config.gin").write_text(config.config_str(run))
        if i < 2:
            rows = np.random.default_rng(i).normal(size=(3, 16)).astype(np.float32)
            facts = {"task": "pocket_cb", "model": "pocket_50k"}
            prompt_files.write(folder / "prompt.npy", Prompt.from_array(rows, facts))
        values = {
            "study": "s",
            "arm": "prompts",
            "key": f"key{i}",
            "model": "pocket_50k",
            "model_parameters": 5,
            "task": "pocket_cb",
            "method": "prompt_tuning",
            "prompt_length": 3,
            "init": "text",
            "seed": i,
            "pretraining_seed": 0,
            "status": "finished",
            "test_score": 50.0,
            "validation_score": 61.0 - i,
            "majority_score": 40.0,
            "ceiling": 100.0,
        }
        lines.append(",".join(str(values.get(name, "")) for name in columns))
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_prompts_that_differ_in_their_seed_vote(study, monkeypatch, capsys):
    def score(predictor, kind, names, task, split, *how, blocks=0):
        assert blocks == (0 if kind == "mean" else ensemble.BLOCKS)
        assert names == ["key0", "key1"] and (task, split) == ("pocket_cb", "test")
        assert predictor.decoding == Decoding("rank" if kind == "mean" else "greedy")
        return {
            "mean_score": 50.0,
            "best_score": 60.0,
            "ensemble": {"score": 70.0 + len(kind)},
            "prompts": [{"score": 40.0}, {"score": 60.0}],
            "left_out": {"ensemble": [74.0, 75.0], "prompts": [[40.0, 41.0], [60.0, 59.0]]},
        }

    monkeypatch.setattr(ensembles, "score", score)
    ensemble.main([str(study)])
    line = "| pocket_50k | pocket_cb | 2 | 50.0 | 60.0 | 74.0 | 74.0 |"
    assert line in capsys.readouterr().out
    assert line in (study / "ensemble.md").read_text()
    (row,) = json.loads((study / "ensemble.json").read_text())
    assert row["prompts"] == 2 and row["probability"] == 74.0 and row["split"] == "test"
    assert row["scores"] == [40.0, 60.0] and row["validation"] == [61.0, 60.0]
    facts = prompt_claims.read([study], statistics.load(study))
    assert len(facts.votes) == 1 and not facts.lacking


def test_prompts_and_their_words_are_scored(study, monkeypatch, capsys):
    def score(predictor, *how):
        table = np.asarray(predictor.base["token_embedder"]["embedding"])
        rows = predictor.prompts[0].prompt.soft_tokens_PD
        words = all((table == row).all(axis=1).any() for row in rows)
        return {"score": 10.0 if words else 90.0}

    monkeypatch.setattr(scoring, "score_prompt", score)
    interpretation.main([str(study)])
    rows = json.loads((study / "interpretation.json").read_text())
    assert [(row["score"], row["discretised"]) for row in rows] == [(90.0, 10.0)] * 2
    assert [("recovered" in row) for row in rows] == [False, True]
    assert all(row["label_rank"] >= 1 and len(row["words"].split()) == 3 for row in rows)
    assert all(0 <= row["labels_near"] <= 1 and row["cluster_before"] > 0 for row in rows)
    assert all(row["cluster_before"] != row["cluster"] for row in rows)
    assert len(prompt_claims.read([study], statistics.load(study)).words) == 2
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4 and out[2].startswith("| pocket_50k | 3 | text | pocket_cb |")
    assert out[2].endswith("| 90.00 | 10.00 | - | 0.00 |")


def test_what_a_pull_costs():
    same = dict.fromkeys(stored.ALIKE) | {"model": "m", "prompt_length": 3, "seed": 0}
    rows = [
        {**same, "score": 80.0, "pull": 0.0},
        {**same, "score": 75.0, "pull": 0.1},
        {**same, "score": 50.0},
        {**same, "seed": 1, "score": 1.0, "pull": 0.1},
        {**same, "pretraining_seed": 1, "score": 1.0, "pull": 0.1},
    ]
    interpretation.add_losses(rows)
    assert [row.get("lost") for row in rows] == [None, 5.0, None, None, None]


def change(study, **columns):
    """Writes other values into results.csv, a value for each of its three runs."""
    table = pd.read_csv(study / "results.csv").assign(**columns)
    table.to_csv(study / "results.csv", index=False)


@pytest.mark.parametrize(
    ("column", "values"),
    [("pretraining_seed", [0, 1, 0]), ("settings", ["A=1", "A=2", "A=1"]), ("arm", list("aba"))],
)
def test_prompts_of_other_lines_do_not_vote_together(study, column, values):
    assert [len(group) for group in ensemble.groups(stored.runs(study))] == [2]
    change(study, **{column: values})
    assert ensemble.groups(stored.runs(study)) == []
    rows = [item.alike | {"score": 1.0} for item in stored.runs(study)]
    assert len(interpretation.markdown(rows).splitlines()) == 4


def test_only_chosen_learning_rates_are_looked_at(study):
    change(study, learning_rate=[0.1, 0.3, 0.3], validation_score=[70.0, 60.0, np.nan])
    change(study, seed=[0, 0, 1], status=["finished", "finished", "finished"])
    assert [item.row["key"] for item in stored.runs(study)] == ["key0"]


def test_a_prompt_of_another_frozen_model_is_refused(study):
    first, second = stored.runs(study)
    facts = {"model": "pocket_50k", "base_sha256": first.run.open_model().digest}
    known = Prompt.from_array(first.prompt.soft_tokens_PD, facts)
    assert stored.predictor(first.run, [known]).prompts[0].prompt is known
    other = Prompt.from_array(second.prompt.soft_tokens_PD, facts | {"base_sha256": "0"})
    with pytest.raises(ValueError, match="trained with other weights.*sweep the study again"):
        stored.predictor(first.run, [known, other])


def test_what_is_stored(study):
    found = stored.runs(study)
    assert [item.row["key"] for item in found] == ["key0", "key1"]
    assert found[1].run.waywardness.text == "the cup and a dog"
    with pytest.raises(ValueError, match="no results.csv"):
        stored.runs(study / "absent")


def test_the_prompt_before_training(study):
    item = stored.runs(study)[0]
    prompt = stored.at_the_start(item.run)
    assert prompt.soft_tokens_PD.shape == (3, 16)
    (member,) = [Member(item.run, study / "again")]
    group = Gang([member], item.run.open_model())
    first = group.arrays(member)["trainable"]["prompt"]
    group.close()
    np.testing.assert_array_equal(prompt.soft_tokens_PD, first)
