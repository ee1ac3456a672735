"""A run that trains in a second."""

import pytest

from spjax.methods.initializers import SampledVocabulary
from spjax.methods.prompt_tuning import PromptTuning
from spjax.training.optimizers import Adafactor
from spjax.training.run import Run


@pytest.fixture
def run(checkpoint):
    return Run(
        task="pocket_cb",
        model="pocket_50k",
        method=PromptTuning(length=3, initializer=SampledVocabulary(600)),
        optimizer=Adafactor(0.3),
        checkpoint=checkpoint,
        steps=6,
        eval_period=3,
        batch_size=8,
        eval_examples=16,
        eval_batch_size=16,
    )
