"""The pull to a text: its size, its gradient, and the settings that make no sense."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.data import vocabulary
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.initializers import Uniform
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5Config
from spjax.models.t5 import init_weights
from spjax.training import step
from spjax.training.optimizers import AdamW
from spjax.training.waywardness import Target, Waywardness, target_of
from spjax.types import Batch

TINY = T5Config(64, 16, 4, 8, 32, 1, 1)
BASE = init_weights(TINY, jax.random.key(0))
TARGET = Target((5, 9, 7, 11), 0.25)
METHODS = tuple(PromptTuning(length=n, initializer=Uniform()) for n in (2, 3))


def gang(program_of=lambda program: program, target=TARGET):
    """Gradients and losses of three runs, two of them with prompts of 2 rows and one of 3."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(3, 60, (6, 8)).astype(np.int32)
    runs = (np.arange(6, dtype=np.int32) % 3)[:, None]
    slots = np.where(np.arange(8) < 2 + (runs == 2), np.arange(8), -1).astype(np.int32)
    targets = rng.integers(3, 60, (6, 3)).astype(np.int32)
    one = np.ones_like
    batch = Batch(inputs, slots, one(inputs), targets, one(targets), runs, np.zeros_like(runs))
    prompts = [rng.normal(size=(n, rows, 16)).astype(np.float32) for n, rows in ((2, 2), (1, 3))]
    program = step.Program(TINY, METHODS, AdamW(0.0), 0.0, 0.0, None, wayward=target)
    trainables = tuple({"prompt": jnp.asarray(prompt)} for prompt in prompts)
    key = jax.random.key(0)
    found = step.gradients(program_of(program), trainables, BASE, batch, key)
    return prompts, *jax.device_get(found)


def test_the_pull_adds_the_mean_squared_distance_and_its_gradient():
    prompts, grads, losses_N = gang()
    _, free_grads, free_losses_N = gang(target=None)
    words = np.asarray(BASE["token_embedder"]["embedding"])[list(TARGET.tokens)]
    own = [*prompts[0], *prompts[1]]
    gaps = [prompt - words[: len(prompt)] for prompt in own]
    expected = [0.25 * np.square(gap).sum() / len(gap) for gap in gaps]
    np.testing.assert_allclose(losses_N - free_losses_N, expected, rtol=1e-4)
    pairs = zip([*grads[0]["prompt"], *grads[1]["prompt"]],
                [*free_grads[0]["prompt"], *free_grads[1]["prompt"]])
    for gap, (grad, free) in zip(gaps, pairs, strict=True):
        np.testing.assert_allclose(grad - free, 0.5 * gap / len(gap), atol=1e-5)


def test_microbatches_pull_no_harder():
    whole = gang()
    parts = gang(lambda program: dataclasses.replace(program, microbatches=2))
    for one, other in zip(jax.tree.leaves(whole[1:]), jax.tree.leaves(parts[1:]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_target_is_the_tokens_of_the_text(run):
    text = "the old farmer walked"
    tokens = tuple(vocabulary.load("pocket").encode(text))
    assert len(tokens) >= 3 and target_of(run) is None
    wayward = dataclasses.replace(run, waywardness=Waywardness(text, 1))
    assert target_of(wayward) == Target(tokens, 1.0)
    assert step.program_of(wayward, wayward.method).wayward == Target(tokens, 1.0)
    assert "waywardness" in run.without_identity and "waywardness" not in wayward.without_identity


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda run: Waywardness("  "), "Waywardness.text is '  '; give some words"),
        (lambda run: Waywardness("a", -1.0), "Waywardness.gamma is -1.0; it must be a number"),
        (lambda run: dataclasses.replace(run, waywardness="a"), "waywardness is 'a'; bind @Way"),
        (lambda run: dataclasses.replace(run, waywardness=Waywardness("the")),
         "has 1 tokens, 'the', and the prompt 3 rows. Give a longer text, or PROMPT_LENGTH 1"),
        (lambda run: dataclasses.replace(
            run, method=FullFineTuning(), waywardness=Waywardness("the")),
         "rows of a prompt, and full_fine_tuning has none"),
    ],
)  # fmt: skip
def test_mistakes(run, make, message):
    with pytest.raises(ValueError, match=message):
        make(run)
