"""The model, task and decoding of T5X's bindings, for training and for evaluation."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from spjax.config.t5x import kinds, launch_scripts
from spjax.config.t5x.draft import DIFFERS, NOT_NEEDED, Draft
from spjax.config.t5x.gin_files import Bindings, Reference, short
from spjax.data.tasks import registry
from spjax.models.sizes import SIZES
from spjax.vocabularies.vocabulary import BYT5

DATASET = "t5x.utils.DatasetConfig"
RESTORE = "t5x.utils.RestoreCheckpointConfig"
PARTITIONER = "t5x.partitioning.PjitPartitioner"
NETWORK = "t5x.examples.t5.network.T5Config"
WAYWARD = "prompt_tuning.extended.train.wayward.WaywardPromptEncoderDecoderModel"
MODELS = ("t5x.models.EncoderDecoderModel", WAYWARD)
_NETWORKS = (
    "prompt_tuning.train.layers.PromptEncoderDecoder",
    "flaxformer.architectures.t5.t5_architecture.EncoderDecoder",
    "t5x.examples.t5.network.Transformer",
)
_SENTENCEPIECE = "seqio.SentencePieceVocabulary"
SHAPE = {
    "num_heads": "NUM_HEADS",
    "num_encoder_layers": "NUM_ENCODER_LAYERS",
    "num_decoder_layers": "NUM_DECODER_LAYERS",
    "head_dim": "HEAD_DIM",
    "emb_dim": "EMBED_DIM",
    "mlp_dim": "MLP_DIM",
    "vocab_size": "NUM_EMBEDDINGS",
}
_BYTES = "seqio.ByteVocabulary"
KNOWN_TASKS = "spjax imports no module for tasks of its own"
_PUBLISHED_MODULES = ("prompt_tuning.", "t5.")  # their tasks are spjax's, or have no counterpart
_SEQIO_NAME = re.compile(r"[\w:.-]+")  # of a task
_T5_VOCABULARY = re.compile(r"cc_all\.32000(\.100extra)?/sentencepiece\.model$")


def required(bindings: Bindings, name: str, parameter: str, scope: str = "") -> Any:
    """Returns a value that T5X cannot do without.

    Raises:
      ValueError: nothing binds it.
    """
    value = bindings.get(name, parameter, scope, None)
    if value is None:
        at = f"{scope}/{short(name)}" if scope else short(name)
        raise ValueError(
            f"nothing binds {at}.{parameter}; name all the files and flags that T5X is started "
            "with: of a model, a run and, for another start, a prompt."
        )
    return value


def name_of(value: Any, what: str) -> str:
    """Returns the full name that a reference refers to.

    Raises:
      ValueError: it is no reference.
    """
    if not isinstance(value, Reference):
        raise ValueError(f"{what} is {value!r}, where T5X has a reference such as @Name().")
    return value.name


def refuse(what: str, reason: str) -> ValueError:
    """Returns the error for what spjax has no counterpart of as a whole."""
    return ValueError(f"{what} has no counterpart in spjax: {reason}")


def model_class(bindings: Bindings, script: str) -> str:
    """Returns the full name of the model's class.

    Raises:
      ValueError: spjax has none of this kind.
    """
    name = name_of(required(bindings, script, "model"), "MODEL")
    if name not in MODELS:
        raise refuse(
            f"the model {short(name)}",
            "it computes another loss or has another network; spjax trains encoder-decoders with "
            "cross-entropy, and wayward prompts.",
        )
    network = name_of(required(bindings, name, "module"), "ARCHITECTURE")
    if network not in _NETWORKS:
        raise refuse(
            f"the network {short(network)}",
            "prompts stand at the input of the encoder of a T5, with no network between"
            if "prompt" in network.lower()
            else "spjax has T5's network only (docs/t5x.md).",
        )
    return name


def set_model(draft: Draft, script: str, checkpoint: str) -> tuple[str, str]:
    """Takes over size and vocabulary.

    Args:
      draft: the translation.
      script: full name of T5X's function, such as "__main__.train".
      checkpoint: path of the frozen weights.

    Returns:
      The model's size or "auto", and the path of a vocabulary that is not T5's, "" for T5's, or
      "byt5".
    """
    bindings = draft.bindings
    pieces = bindings.get(model_class(bindings, script), "input_vocabulary", "", None)
    shape = {
        field: bindings.get(NETWORK, field, "", None) or bindings.macro(macro)
        for field, macro in SHAPE.items()
    }
    activations = bindings.get(NETWORK, "mlp_activations", "", ("gelu", "linear"))
    activations = kinds.texts("T5Config.mlp_activations", activations)
    tied = bindings.get(NETWORK, "logits_via_embedding", "", False)
    size = "auto"
    for name, config in SIZES.items():
        same = all(getattr(config, field) == value for field, value in shape.items())
        if same and (config.mlp_activations, config.logits_via_embedding) == (activations, tied):
            size = name
    name = "sentencepiece_model_file"
    path = kinds.text(name, bindings.get(_SENTENCEPIECE, name, "", ""))
    own = "" if not path or _T5_VOCABULARY.search(path) else path
    if isinstance(pieces, Reference) and pieces.name == _BYTES:
        own, path = BYT5, ""
    label = ", ".join(SHAPE.values())
    if activations not in (("gelu", "linear"), ("relu",)):
        name = f"T5Config.mlp_activations = {activations}"
        draft.note(DIFFERS, name, "T5's are ('gelu', 'linear') or ('relu',)")
    if size == "auto":
        draft.note(NOT_NEEDED, label, f"the shape is read from {checkpoint}")
    if not own and path:
        draft.note(NOT_NEEDED, "VOCABULARY", "T5's vocabulary, which ships with spjax")
    return size, own


def task_module(draft: Draft, scope: str, name: Any) -> str:
    """Returns the module of a user's own seqio task, "" for a task of spjax or of T5's packages.

    Raises:
      ValueError: the name is none that seqio takes.
    """
    if not isinstance(name, str):
        return ""
    if not (module := draft.bindings.get(DATASET, "module", scope, None)):
        return ""
    kinds.given("MIXTURE_OR_TASK_MODULE", kinds.text("MIXTURE_OR_TASK_MODULE", module))
    if module.startswith(_PUBLISHED_MODULES):
        draft.note(NOT_NEEDED, f"{scope}/utils.DatasetConfig.module", KNOWN_TASKS)
        return ""
    if is_known(name):
        text = f"spjax's own task, whatever {module} has under this name"
        if draft.program == "train":
            text += "; for that include gin_configs/tasks/seqio.gin and bind MIXTURE_OR_TASK_MODULE"
        draft.note(DIFFERS, f"MIXTURE_OR_TASK_NAME = {name!r} of {module}", text)
        return ""
    if not (launch_scripts.has_variables(name) or _SEQIO_NAME.fullmatch(name)):
        raise ValueError(f"MIXTURE_OR_TASK_NAME is {name!r}, which seqio takes for no name.")
    return str(module)


def _known_name(name: str) -> str:
    return name.removeprefix("mt5_").removeprefix("byt5_").replace("_examples", "")


def is_known(name: str) -> bool:
    """Returns whether spjax has a task or mixture of T5X's name."""
    return registry.is_task(_known_name(name)) or registry.is_mixture(_known_name(name))


def spjax_task(name: Any, own_vocabulary: str) -> str:
    """Returns the name of a task of T5 or prompt-tuning in spjax.

    Args:
      name: in T5X. `_examples` only logs texts; `mt5_` and `byt5_` say whose vocabulary is used.
      own_vocabulary: path of a vocabulary that is not T5's.

    Raises:
      ValueError: spjax has no such task, or it has another vocabulary than the model.
    """
    kinds.given("MIXTURE_OR_TASK_NAME", kinds.text("MIXTURE_OR_TASK_NAME", name))
    if name.startswith("byt5_") and own_vocabulary != BYT5:
        raise ValueError(
            f"the task {name} is read byte by byte, and the model has no VOCABULARY = "
            "@seqio.ByteVocabulary(). Name the files of a ByT5 model, or the task without byt5_."
        )
    if "task_index_" in name:
        raise refuse(
            f"the task {name}",
            "its texts begin with the index of a task for multitask prompts of that code; spjax "
            "has MultitaskPromptTuning over a mixture, which is another method.",
        )
    if name.startswith("mt5_") and own_vocabulary in ("", BYT5):
        raise ValueError(
            f"the task {name} has mT5's vocabulary and the model another; T5X would feed it ids of "
            "other words. Choose a model file mt5_..., or the task without mt5_."
        )
    known = _known_name(name)
    if is_known(name):
        return known
    names = [*registry.names(), *registry.mixture_names()]
    close = difflib.get_close_matches(known, names, 1, 0.6)
    guess = f" Did you mean {close[0]}?" if close else ""
    raise ValueError(
        f"spjax has no task {known!r}.{guess} `spjax tasks` lists its own; training on a seqio "
        "task of yours is translated if MIXTURE_OR_TASK_MODULE names its module (docs/tasks.md)."
    )


def set_partitions(draft: Draft, prefix: str) -> tuple[int, str]:
    """Returns the number of partitions and the name of the logical axis rules.

    Args:
      draft: the translation, which gets a note of a submesh.
      prefix: of the settings in spjax.
    """
    bindings = draft.bindings
    name = "PjitPartitioner.num_partitions"
    partitions = kinds.whole(name, bindings.get(PARTITIONER, "num_partitions", "", 1) or 1)
    submesh = bindings.get(PARTITIONER, "model_parallel_submesh", "", None)
    if submesh is not None:
        name = "PjitPartitioner.model_parallel_submesh"
        partitions = math.prod(kinds.whole(name, x, 1) for x in kinds.sequence(name, submesh))
        text = f"{prefix}num_partitions = {partitions}, its product; JAX places the devices"
        draft.note(NOT_NEEDED, "PjitPartitioner.model_parallel_submesh", text)
    rules = "t5x.partitioning.standard_logical_axis_rules"
    two = bindings.get(rules, "parameter_partitioning_dims", "", 1) == 2
    return partitions, "fsdp" if two else "tensor_parallel" if partitions > 1 else "data_parallel"


def set_decoding(draft: Draft, model: str) -> int | None:
    """Returns the beams of T5X's search; None where spjax has no counterpart, which is noted."""
    bindings = draft.bindings
    decode = bindings.get(model, "decode_fn", "", None)
    decode_name = short(decode.name) if isinstance(decode, Reference) else "decoding.beam_search"
    beams = bindings.get(f"{MODELS[0]}.predict_batch_with_aux", "num_decodes", "", 1)
    beams = kinds.whole("predict_batch_with_aux.num_decodes", beams, 1)
    alpha = bindings.get("t5x.decoding.beam_search", "alpha", "", 0.6)
    if decode_name != "decoding.beam_search":
        text = "evaluations while training search for answers by beam search or greedily"
        hint = "`spjax predict --decoding=sample` samples"
        draft.note(DIFFERS, f"decode_fn = @{decode_name}", f"{text}; {hint}")
        return None
    if alpha != 0.6:
        draft.note(DIFFERS, f"beam_search.alpha = {alpha}", "Run.num_beams has alpha = 0.6")
    return beams
