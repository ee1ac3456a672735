"""Studies joined: every run counts once, and nothing that disagrees is averaged."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import synthetic

import spjax
from spjax import config
from spjax.analysis import claims, evidence, joined, statistics
from spjax.analysis.criteria import CONTRADICTED, HOLDS, NOT_MEASURED
from spjax.files import write_json
from spjax.methods.prompt_tuning import PromptTuning
from spjax.studies.study import Arm, Study
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

ARM = Arm(name="prompts", gin_files=["x.gin"])


@pytest.fixture
def folders(results, tmp_path):
    """A scaling study, and one of model tuning on all tasks together, which ties with prompts."""
    results.loc[results["arm"] == "full", "test_score"] -= 5
    results["validation_metrics"] = results["test_metrics"] = '{"score": 1.0}'
    prompts = results.query("arm == 'prompts' and prompt_length == 100")
    random = np.random.default_rng(4)
    rows = []
    for (model, seed), runs in prompts.groupby(["model", "seed"]):
        scores = runs["test_score"] + random.normal(0, 0.3, len(runs))
        named = {f"{task}/score": score for task, score in zip(runs["task"], scores)}
        row = runs.iloc[0].to_dict() | {"study": "together", "arm": "multitask", "init": ""}
        row |= {"method": "full_fine_tuning", "prompt_length": 0, "task": "pocket_all"}
        row |= {"key": f"{model[-3:]}{seed}", "test_score": scores.mean()}
        row |= {"validation_score": scores.mean(), "majority_score": 99.0}
        text = json.dumps({**named, "score": scores.mean()})
        rows.append(row | {"test_metrics": text, "validation_metrics": text})
    return write(tmp_path, results), write(tmp_path, pd.DataFrame(rows))


def write(parent, results, figures=("score_over_size_by_method",)):
    name = results["study"].iloc[0]
    folder = parent / name
    folder.mkdir(exist_ok=True)
    results.to_csv(folder / "results.csv", index=False)
    study = Study(name=name, arms=[ARM], figures=figures)
    (folder / "study.gin").write_text(config.config_str(study))
    return folder


def verdicts(results):
    return {each.claim.id: each.verdict for each in claims.judge(evidence.of_results(results))}


def change(folder, query, **values):
    """Writes other values into the rows a query chooses, of which there have to be some."""
    results = pd.read_csv(folder / "results.csv")
    chosen = results.query(query).index
    assert len(chosen)
    for name, value in values.items():
        results.loc[chosen, name] = value
    results.to_csv(folder / "results.csv", index=False)


def test_multi_task_line_from_another_study(folders):
    scaling, together = folders
    assert verdicts(statistics.load(scaling))["C2"] == NOT_MEASURED
    rows = joined.read(folders)
    assert verdicts(rows)["C2"] == HOLDS
    part = rows[rows["arm"] == "multitask"]
    assert set(part["task"]) == set(synthetic.TASKS) and part["majority_score"].isna().all()
    whole = pd.read_csv(together / "results.csv").groupby("model")["test_score"].mean()
    np.testing.assert_allclose(part.groupby("model")["test_score"].mean(), whole)
    # What the paper does not claim is told as well.
    metrics = pd.read_csv(together / "results.csv")["test_metrics"].map(json.loads)
    better = metrics.map(lambda values: json.dumps({k: v + 8 for k, v in values.items()}))
    results = pd.read_csv(together / "results.csv").assign(test_metrics=better)
    results.to_csv(together / "results.csv", index=False)
    assert verdicts(joined.read(folders))["C2"] == CONTRADICTED


def test_order_of_folders_changes_no_estimate(folders):
    one, other = (evidence.of_results(joined.read(order)) for order in (folders, folders[::-1]))
    assert one.full.keys() == other.full.keys() and one.prompts.keys() == other.prompts.keys()
    for key, estimate in one.full.items():
        assert estimate.value == pytest.approx(other.full[key].value)


def test_tasks_without_their_names_in_the_text_are_the_same_tasks(folders):
    scaling, together = folders
    results = pd.read_csv(scaling / "results.csv")
    results.assign(task="taskless_" + results["task"]).to_csv(scaling / "results.csv", index=False)
    rows = joined.read(folders)
    assert set(rows["task"]) == {f"taskless_{task}" for task in synthetic.TASKS}


def test_another_name_of_a_mixture_arm_says_what_it_is(folders):
    change(folders[1], "arm == 'multitask'", arm="full")
    assert set(joined.read(folders).query("init == '' and arm != 'full'")["arm"]) == {
        "full_multitask"
    }


def test_mixture_without_single_tasks_beside_it_stays_one_score(folders):
    rows = joined.read([folders[1]])
    assert set(rows["task"]) == {"pocket_all"}


@pytest.mark.parametrize("arm", ["prompts", "lm_adaptation"])
def test_equal_keys_count_once(folders, results, tmp_path, arm):
    shared = results.query("arm == 'prompts' and prompt_length == 100")
    again = write(tmp_path, shared.assign(study="again", arm=arm))
    alone = statistics.load(folders[0])
    rows = joined.read([folders[0], again])
    assert len(rows) == len(alone)
    assert verdicts(rows) == verdicts(alone)


def test_an_older_study_has_one_draw_of_pretraining(folders, results, tmp_path):
    shared = results.query("arm == 'prompts' and prompt_length == 100")
    again = write(tmp_path, shared.assign(study="again", pretraining_seed=0))
    assert len(joined.read([folders[0], again])) == len(results)


@pytest.mark.slow
def test_items_of_a_run_on_several_tasks_are_not_those_of_one(folders):
    keys = [pd.read_csv(folder / "results.csv")["key"].iloc[0] for folder in folders]
    for folder, key in zip(folders, keys):
        table = pd.DataFrame({"key": [key], "scores": [[0.0, 100.0]]})
        table.to_parquet(folder / "items.parquet")
    rows = joined.read(folders)
    known = rows[rows[statistics.ITEM_SCORES].map(lambda scores: isinstance(scores, np.ndarray))]
    assert list(known["key"]) == keys[:1]
    alone = statistics.load(folders[1])
    assert alone[statistics.ITEM_SCORES].iloc[0].tolist() == [0, 100]
    result = spjax.plot(*folders)
    assert statistics.ITEM_SCORES not in pd.read_csv(result.folder / "results.csv")


def test_a_run_stays_in_every_role(folders, results, tmp_path):
    shared = results.query("arm == 'prompts' and prompt_length == 100")
    other = write(tmp_path, shared.assign(study="other", arm="adaptation_100000"))
    rows = joined.read([folders[0], other])
    assert len(rows[rows["arm"] == "adaptation_100000"]) == len(shared)
    # The ablation's rows are not those of the arm whose runs it shares.
    both = results[results["arm"] == "initialisation"].assign(study="inits", arm="initialisation")
    keys = shared.set_index(["model", "task", "seed"])["key"]
    labels = both["init"] == "class_labels"
    at = both.loc[labels].set_index(["model", "task", "seed"]).index
    both.loc[labels, "key"] = keys.reindex(at).to_numpy()
    scores = shared.set_index("key")["test_score"]
    both.loc[labels, "test_score"] = scores.reindex(both.loc[labels, "key"]).to_numpy()
    both["validation_score"] = both["test_score"] + 1
    first = write(tmp_path, shared.assign(study="first"))
    inits = write(tmp_path, both)
    rows = joined.read([first, inits])
    assert set(rows[rows["arm"] == "initialisation"]["init"]) == set(synthetic.INITS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_score": 12.5}, "test_score is .* and .*12.5"),
        ({"steps": 999}, "steps is 1000 and 999"),
        ({"test_score": np.nan}, "only one of them has a test_score"),
        ({"status": "diverged"}, "status is finished and diverged"),
    ],
)
def test_conflicting_results_of_a_run(folders, results, tmp_path, values, message):
    other = write(tmp_path, results[:40].assign(study="other"))
    change(other, "key == '000000000007'", **values)
    pair = f"run 000000000007 is in {re.escape(str(folders[0]))} and in {re.escape(str(other))}"
    with pytest.raises(ValueError, match=f"{pair}.*{message}.*Leave one of the folders out"):
        joined.read([folders[0], other])


@pytest.mark.slow
def test_scores_that_rounding_sets_apart_are_those_of_the_first_folder(folders, results, tmp_path):
    other = write(tmp_path, results[:40].assign(study="other"))
    run = "key == '000000000007'"
    score = results.query(run)["test_score"].item()
    change(other, run, test_score=score + 1e-13, best_step=450)
    pair = [folders[0], other]

    def notes():
        return joined.notes({folder: statistics.read(folder) for folder in pair})

    assert joined.read(pair) is not None and not notes()
    change(other, run, test_score=score - 0.25)
    assert joined.read(pair).query(run)["test_score"].item() == score
    (note,) = notes()
    assert note == (
        f"1 runs that are in {folders[0]} and in {other} have scores that differ by up to 0.2 "
        f"points; those of {folders[0]} are used."
    )
    assert joined.read(pair[::-1]).query(run)["test_score"].item() == score - 0.25
    assert note in spjax.plot(*pair, output_dir=tmp_path / "both").report
    for name in ("table.md", "claims.md"):
        assert note in (tmp_path / "both" / name).read_text()
    change(other, run, test_score=score - 1.5)  # more than the margin that decides a claim
    for read in (joined.read, lambda _: notes()):
        with pytest.raises(ValueError, match="run 000000000007 .*test_score is .*--reuse"):
            read(pair)


def test_starts_of_another_study_are_no_more_seeds_of_the_ablation(folders, results, tmp_path):
    ablation = results.query("arm == 'initialisation' and init == 'uniform'")
    short = ablation.assign(study="starts", arm="starts", steps=200, test_score=30.0)
    short["key"] = "b" + short["key"].str[1:]
    short["seed"] += ablation["seed"].max()  # one seed is the same, others are new
    rows = joined.read([folders[0], write(tmp_path, short)])
    runs = statistics.initialisation_runs(rows).query("init == 'uniform'")
    assert set(runs["arm"]) == {"initialisation"} and len(runs) == len(ablation)
    assert (rows["arm"] == "starts").sum() == len(short)


GRID_SCORES = {0.1: 68.5, 0.3: 88.5, 1.0: 60.0}


def grid(results, **values):
    """Runs of an arm at three learning rates; the key of 0.3 is that of the rows given."""
    parts = []
    for rate, score in GRID_SCORES.items():
        part = results.assign(learning_rate=rate, validation_score=score, test_score=score)
        part["key"] += "" if rate == 0.3 else str(rate)
        parts.append(part)
    return pd.concat(parts, ignore_index=True).assign(**values)


@pytest.mark.parametrize("arm", ["prompts", "grid"])
def test_an_arm_keeps_the_rates_that_it_chooses_from(results, tmp_path, arm):
    runs = results.query("arm == 'prompts' and prompt_length == 100 and model == 'pocket_3m'")
    both = grid(runs)
    one = write(tmp_path, both[both["learning_rate"] == 0.3].assign(study="one"))
    many = write(tmp_path, both.assign(study="many", arm=arm))
    for folders in ([one, many], [many, one]):
        rows = joined.read(folders)
        lines = statistics.main_runs(rows)
        assert set(lines["test_score"]) == {88.5} and not lines.duplicated(["line", "key"]).any()
        assert set(rows.loc[rows["arm"] == arm, "learning_rate"]) == {*GRID_SCORES}
    settings = both.assign(settings="A=" + both["learning_rate"].astype(str), learning_rate=0.1)
    one = write(tmp_path, settings[settings["settings"] == "A=0.3"].assign(study="one"))
    many = write(tmp_path, settings.assign(study="many", arm=arm))
    rows = joined.read([one, many])
    assert set(rows.loc[rows["arm"] == arm, "settings"]) == {f"A={rate}" for rate in GRID_SCORES}
    assert not statistics.main_runs(rows).duplicated(["line", "key"]).any()


def write_run(folder, key, seed=3, base="ab" * 32, **changes):
    run = Run("pocket_cb", "pocket_50k", PromptTuning(length=3), Adafactor(0.3), seed=seed)
    runs = folder / "runs" / key
    runs.mkdir(parents=True, exist_ok=True)
    (runs / "config.gin").write_text(config.config_str(dataclasses.replace(run, **changes)))
    write_json(runs / "result.json", {"status": "finished", "base_sha256": base})


@pytest.fixture
def more_seeds(results, tmp_path):
    """Folders of one line: seeds 0 and 1, and seed 2 under another name of the arm."""
    runs = results.query("arm == 'prompts' and prompt_length == 100 and model == 'pocket_50k'")
    first = write(tmp_path, runs[runs["seed"] < 2].assign(study="first"))
    more = write(tmp_path, runs[runs["seed"] == 2].assign(study="more", arm="again"))
    for folder in (first, more):
        for row in pd.read_csv(folder / "results.csv", dtype={"key": str}).itertuples():
            write_run(folder, row.key, row.seed)
    return first, more


def test_more_seeds_of_a_line(more_seeds):
    rows = joined.read(more_seeds)
    assert statistics.main_runs(rows)["line"].nunique() == 1
    for row in rows[rows["seed"] == 2].itertuples():  # the weights at another place
        write_run(more_seeds[1], row.key, 2, checkpoint="/elsewhere")
    assert len(joined.read(more_seeds)) == len(rows)


@pytest.mark.parametrize(
    ("columns", "run", "message"),
    [
        ({"steps": 500}, {}, "steps: 1000 and 500"),
        ({}, {"batch_size": 7}, "Run.batch_size: .* and 7"),
        ({}, {"base": "cd" * 32}, r"the frozen weights \(base_sha256\): abab.* and cdcd"),
    ],
)
def test_other_runs_are_no_more_seeds_of_a_line(more_seeds, columns, run, message):
    first, more = more_seeds
    change(more, "seed == 2", **columns)
    for row in pd.read_csv(more / "results.csv", dtype={"key": str}).itertuples():
        write_run(more, row.key, row.seed, **run)
    pair = f"{re.escape(str(first))} and {re.escape(str(more))} would count as seeds of one line"
    with pytest.raises(ValueError, match=f"{pair}.*pocket_50k.*differ in {message}"):
        joined.read([first, more])


def test_one_key_with_two_configurations(more_seeds, results, tmp_path):
    first, _ = more_seeds
    again = write(tmp_path, pd.read_csv(first / "results.csv", dtype={"key": str}))
    other = tmp_path / "other"
    shutil.copytree(again, other)
    key = next((other / "runs").iterdir()).name
    write_run(other, key, 0, batch_size=7)
    with pytest.raises(ValueError, match=f"run {key} is in .*another configuration: .*batch_size"):
        joined.read([first, other])


def test_different_runs_of_one_cell(folders, results, tmp_path):
    other = write(tmp_path, results[7:8].assign(study="other", key="abcdef123456"))
    message = f"{re.escape(str(folders[0]))} and .*other have different runs .*arm=prompts.*"
    with pytest.raises(ValueError, match=f"{message}seed=1.*: 000000000007 and abcdef123456"):
        joined.read([folders[0], other])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_parameters": 5}, "model pocket_.* has the model_parameters .* and 5 in .*other"),
        ({"majority_score": 12.5}, "task pocket_.* has the majority_score .* and 12.5 in .*other"),
        ({"test_score": np.nan}, "task pocket_.* the scored_on test in .* and validation in .*oth"),
    ],
)
def test_models_and_tasks_are_the_same_in_all_folders(folders, results, tmp_path, values, message):
    part = results[:1].assign(study="other", key="abcdef123456", arm="more", **values)
    other = write(tmp_path, part)
    with pytest.raises(ValueError, match=f"{message}.*Leave one of the folders out"):
        joined.read([folders[0], other])


def test_a_mixture_under_two_arms_counts_once(folders, tmp_path):
    rows = pd.read_csv(folders[1] / "results.csv").assign(study="again", arm="full")
    again = write(tmp_path, rows)
    assert len(joined.read([*folders, again])) == len(joined.read(folders))


def test_results_without_keys(folders, results, tmp_path):
    other = write(tmp_path, results[7:8].assign(study="other").drop(columns="key"))
    with pytest.raises(ValueError, match="other has no column key"):
        joined.read([folders[0], other])


@pytest.mark.slow
def test_plot_of_several_studies(folders, tmp_path):
    result = spjax.plot(*folders)
    assert result.folder == tmp_path / "scaling+together"
    assert [path.name for path in result.figures] == ["score_over_size_by_method.png"]
    table = pd.read_csv(result.folder / "figures" / "score_over_size_by_method.csv")
    several = "full fine-tuning, multi-task"
    assert set(table["line"]) == {"prompt tuning", "full fine-tuning", several}
    assert len(table) == 3 * len(synthetic.SIZES)
    assert (result.folder / "table.md").read_text().startswith("# scaling + together\n")
    assert "## C2: holds" in (result.folder / "claims.md").read_text()
    pd.testing.assert_frame_equal(result.results, joined.read(folders), check_dtype=False)
    assert result.finished == result.results["key"].nunique()
    with pytest.raises(ValueError, match="holds a study.*another folder with --output_dir"):
        spjax.plot(*folders, output_dir=folders[0])


@pytest.mark.slow
def test_plot_of_one_study(folders, tmp_path):
    result = spjax.plot(folders[0])
    assert result.folder == folders[0]
    elsewhere = spjax.plot(folders[0], output_dir=tmp_path / "out", figures="score_over_length")
    assert [path.name for path in elsewhere.figures] == ["score_over_length.png"]
    with pytest.raises(ValueError, match="scaling and .*scaling are the same folder: give it once"):
        spjax.plot(folders[0], tmp_path / "out" / ".." / "scaling")
    with pytest.raises(ValueError, match="no study folder is given"):
        spjax.plot()
    with pytest.raises(ValueError, match="unknown figure 'pie'"):
        spjax.plot(*folders, figures=["pie"])
    with pytest.raises(ValueError, match="unknown figure 'pie'"):
        spjax.plot(*folders, figures="score_over_size, pie")
    assert not (tmp_path / "scaling+together").exists()
