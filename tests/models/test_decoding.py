"""Beam search and sampling, against references that keep no cache."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.injection import Injection
from spjax.models import T5, T5Config
from spjax.models.decoding import Decoding, beam_search, decode, greedy, sample
from spjax.models.t5 import init_weights
from spjax.types import Batch

TINY = T5Config(40, 16, 3, 8, 24, 2, 3)
FEW = dataclasses.replace(TINY, vocab_size=5)  # padding, EOS and three words
LENGTH = 5
# Compiled once for each shape and setting.
BEAM = jax.jit(beam_search, static_argnums=(0, 4, 5, 6, 7))
GREEDY = jax.jit(greedy, static_argnums=(0, 4))
DRAW = jax.jit(sample, static_argnums=(0, 4, 6, 7))
DECODE = jax.jit(decode, static_argnums=(0, 1, 5))
FULL = jax.jit(lambda model, *asked: model.apply(*asked), static_argnums=0)


def weights_of(config, seed=0, sharper=1.0):
    """Random weights; those of the head are made larger for clearer choices."""
    weights = init_weights(config, jax.random.key(seed))
    weights["decoder"]["logits_dense"]["kernel"] *= sharper
    return weights


def mixed(config=TINY):
    """Six rows: prompts of 1 and 3 rows anywhere in texts of unequal length, one row empty."""
    rng = np.random.default_rng(1)
    inputs = rng.integers(2, config.vocab_size, (6, 9))
    slots = np.full_like(inputs, -1)
    slots[::2, 0] = 0
    slots[1::2, 2:5] = np.arange(3)
    segments = (np.arange(9) < np.array([[9], [8], [5], [6], [2], [0]])) * 1
    runs = np.arange(6)[:, None] % 2
    none = np.zeros((6, 1))
    parts = (inputs, slots, segments, none, none, runs, np.zeros_like(runs))
    table = 3 * jax.random.normal(jax.random.key(5), (4, config.emb_dim))
    batch = Batch(*(jnp.asarray(part, jnp.int32) for part in parts))
    return batch, Injection(table, jnp.asarray([[0], [1]], jnp.int32))


class Uncached:
    """Log-probabilities of the next token by a full pass over everything before it."""

    def __init__(self, config, weights, batch, soft):
        self.asked = (T5(config), {"params": weights}), batch, soft

    def __call__(self, row, prefix):
        written = np.zeros((6, LENGTH), np.int32)
        written[row, : len(prefix)] = prefix
        ones = np.ones_like(written)
        model, batch, soft = self.asked
        batch = batch.replace(targets_BM=written, target_segments_BM=ones)
        logits = FULL(*model, batch, soft)
        logits = np.asarray(logits, np.float64)[row, len(prefix)]
        return logits - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()


def penalty(length, exponent, rule):
    return (length if rule == "huggingface" else (5 + length) / 6) ** exponent


def reference(next_logs, row, beams, exponent, rule):
    """Beam search over Python lists, without cache and without stopping early."""
    live, done, closed = [(0.0, [])], [], False
    for step in range(1, LENGTH + 1):
        longer = [
            (total + log, prefix + [token])
            for total, prefix in live
            for token, log in enumerate(next_logs(row, prefix))
        ]
        best = sorted(longer, key=lambda pair: -pair[0])[: 2 * beams]
        cut = rule == "huggingface" and step == LENGTH
        ends = [tokens[-1] == 1 or cut for _, tokens in best]
        new = [
            (total / penalty(step, exponent, rule), tokens)
            for rank, ((total, tokens), end) in enumerate(zip(best, ends))
            if end and (rule == "t5x" or rank < beams) and not closed
        ]
        done = sorted(done + new, key=lambda pair: -pair[0])[:beams]
        live = [pair for pair, end in zip(best, ends) if not end][:beams]
        if rule == "huggingface" and live and len(done) == beams:
            closed |= live[0][0] / penalty(step, exponent, rule) <= done[-1][0]
    return done or live


@pytest.mark.slow
@pytest.mark.parametrize(
    "rule, beams, exponent, scan",
    [
        ("t5x", 1, 0.6, False),
        ("t5x", 3, 0.6, True),
        ("t5x", 4, 2.0, False),
        ("huggingface", 2, 1.0, True),
        ("huggingface", 4, 2.0, False),
    ],
)
def test_cached_beams_equal_an_uncached_search(rule, beams, exponent, scan):
    weights, (batch, soft) = weights_of(TINY, sharper=3.0), mixed()
    config = dataclasses.replace(TINY, scan_layers=scan)
    stacked = trees.stack_layers(weights) if scan else weights
    ids, scores = BEAM(T5(config), stacked, batch, soft, LENGTH, beams, exponent, rule)
    next_logs, ended = Uncached(TINY, weights, batch, soft), 0
    for row in range(5):
        expected = reference(next_logs, row, beams, exponent, rule)
        count = len(expected)
        padded = [tokens + [0] * (LENGTH - len(tokens)) for _, tokens in expected]
        assert ids[row, :count].tolist() == padded
        np.testing.assert_allclose(scores[row, :count], [s for s, _ in expected], atol=1e-4)
        assert np.isneginf(scores[row, count:]).all()
        ended += any(1 in tokens for _, tokens in expected)
    assert ended and not np.asarray(ids[5]).any()


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.0, 0.6, 3.0])
def test_enough_beams_find_the_best_of_all_sequences(exponent):
    weights, (batch, soft) = weights_of(FEW, sharper=2.0), mixed(FEW)
    beams = 4 ** (LENGTH - 1)  # all that can be live
    ids, scores = BEAM(T5(FEW), weights, batch, soft, LENGTH, beams, exponent)
    next_logs, row = Uncached(FEW, weights, batch, soft), 1
    logs = {}
    for n in range(LENGTH):
        for prefix in itertools.product((0, 2, 3, 4), repeat=n):
            logs[prefix] = next_logs(row, list(prefix))
    every = {}
    for prefix in logs:
        whole = prefix + (1,)
        total = sum(logs[whole[:i]][token] for i, token in enumerate(whole))
        every[whole + (0,) * (LENGTH - len(whole))] = total / penalty(len(whole), exponent, "t5x")
    best = sorted(every, key=every.get, reverse=True)[:5]
    assert [tuple(found) for found in ids[row, :5].tolist()] == best
    np.testing.assert_allclose(scores[row, :5], [every[name] for name in best], atol=1e-4)


@pytest.mark.slow
def test_one_beam_is_greedy_but_for_a_runner_up_eos():
    batch, soft = mixed()
    equal = 0
    for seed in range(4):
        weights = weights_of(TINY, seed)
        single = GREEDY(T5(TINY), weights, batch, soft, LENGTH)
        ids, _ = BEAM(T5(TINY), weights, batch, soft, LENGTH, 1)
        next_logs = Uncached(TINY, weights, batch, soft)
        for row in range(5):
            found, same = ids[row, 0].tolist(), single[row].tolist()
            equal += found == same
            if found != same:  # it then follows the greedy tokens up to an EOS in second place
                n = found.index(1)
                assert found[:n] == same[:n]
                assert np.argsort(-next_logs(row, found[:n]))[1] == 1
    assert 0 < equal < 20


@pytest.mark.parametrize(("beams", "rule"), [(1, "t5x"), (2, "huggingface")])
def test_a_limit_is_a_smaller_number_of_tokens(beams, rule):
    weights, (batch, soft) = weights_of(TINY, sharper=3.0), mixed()
    ids, scores = BEAM(T5(TINY), weights, batch, soft, 3, beams, 0.6, rule)
    limit = jnp.int32(3)
    within, same = BEAM(T5(TINY), weights, batch, soft, LENGTH, beams, 0.6, rule, limit)
    assert within[:, :, :3].tolist() == ids.tolist() and not np.asarray(within[:, :, 3:]).any()
    np.testing.assert_array_equal(scores, same)
    longer, _ = BEAM(T5(TINY), weights, batch, soft, LENGTH, beams, 0.6, rule)
    assert np.asarray(longer[:, :, 3:]).any()


def test_rows_do_not_depend_on_the_rows_beside_them():
    weights, (batch, soft) = weights_of(TINY, sharper=3.0), mixed()
    ids, scores = BEAM(T5(TINY), weights, batch, soft, LENGTH, 3)
    for row in range(5):
        alone = jax.tree.map(lambda x: x[row : row + 1], batch)
        own, own_scores = BEAM(T5(TINY), weights, alone, soft, LENGTH, 3)
        np.testing.assert_array_equal(own[0], ids[row])
        np.testing.assert_allclose(own_scores[0], scores[row], atol=1e-5)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_samples_follow_the_probabilities():
    weights, (batch, soft) = weights_of(TINY), mixed()
    many = jax.tree.map(lambda x: jnp.repeat(x[1:2], 4000, axis=0), batch)
    logs = Uncached(TINY, weights, batch, soft)(1, [])
    for temperature, top_k in [(1.0, 0), (0.5, 0), (2.0, 5)]:
        drawn = DRAW(T5(TINY), weights, many, soft, 1, keys(4000), temperature, top_k)
        expected = np.exp(logs / temperature)
        if top_k:
            expected[np.argsort(-logs)[top_k:]] = 0
        expected /= expected.sum()
        found = np.bincount(np.asarray(drawn)[:, 0], minlength=40) / 4000
        assert np.abs(found - expected).max() < 5 * math.sqrt(0.25 / 4000)
        assert not found[expected == 0].any()


def test_samples_belong_to_their_seed_and_row():
    weights, (batch, soft) = weights_of(TINY), mixed()
    model = T5(TINY)
    drawn = np.asarray(DRAW(model, weights, batch, soft, LENGTH, keys(6)))
    again = DRAW(model, weights, batch, soft, LENGTH, keys(6))
    np.testing.assert_array_equal(drawn, again)
    assert (drawn != np.asarray(DRAW(model, weights, batch, soft, LENGTH, keys(6, 1)))).any()
    turned = jax.tree.map(lambda x: x[::-1], batch)
    np.testing.assert_array_equal(
        DRAW(model, weights, turned, soft, LENGTH, keys(6)[::-1]), drawn[::-1]
    )
    for top_k, temperature in [(1, 1.0), (0, 1e-4)]:
        only = DRAW(model, weights, batch, soft, LENGTH, keys(6), temperature, top_k)
        np.testing.assert_array_equal(only, GREEDY(model, weights, batch, soft, LENGTH))


@pytest.mark.slow
def test_decode_takes_each_way():
    weights, (batch, soft) = weights_of(TINY), mixed()
    asked = (T5(TINY), weights, batch, soft)
    labels = jnp.asarray([[5, 1, 0], [6, 7, 1]], jnp.int32)
    allowed = jnp.asarray([[True, True]] * 5 + [[False, True]])
    extra = (jnp.arange(6), labels, allowed)

    def ids(how):
        return np.asarray(DECODE(how, *asked, LENGTH, *extra)[0])

    np.testing.assert_array_equal(ids(Decoding()), GREEDY(*asked, LENGTH))
    np.testing.assert_array_equal(ids(Decoding("beam")), BEAM(*asked, LENGTH)[0][:, 0])
    one = Decoding("sample", top_k=1, seed=3)
    np.testing.assert_array_equal(ids(one), GREEDY(*asked, LENGTH))
    drawn = [ids(Decoding("sample", seed=seed)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    ranked, scores = DECODE(Decoding("rank"), *asked, LENGTH, *extra)
    assert ranked.shape == (6, 3) and ranked[5].tolist() == [6, 7, 1]
    assert {tuple(row) for row in ranked.tolist()} <= {(5, 1, 0), (6, 7, 1)}
    assert (np.asarray(scores) < 0).all()


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"kind": "nucleus"}, "unknown decoding 'nucleus'; use one of greedy, beam, sample, rank"),
        ({"num_beams": 0}, "num_beams is 0; it must be 1 to 1024"),
        ({"num_beams": 10**9}, "num_beams is 1000000000; it must be 1 to 1024"),
        *(
            ({"length_penalty": x}, f"length penalty is {x}; it must be from 0")
            for x in (-1.0, math.nan, math.inf, 1e9)
        ),
        *(
            ({"temperature": x}, f"temperature is {x}; it must be at least 0.0001.*use greedy")
            for x in (0.0, -1.0, math.nan, math.inf, 1e-30)
        ),
        ({"top_k": 10**30}, "top_k is 1000.*; it must be 1 or more and below"),
        ({"top_k": -3}, "top_k is -3; it must be 1 or more"),
        ({"seed": -1}, "seed of decoding is -1; it must be 0 or more"),
        ({"seed": 2**32}, "seed of decoding is 4294967296; .* below"),
    ],
)
def test_numbers_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**wrong)


def test_wrong_rules():
    weights, (batch, soft) = weights_of(TINY), mixed()
    with pytest.raises(ValueError, match="unknown rule of beam search 'peft'; use one of t5x"):
        beam_search(T5(TINY), weights, batch, soft, LENGTH, rule="peft")
    with pytest.raises(ValueError, match="which transformers decodes greedily; use greedy"):
        beam_search(T5(TINY), weights, batch, soft, LENGTH, 1, rule="huggingface")
