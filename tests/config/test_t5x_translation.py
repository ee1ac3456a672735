"""Launch scripts and gin files of T5X's form, translated; they are this file's own."""

import pytest

from spjax import config
from spjax.cli import main
from spjax.config.t5x import remainder, translation
from spjax.config.t5x.draft import DIFFERS, NOT_NEEDED, Draft
from spjax.config.t5x.gin_files import Bindings

PROMPTS = "prompt_tuning/configs"
MODEL = f"{PROMPTS}/models/t5_1_1_base_prompt.gin"
RUN = f"{PROMPTS}/runs/prompt_finetune.gin"
FLAGS = {
    "MODEL_DIR": "'/tmp/run'",
    "MIXTURE_OR_TASK_NAME": "'taskless_glue_sst2_v200_examples'",
    "TASK_FEATURE_LENGTHS": "{'inputs': 512, 'targets': 8}",
    "INITIAL_CHECKPOINT_PATH": "'gs://bucket/checkpoint_1100000'",
    "TRAIN_STEPS": "1_100_300",
}
SCRIPT = """#!/usr/bin/env bash
# A launch script of the form that google-research/prompt-tuning has.
MODEL_DIR=${1:-${MODEL_DIR}}
TFDS_DATA_DIR=${2:-${TFDS_DATA_DIR}}

if [ -z ${MODEL_DIR} ]; then
  echo "usage: it goes without t5x.train here"
  exit 1
fi
T5X_DIR="`python3 -m prompt_tuning.scripts.find_module t5x`/.."
CHECKPOINT="gs://bucket/checkpoint_1100000"

python3 -m t5x.train \\
  --gin_search_paths="${T5X_DIR},/nowhere" \\
  --gin_file="prompt_tuning/configs/models/t5_1_1_base_prompt.gin" \\
  --gin_file="prompt_tuning/configs/prompts/from_class_labels.gin" \\
  --gin_file="prompt_tuning/configs/runs/prompt_finetune.gin" \\
  --gin.CLASS_LABELS="['yes', 'no']" \\
  --gin.MODEL_DIR="'${MODEL_DIR}'" \\
  --gin.MIXTURE_OR_TASK_NAME="'taskless_glue_sst2_v200_examples'" \\
  --gin.MIXTURE_OR_TASK_MODULE="'prompt_tuning.data.glue'" \\
  --gin.TASK_FEATURE_LENGTHS="{'inputs': 512, 'targets': 8}" \\
  --gin.INITIAL_CHECKPOINT_PATH="'${CHECKPOINT}'" \\
  --gin.TRAIN_STEPS="1_100_300" \\
  --gin.USE_CACHED_TASKS="False" \\
  --tfds_data_dir=${TFDS_DATA_DIR}
"""


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch):
    """Neither variables of the environment nor installed packages count."""
    monkeypatch.setattr(translation, "_installed", lambda: iter(()))
    for name in ("MODEL_DIR", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def flags(**changes):
    names = {name.replace("__", "/"): value for name, value in changes.items()}
    return [f"{name}={value}" for name, value in (FLAGS | names).items()]


def translated(files=(MODEL, RUN), more=(), **changes):
    return translation.translate(files, [*flags(**changes), *more])


def texts(draft, kind):
    return [f"{row.binding} -> {row.text}" for row in draft.rows if row.kind == kind]


def loaded(draft, tmp_path):
    """The run that spjax makes of a translation."""
    path = tmp_path / "translated.gin"
    path.write_text(draft.gin_text("a test", str(path)))
    return config.load_with_folder("Run", [path])


def script(tmp_path, text=SCRIPT):
    path = tmp_path / "launch.sh"
    path.write_text(text)
    return path


def test_a_launch_script(tmp_path):
    draft = translation.translate([script(tmp_path)])
    assert draft.command("out.gin") == (
        'TFDS_DATA_DIR="${TFDS_DATA_DIR}" spjax train \\\n'
        "  --gin_file=out.gin \\\n"
        '  --gin.MODEL_DIR="${MODEL_DIR}"'
    )
    path = tmp_path / "out.gin"
    path.write_text(draft.gin_text("launch.sh", "out.gin"))
    run, folder = config.load_with_folder("Run", [path], ["MODEL_DIR=/tmp/x"])
    assert folder == "/tmp/x"
    assert (run.task, run.model) == ("taskless_glue_sst2_v200", "t5_1_1_base")
    assert (run.steps, run.batch_size, run.dropout_rate, run.z_loss) == (300, 128, 0.1, 1e-4)
    assert (run.input_length, run.target_length, run.eval_truncation) == (512, 8, False)
    assert (run.num_beams, run.eval_period, run.checkpoint) == (
        *(1, 1000, "gs://bucket/checkpoint_1100000"),
    )
    adafactor, method = run.optimizer, run.method
    assert (adafactor.learning_rate, adafactor.decay_offset) == (0.3, -1_100_000)
    assert (adafactor.weight_decay_rate, adafactor.multiply_by_parameter_scale) == (1e-5, False)
    assert (method.length, method.initializer.labels) == (100, ("yes", "no"))
    assert method.initializer.population == 5000
    assert not texts(draft, DIFFERS)
    assert any(
        text.startswith("RANDOM_SEED = None -> SEED = 0") for text in texts(draft, NOT_NEEDED)
    )


def test_variables_of_the_environment_count(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_DIR", "/data/run")
    draft = translation.translate([script(tmp_path)])
    assert draft.settings["MODEL_DIR"] == "/data/run"
    assert "MODEL_DIR" not in draft.command("out.gin")


@pytest.mark.parametrize(
    "binding, setting, value",
    [
        ("Z_LOSS=0.01", "Run.z_loss", 0.01),
        ("LABEL_SMOOTHING=0.1", "Run.label_smoothing", 0.1),
        ("LOSS_NORMALIZING_FACTOR=233472", "Run.loss_normalizing_factor", 233472),
        ("LOSS_NORMALIZING_FACTOR='AVERAGE_PER_SEQUENCE'", "Run.loss_normalizing_factor", None),
        ("LOSS_NORMALIZING_FACTOR='NUM_TOTAL_TARGET_TOKENS'", "Run.loss_normalizing_factor", 1024),
        ("RANDOM_SEED=7", "SEED", 7),
        ("train/utils.DatasetConfig.seed=5", "SEED", 5),
        ("DROPOUT_RATE=0.0", "DROPOUT_RATE", 0.0),
        ("BATCH_SIZE=32", "BATCH_SIZE", 32),
        ("train/utils.DatasetConfig.batch_size=16", "BATCH_SIZE", 16),
        ("EVAL_PERIOD=500", "EVAL_PERIOD", 500),
        ("train_script.train.stats_period=50", "Run.log_period", 50),
        ("utils.SaveCheckpointConfig.period=250", "Run.checkpoint_period", 250),
        ("TRAIN_STEPS_RELATIVE=40", "TRAIN_STEPS", 40),
        ("PROMPT_LENGTH=20", "PROMPT_LENGTH", 20),
        ("partitioning.PjitPartitioner.num_partitions=2", "Run.num_partitions", 2),
        ("partitioning.PjitPartitioner.num_partitions=2", "Run.logical_axis_rules", None),
        ("partitioning.PjitPartitioner.model_parallel_submesh=(2,2,1,2)", "Run.num_partitions", 8),
        ("trainer.Trainer.num_microbatches=4", "Run.microbatches", 4),
        ("utils.create_learning_rate_scheduler.base_learning_rate=0.1", "LEARNING_RATE", 0.1),
        ("adafactor.Adafactor.step_offset=1_000_000", "Adafactor.decay_offset", -100_000),
        ("adafactor.Adafactor.step_offset=1_100_000", "Adafactor.decay_offset", 0),
        ("adafactor.Adafactor.factored=False", "Adafactor.min_dim_size_to_factor", 10**9),
        ("adafactor.Adafactor.clipping_threshold=None", "Adafactor.clipping_threshold", 10**9),
        ("models.EncoderDecoderModel.predict_batch_with_aux.num_decodes=4", "Run.num_beams", 4),
        ("EVALUATOR_NUM_EXAMPLES=64", "Run.eval_examples", 64),
        ("utils.RestoreCheckpointConfig.dtype='bfloat16'", "Run.weights_dtype", "bfloat16"),
        ("prompt_init/linen.initializers.uniform.scale=0.2", "Uniform.high", 0.2),
        ("MIXTURE_OR_TASK_NAME=glue_v002_examples_proportional", "MIXTURE_OR_TASK_NAME", None),
    ],
)
def test_bindings_that_have_a_counterpart(tmp_path, binding, setting, value):
    usual = translated()
    draft = translated(more=[binding])
    assert draft.settings[setting] != usual.settings.get(setting)
    if value is not None:
        assert draft.settings[setting] == value
    assert not texts(draft, DIFFERS)
    loaded(draft, tmp_path)


@pytest.mark.parametrize(
    "binding, text",
    [
        ("EVAL_STEPS=5", "train.eval_steps -> T5X's loss"),
        ("USE_CACHED_TASKS=False", "train/utils.DatasetConfig.use_cached -> spjax tokenizes"),
        ("MIXTURE_OR_TASK_MODULE='t5.data.glue'", "train/utils.DatasetConfig.module -> spjax imp"),
        ("SCALE=2.0", "initializers.variance_scaling.scale -> initial weights come from"),
        ("train_script.train.gc_period=100", "train.gc_period -> how T5X's program does"),
        ("train_script.train.concurrent_metrics=False", "train.concurrent_metrics -> how T5X's"),
        ("train_script.train.use_orbax=False", "train.use_orbax -> how T5X's program does"),
        ("train_script.train.actions=None", "train.actions -> no actions"),
        ("trainer.Trainer.weight_metrics_computer=@x.Y()", "weight_metrics_computer -> spjax wr"),
        ("OTHER=2.0", "OTHER -> nothing refers to it, in the published files neither"),
    ],
)
def test_bindings_that_are_not_needed_change_nothing(binding, text):
    usual, draft = translated(), translated(more=[binding])
    assert (draft.settings, texts(draft, DIFFERS)) == (usual.settings, [])
    assert text in "\n".join(texts(draft, NOT_NEEDED))


def test_what_nothing_refers_to_is_not_needed():
    draft = Draft(Bindings(), "train")
    for text in ("OTHER=2.0", "prompt_tuning.train.layers.PromptEncoder.other=3"):
        draft.bindings.add_flag(text)
    remainder.add_remainder(draft)
    calls = "layers.PromptEncoder.other -> nothing calls it, in T5X neither"
    refers = "OTHER -> nothing refers to it, in T5X neither"
    assert (texts(draft, NOT_NEEDED), texts(draft, DIFFERS)) == ([calls, refers], [])


FLAX = "flaxformer.components"


@pytest.mark.parametrize(
    "binding, reason",
    [
        ("train/utils.DatasetConfig.split='train[:100]'", "all of train is used"),
        ("train/utils.DatasetConfig.pack=True", "as many packed rows in T5X"),
        ("train/utils.DatasetConfig.shuffle=False", "examples are shuffled"),
        ("infer_eval/utils.DatasetConfig.split='test'", "the best step is that of the validation"),
        ("infer_eval/utils.DatasetConfig.mixture_or_task_name='glue_rte_v002'", "spjax eval"),
        ("adafactor.Adafactor.beta1=0.9", "no momentum"),
        ("adafactor.Adafactor.max_parameter_scale=0.9", "not known to `spjax translate`"),
        ("decoding.beam_search.alpha=1.0", "alpha = 0.6"),
        ("models.EncoderDecoderModel.decode_fn=@decoding.temperature_sample", "samples"),
        (f"{FLAX}.dense.MlpBlock.activations=('relu',)", "another value than spjax's"),
        (
            f"{FLAX}.relative_position_biases.RelativePositionBiases.num_buckets=8",
            "another value than spjax's",
        ),
        (f"{FLAX}.embedding.Embed.dtype='float32'", "another value than spjax's: bfloat16"),
        ("train_script.train.actions={'TRAIN': [@some.EarlyStopping()]}", "no actions"),
        (
            "train_script.train.trainer_cls=@other.Trainer",
            "another value than spjax's: the step is",
        ),
        (f"{FLAX}.dense.MlpBlock.intermediate_dropout_rate=0.3", "holds everywhere"),
        ("ACTIVATION_DTYPE='float32'", "another value than spjax's: bfloat16"),
        ("DROPOUT_FACTORY=@some.Dropout", "another value than spjax's"),
        ("prompt_tuning.train.layers.PromptEncoder.other=3", "not known to `spjax translate`"),
        ("prompt_tuning.other.Thing.x=3", "not known to `spjax translate`"),
    ],
)
def test_what_changes_the_numbers_is_named(binding, reason):
    draft = translated(more=[binding])
    (text,) = texts(draft, DIFFERS)
    assert reason in text
    assert f"# CHANGES THE NUMBERS, and has no counterpart in spjax:\n#   {text}" in (
        draft.gin_text("a test", "out.gin")
    )


def test_values_that_are_missing_are_listed():
    with pytest.raises(ValueError, match=r"with --gin.*Nor have .*TRAIN_STEPS\.$"):
        translation.translate([MODEL, RUN])
    with pytest.raises(
        ValueError, match="nothing binds train.train_dataset_cfg; name all the files"
    ):
        translation.translate([MODEL])


START = "adafactor.Adafactor.step_offset"
RATE = "utils.create_learning_rate_scheduler"
STAIRS = "'constant * decay_every'"


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"MIXTURE_OR_TASK_NAME": "'byt5_glue_rte_v002'"}, "byte by byte"),
        ({"MIXTURE_OR_TASK_NAME": "'task_index_glue_rte_v002'"}, "begin with the index of a task"),
        ({"MIXTURE_OR_TASK_NAME": "'mt5_glue_rte_v002'"}, "has mT5's vocabulary and the model an"),
        ({"MIXTURE_OR_TASK_NAME": "'glue_rte_v003'"}, "no task 'glue_rte_v003'.*Did you mean glue"),
        ({"INITIAL_CHECKPOINT_PATH": "[]"}, "starts from scratch.*spjax pretrain"),
        ({"INITIAL_CHECKPOINT_PATH": "'/a/b'"}, "does not end in checkpoint_STEP"),
        ({"TRAIN_STEPS": "50_000"}, "50,000, and the checkpoint is of step 1,100,000"),
        ({"TRAIN_STEPS": "%gin.REQUIRED"}, "TRAIN_STEPS has no value"),
        ({"TRAIN_STEPS": "%TRAIN_STEPS"}, "a macro is a part of its own value"),
        ({"TASK_FEATURE_LENGTHS": "{'text': 9}"}, "give a dict with 'inputs' and 'targets'"),
        ({"PROMPT_LENGTH": "@some.length()"}, "PROMPT_LENGTH is @some.*, which T5X computes"),
        ({"BATCH_SIZE": "@some.size()"}, "BATCH_SIZE is @some.size.., which T5X computes"),
        ({"PROMPT_REGEX": "['.*']"}, "training the parameters that match .* has no counterpart"),
        ({"OPTIMIZER": "@t5x.optimizers.adamw()"}, "the optimizer optimizers.adamw has no count"),
        ({"PROMPT": "@x.MultiTaskPrompt"}, "PROMPT = @x.MultiTaskPrompt has no counterpart"),
        ({"PER_LAYER_PROMPT": "@x.Prompt"}, "PER_LAYER_PROMPT has no counterpart"),
        ({"MODEL": "@x.PerceptronModel()"}, "the model x.PerceptronModel has no counterpart"),
        ({"ARCHITECTURE": "@x.Decoder()"}, "the network x.Decoder has no counterpart"),
        ({START: "1_200_000"}, "beyond the step 1100000"),
        ({"utils.create_learning_rate_scheduler.factors": "'rsqrt_decay'"}, "factor rsqrt_decay"),
        ({f"{RATE}.factors": "'constant * constant'"}, "the factors constant.*more than once"),
        ({f"{RATE}.factors": STAIRS, f"{RATE}.decay_factor": "2.0"}, "decay_factor = 2.0 has no"),
        ({f"{RATE}.factors": STAIRS, f"{RATE}.decay_factor": "0"}, "decay_factor = 0 has no"),
        ({f"{RATE}.factors": STAIRS, f"{RATE}.steps_per_decay": "0"}, "steps_per_decay is 0"),
        ({"MODEL_DIR": "'/tmp'", "Z_LOSS": "oh no!"}, "the value 'oh no!' of Z_LOSS"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        translated(**changes)


def test_normalizers_of_microbatches():
    parts = "trainer.Trainer.num_microbatches=4"
    draft = translated(more=["LOSS_NORMALIZING_FACTOR='num_total_target_tokens'", parts])
    assert draft.settings["Run.loss_normalizing_factor"] == 256 and not texts(draft, DIFFERS)
    draft = translated(more=["LOSS_NORMALIZING_FACTOR='NUM_REAL_TARGET_TOKENS'", parts])
    assert "in T5X of each microbatch" in texts(draft, DIFFERS)[0]


def test_the_schedule_counts_from_the_pre_trained_step():
    name = RATE
    stairs = f"{name}.factors='constant * linear_warmup * decay_every'"
    more = [stairs, f"{name}.warmup_steps=10", f"{name}.steps_per_decay=550_000"]
    draft = translated(more=[*more, f"{name}.decay_factor=1"])
    assert "the rate stays as it is" in "\n".join(texts(draft, NOT_NEEDED))
    draft = translated(more=[*more, f"{name}.decay_factor=0.5"])
    assert draft.settings["LEARNING_RATE"] == pytest.approx(0.3 / 4)
    assert draft.settings["Adafactor.steps_per_decay"] == 550_000
    assert "Adafactor.warmup_steps" not in draft.settings and not texts(draft, DIFFERS)
    draft = translated(more=[*more, f"{name}.steps_per_decay=400_000"])
    assert "300,000 steps earlier" in texts(draft, DIFFERS)[0]
    offset = [f"{name}.step_offset=1_100_000"]
    draft = translated(more=[*more, *offset])
    assert draft.settings["LEARNING_RATE"] == 0.3 and draft.settings["Adafactor.warmup_steps"] == 10
    assert not texts(draft, DIFFERS)


STARTS = {
    "from_class_labels": ("ClassLabels", {"CLASS_LABELS": "['a', 'b']"}),
    "from_class_labels_numpy": ("ClassLabels", {"CLASS_LABELS": "['a']", "EMBEDDING_FILE": "'/e'"}),
    "from_sampled_vocab": ("SampledVocabulary", {}),
    "from_sampled_vocab_numpy": ("SampledVocabulary", {"EMBEDDING_FILE": "'/e'"}),
    "from_file": ("FromFile", {"PROMPT_FILE": "'/tmp/prompt.npy'"}),
}


@pytest.mark.parametrize("name", STARTS)
def test_starts_of_prompts(name):
    kind, changes = STARTS[name]
    draft = translated((MODEL, f"{PROMPTS}/prompts/{name}.gin", RUN), **changes)
    assert draft.settings["INITIALIZER"] == f"@{kind}()" and not texts(draft, DIFFERS)


def test_wayward_prompts():
    model = f"{PROMPTS}/extended/models/wayward_t5_1_1_base_prompt.gin"
    draft = translated((model, RUN), TASK_STRING="'red and blue'")
    assert "Text.text = 'red and blue'" in draft.gin_text("a test", "out.gin")
    parts = "trainer.Trainer.num_microbatches=2"
    assert (
        translated((model, RUN), [parts], TASK_STRING="'red'").settings["Waywardness.gamma"] == 0.02
    )
    with pytest.raises(ValueError, match="<unk>.*--gin.TASK_STRING"):
        translated((model, RUN), TASK_STRING="'the word ` positive `'")
    settings = draft.settings
    assert settings["Text.text"] == settings["Waywardness.text"] == "red and blue"
    assert (settings["PROMPT_LENGTH"], settings["Waywardness.gamma"]) == (3, 0.01)
    assert not texts(draft, DIFFERS)


def test_ia3_and_full_fine_tuning(tmp_path):
    files = [f"{PROMPTS}/extended/models/ia3_t5_1_1.gin", f"{PROMPTS}/models/sizes/base.gin"]
    draft = translated([*files, f"{PROMPTS}/extended/runs/ia3_finetune.gin"])
    run, _ = loaded(draft, tmp_path)
    assert (run.method_name, run.optimizer.learning_rate) == ("ia3", 0.003)
    assert run.optimizer.multiply_by_parameter_scale and not run.optimizer.weight_decay_rate
    files = ["t5x/examples/t5/t5_1_1/base.gin", "t5x/configs/runs/finetune.gin"]
    draft = translated(files, ["train/utils.DatasetConfig.pack=False"])
    run, _ = loaded(draft, tmp_path)
    assert (run.method_name, run.restore_optimizer) == ("full_fine_tuning", True)
    assert "frozen" not in draft.table() and "best prompt" not in draft.table()
    assert (run.optimizer.learning_rate, run.optimizer.decay_offset) == (0.001, 0)


def test_places_of_the_prompt():
    module = "prompt_tuning.train.prompts"
    name = f"{module}.Prompt.combine"
    draft = translated(more=[f"{name}=@{module}.prefix_prompt_after_bos"])
    assert draft.settings["PromptTuning.place"] == "after_first"
    draft = translated(more=[f"{name}=@{module}.suffix_prompt"])
    assert draft.settings["PromptTuning.place"] == "end"
    with pytest.raises(ValueError, match="Prompt.combine.*has no counterpart"):
        flag = f"{module}.suffix_prompt.before_eos=False"
        translated(more=[f"{name}=@{module}.suffix_prompt", flag])


def test_evaluation_of_a_prompt(tmp_path):
    text = SCRIPT.replace("t5x.train", "t5x.eval").replace("prompt_finetune", "prompt_eval")
    text = text.replace("from_class_labels", "from_file").replace("INITIAL_CHECK", "CHECK")
    text = text.replace("MODEL_DIR=\"'${MODEL_DIR}'\"", "PROMPT_FILE=\"'$HERE/p.npy'\"")
    draft = translation.translate([script(tmp_path, text)], ["EVAL_OUTPUT_DIR='/tmp/x'"])
    assert draft.command("").replace(" \\\n ", "") == (
        'TFDS_DATA_DIR="${TFDS_DATA_DIR}" spjax eval --prompt="$HERE/p.npy" --model=t5_1_1_base '
        "--checkpoint=gs://bucket/checkpoint_1100000 --task=taskless_glue_sst2_v200 --split=test "
        "--input_length=512 --target_length=8 --batch_size=32 --decoding=beam --num_beams=1"
    )
    assert not [text for text in texts(draft, DIFFERS) if "TRAIN_STEPS" not in text]


def test_inference_is_for_files(tmp_path):
    files = (MODEL, f"{PROMPTS}/runs/prompt_infer.gin")
    more = ["PROMPT_FILE=/tmp/p.npy", "CHECKPOINT_PATH=/tmp/checkpoint_5", "INFER_OUTPUT_DIR=/x"]
    draft = translated(files, more)
    assert draft.command("").startswith("spjax predict \\\n  FILE \\\n  --prompt=/tmp/p.npy")
    (text,) = texts(draft, DIFFERS)
    assert "split 'test' -> `spjax predict` answers the lines or rows of a file" in text
    assert "To fill in, in the command:\n  FILE -> the lines or rows" in draft.table()
    draft = translated(files, [*more, "utils.DatasetConfig.split='validation'"])
    assert "split 'validation'" in texts(draft, DIFFERS)[0]


@pytest.mark.parametrize(
    "text, match",
    [
        ("#!/bin/sh\necho nothing\n", "starts T5X 0 times"),
        (SCRIPT + "\npython3 -m t5x.eval --gin_file=x.gin\n", "starts T5X 2 times"),
        (SCRIPT.replace("1_100_300", "${STEPS}"), "TRAIN_STEPS depends on STEPS, which"),
        (SCRIPT.replace("['yes', 'no']", "['${WORD}']"), "depends on WORD, which the script"),
    ],
)
def test_scripts_that_cannot_be_read(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        translation.translate([script(tmp_path, text)])


def test_texts_that_a_shell_would_change_stay_as_they_are(tmp_path):
    text = SCRIPT.replace("['yes', 'no']", r"['\$5', '\`']")
    text = text.replace("/checkpoint_1100000", "/${NAME}/checkpoint_1100000")
    draft = translation.translate([script(tmp_path, text)], ["MODEL_DIR='/a`b$c'"])
    assert draft.settings["ClassLabels.labels"] == ("$5", "`")
    assert "ClassLabels.labels = ('$5', '`')\n" in draft.gin_text("x", "out.gin")
    assert "MODEL_DIR = '/a`b$c'\n" in draft.gin_text("x", "out.gin")
    flag = '--gin.INITIAL_CHECKPOINT_PATH="gs://bucket/${NAME}/checkpoint_1100000"'
    assert flag in draft.command("out.gin") and "MODEL_DIR" not in draft.command("out.gin")
    assert "\\ue00" not in draft.gin_text("x", "out.gin")
    wrong = SCRIPT.replace("taskless_glue_sst2_v200_examples", "$TASK")
    with pytest.raises(ValueError, match="of MIXTURE_OR_TASK_NAME depends on TASK"):
        translation.translate([script(tmp_path, wrong)])


@pytest.mark.parametrize("word", ['"$@"', '"${FLAGS[@]}"', "$MORE", "stray"])
def test_words_that_may_be_flags_are_named(tmp_path, word):
    draft = translation.translate([script(tmp_path, f"{SCRIPT.rstrip()} {word}\n")])
    (text,) = texts(draft, DIFFERS)
    shown = word.strip('"')
    assert text.startswith(f"{shown} -> may be more flags")


def test_a_script_stands_alone(tmp_path):
    with pytest.raises(ValueError, match="is a script, which stands alone"):
        translation.translate([script(tmp_path), MODEL])


def test_a_checkout_comes_before_what_is_known_of_its_files(tmp_path):
    folder = tmp_path / "prompt_tuning" / "configs" / "runs"
    folder.mkdir(parents=True)
    (folder / "prompt_finetune.gin").write_text("include 't5x/configs/runs/finetune.gin'\n")
    scripts = tmp_path / "prompt_tuning" / "scripts"
    scripts.mkdir()
    draft = translation.translate([script(scripts)])
    assert draft.settings["LEARNING_RATE"] == 0.001
    assert RUN not in [row.binding for row in draft.rows]
    assert "t5x/configs/runs/finetune.gin" in [row.binding for row in draft.rows]


def test_the_command(tmp_path, capsys):
    output = tmp_path / "out.gin"
    assert main.main(["translate", str(script(tmp_path)), f"--output={output}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('TFDS_DATA_DIR="${TFDS_DATA_DIR}" spjax train')
    assert "TRAIN_STEPS = 300 (1,100,300 minus the checkpoint's step, 1,100,000)" in printed
    assert config.load_with_folder("Run", [output], ["MODEL_DIR=/tmp/x"])[0].steps == 300
    flag = "--gin.train/utils.DatasetConfig.pack=True"
    assert main.main(["translate", str(script(tmp_path)), flag]) == 1
    printed = capsys.readouterr().out
    assert "# CHANGES THE NUMBERS" in printed
    output.write_text(printed)  # what is printed is a gin file
    assert config.load_with_folder("Run", [output], ["MODEL_DIR=/tmp/x"])[0].steps == 300


def test_no_input_of_the_command_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "mine.gin"
    lines = [f"{name} = {value}\n" for name, value in FLAGS.items()]
    own.write_text(f"include {MODEL!r}\ninclude {RUN!r}\n{''.join(lines)}")
    outer = tmp_path / "outer.gin"
    outer.write_text("include 'mine.gin'\n")
    (tmp_path / "link.gin").symlink_to(own)
    path = script(tmp_path)
    before = [file.read_text() for file in (own, outer, path)]
    for name, output in (
        ("mine.gin", "mine.gin"),
        ("mine.gin", f"../{tmp_path.name}/mine.gin"),
        ("mine.gin", "link.gin"),
        ("link.gin", str(own)),
        ("outer.gin", "mine.gin"),
        ("launch.sh", "launch.sh"),
    ):
        assert main.main(["translate", name, f"--output={output}"]) == 2
        assert f"--output={output} would overwrite" in capsys.readouterr().err
    assert [file.read_text() for file in (own, outer, path)] == before
    assert main.main(["translate"]) == 2
    assert "no file is given" in capsys.readouterr().err
    assert main.main(["translate", "--gin_file=mine.gin", "--output=mine.gin"]) == 2
    assert "would overwrite" in capsys.readouterr().err
    for _ in range(2):  # an earlier translation may be
        assert main.main(["translate", "--gin_file=mine.gin", "--output=out.gin"]) == 0


def test_the_command_has_no_gin_file_for_evaluations(tmp_path, capsys):
    flags = ["--gin.PROMPT_FILE=/tmp/p.npy", "--gin.CHECKPOINT_PATH=/tmp/checkpoint_5"]
    flags += ["--gin.MIXTURE_OR_TASK_NAME=glue_rte_v002", "--gin.EVAL_OUTPUT_DIR=/tmp/x"]
    files = ["translate", MODEL, f"{PROMPTS}/runs/prompt_eval.gin"]
    assert main.main([*files, *flags]) == 0
    assert capsys.readouterr().out.startswith("spjax eval \\\n  --prompt=/tmp/p.npy")
    assert main.main([*files, *flags, "--output=out.gin"]) == 2
    assert "evaluations have flags alone" in capsys.readouterr().err
