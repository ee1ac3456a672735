"""Settings of the gin files that T5X and google-research/prompt-tuning publish, by their names.

They stand in for files that are not at hand, with the settings alone that decide what a run
computes, and one use of every macro. `tests/parity` compares translations with and without the
files themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from spjax.models.sizes import SIZES, T5Config

_RUNS = "t5x/configs/runs"
_PROMPT = "prompt_tuning/configs"
_EXTENDED = "prompt_tuning/configs/extended"
_NETWORKS = "t5x/examples/t5"
_VOCABULARY = "gs://t5-data/vocabs/{}.100extra/sentencepiece.model"
_T5_PIECES, _MT5_PIECES = _VOCABULARY.format("cc_all.32000"), _VOCABULARY.format("mc4.250000")

_DATASET = "t5x.utils.DatasetConfig"
_RATE = "t5x.utils.create_learning_rate_scheduler"
_MODEL = "t5x.models.EncoderDecoderModel"
_SENTENCEPIECE = "seqio.SentencePieceVocabulary"
_ADAFACTOR = "t5x.adafactor.Adafactor"
_PARTITIONER = "t5x.partitioning.PjitPartitioner"
_PROMPTS = "prompt_tuning.prompts"
_IN_TRAINING = "prompt_tuning.train.prompts"
_UNIFORM = "flax.linen.initializers.uniform"
_T5 = "flaxformer.architectures.t5.t5_architecture"
_DENSE = "flaxformer.components.dense.DenseGeneral"
_SCALING = "mlp_kernel_init/flax.linen.initializers.variance_scaling"

_File = tuple[tuple[str, ...], Mapping[str, Any]]  # what it includes, then what it binds


def _data(scope: str, lengths: str, split: str, batch_size: str) -> dict[str, str]:
    name = f"{scope}/{_DATASET}" if scope else _DATASET
    return {
        f"{name}.mixture_or_task_name": "%MIXTURE_OR_TASK_NAME",
        f"{name}.task_feature_lengths": lengths,
        f"{name}.split": repr(split),
        f"{name}.batch_size": batch_size,
        f"{name}.module": "%MIXTURE_OR_TASK_MODULE",
    }


def _runs() -> dict[str, _File]:
    lengths = "%TASK_FEATURE_LENGTHS"
    required = ("MODEL_DIR", "MIXTURE_OR_TASK_NAME", "TASK_FEATURE_LENGTHS", "TRAIN_STEPS")
    finetune = dict.fromkeys((*required, "INITIAL_CHECKPOINT_PATH"), "%gin.REQUIRED") | {
        "DROPOUT_RATE": "0.1",
        "BATCH_SIZE": "128",
        "EVAL_PERIOD": "1000",
        "EVALUATOR_NUM_EXAMPLES": "None",
        "RANDOM_SEED": "None",
        "MIXTURE_OR_TASK_MODULE": "None",
        "USE_CACHED_TASKS": "True",
        "EVAL_STEPS": "20",
        "EVALUATOR_USE_MEMORY_CACHE": "True",
        "JSON_WRITE_N_RESULTS": "None",
        "USE_HARDWARE_RNG": "False",
        "TRAIN_STEPS_RELATIVE": "None",
        "__main__.train.model": "%MODEL",
        "__main__.train.model_dir": "%MODEL_DIR",
        "__main__.train.train_dataset_cfg": f"@train/{_DATASET}()",
        "__main__.train.infer_eval_dataset_cfg": f"@infer_eval/{_DATASET}()",
        "__main__.train.checkpoint_cfg": "@t5x.utils.CheckpointConfig()",
        "__main__.train.partitioner": f"@{_PARTITIONER}()",
        "__main__.train.trainer_cls": "@t5x.trainer.Trainer",
        "__main__.train.total_steps": "%TRAIN_STEPS",
        "__main__.train.eval_period": "%EVAL_PERIOD",
        "__main__.train.relative_steps": "%TRAIN_STEPS_RELATIVE",
        "__main__.train.random_seed": "%RANDOM_SEED",
        "__main__.train.eval_steps": "%EVAL_STEPS",
        "__main__.train.use_hardware_rng": "%USE_HARDWARE_RNG",
        f"{_PARTITIONER}.num_partitions": "1",
        "seqio.Evaluator.num_examples": "%EVALUATOR_NUM_EXAMPLES",
        "seqio.Evaluator.use_memory_cache": "%EVALUATOR_USE_MEMORY_CACHE",
        "seqio.JSONLogger.write_n_results": "%JSON_WRITE_N_RESULTS",
        **_data("train", lengths, "train", "%BATCH_SIZE"),
        f"train/{_DATASET}.pack": "True",
        f"train/{_DATASET}.seed": "None",
        f"train/{_DATASET}.use_cached": "%USE_CACHED_TASKS",
        **_data("infer_eval", "None", "validation", "%BATCH_SIZE"),
        "t5x.utils.CheckpointConfig.restore": "@t5x.utils.RestoreCheckpointConfig()",
        "t5x.utils.CheckpointConfig.save": "@t5x.utils.SaveCheckpointConfig()",
        "t5x.utils.RestoreCheckpointConfig.path": "%INITIAL_CHECKPOINT_PATH",
        "t5x.utils.SaveCheckpointConfig.period": "5000",
        "t5x.trainer.Trainer.num_microbatches": "None",
        "t5x.trainer.Trainer.learning_rate_fn": f"@{_RATE}()",
        f"{_RATE}.factors": "'constant'",
        f"{_RATE}.base_learning_rate": "0.001",
        f"{_RATE}.warmup_steps": "1000",
    }
    prompts = {
        f"train/{_DATASET}.pack": "False",
        f"{_RATE}.base_learning_rate": "0.3",
        "t5x.utils.SaveCheckpointConfig.period": "1000",
    }
    files: dict[str, _File] = {
        f"{_RUNS}/finetune.gin": ((), finetune),
        f"{_PROMPT}/runs/prompt_finetune.gin": ((f"{_RUNS}/finetune.gin",), prompts),
        f"{_EXTENDED}/runs/ia3_finetune.gin": (
            (f"{_PROMPT}/runs/prompt_finetune.gin",),
            {f"{_RATE}.base_learning_rate": "3e-3"},
        ),
    }
    return files | _scoring_runs(lengths)


def _scoring_runs(lengths: str) -> dict[str, _File]:
    files: dict[str, _File] = {}
    for name, script, output in (("eval", "evaluate", "EVAL"), ("infer", "infer", "INFER")):
        bindings = {
            "MIXTURE_OR_TASK_NAME": "%gin.REQUIRED",
            "CHECKPOINT_PATH": "%gin.REQUIRED",
            f"{output}_OUTPUT_DIR": "%gin.REQUIRED",
            "TASK_FEATURE_LENGTHS": "None" if name == "eval" else "%gin.REQUIRED",
            "MIXTURE_OR_TASK_MODULE": "None",
            f"__main__.{script}.model": "%MODEL",
            f"__main__.{script}.output_dir": f"%{output}_OUTPUT_DIR",
            f"__main__.{script}.dataset_cfg": f"@{_DATASET}()",
            f"__main__.{script}.partitioner": f"@{_PARTITIONER}()",
            f"__main__.{script}.restore_checkpoint_cfg": "@t5x.utils.RestoreCheckpointConfig()",
            f"{_PARTITIONER}.num_partitions": "1",
            **_data("", lengths, "test", "32"),
            "t5x.utils.RestoreCheckpointConfig.path": "%CHECKPOINT_PATH",
        }
        if name == "infer":
            bindings["t5x.utils.RestoreCheckpointConfig.dtype"] = "'bfloat16'"
        files[f"{_RUNS}/{name}.gin"] = ((), bindings)
        includes = (f"{_RUNS}/{name}.gin", f"{_PROMPT}/prompts/from_file.gin")
        files[f"{_PROMPT}/runs/prompt_{name}.gin"] = (includes, {})
    return files


_SHARED_MODEL = {
    "Z_LOSS": "0.0001",
    "LABEL_SMOOTHING": "0.0",
    "LOSS_NORMALIZING_FACTOR": "None",
    "VOCABULARY": f"@{_SENTENCEPIECE}()",
    f"{_SENTENCEPIECE}.sentencepiece_model_file": repr(_T5_PIECES),
    "MODEL": f"@{_MODEL}()",
    f"{_MODEL}.optimizer_def": "%OPTIMIZER",
    f"{_MODEL}.input_vocabulary": "%VOCABULARY",
    f"{_MODEL}.output_vocabulary": "%VOCABULARY",
    f"{_MODEL}.z_loss": "%Z_LOSS",
    f"{_MODEL}.label_smoothing": "%LABEL_SMOOTHING",
    f"{_MODEL}.loss_normalizing_factor": "%LOSS_NORMALIZING_FACTOR",
}
_MULTI = "t5x.optimizers.MultiOptimizer"
_FILTER = "prompt_tuning.train.utils.match_any"
_FROZEN_MODEL = {
    "ARCHITECTURE": f"@{_T5}.EncoderDecoder()",
    "ACTIVATION_DTYPE": "'bfloat16'",
    "ACTIVATION_PARTITIONING_DIMS": "1",
    "SCALE": "1.0",
    "BIAS_INIT": "@bias_init/flax.linen.initializers.normal()",
    "DROPOUT_FACTORY": "@dropout_factory/flax.linen.Dropout",
    f"{_T5}.EncoderDecoder.dtype": "%ACTIVATION_DTYPE",
    f"{_T5}.Encoder.input_dropout_factory": "%DROPOUT_FACTORY",
    f"{_T5}.EncoderLayer.activation_partitioning_dims": "%ACTIVATION_PARTITIONING_DIMS",
    f"{_DENSE}.bias_init": "%BIAS_INIT",
    f"{_DENSE}.kernel_init": f"@{_SCALING}()",
    f"{_SCALING}.scale": "%SCALE",
    "flax.linen.Dropout.rate": "%DROPOUT_RATE",
    "NUM_EMBEDDINGS": "32128",
    "OPTIMIZER": f"@{_MULTI}()",
    f"{_MULTI}.traversals_and_optimizers": (
        f"((@flax.traverse_util.ModelParamTraversal(), @{_ADAFACTOR}()),)"
    ),
    "flax.traverse_util.ModelParamTraversal.filter_fn": f"@{_FILTER}()",
    f"{_ADAFACTOR}.decay_rate": "0.8",
    f"{_ADAFACTOR}.step_offset": "0",
    f"{_MODEL}.module": "%ARCHITECTURE",
    **_SHARED_MODEL,
}
_LAYERS = "prompt_tuning.train.layers"
_PROMPT_MODEL = _FROZEN_MODEL | {
    "ARCHITECTURE": f"@{_LAYERS}.PromptEncoderDecoder()",
    f"{_LAYERS}.PromptEncoderDecoder.encoder_factory": f"@{_LAYERS}.PromptEncoder",
    f"{_LAYERS}.PromptEncoder.prompt_factory": "%PROMPT",
    "PROMPT_LENGTH": "100",
    "PROMPT": f"@{_IN_TRAINING}.Prompt",
    f"{_IN_TRAINING}.Prompt.prompt": f"@{_PROMPTS}.Prompt()",
    f"{_PROMPTS}.Prompt.length": "%PROMPT_LENGTH",
    f"{_PROMPTS}.Prompt.prompt_init": f"@prompt_init/{_UNIFORM}()",
    f"prompt_init/{_UNIFORM}.scale": "0.5",
    f"{_ADAFACTOR}.multiply_by_parameter_scale": "False",
    f"{_ADAFACTOR}.weight_decay_rate": "0.00001",
    "PROMPT_REGEX": '[".*/prompt/.*"]',
    f"{_FILTER}.regexes": "%PROMPT_REGEX",
}
_IA3_MODEL = _FROZEN_MODEL | {
    "TRAINABLE_REGEX": '[".*/ia3_scaling.*"]',
    f"{_FILTER}.regexes": "%TRAINABLE_REGEX",
}
_WAYWARD = "prompt_tuning.extended.train.wayward"
_WAYWARD_MODEL = {
    "VERBALIZERS": "None",
    "TASK_STRING": repr(
        "Classify this movie review based on its sentiment . Use 2 classes . One positive ( for "
        "reviews that paint the movie in a favorable light ) and one negative ( for reviews that "
        "make you not want to see the movie or think it will be bad ) . Use the string ` positive "
        "` for the positive class , the good / great movies , and use the string ` negative ` for "
        "the negative class , the bad movies ."
    ),
    "TASK_PIECES": f"@{_WAYWARD}.encode_string()",
    f"{_WAYWARD}.encode_string.s": "%TASK_STRING",
    f"{_WAYWARD}.encode_string.format_values": "%VERBALIZERS",
    "PROMPT_LENGTH": f"@{_WAYWARD}.length()",
    f"{_WAYWARD}.length.x": "%TASK_PIECES",
    f"{_PROMPTS}.Prompt.prompt_init": f"@prompt_init/{_PROMPTS}.from_embedded_string()",
    f"prompt_init/{_PROMPTS}.from_embedded_string.text": "%TASK_STRING",
    f"prompt_init/{_PROMPTS}.from_embedded_string.embeddings": (
        f"@prompt_init/{_PROMPTS}.t5x_load()"
    ),
    f"prompt_init/{_PROMPTS}.t5x_load.checkpoint_path": "%INITIAL_CHECKPOINT_PATH",
    "MODEL": f"@{_WAYWARD}.WaywardPromptEncoderDecoderModel()",
    f"{_WAYWARD}.WaywardPromptEncoderDecoderModel.gamma": "0.01",
    f"{_WAYWARD}.WaywardPromptEncoderDecoderModel.discrete_prompt": (
        f"@prompt_init/{_WAYWARD}.execute_initializer()"
    ),
    f"prompt_init/{_WAYWARD}.execute_initializer.init": (
        f"@prompt_init/{_PROMPTS}.from_embedded_string()"
    ),
    **{
        f"{_WAYWARD}.WaywardPromptEncoderDecoderModel.{key.removeprefix(_MODEL)[1:]}": value
        for key, value in _FROZEN_MODEL.items()
        if key.startswith(_MODEL)
    },
}


_T5_1_0 = {
    "small": (512, 8, 64, 2048, 6),
    "base": (768, 12, 64, 3072, 12),
    "large": (1024, 16, 64, 4096, 24),
    "3B": (1024, 32, 128, 16384, 24),
    "11B": (1024, 128, 128, 65536, 24),
}


def _network(config: T5Config) -> dict[str, Any]:
    """The bindings of T5X's own network of a size, which is fine-tuned as a whole."""
    module = "t5x.examples.t5.network"
    names = (
        *("emb_dim", "num_heads", "num_encoder_layers", "num_decoder_layers", "head_dim"),
        *("mlp_dim", "mlp_activations", "vocab_size", "logits_via_embedding"),
    )
    return {
        **{f"{module}.T5Config.{name}": getattr(config, name) for name in names},
        f"{module}.T5Config.dtype": "'bfloat16'",
        f"{module}.T5Config.dropout_rate": "%DROPOUT_RATE",
        f"{module}.Transformer.config": f"@{module}.T5Config()",
        f"{_MODEL}.module": f"@{module}.Transformer()",
        "OPTIMIZER": f"@{_ADAFACTOR}()",
        f"{_ADAFACTOR}.decay_rate": "0.8",
        f"{_ADAFACTOR}.step_offset": "0",
        **_SHARED_MODEL,
    }


def _models() -> dict[str, _File]:
    models = f"{_PROMPT}/models"
    prompt, mt5 = f"{models}/t5_1_1_prompt.gin", f"{models}/mt5_prompt.gin"
    wayward = f"{_EXTENDED}/models/wayward_t5_1_1_prompt.gin"
    vocabulary = {f"{_SENTENCEPIECE}.sentencepiece_model_file": repr(_MT5_PIECES)}
    files: dict[str, _File] = {
        prompt: ((), _PROMPT_MODEL),
        mt5: ((prompt,), vocabulary | {"NUM_EMBEDDINGS": "250112"}),
        wayward: ((prompt,), _WAYWARD_MODEL),
        f"{_EXTENDED}/models/ia3_t5_1_1.gin": ((), _IA3_MODEL),
        f"{models}/decoding/beam_search.gin": (
            (),
            {
                f"{_MODEL}.predict_batch_with_aux.num_decodes": "4",
                "t5x.decoding.beam_search.alpha": "0.6",
                f"{_MODEL}.decode_fn": "@t5x.decoding.beam_search",
            },
        ),
        f"{models}/decoding/nucleus_sampling.gin": (
            (),
            {
                f"{_MODEL}.predict_batch_with_aux.num_decodes": "1",
                f"{_MODEL}.decode_fn": "@t5x.decoding.temperature_sample",
            },
        ),
    }
    for size in ("small", "base", "large", "xl", "xxl"):
        shape = SIZES[f"t5_1_1_{size}"]
        sizes = f"{models}/sizes/{size}.gin"
        macros = {
            "NUM_HEADS": shape.num_heads,
            "NUM_ENCODER_LAYERS": shape.num_encoder_layers,
            "NUM_DECODER_LAYERS": shape.num_decoder_layers,
            "HEAD_DIM": shape.head_dim,
            "EMBED_DIM": shape.emb_dim,
            "MLP_DIM": shape.mlp_dim,
        }
        files[sizes] = ((), macros)
        for model in (prompt, mt5, *([wayward] if size in ("base", "large") else [])):
            files[model.replace("_prompt.gin", f"_{size}_prompt.gin")] = ((model, sizes), {})
        networks = {"t5_1_1": shape, "mt5": dataclasses.replace(shape, vocab_size=250112)}
        for family, config in networks.items():
            own = vocabulary if family == "mt5" else {}
            files[f"{_NETWORKS}/{family}/{size}.gin"] = ((), _network(config) | own)
    for size, (emb_dim, heads, head_dim, mlp_dim, layers) in _T5_1_0.items():
        config = T5Config(32128, emb_dim, heads, head_dim, mlp_dim, layers, layers, ("relu",), True)
        files[f"{_NETWORKS}/t5_1_0/{size}.gin"] = ((), _network(config))
    return files


def _prompts() -> dict[str, _File]:
    scope = f"prompt_init/{_PROMPTS}"
    base = {
        "PROMPT": f"@{_IN_TRAINING}.Prompt",
        f"{_IN_TRAINING}.Prompt.prompt": f"@{_PROMPTS}.Prompt()",
        f"{_PROMPTS}.Prompt.length": "%PROMPT_LENGTH",
    }
    init = f"{_PROMPTS}.Prompt.prompt_init"
    sample = {
        f"{scope}.from_sample_of_embeddings.embeddings": f"@{scope}.t5x_load()",
        f"{scope}.from_sample_of_embeddings.population_size": "5000",
        f"{scope}.t5x_load.checkpoint_path": "%INITIAL_CHECKPOINT_PATH",
        f"{scope}.t5x_load.variable_path": "'token_embedder/embedding'",
    }
    labels = {
        "CLASS_LABELS": "%gin.REQUIRED",
        **base,
        init: f"@{scope}.from_embedded_list()",
        f"{scope}.from_embedded_list.embeddings": f"@{scope}.t5x_load()",
        f"{scope}.from_embedded_list.texts": "%CLASS_LABELS",
        f"{scope}.from_embedded_list.initializer": f"@{scope}.from_sample_of_embeddings()",
        **sample,
    }
    vocabulary = {**base, init: f"@{scope}.from_sample_of_embeddings()", **sample}
    file = {
        "PROMPT_FILE": "%gin.REQUIRED",
        **base,
        init: f"@{scope}.from_array()",
        f"{scope}.from_array.prompt": f"@{scope}.np_load()",
        f"{scope}.np_load.path": "%PROMPT_FILE",
    }
    folder = f"{_PROMPT}/prompts"

    def from_numpy(bindings: dict[str, str]) -> _File:
        loaded = {key: value.replace("t5x_load", "np_load") for key, value in bindings.items()}
        loaded = {key: value for key, value in loaded.items() if ".t5x_load." not in key}
        embedding = {"EMBEDDING_FILE": "%gin.REQUIRED", f"{scope}.np_load.path": "%EMBEDDING_FILE"}
        return (), loaded | embedding

    return {
        f"{folder}/from_class_labels_numpy.gin": from_numpy(labels),
        f"{folder}/from_sampled_vocab_numpy.gin": from_numpy(vocabulary),
        f"{folder}/from_class_labels.gin": ((), labels),
        f"{folder}/from_sampled_vocab.gin": ((), vocabulary),
        f"{folder}/from_file.gin": ((), file),
    }


FILES: dict[str, _File] = {**_runs(), **_models(), **_prompts()}


def _names() -> tuple[str, ...]:
    """The full names that the files bind or refer to."""
    names = set()
    for _, bindings in FILES.values():
        for key, value in bindings.items():
            if "." in key:
                names.add(key.split("/")[-1].rpartition(".")[0])
            if isinstance(value, str) and value.startswith("@"):
                names.add(value[1:].removesuffix("()").split("/")[-1])
    return tuple(sorted(names))


NAMES = _names()
