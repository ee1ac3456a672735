"""Expansion of studies, the order of runs, and the estimate."""

import dataclasses
import json
import re
import shlex
import time
from pathlib import Path

import jax
import pytest

from spjax import config, files
from spjax.api import studies
from spjax.checkpoints.weights import weights
from spjax.models.flops import forward_flops
from spjax.models.sizes import SIZES, get_size
from spjax.models.t5 import init_weights
from spjax.studies import calibration, cost, devices, gang_widths, plan
from spjax.studies import study as study_module
from spjax.studies.study import Arm, Study, load_study
from tests.studies.fake_sweep import specs

ROOT = Path(__file__).parents[2]
STUDY = "experiments/pocket/quickstart.gin"
FILES = (
    "gin_configs/models/pocket.gin",
    "gin_configs/runs/pocket.gin",
    "gin_configs/methods/prompt_tuning.gin",
)
RUN = {"MODEL_SIZE": "pocket_50k", "MIXTURE_OR_TASK_NAME": "pocket_cb"}


@pytest.fixture(autouse=True)
def in_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def expand(*overrides, file=STUDY):
    study, rest = load_study([file], overrides)
    return plan.expand(study, rest)


def test_800_runs_expand_in_seconds():
    config.register_all()
    start = time.process_time()
    assert len({spec.key for spec in expand("SEEDS = [0, 1, 2]", file=STUDY)}) > 0
    axes = {"SEED": range(800)}
    assert len(plan.expand(Study("s", [Arm("a", FILES, axes, RUN)]))) == 800
    assert time.process_time() - start < 15


def test_keys_are_different_and_stable():
    first, second = expand(), expand()
    assert [spec.key for spec in first] == [spec.key for spec in second]
    assert len({spec.key for spec in first}) == len(first)


def test_equal_runs_of_two_arms_are_one():
    arms = [Arm("a", FILES, {"SEED": [0, 1]}, RUN), Arm("b", FILES, {"SEED": [1, 2]}, RUN)]
    found = {spec.labels["seed"]: spec.arms for spec in plan.expand(Study("s", arms))}
    assert found == {0: ("a",), 1: ("a", "b"), 2: ("b",)}


def test_axes_without_a_column_tell_runs_apart_in_the_table():
    axes = {"Adafactor.warmup_steps": [0, 5], "TRAIN_STEPS": [10, 20], "SEED": [0, 1]}
    arms = [Arm("a", FILES, axes, RUN), Arm("b", FILES, {"TRAIN_STEPS": [10], "SEED": [0]}, RUN)]
    specs = plan.expand(Study("s", arms))
    assert {spec.settings["a"] for spec in specs} == {
        f"warmup_steps={warmup}, TRAIN_STEPS={steps}" for warmup in (0, 5) for steps in (10, 20)
    }
    (shared,) = [spec for spec in specs if len(spec.arms) == 2]
    assert shared.settings == {"a": "warmup_steps=0, TRAIN_STEPS=10", "b": ""}
    # What is equal or has a column is left out.
    axes = {"LEARNING_RATE": [0.1, 0.3], "BATCH_SIZE": [8, 16], "DROPOUT_RATE": [0.0]}
    specs = plan.expand(Study("s", [Arm("a", FILES, axes, RUN)]))
    assert {spec.settings["a"] for spec in specs} == {"BATCH_SIZE=8", "BATCH_SIZE=16"}
    assert {text for spec in expand(file=STUDY) for text in spec.settings.values()} == {""}


def test_an_override_reaches_every_arm_that_uses_it():
    arms = {spec.arms for spec in expand("TRAIN_STEPS = 7") if "Run.steps = 7" in spec.text}
    assert arms == {("prompts",), ("full",)}
    lengths = {spec.labels["prompt_length"] for spec in expand("PROMPT_LENGTH = [2, 3]")}
    assert lengths == {0, 2, 3}
    assert {spec.labels["model"] for spec in expand("MODEL_SIZE = pocket_50k")} == {"pocket_50k"}
    assert load_study([STUDY], ["Study.name = other"])[0].name == "other"


def test_files_without_a_study_are_told_from_one():
    with pytest.raises(ValueError, match="give the gin file of a study, .*quickstart.gin"):
        load_study(FILES[:1], ["MODEL_SIZE = pocket_50k"])


def test_what_a_study_lacks(tmp_path):
    """The advice is what mends it: a name, or files of an arm."""
    path = tmp_path / "study.gin"
    text = "a/Arm.name = 'a'\na/Arm.gin_files = ['gin_configs/models/pocket.gin']\n"
    text += "a/Arm.axes = {'MODEL_SIZE': ['pocket_50k']}\nStudy.arms = [@a/Arm()]\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="Study needs a value for 'name'; give --gin.Study.name"):
        studies.plan_study([path], [], [], "results")
    wanted = (
        r"arm 'a': Run needs a value for .*; add gin_configs/runs/pocket.gin to Arm.gin_files, "
        r"MIXTURE_OR_TASK_NAME to Arm.axes or Arm.bindings, gin_configs/methods/prompt_tuning.gin "
        r"to Arm.gin_files, or the like"
    )
    with pytest.raises(ValueError, match=wanted):
        studies.plan_study([path], ["Study.name = s"], [], "results")
    with pytest.raises(ValueError, match="nothing uses the binding 'TASK_FILE'") as raised:
        studies.plan_study([STUDY], ["TASK_FILE = a.jsonl"], [], "results")
    assert "file.gin" not in str(raised.value)  # which an arm would have to name


def test_the_macros_of_the_study_come_before_those_of_its_runs():
    with pytest.raises(ValueError, match="did you mean 'SEEDS'. In use are: SEEDS, .* in the st"):
        studies.plan_study([STUDY], ["SEEDZ = [0]"], [], "results")
    with pytest.raises(ValueError, match="did you mean 'TRAIN_STEPS'"):
        studies.plan_study([STUDY], ["TRIAN_STEPS = 1"], [], "results")


@pytest.mark.parametrize(
    "override, message",
    [
        ("TRIAN_STEPS = 7", "nothing uses the binding 'TRIAN_STEPS'; did you mean 'TRAIN_STEPS'"),
        ("AdamW.learning_rate = 1", "nothing uses the binding 'AdamW.learning_rate'; did you mean"),
        ("Run.stepz = 7", "Run has no parameter 'stepz'; did you mean 'steps'.* Known: attention"),
        ("Run.method = @PromptTunin()", "unknown name 'PromptTunin'; did you mean 'PromptTuning'"),
        ("MODEL_SIZE = pocket_51k", "unknown model size .*pocket_12m.* Did you mean 'pocket_50k'"),
        ("TASKS = ['pocket_bolq']", "unknown task 'pocket_bolq'. Did you mean 'pocket_boolq'"),
        ("Study.nam = x", "Study has no parameter 'nam'; did you mean 'name'"),
        ("Study.arms = []", "one arm or more"),
        ("Study.name = 'a/b'", "cannot name a folder"),
        ("Study.metric = loss", "Study has no parameter 'metric'"),
        ("Study.gang_width = -1", "gang_width is -1; it must be a whole number of at least 0"),
        ("Arm.name = 'x'", "nothing uses the binding 'Arm.name'"),
        ("prompts/Arm.gin_files = ['no.gin']", "arm 'prompts': gin file 'no.gin' was not found"),
        ("prompts/Arm.bindings = {'STEPS': 1}", "arm 'prompts': nothing uses the binding 'STEPS'"),
        ("PROMPT_LENGTH = 0", "PROMPT_LENGTH is 0"),
    ],
)
def test_bad_input(override, message):
    with pytest.raises(ValueError, match=message):
        expand(override)


def test_every_experiment_expands(checkpoint, monkeypatch):
    monkeypatch.chdir(ROOT)  # one study reads weights of the clone
    for path in sorted(ROOT.glob("experiments/**/*.gin")):
        text = path.read_text()
        if "Study.name" in text:
            here = [f"CHECKPOINTS = {{'default': {checkpoint!r}}}"] if "t5_1_1" in text else []
            here += ["SEEDS = [0]"] * ("\nSEEDS = " in text)  # thousands of runs, all seeds alike
            assert expand(*here, file=path), path


def documented_overrides():
    """Lines of overrides in the heads of studies, with their studies."""
    for path in sorted(ROOT.glob("experiments/*/*.gin")):
        text = path.read_text()
        head = [line for line in text.splitlines() if line.startswith("#")]
        for line in head if "\nStudy.name" in text else ():
            flags = shlex.split("".join(line.partition("--gin.")[1:]))
            if flags:
                yield path, [word.removeprefix("--gin.") for word in flags]


def test_overrides_in_the_heads_of_studies_expand(checkpoint):
    seen = list(documented_overrides())
    assert {path.name for path, _ in seen} >= {"search.gin", "methods.gin"}
    for path, overrides in seen:
        here = (
            [f"CHECKPOINTS = {{'default': {checkpoint!r}}}"] if "t5_1_1" in str(overrides) else []
        )
        assert expand(*overrides, *here, file=path), (path, overrides)


def test_the_documented_arm_of_draws_expands(tmp_path):
    (text,) = re.findall(r"```\n(prompts/Arm.*?)```", (ROOT / "docs/claims.md").read_text(), re.S)
    assert len(text.splitlines()) == 5 and text.count("draws/") == 2
    params = init_weights(get_size("pocket_50k"), jax.random.key(0))
    for seed in (0, 1):
        recipe = json.dumps({"model": "pocket_50k", "seed": seed})
        weights.save(tmp_path / f"{seed}.safetensors", params, {"recipe": recipe}, "bfloat16")
    (tmp_path / "draws.gin").write_text(
        text.replace("draws/", f"{tmp_path}/") + "Study.name = 'draws'\n"
    )
    labels = [spec.labels for spec in expand(file=tmp_path / "draws.gin")]
    assert {each["model"] for each in labels} == {"pocket_50k"}
    assert [each["pretraining_seed"] for each in labels] == [0, 0, 0, 1, 1, 1]


def test_a_study_is_written_and_read_again(tmp_path):
    study, _ = load_study([STUDY])
    (tmp_path / "study.gin").write_text(config.config_str(study))
    assert config.canonical(load_study([tmp_path / "study.gin"])[0]) == config.canonical(study)


def gangs(axes, width, files=FILES, settings=RUN):
    runs = plan.expand(Study("s", [Arm("a", files, axes, settings)]))
    return plan.gangs(runs, width if callable(width) else lambda spec: width)


def test_gangs_hold_runs_of_one_model_that_leave_it_alone():
    axes = {"SEED": [0, 1], "PROMPT_LENGTH": [1, 5], "LEARNING_RATE": [0.1, 0.3]}
    assert [len(gang) for gang in gangs(axes, 3)] == [3, 3, 2]
    found = gangs({"MODEL_SIZE": ["pocket_50k", "pocket_200k"], "SEED": [0, 1]}, 4)
    assert [{spec.labels["model"] for spec in gang} for gang in found] == [
        {"pocket_50k"},
        {"pocket_200k"},
    ]
    assert len(gangs({"SEED": [0, 1]}, 4, settings=RUN | {"DROPOUT_RATE": 0.1})) == 2
    full = (*FILES[:2], "gin_configs/methods/full_fine_tuning.gin")
    assert len(gangs({"SEED": [0, 1, 2]}, 4, full)) == 3


def test_a_gang_is_as_wide_as_its_biggest_run_allows():
    axes = {"PROMPT_LENGTH": [1, 1 + 100]}
    short, long = (gang[0].positions for gang in gangs(axes, 1))
    assert long - short == 16 * 100  # BATCH_SIZE x more rows of prompt
    found = gangs(axes | {"SEED": [0, 1, 2]}, lambda spec: 2 * long // spec.positions)
    assert list(map(len, found)) == [3, 2, 1]


def test_width_is_one_on_cpu_and_measured_elsewhere(monkeypatch):
    two = plan.expand(Study("s", [Arm("a", FILES, {"SEED": [0, 1]}, RUN)]))
    spec = two[0]
    monkeypatch.setattr(devices, "accelerators", devices.Accelerators)
    assert gang_widths.widths(two)(spec) == 1 and gang_widths.widths(two, 3)(spec) == 3
    gpus = devices.Accelerators(devices.GPU, ["2", "5", "7"])
    monkeypatch.setattr(devices, "accelerators", lambda: gpus)
    visible = []

    def calibrated(spec, variables):
        visible.append(variables["CUDA_VISIBLE_DEVICES"])
        return 5 * spec.positions + 1

    monkeypatch.setattr(gang_widths, "calibrated", calibrated)
    assert gang_widths.widths(two)(spec) == 5 and gang_widths.widths(two, 3)(spec) == 3
    gang_widths.widths(two, devices_per_worker=2)
    assert visible == ["2", "2,5"]
    monkeypatch.setattr(gang_widths, "calibrated", lambda *args: 7)
    assert gang_widths.widths(two)(spec) == 1
    monkeypatch.setattr(gang_widths, "calibrated", lambda *args: pytest.fail("measured"))
    full = (*FILES[:2], "gin_configs/methods/full_fine_tuning.gin")
    alone = plan.expand(Study("s", [Arm("a", full, {"SEED": [0, 1]}, RUN)]))
    assert gang_widths.widths(alone)(alone[0]) == 1


def test_calibration_stops_where_throughput_does_or_memory_is_full():
    def limited(rows, length):
        if rows > 16:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 1.0

    assert calibration.saturation(lambda rows, length: max(rows, 8) * 1.0, 100)[0] == 800
    positions, rates = calibration.saturation(limited, 100, multiple=4)
    assert positions == 800 and [count for count, _ in rates] == [400, 800, 1600]
    assert calibration.saturation(lambda rows, length: 1.0, 2**18)[0] == 2**20
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        calibration.saturation(limited, 100, multiple=32)


@pytest.mark.slow
def test_a_calibration_is_kept(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("SPJAX_CACHE", str(tmp_path))
    settings = RUN | {"INITIAL_CHECKPOINT_PATH": checkpoint}
    (spec,) = plan.expand(Study("s", [Arm("a", FILES, {}, settings)]))
    monkeypatch.setattr(calibration, "_MOST", 512)
    measured = calibration.calibrate_text(spec.text)
    assert measured["model"] == "pocket_50k" and measured["positions"] == 512 * 4  # a row a device
    (path,) = (files.default_cache_dir() / "calibration").glob("*.json")
    path.write_text(json.dumps(measured | {"positions": 12345}))
    assert calibration.calibrate_text(spec.text)["positions"] == 12345
    broken = dataclasses.replace(spec, text="Run.stepps = 3\n")
    with pytest.raises(RuntimeError, match="the calibration of .* failed:(.|\n)*stepps"):
        gang_widths.calibrated(broken)


def test_workers_stay_in_their_group():
    queue = plan.Queue([[spec] for spec in specs(8)])  # two groups of four
    first, second = queue.take(None, []), queue.take(None, [(0,)])
    assert (first[0].group, second[0].group) == ((0,), (1,))
    for _ in range(3):
        assert queue.take((0,), [(1,)])[0].group == (0,)
    assert queue.take((0,), [(1,)]) is None  # what is left is not worth compiling again
    assert len(queue) == 3
    queue.put_back(first)
    assert queue.take((0,), [(1,)]) is first


def test_published_models_cost_what_is_known():
    # 2 operations for each weight and position; embeddings are looked up, not multiplied.
    small = forward_flops(SIZES["t5_1_1_small"], 1, 1)
    assert 2 * (77e6 - 32128 * 512) == pytest.approx(small, rel=0.02)


@pytest.mark.parametrize(
    "seconds, text",
    [
        *(
            (42, "42 s"),
            (400, "7 min"),
            (7500, "2 h 05 min"),
            (89, "89 s"),
            (71 * 3600, "71 h 00 min"),
        ),
        *((72 * 3600, "3 days"), (700 * 86400, "700 days"), (38433075 * 3600, "4,384 years")),
    ],
)
def test_durations(seconds, text):
    assert cost.duration(seconds) == text


def test_draws_of_one_size_differ_in_the_table(tmp_path):
    """With MODEL_SIZE = "auto" the recipe in the weights says the size and the seed."""
    paths = []
    for model, seed in (("graded_50k", 0), ("graded_50k", 1), ("graded_130k", 0)):
        paths.append(str(tmp_path / f"{model}_{seed}.safetensors"))
        recipe = json.dumps({"model": model, "seed": seed})
        params = init_weights(get_size(model), jax.random.key(seed))
        weights.save(Path(paths[-1]), params, {"recipe": recipe}, "bfloat16")
    arm = Arm("a", FILES, {"INITIAL_CHECKPOINT_PATH": paths}, {**RUN, "MODEL_SIZE": "auto"})
    table = plan.expand(Study("s", [arm]))
    labels = [(spec.labels["model"], spec.labels["pretraining_seed"]) for spec in table]
    assert labels == [("graded_50k", 0), ("graded_50k", 1), ("graded_130k", 0)]
    assert table[0].group == table[1].group != table[2].group


def capacity_arms(**settings):
    files_of_runs = ("gin_configs/models/pocket.gin", "gin_configs/runs/capacity.gin")
    files_of_runs += ("gin_configs/methods/prompt_tuning.gin",)
    files_of_runs += ("gin_configs/prompts/sampled_vocabulary.gin",)
    defaults = {"gin_files": files_of_runs, "tasks": ["associations"], "items": [4, 64]}
    defaults |= {"model_sizes": ["pocket_50k", "pocket_200k"], "numbers_per_item": [6, 12, 48]}
    return study_module.capacity_arms(**{**defaults, "rates": {"default": 0.2}, **settings})


def test_capacity_arms_space_lengths_by_width_and_share_gangs():
    arms = capacity_arms(draws=[0, 1], most_soft_tokens=100)
    lengths = {arm.name: list(arm.axes["PROMPT_LENGTH"]) for arm in arms}
    assert lengths == {
        "pocket_50k associations k4 1200 steps": [2, 3, 12],
        "pocket_50k associations k64 1200 steps": [24, 48],  # 192 are too many
        "pocket_200k associations k4 1200 steps": [1, 4],  # a half is rounded up
        "pocket_200k associations k64 1200 steps": [8, 16, 64],
    }
    specs = plan.expand(Study("s", arms))
    assert len({spec.gang for spec in specs}) == 2  # one for each model
    assert {spec.run.batch_size for spec in specs} == {4, 32}
    assert {spec.run.optimizer.steps_per_decay for spec in specs} == {60}


def test_capacity_arms_of_several_budgets_have_names_of_their_own():
    arms = capacity_arms(items=[4], steps=[600, 1200])
    assert len({arm.name for arm in arms}) == len(arms) == 4
    assert {arm.bindings["STEPS_PER_STAIR"] for arm in arms} == {30, 60}


def test_capacity_arms_without_a_length_are_refused():
    with pytest.raises(ValueError, match="has no length for associations, K=64 and pocket_50k"):
        capacity_arms(items=[64], most_soft_tokens=10)
