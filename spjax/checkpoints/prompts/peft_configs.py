"""Configurations of PEFT adapters: the keys that change what is computed.

Keys are allowed by name, as PEFT gets new ones with every version. The lists are those of PEFT
0.21.2 (`peft/config.py`, `peft/tuners/*/config.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Where an adapter comes from and who may load it; read or not, they change no number.
_ABOUT = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
)
_PROMPTS = (
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "num_virtual_tokens",
    "token_dim",
)
_PROMPT_STARTS = (
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
)
# Keys of which any value is understood: the reader follows them, the tensors' names tell the same
# (target_modules, layers_to_transform), or they only matter while an adapter is trained.
_UNDERSTOOD: dict[str, tuple[str, ...]] = {
    "LORA": (
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "lora_dropout",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",  # how factors start
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
    ),
    "IA3": ("target_modules", "feedforward_modules", "exclude_modules", "init_ia3_weights"),
    "PROMPT_TUNING": (*_PROMPTS, *_PROMPT_STARTS),
    # What is saved of these is the table that an encoder has made.
    "P_TUNING": (
        *_PROMPTS,
        "encoder_reparameterization_type",
        "encoder_hidden_size",
        "encoder_num_layers",
        "encoder_dropout",
    ),
    "PREFIX_TUNING": (*_PROMPTS, "encoder_hidden_size", "prefix_projection", "init_weights"),
    "MULTITASK_PROMPT_TUNING": (
        *_PROMPTS,
        *_PROMPT_STARTS,
        "prompt_tuning_init_state_dict_path",
        "prompt_tuning_init_task",
        "num_ranks",
        "num_tasks",
    ),
}
# Keys of which these values are understood, beside those that switch a thing off.
_VALUES: dict[str, tuple[Any, ...]] = {
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),
    "bias": ("none",),
}
_OFF: tuple[Any, ...] = (None, False, 0, 0.0, "", [], {})
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_PATTERN_CHARACTERS = 1000


def check(config: Mapping[str, Any], folder: Path) -> None:
    """Checks that no setting of an adapter changes the computation in a way unknown to spjax.

    Args:
      config: content of `adapter_config.json`, of a type that is read.
      folder: where it is, for the message.

    Raises:
      ValueError: keys have values that are not understood; all are listed.
    """
    understood = {*_ABOUT, *_UNDERSTOOD[config["peft_type"]]}
    wrong = [
        f"{key} = {value!r:.60}"
        for key, value in config.items()
        if key not in understood and not _is_one_of(value, (*_OFF, *_VALUES.get(key, ())))
    ]
    if not wrong:
        return
    start = str(config.get("init_lora_weights"))
    hint = "Train the adapter without it"
    if start.startswith(_CHANGED_BASE):
        hint = (
            f"The factors of {start!r} belong to a base that it has changed: save the adapter with "
            "PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...), which "
            "makes plain LoRA of it"
        )
    raise ValueError(
        f"the adapter in {folder} was made with {'; '.join(wrong)} (adapter_config.json), which "
        f"spjax does not compute. {hint}."
    )


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    # 0 equals False, and 1 equals True.
    return any(type(value) is type(other) and value == other for other in allowed)


def lora_rank_and_scale(config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Returns the rank of a module's factors, and the scale of their product.

    Args:
      config: of a LoRA adapter.
      module: its name in Hugging Face's model.

    Raises:
      ValueError: rank or alpha is no number above 0, or a pattern is no regular expression.
    """
    rank = _of_module(config, "rank_pattern", module, config.get("r"))
    alpha = _of_module(config, "alpha_pattern", module, config.get("lora_alpha"))
    if type(rank) is not int or rank < 1:
        raise ValueError(f"the rank of {module} is {rank!r}; it must be a number of at least 1")
    if type(alpha) not in (int, float) or not 0 < alpha < float("inf"):
        raise ValueError(f"lora_alpha of {module} is {alpha!r}; it must be a number above 0")
    return rank, alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _of_module(config: Mapping[str, Any], key: str, module: str, default: Any) -> Any:
    """Returns the value of the first pattern that fits, as PEFT's `get_pattern_key` does."""
    patterns = config.get(key) or {}
    if not isinstance(patterns, Mapping):
        raise ValueError(f"{key} is {patterns!r:.60}, not an object of patterns and numbers")
    for pattern, value in patterns.items():
        # A repeated group can take a regular expression for ever.
        if len(pattern) > _PATTERN_CHARACTERS or re.search(r"\)[*+{]", pattern):
            raise ValueError(f"{key} has the pattern {pattern!r:.60}, which is not read")
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise ValueError(f"{key} has the pattern {pattern!r:.60}: {error}") from error
    return default


def digest(config: Mapping[str, Any]) -> str:
    """Returns the SHA-256 in hex of the settings that change numbers, for the header."""
    told = {key: value for key, value in config.items() if key not in _ABOUT}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
