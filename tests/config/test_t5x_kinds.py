"""Values of another kind than T5X's own; errors name the binding."""

import pytest

from spjax.config.t5x import translation
from tests.config.t5x_flags import FLAGS

PROMPTS = "prompt_tuning/configs"
FILES = (
    f"{PROMPTS}/models/t5_1_1_base_prompt.gin",
    f"{PROMPTS}/prompts/from_class_labels.gin",
    f"{PROMPTS}/runs/prompt_finetune.gin",
)
RATE = "utils.create_learning_rate_scheduler"
WHOLE = ["abc", "'5'", "[1]", "1.5", "True", "-1"]
NUMBER = ["abc", "[0]", "True", "-1"]
TEXTS = ["3", "abc", "[1]"]
TEXT = ["3", "[1]"]


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Installed packages do not count."""
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))


@pytest.mark.parametrize(
    "name, values",
    [
        ("TRAIN_STEPS", WHOLE),
        ("TRAIN_STEPS_RELATIVE", WHOLE),
        ("BATCH_SIZE", [*WHOLE, "0"]),
        ("EVAL_PERIOD", [*WHOLE, "0", "None"]),
        ("EVALUATOR_NUM_EXAMPLES", WHOLE),
        ("PROMPT_LENGTH", [*WHOLE, "0", "None"]),
        ("RANDOM_SEED", WHOLE),
        ("DROPOUT_RATE", [*NUMBER, "None", "1.5"]),
        ("Z_LOSS", [*NUMBER, "None"]),
        ("LABEL_SMOOTHING", [*NUMBER, "None"]),
        ("LOSS_NORMALIZING_FACTOR", ["abc", "[0]", "True", "@some.OTHER"]),
        ("CLASS_LABELS", TEXTS),
        ("PROMPT_REGEX", TEXTS),
        ("MODEL_DIR", TEXT),
        ("MIXTURE_OR_TASK_NAME", TEXT),
        ("INITIAL_CHECKPOINT_PATH", ["3", "[1, 2]"]),
        ("train_script.train.train_dataset_cfg", ["3", "@other.Data()"]),
        ("train_script.train.infer_eval_dataset_cfg", ["3", "@other.Data()"]),
        ("adafactor.Adafactor.step_offset", [*WHOLE, "None"]),
        ("adafactor.Adafactor.decay_rate", [*NUMBER, "None"]),
        ("adafactor.Adafactor.weight_decay_rate", NUMBER),
        ("adafactor.Adafactor.clipping_threshold", NUMBER),
        ("adafactor.Adafactor.multiply_by_parameter_scale", ["abc", "3", "None"]),
        ("adafactor.Adafactor.factored", ["abc", "3", "None"]),
        ("adafactor.Adafactor.min_dim_size_to_factor", WHOLE),
        (f"{RATE}.base_learning_rate", [*NUMBER, "None"]),
        (f"{RATE}.warmup_steps", [*WHOLE, "None"]),
        (f"{RATE}.step_offset", [*WHOLE, "None"]),
        (f"{RATE}.factors", [*TEXT, "None"]),
        ("trainer.Trainer.num_microbatches", WHOLE),
        ("partitioning.PjitPartitioner.num_partitions", WHOLE),
        ("partitioning.PjitPartitioner.model_parallel_submesh", ["3", "('a',)", "(1, 0)"]),
        ("models.EncoderDecoderModel.predict_batch_with_aux.num_decodes", [*WHOLE, "0"]),
        ("optimizers.MultiOptimizer.traversals_and_optimizers", ["3", "(1,)", "((1,),)"]),
        ("seqio.SentencePieceVocabulary.sentencepiece_model_file", TEXT),
        ("utils.SaveCheckpointConfig.period", WHOLE),
        ("train/utils.DatasetConfig.batch_size", WHOLE),
        ("infer_eval/utils.DatasetConfig.batch_size", WHOLE),
        ("prompt_init/prompts.from_sample_of_embeddings.population_size", [*WHOLE, "0"]),
        ("TASK_FEATURE_LENGTHS", ["abc", "3", "{'inputs': 'a', 'targets': 3}", "{'inputs': 4}"]),
    ],
)
def test_a_value_of_another_kind_names_its_binding(name, values):
    known = {
        "train/utils.DatasetConfig.batch_size": "BATCH_SIZE",
        "train_script.train.train_dataset_cfg": "train_dataset_cfg",
        "train_script.train.infer_eval_dataset_cfg": "infer_eval_dataset_cfg",
    }
    short = known.get(name, name.rpartition(".")[2])
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{short}\b"):
            translation.translate(FILES, [*FLAGS, f"{name}={value}"])


def test_whole_numbers_may_be_written_with_an_exponent():
    draft = translation.translate(FILES, [*FLAGS, "TRAIN_STEPS=1.2e6"])
    assert draft.settings["TRAIN_STEPS"] == 100_000


def test_lengths_and_batches_of_a_normalizer_are_numbers():
    flags = [*FLAGS, "LOSS_NORMALIZING_FACTOR='NUM_TOTAL_TARGET_TOKENS'"]
    with pytest.raises(ValueError, match="TASK_FEATURE_LENGTHS.'targets'. is None"):
        translation.translate(
            FILES, [*flags, "TASK_FEATURE_LENGTHS={'inputs': 4, 'targets': None}"]
        )
    with pytest.raises(ValueError, match="BATCH_SIZE is 'abc'"):
        translation.translate(FILES, [*flags, "BATCH_SIZE=abc"])


@pytest.mark.parametrize("value", ["abc", "3", "{'inputs': 4}", "{'inputs': 4, 'targets': 'a'}"])
def test_lengths_of_an_evaluation(value):
    files = (FILES[0], f"{PROMPTS}/runs/prompt_eval.gin")
    flags = ["PROMPT_FILE=/tmp/p.npy", "CHECKPOINT_PATH=/tmp/checkpoint_5", "EVAL_OUTPUT_DIR=/x"]
    flags += ["MIXTURE_OR_TASK_NAME=glue_rte_v002", f"TASK_FEATURE_LENGTHS={value}"]
    with pytest.raises(ValueError, match="TASK_FEATURE_LENGTHS"):
        translation.translate(files, flags)
