"""Searches: what is drawn, in rounds that follow from the results alone, and pruning."""

import csv
import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from spjax import config
from spjax.analysis import rates, statistics, trials
from spjax.api import studies
from spjax.files import write_text
from spjax.studies import plan, runner, search
from spjax.studies.search import Draws, Scored, Search
from spjax.studies.study import Arm, Study
from spjax.training.gang import gang_key
from tests.studies import fake_search

pytest.importorskip("optuna", reason="the extra optuna is not installed")

ROOT = Path(__file__).parents[2]
FILES = [f"gin_configs/{x}.gin" for x in ("models/pocket", "runs/pocket")]
FILES += ["gin_configs/methods/prompt_tuning.gin"]
RUN = {"MODEL_SIZE": "pocket_50k", "MIXTURE_OR_TASK_NAME": "pocket_cb", "TRAIN_STEPS": 20}
SPACE = {
    "LEARNING_RATE": {"low": 0.001, "high": 10.0, "log": True},
    "PROMPT_LENGTH": {"low": 1, "high": 9, "step": 4},
    "BATCH_SIZE": [8, 16],
}
STUDY = """
Study.name = "study"
Study.arms = [@Arm()]
Study.figures = []
Arm.name = "found"
Arm.gin_files = %FILES
Arm.bindings = {"MODEL_SIZE": "pocket_50k", "MIXTURE_OR_TASK_NAME": "pocket_cb", "TRAIN_STEPS": 20}
Arm.axes = {"SEED": [0, 1]}
Arm.search = @Search()
Search.space = {"LEARNING_RATE": {"low": 0.001, "high": 10.0, "log": True}, "BATCH_SIZE": [8, 16]}
Search.trials = 20
Search.batch = 5
Search.pruning = True
"""


@pytest.fixture(autouse=True)
def in_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def study(**options):
    arm = Arm("found", FILES, {"SEED": [0, 1]}, RUN, Search(SPACE, **options))
    return Study("study", [arm], figures=[])


def train(specs, folder):
    """Gives every run a result."""
    for spec in specs:
        write_text(spec.folder(folder) / "config.gin", spec.text)
        fake_search.train([spec.folder(folder)], None)


def drawn(specs):
    """The drawn values of each run, in order."""
    return [
        (
            spec.run.optimizer.learning_rate,
            spec.run.method.prompt_length,
            spec.run.batch_size,
            spec.run.seed,
        )
        for spec in specs
    ]


@pytest.mark.slow
def test_rounds_follow_from_the_results_in_the_folder(tmp_path):
    searched = study(trials=10, batch=4)
    rounds = [plan.expand(searched, folder=tmp_path)]
    assert len(rounds[0]) == 2 * 4
    assert drawn(plan.expand(searched)) == drawn(rounds[0])
    train(rounds[0][:-1], tmp_path)  # without the scores of all there is no next round
    assert drawn(plan.expand(searched, folder=tmp_path)) == drawn(rounds[0])
    for count in (8, 10, 10):
        train(plan.expand(searched, folder=tmp_path), tmp_path)
        rounds.append(plan.expand(searched, folder=tmp_path))
        assert len(rounds[-1]) == 2 * count
        assert drawn(rounds[-1])[: len(rounds[-2])] == drawn(rounds[-2])
    for rate, length, batch, _ in drawn(rounds[-1]):
        assert 0.001 <= rate <= 10 and float(f"{rate:.4g}") == rate
        assert length in (1, 5, 9) and batch in (8, 16)
    assert [x[:3] for x in drawn(rounds[-1])[::2]] == [x[:3] for x in drawn(rounds[-1])[1::2]]
    # A longer search begins with the same trials, and other scores lead elsewhere.
    longer = plan.expand(study(trials=12, batch=4), folder=tmp_path)
    assert drawn(longer)[:16] == drawn(rounds[-1])[:16]
    assert drawn(plan.expand(study(trials=10, batch=4, seed=1))) != drawn(rounds[0])


def test_later_rounds_are_nearer_to_the_best_on_validation_not_on_test():
    """The sampler learns, from scores whose opposite the test set has."""
    draws = Draws(Search({"LEARNING_RATE": SPACE["LEARNING_RATE"]}, trials=60, batch=10))
    means = []
    while trials := draws.ask():
        distances = [abs(trial["LEARNING_RATE"] - 0.3) for trial in trials]
        means.append(sum(distances) / len(distances))
        draws.tell([[Scored(-distance, {})] for distance in distances])
    assert sum(means[-3:]) < sum(means[:3]) / 3


def test_test_scores_are_not_read(tmp_path):
    train(plan.expand(study(trials=8, batch=4)), tmp_path)
    before = drawn(plan.expand(study(trials=8, batch=4), folder=tmp_path))
    for path in tmp_path.glob("runs/*/result.json"):
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"test": {"score": random.random()}}))
    assert drawn(plan.expand(study(trials=8, batch=4), folder=tmp_path)) == before


def test_runs_are_pruned_below_the_median_of_earlier_rounds():
    draws = Draws(Search(SPACE, trials=10, batch=5, pruning=True))
    draws.ask()
    assert draws.stop_below(0) == ()
    scores = [10.0, 50.0, 20.0, 30.0, 40.0]
    draws.tell([[Scored(x, {10: x, 20: x + 1}), Scored(0, {10: 0})] for x in scores])
    assert draws.stop_below(0) == ((10, 30.0), (20, 31.0)) and draws.stop_below(1) == ((10, 0.0),)
    draws.ask()
    draws.tell([[Scored(100, {10: 100}, pruned=True), Scored(0, {})]] * 5)
    assert draws.stop_below(0) == ((10, 30.0), (20, 31.0))  # pruned trials are not complete
    unpruned = Draws(Search(SPACE, trials=10, batch=5))
    unpruned.ask()
    unpruned.tell([[Scored(x, {10: x})] for x in scores])
    assert unpruned.stop_below(0) == ()


def test_a_run_that_no_search_prunes_keeps_its_key():
    (spec,) = plan.expand(Study("s", [Arm("a", FILES, {}, RUN)]))
    assert "stop_below" not in spec.text
    pruned = dataclasses.replace(spec.run, stop_below=((10, 30.0),))
    assert config.run_key(pruned) != spec.key
    assert gang_key(pruned) == spec.gang


def test_equal_trials_are_trained_once(tmp_path):
    arm = Arm("a", FILES, {}, RUN, Search({"BATCH_SIZE": [8, 16]}, trials=6, batch=3))
    for _ in range(3):
        train(specs := plan.expand(Study("s", [arm]), folder=tmp_path), tmp_path)
    assert 1 <= len(specs) <= 2


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "Search.space is {}; give one setting or more"),
        ({"A": 3}, "cannot draw 'A' from 3: it is neither a list nor a dict"),
        ({"A": []}, r"cannot draw 'A' from \[\]"),
        ({"A": {"low": 1}}, "'low' and 'high' must be numbers. Give a list of values"),
        ({"A": {"low": 2, "high": 1}}, "`low <= high` must hold"),
        ({"A": {"low": 0.0, "high": 1.0, "log": True}}, "`low > 0` must hold"),
        ({"A": {"low": 0.0, "high": 1.0, "lgo": True}}, "unexpected keyword argument 'lgo'"),
        ({"SEED": [1]}, "both searches and sets 'SEED'"),
        ({"LERNING_RATE": [0.1]}, "arm 'a': nothing uses the binding 'LERNING_RATE'"),
    ],
)
def test_a_wrong_space_is_refused(space, message):
    with pytest.raises(ValueError, match=message):
        plan.expand(Study("s", [Arm("a", FILES, {"SEED": [0]}, RUN, Search(space))]))


@pytest.mark.parametrize(
    "options", [{"trials": 0}, {"batch": 0}, {"sampler": "grid"}, {"seed": -1}, {"trials": 2.5}]
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match=f"Search.{next(iter(options))} is"):
        Search(SPACE, **options)


def test_axes_without_a_column_are_refused():
    changed = study()
    (arm,) = changed.arms
    axes = {"BATCH_SIZE": [8, 16]}
    space = {name: values for name, values in SPACE.items() if name != "BATCH_SIZE"}
    other = dataclasses.replace(arm, axes=axes, search=Search(space, trials=2, batch=2))
    with pytest.raises(
        ValueError, match=r"no column for \(BATCH_SIZE=\d+\); put it into Search.sp"
    ):
        plan.expand(dataclasses.replace(changed, arms=[other]))


def test_fine_steps_and_narrow_ranges_keep_their_digits():
    fine = {"low": 0.0, "high": 1.0, "step": 0.00001}
    narrow = {"low": 0.0001234567, "high": 0.0001234569}
    drawn = Draws(Search({"a": fine, "b": narrow, "c": {"low": 0.0, "high": 10.0}}, batch=9)).ask()
    assert len({values["b"] for values in drawn}) == 9
    assert all(values["a"] * 1e5 == pytest.approx(round(values["a"] * 1e5)) for values in drawn)
    assert any(round(values["a"], 4) != values["a"] for values in drawn)
    assert all(len(f"{values['c']:.15g}") <= 7 for values in drawn)


def test_an_arm_without_optuna_is_named_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match="^arm 'found': its search needs the package optuna"):
        plan.expand(study())


def test_what_is_searched_cannot_be_set():
    with pytest.raises(ValueError, match="BATCH_SIZE is searched, so it cannot be set"):
        plan.expand(study(), ["BATCH_SIZE = 8"])
    specs = plan.expand(study(batch=2), ["SEED = [3]"])
    assert [spec.run.seed for spec in specs] == [3, 3]


def test_another_version_of_optuna_does_not_draw_anew(tmp_path):
    search.check_version(tmp_path / "study")
    search.check_version(tmp_path / "study")
    write_text(tmp_path / "study" / "search.json", '{"optuna": "4.0.0"}')
    with pytest.raises(ValueError, match=r"drawn by Optuna 4.0.0, .* pip install optuna==4.0.0"):
        search.check_version(tmp_path / "study")
    with pytest.raises(ValueError, match=r"study/search.json and s3://b/study/search.json to acc"):
        search.check_version(tmp_path / "study", "s3://b/study")


def start(tmp_path, name, *more):
    path = tmp_path / "study.gin"
    path.write_text(f"FILES = {FILES}\n{STUDY}")
    command = [sys.executable, "-m", "tests.studies.fake_search", "sweep", f"--gin_file={path}"]
    command += [f"--output_dir={tmp_path / name}", *more]
    return subprocess.Popen(
        command,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_killed_sweeps_and_other_workers_give_the_same_table(tmp_path):
    output = finish(start(tmp_path, "whole", "--workers=1"))
    table = (tmp_path / "whole" / "study" / "results.csv").read_text()
    folder = tmp_path / "killed" / "study"
    for count in (3, 23):
        process = start(tmp_path, "killed", "--workers=2")
        end = time.monotonic() + 120
        while len(list(folder.glob("runs/*/result.json"))) < count:
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path, "killed", "--workers=2"))
    assert (folder / "results.csv").read_text() == table
    rows = list(csv.DictReader(table.splitlines()))
    states = Counter(row["status"] for row in rows)
    assert len(rows) == 40 and states["pruned"] > 2 and states["finished"] > 10
    assert all((row["test_score"] == "") == (row["status"] == "pruned") for row in rows)
    assert f"{states['pruned']} of them were pruned by a search" in output
    # Every trial is listed, the best on validation in bold, and it alone is in other tables.
    results = statistics.load(folder)
    best = max(rows, key=lambda row: float(row["validation_score"]))
    assert best["settings"].startswith("trial=")
    shown = trials.markdown(results)
    assert shown.count("\n| found |") == 20 and f"| **{best['settings']}** | 2 |" in shown
    assert "| 2 pruned | - |" in shown and shown.count("**trial=") == 1
    assert set(rates.chosen(results)["settings"]) == {best["settings"]}
    assert "Nothing to do: 40 runs finished" in finish(start(tmp_path, "killed"))


@pytest.mark.slow
def test_python_trains_all_rounds(tmp_path, monkeypatch):
    path = tmp_path / "study.gin"
    path.write_text(f"FILES = {FILES}\n{STUDY}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(runner, "prepare_data", lambda specs: None)
    sweep = functools.partial(runner.sweep, train="tests.studies.fake_search:train")
    monkeypatch.setattr(runner, "sweep", sweep)
    few = {"Search.trials": 4, "Search.batch": 2}
    result = studies.sweep(path, few, output_dir=tmp_path / "out", workers=1)
    assert result.finished == 8 and "P = 100" in result.report
    assert len(result.results) == 8


def test_a_study_from_gin_is_stored_with_its_search(tmp_path):
    path = tmp_path / "study.gin"
    path.write_text(f"FILES = {FILES}\n{STUDY}")
    planned = studies.plan_study([str(path)], ["Search.batch = 3"], [], tmp_path / "out")
    assert len(planned.specs) == 6
    assert "draws 20 trials in rounds of 3" in planned.estimate()
    write_text(tmp_path / "stored" / "study.gin", config.config_str(planned.study))
    stored = config.load_stored("Study", tmp_path / "stored" / "study.gin")
    assert config.config_str(stored) == config.config_str(planned.study)
    assert (stored.arms[0].search.batch, stored.arms[0].search.pruning) == (3, True)


def test_trials_are_numbered_over_all_rounds(tmp_path):
    train(plan.expand(study(trials=5, batch=2)), tmp_path)
    specs = plan.expand(study(trials=5, batch=2), folder=tmp_path)
    numbers = [spec.settings["found"].partition(",")[0] for spec in specs]
    assert numbers == [f"trial={n}" for n in (1, 2, 3, 4) for _ in range(2)]
