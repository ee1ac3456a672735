"""Hugging Face tokenizer files: sentinels and added tokens of a vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spjax.files import JSON_BYTES, read_bytes, write_text

CONFIG = "tokenizer_config.json"
STATE_SENTINELS = (
    f"How many are appended to the pieces of the file is said by a {CONFIG} beside it: "
    '{"extra_ids": 100}.'
)
WHOLE = "tokenizer.json"
_ADDED, _BYT5 = "added_tokens.json", "ByT5Tokenizer"
_CLASSES = {"T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast"}
_ANY_WHOLE = {"PreTrainedTokenizerFast", "TokenizersBackend"}  # what tokenizer.json says
_SENTINEL = re.compile(r"▁?<extra_id_\d+>")


def extra_ids(folder: Path) -> int | None:
    """Returns the number of sentinels that follow the SentencePiece pieces, None if unknown.

    Raises:
      ValueError: a file cannot be read, or says something impossible.
    """
    stated = _read(folder / CONFIG).get("extra_ids")
    if stated is not None:
        if type(stated) is not int or not 0 <= stated <= 10_000:
            raise ValueError(
                f"{folder / CONFIG} says extra_ids={stated!r}; it must be a number of sentinels "
                "from 0 to 10,000."
            )
        return stated
    return sum(map(bool, map(_SENTINEL.fullmatch, added_tokens(folder).values()))) or None


def write_extra_ids(folder: Path, count: int) -> None:
    """Writes the number of sentinels that follow the SentencePiece pieces of a folder."""
    write_text(folder / CONFIG, json.dumps({"extra_ids": count}) + "\n")


def is_byt5(folder: Path) -> bool:
    """Returns whether a folder says that its tokenizer is ByT5's, which has no other file."""
    return _read(folder / CONFIG).get("tokenizer_class") == _BYT5


def write_byt5(folder: Path) -> None:
    """Writes to a folder that its tokenizer is ByT5's."""
    write_text(folder / CONFIG, json.dumps({"tokenizer_class": _BYT5, "extra_ids": 125}) + "\n")


def added_tokens(folder: Path) -> dict[int, str]:
    """Returns the tokens, by id, that a tokenizer has beside its SentencePiece pieces.

    Raises:
      ValueError: a file cannot be read.
    """
    whole = _read(folder / WHOLE).get("added_tokens") or []
    of_config = _read(folder / CONFIG).get("added_tokens_decoder") or {}
    try:
        tokens = {int(token["id"]): str(token["content"]) for token in whole}
        tokens |= {int(i): str(token) for token, i in _read(folder / _ADDED).items()}
        return tokens | {int(i): str(token["content"]) for i, token in of_config.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the added tokens of the tokenizer in {folder} cannot be read "
            f"({type(error).__name__}: {error}). Download the folder again."
        ) from error


def unsupported_setting(folder: Path, is_whole: bool = False) -> str:
    """Returns the setting of a tokenizer that changes texts before its file does, "" if none does.

    Args:
      folder: of its files.
      is_whole: whether its file is `tokenizer.json`, in which such settings stand.

    Raises:
      ValueError: a file cannot be read.
    """
    config = _read(folder / CONFIG)
    allowed = {*_CLASSES, *_ANY_WHOLE} if is_whole else _CLASSES
    if (kind := config.get("tokenizer_class")) not in (None, *allowed):
        return f"its tokenizer is a {kind!r} and not T5's"
    if is_whole:
        return ""
    return "its tokenizer makes all letters small" if config.get("do_lower_case") else ""


def describe(folder: Path | None, names: list[str]) -> str:
    """Lists the tokenizer files of a folder in words.

    Args:
      folder: where they are, None if they cannot be opened.
      names: of the files.
    """
    kinds = []
    if folder is not None:
        kinds.append(_read(folder / CONFIG).get("tokenizer_class"))
        model = _read(folder / WHOLE).get("model")
        kinds.append(model.get("type") if isinstance(model, Mapping) else None)
    told = ", ".join(str(kind) for kind in kinds if kind)
    return ", ".join(names) + (f" ({told})" if told else "")


def _read(path: Path) -> dict[str, Any]:
    """Reads the JSON object of a file, {} if there is none."""
    try:
        content = json.loads(read_bytes(path, JSON_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}. Download the file again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object. Download the file again.")
    return content
