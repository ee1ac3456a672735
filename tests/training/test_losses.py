import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spjax.models.losses import token_losses
from spjax.training.losses import run_losses, total


def logits(seed=0):
    return jax.random.normal(jax.random.key(seed), (2, 3, 11)) * 3


TARGETS = jnp.array([[1, 2, 10], [0, 5, 5]], jnp.int32)


def test_cross_entropy_is_optax_s():
    expected = optax.losses.softmax_cross_entropy_with_integer_labels(logits(), TARGETS)
    np.testing.assert_allclose(token_losses(logits(), TARGETS), expected, rtol=1e-5)


def test_z_loss_is_the_squared_log_normalizer():
    extra = token_losses(logits(), TARGETS, z_loss=0.5) - token_losses(logits(), TARGETS)
    log_z = np.log(np.sum(np.exp(np.asarray(logits(), np.float64)), -1))
    np.testing.assert_allclose(extra, 0.5 * log_z**2, rtol=1e-4)


def test_label_smoothing_against_the_explicit_distribution():
    s, size = 0.1, 11
    target = np.full((2, 3, size), s / (size - 1))
    np.put_along_axis(target, np.asarray(TARGETS)[..., None], 1 - s, axis=-1)
    log_p = np.asarray(jax.nn.log_softmax(logits()), np.float64)
    expected = -(target * log_p).sum(-1) + (target * np.log(target)).sum(-1)
    smoothed = token_losses(logits(), TARGETS, label_smoothing=s)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-4, atol=1e-5)


LOSSES = jnp.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
SEGMENTS = np.array([[1, 1, 0], [1, 2, 2]], np.int32)
RUNS = np.array([[0, 0, 0], [1, 0, 0]], np.int32)


@pytest.mark.parametrize(
    ("normalizer", "sums"), [(None, [51.0, 8.0]), ("AVERAGE_PER_SEQUENCE", [1.5 + 24.0, 8.0])]
)
def test_every_run_sums_its_own_tokens(normalizer, sums):
    totals = np.array([2.0, 4.0], np.float32)
    found = run_losses(LOSSES, SEGMENTS, RUNS, totals, normalizer)
    np.testing.assert_allclose(found, np.array(sums) / totals)


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (None, 1.0),
        (4.0, 4.0),
        ("NUM_REAL_TARGET_TOKENS", 5.0),
        ("NUM_TOTAL_TARGET_TOKENS", 6.0),
        ("AVERAGE_PER_SEQUENCE", 3.0),
    ],
)
def test_what_a_run_s_loss_is_divided_by(normalizer, expected):
    assert total(SEGMENTS, normalizer) == expected


def test_one_run_s_nan_stays_its_own():
    broken = LOSSES.at[1, 0].set(jnp.nan)
    losses = np.asarray(run_losses(broken, SEGMENTS, RUNS, np.ones(2, np.float32)))
    assert losses[0] == 51.0 and np.isnan(losses[1])


def test_unknown_normalizer():
    with pytest.raises(ValueError, match="loss_normalizing_factor 'MEAN' is unknown"):
        total(SEGMENTS, "MEAN")
