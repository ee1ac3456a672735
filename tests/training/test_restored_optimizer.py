"""Full fine-tuning that goes on with the optimizer's state of a T5X checkpoint."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from spjax import trees
from spjax.checkpoints.weights import t5x
from spjax.methods.full_fine_tuning import FullFineTuning
from spjax.models import get_size
from spjax.models.t5 import init_weights
from spjax.training import loop, restored_optimizer, stored_run
from spjax.training.optimizers import Adafactor, AdamW
from tests.t5x_files import write

STEP = 1_000_000
OPTIMIZER = Adafactor(
    0.01, min_dim_size_to_factor=16, multiply_by_parameter_scale=True, weight_decay_rate=0.0
)
WEIGHTS = init_weights(get_size("pocket_50k"), jax.random.key(0))
LEAVES = {name: np.asarray(leaf) for name, leaf in trees.flatten(WEIGHTS).items()}


def slots_of(leaves=LEAVES, scale=1.0):
    """Slots as T5X's Adafactor has them: factored where both dimensions are 16 or more."""
    rng, slots = np.random.default_rng(2), {}
    for name, leaf in leaves.items():
        shapes = dict.fromkeys(("m", "v", "v_row", "v_col"), (1,))
        if leaf.ndim == 2 and min(leaf.shape) >= 16:
            second, first = np.argsort(leaf.shape)
            shapes |= {"v_row": (leaf.shape[second],), "v_col": (leaf.shape[first],)}
        else:
            shapes["v"] = leaf.shape
        for slot, shape in shapes.items():
            slots[f"{name}/{slot}"] = np.float32(scale * rng.uniform(0.5, 2, shape))
    return slots


SLOTS = slots_of()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("t5x") / "c", LEAVES, slots=SLOTS, step=STEP))


def fresh():
    stacked = jax.tree.map(lambda x: x[None], WEIGHTS)
    return jax.vmap(OPTIMIZER.make(0.0).init)(stacked)


def updated(name, gradient):
    """A parameter after one step of T5X's Adafactor (`t5x/adafactor.py`), in float64."""
    leaf, v, row, col = LEAVES[name], *(SLOTS[f"{name}/{s}"] for s in ("v", "v_row", "v_col"))
    beta = 1 - (STEP + 1.0) ** -0.8
    squares = np.float64(gradient) ** 2 + 1e-30
    if v.shape == leaf.shape:
        y = gradient / np.sqrt(beta * v + (1 - beta) * squares)
    else:
        second, first = np.argsort(leaf.shape)
        row = beta * row + (1 - beta) * squares.mean(axis=first)
        col = beta * col + (1 - beta) * squares.mean(axis=second)
        y = gradient / np.sqrt(np.expand_dims(row / row.mean(), first))
        y = y / np.sqrt(np.expand_dims(col, second))
    y = y / max(1.0, np.sqrt(np.mean(y**2)))
    return leaf - 0.01 * max(1e-3, np.sqrt(np.mean(np.float64(leaf) ** 2))) * y


def test_a_step_with_the_restored_state_is_t5x_s(path):
    state = jax.tree.map(lambda x: x[0], restored_optimizer.restore(fresh(), path))
    rng = np.random.default_rng(3)
    gradients = {name: np.float32(rng.normal(size=x.shape)) for name, x in LEAVES.items()}
    updates, _ = OPTIMIZER.make(0.01).update(trees.unflatten(gradients), state, WEIGHTS)
    after = trees.flatten(optax.apply_updates(WEIGHTS, updates))
    factored = 0
    for name, gradient in gradients.items():
        np.testing.assert_allclose(after[name], updated(name, gradient), atol=1e-5, err_msg=name)
        factored += SLOTS[f"{name}/v"].shape == (1,)
    assert 0 < factored < len(LEAVES)


@pytest.mark.parametrize("version", t5x.VERSIONS[1:])
def test_versions(tmp_path, version):
    few = dict(list(SLOTS.items())[:8])
    slots, step = t5x.open_optimizer(write(tmp_path / "c", {}, version, "gcs", True, slots=few))
    assert step == 3 and slots.keys() == few.keys()
    for name, leaf in slots.items():
        np.testing.assert_array_equal(leaf.read("float32"), few[name])


@pytest.mark.parametrize("ocdbt", [False, True])
def test_orbax_layout(tmp_path, ocdbt):
    state = {"step": np.int32(7), "param_states": trees.unflatten(SLOTS)}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as writer:
        writer.save(tmp_path / "c" / "state", {"target": WEIGHTS, "state": state})
    slots, step = t5x.open_optimizer(tmp_path / "c")
    assert step == 7 and slots.keys() == SLOTS.keys()
    name = "token_embedder/embedding/v_row"
    np.testing.assert_array_equal(slots[name].read("float32"), SLOTS[name])


@pytest.fixture
def tuned(run, path):
    return dataclasses.replace(
        run,
        method=FullFineTuning(),
        optimizer=OPTIMIZER,
        checkpoint=path,
        restore_optimizer=True,
        steps=1,
        eval_period=1,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("few_examples")
def test_a_run_goes_on_with_the_state_of_its_checkpoint(tuned, tmp_path):
    huge = write(tmp_path / "c", LEAVES, slots=slots_of(scale=1e12), step=STEP)
    moved = {}
    for name, run in {
        "restored": dataclasses.replace(tuned, checkpoint=str(huge)),
        "fresh": dataclasses.replace(tuned, checkpoint=str(huge), restore_optimizer=False),
    }.items():
        loop.train([run], [tmp_path / name])
        after = trees.flatten(stored_run.weights_of(run, tmp_path / name, run.open_model()))
        moved[name] = max(float(jnp.abs(after[key] - x).max()) for key, x in LEAVES.items())
    # Moments of such a size leave hardly anything of a step.
    assert moved["fresh"] > 1e-3 > 1e-5 > moved["restored"]


def test_checkpoints_without_a_usable_state(tmp_path, tuned, checkpoint):
    def refused(message, slots=SLOTS, **settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(ValueError, match=message):
            restored_optimizer.restore(fresh(), str(write(folder, {}, slots=slots, **settings)))

    refused("has no optimizer's state", {})
    refused("the step in the index of .* is -1, not a number of updates", step=-1)
    name = "decoder/logits_dense/kernel"
    refused(f"missing: .*{name}/v", {k: x for k, x in SLOTS.items() if name not in k})
    refused(f"{name}/v_row has shape .3,., not", SLOTS | {f"{name}/v_row": np.ones(3, "float32")})
    moving = {f"{name}/m": np.ones_like(LEAVES[name])}
    refused("has momentum .*logits_dense/kernel/m", SLOTS | moving)
    refused("is of stacked layers", {"encoder/layers/mlp/wo/kernel/v": np.ones(1, "float32")})
    damaged = np.full_like(SLOTS[f"{name}/v_row"], np.nan)
    refused("v_row in .* NaN", SLOTS | {f"{name}/v_row": damaged})
    with pytest.raises(ValueError, match="is of the format 'spjax', which has no optimizer's"):
        restored_optimizer.restore(fresh(), checkpoint)


def test_runs_that_have_no_such_optimizer(tuned, run):
    with pytest.raises(ValueError, match="which is for full fine-tuning of a checkpoint that T5X"):
        dataclasses.replace(run, restore_optimizer=True)
    with pytest.raises(ValueError, match="with a decay_offset of 0"):
        dataclasses.replace(tuned, optimizer=dataclasses.replace(OPTIMIZER, decay_offset=-3))
    with pytest.raises(ValueError, match="which is for Adafactor"):
        dataclasses.replace(tuned, optimizer=AdamW())
    with pytest.raises(ValueError, match="Run.restore_optimizer is 1; it must be True or False"):
        dataclasses.replace(tuned, restore_optimizer=1)
