"""The tables of data efficiency and transfer, from results that never were, and the study files."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.extensions import data_efficiency, ensemble, interpretation, stored, transfer
from spjax.analysis import statistics
from spjax.checkpoints.prompts.prompt import Prompt
from spjax.studies import plan
from spjax.studies.study import load_study

ROOT = Path(__file__).parents[2]
FACTS = {
    "arm": "starts",
    "model": "m",
    "model_parameters": 5,
    "method": "prompt_tuning",
    "prompt_length": 2,
    "init": "",
    "status": "finished",
    "majority_score": 30.0,
    "ceiling": 100.0,
}


@pytest.fixture(autouse=True)
def in_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def specs(name):
    study, _ = load_study([f"experiments/extensions/{name}.gin"])
    return plan.expand(study)


def test_all_trained_methods_have_as_many_rates_steps_and_examples():
    from spjax import methods

    found = specs("methods")
    assert {spec.labels["method"] for spec in found} == set(methods.names())
    budgets = {}
    for spec in (spec for spec in found if spec.run.method.trained):
        run = spec.run
        budget = (run.steps, run.batch_size, run.eval_period, str(run.task), run.seed, run.model)
        budgets.setdefault(spec.arms, []).append((budget, run.optimizer.learning_rate))
    counts = {arm: sorted(budget for budget, _ in own) for arm, own in budgets.items()}
    assert all(own == counts["prompts",] for own in counts.values())
    assert {len({rate for _, rate in own}) for own in budgets.values()} == {3}


def test_examples_saved(tmp_path, capsys):
    rows = []
    for method, length, better in (("prompt_tuning", 2, 10.0), ("full_fine_tuning", 0, 0.0)):
        for count, score in ((10, 50.0), (110, 70.0)):
            for draw in (0, 1, 2):
                task = f"pocket_cb:n{count}:seed{draw}"
                own = {"task": task, "method": method, "test_score": score + better, "seed": 0}
                rows.append(FACTS | own | {"arm": method, "prompt_length": length})
    pd.DataFrame(rows).to_csv(tmp_path / "results.csv", index=False)
    data_efficiency.main([str(tmp_path)])
    text = capsys.readouterr().out
    assert text in (tmp_path / "data_efficiency.md").read_text() + "\n"
    assert "| m | P = 2 | 60.0 ± 0.0 | 80.0 ± 0.0 |" in text
    # From 60 to 70 points: 10 to 60 examples against 60 to 110.
    (row,) = json.loads((tmp_path / "data_efficiency.json").read_text())
    assert (row["line"], row["over"], row["examples"]) == ("P = 2", "full fine-tuning", 50)
    assert "| m | P = 2 | full fine-tuning | 50 |" in text  # equal draws tell no interval


def item(task, seed, rows):
    return stored.Stored({"task": task, "seed": seed, "key": "k"}, None, Prompt.from_array(rows))


def study_of_starts(scores):
    rows = []
    for (init, task), value in scores.items():
        for seed in (1, 2):
            own = {"init": init, "task": task, "seed": seed, "test_score": value + seed}
            rows.append(FACTS | own)
    return pd.DataFrame(rows)


def test_gains_and_likeness_of_tasks(tmp_path, monkeypatch, capsys):
    directions = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [0.0, 1.0]}
    found = [
        item(task, seed, np.array([row, row], np.float32) * (1 + seed))
        for task, row in directions.items()
        for seed in (0, 1)
    ]
    monkeypatch.setattr(stored, "runs", lambda folder: found)
    scores = {("uniform", task): 50.0 for task in directions}
    for source, one in directions.items():
        for target, other in directions.items():
            gain = 10 * float(np.dot(one, other))
            scores[f"from_file {source}", target] = 50.0 + gain
    study_of_starts(scores).to_csv(tmp_path / "results.csv", index=False)
    transfer.main(["sources", str(tmp_path)])
    text = capsys.readouterr().out
    # Seeds add 1.5 to all scores.
    assert "| a | b | 51.5 | 57.5 | +6.0 [-] | 0.60 | 0.60 |" in text  # seeds agree
    # Without one of three tasks too few pairs are left for an interval.
    assert "| cosine of mean rows | +1.00 [-] | +1.00 [-] | +1.00 [-] |" in text
    assert (tmp_path / "figures" / "gain_over_likeness.png").is_file()
    rows = json.loads((tmp_path / "transfer.json").read_text())
    assert len(rows) == 9 and {row["average"] for row in rows if row["source"] == row["target"]}


def test_correlations_have_the_interval_of_the_jackknife_over_tasks():
    random = np.random.default_rng(0)
    tasks = "abcdefgh"
    effects = dict(zip(tasks, random.normal(size=8)))
    rows = []
    for source, target in itertools.permutations(tasks, 2):
        likeness = random.normal()
        gain = likeness + effects[target] + random.normal()
        facts = {"source": source, "target": target, "gain": gain}
        rows.append(facts | dict.fromkeys(transfer.MEASURES, likeness))
    found = transfer.correlations(rows)["average"]
    table = pd.DataFrame(rows)
    value, low, high = found["pearson"]
    assert value == pytest.approx(table["average"].corr(table["gain"]))
    kept = [table[(table["source"] != t) & (table["target"] != t)] for t in tasks]
    z = np.arctanh([part["average"].corr(part["gain"]) for part in kept])
    error = np.sqrt(7 / 8 * np.square(z - z.mean()).sum())
    assert np.arctanh(high) - np.arctanh(value) == pytest.approx(error * 2.3646, rel=1e-4)
    assert 0 < found["within"][1] < found["within"][0] < found["within"][2] < 1


def test_what_runs_have_left_is_named_after_their_tasks(tmp_path, capsys):
    runs = [("k0", "a", 0, "prompt.npy"), ("k1", "a", 1, "prompt.npy")]
    runs += [("k2", "a+b", 0, "tuned.safetensors")]
    for key, _, _, name in runs:
        (tmp_path / "runs" / key).mkdir(parents=True)
        (tmp_path / "runs" / key / name).write_text(key)

    def write(table):
        rows = [
            FACTS | {"key": key, "task": task, "seed": seed, "test_score": 1.0}
            for key, task, seed, _ in table
        ]
        pd.DataFrame(rows).to_csv(tmp_path / "results.csv", index=False)

    write(runs)
    transfer.main([str(tmp_path)])
    found = {path.name: path.read_text() for path in (tmp_path / "prompts").iterdir()}
    assert found == {"a.npy": "k0", "a+b.safetensors": "k2"}
    assert "a+b.safetensors" in capsys.readouterr().out
    write([*runs, ("k3", "a", 0, "prompt.npy")])
    with pytest.raises(ValueError, match="several runs of seed 0 for a task"):
        transfer.main([str(tmp_path)])


def test_other_arms_stand_beside_the_best_of_other_tasks():
    starts = {
        "uniform": (50, 0),
        "from_file a": (90, 99),
        "from_file b": (60, 70),
        "from_file c": (80, 60),
    }
    rows = [
        FACTS
        | {
            "task": "a",
            "init": init,
            "seed": seed,
            "test_score": test + seed,
            "validation_score": validation,
        }
        for init, (test, validation) in starts.items()
        for seed in (0, 2)
    ]
    assert transfer.other_arms(pd.DataFrame(rows)) == ""
    other = FACTS | {"arm": "more", "task": "a", "init": "", "validation_score": 0.0}
    rows += [other | {"seed": seed, "test_score": 70.0 + seed} for seed in (0, 2)]
    text = transfer.other_arms(pd.DataFrame(rows))
    assert "| target | at random | best source | more |" in text
    # Two seeds, one point from their mean each: 12.7 standard errors of 1.
    assert "| a | 51.0 [38.3, 63.7] | 61.0 [48.3, 73.7] | 71.0 [58.3, 83.7] |" in text


def test_starts_without_a_common_seed_are_named():
    rows = [
        FACTS | {"task": "a", "init": init, "seed": seed, "test_score": 50.0}
        for init, seed in (("uniform", 0), ("from_file b", 1))
    ]
    with pytest.raises(ValueError, match="no seed has a score of a from 'from_file b' and from"):
        transfer.gains(pd.DataFrame(rows))
    lost = pd.Series([], dtype=float)
    with pytest.raises(ValueError, match="no seed has a score of b, more: at least one is needed"):
        transfer.over_seeds(lost, "b, more")


def test_starts_are_told_apart_by_their_files():
    inits = {spec.labels["init"] for spec in specs("transfer") if spec.arms == ("starts",)}
    tasks = {spec.labels["task"] for spec in specs("transfer_sources")}
    assert inits == {"uniform"} | {f"from_file {task}" for task in tasks}


KEPT = ROOT / "experiments/extensions/results"


@pytest.mark.parametrize("path", sorted(KEPT.glob("*/results.csv")), ids=lambda x: x.parent.name)
def test_kept_tables_are_those_of_the_kept_results(path):
    folder, name = path.parent, path.parent.name
    results = statistics.load(folder)
    own = folder / f"{name}.json"
    rows = json.loads(own.read_text()) if own.is_file() else []
    if name == "data_efficiency":
        text = data_efficiency.markdown(results, data_efficiency.advantages(results))
    elif name == "transfer":
        found = {(row["source"], row["target"]): row for row in transfer.gains(results)}
        assert all(
            row["gain"] == pytest.approx(found[row["source"], row["target"]]["gain"])
            for row in rows
        )
        text = transfer.markdown(rows, transfer.correlations(rows)) + transfer.other_arms(results)
    elif name in ("ensemble", "interpretation"):
        text = {"ensemble": ensemble, "interpretation": interpretation}[name].markdown(rows)
    else:
        return
    assert (folder / f"{name}.md").read_text().endswith(text)
