"""Greedy and beam outputs of transformers and of spjax on 200 random inputs.

Needs torch and transformers; tried with torch 2.13.0 and transformers 5.23.0.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax.checkpoints.weights import weights
from spjax.models import T5
from spjax.models.decoding import beam_search, greedy
from spjax.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

INPUTS, LENGTH, NEW = 200, 30, 12


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A random T5 1.1 of transformers, and the same weights and shape here."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=64,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.empty(64, 16))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        model.lm_head.weight[1] *= 2.0  # so that some outputs end and some do not
    model.save_pretrained(folder)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    return model, weights.config_of("auto", str(folder)), weights.load("auto", str(folder))


def batch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, LENGTH + 1, (INPUTS, 1))
    segments = (np.arange(LENGTH) < lengths).astype("int32")
    inputs = rng.integers(2, 64, (INPUTS, LENGTH)).astype("int32") * segments
    none = np.zeros((INPUTS, 1), "int32")
    return Batch(inputs, -np.ones_like(inputs), segments, none, none, none, none)


def theirs(model, **options):
    """Returns the ids that `generate` writes, without the start token, padded to NEW."""
    rows = batch()
    with torch.no_grad():
        found = model.generate(
            torch.tensor(rows.inputs_BL).long(),
            attention_mask=torch.tensor(rows.input_segments_BL).long(),
            max_new_tokens=NEW,
            do_sample=False,
            **options,
        ).numpy()[:, 1:]
    after_end = np.cumsum(found == 1, axis=1) - (found == 1) > 0  # padded with EOS by beam search
    return np.pad(np.where(after_end, 0, found), ((0, 0), (0, NEW - found.shape[1])))


def ours(search, models):
    _, config, weights = models
    rows = jax.tree.map(jnp.asarray, batch())
    with jax.default_matmul_precision("float32"):
        return np.asarray(jax.jit(lambda w, b: search(T5(config), w, b, None, NEW))(weights, rows))


def report(name, found, expected):
    equal = (found == expected).all(axis=1)
    ended = (expected == 1).any(axis=1)
    words = f"{equal.sum()} of {INPUTS} outputs equal, {ended.sum()} with an end"
    print(f"{name}: {words}, {len(np.unique(expected, axis=0))} different")
    assert 0 < ended.sum() < INPUTS and len(np.unique(expected, axis=0)) > 40
    return equal


def test_greedy(models):
    assert report("greedy", ours(greedy, models), theirs(models[0], num_beams=1)).all()


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 4])
def test_beams_by_their_rule(models, beams, penalty):
    expected = theirs(models[0], num_beams=beams, length_penalty=penalty, early_stopping=False)

    def search(*asked):
        return beam_search(*asked, beams, penalty, "huggingface")[0][:, 0]

    name = f"{beams} beams, length_penalty {penalty}"
    assert report(name, ours(search, models), expected).all()


@pytest.mark.parametrize("beams", [2, 4])
def test_the_rule_of_t5x_agrees_where_the_definitions_do(models, beams):
    """Without a penalty, both rules give one answer wherever neither difference is met."""
    expected = theirs(models[0], num_beams=beams, length_penalty=0.0, early_stopping="never")
    by_rule = functools.partial(beam_search, num_beams=beams, length_penalty=0.0)
    found = ours(lambda *asked: by_rule(*asked)[0][:, 0], models)
    equal = report(f"{beams} beams by the rule of T5X", found, expected)
    # The rules differ in which sequences count as finished; with none finished they agree.
    different = np.flatnonzero(~equal)
    assert equal.sum() > INPUTS // 10
    assert all(1 in found[row] for row in different)
