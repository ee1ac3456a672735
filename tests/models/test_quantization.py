"""A frozen base in int8: how far it is from float32, and that it costs a quarter."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.injection import Soft, join
from spjax.methods.base import init_trainable
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import ClassLabels, SampledVocabulary
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5, T5Config, quantization
from spjax.models.decoding import greedy
from spjax.models.quantization import Quantized
from spjax.models.t5 import weight_shapes
from spjax.types import Batch

CONFIG = T5Config(40, 16, 2, 8, 24, 2, 2)
TIED = dataclasses.replace(CONFIG, mlp_activations=("relu",), logits_via_embedding=True)
SCANNED = dataclasses.replace(CONFIG, scan_layers=True)


def random_tree(config):
    rng = np.random.default_rng(0)
    leaves = {}
    for name, leaf in trees.flatten(weight_shapes(config)).items():
        spread = 1.0 if "kernel" not in name else leaf.shape[0] ** -0.5
        leaves[name] = rng.normal(0, spread, leaf.shape).astype("float32")
    return trees.unflatten(leaves)


def batch():
    ids = np.random.default_rng(1).integers(2, 40, (3, 9)).astype("int32")
    slots = np.where(np.arange(9) < 4, np.arange(9), -1).astype("int32") + 0 * ids
    one = np.zeros((3, 1), "int32")
    return Batch(ids, slots, np.ones_like(ids), ids[:, :5], np.ones((3, 5), "int32"), one, one)


@pytest.mark.parametrize("axis", [0, -1])
def test_error_is_half_a_step(axis):
    array = np.random.default_rng(0).standard_t(3, (300, 40)).astype("float32")
    array[:, 3] = array[5] = 0
    made = quantization.quantize(array, axis)
    assert made.values.dtype == np.int8 and made.scales.dtype == np.float32
    assert made.scales.shape == ((1, 40) if axis == 0 else (300, 1))
    back = np.asarray(quantization.dequantize(made))
    assert np.all(np.abs(back - array) <= 0.501 * made.scales)
    largest = np.abs(array).max(axis, keepdims=True)
    np.testing.assert_allclose(np.abs(back).max(axis, keepdims=True), largest, rtol=2e-5)
    again = quantization.quantize(back, axis)
    np.testing.assert_array_equal(again.values, made.values)
    np.testing.assert_array_equal(again.scales, made.scales)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    array = np.ones((3, 4), "float32")
    array[1, 2] = bad
    with pytest.raises(ValueError, match="mlp/wo/kernel has NaN or infinite numbers"):
        quantization.quantize(array, 0, "mlp/wo/kernel")


def run(config, weights):
    """Logits, and the gradient of a loss with respect to a prompt."""
    rows, model = batch(), T5(config)
    prompt_PD = np.random.default_rng(2).normal(size=(4, 16)).astype("float32")

    def loss(prompt):
        logits = model.apply({"params": weights}, rows, join([Soft(prompt[None])]))
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), rows.targets_BM[..., None], -1)
        return -jnp.sum(own), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(prompt_PD)
    return np.asarray(logits, np.float64), np.asarray(gradient, np.float64)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.slow
@pytest.mark.parametrize("config", [CONFIG, TIED, SCANNED], ids=["t5_1_1", "t5_1_0", "scanned"])
def test_logits_and_prompt_gradient(config):
    weights = random_tree(config)
    rounded = quantization.quantize_tree(weights)
    exact, found = run(config, weights), run(config, rounded)
    # 127 levels: about half a percent of error for each product.
    assert 1e-5 < relative(found[0], exact[0]) < 0.03
    assert 1e-5 < relative(found[1], exact[1]) < 0.05
    # The numbers that int8 stands for, as float32, give the same to rounding.
    plain = jax.tree.map(
        quantization.dequantize, rounded, is_leaf=lambda leaf: isinstance(leaf, Quantized)
    )
    same = run(config, plain)
    assert relative(found[0], same[0]) < 1e-5 and relative(found[1], same[1]) < 1e-4


def test_bfloat16_activations():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    logits, gradient = run(config, quantization.quantize_tree(random_tree(CONFIG)))
    assert np.isfinite(logits).all() and np.isfinite(gradient).all()


def test_memory_is_about_a_quarter():
    config = T5Config(1152, 96, 4, 24, 160, 1, 1)
    weights = random_tree(config)
    rounded = quantization.quantize_tree(weights)
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (weights, rounded)]
    assert 0.25 < sizes[1] / sizes[0] < 0.29
    assert trees.count(rounded) == trees.count(weights)
    kinds = {name: type(leaf) for name, leaf in trees.flatten(rounded).items()}
    assert {name for name, kind in kinds.items() if kind is not Quantized} == {
        name for name in kinds if name.endswith(("/scale", "/rel_embedding"))
    }


@pytest.mark.slow
def test_no_float_copy_is_kept_while_computing():
    config = T5Config(64, 64, 2, 32, 512, 4, 4)
    weights = random_tree(config)
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    rounded, rows, model = quantization.quantize_tree(weights), batch(), T5(config)

    def loss(prompt, base):
        logits = model.apply({"params": base}, rows, join([Soft(prompt[None])]))
        return jnp.sum(jax.nn.logsumexp(logits, -1))

    def decode(base):
        return greedy(model, base, rows, None, 8)

    prompt = np.ones((4, 64), "float32")

    def memory(function, *args):
        found = jax.jit(function).lower(*args).compile().memory_analysis()
        return found.argument_size_in_bytes, found.temp_size_in_bytes

    for function, args in ((jax.grad(loss), (prompt,)), (decode, ())):
        arguments, rest = memory(function, *args, rounded)
        assert arguments < 0.3 * whole
        assert rest - memory(function, *args, weights)[1] < 0.1 * whole, function


def test_methods_on_an_int8_base():
    weights = random_tree(CONFIG)
    rounded = quantization.quantize_tree(weights)
    table = rounded["token_embedder"]["embedding"]
    for initializer in (SampledVocabulary(), ClassLabels(tokens=((3, 4), (5,)))):
        method = PromptTuning(length=4, initializer=initializer)
        made, exact = (init_trainable(method, base, 0)["prompt"] for base in (rounded, weights))
        assert made.dtype == jnp.float32
        assert 0 < np.abs(made - exact).max() <= 0.51 * np.asarray(table.scales).max()
    with pytest.raises(ValueError, match="this base is in int8, which has no gradient"):
        init_trainable(FullFineTuning(), rounded, 0)
