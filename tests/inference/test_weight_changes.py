"""Adapters that stand alone give the weights that training had."""

import dataclasses

import jax
import numpy as np
import pytest

from spjax import trees
from spjax.inference import weight_changes
from spjax.methods.base import init_trainable
from spjax.methods.ia3 import IA3
from spjax.methods.lora import LoRA
from spjax.models import T5Config, quantization
from spjax.models.t5 import init_weights

CONFIG = T5Config(64, 16, 3, 8, 24, 2, 2)
BOTH = ("query", "value", "wi_0", "wo")


def weights(config):
    return init_weights(config, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", [LoRA(rank=2, alpha=5.0, kernels=BOTH), IA3()])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_an_adapter_gives_the_weights_of_its_method(method, scan_layers):
    base = weights(dataclasses.replace(CONFIG, scan_layers=scan_layers))
    rng = np.random.default_rng(0)
    start = init_trainable(method, base, 0)
    trainable = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), start)
    expected, _ = method.apply({"params": trainable}, base)
    tensors = jax.device_get(method.collapse(trainable, base))
    expected = trees.flatten(trees.unstack_layers(expected))
    for one in (base, trees.unstack_layers(base)):  # whatever layout the base has
        made = trees.flatten(trees.unstack_layers(weight_changes.apply(one, tensors, "x")))
        assert made.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(made[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


def test_mistakes():
    base, name = weights(CONFIG), "encoder/layers_0/attention/query/kernel"
    a, b = np.ones((16, 2), np.float32), np.ones((2, 24), np.float32)
    good = {f"lora/{name}/a": a, f"lora/{name}/b": b}
    weight_changes.apply(base, good, "x")
    for tensors, message in [
        ({f"lora/{name}/a": a}, "x has {'a': .* for encoder/layers_0.*all of the adapter"),
        ({**good, f"lora/{name}/b": b[:, 1:]}, r"'b': \(2, 23\)"),
        ({k.replace("layers_0", "layers_7"): x for k, x in good.items()}, "this model has not"),
        ({"lora/.weight/lm_head": a}, "no factor of LoRA and no scale of IA3"),
        ({f"ia3/{name}": b}, r"x has {'': \(2, 24\)} for"),
    ]:
        with pytest.raises(ValueError, match=message):
            weight_changes.apply(base, tensors, "x")
    with pytest.raises(ValueError, match="these are in int8, which cannot be changed"):
        weight_changes.apply(quantization.quantize_tree(base), good, "x")
