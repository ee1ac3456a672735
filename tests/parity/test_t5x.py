"""Networks, losses, optimizer, data, decoding and checkpoints of T5X and of spjax.

Needs `SPJAX_T5X_PATH` (see `t5x_shims`) and the packages that T5X imports; tried with the sources
of April 2026. Flaxformer's network with a prompt is in `test_t5x_demo.py`.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints.prompts import prompt_files
from spjax.checkpoints.weights import weights
from spjax.data.batching import batching
from spjax.data.tasks import registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.token_cache import cache
from spjax.models import T5, T5Config, decoding
from spjax.models import losses as model_losses
from spjax.models.t5 import weight_shapes
from spjax.training import losses, optimizers
from spjax.types import Batch
from spjax.vocabularies.vocabulary import load_vocabulary
from tests import t5x_files
from tests.parity import t5x_shims

network, t5x_models, adafactor, t5x_losses, t5x_utils, checkpoints, partitioning, states = (
    t5x_shims.load(
        "t5x.examples.t5.network",
        "t5x.models",
        "t5x.adafactor",
        "t5x.losses",
        "t5x.utils",
        "t5x.checkpoints",
        "t5x.partitioning",
        "t5x.train_state",
    )
)

pytestmark = pytest.mark.filterwarnings("ignore")

V11 = T5Config(64, 16, 3, 4, 24, 2, 3)
V10 = dataclasses.replace(V11, mlp_activations=("relu",), logits_via_embedding=True)


@pytest.fixture(autouse=True)
def as_t5x_expects():
    with jax.default_matmul_precision("float32"), jax.numpy_dtype_promotion("standard"):
        yield


def random_weights(config, scale=0.5):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, scale, leaf.shape).astype("float32"), weight_shapes(config)
    )


def their_network(config):
    same = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(network.T5Config)
        if hasattr(config, field.name) and field.name != "dtype"
    }
    return network.Transformer(network.T5Config(**same))


def batch_of(inputs, targets):
    one, none = np.zeros((len(inputs), 1), "int32"), -np.ones_like(inputs)
    segments = (inputs > 0).astype("int32"), (targets > 0).astype("int32")
    batch = Batch(inputs, none, segments[0], targets, segments[1], one, one)
    return jax.tree.map(jnp.asarray, batch)


def examples(rows=3, length=140):
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, 64, (rows, length)).astype("int32")
    lengths = rng.integers(1, length + 1, (rows, 1))
    lengths[0] = length
    inputs *= np.arange(length)[None] < lengths  # padding at the end
    return inputs, rng.integers(2, 64, (rows, 7)).astype("int32")


@pytest.mark.parametrize("config", [V11, V10], ids=["t5_1_1", "t5_1_0"])
def test_logits(config):
    tree = random_weights(config)
    inputs, targets = examples()
    moved = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    theirs = their_network(config)
    expected = theirs.apply({"params": tree}, inputs, moved, targets, enable_dropout=False)
    found = T5(config).apply({"params": tree}, batch_of(inputs, targets))
    difference = np.abs(np.asarray(found) - np.asarray(expected)).max()
    print(f"max |logit| {np.abs(expected).max():.3f}, difference {difference:.2e}")
    assert difference < 1e-4


@pytest.mark.parametrize("z_loss, smoothing", [(0.0, 0.0), (1e-4, 0.0), (1e-2, 0.1)])
@pytest.mark.parametrize(
    "normalizer", [None, 7.0, "NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"]
)
def test_losses(z_loss, smoothing, normalizer):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 6, 20)).astype("float32")
    targets = rng.integers(1, 20, (4, 6)).astype("int32")
    real = (np.arange(6) < np.array([[6], [2], [4], [1]])).astype("int32")
    factor, weights_BM = t5x_losses.get_loss_normalizing_factor_and_weights(
        t5x_losses.convert_special_loss_normalizing_factor_to_enum(normalizer)
        if isinstance(normalizer, str)
        else normalizer,
        {"decoder_target_tokens": targets * real, "decoder_loss_weights": real},
    )
    expected = t5x_losses.compute_weighted_cross_entropy(
        logits, targets, weights_BM, smoothing, z_loss, factor
    )[0]
    token = model_losses.token_losses(jnp.asarray(logits), targets, z_loss, smoothing)
    totals_N = jnp.asarray([losses.total(real, normalizer)])
    found = losses.run_losses(token, real, np.zeros_like(real), totals_N, normalizer)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


SETTINGS = {
    "prompts": {"multiply_by_parameter_scale": False, "weight_decay_rate": 1e-5},
    "full fine-tuning": {},
    "never factored": {"multiply_by_parameter_scale": False},
}


@pytest.mark.parametrize("start", [0, 1_100_000])
@pytest.mark.parametrize("length", [20, 150])
@pytest.mark.parametrize("settings", SETTINGS)
def test_adafactor(settings, length, start):
    """Five updates of a prompt; one of 128 soft tokens and more has a factored second moment."""
    rng = np.random.default_rng(0)
    ours = {"decay_offset": -start, **SETTINGS[settings]}
    if settings == "full fine-tuning":
        ours |= {"multiply_by_parameter_scale": True, "weight_decay_rate": 0.0}
    theirs = dict(SETTINGS[settings])
    if settings == "never factored":
        ours |= {"min_dim_size_to_factor": 10**9, "weight_decay_rate": 0.0}
        theirs |= {"factored": False}
    params = {"prompt": jnp.asarray(rng.normal(0, 1, (length, 130)).astype("float32"))}
    update = optimizers.Adafactor(**ours).make(0.3)
    slots, found = update.init(params), params
    definition = adafactor.Adafactor(0.3, **theirs)
    state, expected = definition.init_state(params), params
    state = state.replace(step=jnp.int32(start))
    for _ in range(5):
        grads = {"prompt": jnp.asarray(rng.normal(0, 0.1, (length, 130)).astype("float32"))}
        changes, slots = update.update(grads, slots, found)
        found = jax.tree.map(jnp.add, found, changes)
        hyper = definition.hyper_params
        expected, state = definition.apply_gradient(hyper, expected, state, grads)
        moved = np.abs(expected["prompt"] - params["prompt"]).max()
        np.testing.assert_allclose(found["prompt"], expected["prompt"], atol=2e-6 * max(1, moved))


@pytest.mark.parametrize("factors", ["constant", "constant * linear_warmup * decay_every"])
def test_schedule(factors):
    theirs = t5x_utils.create_learning_rate_scheduler(
        factors, base_learning_rate=0.3, warmup_steps=7, decay_factor=0.5, steps_per_decay=10
    )
    more = {"warmup_steps": 7, "decay_factor": 0.5, "steps_per_decay": 10}
    ours = optimizers.Adafactor(**(more if "linear" in factors else {}))
    for step in range(35):
        rate = optimizers.scheduled(ours, 0.3, jnp.int32(step))
        # T5X's is never less than 1e-8.
        np.testing.assert_allclose(rate, theirs(jnp.int32(step)), rtol=1e-6, atol=2e-8)


@pytest.fixture(scope="module")
def their_model():
    module = their_network(V11)
    definition = adafactor.Adafactor(0.3)
    return t5x_models.EncoderDecoderModel(module, None, None, definition)


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_beam_search(their_model, beams):
    """Answers of up to 12 tokens for 40 random inputs, half of them with an end."""
    inputs, _ = examples(40, 30)
    tree = random_weights(V11)
    tree["decoder"]["logits_dense"]["kernel"][:, 1] *= 2.0
    blank = np.ones((40, 12), "int32")
    batch = {"encoder_input_tokens": inputs, "decoder_input_tokens": blank}

    class Vocabulary:
        eos_id = 1

    their_model._output_vocabulary = Vocabulary()
    expected = np.asarray(their_model.predict_batch_with_aux(tree, batch, num_decodes=beams)[0])
    search = jax.jit(
        lambda w, b: decoding.beam_search(T5(V11), w, b, None, 12, num_beams=beams)[0][:, 0]
    )
    found = np.asarray(search(tree, batch_of(inputs, blank)))
    ended = (expected == 1).any(axis=1).sum()
    equal = (found == expected).all(axis=1).sum()
    print(f"{beams} beams: {equal} of 40 outputs equal, {ended} with an end")
    assert equal == 40 and 0 < ended < 40


TEXTS = [
    ("one two three", "yes"),
    ("naïve “quotes”  <extra_id_3> x", "no way"),
    (" ".join(["longer than it may be"] * 9), "cut , too , since it has many words"),
]


def test_examples_of_a_seqio_task(tmp_path):
    """Features of seqio's converter, and rows of spjax, of the same texts and vocabulary."""
    import seqio
    import tensorflow as tf

    lengths = {"inputs": 20, "targets": 8}
    feature = seqio.Feature(seqio.SentencePieceVocabulary(str(load_vocabulary("t5").path), 100))
    features = dict.fromkeys(lengths, feature)
    texts = tf.data.Dataset.from_tensor_slices(
        {"inputs": [text for text, _ in TEXTS], "targets": [text for _, text in TEXTS]}
    )
    tokens = seqio.preprocessors.append_eos_after_trim(
        seqio.preprocessors.tokenize(texts, features),
        output_features=features,
        sequence_length=lengths,
    )
    tokens = tokens.map(lambda example: {key: example[key] for key in lengths})
    expected = list(seqio.EncDecFeatureConverter(pack=False)(tokens, lengths).as_numpy_iterator())

    lines = [json.dumps({"input": text, "target": target}) for text, target in TEXTS]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    path = str(tmp_path / "rows.jsonl")
    info = registry.get(FileTask(path, validation=path, test=path))
    cache.ensure_all([(info, "train", lengths, "t5")], tmp_path / "cache")
    split = cache.load(info, "train", lengths, vocabulary="t5", cache_dir=tmp_path / "cache")
    layout = batching.make_layout([split], input_length=20, target_length=8)
    found = batching.rows(split, np.arange(len(TEXTS)), layout)
    for row, features in enumerate(expected):
        np.testing.assert_array_equal(found["inputs_BL"][row], features["encoder_input_tokens"])
        np.testing.assert_array_equal(found["targets_BM"][row], features["decoder_target_tokens"])
        real = found["target_segments_BM"][row] > 0
        np.testing.assert_array_equal(real, features["decoder_loss_weights"])


def test_checkpoints_of_t5x_are_read(tmp_path):
    tree = random_weights(V11)
    state = states.FlaxOptimTrainState.create(
        adafactor.Adafactor(0.3), {"params": tree, "params_axes": axes()}
    )
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    saver = checkpoints.Checkpointer(state, partitioner, str(tmp_path))
    saver.save(state.replace_step(jnp.int32(5)))
    found = weights.load("auto", str(tmp_path / "checkpoint_5"))
    flat = trees.flatten(found)
    assert flat.keys() == trees.flatten(tree).keys()
    for name, array in trees.flatten(tree).items():
        np.testing.assert_array_equal(flat[name], array)


def axes():
    variables = jax.eval_shape(
        lambda: their_network(V11).init(
            jax.random.key(0), *[jnp.ones((1, 4), jnp.int32)] * 3, enable_dropout=False
        )
    )
    return variables["params_axes"]


def test_checkpoints_of_the_tests_are_t5x_s_own_format(tmp_path):
    """T5X reads what the other tests write for spjax to read."""
    leaves = trees.flatten(random_weights(V11))
    t5x_files.write(tmp_path / "checkpoint_9", leaves, step=9)
    index = checkpoints.load_t5x_checkpoint(str(tmp_path / "checkpoint_9"))
    found = trees.flatten(index["target"])
    assert found.keys() == leaves.keys() and index["state"]["step"] == 9
    for name, array in leaves.items():
        np.testing.assert_array_equal(found[name], array)


def test_prompts_both_ways(tmp_path):
    prompts, prompt_utils = t5x_shims.load("prompt_tuning.prompts", "prompt_tuning.train.utils")
    rng = np.random.default_rng(0)
    prompt = rng.normal(size=(5, 16)).astype("float32")
    np.save(tmp_path / "ours.npy", prompt)
    written = prompt_files.convert(tmp_path / "ours.npy", tmp_path / "t5x", "t5x")
    path = next(p for p in (written, *tmp_path.rglob("encoder.prompt*")) if p.is_file())
    start = prompts.from_array(prompts.np_load(str(path)))
    np.testing.assert_array_equal(start(jax.random.key(0), (5, 16)), prompt)
    prompt_utils.np_save(str(tmp_path / "encoder.prompt.prompt.prompt"), prompt)
    found = prompt_files.read_soft_tokens(tmp_path / "encoder.prompt.prompt.prompt", width=16)
    np.testing.assert_array_equal(found.soft_tokens_PD, prompt)
