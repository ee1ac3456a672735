"""Bindings that a translation could read and then leave out without a word."""

import pytest

from spjax.config.t5x import translation
from spjax.config.t5x.draft import DIFFERS, NOT_NEEDED
from tests.config import t5x_flags

PROMPTS = "prompt_tuning/configs"
MODEL = f"{PROMPTS}/models/t5_1_1_base_prompt.gin"
WAYWARD = f"{PROMPTS}/extended/models/wayward_t5_1_1_base_prompt.gin"
LABELS = f"{PROMPTS}/prompts/from_class_labels.gin"
RUN = f"{PROMPTS}/runs/prompt_finetune.gin"
FULL = ("t5x/examples/t5/t5_1_1/base.gin", "t5x/configs/runs/finetune.gin")
FLAGS = (*t5x_flags.FLAGS, "train/utils.DatasetConfig.pack=False")
LOADED = "prompt_init/prompts.t5x_load"


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Installed packages do not count."""
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))


def texts(draft, kind):
    return [f"{row.binding} -> {row.text}" for row in draft.rows if row.kind == kind]


@pytest.mark.parametrize(
    "files, binding, reason",
    [
        ((MODEL, RUN), "utils.RestoreCheckpointConfig.dtype='float16'", "float32 or bfloat16"),
        ((MODEL, RUN), "utils.CheckpointConfig.restore=None", "another value than spjax's"),
        ((MODEL, LABELS, RUN), f"{LOADED}.checkpoint_path='/x/checkpoint_7'", "the frozen model"),
        ((MODEL, LABELS, RUN), f"{LOADED}.variable_path='x/embedding'", "the frozen model"),
        (FULL, "network.T5Config.mlp_activations=('silu', 'linear')", "T5's are"),
        (FULL, "network.T5Config.dtype='float32'", "bfloat16 on TPUs and GPUs"),
    ],
)
def test_a_value_that_is_read_and_has_no_counterpart_is_named(files, binding, reason):
    assert not texts(translation.translate(files, FLAGS), DIFFERS)
    (text,) = texts(translation.translate(files, [*FLAGS, binding]), DIFFERS)
    assert reason in text and binding.partition("=")[0].rpartition("/")[2].split(".")[-1] in text


def test_an_evaluation_of_some_examples():
    files = (MODEL, f"{PROMPTS}/runs/prompt_eval.gin")
    flags = ["PROMPT_FILE=/tmp/p.npy", "CHECKPOINT_PATH=/tmp/checkpoint_5", "EVAL_OUTPUT_DIR=/x"]
    flags += ["MIXTURE_OR_TASK_NAME=glue_rte_v002"]
    assert not texts(translation.translate(files, flags), DIFFERS)
    draft = translation.translate(files, [*flags, "seqio.Evaluator.num_examples=64"])
    assert texts(draft, DIFFERS) == ["EVALUATOR_NUM_EXAMPLES = 64 -> all examples are scored"]


def test_a_wayward_prompt_is_as_long_as_its_own_text():
    flags = [*FLAGS, "TASK_STRING='red and blue'"]
    assert translation.translate((WAYWARD, RUN), flags).settings["PROMPT_LENGTH"] == 3
    with pytest.raises(ValueError, match="encode_string.s = 'red' has no counterpart"):
        translation.translate((WAYWARD, RUN), [*flags, "wayward.encode_string.s='red'"])


def test_no_checkpoints_are_not_needed():
    draft = translation.translate((MODEL, RUN), [*FLAGS, "utils.SaveCheckpointConfig.period=None"])
    assert "Run.checkpoint_period" not in draft.settings and not texts(draft, DIFFERS)
    assert "utils.SaveCheckpointConfig.period -> spjax keeps" in "\n".join(texts(draft, NOT_NEEDED))
