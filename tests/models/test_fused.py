"""Attention by cuDNN: called as it wants to be, with the numbers of XLA's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from benchmarks import accelerators
from spjax.injection import Injection
from spjax.models import T5, T5Config, fused
from spjax.models.t5 import init_weights
from spjax.types import Batch

CONFIG = T5Config(64, 32, 4, 8, 64, 2, 1, dtype="bfloat16")


@pytest.fixture
def calls(monkeypatch):
    """XLA in place of cuDNN; a list of the shapes of the queries."""
    known, found = jax.nn.dot_product_attention, []

    def attend(query, *rest, implementation, **named):
        assert implementation == "cudnn" and named["bias"].dtype == query.dtype == jnp.bfloat16
        found.append(query.shape)
        return known(query, *rest, implementation="xla", **named)

    monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
    with jax.numpy_dtype_promotion("standard"):  # JAX's own function needs it
        yield found


def batch(length):
    """Two rows: two examples with prompts in the first, one and padding in the second."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(3, 60, (2, length)).astype(np.int32)
    segments = np.ones_like(inputs)
    segments[0, length // 2 :], segments[1, -7:] = 2, 0
    slots = np.full_like(inputs, -1)
    slots[:, :3] = slots[0, length // 2 : length // 2 + 3] = [0, 1, 2]
    targets = rng.integers(3, 60, (2, 4)).astype(np.int32)
    target_segments = np.array([[1, 1, 2, 2], [1, 1, 1, 0]], np.int32)
    zeros = np.zeros((2, 2), np.int32)
    return Batch(inputs, slots, segments, targets, target_segments, zeros, zeros)


@pytest.fixture(scope="module")
def base():
    return jax.jit(init_weights, static_argnums=0)(CONFIG, jax.random.key(0))


def through(config, base, length, how=lambda function, *args: jax.jit(function)(*args)):
    """The gradient of a sum of logits with respect to a prompt, and the logits."""
    prompt = jax.random.normal(jax.random.key(1), (3, CONFIG.emb_dim))
    model = T5(config)

    def run(prompt, base):
        injection = Injection(prompt, np.zeros((1, 1), np.int32) + np.arange(3))
        logits = model.apply({"params": base}, batch(length), injection, False)
        return jnp.sum(logits * jnp.arange(64.0) / 64), logits

    return how(jax.grad(run, has_aux=True), prompt, base)


def test_the_model_has_the_same_numbers(calls, base):
    config = dataclasses.replace(CONFIG, attention="cudnn")
    for own, plain in zip(through(config, base, 128), through(CONFIG, base, 128), strict=True):
        own, plain = np.asarray(own), np.asarray(plain)
        np.testing.assert_allclose(own, plain, atol=0.03 * np.abs(plain).max())
    assert calls == [(2, 128, 4, 8)] * 2  # the encoder's layers; the decoder has 4 positions
    calls.clear()
    for length in (64, 192):  # not a multiple of 128
        through(config, base, length, jax.eval_shape)
    assert not calls


def test_it_lowers_to_cudnn_s_kernels(monkeypatch):
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda _: True)
    shape = jax.ShapeDtypeStruct((2, 4, 128, 64), jnp.bfloat16)
    bias = jax.ShapeDtypeStruct((2, 4, 128, 128), jnp.float32)

    def loss(q, k, v, bias):
        return fused.attention(q, k, v, bias).astype(jnp.float32).sum()

    given = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(shape, shape, shape, bias)
    text = given.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaScaleBiasSoftmax(" in text or '__cudnn$fmhaScaleBiasSoftmax"' in text
    assert "__cudnn$fmhaScaleBiasSoftmaxBackward" in text


@pytest.mark.slow
def test_the_benchmark_sees_what_is_wrong(calls, monkeypatch):
    monkeypatch.setattr(accelerators, "LONGEST", 256)  # two lengths
    assert accelerators.disagreement(8) < 0.05
    right = fused.attention
    monkeypatch.setattr(fused, "attention", lambda q, k, v, bias: right(q, k, v, 0.9 * bias))
    assert accelerators.disagreement(8) > 0.1

    @jax.custom_vjp
    def gradients_lost(*args):
        return right(*args)

    def back(shapes, ahead):
        return *(jnp.full_like(x, jnp.nan) for x in shapes), None

    gradients_lost.defvjp(lambda *args: (right(*args), args[:3]), back)
    monkeypatch.setattr(fused, "attention", gradients_lost)
    assert np.isnan(accelerators.disagreement(8))


def test_where_it_cannot_be_used(monkeypatch):
    fused.check("xla", 6, 4)
    with pytest.raises(ValueError, match="'cudnn', which needs an NVIDIA GPU, and JAX runs on cpu"):
        fused.check("cudnn", 6, 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fused.check("cudnn", 6, 2)
    with pytest.raises(ValueError, match=r"num_partitions \(4\) does not divide the 6 heads"):
        fused.check("cudnn", 6, 4)
