"""The order of gin files, and settings of what was not chosen."""

import dataclasses
import itertools

import pytest

from spjax import config
from spjax.training.optimizers import AdamW
from tests.config.small_run import NEEDED, ROOT

pytestmark = pytest.mark.usefixtures("in_clone")
CONFIGS = ROOT / "gin_configs"
METHODS = sorted((CONFIGS / "methods").glob("*.gin"))
# Presets include prompt_finetune.gin, which has no numbers of its own; patient.gin goes beside one.
RUNS = sorted((CONFIGS / "runs").glob("*.gin"))
PATIENT = CONFIGS / "runs" / "patient.gin"
PRESETS = [path for path in RUNS if "TRAIN_STEPS =" in path.read_text() and path != PATIENT]
PROMPTS = sorted((CONFIGS / "prompts").glob("*.gin"))
MODEL = CONFIGS / "models" / "pocket.gin"


def load(*files, bindings=()):
    return config.load("Run", files, [*NEEDED, *bindings])


def file(folder, text):
    path = folder / "mine.gin"
    path.write_text(text)
    return path


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", METHODS, ids=lambda path: path.stem)
def test_every_order_of_files_builds_the_same_run(method, preset):
    runs = [load(*files) for files in itertools.permutations([MODEL, preset, method])]
    assert all(run == runs[0] for run in runs)
    by_hand = load(MODEL, method, preset, bindings=["LEARNING_RATE = 0.7"])
    assert by_hand.optimizer.learning_rate == 0.7


@pytest.mark.parametrize(
    ("preset", "method"),
    [("graded", "prompt_tuning"), ("graded_full_fine_tuning", "full_fine_tuning")],
)
def test_more_patience_counts_in_every_order(preset, method):
    files = [MODEL, CONFIGS / f"runs/{preset}.gin", CONFIGS / f"methods/{method}.gin"]
    bindings = ["MODEL_SIZE = 'graded_50k'"]
    hasty = load(*files, bindings=bindings)
    assert (hasty.steps, hasty.patience) == (3000, 5)
    for order in itertools.permutations([*files, PATIENT]):
        assert load(*order, bindings=bindings) == dataclasses.replace(
            hasty, steps=10_000, patience=20
        )


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda path: path.stem)
def test_files_of_initial_values_count_in_every_order(prompt):
    files = [MODEL, PRESETS[0], CONFIGS / "methods" / "prompt_tuning.gin", prompt]
    needed = ["PROMPT_FILE = 'prompt.npy'"] if prompt.stem == "from_file" else []
    runs = [load(*order, bindings=needed) for order in itertools.permutations(files)]
    assert len({config.config_str(run) for run in runs}) == 1


def test_a_method_has_its_own_rate_and_a_file_of_the_user_wins(tmp_path):
    files = [CONFIGS / "methods" / "lora.gin", MODEL, CONFIGS / "runs" / "pocket.gin"]
    assert load(*files).optimizer.learning_rate == 0.003
    mine = file(tmp_path, "LEARNING_RATE = 0.02\nAdafactor.weight_decay_rate = 0.1\n")
    for order in itertools.permutations([*files, mine]):
        optimizer = load(*order).optimizer
        assert (optimizer.learning_rate, optimizer.weight_decay_rate) == (0.02, 0.1)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_adamw_goes_with_every_preset(preset, tmp_path):
    files = [MODEL, preset, CONFIGS / "methods" / "prompt_tuning.gin"]
    chosen = "Run.optimizer = @AdamW()"
    assert load(*files, bindings=[chosen, "LEARNING_RATE = 0.01"]).optimizer == AdamW(0.01)
    assert load(*files, bindings=[chosen, "AdamW.learning_rate = 0.02"]).optimizer == AdamW(0.02)
    mine = file(tmp_path, f"{chosen}\nAdamW.learning_rate = %LEARNING_RATE\nLEARNING_RATE = 0.01\n")
    for order in itertools.permutations([*files, mine]):
        assert load(*order).optimizer == AdamW(0.01)


def test_settings_of_another_initializer_in_a_file_are_no_error():
    files = [MODEL, PRESETS[0], CONFIGS / "methods" / "prompt_tuning.gin"]
    for prompt in PROMPTS:
        if prompt.stem != "wayward":  # its text is also what the prompt is pulled to
            load(*files, prompt, bindings=["INITIALIZER = @SampledVocabulary()"])


@pytest.mark.parametrize(
    "text, bindings, named",
    [
        ("", ["Adafactor.decay_rate = 0.9", "Run.optimizer = @AdamW()"], "Adafactor.decay_rate"),
        ("", ["CLASS_LABELS = ['a']", "INITIALIZER = @Uniform()"], "CLASS_LABELS"),
        ("LERNING_RATE = 0.1\n", ["Run.optimizer = @AdamW()"], "LERNING_RATE"),
        ("LoRA.rank = 4\n", [], "LoRA.rank"),  # the other method has another rate too
        ("preset_default/LERNING_RATE = 0.1\n", [], "LERNING_RATE"),
        ("", ["preset_default/LEARNING_RATE = 0.1"], "preset_default/LEARNING_RATE"),
    ],
)
def test_bindings_that_nothing_uses_stay_errors(text, bindings, named, tmp_path):
    files = [MODEL, PRESETS[0], CONFIGS / "methods" / "prompt_tuning.gin"]
    labels = CONFIGS / "prompts" / "class_labels.gin"
    with pytest.raises(ValueError, match=f"nothing uses the binding '{named}'"):
        load(*files, labels, file(tmp_path, text), bindings=bindings)


def test_misspelt_settings_of_what_is_not_chosen_stay_errors(tmp_path):
    files = [MODEL, PRESETS[0], CONFIGS / "methods" / "prompt_tuning.gin"]
    with pytest.raises(ValueError, match="AdamW has no parameter 'lerning_rate'"):
        load(*files, file(tmp_path, "AdamW.lerning_rate = 0.1\n"))
