"""Attention without logits: called as cuDNN wants it, with the numbers of the plain one."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from spjax.models import T5, T5Config, fused
from spjax.models.t5 import init_weights
from spjax.training import mesh
from spjax.types import Batch, Injection

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
    fused.agrees.cache_clear()
    with jax.numpy_dtype_promotion("standard"):  # JAX's own function needs it
        yield found
    fused.agrees.cache_clear()


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


def through(config, length, how=lambda function, *args: jax.jit(function)(*args)):
    """The gradient of a sum of logits with respect to a prompt, and the logits."""
    prompt = jax.random.normal(jax.random.key(1), (3, CONFIG.emb_dim))
    model = T5(config)

    def run(prompt):
        base = init_weights(CONFIG, jax.random.key(0))
        injection = Injection(prompt, np.zeros((1, 1), np.int32) + np.arange(3))
        logits = model.apply({"params": base}, batch(length), injection, False)
        return jnp.sum(logits * jnp.arange(64.0) / 64), logits

    return how(jax.grad(run, has_aux=True), prompt)


def test_the_model_has_the_same_numbers(calls):
    config = dataclasses.replace(CONFIG, fused_attention=True)
    for own, plain in zip(through(config, 70), through(CONFIG, 70), strict=True):
        own, plain = np.asarray(own), np.asarray(plain)
        np.testing.assert_allclose(own, plain, atol=0.03 * np.abs(plain).max())
    assert calls == [(2, 70, 4, 8)] * 2  # the encoder's layers; nothing else is that long
    calls.clear()
    for length in (63, 71):  # too short; odd
        through(config, length, jax.eval_shape)
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


def test_it_is_used_where_it_agrees(calls, monkeypatch, caplog):
    assert not fused.agrees(8)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fused.agrees.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert mesh.for_devices(CONFIG).fused_attention and not caplog.messages
    assert not mesh.for_devices(CONFIG, frozen=False).fused_attention
    known = jax.nn.dot_product_attention
    wrong = functools.partial(lambda *args, scale, **named: known(*args, scale=0.5, **named))
    monkeypatch.setattr(jax.nn, "dot_product_attention", wrong)
    fused.agrees.cache_clear()
    assert not mesh.for_devices(CONFIG).fused_attention
    assert "cuDNN's attention is not used: it is off by" in caplog.text


def test_a_device_without_the_kernel_goes_without(monkeypatch, caplog):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fused.agrees.cache_clear()
    assert not fused.agrees(8)
    fused.agrees.cache_clear()
    assert "cuDNN's attention is not used: " in caplog.text
