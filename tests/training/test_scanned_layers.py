"""On accelerators the layers of a frozen model are a loop: the same numbers, and the same files."""

import json

import numpy as np
import pytest

import spjax
from spjax import partitioning
from spjax.checkpoints.frozen_model import FrozenModel
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import Uniform
from spjax.methods.input_bias import InputBias
from spjax.methods.lora import LoRA
from spjax.methods.multitask_prompt_tuning import MultitaskPromptTuning
from spjax.methods.p_tuning import PTuning
from spjax.methods.prefix_tuning import PrefixTuning
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training import loop
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

SLOW = pytest.mark.slow
METHODS = {
    "prompt_tuning": PromptTuning(length=5, initializer=Uniform()),
    "prefix_tuning": PrefixTuning(length=3, hidden=0),
    "p_tuning": PTuning(length=3, hidden=8),
    "input_bias": InputBias(),
    "multitask_prompt_tuning": MultitaskPromptTuning(length=3, initializer=Uniform()),
    "lora": LoRA(rank=2),
    "full_fine_tuning": FullFineTuning(),
}


@pytest.fixture
def scanned(monkeypatch):
    """Has this machine's models loop over their layers, as on an accelerator."""
    return lambda: monkeypatch.setattr(partitioning, "scans_layers", lambda: True)


def train(method, folder, **settings):
    """Trains four steps; returns losses and the result."""
    run = Run(
        task="pocket_copa",
        model="pocket_50k",
        method=method,
        optimizer=Adafactor(0.001 if method.changes_weights else 0.3),
        steps=4,
        eval_period=2,
        checkpoint_period=1,
        batch_size=8,
        eval_examples=16,
        **settings,
    )
    (result,) = loop.train([run], [folder])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line], result


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "prefix_tuning" else SLOW) for name in METHODS],
)
def test_training_has_the_same_losses_and_scores(name, scanned, tmp_path):
    losses, result = train(METHODS[name], tmp_path / "unrolled")
    scanned()
    looped, again = train(METHODS[name], tmp_path / "scanned")
    np.testing.assert_allclose(looped, losses, rtol=1e-4)
    assert again["base_sha256"] == result["base_sha256"]
    assert again["test"] == pytest.approx(result["test"], abs=1.0)


def test_layers_are_a_loop_and_those_that_a_method_changes_are_stacked_for_it(scanned):
    scanned()
    plain, changed = (
        Run("pocket_copa", "pocket_50k", METHODS[name], Adafactor(0.3), steps=1)
        for name in ("prompt_tuning", "lora")
    )
    assert plain.open_model().config.scan_layers
    assert "layers" in plain.open_model().weights["encoder"]
    assert changed.open_model().config.scan_layers
    assert "layers_0" in changed.open_model().weights["encoder"]
    assert changed.open_model().digest == plain.open_model().digest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_digest_is_that_of_the_unrolled_weights(dtype, scanned):
    digest = FrozenModel.open("pocket_50k", dtype=dtype).digest
    scanned()
    model = FrozenModel.open("pocket_50k", dtype=dtype)
    assert model.config.scan_layers and model.digest == digest


@SLOW
@pytest.mark.parametrize("name", ["prompt_tuning", "prefix_tuning", "lora"])
def test_what_was_trained_here_predicts_there(name, scanned, tmp_path):
    """A prompt of a CPU on an accelerator and the other way round."""
    texts = ["premise: the cup fell . question: effect choice1: it broke . choice2: it sang ."]
    train(METHODS[name], tmp_path / "unrolled")
    expected = spjax.load_predictor(tmp_path / "unrolled").predict(texts)
    scanned()
    train(METHODS[name], tmp_path / "scanned")
    assert spjax.load_predictor(tmp_path / "unrolled").predict(texts) == expected
    assert spjax.load_predictor(tmp_path / "scanned").predict(texts) == expected
