"""Translates what T5X's train.py, eval.py and infer.py are told."""

from __future__ import annotations

import re
from typing import Any

from spjax import validation
from spjax.config.t5x import kinds, method_settings, model_settings
from spjax.config.t5x.draft import DIFFERS, INPUT, LEFT, NOT_NEEDED, TRANSLATED, Draft
from spjax.config.t5x.gin_files import Key, Reference
from spjax.config.t5x.launch_scripts import literal, missing_variables, unset_variables
from spjax.config.t5x.model_settings import DATASET, RESTORE, required
from spjax.data.tasks.file_task import HELD_OUT
from spjax.training.losses import NORMALIZERS

_TRAIN = "__main__.train"
_SAVE = "t5x.utils.SaveCheckpointConfig"
_ROW = 1024  # Run.row_length
_STEP = re.compile(r"checkpoint_(\d+)/?$")


def translate_training(draft: Draft) -> None:
    """Translates a training run.

    Raises:
      ValueError: a value is missing, or the run as a whole has no counterpart.
    """
    bindings = draft.bindings
    required(bindings, _TRAIN, "train_dataset_cfg")
    checkpoint = _checkpoint(draft)
    start = _step_of(checkpoint)
    model = model_settings.model_class(bindings, _TRAIN)
    size, vocabulary = model_settings.set_model(draft, _TRAIN, checkpoint)
    method = method_settings.trained_part(draft, model)
    draft.includes += [
        "gin_configs/models/t5_1_1.gin",
        "gin_configs/runs/prompt_finetune.gin",
        f"gin_configs/methods/{method}.gin",
    ]
    draft.set("MODEL_SIZE", size, "the model's gin file")
    draft.set("INITIAL_CHECKPOINT_PATH", checkpoint, "INITIAL_CHECKPOINT_PATH")
    if vocabulary:
        _set_vocabulary(draft, vocabulary)
    _set_data(draft, vocabulary)
    length = 0
    if method == "prompt_tuning":
        length = method_settings.set_prompt(draft, model, vocabulary)
    _set_lengths(draft, length)
    _set_steps(draft, start)
    method_settings.set_optimizer(draft, method, start)
    _set_loss(draft, model)
    _set_evaluation(draft, model)
    _set_computation(draft)
    _set_folder(draft)


def _checkpoint(draft: Draft) -> str:
    path = draft.bindings.get(RESTORE, "path", "", None)
    if isinstance(path, (list, tuple)) and len(path) == 1:
        path = path[0]
    if not path:
        raise ValueError(
            "the run starts from scratch: nothing is restored. That is pre-training, which is "
            "`spjax pretrain` with a gin file of experiments/ (docs/command_line.md)."
        )
    if not isinstance(path, str):
        raise ValueError(f"INITIAL_CHECKPOINT_PATH is {path!r}; spjax reads one checkpoint.")
    return path


def _step_of(checkpoint: str) -> int:
    match = _STEP.search(checkpoint)
    if not match and (variables := unset_variables(checkpoint)):
        raise ValueError(missing_variables("INITIAL_CHECKPOINT_PATH", variables))
    if not match:
        raise ValueError(
            f"INITIAL_CHECKPOINT_PATH is {checkpoint!r}, which does not end in checkpoint_STEP; "
            "T5X counts TRAIN_STEPS and Adafactor's steps from that step. Name the folder of one "
            "checkpoint, such as .../checkpoint_1100000."
        )
    return int(match[1])


def _set_vocabulary(draft: Draft, path: str) -> None:
    if "://" not in path:
        draft.set("Run.vocabulary", path, "VOCABULARY")
        return
    draft.left_to_user["Run.vocabulary"] = "SPIECE_MODEL"
    name = "SentencePieceVocabulary.sentencepiece_model_file"
    draft.note(TRANSLATED, name, f"Run.vocabulary, a local copy of {path}")
    draft.note(LEFT, "SPIECE_MODEL", f"the path of your copy of {path}")


def _data_scope(draft: Draft, script: str, parameter: str) -> str:
    """Returns the scope that a `DatasetConfig` is made in.

    Raises:
      ValueError: the data are of another kind.
    """
    value = required(draft.bindings, script, parameter)
    if model_settings.name_of(value, parameter) != DATASET:
        raise model_settings.refuse(f"{parameter} = {value}", "its data are utils.DatasetConfig's.")
    return str(value.scope)


def _set_data(draft: Draft, vocabulary: str) -> None:
    """Takes over task, batch and seed."""
    bindings = draft.bindings
    scope = _data_scope(draft, _TRAIN, "train_dataset_cfg")
    name = required(bindings, DATASET, "mixture_or_task_name", scope)
    if module := model_settings.task_module(draft, scope, name):
        _set_seqio_task(draft, module, name)
    else:
        task = model_settings.spjax_task(name, vocabulary)
        parts = {"_examples": "_examples logs texts", "t5_": "the vocabulary is the model's"}
        comment = ", ".join(text for part, text in parts.items() if part in name)
        draft.set("MIXTURE_OR_TASK_NAME", task, "MIXTURE_OR_TASK_NAME", comment)
    batch = kinds.whole("BATCH_SIZE", required(bindings, DATASET, "batch_size", scope), 1)
    draft.set("BATCH_SIZE", batch, "BATCH_SIZE")
    split = bindings.get(DATASET, "split", scope, "train")
    if split != "train":
        draft.note(DIFFERS, f"{scope}/DatasetConfig.split = {split!r}", "all of train is used")
    if not kinds.flag("DatasetConfig.shuffle", bindings.get(DATASET, "shuffle", scope, True)):
        draft.note(DIFFERS, f"{scope}/DatasetConfig.shuffle = False", "examples are shuffled")
    if kinds.flag("DatasetConfig.pack", bindings.get(DATASET, "pack", scope, False)):
        text = "a batch is so many examples in spjax, and as many packed rows in T5X"
        draft.note(DIFFERS, f"{scope}/DatasetConfig.pack = True", text)
    seeds = [
        bindings.get(_TRAIN, "random_seed", "", None),
        bindings.get(DATASET, "seed", scope, None),
    ]
    given = [seed for seed in seeds if seed is not None]
    if given:
        text = "of initial values, order and dropout; the numbers drawn are not T5X's"
        seed = kinds.whole("RANDOM_SEED", given[0], 0, validation.MOST_SEED)
        draft.set(
            "SEED",
            seed,
            "RANDOM_SEED, train/DatasetConfig.seed",
            text,
        )
    else:
        draft.note(NOT_NEEDED, "RANDOM_SEED = None", "SEED = 0, where T5X takes the time of day")


def _set_seqio_task(draft: Draft, module: str, name: str) -> None:
    """Takes over a task of a user's own module."""
    draft.includes.append("gin_configs/tasks/seqio.gin")
    draft.set("MIXTURE_OR_TASK_MODULE", module, "MIXTURE_OR_TASK_MODULE", "found by PYTHONPATH")
    draft.set("MIXTURE_OR_TASK_NAME", name, "MIXTURE_OR_TASK_NAME")
    draft.bindings.get(DATASET, "module", "infer_eval", None)
    text = "answers are scored as text; for others bind TASK_LABELS or seqio_task.metrics"
    draft.note(DIFFERS, f"the metric_fns of {name}", text)
    share = f"{100 * HELD_OUT:.0f} %"
    text = f"a task without validation or test split has {share} of train held out for each"
    draft.note(DIFFERS, f"the splits of {name}", text)
    draft.note(DIFFERS, f"{name}, if it is a mixture", "name one task; mixtures are not read")


def _set_lengths(draft: Draft, prompt_length: int) -> None:
    scope = _data_scope(draft, _TRAIN, "train_dataset_cfg")
    lengths = required(draft.bindings, DATASET, "task_feature_lengths", scope)
    lengths = kinds.lengths("TASK_FEATURE_LENGTHS", lengths)
    draft.set("TASK_FEATURE_LENGTHS", lengths, "TASK_FEATURE_LENGTHS", "text, as in T5X")
    if lengths["inputs"] + prompt_length > _ROW:
        draft.set("Run.row_length", lengths["inputs"] + prompt_length, "TASK_FEATURE_LENGTHS")


def _set_steps(draft: Draft, start: int) -> None:
    bindings = draft.bindings
    relative = bindings.get(_TRAIN, "relative_steps", "", None)
    if relative:
        steps = kinds.whole("TRAIN_STEPS_RELATIVE", relative, 1)
        draft.set("TRAIN_STEPS", steps, "TRAIN_STEPS_RELATIVE")
        bindings.read.add(Key("", _TRAIN, "total_steps"))  # which T5X replaces
        return
    total = kinds.whole("TRAIN_STEPS", required(bindings, _TRAIN, "total_steps"))
    if total <= start:
        raise ValueError(
            f"TRAIN_STEPS is {total:,}, and the checkpoint is of step {start:,}, from which T5X "
            "counts: nothing would be trained. Give more steps."
        )
    text = f"{total:,} minus the checkpoint's step, {start:,}" if start else ""
    draft.set("TRAIN_STEPS", total - start, "TRAIN_STEPS", text)


def _set_loss(draft: Draft, model: str) -> None:
    bindings = draft.bindings
    for name, macro, default in (
        ("z_loss", "Z_LOSS", 0.0),
        ("label_smoothing", "LABEL_SMOOTHING", 0.0),
        ("loss_normalizing_factor", "LOSS_NORMALIZING_FACTOR", None),
    ):
        value = bindings.get(model, name, "", default)
        if name == "loss_normalizing_factor":
            value = _normalizer(draft, value)
        else:
            kinds.number(macro, value)
        draft.set(f"Run.{name}", value, macro)
    draft.set("DROPOUT_RATE", _dropout(draft), "DROPOUT_RATE")


def _normalizer(draft: Draft, value: Any) -> str | float | None:
    """Returns what spjax divides by where T5X counts in each microbatch, padding included."""
    if isinstance(value, Reference):  # a member of SpecialLossNormalizingFactor
        value = value.name.rpartition(".")[2]
    if value is None or not isinstance(value, str):
        return None if value is None else kinds.number("LOSS_NORMALIZING_FACTOR", value)
    kinds.given("LOSS_NORMALIZING_FACTOR", value)
    parts, name = method_settings.microbatches(draft.bindings), value.upper()
    if name not in NORMALIZERS:
        raise ValueError(
            f"LOSS_NORMALIZING_FACTOR is {value!r}; give a number or {', '.join(NORMALIZERS)}."
        )
    if name == "NUM_TOTAL_TARGET_TOKENS":
        lengths, batch = draft.settings["TASK_FEATURE_LENGTHS"], draft.settings["BATCH_SIZE"]
        return batch // parts * lengths["targets"]
    if parts > 1:
        text = f"{name} is of a whole batch, and in T5X of each microbatch"
        draft.note(DIFFERS, f"trainer.Trainer.num_microbatches = {parts}", text)
    return name


def _dropout(draft: Draft) -> float:
    """Returns the dropout rate; a place with another one is noted."""
    dense = "flaxformer.components.dense.MlpBlock"
    attention = "flaxformer.components.attention.dense_attention.MultiHeadDotProductAttention"
    places = (
        ("flax.linen.Dropout", "rate", "dropout_factory"),
        (attention, "dropout_rate", ""),
        (dense, "intermediate_dropout_rate", ""),
        (model_settings.NETWORK, "dropout_rate", ""),
    )
    absent = object()
    rates = {place: draft.bindings.get(*place, absent) for place in places}
    rates = {place: rate for place, rate in rates.items() if rate is not absent}
    values = [kinds.number("DROPOUT_RATE", rate, 0, 1) for rate in rates.values()]
    for (name, parameter, _), rate in rates.items():
        if rate != values[0]:
            text = f"DROPOUT_RATE = {values[0]} holds everywhere"
            draft.note(DIFFERS, f"{name}.{parameter} = {rate}", text)
    return float(values[0]) if values else 0.0


def _set_evaluation(draft: Draft, model: str) -> None:
    """Takes over what is evaluated, when and how."""
    bindings = draft.bindings
    if stats := bindings.get(_TRAIN, "stats_period", "", None):
        draft.set("Run.log_period", kinds.whole("stats_period", stats, 1), "train.stats_period")
    period = kinds.whole("EVAL_PERIOD", bindings.get(_TRAIN, "eval_period", "", 1000), 1)
    draft.set("EVAL_PERIOD", period, "EVAL_PERIOD")
    name = "utils.SaveCheckpointConfig.period"
    saved = kinds.whole(name, bindings.get(_SAVE, "period", "", None) or 0)
    if saved and saved != period:
        draft.set("Run.checkpoint_period", saved, name)
    elif saved == 0:
        draft.note(NOT_NEEDED, name, "spjax keeps the last state for resuming and the best step")
    config = bindings.get(_TRAIN, "infer_eval_dataset_cfg", "", None)
    if config is None:
        text = "spjax scores the validation split at every EVAL_PERIOD"
        draft.note(NOT_NEEDED, "infer_eval_dataset_cfg = None", text)
    else:
        _set_eval_data(draft, _data_scope(draft, _TRAIN, "infer_eval_dataset_cfg"))
    beams = model_settings.set_decoding(draft, model)
    draft.set("Run.num_beams", 1 if beams is None else beams, "predict_batch_with_aux.num_decodes")
    examples = bindings.get("seqio.Evaluator", "num_examples", "", None)
    if examples:
        text = "T5X takes the first ones, spjax draws them"
        name = "EVALUATOR_NUM_EXAMPLES"
        draft.set("Run.eval_examples", kinds.whole(name, examples, 1), name, text)


def _set_eval_data(draft: Draft, scope: str) -> None:
    bindings = draft.bindings
    train = _data_scope(draft, _TRAIN, "train_dataset_cfg")
    lengths = bindings.get(DATASET, "task_feature_lengths", scope, None)
    cut = bindings.get(DATASET, "task_feature_lengths", train, None)
    name = f"{scope}/DatasetConfig"
    draft.set("Run.eval_truncation", lengths is not None, f"{name}.task_feature_lengths")
    if lengths not in (None, cut):
        text = f"evaluations are cut as training is, at {cut}"
        draft.note(DIFFERS, f"{name}.task_feature_lengths = {lengths}", text)
    task = bindings.get(DATASET, "mixture_or_task_name", scope, None)
    if task != bindings.get(DATASET, "mixture_or_task_name", train, None):
        text = "training scores the task that it trains on"
        if isinstance(task, str) and model_settings.is_known(task):
            text += "; `spjax eval --task` scores this one"
        draft.note(DIFFERS, f"{name}.mixture_or_task_name = {task}", text)
    split = bindings.get(DATASET, "split", scope, "validation")
    if split != "validation":
        text = "the best step is that of the validation split; test is scored at the end"
        draft.note(DIFFERS, f"{name}.split = {split!r}", text)
    batch = bindings.get(DATASET, "batch_size", scope, None)
    if batch is not None:
        name = f"{name}.batch_size"
        draft.set("Run.eval_batch_size", kinds.whole(name, batch, 1), name)


def _set_computation(draft: Draft) -> None:
    partitions, rules = model_settings.set_partitions(draft, "Run.")
    draft.set("Run.num_partitions", partitions, "partitioning.PjitPartitioner.num_partitions")
    draft.set("Run.logical_axis_rules", rules, "partitioning.PjitPartitioner.logical_axis_rules")
    parts = method_settings.microbatches(draft.bindings)
    draft.set("Run.microbatches", parts, "trainer.Trainer.num_microbatches")
    if _weights_dtype(draft) == "bfloat16":
        draft.set("Run.weights_dtype", "bfloat16", "utils.RestoreCheckpointConfig.dtype")


def _weights_dtype(draft: Draft) -> Any:
    """Returns the dtype of the checkpoint's weights; one that spjax has not is noted."""
    dtype = draft.bindings.get(RESTORE, "dtype", "", "float32")
    if dtype not in ("float32", "bfloat16"):
        name = f"utils.RestoreCheckpointConfig.dtype = {literal(dtype)}"
        draft.note(DIFFERS, name, "weights are float32 or bfloat16")
    return dtype


def _set_folder(draft: Draft) -> None:
    try:
        folder = draft.bindings.get(_TRAIN, "model_dir", "", None)
    except ValueError:  # left to the command line, as in T5X
        folder = None
    if folder is None:
        draft.left_to_user["MODEL_DIR"] = "FOLDER"
        draft.note(LEFT, "FOLDER", "the folder of the run, T5X's MODEL_DIR")
    else:
        draft.set("MODEL_DIR", kinds.text("MODEL_DIR", folder), "MODEL_DIR")


def translate_scoring(draft: Draft) -> None:
    """Translates eval.py and infer.py of a prompt.

    Raises:
      ValueError: a value is missing, or there is no prompt file.
    """
    bindings = draft.bindings
    script = f"__main__.{'evaluate' if draft.program == 'eval' else 'infer'}"
    checkpoint = kinds.text("CHECKPOINT_PATH", required(bindings, RESTORE, "path"))
    model = model_settings.model_class(bindings, script)
    size, vocabulary = model_settings.set_model(draft, script, checkpoint)
    scope = _data_scope(draft, script, "dataset_cfg")
    task = required(bindings, DATASET, "mixture_or_task_name", scope)
    lengths = bindings.get(DATASET, "task_feature_lengths", scope, None)
    rows = list(draft.rows)
    settings = _prompt_settings(draft, model, vocabulary)
    draft.settings = {}  # the file of a prompt has its length and start
    draft.rows = [row for row in draft.rows if row in rows or row.kind == DIFFERS]
    if draft.program == "infer":
        split = bindings.get(DATASET, "split", scope, "test")
        text = (
            "`spjax predict` answers the lines or rows of a file, in place of a task; `spjax eval` "
            "with these flags and --task and --split scores a task"
        )
        draft.note(DIFFERS, f"MIXTURE_OR_TASK_NAME = {task}, split {split!r}", text)
        draft.note(LEFT, INPUT, "the lines or rows to answer, such as the inputs of that split")
    draft.flag("prompt", settings["FromFile.path"], "PROMPT_FILE")
    if "PromptTuning.place" in settings:
        draft.flag("insertion", settings["PromptTuning.place"], "Prompt.combine")
    draft.flag("model", size, "the model's gin file")
    draft.flag("checkpoint", checkpoint, "CHECKPOINT_PATH")
    if vocabulary:
        name = "SPIECE_MODEL" if "://" in vocabulary else vocabulary
        draft.flag("vocabulary", name, "VOCABULARY")
        if name != vocabulary:
            draft.note(LEFT, name, f"the path of your copy of {vocabulary}")
    if draft.program == "eval":
        _set_scored_task(draft, task, vocabulary, scope)
        examples = bindings.get("seqio.Evaluator", "num_examples", "", None)
        if examples:
            draft.note(DIFFERS, f"EVALUATOR_NUM_EXAMPLES = {examples}", "all examples are scored")
    if lengths is not None:
        lengths = kinds.lengths("TASK_FEATURE_LENGTHS", lengths)
        draft.flag("input_length", lengths["inputs"], "TASK_FEATURE_LENGTHS")
        draft.flag("target_length", lengths["targets"], "TASK_FEATURE_LENGTHS")
    name = "DatasetConfig.batch_size"
    batch = kinds.whole(name, bindings.get(DATASET, "batch_size", scope, 32), 1)
    draft.flag("batch_size", batch, name)
    beams = model_settings.set_decoding(draft, model)
    if beams is not None:
        draft.flag("decoding", "beam", "decode_fn")
        draft.flag("num_beams", beams, "predict_batch_with_aux.num_decodes")
    partitions, rules = model_settings.set_partitions(draft, "--")
    if partitions > 1:
        draft.flag("num_partitions", partitions, "PjitPartitioner.num_partitions")
        draft.flag("logical_axis_rules", rules, "PjitPartitioner.logical_axis_rules")
    if _weights_dtype(draft) == "bfloat16":
        draft.flag("weights_dtype", "bfloat16", "utils.RestoreCheckpointConfig.dtype")
    script_folder = "EVAL_OUTPUT_DIR" if draft.program == "eval" else "INFER_OUTPUT_DIR"
    bindings.read.add(Key("", script, "output_dir"))
    draft.note(NOT_NEEDED, script_folder, "results go to standard output")


def _prompt_settings(draft: Draft, model: str, vocabulary: str) -> dict[str, Any]:
    """Returns what a training with this prompt would set; its file is among it."""
    method = method_settings.trained_part(draft, model)
    if method != "prompt_tuning":
        raise model_settings.refuse(
            f"T5X's evaluation of {method}", "give a finished run: `spjax eval FOLDER`."
        )
    method_settings.set_prompt(draft, model, vocabulary)
    if "FromFile.path" not in draft.settings:
        raise ValueError(
            "T5X would score a prompt from its checkpoint; give the prompt's file: "
            "--gin_file=prompt_tuning/configs/prompts/from_file.gin --gin.PROMPT_FILE=..."
        )
    return draft.settings


def _set_scored_task(draft: Draft, task: Any, vocabulary: str, scope: str) -> None:
    model_settings.task_module(draft, scope, task)  # says if it may be another task
    name = model_settings.spjax_task(task, vocabulary)
    draft.flag("task", name, "MIXTURE_OR_TASK_NAME")
    split = draft.bindings.get(DATASET, "split", scope, "test")
    if split in ("train", "validation", "test"):
        draft.flag("split", split, "DatasetConfig.split")
    else:
        draft.note(
            DIFFERS, f"DatasetConfig.split = {split!r}", "--split is train, validation or test"
        )
