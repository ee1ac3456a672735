import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from spjax import config
from spjax.training import optimizers
from spjax.training.optimizers import Adafactor, AdamW


def by_hand(grads, prompt, rate, offset, decay=1e-5):
    """T5X's unfactored Adafactor in float64 (`t5x/adafactor.py`, parameter scaling off)."""
    v = np.zeros_like(prompt)
    for t, g in enumerate(grads):
        beta = 1.0 - (t - offset + 1.0) ** -0.8
        v = beta * v + (1 - beta) * (g**2 + 1e-30)
        y = g / np.sqrt(v)
        y /= max(1.0, np.sqrt(np.mean(y**2)))
        prompt = (1 - decay) * prompt - rate * y
    return prompt


def run(optimizer, grads, prompt):
    transform = optimizer.make(optimizer.learning_rate)
    return _steps(transform, grads, prompt)


@jax.numpy_dtype_promotion("standard")  # optax.adamw raises a float to an int32
def _steps(transform, grads, prompt):
    state, params = transform.init(prompt), prompt
    for g in grads:
        updates, state = transform.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def case(length=5, steps=30):
    rng = np.random.default_rng(0)
    return rng.normal(size=(steps, length, 160)), rng.normal(size=(length, 160))


def test_adafactor_is_t5x_s_with_a_fresh_and_a_restored_step():
    grads, prompt = case()
    for offset in (0, -1_100_000):
        found = run(Adafactor(0.3, decay_offset=offset), *map(jnp.float32, (grads, prompt)))
        np.testing.assert_allclose(found, by_hand(grads, prompt, 0.3, offset), atol=2e-4)


def test_the_restored_step_is_another_optimizer():
    grads, prompt = (jnp.float32(x) for x in case())
    fresh, restored = (run(Adafactor(0.3, decay_offset=o), grads, prompt) for o in (0, -1_100_000))
    assert float(jnp.abs(fresh - restored).max()) > 0.1


def test_every_restored_update_has_rms_of_the_learning_rate():
    grads, prompt = (jnp.float32(x) for x in case(steps=1))
    moved = run(Adafactor(0.3, decay_offset=-1_100_000), grads, prompt) - prompt
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(moved**2)), 0.3, rtol=1e-3)


def test_long_prompts_are_factored_unless_asked_not_to():
    def leaves(optimizer, length):
        state = optimizer.make(0.3).init(jnp.zeros((length, 160)))
        return {leaf.shape for leaf in jax.tree.leaves(state)}

    assert (127, 160) in leaves(Adafactor(), 127)
    assert (128, 160) not in leaves(Adafactor(), 128)
    assert (150, 160) in leaves(Adafactor(min_dim_size_to_factor=10**9), 150)


def test_adamw_first_step():
    grads, prompt = (jnp.float32(x) for x in case(steps=1))
    moved = run(AdamW(0.01, weight_decay=0.1), grads, prompt)
    expected = prompt - 0.01 * (jnp.sign(grads[0]) + 0.1 * prompt)
    np.testing.assert_allclose(moved, expected, atol=1e-4)


@pytest.mark.parametrize("kind", [Adafactor, AdamW])
def test_warm_up_and_decay_in_stairs(kind):
    optimizer = kind(0.5, warmup_steps=4, decay_factor=0.1, steps_per_decay=3)
    rates = [
        float(optimizers.scheduled(optimizer, jnp.float32(0.5), jnp.int32(t))) for t in range(8)
    ]
    stairs = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]
    ramp = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    np.testing.assert_allclose(rates, 0.5 * np.multiply(stairs, ramp), rtol=1e-6)
    assert optimizers.scheduled(kind(0.5), 0.5, jnp.int32(7)) == 0.5


def test_a_loop_of_ones_own_has_the_decay_too():
    transform = AdamW(0.5, decay_factor=0.5, steps_per_decay=2).to_optax()
    params = {"x": np.ones(3, np.float32)}
    state, sizes = transform.init(params), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(5):
            updates, state = transform.update({"x": np.ones(3, np.float32)}, state, params)
            sizes.append(float(-updates["x"][0]))
    np.testing.assert_allclose(sizes, [0.5, 0.5, 0.25, 0.25, 0.125], rtol=1e-4)


def test_only_a_decay_is_part_of_the_identity():
    assert "decay_factor" not in config.canonical(Adafactor())
    assert "decay" not in config.config_str(AdamW()).replace("weight_decay", "")
    with_decay = Adafactor(decay_factor=0.5, steps_per_decay=2000)
    assert config.canonical(with_decay)["steps_per_decay"] == 2000
    assert "Adafactor.decay_factor = 0.5" in config.identity(config.config_str(with_decay))


@pytest.mark.parametrize("kind", [Adafactor, AdamW])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay_factor": 0.5}, "decay_factor is 0.5 and .*steps_per_decay 0: a decay needs a"),
        ({"steps_per_decay": 5}, "decay_factor is 1.0 and .*steps_per_decay 5: a decay needs a"),
        ({"decay_factor": 0, "steps_per_decay": 5}, "decay_factor is 0; it must be"),
        ({"decay_factor": 2, "steps_per_decay": 5}, "decay_factor is 2; it must be"),
        ({"decay_factor": 0.5, "steps_per_decay": -5}, "steps_per_decay is -5; it must be"),
    ],
)
def test_half_a_decay_is_an_error(kind, settings, message):
    with pytest.raises(ValueError, match=f"{kind.__name__}.{message}"):
        kind(**settings)
