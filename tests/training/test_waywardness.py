"""The pull to a text: its size, its gradient, and the settings that make no sense."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.injection import Injection
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.training import trainer
from spjax.training.optimizers import Adafactor
from spjax.training.waywardness import Target, Waywardness, add_penalties, penalties, target_of
from spjax.vocabularies import vocabulary

pytestmark = pytest.mark.usefixtures("few_examples")

TINY = T5Config(64, 16, 4, 8, 32, 1, 1)
BASE = init_weights(TINY, jax.random.key(0))
TARGET = Target((5, 9, 7, 11), 0.25)
METHODS = tuple(PromptTuning(length=n, initializer=Uniform()) for n in (2, 3))


def test_the_pull_adds_the_mean_squared_distance_and_its_gradient():
    """Of three runs, two with prompts of 2 rows and one with a prompt of 3."""
    rng = np.random.default_rng(0)
    shapes = ((2, 2, 16), (1, 3, 16))
    prompts = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    trainables = tuple({"prompt": jnp.asarray(prompt)} for prompt in prompts)
    ones = jax.tree.map(jnp.ones_like, trainables)
    program = trainer.StepConfig(TINY, METHODS, Adafactor(1.0), 0.0, 0.0, None, wayward=TARGET)
    grads, losses_N = add_penalties(
        program, trainables, BASE, ones, jnp.arange(3, dtype=jnp.float32)
    )
    words = np.asarray(BASE["token_embedder"]["embedding"])[list(TARGET.tokens)]
    gaps = [prompt - words[: len(prompt)] for group in prompts for prompt in group]
    expected = [i + 0.25 * np.square(gap).sum() / len(gap) for i, gap in enumerate(gaps)]
    np.testing.assert_allclose(losses_N, expected, rtol=1e-5)
    found = [grad for group in grads for grad in group["prompt"]]
    for gap, grad in zip(gaps, found, strict=True):
        np.testing.assert_allclose(grad, 1 + 0.5 * gap / len(gap), rtol=1e-4)


def test_the_step_is_pulled_and_the_model_does_not_know():
    program = trainer.StepConfig(TINY, METHODS[:1], Adafactor(1.0), 0.0, 0.0, None, wayward=TARGET)
    prompts = {"prompt": jnp.ones((2, 2, 16))}
    slots = jax.vmap(Adafactor().make(0.0).init)(prompts)
    state = trainer.TrainState(prompts, slots, jnp.zeros(2, jnp.int32), jnp.ones(2, bool))
    rates = jnp.full(2, 0.01, jnp.float32)
    words = np.asarray(BASE["token_embedder"]["embedding"])[[5, 9]]
    _, _, *sums = trainer.begin_step(program, (state,), BASE, jax.random.key(0))
    (moved,), stats = trainer.apply_gradients(program, (state,), BASE, *sums, rates)
    np.testing.assert_allclose(stats.loss_N, 0.25 * np.square(1 - words).sum() / 2, rtol=1e-5)
    new = np.asarray(moved.trainable["prompt"])
    np.testing.assert_array_equal(np.sign(new - 1), np.sign(words - 1)[None].repeat(2, 0))
    free = dataclasses.replace(program, wayward=None)
    assert free.of_model == program.of_model


def test_the_target_is_the_tokens_of_the_text(run):
    text = "the old farmer walked"
    tokens = tuple(vocabulary.load_vocabulary("pocket").encode(text))
    assert len(tokens) >= 3 and target_of(run) is None
    wayward = dataclasses.replace(run, waywardness=Waywardness(text, 1))
    assert target_of(wayward) == Target(tokens, 1.0)
    assert trainer.step_config(wayward, TINY, [wayward.method]).wayward == Target(tokens, 1.0)
    assert "waywardness" in run.without_identity and "waywardness" not in wayward.without_identity


def test_a_text_that_the_vocabulary_lacks_is_refused(run):
    with pytest.raises(ValueError, match="text of Waywardness, 'Ω Ω Ω Ω', has pieces that the mod"):
        dataclasses.replace(run, waywardness=Waywardness("Ω Ω Ω Ω"))


def test_prompts_of_single_tasks_are_refused():
    injection = Injection(jnp.zeros((6, 16)), np.zeros((1, 2), np.int32))
    with pytest.raises(ValueError, match="this method has prompts of single tasks"):
        penalties(TARGET, [3], injection, BASE)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda run: Waywardness("  "), "Waywardness.text is '  '; give some words"),
        (lambda run: Waywardness("a", -1.0), "Waywardness.gamma is -1.0; it must be a number"),
        (lambda run: dataclasses.replace(run, waywardness="a"), "waywardness is 'a'; bind @Way"),
        (
            lambda run: dataclasses.replace(run, waywardness=Waywardness("the")),
            "has 1 tokens, 'the', and the prompt 3 rows. Give a longer text, or PROMPT_LENGTH 1",
        ),
        (
            lambda run: dataclasses.replace(
                run, method=FullFineTuning(), waywardness=Waywardness("the")
            ),
            "rows of a prompt, and full_fine_tuning has none",
        ),
    ],
)
def test_mistakes(run, make, message):
    with pytest.raises(ValueError, match=message):
        make(run)
