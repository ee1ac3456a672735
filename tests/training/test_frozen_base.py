"""The frozen base of a run: its dtype, and a model without a row in the sizes table."""

import dataclasses

import jax
import numpy as np
import pytest

from spjax.checkpoints.weights import weights
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5Config, get_size, quantization
from spjax.models.t5 import weight_shapes
from spjax.training import trainer
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run

RUN = Run("pocket_sentiment", "pocket_50k", PromptTuning(2), Adafactor(learning_rate=0.1))
CONFIG = T5Config(40, 8, 2, 3, 12, 1, 2)


def test_dtypes():
    for dtype in quantization.DTYPES:
        assert dataclasses.replace(RUN, weights_dtype=dtype).weights_dtype == dtype
    with pytest.raises(ValueError, match="'float16': allowed are .*overflows"):
        dataclasses.replace(RUN, weights_dtype="float16")
    with pytest.raises(ValueError, match="full_fine_tuning changes the weights, and .*'int8'"):
        dataclasses.replace(RUN, weights_dtype="int8", method=FullFineTuning())


def test_the_shape_of_the_checkpoint(tmp_path):
    path = str(tmp_path / "w.safetensors")
    tree = jax.tree.map(lambda leaf: np.ones(leaf.shape, "f"), weight_shapes(CONFIG))
    weights.save(tmp_path / "w.safetensors", tree, {})
    run = dataclasses.replace(RUN, model="auto", checkpoint=path, dropout_rate=0.1)
    config = trainer.step_config(run, weights.config_of("auto", path), [run.method]).model
    assert config == dataclasses.replace(CONFIG, dropout_rate=0.1)
    config = trainer.step_config(RUN, RUN.open_model().config, [RUN.method]).model
    assert config == get_size("pocket_50k")
    with pytest.raises(ValueError, match="'auto' is the one that INITIAL_CHECKPOINT_PATH holds"):
        dataclasses.replace(RUN, model="auto")
    with pytest.raises(ValueError, match="unknown model size"):
        dataclasses.replace(RUN, model="t5")
