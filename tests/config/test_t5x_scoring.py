"""Evaluations of T5X, translated into `spjax eval` and `spjax predict`."""

import pytest

from spjax.config.t5x import translation
from spjax.config.t5x.draft import DIFFERS

PROMPTS = "prompt_tuning/configs"
FILES = (f"{PROMPTS}/models/t5_1_1_base_prompt.gin", f"{PROMPTS}/runs/prompt_eval.gin")
FLAGS = (
    "PROMPT_FILE=/tmp/p.npy",
    "CHECKPOINT_PATH=/tmp/checkpoint_5",
    "EVAL_OUTPUT_DIR=/tmp/x",
    "MIXTURE_OR_TASK_NAME=glue_rte_v002",
)


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Installed packages do not count."""
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))


def translated(*more):
    return translation.translate(FILES, [*FLAGS, *more])


def differences(draft):
    return [f"{row.binding} -> {row.text}" for row in draft.rows if row.kind == DIFFERS]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits(split):
    draft = translated(f"utils.DatasetConfig.split={split}")
    assert dict(draft.flags)["split"] == split and not differences(draft)


def test_other_splits_are_named():
    draft = translated("utils.DatasetConfig.split='test[:9]'")
    assert "split" not in dict(draft.flags)
    assert "--split is train, validation or test" in differences(draft)[0]


def test_the_scope_of_the_data_counts():
    name = "own/utils.DatasetConfig"
    own = [
        f"{name}.split=train",
        f"{name}.batch_size=7",
        f"{name}.mixture_or_task_name='glue_cola_v002'",
    ]
    own += [name + ".task_feature_lengths={'inputs': 9, 'targets': 3}"]
    draft = translated("eval_script.evaluate.dataset_cfg=@own/utils.DatasetConfig()", *own)
    flags = dict(draft.flags)
    assert (flags["split"], flags["batch_size"], flags["task"]) == ("train", "7", "glue_cola_v002")
    assert (flags["input_length"], flags["target_length"]) == ("9", "3")
    with pytest.raises(ValueError, match="dataset_cfg = @x.Data.. has no counterpart"):
        translated("eval_script.evaluate.dataset_cfg=@x.Data()")
