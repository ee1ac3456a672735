"""Initial values do not depend on whether the layers of a model are stacked."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from tiny import small

from spjax import methods, trees
from spjax.methods.base import init_trainable
from spjax.models import T5Config
from spjax.models.t5 import weight_shapes

CONFIG = T5Config(64, 64, 4, 16, 96, 2, 2)
TRAINED = [name for name in methods.names() if methods.get(name).trained]


def bases():
    """A model with its layers stacked, and unrolled."""
    configs = [dataclasses.replace(CONFIG, scan_layers=scan) for scan in (True, False)]
    shapes = [weight_shapes(config) for config in configs]
    return [jax.tree.map(lambda x: np.resize([1.0, -1.0], x.shape), tree) for tree in shapes]


@pytest.mark.parametrize("name", TRAINED)
def test_stacked_layers_start_as_single_ones(name):
    method = small(name, rank=8) if name == "lora" else small(name)
    trees_of = [init_trainable(method, base, 0) for base in bases()]
    stacked, single = (
        {key: float(np.std(leaf)) for key, leaf in trees.flatten(tree).items()} for tree in trees_of
    )
    for leaf, spread in stacked.items():
        alike = [x for other, x in single.items() if re.sub(r"layers_\d+", "layers", other) == leaf]
        assert alike and spread == pytest.approx(np.mean(alike), rel=0.15), leaf
