import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.injection import Injection, Soft, join, prompt_rows
from spjax.models import SIZES, T5, T5Config, get_size
from spjax.models.decoding import greedy, label_scores
from spjax.models.layers import relative_buckets
from spjax.models.t5 import init_weights, shift_right, weight_shapes
from spjax.types import Batch

TINY = T5Config(64, 16, 3, 8, 24, 2, 3)
UNGATED = dataclasses.replace(TINY, mlp_activations=("relu",), logits_via_embedding=True)


def make_batch(rows=3, length=7, prompt=2, target=4, seed=0):
    """Rows with the prompt in front and 0, 1, 2, ... positions of padding."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(3, 60, (rows, prompt + length))
    slots = np.full_like(inputs, -1)
    slots[:, :prompt] = np.arange(prompt)
    segments = (np.arange(prompt + length) < (prompt + length - np.arange(rows)[:, None])) * 1
    targets = rng.integers(3, 60, (rows, target))
    target_segments = (np.arange(target) < (target - np.arange(rows)[:, None])) * 1
    zero = np.zeros((rows, 1))
    parts = (inputs, slots, segments, targets, target_segments, zero, zero)
    return Batch(*(jnp.asarray(part, jnp.int32) for part in parts))


def weights_of(config, seed=0):
    return init_weights(config, jax.random.key(seed))


def prompts(runs=1, length=2, width=16):
    return join([Soft(jax.random.normal(jax.random.key(9), (runs, length, width)))])


def test_published_parameter_counts():
    # Lester et al. 2021, Table 4 (totals without the prompt).
    expected = {
        "small": 76_961_152,
        "base": 247_577_856,
        "large": 783_150_080,
        "xl": 2_849_757_184,
        "xxl": 11_135_332_352,
    }
    for size, count in expected.items():  # layers in a loop are faster to trace
        config = dataclasses.replace(get_size(f"t5_1_1_{size}"), scan_layers=True)
        assert trees.count(weight_shapes(config)) == count


@pytest.mark.parametrize("ladder, low, high", [("pocket", 3.5, 4.5), ("graded", 2.3, 3.1)])
def test_ladders_grow_at_about_equal_ratios(ladder, low, high):
    counts = [trees.count(weight_shapes(c)) for n, c in SIZES.items() if n.startswith(ladder)]
    ratios = np.array(counts[1:]) / np.array(counts[:-1])
    assert len(counts) == 5 and (ratios > low).all() and (ratios < high).all()


def test_unknown_size_lists_the_known():
    with pytest.raises(ValueError, match="unknown model size 't5_huge'.*pocket_50k"):
        get_size("t5_huge")


def test_float16_is_refused():
    with pytest.raises(ValueError, match="overflows in float16"):
        dataclasses.replace(TINY, dtype="float16")


def test_names_are_those_of_t5x():
    names = trees.flatten(weight_shapes(TINY))
    assert names["token_embedder/embedding"].shape == (64, 16)
    assert names["encoder/relpos_bias/rel_embedding"].shape == (3, 32)
    assert names["encoder/layers_1/attention/query/kernel"].shape == (16, 24)
    assert names["decoder/layers_2/encoder_decoder_attention/out/kernel"].shape == (24, 16)
    assert names["decoder/layers_0/mlp/wi_1/kernel"].shape == (16, 24)
    assert names["decoder/logits_dense/kernel"].shape == (16, 64)
    ungated = trees.flatten(weight_shapes(UNGATED))
    assert "encoder/layers_0/mlp/wi/kernel" in ungated
    assert "decoder/logits_dense/kernel" not in ungated


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, UNGATED])
def test_padding_changes_nothing(config):
    weights, batch, soft = weights_of(config), make_batch(), prompts()
    logits = T5(config).apply({"params": weights}, batch, soft)
    wide = Batch(
        *(
            jnp.pad(x, ((0, 0), (0, 5)), constant_values=-1 if name == "slots_BL" else 0)
            if x.shape[1] > 1
            else x
            for name, x in vars(batch).items()
        )
    )
    wider = T5(config).apply({"params": weights}, wide, soft)[:, :4]
    real = np.asarray(batch.target_segments_BM) > 0
    np.testing.assert_allclose(np.asarray(logits)[real], np.asarray(wider)[real], atol=1e-5)


@pytest.mark.slow
def test_slots_are_embeddings_put_into_the_stream():
    weights, batch = weights_of(TINY), make_batch()
    table = weights["token_embedder"]["embedding"]
    soft = Injection(table[jnp.array([11, 12])], jnp.zeros((1, 1), jnp.int32))
    words = batch.replace(
        inputs_BL=jnp.where(batch.slots_BL >= 0, batch.slots_BL + 11, batch.inputs_BL),
        slots_BL=jnp.full_like(batch.slots_BL, -1),
    )
    model = T5(TINY)
    with_slots = model.apply({"params": weights}, batch, soft)
    np.testing.assert_array_equal(with_slots, model.apply({"params": weights}, words))


def test_rows_of_other_runs_and_tasks():
    batch = make_batch(rows=2).replace(runs_BG=jnp.array([[1], [0]], jnp.int32))
    soft = Injection(jnp.zeros((9, 16)), jnp.array([[0], [4]], jnp.int32))
    rows = np.asarray(prompt_rows(batch, soft))
    assert rows[0, :3].tolist() == [4, 5, -1] and rows[1, :3].tolist() == [0, 1, -1]


@pytest.mark.slow
def test_packed_segments_equal_single_rows():
    weights, soft, model = weights_of(TINY), prompts(runs=2), T5(TINY)
    single = make_batch(rows=2).replace(runs_BG=jnp.array([[0], [1]], jnp.int32))
    kept = [(np.asarray(single.input_segments_BL[i]) > 0, i) for i in (0, 1)]
    kept_out = [(np.asarray(single.target_segments_BM[i]) > 0, i) for i in (0, 1)]

    def join(values, masks):
        return jnp.asarray(np.concatenate([np.asarray(values[i])[m] for m, i in masks])[None])

    numbered = single.input_segments_BL * jnp.array([[1], [2]], jnp.int32)
    numbered_out = single.target_segments_BM * jnp.array([[1], [2]], jnp.int32)
    packed = Batch(
        join(single.inputs_BL, kept),
        join(single.slots_BL, kept),
        join(numbered, kept),
        join(single.targets_BM, kept_out),
        join(numbered_out, kept_out),
        jnp.array([[0, 1]], jnp.int32),
        jnp.zeros((1, 2), jnp.int32),
    )
    apart = np.asarray(model.apply({"params": weights}, single, soft))
    together = np.asarray(model.apply({"params": weights}, packed, soft))[0]
    expected = np.concatenate([apart[i][m] for m, i in kept_out])
    np.testing.assert_allclose(together, expected, atol=1e-5)


@pytest.mark.parametrize("config", [TINY, UNGATED])
def test_scanned_layers_give_the_same_numbers(config):
    weights, batch, soft = weights_of(config), make_batch(), prompts()
    scanned = dataclasses.replace(config, scan_layers=True)
    stacked = trees.stack_layers(weights)
    trees.check_same(stacked, weight_shapes(scanned), "test")
    plain = T5(config).apply({"params": weights}, batch, soft)
    looped = T5(scanned).apply({"params": stacked}, batch, soft)
    np.testing.assert_allclose(plain, looped, atol=1e-5)
    back = trees.flatten(trees.unstack_layers(stacked))
    for name, leaf in trees.flatten(weights).items():
        np.testing.assert_array_equal(leaf, back[name])


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, UNGATED, dataclasses.replace(TINY, scan_layers=True)])
def test_cached_decoding_equals_teacher_forcing(config):
    weights, batch, soft, model = weights_of(config), make_batch(), prompts(), T5(config)
    written = greedy(model, weights, batch, soft, max_length=6)
    forced = batch.replace(targets_BM=written, target_segments_BM=jnp.ones_like(written))
    best = jnp.argmax(model.apply({"params": weights}, forced, soft), axis=-1)
    ended = np.cumsum(np.asarray(written) == 1, axis=1) - (np.asarray(written) == 1) > 0
    np.testing.assert_array_equal(np.where(ended, 0, best), written)


def test_label_scores_are_log_probabilities():
    weights, batch, soft, model = weights_of(TINY), make_batch(), prompts(), T5(TINY)
    labels = jnp.array([[5, 1, 0], [6, 7, 1]], jnp.int32)
    scores = label_scores(model, weights, batch, soft, labels)
    asked = batch.replace(
        targets_BM=jnp.tile(labels[1], (3, 1)), target_segments_BM=jnp.ones((3, 3), jnp.int32)
    )
    logs = jax.nn.log_softmax(model.apply({"params": weights}, asked, soft))
    by_hand = sum(np.asarray(logs)[:, i, int(labels[1, i])] for i in range(3))
    np.testing.assert_allclose(scores[:, 1], by_hand, atol=1e-5)


def test_dropout_masks_are_shared_by_all_positions():
    config = dataclasses.replace(TINY, dropout_rate=0.5)
    weights, batch = weights_of(config), make_batch()
    same = batch.replace(inputs_BL=jnp.full_like(batch.inputs_BL, 7))
    rngs = {"dropout": jax.random.key(1)}
    encode = jax.jit(
        lambda b: T5(config).apply({"params": weights}, b, None, True, method=T5.encode, rngs=rngs)[
            0
        ]
    )
    encoded = np.asarray(encode(same))[0]
    assert (encoded == 0).any()  # the last dropout is visible
    np.testing.assert_array_equal(encoded == 0, np.broadcast_to(encoded[0] == 0, encoded.shape))


def test_targets_are_shifted_within_their_segments():
    targets = jnp.array([[5, 6, 7, 8]], jnp.int32)
    moved = shift_right(targets, jnp.array([[1, 1, 2, 2]], jnp.int32))
    assert moved.tolist() == [[0, 5, 0, 7]]


def test_relative_buckets():
    # Hand-checked against the definition in Raffel et al. 2020 (32 buckets, distance 128).
    assert relative_buckets(np.array([0, 1, -1, -8, -200, 200]), True).tolist() == [
        0,
        17,
        1,
        8,
        15,
        31,
    ]
    assert relative_buckets(np.array([3, 0, -5, -16, -127, -500]), False).tolist() == [
        0,
        0,
        5,
        16,
        31,
        31,
    ]


def test_bfloat16_activations_keep_float32_logits():
    config = dataclasses.replace(TINY, dtype="bfloat16")
    weights, batch, soft = weights_of(TINY), make_batch(), prompts()
    logits = T5(config).apply({"params": weights}, batch, soft)
    exact = T5(TINY).apply({"params": weights}, batch, soft)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, atol=0.5)


def test_different_names_and_shapes_are_listed():
    weights = trees.flatten(weights_of(TINY))
    weights["encoder/extra"] = weights.pop("encoder/encoder_norm/scale")
    weights["decoder/logits_dense/kernel"] = jnp.zeros((16, 65))
    with pytest.raises(ValueError) as error:
        trees.check_same(trees.unflatten(weights), weight_shapes(TINY), "file.x")
    text = str(error.value)
    assert "missing: encoder/encoder_norm/scale" in text
    assert "unexpected: encoder/extra" in text
    assert "(16, 65), not (16, 64)" in text and "file.x" in text
