"""`spjax.integrations.t5x`: methods of spjax in T5X's model interface and training step.

T5X's whole `train.py` with it is in `test_t5x_demo.py`.
"""

import functools

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spjax import trees
from spjax.checkpoints.weights import weights
from spjax.methods import hard_prompt, initializers, input_bias, lora, p_tuning, prefix_tuning
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.methods.ia3 import IA3
from spjax.methods.prompt_tuning import PromptTuning
from spjax.models import T5, T5Config, decoding
from spjax.models.t5 import weight_shapes
from tests.parity import t5x_shims

integration, adafactor, t5x_optimizers, states, trainer, partitioning = t5x_shims.load(
    "spjax.integrations.t5x",
    "t5x.adafactor",
    "t5x.optimizers",
    "t5x.train_state",
    "t5x.trainer",
    "t5x.partitioning",
)

pytestmark = pytest.mark.filterwarnings("ignore")

# 4 heads, since the mesh that T5X makes on CPU has all devices along `model`.
SHAPE = T5Config(64, 16, 4, 4, 32, 2, 2)
METHODS = {
    "prompt_tuning": PromptTuning(length=3),
    "lora": lora.LoRA(rank=2),
    "ia3": IA3(),
    "prefix_tuning": prefix_tuning.PrefixTuning(length=3, hidden=8),
    "p_tuning": p_tuning.PTuning(length=3),
    "input_bias": input_bias.InputBias(length=3),
}
LENGTHS = {"encoder_input_tokens": (4, 12), "decoder_input_tokens": (4, 5)}


class Vocabulary:
    """The part of seqio's vocabulary that a model asks for."""

    eos_id = 1

    def encode(self, text):
        return [5 + len(text)]


@pytest.fixture(autouse=True)
def as_t5x_expects():
    with jax.default_matmul_precision("float32"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.normal(0, 0.4, leaf.shape).astype("float32"), weight_shapes(SHAPE)
    )
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(path, tree, {}, dtype="float32")
    return str(path)


def optimizer(regex):
    from flax import traverse_util

    chosen = traverse_util.ModelParamTraversal(lambda path, _: regex in path)
    definition = adafactor.Adafactor(0.3, multiply_by_parameter_scale=False)
    return t5x_optimizers.MultiOptimizer(((chosen, definition),))


def model_of(checkpoint, method, **settings):
    regex = "/prompt/" if isinstance(method, PromptTuning) else "method/"
    settings = {"dtype": "float32", "z_loss": 1e-4} | settings
    return integration.EncoderDecoderModel(
        checkpoint, method, Vocabulary(), Vocabulary(), optimizer(regex), **settings
    )


def batch():
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, 64, (4, 12)).astype("int32")
    inputs *= np.arange(12) < np.array([[12], [3], [7], [1]])
    targets = rng.integers(2, 64, (4, 5)).astype("int32")
    targets *= np.arange(5) < np.array([[5], [2], [4], [1]])
    return {
        "encoder_input_tokens": jnp.asarray(inputs),
        "decoder_input_tokens": jnp.asarray(np.pad(targets[:, :-1], ((0, 0), (1, 0)))),
        "decoder_target_tokens": jnp.asarray(targets),
        "decoder_loss_weights": jnp.asarray((targets > 0).astype("int32")),
    }


def variables_of(model, checkpoint):
    """The model's variables, the frozen ones as the checkpoint has them."""
    variables = model.get_initial_variables(jax.random.PRNGKey(0), LENGTHS).unfreeze()
    frozen = trees.flatten(weights.load("auto", checkpoint))
    variables["params"] = trees.unflatten({**trees.flatten(variables["params"]), **frozen})
    return flax.core.freeze(variables)


@pytest.mark.parametrize("name", METHODS)
def test_training_moves_the_method_alone_and_lowers_the_loss(checkpoint, name):
    model = model_of(checkpoint, METHODS[name])
    variables = variables_of(model, checkpoint)
    state = states.FlaxOptimTrainState.create(model.optimizer_def, variables)
    step = jax.jit(functools.partial(trainer.train_with_lr, model=model, num_microbatches=None))
    losses = [float(model.loss_fn(state.params, batch(), None)[0])]
    rate = 0.01 if name != "prompt_tuning" else 0.3
    before = {key: np.asarray(leaf) for key, leaf in trees.flatten(state.params).items()}
    for _ in range(5):
        state, _ = step(state, batch(), jnp.float32(rate), jax.random.PRNGKey(0))
        losses.append(float(model.loss_fn(state.params, batch(), None)[0]))
    after = trees.flatten(state.params)
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    own = {key for key in before if "prompt/prompt" in key or key.startswith("method/")}
    print(f"{name}: {', '.join(f'{loss:.3f}' for loss in losses)}")
    assert moved and moved <= own and losses[-1] < losses[0]
    if name == "prompt_tuning":
        assert own == {"encoder/prompt/prompt/prompt"}


def test_answers_and_scores_are_those_of_spjax(checkpoint):
    model = model_of(checkpoint, METHODS["prompt_tuning"], num_decodes=2)
    params = variables_of(model, checkpoint)["params"]
    rows = batch()
    answers, aux = model.predict_batch_with_aux(params, rows)
    base, injection = model._split(params)
    expected = decoding.beam_search(T5(SHAPE), base, model._rows(rows), injection, 5, 2)
    np.testing.assert_array_equal(answers, expected[0][:, 0])
    every, _ = model.predict_batch_with_aux(params, rows, return_all_decodes=True)
    np.testing.assert_array_equal(every[:, -1], answers)
    assert aux["scores"].shape == (4,)
    loss = model_of(checkpoint, METHODS["prompt_tuning"], z_loss=0.0).loss_fn(params, rows, None)[0]
    assert -float(model.score_batch(params, rows).sum()) == pytest.approx(float(loss), rel=1e-5)
    with pytest.raises(ValueError, match="return_intermediates is True"):
        model.score_batch(params, rows, return_intermediates=True)


def test_a_mesh_gives_the_prompts_of_one_device(checkpoint):
    """T5X's training step, partitioned over the four simulated devices."""
    model = model_of(checkpoint, METHODS["prompt_tuning"])
    variables = variables_of(model, checkpoint)
    make = states.FlaxOptimTrainState.create
    state = make(model.optimizer_def, variables)
    step = functools.partial(trainer.train_with_lr, model=model, num_microbatches=None)
    arguments = (jnp.float32(0.3), jax.random.PRNGKey(0))

    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    axes = partitioner.get_mesh_axes(state)
    data = partitioner.data_partition_spec
    on_mesh = partitioner.partition(
        lambda state, rows: step(state, rows, *arguments)[0],
        in_axis_resources=(axes, data),
        out_axis_resources=axes,
    )
    expected = state
    for _ in range(3):
        expected = step(expected, batch(), *arguments)[0]
    expected = {key: np.array(leaf) for key, leaf in trees.flatten(expected.params).items()}
    found = partitioner.move_params_to_devices(state, axes)  # which gives its buffers away
    for _ in range(3):
        found = on_mesh(found, batch())
    for key, leaf in expected.items():
        np.testing.assert_allclose(trees.flatten(found.params)[key], leaf, atol=2e-4, err_msg=key)


def test_words_are_looked_up_in_the_checkpoint(checkpoint):
    start = initializers.ClassLabels(labels=("a", "bb"))
    model = model_of(checkpoint, PromptTuning(length=2, initializer=start))
    variables = model.get_initial_variables(jax.random.PRNGKey(0), LENGTHS)
    embedding = weights.load("auto", checkpoint)["token_embedder"]["embedding"]
    prompt = variables["params"]["encoder"]["prompt"]["prompt"]["prompt"]
    np.testing.assert_array_equal(prompt, np.asarray(embedding)[[6, 7]])


@pytest.mark.parametrize(
    "method, match",
    [
        (FullFineTuning(), "full_fine_tuning does not go into T5X's trainer: T5X fine-tunes"),
        (hard_prompt.HardPrompt(), "nothing of it is trained"),
        (PromptTuning(length=3, place="end"), "insertion 'end'"),
        (PromptTuning(length=3, per_task=True), "one prompt for all"),
    ],
)
def test_methods_that_do_not_go(checkpoint, method, match):
    with pytest.raises(ValueError, match=match):
        model_of(checkpoint, method)


def test_arrays_of_three_dimensions_are_refused(checkpoint):
    model = model_of(checkpoint, prefix_tuning.PrefixTuning(length=3, hidden=0))
    with pytest.raises(ValueError, match="T5X's Adafactor takes matrices"):
        model.get_initial_variables(jax.random.PRNGKey(0), LENGTHS)
