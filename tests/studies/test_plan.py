"""Expansion of studies, the order of runs, and the estimate."""

import time
from pathlib import Path

import pytest

from spjax import config
from spjax.models.flops import forward_flops
from spjax.models.sizes import SIZES
from spjax.studies import cost, plan
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


def test_an_override_reaches_every_arm_that_uses_it():
    arms = {spec.arms for spec in expand("TRAIN_STEPS = 7") if "Run.steps = 7" in spec.text}
    assert arms == {("prompts",), ("full",)}
    lengths = {spec.labels["prompt_length"] for spec in expand("PROMPT_LENGTH = [2, 3]")}
    assert lengths == {0, 2, 3}
    assert {spec.labels["model"] for spec in expand("MODEL_SIZE = pocket_50k")} == {"pocket_50k"}
    assert load_study([STUDY], ["Study.name = other"])[0].name == "other"


@pytest.mark.parametrize(
    "override, message",
    [
        ("TRIAN_STEPS = 7", "nothing uses the binding 'TRIAN_STEPS'; did you mean 'TRAIN_STEPS'"),
        ("AdamW.learning_rate = 1", "nothing uses the binding 'AdamW.learning_rate'; did you mean"),
        ("Run.stepz = 7", "Run has no parameter 'stepz'; did you mean 'steps'.* Known: batch_size"),
        ("Run.method = @PromptTunin()", "unknown name 'PromptTunin'; did you mean 'PromptTuning'"),
        ("MODEL_SIZE = pocket_51k", "unknown model size .*pocket_12m.* Did you mean 'pocket_50k'"),
        ("TASKS = ['pocket_bolq']", "unknown task 'pocket_bolq'. Did you mean 'pocket_boolq'"),
        ("Study.nam = x", "Study has no parameter 'nam'; did you mean 'name'"),
        ("Study.arms = []", "one arm or more"),
        ("Study.name = 'a/b'", "cannot name a folder"),
        ("Study.metric = loss", "Study has no parameter 'metric'"),
        ("Study.gang_width = 0", "gang_width is 0; it must be 1 or more"),
        ("Arm.name = 'x'", "nothing uses the binding 'Arm.name'"),
        ("prompts/Arm.gin_files = ['no.gin']", "arm 'prompts': gin file 'no.gin' was not found"),
        ("prompts/Arm.bindings = {'STEPS': 1}", "arm 'prompts': nothing uses the binding 'STEPS'"),
        ("PROMPT_LENGTH = 0", "PROMPT_LENGTH is 0"),
    ],
)
def test_bad_input(override, message):
    with pytest.raises(ValueError, match=message):
        expand(override)


def test_every_experiment_expands(checkpoint):
    for path in sorted(ROOT.glob("experiments/**/*.gin")):
        text = path.read_text()
        if "Study.name" in text:
            here = [f"CHECKPOINTS = {{'default': {checkpoint!r}}}"] if "t5_1_1" in text else []
            assert expand(*here, file=path), path


def test_a_study_is_written_and_read_again(tmp_path):
    study, _ = load_study([STUDY])
    (tmp_path / "study.gin").write_text(config.config_str(study))
    assert config.canonical(load_study([tmp_path / "study.gin"])[0]) == config.canonical(study)


def test_gangs_hold_runs_that_differ_in_seed_or_rate_only():
    axes = {"SEED": [0, 1, 2], "PROMPT_LENGTH": [1, 5]}
    runs = plan.expand(Study("s", [Arm("a", FILES, axes, RUN)]))
    found = [[spec.labels["seed"] for spec in gang] for gang in plan.gangs(runs, 2)]
    assert sorted(found) == [[0, 1], [0, 1], [2], [2]]
    axes = {"SEED": [0, 1], "LEARNING_RATE": [0.1, 0.3]}
    runs = plan.expand(Study("s", [Arm("a", FILES, axes, RUN)]))
    assert len(plan.gangs(runs, 4)) == 1
    runs = plan.expand(Study("s", [Arm("a", FILES, axes, RUN | {"DROPOUT_RATE": 0.1})]))
    found = [{spec.labels["seed"] for spec in gang} for gang in plan.gangs(runs, 4)]
    assert found == [{0}, {1}], "masks are drawn for a gang, from its first seed"
    full = (*FILES[:2], "gin_configs/methods/full_fine_tuning.gin")
    runs = plan.expand(Study("s", [Arm("a", full, {"SEED": [0, 1, 2]}, RUN)]))
    assert len(plan.gangs(runs, 4)) == 3


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
    "seconds, text", [(42, "42 s"), (400, "7 min"), (7500, "2 h 05 min"), (89, "89 s")]
)
def test_durations(seconds, text):
    assert cost.duration(seconds) == text
