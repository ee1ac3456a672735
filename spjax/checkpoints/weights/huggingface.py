"""Frozen weights from Hugging Face folders: `config.json` with weights, whole or in shards.

Weights are safetensors, or where there are none `pytorch_model.bin`, which PyTorch reads.

T5 1.0, T5 1.1 and its LM-adapted versions, Flan-T5 and mT5. Names and shapes of the two sides:
transformers' `models/t5/modeling_t5.py` stores kernels as `[out, in]`, T5X as `[in, out]`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax.checkpoints import remote
from spjax.checkpoints.weights import safetensors_files, torch_files
from spjax.checkpoints.weights.stored_array import Index, Leaves, StoredArray, transpose
from spjax.files import JSON_BYTES, parse_json_object, reason
from spjax.models import SIZES, T5Config
from spjax.models.layers import BUCKETS
from spjax.models.sizes import size_problem
from spjax.models.t5 import EMBEDDING

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
# File and index of each format, in the order of preference, and its reader.
_STORED = (
    (WEIGHTS, SHARDS, safetensors_files.read),
    (torch_files.WEIGHTS, torch_files.SHARDS, torch_files.read),
)
WEIGHT_FILES = frozenset(name for files in _STORED for name in files[:2])

# `feed_forward_proj` of config.json; transformers reads "gated-gelu" as its tanh approximation.
_ACTIVATIONS = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-gelu_new": ("gelu", "linear"),
}
# What transformers assumes where a key is missing, and what spjax's T5 has built in.
_BUILT_IN = {
    "relative_attention_num_buckets": BUCKETS,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_RELATIVE = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_SIZES = {
    "vocab_size": "vocab_size",
    "d_model": "emb_dim",
    "num_heads": "num_heads",
    "d_kv": "head_dim",
    "d_ff": "mlp_dim",
    "num_layers": "num_encoder_layers",
}
_TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
# Written by old versions of transformers, which never used it.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

_BLOCK = re.compile(r"^(encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.(.+)\.weight$")
_SUBLAYERS = {
    "encoder": ("attention", "mlp"),
    "decoder": ("self_attention", "cross_attention", "mlp"),
}
_ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}
_FINAL_NORMS = {
    f"{stack}.final_layer_norm.weight": f"{stack}/{stack}_norm/scale"
    for stack in ("encoder", "decoder")
}


def read_config(folder: str | Path) -> T5Config:
    """Reads the model configuration of a Hugging Face folder.

    The output head is that of transformers: its own matrix where `lm_head.weight` is stored and is
    not the embedding, and scaled by `1 / sqrt(D)` where `scale_decoder_outputs` (or, without that
    key, `tie_word_embeddings` of a T5 that is not mT5) says so. Only a tied and scaled head is
    `logits_via_embedding` (T5 1.0); `open_arrays` turns every other head into an untied one.

    Args:
      folder: with `config.json` and safetensors; a path, or a URL that fsspec knows.

    Returns:
      The configuration; it equals a row of the sizes table where all shapes do.

    Raises:
      ValueError: the folder or its config cannot be read, or is not of a T5 that spjax has.
    """
    return _config(_read_json(folder, CONFIG), folder, _files(folder))


def size_name(config: T5Config) -> str | None:
    """Returns the row of the sizes table with the shapes of `config`, None if there is none."""
    for name, row in SIZES.items():
        if dataclasses.replace(row, dtype=config.dtype, dropout_rate=config.dropout_rate) == config:
            return name
    return None


def check(folder: str | Path, config: T5Config) -> None:
    """Checks that a folder's model computes as `config` does, where shapes do not show it.

    Raises:
      ValueError: the folder cannot be read, or its model differs.
    """
    actual = read_config(folder)
    fields = ("mlp_activations", "logits_via_embedding", "num_heads", "head_dim")
    differ = [
        f"{field}={getattr(actual, field)!r}, not {getattr(config, field)!r}"
        for field in fields
        if getattr(actual, field) != getattr(config, field)
    ]
    if differ:
        raise ValueError(
            f"the model in {folder} has {'; '.join(differ)}. Check that checkpoint and model size "
            "belong together."
        )


def open_arrays(folder: str | Path) -> Leaves:
    """Returns all arrays of a Hugging Face folder, not yet read, under spjax's names.

    Args:
      folder: with `config.json` and safetensors.

    Raises:
      ValueError: the folder or its config cannot be read, or a shard is missing.
    """
    content, files = _read_json(folder, CONFIG), _files(folder)
    config = _config(content, folder, files)
    leaves: Leaves = {}
    for name, array in files.items():
        if name in _TABLES:
            leaves[EMBEDDING] = files[_table(files)]
        elif name != _HEAD and name != _UNUSED:
            new_name, turned = t5x_name(name)
            leaves[new_name] = transpose(array) if turned else array
    if not config.logits_via_embedding:
        untied = _has_own_head(content, files)
        if (head := files.get(_HEAD if untied else _table(files))) is not None:
            scale = config.emb_dim**-0.5 if _is_scaled(content) else 1.0
            leaves["decoder/logits_dense/kernel"] = _scaled(transpose(head), scale)
    return leaves


def tensors(leaves: Mapping[str, StoredArray]) -> Leaves:
    """Converts arrays under T5X's names, layers unrolled, to Hugging Face's names and axes."""
    result = {_TABLES[0]: leaves[EMBEDDING]}
    for name, array in leaves.items():
        if name != EMBEDDING:
            new_name, turned = hub_name(name)
            result[new_name] = transpose(array) if turned else array
    return result


def config_json(config: T5Config, dtype: str) -> dict[str, Any]:
    """Returns the `config.json` of a model, as `read_config` reads it.

    Both keys about the head are written, because transformers 5 takes every T5 for tied unless
    `lm_head.weight` differs, and scales where `scale_decoder_outputs` says so.
    """
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "num_heads": config.num_heads,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": "relu" if len(config.mlp_activations) == 1 else "gated-gelu",
        "tie_word_embeddings": config.logits_via_embedding,
        "scale_decoder_outputs": config.logits_via_embedding,
        "is_encoder_decoder": True,
        "dropout_rate": 0.1,
        "dtype": dtype,
        **_BUILT_IN,
    }


def hub_name(name: str) -> tuple[str, bool]:
    """Returns Hugging Face's name of a T5X parameter, and whether its axes are swapped."""
    for hub, t5x in _FINAL_NORMS.items():
        if name == t5x:
            return hub, False
    if name == "decoder/logits_dense/kernel":
        return _HEAD, True
    stack, layer, *path = name.split("/")
    if layer == "relpos_bias":
        return f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", True
    block = f"{stack}.block.{layer.removeprefix('layers_')}.layer"
    parts = _SUBLAYERS[stack]
    if path[0] == "mlp":
        return f"{block}.{len(parts) - 1}.DenseReluDense.{path[1]}.weight", True
    if path[0].startswith("pre_"):
        part = path[0].removeprefix("pre_").removesuffix("_layer_norm")
        return f"{block}.{parts.index(part)}.layer_norm.weight", False
    letter = next(k for k, v in _ATTENTION.items() if v == path[1])
    if path[0] == "encoder_decoder_attention":
        return f"{block}.1.EncDecAttention.{letter}.weight", True
    return f"{block}.0.SelfAttention.{letter}.weight", True


def t5x_name(name: str) -> tuple[str, bool]:
    """Returns T5X's name of a tensor, and whether its axes are swapped; unknown names stay."""
    if name in _FINAL_NORMS:
        return _FINAL_NORMS[name], False
    if not (match := _BLOCK.match(name)):
        return name, False
    stack, block, sublayer, parameter = match.groups()
    decoder = stack == "decoder"
    module, _, leaf = parameter.partition(".")
    attention = {"SelfAttention": "self_attention" if decoder else "attention"}
    if decoder:
        attention["EncDecAttention"] = "encoder_decoder_attention"
    parts = _SUBLAYERS[stack]
    layer = f"{stack}/layers_{block}"
    if parameter == "layer_norm" and int(sublayer) < len(parts):
        return f"{layer}/pre_{parts[int(sublayer)]}_layer_norm/scale", False
    if module == "DenseReluDense" and leaf in ("wi", "wi_0", "wi_1", "wo"):
        return f"{layer}/mlp/{leaf}/kernel", True
    if module in attention and leaf in _ATTENTION:
        return f"{layer}/{attention[module]}/{_ATTENTION[leaf]}/kernel", True
    if parameter == "SelfAttention.relative_attention_bias" and block == "0":
        return f"{stack}/relpos_bias/rel_embedding", True
    return name, False


def _config(content: Mapping[str, Any], folder: str | Path, files: Leaves) -> T5Config:
    kind = content.get("model_type")
    activation = content.get("feed_forward_proj", "relu")
    wrong = [
        f"{key}={content[key]!r} (supported: {value!r})"
        for key, value in _BUILT_IN.items()
        if content.get(key, value) != value
        and not (content[key] is None and key.endswith("_token_id"))
    ]
    table = files.get(_RELATIVE)
    if table is not None and table.shape[:1] != (BUCKETS,):
        wrong.append(f"{_RELATIVE} of shape {table.shape} (supported: {BUCKETS} buckets)")
    if kind not in ("t5", "mt5"):
        wrong.append(f"model_type={kind!r} (supported: 't5', 'mt5')")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        wrong.append(f"feed_forward_proj={activation!r} (supported: {', '.join(_ACTIVATIONS)})")
    if missing := [key for key in _SIZES if type(content.get(key)) is not int]:
        wrong.append(f"no number for {', '.join(missing)}")
    decoder_layers = content.get("num_decoder_layers")
    if decoder_layers is not None and type(decoder_layers) is not int:
        wrong.append(f"num_decoder_layers={decoder_layers!r}")
    if not wrong and (problem := size_problem(_sizes(content))):
        wrong.append(problem)
    if wrong:
        raise ValueError(
            f"{remote.join(folder, CONFIG)} describes a model that spjax cannot run: "
            f"{'; '.join(wrong)}. Use a T5, T5 1.1, Flan-T5 or mT5 checkpoint."
        )
    return T5Config(
        **_sizes(content),
        mlp_activations=_ACTIVATIONS[activation],
        logits_via_embedding=_is_scaled(content) and not _has_own_head(content, files),
    )


def _sizes(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes of a model by the names of `T5Config`'s fields."""
    sizes = {field: content[key] for key, field in _SIZES.items()}
    layers = content.get("num_decoder_layers")
    return sizes | {"num_decoder_layers": content["num_layers"] if layers is None else layers}


def _is_tied(content: Mapping[str, Any]) -> bool:
    # transformers leaves out what equals its default, which is False for mT5.
    return bool(content.get("tie_word_embeddings", content.get("model_type") != "mt5"))


def _is_scaled(content: Mapping[str, Any]) -> bool:
    # mT5 was published untied and unscaled; transformers 5 writes it as tied and does not scale.
    default = _is_tied(content) and content.get("model_type") != "mt5"
    return bool(content.get("scale_decoder_outputs", default))


def _has_own_head(content: Mapping[str, Any], files: Leaves) -> bool:
    """Returns whether the output head is a matrix of its own and not the embedding.

    transformers 5 writes `tie_word_embeddings: true` into every T5's config, so where it stands
    beside a stored head, the values decide.
    """
    if not _is_tied(content):
        return True
    table = _table(files)
    if _HEAD not in files or table not in files:
        return _HEAD in files
    if files[_HEAD].shape != files[table].shape:
        return True
    rows, width = files[table].shape
    for first in range(0, rows, 4096):
        block = (slice(first, min(first + 4096, rows)), slice(0, width))
        a, b = (files[name].read("float32", block) for name in (_HEAD, table))
        if not np.array_equal(a, b):
            return True
    return False


def _table(files: Leaves) -> str:
    """Returns the name of the stored embedding: `shared.weight` or one of two aliases of it."""
    return next((name for name in _TABLES if name in files), _TABLES[0])


def _scaled(stored_array: StoredArray, factor: float) -> StoredArray:
    if factor == 1.0:
        return stored_array

    def fill(index: Index, out: np.ndarray) -> None:
        out[...] = stored_array.read("float32", index) * np.float32(factor)

    return StoredArray(stored_array.shape, fill)


def _read_json(folder: str | Path, name: str) -> dict[str, Any]:
    path = remote.join(folder, name)
    try:
        with remote.open_binary(path) as file:
            text = file.read(JSON_BYTES + 1)
        if len(text) > JSON_BYTES:
            raise ValueError(f"it has more than {JSON_BYTES} bytes")
        return parse_json_object(text)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"cannot read {path}: {reason(error)}. Download the file again."
        ) from error


def _files(folder: str | Path) -> Leaves:
    """Returns the tensors of all weight files of a folder, under their Hugging Face names."""
    names = remote.names(folder)
    for whole, index, read in _STORED:
        if whole in names:
            return read(remote.join(folder, whole))
        if index in names:
            return _shards(folder, index, names, read)
    raise ValueError(
        f"{folder} has none of {', '.join(sorted(WEIGHT_FILES))}. Download the folder again, or "
        "save the model with `save_pretrained` of transformers."
    )


def _shards(
    folder: str | Path, index: str, names: set[str], read: Callable[[str], Leaves]
) -> Leaves:
    """Returns the tensors of the shards that an index lists."""
    places = _read_json(folder, index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(x, str) for x in places.values()):
        raise ValueError(
            f"{remote.join(folder, index)} has no `weight_map` of names to files. Download the "
            "file again."
        )
    shards = sorted(set(places.values()))
    if absent := sorted(set(shards) - names):
        raise ValueError(
            f"{folder} lacks {', '.join(absent)}, which {index} lists. Download them again."
        )
    tensors_of = {name: read(remote.join(folder, name)) for name in shards}
    if lost := sorted(name for name, shard in places.items() if name not in tensors_of[shard]):
        raise ValueError(
            f"the shards in {folder} lack {', '.join(lost)}, which {index} places in them. "
            "Download the folder again."
        )
    return {name: array for shard in tensors_of.values() for name, array in shard.items()}
