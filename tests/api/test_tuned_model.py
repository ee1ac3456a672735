"""A training loop of one's own."""

import json

import jax
import numpy as np
import optax
import pytest

import spjax
from spjax.checkpoints.prompts import prompt_files
from spjax.models.losses import token_losses
from tests.api.conftest import SETTINGS, pairs


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax.adam raises a float to an int32
        yield


def train(tuned, batches, optimizer, steps, jit=jax.jit):
    """Losses of some steps, and the parameters after them."""
    trainable = tuned.init(seed=0)
    state = optimizer.init(trainable)

    @jit
    def step(trainable, state, base, batch):
        loss, grads = jax.value_and_grad(tuned.loss_fn)(trainable, base, batch)
        updates, state = optimizer.update(grads, state, trainable)
        return optax.apply_updates(trainable, updates), state, loss

    losses = []
    for _, batch in zip(range(steps), batches):
        trainable, state, loss = step(trainable, state, tuned.model.weights, batch)
        losses.append(float(loss))
    return losses, trainable


@pytest.fixture(scope="module")
def tuned(model, method, task):
    return spjax.TunedModel(model, method, task)


@pytest.fixture(scope="module")
def with_adam(tuned):
    """The digest of the weights, then losses of twelve steps and the parameters after them."""
    before = tuned.model.digest
    with jax.numpy_dtype_promotion("standard"):
        return before, *train(tuned, tuned.batches(8), optax.adam(0.3), 12)


@pytest.mark.slow
def test_the_loss_falls_and_only_the_prompt_moves(tuned, with_adam):
    before, losses, trainable = with_adam
    assert losses[-1] < 0.7 * losses[0]
    start = tuned.init(seed=0)
    assert set(start) == set(trainable) == {"prompt"}
    assert not np.allclose(start["prompt"], trainable["prompt"])
    from spjax.checkpoints.weights import weights

    assert weights.digest(tuned.model.weights) == before


def test_losses_are_those_of_the_library(tuned, model, task, method, tmp_path):
    settings = {**SETTINGS, "steps": 3, "eval_period": 1}
    optimizer = spjax.AdamW(learning_rate=0.3)
    run = spjax.train(model, task, method, optimizer, output_dir=tmp_path / "run", **settings)
    losses, _ = train(tuned, tuned.batches(8), optax.adamw(0.3, weight_decay=0), 3)
    logged = [row["train/loss"] for row in run.metrics if "train/loss" in row]
    np.testing.assert_allclose(losses, logged, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"])
def test_normalized_losses_are_those_of_the_library(model, task, method, tmp_path, factor):
    options = {"z_loss": 1e-3, "label_smoothing": 0.1, "loss_normalizing_factor": factor}
    settings = {**SETTINGS, "steps": 1, "eval_period": 1, **options}
    run = spjax.train(model, task, method, output_dir=tmp_path / "run", **settings)
    tuned = spjax.TunedModel(model, method, task, **options)
    losses, _ = train(tuned, tuned.batches(8), optax.sgd(0.1), 1)
    assert losses == pytest.approx([run.metrics[0]["train/loss"]], rel=1e-5)


def test_texts_of_ones_own(model, method, tuned):
    free = spjax.TunedModel(model, method)
    inputs, targets = zip(*pairs(5))
    batch = free.batch(inputs, targets)
    trainable = free.init(seed=0)
    np.testing.assert_array_equal(trainable["prompt"], tuned.init(seed=0)["prompt"])
    logits_BMV = jax.jit(free.logits)(trainable, model.weights, batch)
    assert logits_BMV.shape == (5, batch.targets_BM.shape[1], model.config.vocab_size)
    losses_BM = token_losses(logits_BMV, batch.targets_BM)
    total = float(losses_BM[np.asarray(batch.target_segments_BM) > 0].sum())
    loss = jax.jit(free.loss_fn)(trainable, model.weights, batch)
    assert float(loss) == pytest.approx(total, rel=1e-5)
    generate = jax.jit(free.generate, static_argnames="max_length")
    ids_BM = generate(trainable, model.weights, batch, max_length=6)
    assert ids_BM.shape == (5, 6) and ids_BM.dtype == np.int32
    texts = [model.vocabulary.decode(ids) for ids in np.asarray(ids_BM).tolist()]
    assert texts == free.predict(trainable, inputs, max_length=6)


def test_its_prompt_predicts(tuned, model, tmp_path):
    trainable = tuned.init(seed=3)
    path = spjax.save_prompt(tuned.prompt(trainable), tmp_path / "p", "peft")
    texts = [text for text, _ in pairs(4)]
    predictor = spjax.load_predictor(path, model, target_length=8)
    assert predictor.predict(texts) == tuned.predict(trainable, texts, max_length=8)


@pytest.mark.slow
def test_a_mesh(method, task, with_adam):
    spread = spjax.load_model("pocket_50k", num_partitions=2, logical_axis_rules="fsdp")
    own = spjax.TunedModel(spread, method, task)
    batch = next(own.batches(8))
    assert len(batch.inputs_BL.sharding.device_set) == 4
    assert batch.inputs_BL.addressable_shards[0].data.shape[0] == 4  # of two along `data`
    losses, _ = train(own, own.batches(8), optax.adam(0.3), 2)
    np.testing.assert_allclose(losses, with_adam[1][:2], rtol=1e-4)


@pytest.mark.slow
def test_weights_of_its_own(model, task):
    tuned = spjax.TunedModel(model, spjax.LoRA(rank=2), task)
    losses, trainable = train(tuned, tuned.batches(8), optax.adam(0.01), 3)
    assert losses[-1] < losses[0]
    assert all(name.startswith("lora/") for name in tuned.prompt(trainable).tensors)


@pytest.mark.slow
def test_dropout_needs_a_key(model, method):
    tuned = spjax.TunedModel(model, method, dropout_rate=0.1)
    batch, trainable = tuned.batch(["a"], ["b"]), tuned.init()
    with pytest.raises(ValueError, match=r"dropout_rate is 0.1, so loss_fn needs a key: loss_fn\("):
        tuned.loss_fn(trainable, model.weights, batch)
    keys = [jax.random.key(i) for i in (0, 0, 1)]
    loss_fn = jax.jit(tuned.loss_fn)
    first, again, other = (loss_fn(trainable, model.weights, batch, key) for key in keys)
    assert first == again != other


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda m: spjax.TunedModel(m, spjax.HardPrompt()), "HardPrompt has nothing to train"),
        (lambda m: spjax.TunedModel(m, spjax.LoRA), "the class LoRA; give an object of it"),
        (lambda m: spjax.TunedModel(m, spjax.PromptTuning()).batches(), "no task to read batches"),
        (lambda m: spjax.TunedModel(m, spjax.PromptTuning()).evaluate({}), "no task to score on"),
        (lambda m: spjax.TunedModel(m, spjax.PromptTuning(), z_los=1), "no setting 'z_los'"),
        (lambda m: spjax.TunedModel(m, spjax.PromptTuning()).batch([]), "inputs is .*at least one"),
        (lambda m: spjax.TunedModel(m, spjax.PromptTuning()).batch("ab"), "inputs is 'ab'; give a"),
        (
            lambda m: spjax.TunedModel(m, spjax.PromptTuning()).batch(["a"], ["b", "c"]),
            "1 inputs and 2 targets; give one target for each",
        ),
        (
            lambda m: spjax.TunedModel(spjax.load_model("pocket_50k", dtype="int8"), spjax.LoRA()),
            "LoRA changes the weights, and the model's dtype is 'int8'",
        ),
    ],
)
def test_mistakes(model, make, message):
    with pytest.raises(ValueError, match=message):
        make(model)


def test_the_model_is_the_one_that_was_given(model):
    """However many others have been opened since."""
    tuned = spjax.TunedModel(model, spjax.PromptTuning(length=2), "pocket_cb")
    for dtype in ("bfloat16", "int8"):
        spjax.load_model("pocket_50k", dtype=dtype)
        spjax.load_model("pocket_200k", dtype=dtype)
    assert tuned._run.open_model() is model


def test_lengths_are_those_that_were_asked_for(model):
    method = spjax.PromptTuning(length=2)
    text = " ".join(["the box is red ."] * 40)
    for data in (None, "pocket_cb"):
        tuned = spjax.TunedModel(model, method, data, input_length=12, target_length=3)
        batch = tuned.batch([text], ["a b c d e f g"])
        assert int((batch.input_segments_BL > 0).sum()) == 14
        assert int((batch.target_segments_BM > 0).sum()) == 3


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"label_smoothing": 5.0}, "label_smoothing is 5.0"),
        ({"z_loss": -1.0}, "z_loss is -1.0"),
        ({"loss_normalizing_factor": "typo"}, "loss_normalizing_factor is 'typo'; use None"),
        ({"loss_normalizing_factor": 0.0}, "loss_normalizing_factor is 0.0"),
    ],
)
def test_settings_of_the_loss_are_checked(model, setting, message):
    with pytest.raises(ValueError, match=message):
        spjax.TunedModel(model, spjax.PromptTuning(length=2), **setting)


def test_an_optimizer_for_own_loops_has_its_rate_and_warmup():
    for optimizer in (spjax.AdamW(0.5, warmup_steps=2), spjax.AdamW(0.5)):
        transform, params = optimizer.to_optax(), {"x": np.ones(3, np.float32)}
        state, sizes = transform.init(params), []
        for _ in range(3):
            updates, state = transform.update({"x": np.ones(3, np.float32)}, state, params)
            sizes.append(float(-updates["x"][0]))
        expected = [0.0, 0.25, 0.5] if optimizer.warmup_steps else [0.5] * 3
        np.testing.assert_allclose(sizes, expected, rtol=1e-4)


def test_answers_are_compiled_once_and_in_batches(tuned):
    trainable, texts = tuned.init(), [text for text, _ in pairs(5)]
    answers = tuned.predict(trainable, texts, 6, batch_size=5)
    compiled = tuned._generate._cache_size()
    assert tuned.predict(trainable, texts, 6, batch_size=5) == answers
    assert tuned._generate._cache_size() == compiled
    assert tuned.predict(trainable, texts, 6, batch_size=2) == answers


def test_its_scores_are_those_of_the_run(tuned, trained):
    scores = tuned.evaluate(trained.prompt.tensors, "test")
    assert scores == trained.test


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0, 2])
def test_losses_are_those_of_the_same_optimizer(tuned, model, task, method, tmp_path, warmup):
    settings = {**SETTINGS, "steps": 3, "eval_period": 1}
    optimizer = spjax.Adafactor(0.3, warmup_steps=warmup)
    run = spjax.train(model, task, method, optimizer, output_dir=tmp_path / "run", **settings)
    losses, _ = train(tuned, tuned.batches(8), optimizer.to_optax(), 3)
    logged = [row["train/loss"] for row in run.metrics if "train/loss" in row]
    np.testing.assert_allclose(losses, logged, rtol=1e-5)


def test_batches_continue_from_a_saved_position(tuned):
    batches = tuned.batches(4, seed=1)
    next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    expected = next(batches)
    again = tuned.batches(4, seed=1)
    again.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, next(again), expected)


def test_bad_batch_sizes(tuned):
    for batch_size in (0, 2.5):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}; it must be a whole"):
            tuned.predict(tuned.init(), ["a"], batch_size=batch_size)
    with pytest.raises(ValueError, match="BATCH_SIZE is 0|batch_size is 0"):
        tuned.batches(0)


@pytest.mark.slow
def test_a_prompt_remembers_what_its_slots_see(model, task):
    blind = spjax.TunedModel(model, spjax.PromptTuning(length=2, sees_text=False), task)
    facts = blind.prompt(blind.init()).provenance
    assert facts["sees_text"] == "False" and "sees_prompt" not in facts
    fields = spjax.TunedModel(model, spjax.PTuning(template="{p:2} {hypothesis}"), "pocket_cb")
    assert "hypothesis" in fields.prompt(fields.init()).provenance["fields"].split()


def test_a_multitask_prompt_keeps_its_parts(model, task, tmp_path):
    tuned = spjax.TunedModel(model, spjax.MultitaskPromptTuning(length=3), task)
    path = spjax.save_prompt(tuned.prompt(tuned.init()), tmp_path / "peft", "peft")
    config = json.loads((path / "adapter_config.json").read_text())
    assert config["peft_type"] == "MULTITASK_PROMPT_TUNING"


@pytest.mark.parametrize("format", prompt_files.FORMATS)
def test_a_multitask_prompt_goes_into_every_format(format, model, task, tmp_path):
    tuned = spjax.TunedModel(model, spjax.MultitaskPromptTuning(length=3), task)
    prompt = tuned.prompt(tuned.init())
    stored = spjax.load_prompt(spjax.save_prompt(prompt, tmp_path / "prompt", format))
    np.testing.assert_array_equal(stored.soft_tokens_PD, prompt.soft_tokens_PD)
