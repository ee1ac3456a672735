"""Soft tokens of every kind inside the model, against computations by other means."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import BASE, CONFIG, forward, moved, packed, row, rows, small, stacked

from spjax import partitioning, trees
from spjax.injection import Soft, join, prompt_rows
from spjax.models import T5
from spjax.models.decoding import beam_search
from spjax.models.layers import relative_buckets
from spjax.models.t5 import init_weights
from spjax.training import trainer
from spjax.training.losses import imitation_losses

TWO = dataclasses.replace(CONFIG, num_encoder_layers=2, num_decoder_layers=2)
WEIGHTS = jax.jit(lambda: init_weights(TWO, jax.random.key(1)))()


def prefixes(lengths, seed=0, config=TWO):
    """Random prefixes of all sites, one run each."""
    rng = np.random.default_rng(seed)

    def pair(layers, length):
        shape = (1, layers, length, config.num_heads, config.head_dim)
        return tuple(rng.normal(size=shape).astype(np.float32) for _ in range(2))

    layers = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    layers["cross"] = layers["decoder"]
    return [Soft(prefix={s: pair(n, length) for s, n in layers.items()}) for length in lengths]


def norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def attend(part, x, sources, bias, prefix):
    """Attention of one example, head by head."""
    query, key, value, out = (part[k]["kernel"] for k in ("query", "key", "value", "out"))
    size, heads = TWO.head_dim, []
    for h in range(TWO.num_heads):
        own = slice(h * size, (h + 1) * size)
        keys = np.concatenate([prefix[0][:, h], sources @ key[:, own]])
        values = np.concatenate([prefix[1][:, h], sources @ value[:, own]])
        logits = (x @ query[:, own]) @ keys.T + bias[h]
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ values)
    return np.concatenate(heads, axis=-1) @ out


def mlp(part, x):
    gate = np.asarray(jax.nn.gelu(x @ part["wi_0"]["kernel"]))
    return (gate * (x @ part["wi_1"]["kernel"])) @ part["wo"]["kernel"]


def positions(stack, queries, prefix_length, bidirectional):
    """Bias of keys at -P, ..., -1 and 0, 1, ...; in the decoder the future is shut."""
    keys = np.arange(-prefix_length, queries)
    distances = keys - np.arange(queries)[:, None]
    bias = stack["relpos_bias"]["rel_embedding"][:, relative_buckets(distances, bidirectional)]
    return bias if bidirectional else np.where(distances > 0, -1e10, bias)


def by_hand(weights, inputs, targets, prefix):
    """Logits of one example of a two-layer T5 with a prefix at all sites."""
    table, encoder, decoder = (weights[k] for k in ("token_embedder", "encoder", "decoder"))
    x = table["embedding"][inputs]
    length = prefix["encoder"][0].shape[1]
    bias = positions(encoder, len(inputs), length, True)
    for i in range(2):
        layer, own = encoder[f"layers_{i}"], [t[i] for t in prefix["encoder"]]
        y = norm(x, layer["pre_attention_layer_norm"]["scale"])
        x = x + attend(layer["attention"], y, y, bias, own)
        x = x + mlp(layer["mlp"], norm(x, layer["pre_mlp_layer_norm"]["scale"]))
    encoded = norm(x, encoder["encoder_norm"]["scale"])
    y = table["embedding"][[0, *targets[:-1]]]
    bias = positions(decoder, len(targets), length, False)
    for i in range(2):
        layer = decoder[f"layers_{i}"]
        z = norm(y, layer["pre_self_attention_layer_norm"]["scale"])
        own = [t[i] for t in prefix["decoder"]]
        y = y + attend(layer["self_attention"], z, z, bias, own)
        z = norm(y, layer["pre_cross_attention_layer_norm"]["scale"])
        own = [t[i] for t in prefix["cross"]]
        no_bias = np.zeros((TWO.num_heads, 1, 1))
        y = y + attend(layer["encoder_decoder_attention"], z, encoded, no_bias, own)
        y = y + mlp(layer["mlp"], norm(y, layer["pre_mlp_layer_norm"]["scale"]))
    return norm(y, decoder["decoder_norm"]["scale"]) @ decoder["logits_dense"]["kernel"]


def test_prefixes_equal_a_direct_computation_alone_packed_stacked_and_rematerialised():
    batch, soft = rows([0, 0]), prefixes([2, 5])
    injection = join(soft)
    plain = jax.tree.map(np.asarray, WEIGHTS)
    expected = []
    for i in range(2):
        inputs = batch.inputs_BL[i][batch.input_segments_BL[i] > 0]
        targets = batch.targets_BM[i][batch.target_segments_BM[i] > 0]
        prefix = {site: [x[0] for x in pair] for site, pair in soft[i].prefix.items()}
        expected.append(by_hand(plain, inputs, targets, prefix))
    real = batch.target_segments_BM > 0
    logits = jax.jit(T5(TWO).apply)({"params": WEIGHTS}, batch, injection)
    np.testing.assert_allclose(np.asarray(logits)[real], np.concatenate(expected), atol=1e-4)
    scanned = T5(dataclasses.replace(TWO, scan_layers=True), remat=True)
    stack = {"params": trees.stack_layers(WEIGHTS)}
    logits = jax.jit(scanned.apply)(stack, packed(batch), injection)
    np.testing.assert_allclose(logits[0], np.concatenate(expected), atol=1e-4)


@pytest.mark.parametrize("scan", [False, True])
def test_beams_of_rows_with_different_prefixes(scan):
    batch, soft = rows([0, 0]), prefixes([1, 3])
    config = dataclasses.replace(TWO, scan_layers=scan)
    weights = trees.stack_layers(WEIGHTS) if scan else WEIGHTS
    search = jax.jit(beam_search, static_argnums=(0, 4, 5))
    ids, scores = search(T5(config), weights, batch, join(soft), 3, 2)
    # The score of the best sequence by teacher forcing.
    best = np.asarray(ids[:, 0])
    asked = batch.replace(targets_BM=best, target_segments_BM=np.ones_like(best))
    logits = jax.jit(T5(config).apply)({"params": weights}, asked, join(soft))
    logs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), best[..., None], 2)[..., 0]
    ended = np.cumsum(best == 1, axis=1) - (best == 1) > 0
    found = (best == 1).any(1)
    length = np.where(found, (~ended).sum(1), 1)
    penalty = np.where(found, ((5 + length) / 6) ** 0.6, 1)
    np.testing.assert_allclose(scores[:, 0], np.where(ended, 0, logs).sum(1) / penalty, atol=1e-4)


def test_a_mesh_of_devices_gives_the_same():
    place = partitioning.make_placement()
    assert place.mesh.size == 4
    batch, injection = rows([0, 0, 0, 0]), join(prefixes([2, 1, 3, 2], config=CONFIG))
    apply = jax.jit(T5(CONFIG).apply)
    here = apply({"params": BASE}, batch, injection)
    base = jax.device_put({"params": BASE}, place.replicated)
    there = apply(base, place.put_batch(batch), jax.device_put(injection, place.replicated))
    np.testing.assert_allclose(here, there, atol=1e-5)


def test_a_row_is_added_to_every_place_of_its_own_example():
    table = np.asarray(BASE["token_embedder"]["embedding"])
    batch = rows([0, 0])
    added = np.random.default_rng(0).normal(size=(2, 2, 16)).astype(np.float32)
    base = {**BASE, "token_embedder": {"embedding": jnp.zeros_like(table)}}
    injection = join([Soft(added=added)])
    x_BLD = T5(CONFIG).apply({"params": base}, packed(batch), injection, method=T5._embedded)[0]
    first = int((batch.input_segments_BL[0] > 0).sum())
    np.testing.assert_array_equal(x_BLD[0], added[0, 0])
    np.testing.assert_array_equal(x_BLD[first - 1], added[0, (first - 1) % 2])
    np.testing.assert_array_equal(x_BLD[first], added[1, 0])
    np.testing.assert_array_equal(x_BLD[first + 1], added[1, 1])


@jax.jit
def _encoded(injection, batch):
    return T5(CONFIG).apply({"params": BASE}, batch, injection, method=T5.encode)[0][0]


def encoded(method, own, batch):
    soft = join([jax.tree.map(lambda x: x[None], method.apply({"params": own}, BASE)[1])])
    return np.asarray(_encoded(soft, batch))


def test_what_slots_see():
    batch = row(rows([3]), 0)
    other = batch.replace(inputs_BL=batch.inputs_BL + 1)
    own = moved(small("prompt_tuning"), 0)
    last = {"prompt": own["prompt"].at[2].add(1.0)}

    def first_slot(parameters, which, **sees):
        method = small("prompt_tuning", **sees)
        return encoded(method, parameters, which)[0]

    def depends(**sees):
        start = first_slot(own, batch, **sees)
        by_text = np.abs(first_slot(own, other, **sees) - start).max() > 0
        by_prompt = np.abs(first_slot(last, batch, **sees) - start).max() > 0
        return bool(by_text), bool(by_prompt)

    assert depends() == (True, True)
    assert depends(sees_text=False) == (False, True)
    # The text hands on what it sees of the last row, so it is shut out here.
    assert depends(sees_text=False, sees_prompt="before") == (False, False)
    assert depends(sees_text=False, sees_prompt="itself") == (False, False)
    text = encoded(small("prompt_tuning", sees_text=False, sees_prompt="itself"), last, batch)[4]
    assert np.abs(text - encoded(small("prompt_tuning"), own, batch)[4]).max() > 0


def test_runs_that_see_differently_share_a_batch():
    methods = [small("prompt_tuning"), small("prompt_tuning", sees_prompt="before")]
    own = [stacked(moved(method, 0)) for method in methods]
    batch = rows([3, 3])
    together = forward(methods, own, batch)
    for i, method in enumerate(methods):
        real = batch.target_segments_BM[i] > 0
        single = forward([method], [own[i]], row(batch, i))[0]
        np.testing.assert_allclose(together[i][real], single[real], atol=2e-5)


def test_tasks_have_their_own_prompts():
    method = small("prompt_tuning", per_task=True).clone(tasks=2)
    own = moved(method, 0)
    assert own["prompt"].shape == (2, 3, 16)
    batch = rows([3, 3], tasks=[0, 1])
    batch = batch.replace(runs_BG=batch.runs_BG * 0)
    together = forward([method], [stacked(own)], batch)
    for i, prompt in enumerate(own["prompt"]):
        single = forward([small("prompt_tuning")], [stacked({"prompt": prompt})], row(batch, i))[0]
        real = batch.target_segments_BM[i] > 0
        np.testing.assert_allclose(together[i][real], single[real], atol=2e-5)


def test_the_loss_of_a_run_with_a_teacher():
    batch = rows([3, 3, 3])
    own = np.random.default_rng(0).normal(size=(3, 1, 3, 16)).astype(np.float32)
    prompt, teacher = (jnp.asarray(x) for x in (own, own[::-1]))
    program = trainer.StepConfig(CONFIG, (small("prompt_tuning"),), None, 0.0, 0.0, None)
    losses = jax.jit(trainer.gang_losses, static_argnums=0)

    def of(*groups):
        total = jnp.ones(3, jnp.float32)
        return np.asarray(losses(program, join(groups), BASE, batch, total, jax.random.key(0)))

    plain = of(Soft(prompt=prompt))
    np.testing.assert_allclose(of(Soft(prompt=prompt, teacher=prompt, distillation=0.5)), plain)
    first = Soft(prompt=prompt[:1])
    rest = Soft(prompt=prompt[1:], teacher=teacher[1:], distillation=0.5)
    found = of(first, rest)
    both = [
        jax.jit(T5(CONFIG).apply, static_argnames="method")(
            {"params": BASE}, batch, join([Soft(prompt=x)]), method=T5.with_hidden
        )
        for x in (prompt, teacher)
    ]
    expected = np.where(batch.target_segments_BM > 0, imitation_losses(*both), 0).sum(axis=1)
    np.testing.assert_allclose(found[0], plain[0], rtol=1e-5)
    np.testing.assert_allclose(found[1:], plain[1:] + 0.5 * expected[1:], rtol=1e-5)
    # The middle run is its own teacher.
    assert expected[1] < 1e-5 < 0.1 < expected[2]


def test_imitation_by_hand():
    logits = np.log(np.array([[[0.5, 0.5]], [[0.25, 0.75]]], np.float32))
    hidden = np.array([[[1.0, 2.0]], [[3.0, 2.0]]], np.float32)
    loss = imitation_losses((logits[:1], hidden[:1]), (logits[1:], hidden[1:]))
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5) + 2.0
    np.testing.assert_allclose(loss, [[expected]], rtol=1e-6)


def test_runs_of_different_numbers_of_tasks_share_a_table():
    def prompt(*shape):
        return Soft(prompt=np.zeros((1, *shape, 16), np.float32))

    table = join([prompt(2), prompt(2, 4), prompt(3, 1), Soft(added=np.zeros((1, 2, 16)))])
    assert table.offsets_NS[:3].tolist() == [[0, 0, 0], [2, 6, 6], [10, 11, 12]]
    assert table.prompt_RD.shape == (13, 16) and table.bias_N2.tolist()[3] == [0, 2]
    batch = rows([1, 1], tasks=[7, 2]).replace(runs_BG=np.array([[0], [2]], np.int32))
    assert np.asarray(prompt_rows(batch, table))[:, 0].tolist() == [0, 12]


def test_what_slots_see_is_read_from_provenance():
    blind = Soft(prompt=np.ones((2, 4)), sees_text=False, sees_prompt="before")
    facts = {name: str(value) for name, value in blind.sees.items()}
    assert Soft.of(blind.arrays(), facts).sees == blind.sees
    assert not Soft.of(blind.arrays()).sees
    with pytest.raises(ValueError, match="sees_text='no' and sees_prompt='all'; allowed are True"):
        Soft.of({}, {"sees_text": "no"})
