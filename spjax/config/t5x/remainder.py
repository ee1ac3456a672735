"""An account of the bindings of T5X that no setting of spjax was made of.

Each is known to be without effect on the numbers, for a reason, or is named as one that may change
them. Values that the network of T5 fixes must be those.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

from spjax.config.t5x import published
from spjax.config.t5x.draft import DIFFERS, NOT_NEEDED, TRANSLATED, Draft
from spjax.config.t5x.gin_files import Bindings, Key, Macro, Reference, short
from spjax.config.t5x.launch_scripts import Launch, literal
from spjax.config.t5x.model_settings import KNOWN_TASKS

_NETWORK = "the network is T5's in spjax too"
_START = "initial weights come from the checkpoint"
_LOGS = (
    "spjax writes metrics.jsonl, TensorBoard events and, of a task with a test split that has "
    "labels, test_items.json.gz; answers to other examples come from `spjax predict`"
)
_VALIDATION_LOSS = "T5X's loss on validation data; spjax scores the answers"
_ACTIVATIONS = "bfloat16 on TPUs and GPUs, float32 on CPU"
_MESH = "a mesh by T5X's rules (gin_configs/mesh)"
_SAVED = "spjax keeps the last state for resuming and the best step, of what is trained alone"
_PROGRAM = "how T5X's program does its work, not what it computes"
_RESTORED = "the checkpoint's weights"
_CACHE = "spjax tokenizes a task once, and keeps that"

_PARTS = (
    *("t5_architecture.Encoder", "t5_architecture.Decoder", "t5_architecture.EncoderLayer"),
    *("t5_architecture.DecoderLayer", "embedding.Embed", "layer_norm.T5LayerNorm"),
    *("relative_position_biases.RelativePositionBiases", "dense.MlpBlock", "dense.DenseGeneral"),
    *("dense_attention.MultiHeadDotProductAttention", "linen.Dropout", "layers.PromptEncoder"),
    *("masks.create_prompt_encoder_mask", "masks.add_fake_prompt", "prompts.Prompt"),
    *("network.T5Config", "seqio.SentencePieceVocabulary", "network.Transformer"),
    *("layers.PromptEncoderDecoder", "t5_architecture.EncoderDecoder"),
)


_VOCABULARIES = ("seqio.SentencePieceVocabulary", "seqio.ByteVocabulary")


def _is_part(value: Any) -> bool:
    return value is None or isinstance(value, Reference) and short(value.name) in _PARTS


def _any(value: Any) -> bool:
    del value
    return True


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: _plain(value) in values


def _refers(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Reference) and short(value.name) in names


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


# A pattern of "scope/name.parameter", the values that it may have, and the reason why nothing has
# to be set; the first pattern that fits decides.
_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("seqio.*Logger.*", _any, _LOGS),
    ("seqio.Evaluator.*", _any, _LOGS),
    ("train_eval/*DatasetConfig.*", _any, _VALIDATION_LOSS),
    ("*DatasetConfig.use_cached", _any, _CACHE),
    ("*DatasetConfig.module", _any, KNOWN_TASKS),
    ("infer_eval/*DatasetConfig.seed", _any, "evaluations are not shuffled"),
    ("*DatasetConfig.use_custom_packing_ops", _any, "spjax packs rows itself"),
    ("train/*DatasetConfig.seed", _any, "SEED decides it too"),
    ("*DatasetConfig.seed", _any, "evaluations are not shuffled"),
    ("*DatasetConfig.shuffle", _is(False), "evaluations are not shuffled"),
    ("*DatasetConfig.pack", _is(False), "spjax packs rows itself, and scores each example"),
    ("*train.train_eval_dataset_cfg", _any, _VALIDATION_LOSS),
    ("*train.eval_steps", _any, _VALIDATION_LOSS),
    ("*train.use_hardware_rng", _any, "which random numbers are drawn is not T5X's anyway"),
    ("*train.summarize_config_fn", _any, _LOGS),
    ("*train.train_eval_get_dataset_fn", _any, _VALIDATION_LOSS),
    ("*train.actions", _is(None), "no actions"),
    *((f"*train.{x}", _any, _PROGRAM) for x in ("gc_period", "concurrent_metrics")),
    *((f"*.{x}", _any, _PROGRAM) for x in ("use_orbax", "verify_matching_vocabs_fn")),
    ("*Trainer.weight_metrics_computer", _any, _LOGS),
    ("*.train_state_initializer_cls", _refers("utils.TrainStateInitializer"), _RESTORED),
    ("*DatasetConfig.use_memory_cache", _any, _CACHE),
    *((f"*DatasetConfig.{x}", _any, _PROGRAM) for x in ("num_prefetch_threads", "num_workers")),
    ("*train.run_eval_before_training", _any, "spjax does not score the start"),
    ("*.inference_evaluator_cls", _refers("seqio.Evaluator"), _LOGS),
    ("*.trainer_cls", _refers("trainer.Trainer"), "the step is that of trainer.Trainer"),
    ("*.learning_rate_fn", _refers("utils.create_learning_rate_scheduler"), "LEARNING_RATE"),
    ("*.checkpoint_cfg", _refers("utils.CheckpointConfig"), _SAVED),
    ("*.partitioner", _refers("partitioning.PjitPartitioner"), _MESH),
    ("*.dataset_cfg", _refers("utils.DatasetConfig"), KNOWN_TASKS),
    ("*.restore_checkpoint_cfg", _refers("utils.RestoreCheckpointConfig"), _RESTORED),
    ("*.fallback_init_rng", _any, "weights and prompt are both read"),
    ("*infer.mode", _is("predict"), "`spjax predict` answers"),
    ("*infer.checkpoint_period", _any, "answers are written as they come"),
    ("*infer.*shard*", _any, "one process answers all"),
    ("*CheckpointConfig.restore", _refers("utils.RestoreCheckpointConfig"), _RESTORED),
    ("*CheckpointConfig.save", _any, _SAVED),
    ("*SaveCheckpointConfig.*", _any, _SAVED),
    ("prompt_tuning.train.utils.Checkpointer.*", _any, _SAVED),
    ("*RestoreCheckpointConfig.mode", _is("specific"), "one checkpoint"),
    ("*RestoreCheckpointConfig.dtype", _is("float32"), "weights are float32 by default"),
    ("*RestoreCheckpointConfig.fallback_to_scratch", _any, "what the checkpoint lacks is new"),
    (
        "*RestoreCheckpointConfig.assignment_map",
        _is((("^.*prompt.*$", None),), (("^.*ia3_scaling.*$", None),)),
        "what the checkpoint lacks is new",
    ),
    ("*logical_axis_rules*", _any, _MESH),
    ("*PjitPartitioner.*", _any, _MESH),
    ("*activation_partitioning_dims", _any, _MESH),
    ("*logical_factor_rules", _any, "two dimensions of a matrix, as min_dim_size_to_factor says"),
    ("*Adafactor.epsilon1", _is(1e-30), "the same"),
    ("*Adafactor.epsilon2", _is(1e-3), "the same"),
    ("*Adafactor.beta1", _is(None), "no momentum"),
    ("*create_learning_rate_scheduler.step_offset", _is(0), "steps of this run"),
    ("*decoding.temperature_sample.*", _any, "of decode_fn, which is named above"),
    ("*DenseGeneral.dtype", _is("float32"), _NETWORK),
    ("*.attend_dtype", _is("float32"), _NETWORK),
    ("*.cast_input_dtype", _is("int32"), _NETWORK),
    ("*prompts.Prompt.dtype", _is("bfloat16", "float32"), "a prompt is float32, as in T5X"),
    ("*.dtype", _is("bfloat16"), _ACTIVATIONS),
    ("*.num_buckets", _is(32), _NETWORK),
    ("*.max_distance", _is(128), _NETWORK),
    ("*.use_bias", _is(False), _NETWORK),
    ("*.MlpBlock.activations", _is(("gelu", "linear")), _NETWORK),
    ("*.final_dropout_rate", _is(0, 0.0), _NETWORK),
    ("*.broadcast_dropout", _is(True), "dropout masks are shared by positions, as in T5X"),
    ("*.Dropout.broadcast_dims", _is((-2,)), "dropout masks are shared by positions, as in T5X"),
    ("*.multitask", _is(False), _NETWORK),
    ("*create_prompt_encoder_mask.prompt_length", _any, _NETWORK),
    ("*add_fake_prompt.prompt_length", _any, _NETWORK),
    ("*.k_conv", _refers("ia3.IA3Attention"), "IA3 scales keys"),
    ("*.v_conv", _refers("ia3.IA3Attention"), "IA3 scales values"),
    ("*.intermediate_conv", _refers("ia3.IA3"), "IA3 scales the hidden layer"),
    ("*ia3.IA3.axis_name", _any, _MESH),
    ("*initializers.normal.*", _any, _START),
    ("*initializers.variance_scaling.*", _any, _START),
    ("flaxformer.*_init", _any, _START),
    ("flaxformer.*.kernel_axis_names", _any, _MESH),
    ("flaxformer.*.one_hot", _any, _NETWORK),
    ("flaxformer.*.name", _any, _NETWORK),
    ("flaxformer.*_factory", _is_part, _NETWORK),
    ("prompt_tuning.train.layers.*_factory", _is_part, _NETWORK),
    ("*.num_embeddings", _any, "the checkpoint has that shape"),
    *((f"*.{x}", _any, "the checkpoint has that shape") for x in ("features", "num_layers")),
    *((f"*.{x}", _any, "the checkpoint has that shape") for x in ("num_heads", "head_dim")),
    ("*.intermediate_dim", _any, "the checkpoint has that shape"),
    *((f"flaxformer.*.{x}", _is_part, _NETWORK) for x in ("attention", "self_attention", "mlp")),
    ("flaxformer.*.encoder_decoder_attention", _is_part, _NETWORK),
    ("*.Transformer.config", _is_part, _NETWORK),
    ("*Model.module", _is_part, _NETWORK),
    ("*Model.*put_vocabulary", _refers(*_VOCABULARIES), "the model's vocabulary"),
    ("prompt_tuning.prompts.*.vocab", _refers("seqio.SentencePieceVocabulary"), "the same"),
)
# Settings of what only a reference calls: without one they do nothing.
_ONLY_BY_REFERENCE = (
    *("flax.linen.initializers.*", "prompt_tuning.*", "t5x.optimizers.*", "t5x.models.*Model"),
    "t5x.decoding.temperature_sample",
)
# What eval.py and infer.py do not use.
_OF_TRAINING = (
    *("*Dropout.rate", "*dropout_rate", "*Adafactor.*", "*create_learning_rate_scheduler.*"),
    *("*Model.z_loss", "*Model.label_smoothing", "*Model.loss_normalizing_factor", "*Trainer.*"),
)
_FLAGS = {
    "tfds_data_dir": "TFDS_DATA_DIR",
    "seqio_additional_cache_dirs": _CACHE,
    **dict.fromkeys(
        (
            *("alsologtostderr", "logtostderr", "log_dir", "stderrthreshold", "v", "verbosity"),
            *("logger_levels", "showprefixforinfo"),
        ),
        "messages only",
    ),
    "dry_run": "T5X reads the configuration and stops, as this translation does",
    **dict.fromkeys(
        (
            *("multiprocess_gpu", "coordinator_address", "process_count", "process_index"),
            "initialization_timeout",
        ),
        "the same `spjax train` on every host (docs/clusters.md)",
    ),
}


def add_flags(draft: Draft, launch: Launch) -> None:
    """Takes over flags of T5X that are not gin's, and notes what may be or set more flags."""
    for command in launch.unread:
        text = "may set variables, and is not read; set them in the environment of this command"
        draft.note(DIFFERS, literal(command).strip("'\""), text)
    for name, value in launch.environment.items():
        draft.environment[name] = value
        draft.note(TRANSLATED, name, f"{name}={literal(value)}")
    for word in launch.others:
        text = "may be more flags, which the script gets from elsewhere; give them to this command"
        draft.note(DIFFERS, literal(word).strip("'\""), text)
    for name, value in launch.flags.items():
        if name == "tfds_data_dir":
            draft.environment["TFDS_DATA_DIR"] = value
            draft.note(TRANSLATED, f"--{name}", f"TFDS_DATA_DIR={literal(value)}")
        elif name in _FLAGS:
            draft.note(NOT_NEEDED, f"--{name}", _FLAGS[name])
        else:
            draft.note(DIFFERS, f"--{name}={literal(value)}", "not known to `spjax translate`")


def add_remainder(draft: Draft) -> None:
    """Notes every binding that has not been read."""
    bindings = draft.bindings
    called = _called(bindings)
    left = [key for key in bindings.values if key not in bindings.read]
    parameters = [key for key in left if key.parameter]
    for key in parameters:
        kind, text = _judge(bindings, key, called, draft.program)
        shown = str(key) if kind == NOT_NEEDED else f"{key} = {_shown(bindings, key)}"
        draft.note(kind, shown, text)
    whose = "the published files" if bindings.standing_in else "T5X"
    macros = bindings.macros_of([key for key in bindings.values if key.parameter])
    for key in left:
        if not key.parameter and key not in macros:
            draft.note(NOT_NEEDED, str(key), f"nothing refers to it, in {whose} neither")


def _shown(bindings: Bindings, key: Key) -> str:
    try:
        value = bindings.resolved(bindings.values[key], str(key))
    except ValueError:
        return str(bindings.values[key])
    macro = f"{bindings.values[key]} = " if isinstance(bindings.values[key], Macro) else ""
    return macro + (str(value) if isinstance(value, Reference) else literal(value))


def _judge(
    bindings: Bindings, key: Key, called: set[tuple[str, str]], program: str
) -> tuple[str, str]:
    if key in bindings.hidden:
        return NOT_NEEDED, f"{bindings.hidden[key]} stands in its place"
    by_reference = any(fnmatch.fnmatchcase(key.name, name) for name in _ONLY_BY_REFERENCE)
    known = not bindings.standing_in or key.name in published.NAMES  # with all that calls it
    if by_reference and known and not _is_called(key, called):
        return NOT_NEEDED, "nothing calls it, in T5X neither"
    name = f"{key.name}.{key.parameter}"
    if program != "train" and any(fnmatch.fnmatchcase(name, x) for x in _OF_TRAINING):
        return NOT_NEEDED, "a setting of training"
    for pattern, fits, reason in _RULES:
        if any(fnmatch.fnmatchcase(text, pattern) for text in (name, f"{key.scope}/{name}")):
            try:
                value = bindings.resolved(bindings.values[key], str(key))
            except ValueError:
                return DIFFERS, "it has no value"
            return (
                (NOT_NEEDED, reason)
                if fits(value)
                else (DIFFERS, f"another value than spjax's: {reason}")
            )
    return DIFFERS, "not known to `spjax translate`"


def _is_called(key: Key, called: Iterable[tuple[str, str]]) -> bool:
    return any(
        name == key.name and (not key.scope or scope == key.scope or not scope)
        for scope, name in called
    )


def _called(bindings: Bindings) -> set[tuple[str, str]]:
    """Returns scope and name of all references in values that are in force."""
    found: set[tuple[str, str]] = set()
    done: set[Key] = set()
    fresh = [key for key in bindings.values if key.parameter and not _by_reference(key)]
    while fresh:
        for key in fresh:
            done.add(key)
            for reference in _references(bindings, bindings.values[key], ()):
                found.add((reference.scope, reference.name))
        fresh = [
            key
            for key in bindings.values
            if key.parameter and key not in done and _is_called(key, found)
        ]
    return found


def _by_reference(key: Key) -> bool:
    return any(fnmatch.fnmatchcase(key.name, name) for name in _ONLY_BY_REFERENCE)


def _references(bindings: Bindings, value: Any, seen: tuple[str, ...]) -> list[Reference]:
    """Returns the references in a value, those of its macros too."""
    if isinstance(value, Reference):
        return [value]
    name = getattr(value, "name", None)
    if name is not None:  # a macro
        inner = bindings.values.get(Key("", name, ""))
        return [] if name in seen else _references(bindings, inner, (*seen, name))
    items = value.values() if isinstance(value, dict) else value
    if isinstance(items, (list, tuple)) or isinstance(value, dict):
        return [found for item in items for found in _references(bindings, item, seen)]
    return []
