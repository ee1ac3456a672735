"""Reads and writes adapters of Hugging Face PEFT that are more than a table of soft tokens.

LoRA and IA3, prefixes of the decoder, and multitask prompts. PEFT itself is not needed. Its
behavior was tested with version 0.21.2. Tensors in spjax have the names that a run's
`tuned.safetensors` has (`spjax.methods.base.Method.collapse`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spjax import trees
from spjax.checkpoints import array_files
from spjax.checkpoints.prompts import peft, peft_configs
from spjax.checkpoints.weights import huggingface
from spjax.files import replacing

Tensors = Mapping[str, np.ndarray]
_MODULE = "base_model.model."
_COLS, _ROWS = "prefix_task_cols", "prefix_task_rows"
_LAYERS = "decoder_layers"  # in the header, as PEFT's own count is doubled


def write(folder: Path, tensors: Tensors, provenance: Mapping[str, str]) -> None:
    """Writes an adapter that PEFT loads, in full or not at all.

    Args:
      folder: made; there must be nothing in it.
      tensors: of one method.
      provenance: goes to the header of the safetensors file.

    Raises:
      ValueError: the folder is not empty, or PEFT has no adapter for the tensors.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another name.")
    first = sorted({name.split("/")[0] for name in tensors} - {"prompt"})
    writers = {"lora": _lora, "ia3": _ia3, "prefix": _prefix}
    if first == ["shared", "u", "v"]:
        arrays, config = _multitask(tensors)
    elif len(first) == 1 and first[0] in writers:
        arrays, config = writers[first[0]](tensors)
    else:
        raise ValueError(
            f"PEFT has no adapter for {', '.join(sorted(tensors))}: it adds nothing to embeddings "
            "and holds one kind of change at a time. Keep the safetensors file."
        )
    layers = {_LAYERS: str(config["num_layers"] // 2)} if config.get("num_layers") else {}
    base = {"base_model_name_or_path": "base_model", "revision": "base_revision"}
    config = {**_COMMON, **{name: provenance.get(fact) for name, fact in base.items()}, **config}
    with replacing(folder) as unfinished:
        contiguous = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
        peft.write_files(unfinished, contiguous, {**provenance, **layers}, config, folder.name)


def save(
    path: Path, tensors: Tensors, provenance: Mapping[str, str], format: str, origin: str
) -> None:
    """Writes tensors that are no single prompt in a format that holds them.

    Args:
      path: a folder for "peft", a file for "safetensors".
      tensors: by spjax's names.
      provenance: of them.
      format: "peft" or "safetensors".
      origin: where they come from, for the message.

    Raises:
      ValueError: another format, or as `write`.
    """
    if format == "peft":
        write(path, tensors, dict(provenance))
    elif format == "safetensors":
        array_files.write_safetensors(path, dict(tensors), dict(provenance))
    else:
        names = ", ".join(sorted(tensors)[:3])
        raise ValueError(
            f"{origin} holds more than one prompt or more than a table of soft tokens ({names}), "
            f"which does not go into the format {format!r}. Use 'peft' or 'safetensors'."
        )


def read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads an adapter's tensors under spjax's names, and the strings of its header.

    A prefix is what PEFT computes with: layer l of T5's decoder takes its keys from slot
    4 l mod 2 N of N "layers" and its values from the next, so with PEFT's own N, the number of
    layers, two layers share a prefix if N is even and half of the file is not used.

    Args:
      folder: with `adapter_config.json` and `adapter_model.safetensors`.

    Raises:
      ValueError: another kind of adapter, or files that contradict each other.
    """
    config = peft.config_of(folder)
    kind = config.get("peft_type")
    if kind not in peft.ADAPTERS:
        raise ValueError(
            f"the adapter in {folder} is of type {kind!r}; what can be read here is "
            f"{', '.join(peft.ADAPTERS)}. Tables of rows are read as prompts."
        )
    hub_tensors, header = peft.read_files(folder, config)
    readers = {"LORA": _read_lora, "IA3": _read_ia3, "PREFIX_TUNING": _read_prefix}
    try:
        tensors = readers.get(kind, _read_multitask)(hub_tensors, config, header)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f"the tensors in {folder} ({sorted(hub_tensors)[:4]}, ...) are not what {peft.CONFIG} "
            f"announces: {reason}. Use the two files of one adapter, as PEFT wrote them."
        ) from error
    widened = {k: array_files.widen(x, f"{k} of {folder}") for k, x in tensors.items()}
    return widened, header


_COMMON = {
    "auto_mapping": None,
    "inference_mode": True,
    "modules_to_save": None,
    "peft_version": peft.VERSION,
    "task_type": "SEQ_2_SEQ_LM",
}


def _kernels(tensors: Tensors, kind: str) -> dict[str, np.ndarray]:
    """Returns tensors of kernels by T5X name and part, layers not stacked."""
    metadata = {
        name.removeprefix(f"{kind}/"): np.asarray(x)
        for name, x in tensors.items()
        if name.startswith(f"{kind}/")
    }
    return trees.flatten(trees.unstack_layers(trees.unflatten(metadata)))


def _hub_module(kernel: str) -> str:
    return huggingface.hub_name(kernel)[0].removesuffix(".weight")


def _own_kernel(module: str) -> str:
    name, _ = huggingface.t5x_name(f"{module}.weight")
    if not name.endswith("/kernel"):
        raise ValueError(f"{module} is not a matrix of a layer of T5")
    return name


def _parts_of(hub_tensors: Tensors, pattern: re.Pattern) -> dict[str, re.Match]:
    """Splits all tensors' names into parts; every name has to be one of an adapter's.

    Raises:
      ValueError: some are not, or there are several adapters.
    """
    matches = {
        name: match for name in hub_tensors if (match := pattern.fullmatch(name)) is not None
    }
    if others := sorted(hub_tensors.keys() - matches.keys()):
        raise ValueError(
            f"{', '.join(others[:3])}{', ...' if others[3:] else ''} are no factors of an adapter"
        )
    if len({match["adapter"] for match in matches.values()}) > 1:
        raise ValueError("the tensors are of several adapters; save one of them alone")
    return matches


# Beside a tensor's own name, a state dict that PEFT has not cleaned has that of the adapter.
_ADAPTER = r"(?:\.(?P<adapter>[^.]+))?"
_LORA_NAME = re.compile(
    rf"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<letter>[AB]){_ADAPTER}\.weight"
)
_IA3_NAME = re.compile(rf"(?:base_model\.model\.)?(?P<module>.+)\.ia3_l{_ADAPTER}")


def _lora(tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    converted, targets, ranks = {}, set(), {}
    for name, factor in _kernels(tensors, "lora").items():
        kernel, _, letter = name.rpartition("/")
        module = _hub_module(kernel)
        targets.add(module.rsplit(".", 1)[-1])
        if letter == "a":
            ranks[module] = factor.shape[1]
        converted[f"{_MODULE}{module}.lora_{letter.upper()}.weight"] = factor.T
    rank = max(ranks.values(), key=[*ranks.values()].count, default=0)
    others = {module: other for module, other in ranks.items() if other != rank}
    config = {
        "peft_type": "LORA",
        "bias": "none",
        "fan_in_fan_out": False,
        "lora_alpha": rank,  # the scale is in B
        "lora_dropout": 0.0,
        "r": rank,
        **({"rank_pattern": others, "alpha_pattern": others} if others else {}),
        "target_modules": sorted(targets),
        "use_rslora": False,
    }
    return converted, config


def _read_lora(hub_tensors: Tensors, config: Mapping[str, Any], _: Any) -> dict[str, np.ndarray]:
    """Reads factors `[in, R]` and `[R, out]`, the scale of each module multiplied into B."""
    tensors: dict[str, np.ndarray] = {}
    letters: dict[str, set[str]] = {}
    for name, match in _parts_of(hub_tensors, _LORA_NAME).items():
        module, letter, matrix = match["module"], match["letter"], hub_tensors[name]
        rank, scale = peft_configs.lora_rank_and_scale(config, module)
        if matrix.ndim != 2 or matrix.shape["AB".index(letter)] != rank:
            raise ValueError(f"{name} has shape {matrix.shape}, and its rank is {rank}")
        letters.setdefault(module, set()).add(letter)
        factor = matrix.T.astype(np.float32) * np.float32(scale if letter == "B" else 1)
        tensors[f"lora/{_own_kernel(module)}/{letter.lower()}"] = factor
    if alone := sorted(module for module, present in letters.items() if len(present) < 2):
        raise ValueError(f"{', '.join(alone[:3])} have one factor only, A or B")
    if not tensors:
        raise ValueError("there are no factors")
    return tensors


def _ia3(tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    factors = {}
    for kernel, scale in _ia3_scales(tensors).items():
        column = scale[None] if kernel.endswith("wo/kernel") else scale[:, None]
        factors[f"{_MODULE}{_hub_module(kernel)}.ia3_l"] = column
    targets = sorted({name.split(".")[-2] for name in factors})
    config = {"peft_type": "IA3", "target_modules": targets, "feedforward_modules": ["wo"]}
    return factors, {**config, "fan_in_fan_out": False}


def _ia3_scales(tensors: Tensors) -> dict[str, np.ndarray]:
    """Returns one vector a kernel: stacked `[layers, out]`, those of the MLP `[in, layers]`."""
    scales = {name.removeprefix("ia3/"): np.asarray(x) for name, x in tensors.items()}
    converted = {}
    for name, scale in scales.items():
        if scale.ndim == 1:
            converted[name] = scale
            continue
        layers = scale.T if name.endswith("wo/kernel") else scale
        for i, one in enumerate(layers):
            converted[name.replace("/layers/", f"/layers_{i}/")] = one
    return converted


def _read_ia3(hub_tensors: Tensors, config: Mapping[str, Any], _: Any) -> dict[str, np.ndarray]:
    scaled = {"k", "v", "wo"}
    if list(config["feedforward_modules"]) != ["wo"] or set(config["target_modules"]) != scaled:
        raise ValueError("scales of other modules than k, v and wo (of its input) are not read")
    tensors = {}
    for name, match in _parts_of(hub_tensors, _IA3_NAME).items():
        kernel, scale = _own_kernel(match["module"]), hub_tensors[name]
        if kernel.split("/")[-2] not in ("key", "value", "wo"):
            raise ValueError(f"{name} is no scale of k, v or wo")
        axis = 0 if kernel.endswith("wo/kernel") else 1  # that of size 1
        if scale.ndim != 2 or scale.shape[axis] != 1:
            raise ValueError(f"{name} has shape {scale.shape}")
        tensors[f"ia3/{kernel}"] = scale.reshape(-1)
    return tensors


def _prefix(tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    sites = sorted({name.split("/")[1] for name in tensors if name.startswith("prefix/")})
    if sites != ["decoder"] or "prompt" in tensors:
        raise ValueError(
            f"the prefix stands at {', '.join(sites)}; PEFT gives T5 one in the decoder's "
            "self-attention only. Train with PrefixTuning.sites = ('decoder',), or keep the "
            "safetensors file."
        )
    keys, values = (np.asarray(tensors[f"prefix/decoder/{x}"]) for x in ("keys", "values"))
    layers, length, heads, size = keys.shape
    # PEFT hands out four slots a layer and drops two; with twice the layers none is shared.
    table = np.zeros((length, 4 * layers, heads, size), np.float32)
    table[:, 0::4], table[:, 1::4] = keys.swapaxes(0, 1), values.swapaxes(0, 1)
    config = {
        "peft_type": "PREFIX_TUNING",
        "encoder_hidden_size": None,
        "num_attention_heads": heads,
        "num_layers": 2 * layers,
        "num_transformer_submodules": 2,
        "num_virtual_tokens": length,
        "prefix_projection": False,
        "token_dim": heads * size,
    }
    return {peft.TENSOR: table.reshape(length, -1)}, config


def _read_prefix(
    hub_tensors: Tensors, config: Mapping[str, Any], header: Mapping[str, str]
) -> dict[str, np.ndarray]:
    peft.check_names(hub_tensors, {peft.TENSOR})
    submodules = config.get("num_transformer_submodules")
    if submodules not in (None, 2):
        raise ValueError(f"num_transformer_submodules is {submodules!r}; for T5 PEFT has 2")
    count, heads = config["num_layers"], config["num_attention_heads"]
    length, width = config["num_virtual_tokens"], config["token_dim"]
    peft.check_sizes(num_layers=count, num_attention_heads=heads, token_dim=width)
    layers = int(header.get(_LAYERS, count))
    if not 1 <= layers <= count:
        raise ValueError(f"the header has {layers} {_LAYERS}, and num_layers is {count}")
    table = hub_tensors[peft.TENSOR].reshape(length, 2 * count, heads, width // heads)
    first = [4 * layer % (2 * count) for layer in range(layers)]
    keys, values = (table[:, [slot + i for slot in first]].swapaxes(0, 1) for i in (0, 1))
    return {"prefix/decoder/keys": keys, "prefix/decoder/values": values}


def _multitask(tensors: Tensors) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    shared_PD, u_SPR, v_SRD = (np.asarray(tensors[name]) for name in ("shared", "u", "v"))
    config = {
        "peft_type": "MULTITASK_PROMPT_TUNING",
        "num_attention_heads": None,
        "num_layers": None,
        "num_ranks": u_SPR.shape[2],
        "num_tasks": len(u_SPR),
        # Without this, PEFT expects 2 P rows for an encoder-decoder and refuses P.
        "num_transformer_submodules": 1,
        "num_virtual_tokens": len(shared_PD),
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_state_dict_path": None,  # the file would be needed even to load
        "prompt_tuning_init_task": 0,
        "prompt_tuning_init_text": None,
        "token_dim": shared_PD.shape[1],
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }
    return {peft.TENSOR: shared_PD, _COLS: u_SPR, _ROWS: v_SRD}, config


def _read_multitask(
    hub_tensors: Tensors, config: Mapping[str, Any], _: Any
) -> dict[str, np.ndarray]:
    peft.check_names(hub_tensors, {peft.TENSOR, _COLS, _ROWS})
    length = config["num_virtual_tokens"]  # rows beyond are those of an unused second submodule
    peft.check_sizes(num_virtual_tokens=length)
    table_PD, u_SPR, v_SRD = hub_tensors[peft.TENSOR], hub_tensors[_COLS], hub_tensors[_ROWS]
    tasks, ranks = config.get("num_tasks"), config.get("num_ranks")
    rows, width = table_PD.shape
    if rows not in (length, 2 * length) or (u_SPR.shape, v_SRD.shape) != (
        (tasks, rows, ranks),
        (tasks, ranks, width),
    ):
        raise ValueError(
            f"their shapes {table_PD.shape}, {u_SPR.shape} and {v_SRD.shape} are not those of "
            f"{length} rows for {tasks} tasks with {ranks} ranks"
        )
    shared_PD, u_SPR = table_PD[:length], u_SPR[:, :length]
    prompt_SPD = shared_PD * (u_SPR @ v_SRD)
    prompt = prompt_SPD if len(prompt_SPD) > 1 else prompt_SPD[0]
    return {"shared": shared_PD, "u": u_SPR, "v": v_SRD, "prompt": prompt}
