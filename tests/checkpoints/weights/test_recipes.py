"""Size and pre-training seed of weights, read from what `spjax pretrain` wrote in their header."""

import json

import jax
import pytest

from spjax.checkpoints.weights import recipes, weights
from spjax.models.sizes import get_size
from spjax.models.t5 import init_weights


@pytest.fixture(scope="module")
def params():
    return init_weights(get_size("graded_50k"), jax.random.key(0))


def write(path, params, recipe):
    weights.save(path, params, {"recipe": recipe} if recipe is not None else {}, "bfloat16")
    return str(path)


def test_auto_takes_size_and_seed_from_the_recipe(tmp_path, params):
    for seed in (3, 4):
        recipe = json.dumps({"model": "graded_50k", "seed": seed})
        path = write(tmp_path / "weights.safetensors", params, recipe)
        assert recipes.model_name_and_seed("auto", path) == ("graded_50k", seed)
        assert recipes.model_name_and_seed("graded_50k", path) == ("graded_50k", seed)


@pytest.mark.parametrize(
    "recipe",
    [None, "{}", "no json", "[1]", '{"model": "graded_130k", "seed": -1}', '{"seed": "1"}'],
)
def test_without_a_usable_recipe_the_file_names_the_model(tmp_path, params, recipe):
    path = write(tmp_path / "mine.safetensors", params, recipe)
    assert recipes.model_name_and_seed("auto", path) == ("mine", 0)
    assert recipes.model_name_and_seed("graded_50k", path) == ("graded_50k", 0)


def test_shipped_weights_and_addresses():
    assert recipes.model_name_and_seed("pocket_50k") == ("pocket_50k", 0)
    assert recipes.model_name_and_seed("t5_1_1_small") == (
        "t5_1_1_small",
        0,
    )  # a plan needs no weights
    url = "gs://bucket/t5_1_1_lm100k_xl/checkpoint_1100000/"
    assert recipes.model_name_and_seed("auto", url) == ("checkpoint_1100000", 0)
    with pytest.raises(ValueError, match="INITIAL_CHECKPOINT_PATH"):
        recipes.model_name_and_seed("auto")
    with pytest.raises(ValueError, match="nothing.safetensors"):
        recipes.model_name_and_seed("auto", "nothing.safetensors")
