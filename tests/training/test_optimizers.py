import jax
import jax.numpy as jnp
import numpy as np
import optax

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
