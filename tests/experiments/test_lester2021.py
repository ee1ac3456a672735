"""The number of runs of the studies of Lester et al. 2021, by the paper's own accounting.

Appendix A.2 counts 195 runs of baselines and ablations, and 18 of domain shift. One of the former
is of all eight tasks: three seeds of 65 configurations, which are five sizes times five lengths,
two more initializations, two more pre-training objectives, two more lengths of LM adaptation, and
model tuning on single tasks and on all together.
"""

import functools

import pytest

from spjax.studies import plan
from spjax.studies.study import load_study
from tests.config.small_run import ROOT

FOLDER = ROOT / "experiments" / "lester2021"
SIZES, TASKS, SEEDS = 5, 8, 3
OF_ONE = SIZES * TASKS * SEEDS  # configuration of prompts or model tuning, over all sizes
COUNTS = {
    # Five lengths and the 50 of table 4, two more initializations, model tuning, a decay offset.
    "scaling": (6 + 2 + 1 + 1) * OF_ONE,
    "objective": 3 * OF_ONE,
    "adaptation": 4 * OF_ONE,
    "multitask": SIZES * SEEDS,
    "domain_shift": 3 * 2 * SEEDS,
    "search": 20 * TASKS,
}


@functools.cache
def specs_of(name):
    study, overrides = load_study([str(FOLDER / f"{name}.gin")])
    return plan.expand(study, overrides)


def test_every_file_is_counted():
    studies = {path.stem for path in FOLDER.glob("*.gin") if "Study.arms" in path.read_text()}
    assert studies == set(COUNTS)
    others = {path.stem for path in FOLDER.glob("*.gin")} - studies
    assert others == {"lm_adaptation", "span_corruption"}  # of which each run makes one model


@pytest.mark.parametrize("name", COUNTS)
def test_runs_of_a_study(name):
    assert len(specs_of(name)) == COUNTS[name]


def test_all_studies_have_the_runs_of_the_paper():
    names = ("scaling", "objective", "adaptation", "multitask")
    specs = {spec.key: spec for name in names for spec in specs_of(name)}
    beyond = [
        spec
        for spec in specs.values()
        if spec.labels["prompt_length"] == 50  # table 4 alone
        or spec.run.optimizer.decay_offset
    ]
    assert len(beyond) == 2 * OF_ONE
    prompts = [spec for spec in specs.values() if spec.labels["method"] == "prompt_tuning"]
    assert len(prompts) - len(beyond) == 55 * TASKS * SEEDS
    tuned = [spec for spec in specs.values() if spec.labels["method"] == "full_fine_tuning"]
    together = [spec for spec in tuned if "multitask" in spec.arms]
    assert len(together) == SIZES * SEEDS and len(tuned) - len(together) == OF_ONE
    runs = (len(prompts) - len(beyond) + len(tuned) - len(together)) // TASKS + len(together)
    assert runs == 195 and len(specs_of("domain_shift")) == 18


def test_the_decay_offset_is_told_apart_by_settings():
    arm = [spec for spec in specs_of("scaling") if "decay_offset" in spec.arms]
    assert len(arm) == 2 * OF_ONE
    for spec in arm:
        offset = spec.run.optimizer.decay_offset
        assert spec.settings["decay_offset"] == f"decay_offset={offset}"
        assert (offset == 0) == ("prompts" in spec.arms)  # which are trained once


def test_model_tuning_restores_the_optimizer():
    for name in ("scaling", "multitask", "domain_shift"):
        tuned = [s.run for s in specs_of(name) if s.labels["method"] == "full_fine_tuning"]
        assert tuned and all(run.restore_optimizer for run in tuned)
